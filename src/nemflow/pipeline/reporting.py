"""Reporting: what the sender of a delivery is told, as JSON, as CSV, as aseXML acknowledgements.

Why: a refusal is of use only when the sender reads in it what to mend: which file, which line,
which NMI and day, which rule, what was expected.

Promises: a report says of every text what became of it, and its counts are those of the ledger; it
can be had again at any time, and is the same while nothing new happens to the delivery.
Acknowledgements are written to the outbox whole, under names that do not change, so writing them
twice is writing them once.

Look next: ``nemflow.mdff.acknowledgements`` for the answers' content.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from nemflow.errors import FileRefused, SpoolFault, UsageError
from nemflow.intake.archive import Limits, Refused, members
from nemflow.mdff import acknowledgements as answers
from nemflow.mdff import asexml
from nemflow.plain import spreadsheet_safe
from nemflow.store import history, told
from nemflow.store.ledger import COUNTS

if TYPE_CHECKING:
    from nemflow.mdff.asexml import Message
    from nemflow.store import Store

#: So many findings are in a report; the store has all of them.
FINDINGS_TOLD: Final = 10_000
_SAID: Final = (
    "delivery", "name", "state", "sender", "channel", "profile", "sha256", "size", "duplicate_of",
    "dry_run", "received_at", "finished_at", "error",
)  # fmt: skip
#: The columns of the CSV, in order.
CSV_COLUMNS: Final = (
    "delivery", "source", "state", "line", "record", "nmi", "suffix", "day", "field", "value",
    "rule", "severity", "message", "todo", "raw",
)  # fmt: skip
_RULE: Final = re.compile(r"[A-Z]\d{3}(?=:)")
_SAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a delivery, in plain values."""

    delivery: Mapping[str, Any]  #: what it is and where it stands
    files: Sequence[Mapping[str, Any]]  #: each text in it: source, state, counts, error
    findings: Sequence[Mapping[str, Any]]  #: columns of the CSV, at most ``FINDINGS_TOLD``
    complete: bool  #: all findings are listed
    not_checked: Sequence[str] = ()  #: rules that nobody could check: we did not say who we are

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; instants and days as ISO text."""
        return {
            **self.delivery,
            "files": [dict(each) for each in self.files],
            "findings": [dict(each) for each in self.findings],
            "complete": self.complete,
            "not_checked": list(self.not_checked),
        }

    def json(self) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def csv(self) -> str:
        """One line per finding, and one for each text that was refused without any.

        A text that a spreadsheet would run as a formula gets a leading ``'``.
        """
        rows = [{name: each.get(name) for name in CSV_COLUMNS} for each in self.findings]
        explained = {each["source"] for each in self.findings}
        for each in self.files:
            if each["error"] and each["source"] not in explained:
                rule = _RULE.match(each["error"])
                row = dict.fromkeys(CSV_COLUMNS) | {
                    "delivery": each["delivery"],
                    "source": each["source"],
                    "state": each["state"],
                    "rule": rule[0] if rule else None,
                    "severity": "F",
                    "message": each["error"],
                }
                rows.append(row)
        schema = dict.fromkeys(CSV_COLUMNS, pl.String) | {"delivery": pl.Int64, "line": pl.Int64}
        frame = pl.DataFrame(rows, schema=schema, orient="row")
        return spreadsheet_safe(frame).write_csv()


def report_of(store: Store, delivery: int) -> Report:
    """The report on a delivery, as it stands now.

    Raises:
        NotFound: there is no such delivery.
    """
    backend = store.backend
    with backend.reading() as conn:
        itself = history.one_delivery(conn, backend, delivery)
        inside = history.deliveries(conn, backend, states=None, parent=delivery, limit=None)
        found = told.findings(conn, backend, delivery, FINDINGS_TOLD + 1)
        way = history.timeline(conn, backend, delivery)
    top = itself.row(0, named=True)
    about = {name: _plain(top[name]) for name in _SAID}
    not_checked = json.loads(top["inspected"] or "{}").get("not_checked", [])
    if top["dry_run"]:
        files, rows = _of_dry_run(way, delivery)
        return Report(about, files, rows[:FINDINGS_TOLD], len(rows) <= FINDINGS_TOLD, not_checked)
    frame = inside.sort("delivery") if inside.height else itself
    files = [_file(row) for row in frame.iter_rows(named=True)]
    states = {each["delivery"]: each["state"] for each in files}
    rows = [
        {name: _plain(row.get(name, states.get(row["delivery"]))) for name in CSV_COLUMNS}
        for row in found.head(FINDINGS_TOLD).iter_rows(named=True)
    ]
    return Report(about, files, rows, found.height <= FINDINGS_TOLD, not_checked)


def _file(row: Mapping[str, Any]) -> dict[str, Any]:
    """One text of a delivery, from its row of ``Store.deliveries``."""
    counts = {
        of: {name.partition("_")[2]: row[name] or 0 for name in COUNTS if name.startswith(of)}
        for of in ("days", "reads")
    }
    return {
        "source": row["name"],
        "state": row["state"],
        "delivery": row["delivery"],
        "file": row["file"],
        "sha256": row["sha256"],
        "duplicate_of": row["duplicate_of"],
        **counts,
        "error": row["error"],
    }


def _of_dry_run(
    way: pl.DataFrame, delivery: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a dry run has left: its account is on the timeline only."""
    details = way.filter(pl.col("step") == "load")["detail"].drop_nulls()
    if details.is_empty():
        return [], []
    files, rows = [], []
    for each in json.loads(details[-1]).get("files", []):
        findings = each.pop("findings")
        files.append({**each, "delivery": delivery})
        rows += [
            {name: one.get(name) for name in CSV_COLUMNS}
            | {"delivery": delivery, "source": each["source"], "state": each["state"]}
            for one in findings
        ]
    return files, rows


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    return value.isoformat() if isinstance(value, date | datetime) else value


