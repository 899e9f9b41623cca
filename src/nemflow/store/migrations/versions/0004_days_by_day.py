"""An index of claims by day, for "all NMIs of one day" on PostgreSQL.

Why: the key index begins with the NMI, so that question read a whole month. Files mostly come day
by day, so a BRIN index finds the day's pages; it is a few kilobytes a month and costs a load
less than a microsecond a claim (measured: 15 to 20 ms on 25,000). Where files come month by month
instead, it helps nothing.

Safe while an older worker runs: an index is added; loads wait until it is built, which reads the
claims once. SQLite has one file and one writer and goes without.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index, on every month there is."""
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "day_claim_by_day",
            "day_claim",
            ["day"],
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 16, "autosummarize": "on"},
        )
