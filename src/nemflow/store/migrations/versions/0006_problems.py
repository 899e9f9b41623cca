"""What became of deliveries, in one order; and what is wrong.

Why: see ``store/outcomes.py`` and ``store/problems.py``.

Safe while an older worker runs: two columns of ``delivery`` that may be null, an index and three
tables are added; an older program names the columns it writes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nemflow.store.tables import Stamp

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
UNTOLD = (
    "parent IS NULL AND finished_at IS NOT NULL AND "
    "(told_at IS NULL OR told_at <> finished_at OR told_state <> state)"
)


def upgrade() -> None:
    """Add the marks of ``delivery``, the order of outcomes, and problems."""
    op.add_column(
        "delivery", sa.Column("told_state", sa.Text(), comment="the state of its last outcome")
    )
    op.add_column(
        "delivery", sa.Column("told_at", Stamp(), comment="finished_at of its last outcome")
    )
    op.create_index(
        "delivery_untold",
        "delivery",
        ["finished_at", "id"],
        sqlite_where=sa.text(UNTOLD),
        postgresql_where=sa.text(UNTOLD),
    )
    op.create_table(
        "outcome",
        sa.Column(
            "seq",
            BIG,
            primary_key=True,
            autoincrement=False,
            comment="its place in the order of outcomes",
        ),
        sa.Column("delivery", BIG, nullable=False, comment="which delivery, never a member"),
        sa.Column("state", sa.Text(), nullable=False, comment="the final state it reached"),
        sa.Column("sender", sa.Text(), comment="who sent it, as far as known then"),
        sa.Column("error", sa.Text(), comment="why not, one sentence"),
        *(
            sa.Column(
                f"{of}_{part}", BIG, nullable=False, comment=f"{words} {part}, members included"
            )
            for of, words in (("days", "NMI-suffix-days"), ("reads", "register reads"))
            for part in ("read", "stored", "unchanged", "rejected")
        ),
        sa.Column("at", Stamp(), nullable=False, comment="when it reached it"),
        sa.Column("told_at", Stamp(), nullable=False, comment="when this row was written"),
        comment="A delivery has reached a final state. Append-only; "
        "numbered in the order of commits.",
    )
    op.create_index("outcome_by_delivery", "outcome", ["delivery"])
    _problems()
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE problem_number")


def _problems() -> None:
    op.create_table(
        "problem",
        sa.Column(
            "id",
            BIG,
            primary_key=True,
            autoincrement=False,
            comment="its number, the one people use",
        ),
        sa.Column(
            "kind",
            KEY,
            nullable=False,
            comment="file (its data), dead (ours to retry), system (a part)",
        ),
        sa.Column(
            "sender",
            KEY,
            nullable=False,
            comment="whose deliveries; empty: unknown, or a part of ours",
        ),
        sa.Column(
            "rule",
            KEY,
            nullable=False,
            comment="rule id, error code, or the part that fails",
        ),
        sa.Column("message", sa.Text(), comment="what was said the last time"),
        sa.Column("hint", sa.Text(), comment="what to do, where the rule does not say it"),
        sa.Column("times", BIG, nullable=False, comment="how often it was met"),
        sa.Column("first_at", Stamp(), nullable=False, comment="when it was met first"),
        sa.Column("last_at", Stamp(), nullable=False, comment="when it was met last"),
        sa.Column("first_delivery", BIG, comment="the delivery that met it first"),
        sa.Column("last_delivery", BIG, comment="the delivery that met it last"),
        sa.Column("closed_at", Stamp(), comment="when it was closed; null: open"),
        sa.Column("closed_by", sa.Text(), comment="person or key; null: by itself"),
        sa.Column("closed_delivery", BIG, comment="the good delivery that closed it"),
        sa.Column("note", sa.Text(), comment="what was found, or done"),
        comment="What is wrong, once per sender and rule, or per part of the system, while open.",
    )
    op.create_index(
        "problem_open",
        "problem",
        ["kind", "sender", "rule"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "problem_met",
        sa.Column("problem", BIG, nullable=False, comment="which problem"),
        sa.Column("delivery", BIG, nullable=False, comment="which delivery met it"),
        sa.Column("outcome", BIG, nullable=False, comment="with which outcome (seq)"),
        comment="A delivery met a problem. Append-only; a problem's times are its rows here.",
    )
    op.create_index("problem_met_once", "problem_met", ["problem", "outcome"], unique=True)
