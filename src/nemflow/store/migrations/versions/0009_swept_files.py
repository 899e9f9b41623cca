"""What sweeps have taken and left where it lies.

Why: a sweep of an archive must not take its hundred thousand files again each hour.

Safe while an older worker runs: a table is added.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nemflow.store.tables import Stamp

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "swept_file",
        sa.Column("root", KEY, nullable=False, comment="the folder that is swept"),
        sa.Column("path", KEY, nullable=False, comment="the file, from there"),
        sa.Column(
            "mark",
            sa.Text(),
            nullable=False,
            comment="its size and time of change when it was taken",
        ),
        sa.Column("delivery", BIG, nullable=False, comment="the delivery it became"),
        sa.Column("at", Stamp(), nullable=False, comment="when"),
        comment="A file that a sweep has taken and left where it lies: it is not taken again.",
    )
    op.create_index("swept_file_by_path", "swept_file", ["root", "path"], unique=True)
