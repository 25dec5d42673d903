"""What a vector store holds is a fact of that store: several data directories may share this database.

Rows of before belong to a store without identity; the first data directory that opens its own claims it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JOB_STATES = "running | embedding | succeeded | partial | failed | cancelled | superseded (by another commit's run)"


def upgrade() -> None:
    _stores()
    _index_stores()
    _publications()
    _copies_of_before()
    _held_by_store()
    _statistics_and_comments()


def _stores() -> None:
    op.create_table(
        "stores",
        sa.Column("id", ID, nullable=False),
        sa.Column(
            "identity",
            sa.Text(),
            nullable=True,
            comment="what tells it from other stores; NULL: of a database older than this table, not claimed yet",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stores")),
        sa.UniqueConstraint("identity", name=op.f("uq_stores_identity")),
        comment="Places that hold a copy of vectors: a Chroma directory, or a Chroma server.",
    )


def _index_stores() -> None:
    op.create_table(
        "index_stores",
        sa.Column("index_id", ID, autoincrement=False, nullable=False),
        sa.Column("store_id", ID, autoincrement=False, nullable=False, comment="which store"),
        sa.Column(
            "stamp",
            sa.Text(),
            nullable=True,
            comment="look of the store when its copy of the index was last sound; NULL: not known to be complete",
        ),
        sa.Column(
            "publication",
            sa.Integer(),
            nullable=False,
            comment="the publication of the index whose every vector the store holds; 0: none",
        ),
        sa.ForeignKeyConstraint(["index_id"], ["indexes.id"], name=op.f("fk_index_stores_index_id_indexes")),
        sa.ForeignKeyConstraint(["store_id"], ["stores.id"], name=op.f("fk_index_stores_store_id_stores")),
        sa.PrimaryKeyConstraint("index_id", "store_id", name=op.f("pk_index_stores")),
        comment="How far the copy of an index in a store is.",
    )


def _publications() -> None:
    with op.batch_alter_table("indexes", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "publications",
                sa.Integer(),
                server_default="0",
                nullable=False,
                comment="how often searches were switched to what a run made; "
                "a store names the one it is up to date with",
            )
        )
    op.execute("UPDATE indexes SET publications = 1 WHERE generation > 0")


def _copies_of_before() -> None:
    """Give the rows of before to a store without identity, and its stamp with them."""
    op.execute("INSERT INTO stores (identity) SELECT NULL WHERE EXISTS (SELECT 1 FROM indexes)")
    # A copy with a stamp held every vector of what was published.
    op.execute(
        "INSERT INTO index_stores (index_id, store_id, stamp, publication) SELECT i.id, s.id, i.vectors_stamp, "
        "CASE WHEN i.vectors_stamp IS NULL THEN 0 ELSE i.publications END FROM indexes i, stores s"
    )
    # Not in a batch: that would make the table anew, which other tables refer to.
    op.execute("ALTER TABLE indexes DROP COLUMN vectors_stamp")


def _held_by_store() -> None:
    """Make `index_chunks` anew with the store in its key, through a copy: names of keys are unique in a database."""
    op.execute("CREATE TEMPORARY TABLE held AS SELECT index_id, chunk_id, embedding_id FROM index_chunks")
    op.drop_table("index_chunks")
    op.create_table(
        "index_chunks",
        sa.Column("index_id", ID, autoincrement=False, nullable=False),
        sa.Column("store_id", ID, autoincrement=False, nullable=False, comment="which store"),
        sa.Column("chunk_id", sa.String(length=32), nullable=False),
        sa.Column("embedding_id", ID, nullable=False, comment="the vector it has there"),
        sa.ForeignKeyConstraint(
            ["embedding_id"], ["embeddings.id"], name=op.f("fk_index_chunks_embedding_id_embeddings")
        ),
        sa.ForeignKeyConstraint(["index_id"], ["indexes.id"], name=op.f("fk_index_chunks_index_id_indexes")),
        sa.ForeignKeyConstraint(["store_id"], ["stores.id"], name=op.f("fk_index_chunks_store_id_stores")),
        sa.PrimaryKeyConstraint("index_id", "store_id", "chunk_id", name=op.f("pk_index_chunks")),
        comment="What a store holds of an index, written after the upsert.",
    )
    op.create_index(op.f("ix_index_chunks_embedding_id"), "index_chunks", ["embedding_id"], unique=False)
    op.execute(
        "INSERT INTO index_chunks (index_id, store_id, chunk_id, embedding_id) "
        "SELECT h.index_id, s.id, h.chunk_id, h.embedding_id FROM held h, stores s ORDER BY h.index_id, h.chunk_id"
    )
    op.execute("DROP TABLE held")


def _statistics_and_comments() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # Fixed like those of 0001: the planner must not guess from the first repository.
        op.execute(
            "INSERT INTO sqlite_stat1 VALUES "
            "('index_chunks', 'sqlite_autoindex_index_chunks_1', '1000000 20000 20000 1')"
        )
        op.execute("INSERT INTO sqlite_stat1 VALUES ('index_chunks', 'ix_index_chunks_embedding_id', '1000000 2')")
    else:
        op.alter_column("jobs", "status", existing_type=sa.Text(), existing_nullable=False, comment=JOB_STATES)
        op.alter_column(
            "indexes",
            "whole",
            existing_type=sa.Boolean(),
            existing_nullable=False,
            existing_server_default=sa.false(),
            comment="every chunk of the published generation has its vector",
        )
