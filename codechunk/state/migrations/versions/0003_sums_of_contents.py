"""Sums of each content, so that no run adds up the chunks of a whole repository; contents by their blob"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("sources", schema=None) as batch_op:
        for name, kind, comment in (
            ("chunks", sa.Integer(), "how many chunks it was cut into"),
            ("counted", sa.Integer(), "chunks with an exact token count"),
            ("tokens", sa.BigInteger(), "their tokens"),
            ("characters", sa.BigInteger(), "text and headers of all its chunks"),
            ("counted_characters", sa.BigInteger(), "those of the counted chunks"),
        ):
            batch_op.add_column(sa.Column(name, kind, server_default="0", nullable=False, comment=comment))
        batch_op.create_index(batch_op.f("ix_sources_repository_id_blob"), ["repository_id", "blob"], unique=False)
    with op.batch_alter_table("indexes", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "whole",
                sa.Boolean(),
                server_default=sa.false(),
                nullable=False,
                comment="every chunk of the published generation has its vector, also in Chroma",
            )
        )
    op.execute(
        """
        UPDATE sources SET
            chunks = (SELECT count(*) FROM chunks c WHERE c.source_id = sources.id),
            counted = (SELECT count(c.tokens) FROM chunks c WHERE c.source_id = sources.id),
            tokens = (SELECT coalesce(sum(c.tokens), 0) FROM chunks c WHERE c.source_id = sources.id),
            characters = (
                SELECT coalesce(sum(length(c.text) + length(c.header)), 0) FROM chunks c WHERE c.source_id = sources.id
            ),
            counted_characters = (
                SELECT coalesce(sum(length(c.text) + length(c.header)), 0) FROM chunks c
                WHERE c.source_id = sources.id AND c.tokens IS NOT NULL
            )
        """
    )
    if op.get_bind().dialect.name == "sqlite":
        # Fixed like those of 0001: the planner must not guess from the first repository.
        op.execute("INSERT INTO sqlite_stat1 VALUES ('sources', 'ix_sources_repository_id_blob', '100000 10000 1')")
