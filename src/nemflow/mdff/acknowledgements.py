"""The answers to an aseXML message: message and transaction acknowledgements.

Why: every message and every transaction must be answered, and a refusal is only useful when
the sender reads in it which NMI, which day and what to mend.

Promises: one document per answer, because message acknowledgements travel their own way; a
severity on every event, because one left out means Fatal; the same arguments give the same
bytes. Rules: spec sections 8.7 and 8.8.
Where to look next: ``asexml`` reads the messages; docs/asexml.md explains the table of codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree as ET

from nemflow.errors import UsageError
from nemflow.mdff.asexml import NOT_XML, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from nemflow.mdff.asexml import Envelope

Status = Literal["Accept", "Partial", "Reject"]
Severity = Literal["Information", "Warning", "Error", "Fatal"]

#: Event code per rule id; every other rule is answered with OTHER_EVENT. To change an answer,
#: change this table. Unverified [K, spec section 8.8]: the numbers of AEMO's procedures were
#: not at hand, so only 0, 2 and 202 are used until someone has checked the rest.
EVENT_CODES: dict[str, int] = {"F001": 2, "F018": 2}
OTHER_EVENT = 202
#: The description written beside each code.
EVENT_TEXTS: dict[int, str] = {0: "Success", 2: "Schema validation failure", 202: "Invalid data"}
#: Most events in one answer; a message should stay below 1 MB (spec section 8.6).
EVENT_LIMIT = 1000

_BELOW_A_DAY = ("400", "500", "550")
_SEVERITIES: dict[str, Severity] = {"F": "Fatal", "D": "Error", "W": "Warning"}
_MARKET_TIME = timezone(timedelta(hours=10))


@dataclass(frozen=True, slots=True)
class Event:
    """One thing to say in an acknowledgement (spec section 8.7)."""

    code: int
    explanation: str
    severity: Severity  #: always written: left out it would mean Fatal
    event_class: Literal["Message", "Application", "Processing"] = "Application"
    key_info: str = ""  #: the NMI
    context: str = ""  #: suffix and day, at most 80 characters


def status_of(accepted: int, rejected: int, *, refused: bool = False) -> Status:
    """Accept, Partial or Reject, from how many days were accepted and rejected.

    ``refused``: a rule of class F keeps out the file as a whole.
    """
    if refused or (rejected and not accepted):
        return "Reject"
    return "Partial" if rejected else "Accept"


def events_of(
    findings: pl.DataFrame,
    places: pl.DataFrame | None = None,
    *,
    warnings: bool = True,
    codes: Mapping[str, int] = EVENT_CODES,
    limit: int = EVENT_LIMIT,
) -> list[Event]:
    """Findings as events, the gravest first, then by source and line.

    Args:
        findings: columns source, line, block, record, rule, severity (F, D or W), message, raw.
        places: where each line belongs: source, line, block, nmi, suffix, day (Date), one row
            per 300 or 250, e.g. from ``data.days``. A 400 or 500 belongs to the row above it.
        warnings: False leaves out class W.
        codes: event code per rule id.
        limit: most events; one more then says how many were left out.
    """
    import polars as pl

    rank = pl.col("severity").replace_strict(
        {"F": 0, "D": 1, "W": 2}, default=None, return_dtype=pl.UInt8
    )
    told = findings.with_columns(rank=rank).filter(pl.col("rank") <= (2 if warnings else 1))
    shown = told.sort("rank", "source", "line", "rule", nulls_last=False, maintain_order=True)
    events = [_event(row, codes) for row in _placed(shown.head(limit), places)]
    if told.height > limit:
        more = told.height - limit
        events.append(Event(OTHER_EVENT, f"{more:,} more findings are not listed.", "Information"))
    return events


def _placed(findings: pl.DataFrame, places: pl.DataFrame | None) -> list[dict[str, Any]]:
    """The findings as rows, with nmi, suffix and day (CCYYMMDD) where they are known."""
    import polars as pl

    if places is None:
        nothing = {name: pl.lit(None) for name in ("at", "nmi", "suffix", "day")}
        return findings.with_columns(**nothing).to_dicts()
    above = places.select(
        "source", "block", "line", "nmi", "suffix", pl.col("day").dt.strftime("%Y%m%d"),
        at="line",
    ).sort("line")  # fmt: skip
    return (
        findings.with_columns(pl.col("line").fill_null(0))
        .with_row_index("order")
        .sort("line")
        .join_asof(above, on="line", by=["source", "block"], check_sortedness=False)
        .sort("order")
        .to_dicts()
    )


def _event(row: dict[str, Any], codes: Mapping[str, int]) -> Event:
    record, fields = row["record"], (row["raw"] or "").split(",")
    nmi, suffix, day = row["nmi"], row["suffix"], row["day"]
    if record not in _BELOW_A_DAY and row["at"] != row["line"]:
        nmi = suffix = day = None  # the row above is another day
    if record in ("200", "250") and len(fields) > 4:
        nmi, suffix = nmi or fields[1], suffix or fields[4]
    if record == "300" and len(fields) > 1:
        day = day or fields[1]
    where = f"{row['rule']} line {row['line']}" if row["line"] else row["rule"]
    return Event(
        codes.get(row["rule"], OTHER_EVENT),
        f"{where}: {row['message']}",
        _SEVERITIES[row["severity"]],
        key_info=nmi or "",
        context=" ".join(part for part in (suffix, day) if part),
    )


def message_acknowledgement(
    envelope: Envelope,
    *,
    message_id: str,
    at: datetime,
    status: Literal["Accept", "Reject"] = "Accept",
    receipt_id: str | None = None,
    duplicate: bool = False,
    events: Sequence[Event] = (),
) -> bytes:
    """The answer "your message arrived and is readable": one aseXML document, UTF-8.

    Args:
        envelope: the message's facts (``message.header``); sender and receiver change places.
        message_id: of this answer, 1 to 36 characters, unique for us.
        at: when we answer, with a time zone; written in market time.
        status: Accept or Reject; only a transaction can be accepted in part.
        receipt_id: our promise to process; not written with Reject.
        duplicate: the same message had come before.
        events: what is wrong, if anything.

    Raises:
        UsageError: an id is missing or too long, or ``at`` has no time zone.
    """
    if status not in ("Accept", "Reject"):
        raise UsageError(f"A message is answered with Accept or Reject, not {status!r}.")
    initiating = {"initiatingMessageID": _id("message", envelope.message_id)}
    return _document(
        ET.Element("MessageAcknowledgement", initiating),
        envelope,
        group="MSGS",
        message_id=message_id,
        at=at,
        status=status,
        receipt_id=receipt_id,
        duplicate=duplicate,
        events=events,
    )


def transaction_acknowledgement(
    envelope: Envelope,
    *,
    message_id: str,
    at: datetime,
    status: Status,
    accepted_count: int | None = None,
    receipt_id: str | None = None,
    duplicate: bool = False,
    events: Sequence[Event] = (),
) -> bytes:
    """The answer "the content of your transaction was checked": one aseXML document, UTF-8.

    Args:
        envelope: the transaction's facts (``payload.envelope``).
        message_id: of this answer, 1 to 36 characters, unique for us.
        at: when we answer, with a time zone; written in market time.
        status: see ``status_of``.
        accepted_count: how many days were accepted; written when given.
        receipt_id: our promise to process; not written with Reject.
        duplicate: the same transaction had come before.
        events: see ``events_of``.

    Raises:
        UsageError: an id is missing or too long, or ``at`` has no time zone.
    """
    initiating = {"initiatingTransactionID": _id("transaction", envelope.transaction_id)}
    answer = ET.Element("TransactionAcknowledgement", initiating)
    if accepted_count is not None:
        answer.set("acceptedCount", str(accepted_count))
    return _document(
        answer,
        envelope,
        group=envelope.transaction_group or "MTRD",
        message_id=message_id,
        at=at,
        status=status,
        receipt_id=receipt_id,
        duplicate=duplicate,
        events=events,
    )


def _document(
    answer: ET.Element,
    envelope: Envelope,
    *,
    group: str,
    message_id: str,
    at: datetime,
    status: Status,
    receipt_id: str | None,
    duplicate: bool,
    events: Sequence[Event],
) -> bytes:
    """The answer with what both kinds have in common, in a message of its own."""
    if receipt_id is not None and status != "Reject":
        answer.set("receiptID", _id("receipt", receipt_id))
    answer.set("receiptDate", _stamp(at))
    answer.set("status", status)
    answer.set("duplicate", "Yes" if duplicate else "No")
    for event in events:
        _write_event(answer, event)
    root = ET.Element("ase:aseXML", {"xmlns:ase": f"urn:aseXML:{envelope.release or 'r43'}"})
    header = ET.SubElement(root, "Header")
    for tag, text in {
        "From": _id("receiver", envelope.receiver),
        "To": _id("sender", envelope.sender),
        "MessageID": _id("message", message_id),
        "MessageDate": _stamp(at),
        "TransactionGroup": group,
        "Priority": envelope.priority or "Low",
        "Market": envelope.market or "NEM",
    }.items():
        ET.SubElement(header, tag).text = one_line(text)
    ET.SubElement(root, "Acknowledgements").append(answer)
    ET.indent(root)
    xml: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return xml + b"\n"


def _write_event(answer: ET.Element, event: Event) -> None:
    element = ET.SubElement(
        answer, "Event", {"class": event.event_class, "severity": event.severity}
    )
    description = EVENT_TEXTS.get(event.code)
    code = ET.SubElement(element, "Code", {"description": description} if description else {})
    code.text = str(event.code)
    for tag, text, length in (
        ("KeyInfo", event.key_info, 80),
        ("Context", event.context, 80),
        ("Explanation", event.explanation, 1000),
    ):
        if text:
            ET.SubElement(element, tag).text = one_line(text, length)


def _id(what: str, value: str | None) -> str:
    if value is None or not 1 <= len(value) <= 36 or NOT_XML.search(value):
        raise UsageError(
            f"The {what} id {one_line(value or '')!r} cannot be used in an acknowledgement.",
            hint="It needs 1 to 36 characters.",
        )
    return value


def _stamp(at: datetime) -> str:
    if at.tzinfo is None:
        raise UsageError("The time of an acknowledgement needs a time zone.")
    return at.astimezone(_MARKET_TIME).isoformat(timespec="milliseconds")
