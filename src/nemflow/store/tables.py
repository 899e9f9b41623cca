"""Every table of the store, every column with its meaning.

Why: the schema is the contract between engines, between versions of this program, and with people
who open the store with their own tools.

Promises: day rows (content, claims, register reads, service events) are appended and never
updated; they carry no UNIQUE or PRIMARY KEY on their natural keys and no foreign keys (equal
copies are legal and collapse on read). Ledger rows (delivery, file, load, quarantine) are updated
in place; ``load_event`` and ``audit`` are append-only.

Conventions: on SQLite an instant is sortable text in market time, ``2025-03-06T02:15:09+10:00``
(six decimals after the seconds where a clock wrote it), a day is ``2025-03-06``; null sorts below
everything. Values are integers scaled by ``scale``: 0.125 is 125 with scale 3.

Look next: ``backends/sqlite.py`` for the views, ``migrations/`` for how a store gets this schema.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

# the types are part of the schema: other modules take them from here
from nemflow.store.columntypes import MARKET_OFFSET as MARKET_OFFSET  # noqa: PLC0414
from nemflow.store.columntypes import Big as Big  # noqa: PLC0414
from nemflow.store.columntypes import Day as Day  # noqa: PLC0414
from nemflow.store.columntypes import Exact as Exact  # noqa: PLC0414
from nemflow.store.columntypes import IntegerValues as IntegerValues  # noqa: PLC0414
from nemflow.store.columntypes import Key as Key  # noqa: PLC0414
from nemflow.store.columntypes import Stamp as Stamp  # noqa: PLC0414
from nemflow.store.columntypes import column as _column
from nemflow.store.columntypes import identity as _id
from nemflow.store.columntypes import metadata as metadata  # noqa: PLC0414

#: The schema this program reads and writes; a test keeps it equal to the newest migration.
SCHEMA_REVISION = "0009"
#: Deliveries that have reached a final state which is not among the outcomes yet, as SQL: the
#: question must be that of the index, word by word.
UNTOLD = (
    "parent IS NULL AND finished_at IS NOT NULL AND "
    "(told_at IS NULL OR told_at <> finished_at OR told_state <> state)"
)

_BRIN: dict[str, Any] = {"postgresql_using": "brin", "info": {"only": "postgresql"}}


def _counts(of: str, what: str) -> list[sa.Column[Any]]:
    """Four counters that balance: read = stored + unchanged + rejected."""
    said = {
        "read": f"{what} the file holds",
        "stored": f"{what} whose content did not stand before",
        "unchanged": f"{what} claimed again with content that stood already",
        "rejected": f"{what} in the quarantine",
    }
    return [
        _column(f"{of}_{part}", Big, comment, nullable=False, server_default="0")
        for part, comment in said.items()
    ]


clock = sa.Table(
    "clock",
    metadata,
    _column("id", sa.Integer, "always 1", primary_key=True, autoincrement=False),
    _column("seq", Big, "number of the last visible change", nullable=False),
    _column("at", Stamp, "its time; never goes back", nullable=False),
    comment="Drawn from by the last statement before COMMIT: seq order is commit order.",
)

delivery = sa.Table(
    "delivery",
    metadata,
    _id("its number, the one people use"),
    _column("parent", Big, "the delivery (archive, message) it came in"),
    _column("name", sa.Text, "path, and member inside it: day.zip/a.csv", nullable=False),
    _column("channel", sa.Text, "how it came: cli, folder, http, batch", nullable=False),
    _column("sender", sa.Text, "who sent it"),
    _column("api_key", sa.Text, "name of the key it was sent with"),
    _column("profile", sa.Text, "rule profile it is checked under", nullable=False),
    _column("sha256", sa.Text, "of the bytes as delivered; of the text for a member"),
    _column("size", Big, "bytes as delivered; of the text for a member"),
    _column("file", Big, "the file it is; null: a container, or refused before it was one"),
    _column("duplicate_of", Big, "the earlier delivery of the same file whose load stands"),
    _column("state", sa.Text, "received ... loaded, see docs/store.md", nullable=False),
    _column("lane", sa.Text, "urgent, normal, bulk", nullable=False, server_default="normal"),
    _column("lease_token", sa.Text, "of the worker that has it"),
    _column("lease_until", Stamp, "when that worker counts as lost"),
    _column("attempts", sa.Integer, "attempts begun", nullable=False, server_default="0"),
    _column("next_try_at", Stamp, "when the next attempt is due"),
    _column("progress", sa.Text, "JSON: how far the attempt has come"),
    _column("error", sa.Text, "the last error, one sentence"),
    _column("received_at", Stamp, "when it arrived", nullable=False),
    _column("finished_at", Stamp, "when it reached a final state"),
    _column("kept", sa.Text, "its original: spooled, deleted, archived; null: never in the spool"),
    _column("dry_run", sa.Boolean, "only tried out", nullable=False, server_default=sa.false()),
    _column("inspected", sa.Text, "JSON: what is in it: kind, NMIs, days, lengths, sender"),
    _column("state_at", Stamp, "since when it is in its state; null: an older program set it"),
    _column(
        "sent_at", Stamp, "when the broker was last told of it; null: since its last claim not"
    ),
    _column("told_state", sa.Text, "the state of its last outcome"),
    _column("told_at", Stamp, "finished_at of its last outcome"),
    _column("trace", sa.Text, "W3C traceparent of the request that brought it, or retried it"),
    _column("request", sa.Text, "X-Request-ID of the request that brought it"),
    sa.Index("delivery_by_parent", "parent"),
    sa.Index("delivery_by_file", "file"),
    sa.Index("delivery_by_state", "state", "id"),
    sa.Index("delivery_by_sha256", "sha256"),
    sa.Index(
        "delivery_spooled",
        "id",
        sqlite_where=sa.text("kept = 'spooled'"),
        postgresql_where=sa.text("kept = 'spooled'"),
    ),
    sa.Index(
        "delivery_drained",
        "finished_at",
        sqlite_where=sa.text("kept IS NOT NULL"),
        postgresql_where=sa.text("kept IS NOT NULL"),
    ),
    sa.Index(
        "delivery_untold",
        "finished_at",
        "id",
        sqlite_where=sa.text(UNTOLD),
        postgresql_where=sa.text(UNTOLD),
    ),
    comment="One arrival: an upload, a file in the folder, a zip, and what was inside it.",
)

file = sa.Table(
    "file",
    metadata,
    _id("its number"),
    _column("sha256", sa.Text, "of the decompressed bytes: its identity, for ever", nullable=False),
    _column("name", sa.Text, "as first seen", nullable=False),
    _column("size", Big, "bytes, decompressed", nullable=False),
    _column("version_header", sa.Text, "NEM12 or NEM13; null: never got that far"),
    _column("from_participant", sa.Text, "header: who made it"),
    _column("to_participant", sa.Text, "header: for whom"),
    _column("file_at", Stamp, "header: DateTime of its last block"),
    _column("message_id", sa.Text, "envelope: MessageID"),
    _column("transaction_id", sa.Text, "envelope: transactionID"),
    _column("sender", sa.Text, "envelope: From"),
    _column("receiver", sa.Text, "envelope: To"),
    _column("state", sa.Text, "loading, loaded, partly_loaded, rejected, undone", nullable=False),
    _column("load", Big, "the attempt whose account this is"),
    _column("delivery", Big, "the delivery of that attempt"),
    *_counts("days", "NMI-suffix-days"),
    *_counts("reads", "register reads"),
    _column("findings", Big, "how many findings", nullable=False, server_default="0"),
    _column("nmis", Big, "how many NMIs were taken in", nullable=False, server_default="0"),
    _column("first_day", Day, "earliest day taken in"),
    _column("last_day", Day, "latest day taken in"),
    _column("first_seen_at", Stamp, "when it was first delivered", nullable=False),
    _column("loaded_at", Stamp, "when its load was published"),
    sa.Index("file_by_sha256", "sha256", unique=True),
    comment="One MDFF text (100 ... 900), recognised for ever by its bytes.",
)

load = sa.Table(
    "load",
    metadata,
    _id("its number"),
    _column("file", Big, "what is loaded", nullable=False),
    _column("delivery", Big, "for which delivery", nullable=False),
    _column("base", Big, "itself; for a replay the load whose quarantine it reads", nullable=False),
    _column("kind", sa.Text, "load or replay", nullable=False),
    _column("state", sa.Text, "open, published, undone, rejected, dead", nullable=False),
    _column("lease_token", sa.Text, "only who holds it may append and publish"),
    _column("lease_until", Stamp, "when an open load counts as dead"),
    _column("parser_version", sa.Text, "version of nemflow", nullable=False),
    _column("profile", sa.Text, "rule profile", nullable=False),
    *_counts("days", "NMI-suffix-days"),
    *_counts("reads", "register reads"),
    _column("started_at", Stamp, "when it began", nullable=False),
    _column("finished_at", Stamp, "when it was published, rejected or cleared"),
    sa.Index("load_by_file", "file"),
    sa.Index("load_by_delivery", "delivery"),
    sa.Index(
        "load_open",
        "state",
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    ),
    comment="One attempt to put a file's days into the store; invisible until published.",
)

load_event = sa.Table(
    "load_event",
    metadata,
    _column("seq", Big, "commit number; loads of one commit share it", nullable=False),
    _column("load", Big, "which load", nullable=False),
    _column("kind", sa.Text, "published, undone, redone", nullable=False),
    _column("at", Stamp, "clock.at of that commit", nullable=False),
    sa.Index("load_event_by_load", "load", "seq", "kind"),
    sa.Index("load_event_by_seq", "seq"),
    sa.Index("load_event_by_at", "at", "seq"),
    comment="A load was published, undone or redone; append-only. Makes 'as known on' exact.",
)

day_content = sa.Table(
    "day_content",
    metadata,
    _column("nmi", Key, "the NMI, 10 characters", nullable=False),
    _column("day", Day, "the day, market time", nullable=False),
    _column("suffix", Key, "the stream: E1, B1, Q1", nullable=False),
    _column("content_hash", Key, "over values, qualities, spans, unit, length", nullable=False),
    _column("uom", sa.Text, "unit, canonical spelling", nullable=False),
    _column("interval_minutes", sa.Integer, "5, 15 or 30", nullable=False),
    _column("scale", sa.Integer, "decimals of the scaled values", nullable=False),
    _column("scaled_values", IntegerValues, "integers scaled by ``scale``, null = missing"),
    _column("exact_values", sa.Text, "JSON decimals as text, for a day that overflows"),
    _column("quality", sa.Text, "flag of the 300: A, E, S, F, V, N", nullable=False),
    _column("method", sa.Text, "two-digit method of the 300"),
    _column("reason_code", sa.Integer, "reason of the 300"),
    _column("reason_text", sa.Text, "reason description of the 300"),
    _column(
        "spans",
        sa.Text,
        "the 400s: JSON rows of start, end, quality, method, reason code, reason text",
        nullable=False,
    ),
    _column("load", Big, "the load that brought it first", nullable=False),
    sa.Index("day_content_by_key", "nmi", "day", "suffix", "content_hash"),
    sa.Index("day_content_by_load", "load"),
    comment="One distinct content of a day, stored once however often it is delivered.",
    postgresql_partition_by="RANGE (day)",
)

day_claim = sa.Table(
    "day_claim",
    metadata,
    _column("nmi", Key, "the NMI, 10 characters", nullable=False),
    _column("day", Day, "the day, market time", nullable=False),
    _column("suffix", Key, "the stream: E1, B1, Q1", nullable=False),
    _column("version_at", Stamp, "UpdateDateTime, else the file's DateTime"),
    _column("file_at", Stamp, "DateTime of the 100 it came under"),
    _column("content_hash", Key, "which content", nullable=False),
    _column("load", Big, "which load says so", nullable=False),
    _column("line", Big, "line of the 300 in the file", nullable=False),
    _column("version_derived", sa.Boolean, "no usable UpdateDateTime", nullable=False),
    _column("total", Big, "sum of the scaled values; null: overflows", nullable=True),
    _column("scale", sa.Integer, "decimals of total", nullable=False),
    _column("missing", sa.Integer, "intervals without a value", nullable=False),
    _column("quality", sa.Text, "weakest quality of the day", nullable=False),
    _column("register_id", sa.Text, "RegisterID of the 200"),
    _column("meter_serial", sa.Text, "MeterSerialNumber of the 200"),
    _column("mdm_stream", sa.Text, "MDMDataStreamIdentifier of the 200"),
    _column("nmi_configuration", sa.Text, "NMIConfiguration of the 200"),
    _column("next_scheduled_read", Day, "NextScheduledReadDate of the 200"),
    _column("msats_at", Stamp, "MSATSLoadDateTime: a receipt, decides nothing"),
    sa.Index(
        "day_claim_by_key", "nmi", "day", "suffix", "version_at", "file_at", "content_hash", "load"
    ),
    sa.Index("day_claim_by_load", "load"),
    sa.Index(
        "day_claim_by_day",
        "day",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 16, "autosummarize": "on"},
        info={"only": "postgresql"},
    ).ddl_if(dialect="postgresql"),
    comment="One delivery's word on a day: it had this content, as of this version.",
    postgresql_partition_by="RANGE (day)",
)

register_read = sa.Table(
    "register_read",
    metadata,
    _column("nmi", Key, "the NMI", nullable=False),
    _column("suffix", Key, "NMISuffix: 11, 41", nullable=False),
    _column("register_id", Key, "RegisterID"),
    _column("meter_serial", Key, "MeterSerialNumber"),
    _column("previous_at", Stamp, "PreviousRegisterReadDateTime: the period's key"),
    _column("version_at", Stamp, "UpdateDateTime, else the file's DateTime"),
    _column("file_at", Stamp, "DateTime of the 100 it came under"),
    _column("content_hash", Key, "over everything but the receipt stamp", nullable=False),
    _column("load", Big, "which load says so", nullable=False),
    _column("line", Big, "line of the 250 in the file", nullable=False),
    _column("version_derived", sa.Boolean, "no usable UpdateDateTime", nullable=False),
    _column("nmi_configuration", sa.Text, "NMIConfiguration"),
    _column("mdm_stream", sa.Text, "MDMDataStreamIdentifier"),
    _column("direction", sa.Text, "E: to the customer, I: from the customer"),
    _column("previous_read", sa.Text, "as displayed, zeros kept"),
    _column("previous_quality_method", sa.Text, "quality of the previous read"),
    _column("previous_reason_code", sa.Integer, "reason of the previous read"),
    _column("previous_reason_text", sa.Text, "reason description of the previous read"),
    _column("current_read", sa.Text, "as displayed, zeros kept"),
    _column("current_at", Stamp, "CurrentRegisterReadDateTime"),
    _column("current_quality_method", sa.Text, "quality of the current read"),
    _column("current_reason_code", sa.Integer, "reason of the current read"),
    _column("current_reason_text", sa.Text, "reason description of the current read"),
    _column("quantity", Exact, "Quantity, exact"),
    _column("uom", sa.Text, "unit, canonical spelling"),
    _column("next_scheduled_read", Day, "NextScheduledReadDate"),
    _column("update_at", Stamp, "UpdateDateTime as given"),
    _column("msats_at", Stamp, "MSATSLoadDateTime: a receipt, decides nothing"),
    sa.Index(
        "register_read_by_key",
        "nmi",
        "suffix",
        "register_id",
        "meter_serial",
        "previous_at",
        "version_at",
        "file_at",
        "content_hash",
        "load",
    ),
    sa.Index("register_read_by_load", "load"),
    comment="One NEM13 period claim; reads kept as text exactly as displayed.",
)

service_event = sa.Table(
    "service_event",
    metadata,
    _column("nmi", Key, "the NMI", nullable=False),
    _column("suffix", Key, "the stream"),
    _column("register_id", sa.Text, "RegisterID"),
    _column("day", Day, "day of the 300 above; null for a 550"),
    _column("load", Big, "which load says so", nullable=False),
    _column("line", Big, "line of the 500 or 550", nullable=False),
    _column("parent_line", Big, "line of the 300 or 250 above; its claim decides visibility"),
    _column("record", sa.Integer, "500 or 550", nullable=False),
    _column("trans_code", sa.Text, "TransCode; CurrentTransCode of a 550"),
    _column("service_order", sa.Text, "RetServiceOrder; CurrentRetServiceOrder of a 550"),
    _column("read_at", Stamp, "ReadDateTime of a 500"),
    _column("index_read", sa.Text, "IndexRead of a 500, as displayed"),
    _column("previous_trans_code", sa.Text, "PreviousTransCode of a 550"),
    _column("previous_service_order", sa.Text, "PreviousRetServiceOrder of a 550"),
    sa.Index("service_event_by_nmi", "nmi", "day"),
    sa.Index("service_event_by_load", "load"),
    comment="One 500 or 550 record.",
)

quarantine = sa.Table(
    "quarantine",
    metadata,
    _id("its number, the one replay takes"),
    _column("file", Big, "which file", nullable=False),
    _column("load", Big, "which attempt refused it", nullable=False),
    _column("line", Big, "line of the record in the file", nullable=False),
    _column("record", sa.Text, "300 or 250", nullable=False),
    _column("nmi", sa.Text, "as far as it can be read"),
    _column("suffix", sa.Text, "as far as it can be read"),
    _column("day", Day, "as far as it can be read"),
    _column("rules", sa.Text, "JSON: the rule ids that keep it out", nullable=False),
    _column("raw", sa.Text, "the record and the 400, 500 or 550 lines below it", nullable=False),
    _column("context", sa.Text, "the 100 and 200 lines it stood under"),
    _column("attempts", sa.Integer, "replays tried", nullable=False, server_default="0"),
    _column("resolved_by", Big, "the replay load that took it in"),
    _column("resolved_at", Stamp, "when"),
    _column("created_at", Stamp, "when it was refused", nullable=False),
    sa.Index("quarantine_by_load", "load"),
    sa.Index("quarantine_by_file", "file"),
    comment="One rejected record, with all that is needed to read it again alone.",
)

finding = sa.Table(
    "finding",
    metadata,
    _column("load", Big, "which attempt", nullable=False),
    _column("line", Big, "line in the file; null: the whole file"),
    _column("block", Big, "which 100 ... 900 block"),
    _column("record", sa.Text, "record indicator"),
    _column("field", sa.Text, "field name"),
    _column("value", sa.Text, "what stood there"),
    _column("rule", sa.Text, "rule id", nullable=False),
    _column("severity", sa.Text, "F, D or W under the profile used", nullable=False),
    _column("message", sa.Text, "what is wrong and what was expected"),
    _column("todo", sa.Text, "what to do"),
    _column("raw", sa.Text, "the raw line, its first 200 characters"),
    sa.Index("finding_by_load", "load", "line"),
    comment="One rule met at one place.",
)

audit = sa.Table(
    "audit",
    metadata,
    _id("its number"),
    _column("at", Stamp, "when", nullable=False),
    _column("who", sa.Text, "person or key"),
    _column("act", sa.Text, "undo, redo, replay", nullable=False),
    _column("target", sa.Text, "what it was done to: delivery 7", nullable=False),
    _column("detail", sa.Text, "JSON: ids and counts"),
    sa.Index("audit_by_at", "at"),
    comment="One act by a person or key. Append-only.",
)

consumer_take = sa.Table(
    "consumer_take",
    metadata,
    _id("its number; of two takes of a day the greater counts"),
    _column("consumer", Key, "who: the name given with --as", nullable=False),
    _column("seq", Big, "commit number as of which it was read", nullable=False),
    _column("at", Stamp, "when it was recorded", nullable=False),
    _column("how", sa.Text, "readings or export", nullable=False),
    sa.Index("consumer_take_by_consumer", "consumer", "id"),
    comment="A consumer took readings. Append-only; what it took is what was known at seq.",
)

consumer_range = sa.Table(
    "consumer_range",
    metadata,
    _column("take", Big, "which take", nullable=False),
    _column("consumer", Key, "of that take", nullable=False),
    _column("seq", Big, "of that take", nullable=False),
    _column("nmi", Key, "the NMI; null: every NMI"),
    _column("suffix", Key, "the stream; null: every stream"),
    _column("first", Day, "first day asked for; null: from the beginning"),
    _column("last", Day, "last day asked for, included; null: without end"),
    sa.Index("consumer_range_by_consumer", "consumer", "nmi"),
    sa.Index("consumer_range_by_take", "take"),
    comment="What a take asked for, with or without data then; no row per day is needed.",
)

review_event = sa.Table(
    "review_event",
    metadata,
    _id("its number, the one people use"),
    _column("load", Big, "the load that brought it; undone or redone, see cause", nullable=False),
    _column("cause", sa.Text, "published, undone, redone", nullable=False),
    _column("seq", Big, "its commit; null: the one that published the load"),
    _column("kind", sa.Text, "conflict, final_revised, ... see docs/review.md", nullable=False),
    _column("nmi", Key, "the NMI", nullable=False),
    _column("suffix", Key, "the stream"),
    _column("day", Day, "the day; of a register period its last, of a chain fault the meeting"),
    _column("register_id", Key, "RegisterID of a register period"),
    _column("meter_serial", Key, "MeterSerialNumber of a register period"),
    _column("period_at", Stamp, "PreviousRegisterReadDateTime of a register period"),
    _column("line", Big, "line of the 300 or 250 in the file"),
    _column("version_at", Stamp, "version of what came"),
    _column("content_hash", Key, "content that came"),
    _column("other_hash", Key, "content that was current, or is in conflict"),
    _column("other_load", Big, "the load that had brought it"),
    _column("before", sa.Text, "what was: quality, configuration, read, content"),
    _column("after", sa.Text, "what is"),
    _column("why", sa.Text, "what decides, what is lacking"),
    sa.Index("review_event_by_nmi", "nmi", "day"),
    sa.Index("review_event_by_load", "load"),
    comment="Something a person should look at. Append-only; seen and void with its load.",
)

review_closed = sa.Table(
    "review_closed",
    metadata,
    _column("review", Big, "which event", nullable=False),
    _column("at", Stamp, "when", nullable=False),
    _column("who", sa.Text, "person or key"),
    _column("note", sa.Text, "what was found, or done", nullable=False),
    sa.Index("review_closed_by_review", "review"),
    comment="A person has closed a review event. Append-only; the first counts.",
)

# after all others: they come last in the reference
from nemflow.store.hooktables import webhook as webhook  # noqa: E402, PLC0414
from nemflow.store.hooktables import webhook_message as webhook_message  # noqa: E402, PLC0414
from nemflow.store.outcometables import outcome as outcome  # noqa: E402, PLC0414
from nemflow.store.outcometables import problem as problem  # noqa: E402, PLC0414
from nemflow.store.outcometables import problem_met as problem_met  # noqa: E402, PLC0414
from nemflow.store.worktables import api_key as api_key  # noqa: E402, PLC0414
from nemflow.store.worktables import delivery_step as delivery_step  # noqa: E402, PLC0414
from nemflow.store.worktables import idempotency as idempotency  # noqa: E402, PLC0414
from nemflow.store.worktables import sweep_run as sweep_run  # noqa: E402, PLC0414
from nemflow.store.worktables import swept_file as swept_file  # noqa: E402, PLC0414

#: Tables that PostgreSQL keeps in one partition per month of ``day``, made when first needed.
PARTITIONED = ("day_content", "day_claim")
#: Tables whose rows are numbered by us, in blocks.
NUMBERED = (
    delivery,
    file,
    load,
    quarantine,
    audit,
    consumer_take,
    review_event,
    api_key,
    problem,
    webhook,
    webhook_message,
)

#: Tables whose rows belong to a load and are cleared when it dies unpublished.
DAY_TABLES = (day_content, day_claim, register_read, service_event)
LOAD_TABLES = (*DAY_TABLES, review_event, quarantine, finding)
