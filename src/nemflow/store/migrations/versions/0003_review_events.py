"""Review events, and which of them a person has closed.

Why: see ``store/review_events.py``.

Safe while an older worker runs: tables are added, nothing it knows is changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nemflow.store.tables import Day, Stamp

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the two tables, their indexes, and the sequence of event numbers."""
    op.create_table(
        "review_event",
        sa.Column(
            "id",
            BIG,
            primary_key=True,
            autoincrement=False,
            comment="its number, the one people use",
        ),
        sa.Column(
            "load",
            BIG,
            nullable=False,
            comment="the load that brought it; undone or redone, see cause",
        ),
        sa.Column("cause", sa.Text(), nullable=False, comment="published, undone, redone"),
        sa.Column("seq", BIG, comment="its commit; null: the one that published the load"),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="conflict, final_revised, ... see docs/review.md",
        ),
        sa.Column("nmi", KEY, nullable=False, comment="the NMI"),
        sa.Column("suffix", KEY, comment="the stream"),
        sa.Column(
            "day",
            Day(),
            comment="the day; of a register period its last, of a chain fault the meeting",
        ),
        sa.Column("register_id", KEY, comment="RegisterID of a register period"),
        sa.Column("meter_serial", KEY, comment="MeterSerialNumber of a register period"),
        sa.Column(
            "period_at", Stamp(), comment="PreviousRegisterReadDateTime of a register period"
        ),
        sa.Column("line", BIG, comment="line of the 300 or 250 in the file"),
        sa.Column("version_at", Stamp(), comment="version of what came"),
        sa.Column("content_hash", KEY, comment="content that came"),
        sa.Column("other_hash", KEY, comment="content that was current, or is in conflict"),
        sa.Column("other_load", BIG, comment="the load that had brought it"),
        sa.Column("before", sa.Text(), comment="what was: quality, configuration, read, content"),
        sa.Column("after", sa.Text(), comment="what is"),
        sa.Column("why", sa.Text(), comment="what decides, what is lacking"),
        comment="Something a person should look at. Append-only; seen and void with its load.",
    )
    op.create_index("review_event_by_nmi", "review_event", ["nmi", "day"])
    op.create_index("review_event_by_load", "review_event", ["load"])
    op.create_table(
        "review_closed",
        sa.Column("review", BIG, nullable=False, comment="which event"),
        sa.Column("at", Stamp(), nullable=False, comment="when"),
        sa.Column("who", sa.Text(), comment="person or key"),
        sa.Column("note", sa.Text(), nullable=False, comment="what was found, or done"),
        comment="A person has closed a review event. Append-only; the first counts.",
    )
    op.create_index("review_closed_by_review", "review_closed", ["review"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE review_event_number")
