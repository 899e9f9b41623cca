"""The tables of the service: timelines, keys, and what may be done only once.

Why: they belong to the schema like all others, and are no concern of who loads and asks without a
service.

Look next: ``tables.py``, from which other modules take them; ``work.py``, ``keys.py``, ``once.py``.
"""

from __future__ import annotations

import sqlalchemy as sa

from nemflow.store.columntypes import Big, Key, Stamp, column, identity, metadata

delivery_step = sa.Table(
    "delivery_step",
    metadata,
    column("delivery", Big, "which delivery", nullable=False),
    column(
        "step", sa.Text, "receive, inspect, load, settle, ... see docs/store.md", nullable=False
    ),
    column("attempt", sa.Integer, "in which attempt; 0: before the first", nullable=False),
    column("began_at", Stamp, "when it began", nullable=False),
    column("ended_at", Stamp, "when it ended", nullable=False),
    column("outcome", sa.Text, "ok, the state it led to, or the code of the error"),
    column("detail", sa.Text, "JSON: what there is to say"),
    sa.Index("delivery_step_by_delivery", "delivery", "began_at"),
    comment="One step on a delivery's way, when it was over. Append-only: its timeline.",
)

api_key = sa.Table(
    "api_key",
    metadata,
    identity("its number; it is in the key itself"),
    column("name", sa.Text, "whose it is; two live keys may share one", nullable=False),
    column("sender", sa.Text, "what it sends counts as sent by; null: as the file says"),
    column("scopes", sa.Text, "upload, read, operate, admin; joined by a space", nullable=False),
    column("hash", sa.Text, "SHA-256 of salt and secret; the secret is nowhere", nullable=False),
    column("salt", sa.Text, "its salt", nullable=False),
    column("created_at", Stamp, "when it was made", nullable=False),
    column("expires_at", Stamp, "from when on it is refused; null: never"),
    column("revoked_at", Stamp, "when it was taken back"),
    sa.Index("api_key_by_name", "name"),
    comment="A key of the service. Its secret was shown once and is not kept.",
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    column("api_key", Key, "name of the key it was sent with; empty: none", nullable=False),
    column("key", Key, "the Idempotency-Key", nullable=False),
    column("sha256", sa.Text, "of the bytes that came with it", nullable=False),
    column("delivery", Big, "the delivery it led to", nullable=False),
    column("at", Stamp, "when", nullable=False),
    sa.Index("idempotency_by_key", "api_key", "key", unique=True),
    sa.Index("idempotency_by_at", "at"),
    comment="An upload that names itself is taken once. Old rows are removed.",
)

sweep_run = sa.Table(
    "sweep_run",
    metadata,
    column("name", Key, "which sweep", nullable=False),
    column("slot", Key, "the moment it was due, as text", nullable=False),
    column("at", Stamp, "when it was taken", nullable=False),
    sa.Index("sweep_run_by_slot", "name", "slot", unique=True),
    comment="A scheduled sweep was taken by one of the schedulers.",
)

swept_file = sa.Table(
    "swept_file",
    metadata,
    column("root", Key, "the folder that is swept", nullable=False),
    column("path", Key, "the file, from there", nullable=False),
    column("mark", sa.Text, "its size and time of change when it was taken", nullable=False),
    column("delivery", Big, "the delivery it became", nullable=False),
    column("at", Stamp, "when", nullable=False),
    sa.Index("swept_file_by_path", "root", "path", unique=True),
    comment="A file that a sweep has taken and left where it lies: it is not taken again.",
)
