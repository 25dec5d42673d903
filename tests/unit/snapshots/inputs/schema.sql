-- The shop's tables, and what keeps them consistent.
SET client_encoding = 'UTF8';

/* Who may buy.
   One row per address; semicolons; like; these; are; harmless. */
CREATE TABLE IF NOT EXISTS customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email varchar(320) NOT NULL UNIQUE,
    name text NOT NULL DEFAULT 'anonymous; for now',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers (id),
    total_in_cents bigint NOT NULL CHECK (total_in_cents >= 0)
);

CREATE INDEX orders_by_customer ON orders (customer_id);
CREATE INDEX orders_by_total ON orders (total_in_cents DESC);
ALTER TABLE orders ADD COLUMN paid_at timestamptz;

-- What a customer spent so far.
CREATE OR REPLACE FUNCTION spent(customer bigint) RETURNS bigint AS $$
BEGIN
    RETURN (SELECT coalesce(sum(total_in_cents), 0) FROM orders WHERE customer_id = customer);
END;
$$ LANGUAGE plpgsql STABLE;

CREATE VIEW best_customers AS
SELECT name, spent(id) AS cents
FROM customers
WHERE spent(id) > 100000;

INSERT INTO customers (email, name) VALUES
    ('ada@example.org', 'Ada'),
    ('grace@example.org', 'Grace');
