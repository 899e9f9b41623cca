"""The tables of webhooks: who is told, and what each was told.

Look next: ``webhooks.py``.
"""

from __future__ import annotations

import sqlalchemy as sa

from nemflow.store.columntypes import Big, Key, Stamp, column, identity, metadata

webhook = sa.Table(
    "webhook",
    metadata,
    identity("its number"),
    column("url", sa.Text, "where messages are sent", nullable=False),
    column("events", sa.Text, "which, joined by a space", nullable=False),
    column("sender", sa.Text, "only of this sender's files; null: all"),
    column("consumer", sa.Text, "whose changed days consumer.changes tells of"),
    column("salt", sa.Text, "what its secret is derived from, with webhooks.key"),
    column("secret", sa.Text, "its secret, when there was no webhooks.key; else null"),
    column("outcome_seq", Big, "outcomes up to this one are messages already", nullable=False),
    column("change_seq", Big, "commits up to this one are messages already", nullable=False),
    column("failures", sa.Integer, "attempts that failed in a row", nullable=False),
    column("pause_until", Stamp, "nothing is sent before"),
    column("lease_token", sa.Text, "who sends to it now"),
    column("lease_until", Stamp, "when that sender counts as lost"),
    column("created_at", Stamp, "when it was made", nullable=False),
    column("disabled_at", Stamp, "when it was switched off; null: it is on"),
    column("disabled_why", sa.Text, "why, one sentence"),
    column("removed_at", Stamp, "when it was removed; null: it is there"),
    comment="Who is told of what happens, by HTTP. Numbers are never used again.",
)

webhook_message = sa.Table(
    "webhook_message",
    metadata,
    identity("its number; the order in which messages were made"),
    column("webhook", Big, "to whom", nullable=False),
    column("message", Key, "webhook-id: the same at every attempt", nullable=False),
    column("event", sa.Text, "file.final, file.rejected, file.dead, ...", nullable=False),
    column("payload", sa.Text, "the body, JSON", nullable=False),
    column("state", sa.Text, "waiting, delivered, dead", nullable=False),
    column("attempts", sa.Integer, "attempts made", nullable=False),
    column("next_try_at", Stamp, "when the next is due; null: none is"),
    column("last_try_at", Stamp, "when the last was made"),
    column("last_status", sa.Integer, "what was answered: the HTTP status"),
    column("last_answer", sa.Text, "the beginning of the answer, or the error"),
    column("created_at", Stamp, "when it was made", nullable=False),
    sa.Index(
        "webhook_message_waiting",
        "webhook",
        "next_try_at",
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    ),
    sa.Index("webhook_message_by_webhook", "webhook", "id"),
    comment="One message to one webhook. Old ones that were delivered are removed.",
)
