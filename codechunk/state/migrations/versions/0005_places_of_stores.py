"""Which data directory has a store is kept beside it, so that `gc` may forget what that directory has no more."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "stores",
        sa.Column(
            "place",
            sa.Text(),
            nullable=True,
            comment="whereabouts of the data directory that has it; NULL: one of many, or not known",
        ),
    )