# -- acknowledgements -----------------------------------------------------------------------------


def acknowledge(
    store: Store,
    delivery: int,
    original: Path,
    outbox: Path,
    *,
    limits: Limits | None = None,
    xml_limits: asexml.XmlLimits = asexml.DEFAULT_LIMITS,
) -> list[Path]:
    """Write the answers to every aseXML message in a delivery that is done.

    Args:
        store: whose ledger knows what became of it.
        delivery: its number.
        original: where its original lies.
        outbox: the folder they go to, made when it is not there.
        limits: how far archives are opened.
        xml_limits: how much of a message is read.

    Returns:
        The files: for each message ``<delivery>-<n>-message.xml``, and for each transaction with
        meter data ``<delivery>-<n>-<transaction id>.xml``. None for what is no aseXML message, or
        says too little to be answered.

    Raises:
        SpoolFault: the outbox cannot be written.
    """
    name = str(store.delivery(delivery)["name"][0])
    written: list[Path] = []
    messages = _messages(original, name, limits or Limits(), xml_limits)
    account: _Account | None = None
    for n, message in enumerate(messages, 1):
        account = account or _Account(store, delivery)
        for ending, answer in _answers(account, message, n):
            path = outbox / f"{delivery}-{n}-{_SAFE.sub('_', ending)[:60]}.xml"
            _write(path, answer)
            written.append(path)
    return written


def _messages(
    path: Path, name: str, limits: Limits, xml_limits: asexml.XmlLimits
) -> Iterator[Message]:
    for member in members(path, name=name, limits=limits):
        if isinstance(member, Refused):
            continue
        with member:
            if member.kind != "xml":
                continue
            try:
                with member.open() as stream:
                    yield asexml.read_message(stream, source=member.name, limits=xml_limits)
            except FileRefused:
                continue  # no meter data, or nobody we could answer


class _Account:
    """What became of each text of a delivery, by its name."""

    def __init__(self, store: Store, delivery: int) -> None:
        self.report = report_of(store, delivery)
        self.files = {each["source"]: each for each in self.report.files}
        self.delivery = delivery
        self.at = datetime.fromisoformat(
            self.report.delivery["finished_at"] or self.report.delivery["received_at"]
        )

    def findings_of(self, names: Sequence[str]) -> pl.DataFrame:
        """Findings of these texts, as ``acknowledgements.events_of`` takes them."""
        rows = [each for each in self.report.findings if each["source"] in names]
        schema: Mapping[str, Any] = dict.fromkeys(CSV_COLUMNS, pl.String) | {
            "delivery": pl.Int64,
            "line": pl.Int64,
        }
        return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
            block=pl.lit(1, pl.Int64)
        )


def _answers(account: _Account, message: Message, n: int) -> Iterator[tuple[str, bytes]]:
    """The message's acknowledgement and those of its transactions: how each is called, its XML."""
    texts: dict[str, list[str]] = {}
    envelopes = {}
    for payload in message.payloads:
        transaction = payload.envelope.transaction_id or "payload"
        source = f"{message.source}#{transaction}"
        before = texts.setdefault(transaction, [])
        before.append(source if not before else f"{source} ({len(before) + 1})")
        envelopes[transaction] = payload.envelope
    known = {
        name: [each for each in names if each in account.files] for name, names in texts.items()
    }
    every = [account.files[each] for names in known.values() for each in names]
    duplicate = bool(every) and all(each["state"] == "duplicate" for each in every)
    receipt = f"NEMFLOW-{account.delivery}"
    try:
        yield (
            "message",
            answers.message_acknowledgement(
                message.header,
                message_id=f"{receipt}-{n}-M",
                at=account.at,
                receipt_id=receipt,
                duplicate=duplicate,
            ),
        )
    except UsageError:
        return  # it says neither who it is nor who sent it
    for k, (transaction, names) in enumerate(known.items(), 1):
        files = [account.files[each] for each in names]
        if not files:
            continue
        counts = [each[of] for each in files for of in ("days", "reads")]
        accepted = sum(each["stored"] + each["unchanged"] for each in counts)
        rejected = sum(each["rejected"] for each in counts)
        refused = all(each["state"] in ("rejected", "dead", "cancelled") for each in files)
        findings = account.findings_of(names)
        places = findings.filter(pl.col("nmi").is_not_null()).select(
            "source", "block", "line", "nmi", "suffix", pl.col("day").str.to_date(strict=False)
        )
        try:
            yield (
                transaction,
                answers.transaction_acknowledgement(
                    envelopes[transaction],
                    message_id=f"{receipt}-{n}-{k}",
                    at=account.at,
                    status=answers.status_of(accepted, rejected, refused=refused),
                    accepted_count=accepted,
                    receipt_id=receipt,
                    duplicate=all(each["state"] == "duplicate" for each in files),
                    events=answers.events_of(
                        findings.drop("nmi", "suffix", "day"), places.unique(["source", "line"])
                    ),
                ),
            )
        except UsageError:
            continue


def _write(path: Path, data: bytes) -> None:
    """Write a file whole, on the disk. Raises SpoolFault."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise SpoolFault(
            f"The outbox cannot be written: {path}: {error.strerror or error}.",
            hint="Check spool.outbox, its permissions and its disk.",
        ) from error
