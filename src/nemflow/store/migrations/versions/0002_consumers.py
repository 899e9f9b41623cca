"""Who took what: consumers' takes and the ranges they asked for.

Why: see ``store/takes.py``.

Safe while an older worker runs: tables are added, nothing it knows is changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nemflow.store.tables import Day, Stamp

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the two tables, their indexes, and the sequence of take numbers."""
    op.create_table(
        "consumer_take",
        sa.Column(
            "id",
            BIG,
            primary_key=True,
            autoincrement=False,
            comment="its number; of two takes of a day the greater counts",
        ),
        sa.Column("consumer", KEY, nullable=False, comment="who: the name given with --as"),
        sa.Column("seq", BIG, nullable=False, comment="commit number as of which it was read"),
        sa.Column("at", Stamp(), nullable=False, comment="when it was recorded"),
        sa.Column("how", sa.Text(), nullable=False, comment="readings or export"),
        comment="A consumer took readings. Append-only; what it took is what was known at seq.",
    )
    op.create_index("consumer_take_by_consumer", "consumer_take", ["consumer", "id"])
    op.create_table(
        "consumer_range",
        sa.Column("take", BIG, nullable=False, comment="which take"),
        sa.Column("consumer", KEY, nullable=False, comment="of that take"),
        sa.Column("seq", BIG, nullable=False, comment="of that take"),
        sa.Column("nmi", KEY, comment="the NMI; null: every NMI"),
        sa.Column("suffix", KEY, comment="the stream; null: every stream"),
        sa.Column("first", Day(), comment="first day asked for; null: from the beginning"),
        sa.Column("last", Day(), comment="last day asked for, included; null: without end"),
        comment="What a take asked for, with or without data then; no row per day is needed.",
    )
    op.create_index("consumer_range_by_consumer", "consumer_range", ["consumer", "nmi"])
    op.create_index("consumer_range_by_take", "consumer_range", ["take"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE consumer_take_number")
