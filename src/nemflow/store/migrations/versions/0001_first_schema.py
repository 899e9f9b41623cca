"""The first schema: ledger, days, register reads, quarantine, findings.

Frozen: what stores in the field were made with. Later changes are later revisions.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nemflow.store.tables import Day, Exact, IntegerValues, Stamp

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make every table and index, and the clock's one row."""
    op.create_table(
        "clock",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False, comment="always 1"),
        sa.Column("seq", BIG, nullable=False, comment="number of the last visible change"),
        sa.Column("at", Stamp(), nullable=False, comment="its time; never goes back"),
        comment="Drawn from by the last statement before COMMIT: seq order is commit order.",
    )
    op.create_table(
        "delivery",
        sa.Column(
            "id",
            BIG,
            primary_key=True,
            autoincrement=False,
            comment="its number, the one people use",
        ),
        sa.Column("parent", BIG, comment="the delivery (archive, message) it came in"),
        sa.Column(
            "name", sa.Text(), nullable=False, comment="path, and member inside it: day.zip/a.csv"
        ),
        sa.Column(
            "channel", sa.Text(), nullable=False, comment="how it came: cli, folder, http, batch"
        ),
        sa.Column("sender", sa.Text(), comment="who sent it"),
        sa.Column("api_key", sa.Text(), comment="name of the key it was sent with"),
        sa.Column("profile", sa.Text(), nullable=False, comment="rule profile it is checked under"),
        sa.Column(
            "sha256", sa.Text(), comment="of the bytes as delivered; of the text for a member"
        ),
        sa.Column("size", BIG, comment="bytes as delivered; of the text for a member"),
        sa.Column(
            "file", BIG, comment="the file it is; null: a container, or refused before it was one"
        ),
        sa.Column(
            "duplicate_of", BIG, comment="the earlier delivery of the same file whose load stands"
        ),
        sa.Column(
            "state", sa.Text(), nullable=False, comment="received ... loaded, see docs/store.md"
        ),
        sa.Column(
            "lane",
            sa.Text(),
            nullable=False,
            server_default="normal",
            comment="urgent, normal, bulk",
        ),
        sa.Column("lease_token", sa.Text(), comment="of the worker that has it"),
        sa.Column("lease_until", Stamp(), comment="when that worker counts as lost"),
        sa.Column(
            "attempts", sa.Integer(), nullable=False, server_default="0", comment="attempts begun"
        ),
        sa.Column("next_try_at", Stamp(), comment="when the next attempt is due"),
        sa.Column("progress", sa.Text(), comment="JSON: how far the attempt has come"),
        sa.Column("error", sa.Text(), comment="the last error, one sentence"),
        sa.Column("received_at", Stamp(), nullable=False, comment="when it arrived"),
        sa.Column("finished_at", Stamp(), comment="when it reached a final state"),
        comment="One arrival: an upload, a file in the folder, a zip, and what was inside it.",
    )
    op.create_index("delivery_by_file", "delivery", ["file"])
    op.create_index("delivery_by_parent", "delivery", ["parent"])
    op.create_index("delivery_by_state", "delivery", ["state", "id"])
    op.create_table(
        "file",
        sa.Column("id", BIG, primary_key=True, autoincrement=False, comment="its number"),
        sa.Column(
            "sha256",
            sa.Text(),
            nullable=False,
            comment="of the decompressed bytes: its identity, for ever",
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="as first seen"),
        sa.Column("size", BIG, nullable=False, comment="bytes, decompressed"),
        sa.Column("version_header", sa.Text(), comment="NEM12 or NEM13; null: never got that far"),
        sa.Column("from_participant", sa.Text(), comment="header: who made it"),
        sa.Column("to_participant", sa.Text(), comment="header: for whom"),
        sa.Column("file_at", Stamp(), comment="header: DateTime of its last block"),
        sa.Column("message_id", sa.Text(), comment="envelope: MessageID"),
        sa.Column("transaction_id", sa.Text(), comment="envelope: transactionID"),
        sa.Column("sender", sa.Text(), comment="envelope: From"),
        sa.Column("receiver", sa.Text(), comment="envelope: To"),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="loading, loaded, partly_loaded, rejected, undone",
        ),
        sa.Column("load", BIG, comment="the attempt whose account this is"),
        sa.Column("delivery", BIG, comment="the delivery of that attempt"),
        sa.Column(
            "days_read",
            BIG,
            nullable=False,
            server_default="0",
            comment="NMI-suffix-days the file holds",
        ),
        sa.Column(
            "days_stored",
            BIG,
            nullable=False,
            server_default="0",
            comment="NMI-suffix-days whose content did not stand before",
        ),
        sa.Column(
            "days_unchanged",
            BIG,
            nullable=False,
            server_default="0",
            comment="NMI-suffix-days claimed again with content that stood already",
        ),
        sa.Column(
            "days_rejected",
            BIG,
            nullable=False,
            server_default="0",
            comment="NMI-suffix-days in the quarantine",
        ),
        sa.Column(
            "reads_read",
            BIG,
            nullable=False,
            server_default="0",
            comment="register reads the file holds",
        ),
        sa.Column(
            "reads_stored",
            BIG,
            nullable=False,
            server_default="0",
            comment="register reads whose content did not stand before",
        ),
        sa.Column(
            "reads_unchanged",
            BIG,
            nullable=False,
            server_default="0",
            comment="register reads claimed again with content that stood already",
        ),
        sa.Column(
            "reads_rejected",
            BIG,
            nullable=False,
            server_default="0",
            comment="register reads in the quarantine",
        ),
        sa.Column("findings", BIG, nullable=False, server_default="0", comment="how many findings"),
        sa.Column(
            "nmis", BIG, nullable=False, server_default="0", comment="how many NMIs were taken in"
        ),
        sa.Column("first_day", Day(), comment="earliest day taken in"),
        sa.Column("last_day", Day(), comment="latest day taken in"),
        sa.Column("first_seen_at", Stamp(), nullable=False, comment="when it was first delivered"),
        sa.Column("loaded_at", Stamp(), comment="when its load was published"),
        comment="One MDFF text (100 ... 900), recognised for ever by its bytes.",
    )
    op.create_index("file_by_sha256", "file", ["sha256"], unique=True)
    op.create_table(
        "load",
        sa.Column("id", BIG, primary_key=True, autoincrement=False, comment="its number"),
        sa.Column("file", BIG, nullable=False, comment="what is loaded"),
        sa.Column("delivery", BIG, nullable=False, comment="for which delivery"),
        sa.Column(
            "base",
            BIG,
            nullable=False,
            comment="itself; for a replay the load whose quarantine it reads",
        ),
        sa.Column("kind", sa.Text(), nullable=False, comment="load or replay"),
        sa.Column(
            "state", sa.Text(), nullable=False, comment="open, published, undone, rejected, dead"
        ),
        sa.Column("lease_token", sa.Text(), comment="only who holds it may append and publish"),
        sa.Column("lease_until", Stamp(), comment="when an open load counts as dead"),
        sa.Column("parser_version", sa.Text(), nullable=False, comment="version of nemflow"),
        sa.Column("profile", sa.Text(), nullable=False, comment="rule profile"),
        sa.Column(
            "days_read",
            BIG,
            nullable=False,
            server_default="0",
            comment="NMI-suffix-days the file holds",
        ),
        sa.Column(
            "days_stored",
            BIG,
            nullable=False,
            server_default="0",
            comment="NMI-suffix-days whose content did not stand before",
        ),
        sa.Column(
            "days_unchanged",
            BIG,
            nullable=False,
            server_default="0",
            comment="NMI-suffix-days claimed again with content that stood already",
        ),
        sa.Column(
            "days_rejected",
            BIG,
            nullable=False,
            server_default="0",
            comment="NMI-suffix-days in the quarantine",
        ),
        sa.Column(
            "reads_read",
            BIG,
            nullable=False,
            server_default="0",
            comment="register reads the file holds",
        ),
        sa.Column(
            "reads_stored",
            BIG,
            nullable=False,
            server_default="0",
            comment="register reads whose content did not stand before",
        ),
        sa.Column(
            "reads_unchanged",
            BIG,
            nullable=False,
            server_default="0",
            comment="register reads claimed again with content that stood already",
        ),
        sa.Column(
            "reads_rejected",
            BIG,
            nullable=False,
            server_default="0",
            comment="register reads in the quarantine",
        ),
        sa.Column("started_at", Stamp(), nullable=False, comment="when it began"),
        sa.Column("finished_at", Stamp(), comment="when it was published, rejected or cleared"),
        comment="One attempt to put a file's days into the store; invisible until published.",
    )
    op.create_index("load_by_delivery", "load", ["delivery"])
    op.create_index("load_by_file", "load", ["file"])
    op.create_index(
        "load_open",
        "load",
        ["state"],
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "load_event",
        sa.Column(
            "seq", BIG, nullable=False, comment="commit number; loads of one commit share it"
        ),
        sa.Column("load", BIG, nullable=False, comment="which load"),
        sa.Column("kind", sa.Text(), nullable=False, comment="published, undone, redone"),
        sa.Column("at", Stamp(), nullable=False, comment="clock.at of that commit"),
        comment="A load was published, undone or redone; append-only. Makes 'as known on' exact.",
    )
    op.create_index("load_event_by_at", "load_event", ["at", "seq"])
    op.create_index("load_event_by_load", "load_event", ["load", "seq", "kind"])
    op.create_index("load_event_by_seq", "load_event", ["seq"])
    op.create_table(
        "day_content",
        sa.Column("nmi", KEY, nullable=False, comment="the NMI, 10 characters"),
        sa.Column("day", Day(), nullable=False, comment="the day, market time"),
        sa.Column("suffix", KEY, nullable=False, comment="the stream: E1, B1, Q1"),
        sa.Column(
            "content_hash",
            KEY,
            nullable=False,
            comment="over values, qualities, spans, unit, length",
        ),
        sa.Column("uom", sa.Text(), nullable=False, comment="unit, canonical spelling"),
        sa.Column("interval_minutes", sa.Integer(), nullable=False, comment="5, 15 or 30"),
        sa.Column("scale", sa.Integer(), nullable=False, comment="decimals of the scaled values"),
        sa.Column(
            "scaled_values", IntegerValues(), comment="integers scaled by ``scale``, null = missing"
        ),
        sa.Column(
            "exact_values", sa.Text(), comment="JSON decimals as text, for a day that overflows"
        ),
        sa.Column(
            "quality", sa.Text(), nullable=False, comment="flag of the 300: A, E, S, F, V, N"
        ),
        sa.Column("method", sa.Text(), comment="two-digit method of the 300"),
        sa.Column("reason_code", sa.Integer(), comment="reason of the 300"),
        sa.Column("reason_text", sa.Text(), comment="reason description of the 300"),
        sa.Column(
            "spans",
            sa.Text(),
            nullable=False,
            comment="the 400s: JSON rows of start, end, quality, method, reason code, reason text",
        ),
        sa.Column("load", BIG, nullable=False, comment="the load that brought it first"),
        comment="One distinct content of a day, stored once however often it is delivered.",
        postgresql_partition_by="RANGE (day)",
    )
    op.create_index("day_content_by_key", "day_content", ["nmi", "day", "suffix", "content_hash"])
    op.create_index("day_content_by_load", "day_content", ["load"])
    op.create_table(
        "day_claim",
        sa.Column("nmi", KEY, nullable=False, comment="the NMI, 10 characters"),
        sa.Column("day", Day(), nullable=False, comment="the day, market time"),
        sa.Column("suffix", KEY, nullable=False, comment="the stream: E1, B1, Q1"),
        sa.Column("version_at", Stamp(), comment="UpdateDateTime, else the file's DateTime"),
        sa.Column("file_at", Stamp(), comment="DateTime of the 100 it came under"),
        sa.Column("content_hash", KEY, nullable=False, comment="which content"),
        sa.Column("load", BIG, nullable=False, comment="which load says so"),
        sa.Column("line", BIG, nullable=False, comment="line of the 300 in the file"),
        sa.Column(
            "version_derived", sa.Boolean(), nullable=False, comment="no usable UpdateDateTime"
        ),
        sa.Column("total", BIG, comment="sum of the scaled values; null: overflows"),
        sa.Column("scale", sa.Integer(), nullable=False, comment="decimals of total"),
        sa.Column("missing", sa.Integer(), nullable=False, comment="intervals without a value"),
        sa.Column("quality", sa.Text(), nullable=False, comment="weakest quality of the day"),
        sa.Column("register_id", sa.Text(), comment="RegisterID of the 200"),
        sa.Column("meter_serial", sa.Text(), comment="MeterSerialNumber of the 200"),
        sa.Column("mdm_stream", sa.Text(), comment="MDMDataStreamIdentifier of the 200"),
        sa.Column("nmi_configuration", sa.Text(), comment="NMIConfiguration of the 200"),
        sa.Column("next_scheduled_read", Day(), comment="NextScheduledReadDate of the 200"),
        sa.Column("msats_at", Stamp(), comment="MSATSLoadDateTime: a receipt, decides nothing"),
        comment="One delivery's word on a day: it had this content, as of this version.",
        postgresql_partition_by="RANGE (day)",
    )
    op.create_index(
        "day_claim_by_key",
        "day_claim",
        ["nmi", "day", "suffix", "version_at", "file_at", "content_hash", "load"],
    )
    op.create_index("day_claim_by_load", "day_claim", ["load"])
    op.create_table(
        "register_read",
        sa.Column("nmi", KEY, nullable=False, comment="the NMI"),
        sa.Column("suffix", KEY, nullable=False, comment="NMISuffix: 11, 41"),
        sa.Column("register_id", KEY, comment="RegisterID"),
        sa.Column("meter_serial", KEY, comment="MeterSerialNumber"),
        sa.Column("previous_at", Stamp(), comment="PreviousRegisterReadDateTime: the period's key"),
        sa.Column("version_at", Stamp(), comment="UpdateDateTime, else the file's DateTime"),
        sa.Column("file_at", Stamp(), comment="DateTime of the 100 it came under"),
        sa.Column(
            "content_hash",
            KEY,
            nullable=False,
            comment="over everything but the receipt stamp",
        ),
        sa.Column("load", BIG, nullable=False, comment="which load says so"),
        sa.Column("line", BIG, nullable=False, comment="line of the 250 in the file"),
        sa.Column(
            "version_derived", sa.Boolean(), nullable=False, comment="no usable UpdateDateTime"
        ),
        sa.Column("nmi_configuration", sa.Text(), comment="NMIConfiguration"),
        sa.Column("mdm_stream", sa.Text(), comment="MDMDataStreamIdentifier"),
        sa.Column("direction", sa.Text(), comment="E: to the customer, I: from the customer"),
        sa.Column("previous_read", sa.Text(), comment="as displayed, zeros kept"),
        sa.Column("previous_quality_method", sa.Text(), comment="quality of the previous read"),
        sa.Column("previous_reason_code", sa.Integer(), comment="reason of the previous read"),
        sa.Column(
            "previous_reason_text", sa.Text(), comment="reason description of the previous read"
        ),
        sa.Column("current_read", sa.Text(), comment="as displayed, zeros kept"),
        sa.Column("current_at", Stamp(), comment="CurrentRegisterReadDateTime"),
        sa.Column("current_quality_method", sa.Text(), comment="quality of the current read"),
        sa.Column("current_reason_code", sa.Integer(), comment="reason of the current read"),
        sa.Column(
            "current_reason_text", sa.Text(), comment="reason description of the current read"
        ),
        sa.Column("quantity", Exact(), comment="Quantity, exact"),
        sa.Column("uom", sa.Text(), comment="unit, canonical spelling"),
        sa.Column("next_scheduled_read", Day(), comment="NextScheduledReadDate"),
        sa.Column("update_at", Stamp(), comment="UpdateDateTime as given"),
        sa.Column("msats_at", Stamp(), comment="MSATSLoadDateTime: a receipt, decides nothing"),
        comment="One NEM13 period claim; reads kept as text exactly as displayed.",
    )
    op.create_index(
        "register_read_by_key",
        "register_read",
        [
            "nmi",
            "suffix",
            "register_id",
            "meter_serial",
            "previous_at",
            "version_at",
            "file_at",
            "content_hash",
            "load",
        ],
    )
    op.create_index("register_read_by_load", "register_read", ["load"])
    op.create_table(
        "service_event",
        sa.Column("nmi", KEY, nullable=False, comment="the NMI"),
        sa.Column("suffix", KEY, comment="the stream"),
        sa.Column("register_id", sa.Text(), comment="RegisterID"),
        sa.Column("day", Day(), comment="day of the 300 above; null for a 550"),
        sa.Column("load", BIG, nullable=False, comment="which load says so"),
        sa.Column("line", BIG, nullable=False, comment="line of the 500 or 550"),
        sa.Column(
            "parent_line", BIG, comment="line of the 300 or 250 above; its claim decides visibility"
        ),
        sa.Column("record", sa.Integer(), nullable=False, comment="500 or 550"),
        sa.Column("trans_code", sa.Text(), comment="TransCode; CurrentTransCode of a 550"),
        sa.Column(
            "service_order", sa.Text(), comment="RetServiceOrder; CurrentRetServiceOrder of a 550"
        ),
        sa.Column("read_at", Stamp(), comment="ReadDateTime of a 500"),
        sa.Column("index_read", sa.Text(), comment="IndexRead of a 500, as displayed"),
        sa.Column("previous_trans_code", sa.Text(), comment="PreviousTransCode of a 550"),
        sa.Column("previous_service_order", sa.Text(), comment="PreviousRetServiceOrder of a 550"),
        comment="One 500 or 550 record.",
    )
    op.create_index("service_event_by_load", "service_event", ["load"])
    op.create_index("service_event_by_nmi", "service_event", ["nmi", "day"])
    op.create_table(
        "quarantine",
        sa.Column(
            "id",
            BIG,
            primary_key=True,
            autoincrement=False,
            comment="its number, the one replay takes",
        ),
        sa.Column("file", BIG, nullable=False, comment="which file"),
        sa.Column("load", BIG, nullable=False, comment="which attempt refused it"),
        sa.Column("line", BIG, nullable=False, comment="line of the record in the file"),
        sa.Column("record", sa.Text(), nullable=False, comment="300 or 250"),
        sa.Column("nmi", sa.Text(), comment="as far as it can be read"),
        sa.Column("suffix", sa.Text(), comment="as far as it can be read"),
        sa.Column("day", Day(), comment="as far as it can be read"),
        sa.Column(
            "rules", sa.Text(), nullable=False, comment="JSON: the rule ids that keep it out"
        ),
        sa.Column(
            "raw",
            sa.Text(),
            nullable=False,
            comment="the record and the 400, 500 or 550 lines below it",
        ),
        sa.Column("context", sa.Text(), comment="the 100 and 200 lines it stood under"),
        sa.Column(
            "attempts", sa.Integer(), nullable=False, server_default="0", comment="replays tried"
        ),
        sa.Column("resolved_by", BIG, comment="the replay load that took it in"),
        sa.Column("resolved_at", Stamp(), comment="when"),
        sa.Column("created_at", Stamp(), nullable=False, comment="when it was refused"),
        comment="One rejected record, with all that is needed to read it again alone.",
    )
    op.create_index("quarantine_by_file", "quarantine", ["file"])
    op.create_index("quarantine_by_load", "quarantine", ["load"])
    op.create_table(
        "finding",
        sa.Column("load", BIG, nullable=False, comment="which attempt"),
        sa.Column("line", BIG, comment="line in the file; null: the whole file"),
        sa.Column("block", BIG, comment="which 100 ... 900 block"),
        sa.Column("record", sa.Text(), comment="record indicator"),
        sa.Column("field", sa.Text(), comment="field name"),
        sa.Column("value", sa.Text(), comment="what stood there"),
        sa.Column("rule", sa.Text(), nullable=False, comment="rule id"),
        sa.Column(
            "severity", sa.Text(), nullable=False, comment="F, D or W under the profile used"
        ),
        sa.Column("message", sa.Text(), comment="what is wrong and what was expected"),
        sa.Column("todo", sa.Text(), comment="what to do"),
        sa.Column("raw", sa.Text(), comment="the raw line, its first 200 characters"),
        comment="One rule met at one place.",
    )
    op.create_index("finding_by_load", "finding", ["load", "line"])
    op.create_table(
        "audit",
        sa.Column("id", BIG, primary_key=True, autoincrement=False, comment="its number"),
        sa.Column("at", Stamp(), nullable=False, comment="when"),
        sa.Column("who", sa.Text(), comment="person or key"),
        sa.Column("act", sa.Text(), nullable=False, comment="undo, redo, replay"),
        sa.Column("target", sa.Text(), nullable=False, comment="what it was done to: delivery 7"),
        sa.Column("detail", sa.Text(), comment="JSON: ids and counts"),
        comment="One act by a person or key. Append-only.",
    )
    op.create_index("audit_by_at", "audit", ["at"])
    clock = sa.table("clock", sa.column("id"), sa.column("seq"), sa.column("at"))
    op.bulk_insert(clock, [{"id": 1, "seq": 0, "at": "1970-01-01T10:00:00+10:00"}])
    if op.get_bind().dialect.name == "postgresql":
        _number_blocks()


#: Moves a sequence on by a block. The lock is let go at once, not at the end of the transaction,
#: so that nobody waits for another's load to get a number.
_RESERVE = """
CREATE FUNCTION nemflow_reserve(sequence text, count bigint, lock bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE first bigint;
BEGIN
  PERFORM pg_advisory_lock(lock);
  BEGIN
    first := nextval(sequence::regclass);
    PERFORM setval(sequence::regclass, first + greatest(count, 1) - 1);
  EXCEPTION WHEN OTHERS THEN
    PERFORM pg_advisory_unlock(lock);
    RAISE;
  END;
  PERFORM pg_advisory_unlock(lock);
  RETURN first;
END $$
"""


def _number_blocks() -> None:
    """PostgreSQL: sequences for the numbers of ledger rows, drawn in blocks."""
    for table in ("delivery", "file", "load", "quarantine", "audit"):
        op.execute(f"CREATE SEQUENCE {table}_number")
    op.execute(_RESERVE)
