"""Inspect: what is in a delivery, before any of it is loaded.

Why: who waits for a large file wants to see at once what it is: whose, which meters, which days.

Promises: nothing is checked, nothing written, nothing raised because of what the data is; what
cannot be opened is counted. Memory is bounded, and so is what is looked at: ``partial`` says that
there was more. The fields are those of the 100, 200, 250 and 300 records as they stand, so they
may be wrong; only loading says what they are worth.

Look next: ``delivering.py`` and ``ahead.py``, which keep the answer in the ledger.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

from nemflow.errors import FileRefused
from nemflow.intake.archive import Limits, Member, Refused, members
from nemflow.intake.blob import out_of_reach
from nemflow.mdff import asexml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nemflow.pipeline.delivering import Delivering

T = TypeVar("T", str, int)
#: So many bytes of text, unpacked, are looked at.
INSPECTED_BYTES: Final = 1 << 30
#: So many NMIs (and suffixes, senders, ...) are named; all NMIs are counted, up to so many.
NAMED: Final = 100
_COUNTED: Final = 1_000_000
_DIFFERENT: Final = 1000  #: of everything else so many different ones are kept
_CHUNK: Final = 1 << 20
_FIELD_BYTES: Final = 200  #: of a line that are looked at; what is asked for stands before
_RECORDS: Final = (b"100", b"200", b"250", b"300")
_DATE: Final = re.compile(r"\d{8}")


@dataclass(slots=True)
class Inspection:
    """What a delivery holds, by its own words."""

    kind: str = "text"  #: text, message (aseXML) or archive
    versions: set[str] = field(default_factory=set)  #: NEM12, NEM13
    members: int = 0  #: texts and messages in it
    messages: int = 0  #: of these, aseXML
    unreadable: int = 0  #: of what cannot be opened
    bytes: int = 0  #: unpacked
    nmis: set[str] = field(default_factory=set)
    suffixes: set[str] = field(default_factory=set)
    first_day: str | None = None  #: CCYYMMDD
    last_day: str | None = None
    interval_minutes: set[int] = field(default_factory=set)
    senders: set[str] = field(default_factory=set)  #: From: of the envelope, else of the header
    receivers: set[str] = field(default_factory=set)
    partial: bool = False  #: there was more than was looked at, or than is kept

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; days as ISO dates."""
        return {
            "kind": self.kind,
            "versions": sorted(self.versions),
            "members": self.members,
            "messages": self.messages,
            "unreadable": self.unreadable,
            "bytes": self.bytes,
            "nmis": sorted(self.nmis)[:NAMED],
            "nmi_count": len(self.nmis),
            "suffixes": sorted(self.suffixes)[:NAMED],
            "first_day": _iso(self.first_day),
            "last_day": _iso(self.last_day),
            "interval_minutes": sorted(self.interval_minutes),
            "senders": sorted(self.senders)[:NAMED],
            "receivers": sorted(self.receivers)[:NAMED],
            "partial": self.partial,
        }


def look_into(
    path: Path, name: str, how: Delivering, *, most_bytes: int = INSPECTED_BYTES
) -> dict[str, Any]:
    """What the ledger keeps of a look into a file: plain values. Raises as ``inspect``."""
    seen = inspect(path, name, limits=how.limits, xml_limits=how.xml_limits, most_bytes=most_bytes)
    return seen.to_dict() | {"not_checked": list(how.not_checked)}


