"""The tables of what became of deliveries, and of what is wrong.

Why: they are derived from the ledger, in one order, and are no concern of who loads.

Look next: ``tables.py``, from which other modules take them; ``outcomes.py``, ``problems.py``.
"""

from __future__ import annotations

import sqlalchemy as sa

from nemflow.store.columntypes import Big, Key, Stamp, column, identity, metadata

outcome = sa.Table(
    "outcome",
    metadata,
    column("seq", Big, "its place in the order of outcomes", primary_key=True, autoincrement=False),
    column("delivery", Big, "which delivery, never a member", nullable=False),
    column("state", sa.Text, "the final state it reached", nullable=False),
    column("sender", sa.Text, "who sent it, as far as known then"),
    column("error", sa.Text, "why not, one sentence"),
    *(
        column(f"{of}_{part}", Big, f"{words} {part}, members included", nullable=False)
        for of, words in (("days", "NMI-suffix-days"), ("reads", "register reads"))
        for part in ("read", "stored", "unchanged", "rejected")
    ),
    column("at", Stamp, "when it reached it", nullable=False),
    column("told_at", Stamp, "when this row was written", nullable=False),
    sa.Index("outcome_by_delivery", "delivery"),
    comment="A delivery has reached a final state. Append-only; numbered in the order of commits.",
)

problem = sa.Table(
    "problem",
    metadata,
    identity("its number, the one people use"),
    column("kind", Key, "file (its data), dead (ours to retry), system (a part)", nullable=False),
    column("sender", Key, "whose deliveries; empty: unknown, or a part of ours", nullable=False),
    column("rule", Key, "rule id, error code, or the part that fails", nullable=False),
    column("message", sa.Text, "what was said the last time"),
    column("hint", sa.Text, "what to do, where the rule does not say it"),
    column("times", Big, "how often it was met", nullable=False),
    column("first_at", Stamp, "when it was met first", nullable=False),
    column("last_at", Stamp, "when it was met last", nullable=False),
    column("first_delivery", Big, "the delivery that met it first"),
    column("last_delivery", Big, "the delivery that met it last"),
    column("closed_at", Stamp, "when it was closed; null: open"),
    column("closed_by", sa.Text, "person or key; null: by itself"),
    column("closed_delivery", Big, "the good delivery that closed it"),
    column("note", sa.Text, "what was found, or done"),
    sa.Index(
        "problem_open",
        "kind",
        "sender",
        "rule",
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    ),
    comment="What is wrong, once per sender and rule, or per part of the system, while open.",
)

problem_met = sa.Table(
    "problem_met",
    metadata,
    column("problem", Big, "which problem", nullable=False),
    column("delivery", Big, "which delivery met it", nullable=False),
    column("outcome", Big, "with which outcome (seq)", nullable=False),
    sa.Index("problem_met_once", "problem", "outcome", unique=True),
    comment="A delivery met a problem. Append-only; a problem's times are its rows here.",
)
