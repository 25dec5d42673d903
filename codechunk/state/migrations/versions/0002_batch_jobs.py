"""Batch jobs, claims with leases, and what each text cost"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _facts()
    _batches()
    _embeddings()
    _jobs()
    _sources()
    _index_chunks()
    _statistics()


def _facts() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False, comment="throttle | calibration:<space> | notice:<name>"),
        sa.Column("value", sa.Text(), nullable=False, comment="JSON"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
        comment="Small facts that all processes share.",
    )


def _batches() -> None:
    op.create_table(
        "batches",
        *_order(),
        *_outcome(),
        sa.Column("owner", sa.Text(), nullable=True, comment="process that works on it now"),
        sa.Column("lease_until", sa.Float(), nullable=True, comment="when the owner's claim ends, on the lease clock"),
        sa.Column(
            "fence", sa.Integer(), nullable=False, comment="raised by each claim: writes of an older claim are refused"
        ),
        sa.Column("created_at", sa.Float(), nullable=False, comment="seconds since 1970, UTC"),
        sa.Column("submitted_at", sa.Float(), nullable=True, comment="when its remote job was recorded"),
        sa.Column("next_at", sa.Float(), nullable=False, comment="not before this time, seconds since 1970"),
        sa.Column("finished_at", sa.Float(), nullable=True, comment="seconds since 1970, UTC"),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name=op.f("fk_batches_space_id_spaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
        sa.UniqueConstraint("display_name", name=op.f("uq_batches_display_name")),
        comment="Batch jobs: the intent is here before the provider hears of it.",
    )
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_batches_state_next_at"), ["state", "next_at"], unique=False)


def _order() -> list[sa.Column[Any]]:
    """What is ordered, and how far the order got at the provider."""
    return [
        sa.Column("id", sa.String(length=32), nullable=False, comment="random, 32 hex digits"),
        sa.Column(
            "space_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="vector space of its texts",
        ),
        sa.Column("state", sa.Text(), nullable=False, comment="one of BatchState"),
        sa.Column("display_name", sa.Text(), nullable=False, comment="its name at the provider, new each attempt"),
        sa.Column("texts", sa.Integer(), nullable=False, comment="texts claimed for it"),
        sa.Column("tokens", sa.Integer(), nullable=False, comment="their tokens, estimated"),
        sa.Column("priority", sa.Integer(), nullable=False, comment="at the provider; higher goes first"),
        sa.Column("upload_began_at", sa.Float(), nullable=True, comment="intent: an upload may exist from here on"),
        sa.Column("file_name", sa.Text(), nullable=True, comment="the uploaded file's name at the provider"),
        sa.Column(
            "file_expires_at", sa.Float(), nullable=True, comment="when the provider deletes it, seconds since 1970"
        ),
        sa.Column("file_sha", sa.String(length=64), nullable=True, comment="sha256 of the file's bytes"),
        sa.Column("create_began_at", sa.Float(), nullable=True, comment="intent: a remote job may exist from here on"),
        sa.Column("remote_name", sa.Text(), nullable=True, comment="the job's name at the provider"),
        sa.Column(
            "remote_state", sa.Text(), nullable=True, comment="the provider's word for its state when last asked"
        ),
        sa.Column("result_file", sa.Text(), nullable=True, comment="file with its results at the provider"),
        sa.Column("cancel_began_at", sa.Float(), nullable=True, comment="when the provider was asked to cancel it"),
        sa.Column(
            "cancelled_by_user", sa.Boolean(), nullable=False, comment="asked for by a person: it is not sent again"
        ),
    ]


def _outcome() -> list[sa.Column[Any]]:
    """What went wrong, and what came back."""
    return [
        sa.Column(
            "submissions", sa.Integer(), nullable=False, comment="submissions the provider turned away, in a row"
        ),
        sa.Column("failures", sa.Integer(), nullable=False, comment="how often its remote job ended badly"),
        sa.Column("rows_ok", sa.Integer(), nullable=False, comment="vectors taken from its results"),
        sa.Column(
            "rows_failed",
            sa.Integer(),
            nullable=False,
            comment="rows of its results that were errors or no good vectors",
        ),
        sa.Column("rows_ignored", sa.Integer(), nullable=False, comment="duplicate and unknown keys in its results"),
        sa.Column(
            "billed_tokens", sa.Integer(), nullable=False, comment="tokens of its results by the provider's count"
        ),
        sa.Column("error", sa.Text(), nullable=True, comment="what went wrong last"),
    ]


def _embeddings() -> None:
    with op.batch_alter_table("embeddings", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "batch_id",
                sa.String(length=32),
                nullable=True,
                comment="batch job it is in, or was in last; see batches",
            )
        )
        batch_op.add_column(
            sa.Column(
                "owner",
                sa.Text(),
                nullable=True,
                comment="process that sends it directly now",
            )
        )
        batch_op.add_column(
            sa.Column(
                "lease_until", sa.Float(), nullable=True, comment="when the owner's claim ends, on the lease clock"
            )
        )
        batch_op.add_column(
            sa.Column(
                "next_at", sa.Float(), nullable=True, comment="not before this time, seconds since 1970; NULL: at once"
            )
        )
        batch_op.add_column(
            sa.Column(
                "route",
                sa.Text(),
                server_default="any",
                nullable=False,
                comment="any | direct: its batch jobs ended badly",
            )
        )
        batch_op.add_column(
            sa.Column("job_id", sa.String(length=32), nullable=True, comment="the run of index that asked for it last")
        )
        batch_op.add_column(
            sa.Column(
                "paid",
                sa.Text(),
                nullable=True,
                comment="direct | batch: how its vector was bought; NULL: not, or free",
            )
        )
        batch_op.add_column(
            sa.Column("tokens", sa.Integer(), nullable=True, comment="the provider's own count; NULL: it told none")
        )
        batch_op.create_index(batch_op.f("ix_embeddings_batch_id"), ["batch_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_embeddings_job_id_state"), ["job_id", "state"], unique=False)


def _jobs() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "plan", sa.Text(), nullable=True, comment="JSON: what is needed to finish it once its vectors are there"
            )
        )
        batch_op.add_column(
            sa.Column("requests", sa.Integer(), server_default="0", nullable=False, comment="direct calls made for it")
        )


def _sources() -> None:
    with op.batch_alter_table("sources", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "secrets",
                sa.Integer(),
                nullable=True,
                comment="secrets replaced in it by markers; NULL: not looked for",
            )
        )


def _index_chunks() -> None:
    with op.batch_alter_table("index_chunks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_index_chunks_embedding_id"), ["embedding_id"], unique=False)


def _statistics() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # Fixed like those of 0001: the planner must not guess from the first repository.
        op.execute("INSERT INTO sqlite_stat1 VALUES ('embeddings', 'ix_embeddings_batch_id', '1000000 500')")
        op.execute("INSERT INTO sqlite_stat1 VALUES ('embeddings', 'ix_embeddings_job_id_state', '1000000 20000 5000')")
        op.execute("INSERT INTO sqlite_stat1 VALUES ('index_chunks', 'ix_index_chunks_embedding_id', '1000000 2')")
