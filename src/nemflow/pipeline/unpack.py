"""Paths -> MDFF texts, each with what it came in.

Why: the ledger wants to know that ``a.csv`` came inside ``day.zip``; the parser only wants texts.

Promises: one item per text, and one per file, member or message that cannot be opened, in a fixed
order; large texts stay where they are and are read as streams, any number of times.

Look next: ``nemflow.intake.archive`` (containers), ``nemflow.mdff.asexml`` (messages).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nemflow.errors import ArchiveRefused, FileRefused
from nemflow.intake.archive import Limits, Member, Refused, members
from nemflow.intake.sources import files, named
from nemflow.mdff import asexml
from nemflow.mdff.reader import Text

#: Larger texts are parsed in pieces; smaller ones many at once.
WHOLE_BYTES = 6 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Item:
    """One text, or one thing that could not be opened, on its way into the store."""

    name: str  #: unique within the run: path, and member inside it
    top: str  #: the file that was given; differs from ``name`` inside a container
    path: Path  #: that file on disk
    size: int = 0  #: bytes of the text
    sha256: str | None = None  #: of the text
    text: Text | None = None
    error: FileRefused | None = None
    reopen: Callable[[], BinaryIO] | None = None  #: the text's bytes once more, from the start
    close: Callable[[], None] | None = None

    @property
    def in_container(self) -> bool:
        """Whether it came inside a zip, a gzip or a message."""
        return self.name != self.top and not self.name.startswith(f"{self.top} (")

    @property
    def is_large(self) -> bool:
        """Whether it is parsed in pieces."""
        return self.text is not None and not isinstance(self.text.data, bytes)


def given_files(paths: Iterable[str | Path]) -> list[tuple[Path, str] | ArchiveRefused]:
    """Every file below the paths, folders walked in order of name.

    Raises:
        UsageError: a path that does not exist.
    """
    every: list[tuple[Path, str] | ArchiveRefused] = []
    for source, name in named([str(path) for path in paths], None):
        for found in files(source, name):
            if isinstance(found, ArchiveRefused):
                every.append(found)
            else:
                every.append((Path(str(found[0])), found[1]))
    return every


def unpacked(
    found: Iterable[tuple[Path, str] | ArchiveRefused],
    limits: Limits,
    xml_limits: asexml.XmlLimits = asexml.DEFAULT_LIMITS,
    *,
    most_whole: int | None = None,
) -> Iterator[Item]:
    """Every text in these files. Close an item when done with it.

    ``most_whole``: texts larger than this are never taken whole.
    """
    unique = _Names()
    whole = min(WHOLE_BYTES, most_whole or WHOLE_BYTES)
    for file in found:
        if isinstance(file, ArchiveRefused):
            yield Item(unique(file.source), file.source, Path(file.source), error=file)
            continue
        path, top = file
        for member in members(path, name=top, limits=limits):
            if isinstance(member, Refused):
                yield Item(unique(member.name), top, path, error=member.error)
            elif member.kind == "xml":
                yield from _payloads(member, top, path, unique, xml_limits)
            else:
                yield _plain(member, top, path, unique, whole)


class _Names:
    """Makes names unique: a zip may hold two members of one name."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        count = self._seen[name] = self._seen.get(name, 0) + 1
        return name if count == 1 else self(f"{name} ({count})")


def _plain(member: Member, top: str, path: Path, unique: _Names, whole: int) -> Item:
    name = unique(member.name)
    large = member.size > whole
    data = member.open() if large else member.read()
    text = Text(name, data, member.sha256, name=member.name.rpartition("/")[2])
    return Item(
        name,
        top,
        path,
        size=member.size,
        sha256=member.sha256,
        text=text,
        reopen=member.open,
        close=member.close,
    )


def _payloads(
    member: Member, top: str, path: Path, unique: _Names, limits: asexml.XmlLimits
) -> Iterator[Item]:
    """The MDFF texts in one aseXML message."""
    try:
        with member, member.open() as stream:
            message = asexml.read_message(stream, source=member.name, limits=limits)
    except FileRefused as error:
        yield Item(unique(member.name), top, path, error=error)
        return
    for payload in message.payloads:
        inner = payload.envelope.transaction_id or "payload"
        name = unique(f"{member.name}#{inner}")
        sha256 = hashlib.sha256(payload.text).hexdigest()
        text = Text(name, payload.text, sha256, payload.envelope, payload.first_line)
        yield Item(
            name,
            top,
            path,
            size=len(payload.text),
            sha256=sha256,
            text=text,
            reopen=lambda data=payload.text: io.BytesIO(data),  # type: ignore[misc]
        )