def in_short(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the timeline says of it."""
    return {key: found[key] for key in ("kind", "members", "bytes", "nmi_count")}


def inspect(
    path: Path,
    name: str,
    *,
    limits: Limits | None = None,
    xml_limits: asexml.XmlLimits = asexml.DEFAULT_LIMITS,
    most_bytes: int = INSPECTED_BYTES,
) -> Inspection:
    """Look into a file.

    Args:
        path: where it lies.
        name: what it is called.
        limits: how far archives are opened.
        xml_limits: how much of an aseXML message is read.
        most_bytes: so many bytes, unpacked, are looked at.

    Raises:
        UsageError: there is no such file.
        SystemFault: no room for temporary files.
        FileRefused: the disk, or the share, does not give its bytes (``blob.out_of_reach``).
    """
    found = Inspection()
    for member in members(path, name=name, limits=limits or Limits()):
        if isinstance(member, Refused):
            if out_of_reach(member.error):
                raise member.error
            found.unreadable += 1
            if member.name != name:
                found.kind = "archive"
            continue
        with member:
            if member.name != name:
                found.kind = "archive"
            elif member.kind == "xml":
                found.kind = "message"
            found.members += 1
            found.messages += member.kind == "xml"
            found.bytes += member.size
            if found.bytes > most_bytes:
                found.partial = True
                break
            try:
                _look(found, member, xml_limits)
            except FileRefused as refused:
                if out_of_reach(refused):
                    raise
                found.unreadable += 1
    return found


def _look(found: Inspection, member: Member, xml_limits: asexml.XmlLimits) -> None:
    with member.open() as stream:
        if member.kind == "text":
            _lines(found, stream, from_envelope=False)
            return
        import io

        message = asexml.read_message(stream, source=member.name, limits=xml_limits)
        _add(found, found.senders, message.header.sender)
        _add(found, found.receivers, message.header.receiver)
        for payload in message.payloads:
            _lines(found, io.BytesIO(payload.text), from_envelope=True)


def _lines(found: Inspection, stream: BinaryIO, *, from_envelope: bool) -> None:
    """Take what the records of one text say."""
    first = last = None
    for record, fields in _records(stream):
        if record == "100":
            _add(found, found.versions, _at(fields, 1).upper())
            if not from_envelope:
                _add(found, found.senders, _at(fields, 3))
                _add(found, found.receivers, _at(fields, 4))
        elif record == "300":
            day = _at(fields, 1)
            if _DATE.fullmatch(day):
                first = day if first is None or day < first else first
                last = day if last is None or day > last else last
        else:
            _add(found, found.nmis, _at(fields, 1), most=_COUNTED)
            _add(found, found.suffixes, _at(fields, 4).upper())
            minutes = _at(fields, 8)
            if record == "200" and minutes.isdigit() and len(minutes) <= 4:
                _add(found, found.interval_minutes, int(minutes))
    if first is not None and last is not None:
        found.first_day = min(first, found.first_day or first)
        found.last_day = max(last, found.last_day or last)


def _add(found: Inspection, to: set[T], value: T | None, *, most: int = _DIFFERENT) -> None:
    """Take what was said, if anything was, and if not too many different things were before."""
    if value is None or value == "" or value in to:
        return
    if len(to) < most:
        to.add(value)
    else:
        found.partial = True


def _records(stream: BinaryIO) -> Iterator[tuple[str, list[str]]]:
    """The first fields of every 100, 200, 250 and 300."""
    head, rest = True, b""
    wide = False
    while chunk := stream.read(_CHUNK):
        if head:
            wide = chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in chunk
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
            head = False
        if wide:  # of UTF-16 the letters we look for are what is left without the zero bytes
            chunk = chunk.replace(b"\0", b"").lstrip(b"\xff\xfe")
        lines = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        rest = lines.pop()
        if len(rest) > _CHUNK:  # a line without end
            rest = rest[:_FIELD_BYTES]
        yield from _of_lines(lines)
    yield from _of_lines([rest])


def _of_lines(lines: list[bytes]) -> Iterator[tuple[str, list[str]]]:
    for line in lines:
        start = line[:_FIELD_BYTES].lstrip()
        if start[:3] in _RECORDS and start[3:4] == b",":
            fields = [part.strip(' "') for part in start.decode("ascii", "replace").split(",")]
            yield fields[0], fields


def _at(fields: list[str], place: int) -> str:
    return fields[place][:50] if place < len(fields) else ""


def _iso(day: str | None) -> str | None:
    return None if day is None else f"{day[:4]}-{day[4:6]}-{day[6:]}"
