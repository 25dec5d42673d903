package org.example.ledger;

import java.util.List;
import java.util.Map;

/**
 * A ledger balances at any time.
 */
@Service
public final class Ledger<T extends Entry> implements AutoCloseable {
    private static final int LIMIT = 100;
    private final List<T> entries;

    public Ledger(List<T> entries) {
        this.entries = List.copyOf(entries);
    }

    /** Sum of all entries, in cents. */
    public long balance() {
        return entries.stream().mapToLong(Entry::cents).sum();
    }

    @Override
    public void close() throws Exception {
        for (T entry : entries) entry.settle(LIMIT);
    }

    enum State {
        OPEN, CLOSED;

        State next() {
            return this == OPEN ? CLOSED : OPEN; // there are only these two
        }
    }

    interface Visitor<R> {
        R visit(Entry entry, Map<String, Object> context) throws LedgerException;
    }

    record Line(String account, long cents, String text, java.time.Instant booked) {}
}
