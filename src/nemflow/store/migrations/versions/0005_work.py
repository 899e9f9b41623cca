"""Deliveries as work: the spool, the timeline, keys, and what may be done only once.

Why: see ``store/work.py``.

Safe while an older worker runs: columns, tables and indexes are added; the columns have defaults
or may be null, and an older program names the columns it writes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nemflow.store.tables import Stamp

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns of ``delivery``, its indexes, four tables, and the numbers of keys."""
    _delivery()
    _delivery_step()
    _api_key()
    _once()
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE api_key_number")


def _delivery() -> None:
    for column in (
        sa.Column(
            "kept",
            sa.Text(),
            comment="its original: spooled, deleted, archived; null: never in the spool",
        ),
        sa.Column(
            "dry_run",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="only tried out",
        ),
        sa.Column(
            "inspected",
            sa.Text(),
            comment="JSON: what is in it: kind, NMIs, days, lengths, sender",
        ),
        sa.Column(
            "state_at",
            Stamp(),
            comment="since when it is in its state; null: an older program set it",
        ),
        sa.Column(
            "sent_at",
            Stamp(),
            comment="when the broker was last told of it; null: since its last claim not",
        ),
    ):
        op.add_column("delivery", column)
    op.create_index("delivery_by_sha256", "delivery", ["sha256"])
    op.create_index(
        "delivery_spooled",
        "delivery",
        ["id"],
        sqlite_where=sa.text("kept = 'spooled'"),
        postgresql_where=sa.text("kept = 'spooled'"),
    )
    op.create_index(
        "delivery_drained",
        "delivery",
        ["finished_at"],
        sqlite_where=sa.text("kept IS NOT NULL"),
        postgresql_where=sa.text("kept IS NOT NULL"),
    )


def _delivery_step() -> None:
    op.create_table(
        "delivery_step",
        sa.Column("delivery", BIG, nullable=False, comment="which delivery"),
        sa.Column(
            "step",
            sa.Text(),
            nullable=False,
            comment="receive, inspect, load, settle, ... see docs/store.md",
        ),
        sa.Column(
            "attempt",
            sa.Integer(),
            nullable=False,
            comment="in which attempt; 0: before the first",
        ),
        sa.Column("began_at", Stamp(), nullable=False, comment="when it began"),
        sa.Column("ended_at", Stamp(), nullable=False, comment="when it ended"),
        sa.Column(
            "outcome", sa.Text(), comment="ok, the state it led to, or the code of the error"
        ),
        sa.Column("detail", sa.Text(), comment="JSON: what there is to say"),
        comment="One step on a delivery's way, when it was over. Append-only: its timeline.",
    )
    op.create_index("delivery_step_by_delivery", "delivery_step", ["delivery", "began_at"])


def _api_key() -> None:
    op.create_table(
        "api_key",
        sa.Column(
            "id",
            BIG,
            primary_key=True,
            autoincrement=False,
            comment="its number; it is in the key itself",
        ),
        sa.Column(
            "name", sa.Text(), nullable=False, comment="whose it is; two live keys may share one"
        ),
        sa.Column(
            "sender",
            sa.Text(),
            comment="what it sends counts as sent by; null: as the file says",
        ),
        sa.Column(
            "scopes",
            sa.Text(),
            nullable=False,
            comment="upload, read, operate, admin; joined by a space",
        ),
        sa.Column(
            "hash",
            sa.Text(),
            nullable=False,
            comment="SHA-256 of salt and secret; the secret is nowhere",
        ),
        sa.Column("salt", sa.Text(), nullable=False, comment="its salt"),
        sa.Column("created_at", Stamp(), nullable=False, comment="when it was made"),
        sa.Column("expires_at", Stamp(), comment="from when on it is refused; null: never"),
        sa.Column("revoked_at", Stamp(), comment="when it was taken back"),
        comment="A key of the service. Its secret was shown once and is not kept.",
    )
    op.create_index("api_key_by_name", "api_key", ["name"])


def _once() -> None:
    op.create_table(
        "idempotency",
        sa.Column(
            "api_key",
            KEY,
            nullable=False,
            comment="name of the key it was sent with; empty: none",
        ),
        sa.Column("key", KEY, nullable=False, comment="the Idempotency-Key"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of the bytes that came with it"),
        sa.Column("delivery", BIG, nullable=False, comment="the delivery it led to"),
        sa.Column("at", Stamp(), nullable=False, comment="when"),
        comment="An upload that names itself is taken once. Old rows are removed.",
    )
    op.create_index("idempotency_by_key", "idempotency", ["api_key", "key"], unique=True)
    op.create_index("idempotency_by_at", "idempotency", ["at"])
    op.create_table(
        "sweep_run",
        sa.Column("name", KEY, nullable=False, comment="which sweep"),
        sa.Column("slot", KEY, nullable=False, comment="the moment it was due, as text"),
        sa.Column("at", Stamp(), nullable=False, comment="when it was taken"),
        comment="A scheduled sweep was taken by one of the schedulers.",
    )
    op.create_index("sweep_run_by_slot", "sweep_run", ["name", "slot"], unique=True)
