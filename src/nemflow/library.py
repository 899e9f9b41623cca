"""For people with a file and no store: read, scan, check, write, generate.

Why: intake opens whatever bytes come, mdff understands them; this module joins the two, so
that a file, a zip of zips or an aseXML message all read in one call.

Promises: nothing but nemflow's own errors is raised; a bad member of an archive or a bad file
of a folder is in the findings and does not keep the others from being read; memory of
:func:`scan` is bounded whatever the size.

Next: :mod:`nemflow.mdff.reader`, :mod:`nemflow.intake.archive`; docs/library.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from os import PathLike
from pathlib import PurePath
from typing import BinaryIO

import polars as pl

from nemflow.errors import FileRefused
from nemflow.intake.archive import Limits, Member, Refused, members
from nemflow.mdff import asexml
from nemflow.mdff.asexml import XmlLimits
from nemflow.mdff.generate import generate
from nemflow.mdff.meterdata import FINDINGS, MeterData
from nemflow.mdff.reader import Parser, Text
from nemflow.mdff.rules import RULES, severity
from nemflow.mdff.writer import write

__all__ = ["Report", "Source", "check", "generate", "read", "scan", "texts", "write"]

_One = str | PathLike[str] | bytes | BinaryIO
#: What can be read: a path (file or folder), bytes, a binary file object, or a list of these.
Source = _One | Sequence[_One]

#: Largest plausible value by (suffix or ``"*"``, unit).
ValueLimits = Mapping[tuple[str, str], Decimal]

#: Whole texts are put together until they reach this before they are parsed.
_BATCH_BYTES = 64 * 1024 * 1024
#: The default size of the pieces that ``scan`` hands out; some thirty times as much memory is used.
CHUNK_BYTES = 4 * 1024 * 1024


def read(
    source: Source,
    *,
    profile: str = "portal",
    exact: bool = False,
    limits: Limits | None = None,
    xml_limits: XmlLimits | None = None,
    now: datetime | None = None,
    value_limits: ValueLimits | None = None,
    participant: str | None = None,
) -> MeterData:
    """Read everything a source holds into frames.

    Args:
        source: a path (file or folder), bytes, a binary file object, or a list of them. Plain
            text, gzip, zip (also nested) and aseXML are told apart by content.
        profile: severities of the rules, ``"portal"`` (tolerant) or ``"b2b"`` (strict). It
            decides what a load would reject, never what is read.
        exact: whether ``readings()`` gives Decimal values instead of Float64.
        limits: how far archives are opened; default ``Limits()``.
        xml_limits: how much of an aseXML message is read; default ``XmlLimits()``.
        now: the moment of reading, aware; default the system clock.
        value_limits: largest plausible value by (suffix or ``"*"``, unit), for rule I007, e.g.
            ``{("E1", "kWh"): Decimal(500)}``; not checked without.
        participant: our participant id, for rule F008; not checked without.

    Returns:
        MeterData with every day that can be placed in time, market time UTC+10.

    Raises:
        FileRefused: nothing in the source could be read as MDFF; says why and what it may be.
        UsageError: the source does not exist, or an option is wrong.
    """
    parser = Parser(profile=profile, now=now, value_limits=value_limits, participant=participant)
    parts: list[MeterData] = []
    for batch in _batches(texts(source, limits=limits, xml_limits=xml_limits)):
        whole = [text for text in batch if isinstance(text, Text)]
        refused = [text for text in batch if isinstance(text, FileRefused)]
        if whole:
            parts.append(parser.feed(whole))
        parts.extend(refusal(error, profile) for error in refused)
    data = replace(MeterData.concat(parts), exact=exact)
    if data.refused and data.headers.is_empty():
        raise _as_one(data.refused)
    return data


def scan(
    source: Source,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    profile: str = "portal",
    exact: bool = False,
    limits: Limits | None = None,
    xml_limits: XmlLimits | None = None,
    now: datetime | None = None,
    value_limits: ValueLimits | None = None,
    participant: str | None = None,
) -> Iterator[MeterData]:
    """Read a source in pieces of about ``chunk_bytes``, in bounded memory.

    Pieces are cut between days, also when one 200 is the whole file; small files share a
    piece. Refused members come as MeterData that has only findings and ``refused``.

    Raises:
        FileRefused: nothing in the source could be read as MDFF.
        UsageError: the source does not exist, or an option is wrong.
    """
    parser = Parser(profile=profile, now=now, value_limits=value_limits, participant=participant)
    held: list[MeterData] = []  # refusals, until it is known that something can be read
    anything = False
    for data in _scanned(parser, source, chunk_bytes, limits, xml_limits):
        if not anything and data.headers.is_empty() and data.refused:
            held.append(data)
            continue
        anything = True
        for part in (*held, data):
            yield replace(part, exact=exact)
        held = []
    if held:
        raise _as_one(tuple(error for part in held for error in part.refused))


def _scanned(
    parser: Parser,
    source: Source,
    chunk_bytes: int,
    limits: Limits | None,
    xml_limits: XmlLimits | None,
) -> Iterator[MeterData]:
    small: list[Text] = []
    size = 0
    found = texts(source, limits=limits, xml_limits=xml_limits, whole_bytes=chunk_bytes)
    for text in found:
        if isinstance(text, FileRefused):
            yield refusal(text, parser.profile)
        elif isinstance(text.data, bytes):
            small.append(text)
            size += len(text.data)
            if size >= chunk_bytes:
                yield parser.feed(small)
                small, size = [], 0
        else:
            with text.data:
                yield from parser.chunks(text, chunk_bytes)
    if small:
        yield parser.feed(small)


@dataclass(frozen=True, eq=False)
class Report:
    """What a check found, and whether a load would take it.

    Attributes:
        findings: see ``MeterData.findings``.
        days_read: days that a load would account for, placed or not.
        days_rejected: those of them that it would leave out.
        reads_read: register periods; ``reads_rejected`` those that it would leave out.
        refused: sources that are no MDFF at all.
        profile: the rule profile used.
    """

    findings: pl.DataFrame
    days_read: int
    days_rejected: int
    reads_read: int
    reads_rejected: int
    refused: tuple[FileRefused, ...]
    profile: str

    @property
    def ok(self) -> bool:
        """Nothing would be refused or left out."""
        return not self.refused and not self.days_rejected and not self.reads_rejected

    def counts(self) -> pl.DataFrame:
        """How often each rule was met: rule, severity, count; worst first."""
        order = {"F": 0, "D": 1, "W": 2}
        return (
            self.findings.group_by("rule", "severity")
            .len("count")
            .sort(pl.col("severity").replace_strict(order, default=3), "rule")
        )

    def __repr__(self) -> str:
        return (
            f"<Report ({self.profile}): {self.days_read} days read, {self.days_rejected} rejected, "
            f"{self.reads_read} register reads, {self.reads_rejected} rejected, "
            f"{len(self.refused)} files refused, {self.findings.height} findings>"
        )


def check(
    source: Source,
    profile: str = "portal",
    *,
    limits: Limits | None = None,
    xml_limits: XmlLimits | None = None,
    now: datetime | None = None,
    value_limits: ValueLimits | None = None,
    participant: str | None = None,
) -> Report:
    """Say everything that is wrong with a source, in bounded memory.

    Raises:
        UsageError: the source does not exist, or the profile is not known. A source that is no
            MDFF is not an error here: it is in ``refused`` and in the findings.
    """
    parser = Parser(profile=profile, now=now, value_limits=value_limits, participant=participant)
    parts = [_Part.of(data) for data in _scanned(parser, source, CHUNK_BYTES, limits, xml_limits)]
    findings = pl.concat([pl.DataFrame(schema=FINDINGS), *(part.findings for part in parts)])
    refused = tuple(error for part in parts for error in part.refused)
    fatal = findings.filter(pl.col("severity") == "F")["source"].unique()
    counts = pl.concat([pl.DataFrame(schema=_COUNTS), *(part.counts for part in parts)])
    whole = pl.col("source").is_in(fatal.implode())
    total = counts.select(
        pl.col("days", "reads").sum(),
        pl.when(whole).then("days").otherwise("days_rejected").sum().alias("days_rejected"),
        pl.when(whole).then("reads").otherwise("reads_rejected").sum().alias("reads_rejected"),
    ).row(0, named=True)
    return Report(
        findings,
        days_read=total["days"],
        days_rejected=total["days_rejected"],
        reads_read=total["reads"],
        reads_rejected=total["reads_rejected"],
        refused=refused,
        profile=profile,
    )


_COUNTS = {
    "source": pl.String,
    "days": pl.Int64,
    "days_rejected": pl.Int64,
    "reads": pl.Int64,
    "reads_rejected": pl.Int64,
}


@dataclass(frozen=True, slots=True)
class _Part:
    """What a check keeps of a piece: no values."""

    findings: pl.DataFrame
    refused: tuple[FileRefused, ...]
    counts: pl.DataFrame

    @classmethod
    def of(cls, data: MeterData) -> _Part:
        """Count, per source, the days and register reads of a piece: read, and left out."""
        kept_out = pl.col("rejected_by").list.len() > 0
        of = {"300": "days", "250": "reads"}
        parts = []
        for record, name in of.items():
            frame = data.frame_days if record == "300" else data.register_reads
            lost = data.quarantine.filter(pl.col("record") == record)
            parts += [
                frame.filter(~kept_out).select("source", what=pl.lit(name)),
                lost.select("source", what=pl.lit(name)),
                lost.select("source", what=pl.lit(f"{name}_rejected")),
            ]
        # a twin of an earlier piece was counted there as read, but not as left out
        parts += [
            data.twins.filter(pl.col("record") == record).select(
                "source", what=pl.lit(f"{name}_rejected")
            )
            for record, name in of.items()
        ]
        counted = (
            pl.concat(parts)
            .group_by("source")
            .agg(
                (pl.col("what") == name).sum().cast(pl.Int64).alias(name)
                for name in _COUNTS
                if name != "source"
            )
        )
        return cls(data.findings, data.refused, counted)


# ---------------------------------------------------------------- from members to texts


def texts(
    source: Source,
    *,
    limits: Limits | None = None,
    xml_limits: XmlLimits | None = None,
    whole_bytes: int | None = None,
) -> Iterator[Text | FileRefused]:
    """Everything in a source that may be MDFF, with aseXML envelopes opened.

    Args:
        source: as for :func:`read`.
        limits: how far archives are opened.
        xml_limits: how much of an aseXML message is read.
        whole_bytes: larger texts come as streams instead of bytes; default: never.

    Yields:
        A text, or the error that says why a member cannot be read. A name that comes again (bytes
        have none of their own) gets a number: ``<bytes> (2)``.
    """
    bounds = limits or Limits()
    seen: Counter[str] = Counter()
    for member in members(source, limits=bounds):
        if isinstance(member, Refused):
            yield member.error
            continue
        found = (
            _payloads(member, xml_limits or XmlLimits())
            if member.kind == "xml"
            else [_plain(member, whole_bytes)]
        )
        for text in found:
            seen[text.source] += 1
            count = seen[text.source]
            if count > 1 and isinstance(text, Text):
                yield replace(text, source=f"{text.source} ({count})")
            else:
                yield text


def _plain(member: Member, whole_bytes: int | None) -> Text:
    large = whole_bytes is not None and member.size > whole_bytes
    data = member.open() if large else member.read()
    return Text(member.name, data, member.sha256, name=PurePath(member.name).name)


def _payloads(member: Member, limits: XmlLimits) -> Iterator[Text | FileRefused]:
    """The MDFF texts in one aseXML message."""
    from hashlib import sha256

    try:
        with member.open() as stream:
            message = asexml.read_message(stream, source=member.name, limits=limits)
    except FileRefused as error:
        yield error
        return
    for payload in message.payloads:
        name = member.name
        if len(message.payloads) > 1:
            name = f"{member.name}#{payload.envelope.transaction_id}"
        yield Text(
            name,
            payload.text,
            sha256(payload.text).hexdigest(),
            payload.envelope,
            payload.first_line,
        )


def _batches(found: Iterable[Text | FileRefused]) -> Iterator[list[Text | FileRefused]]:
    """Group texts so that many small files are parsed in one go."""
    batch: list[Text | FileRefused] = []
    size = 0
    for text in found:
        batch.append(text)
        size += len(text.data) if isinstance(text, Text) and isinstance(text.data, bytes) else 0
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def refusal(error: FileRefused, profile: str) -> MeterData:
    """A refused source as MeterData that has one finding and nothing else."""
    rule = RULES[error.rule]
    finding = {
        "source": error.source,
        "line": error.line,
        "value": error.value or None,
        "rule": error.rule,
        "severity": severity(error.rule, profile),
        "message": error.message,
        "todo": error.hint or rule.todo,
    }
    frame = pl.DataFrame([finding], schema=FINDINGS)
    return replace(MeterData.empty(), findings=frame, refused=(error,))


def _as_one(errors: tuple[FileRefused, ...]) -> FileRefused:
    """One error for a source in which nothing could be read."""
    first = errors[0]
    if len(errors) == 1:
        return first
    return type(first)(
        f"none of {len(errors)} files could be read; the first: {first.message}",
        source=first.source,
        rule=first.rule,
        line=first.line,
        value=first.value,
        hint=first.hint,
    )
