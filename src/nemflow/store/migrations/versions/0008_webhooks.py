"""Webhooks: who is told, and what each was told.

Why: see ``store/webhooks.py``.

Safe while an older worker runs: only tables are added.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nemflow.store.tables import Stamp

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
WAITING = sa.text("state = 'waiting'")


def upgrade() -> None:
    """Add two tables and their numbers."""
    op.create_table(
        "webhook",
        _id("its number"),
        _text("url", "where messages are sent", nullable=False),
        _text("events", "which, joined by a space", nullable=False),
        _text("sender", "only of this sender's files; null: all"),
        _text("consumer", "whose changed days consumer.changes tells of"),
        _text("salt", "what its secret is derived from, with webhooks.key"),
        _text("secret", "its secret, when there was no webhooks.key; else null"),
        _big("outcome_seq", "outcomes up to this one are messages already"),
        _big("change_seq", "commits up to this one are messages already"),
        _count("failures", "attempts that failed in a row"),
        _stamp("pause_until", "nothing is sent before"),
        _text("lease_token", "who sends to it now"),
        _stamp("lease_until", "when that sender counts as lost"),
        _stamp("created_at", "when it was made", nullable=False),
        _stamp("disabled_at", "when it was switched off; null: it is on"),
        _text("disabled_why", "why, one sentence"),
        _stamp("removed_at", "when it was removed; null: it is there"),
        comment="Who is told of what happens, by HTTP. Numbers are never used again.",
    )
    op.create_table(
        "webhook_message",
        _id("its number; the order in which messages were made"),
        _big("webhook", "to whom"),
        sa.Column("message", KEY, nullable=False, comment="webhook-id: the same at every attempt"),
        _text("event", "file.final, file.rejected, file.dead, ...", nullable=False),
        _text("payload", "the body, JSON", nullable=False),
        _text("state", "waiting, delivered, dead", nullable=False),
        _count("attempts", "attempts made"),
        _stamp("next_try_at", "when the next is due; null: none is"),
        _stamp("last_try_at", "when the last was made"),
        sa.Column("last_status", sa.Integer(), comment="what was answered: the HTTP status"),
        _text("last_answer", "the beginning of the answer, or the error"),
        _stamp("created_at", "when it was made", nullable=False),
        comment="One message to one webhook. Old ones that were delivered are removed.",
    )
    op.create_index(
        "webhook_message_waiting",
        "webhook_message",
        ["webhook", "next_try_at"],
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )
    op.create_index("webhook_message_by_webhook", "webhook_message", ["webhook", "id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE webhook_number")
        op.execute("CREATE SEQUENCE webhook_message_number")


def _id(comment: str) -> sa.Column[int]:
    return sa.Column("id", BIG, primary_key=True, autoincrement=False, comment=comment)


def _text(name: str, comment: str, *, nullable: bool = True) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable, comment=comment)


def _big(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, BIG, nullable=False, comment=comment)


def _count(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, comment=comment)


def _stamp(name: str, comment: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, Stamp(), nullable=nullable, comment=comment)
