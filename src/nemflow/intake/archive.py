"""A zip in a zip in a gzip -> members, under limits.

Why: what arrives is packed in many ways and may be hostile, and the rest of nemflow should see
nothing but plain texts. Containers are recognised by their content, never by their name.

Promises: every file in the source comes out once, as a ``Member`` whose checksum was verified
to its last byte, or as a ``Refused`` that says which limit or fault and what to do. One bad
member never holds back the others. Nothing is written under a name from an archive. Memory is
bounded: members above ``Limits.memory_bytes`` lie in unnamed temporary files.
Where to look next: ``zipwalk`` for what is checked in a zip, docs/archives.md for the limits.
"""

from __future__ import annotations

import hashlib
import zlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal, Self

from nemflow.errors import ArchiveRefused
from nemflow.intake.blob import CHUNK, STREAM_ERRORS, InMemory, Sink, unreadable
from nemflow.intake.sources import blob_of, files, named
from nemflow.intake.zipwalk import DEFLATED, Entry, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nemflow.intake.blob import Blob
    from nemflow.intake.sources import One, Source

Kind = Literal["text", "xml"]

_ZIP = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
_GZIP = b"\x1f\x8b"
_FOREIGN = {
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\0": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"\x1f\x9d": "a compress (.Z) file",
    b"MSCF": "a Windows cabinet",
}
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_GZIP_CHUNK = 1 << 15  # small: at each part's end zlib copies the rest of the chunk
_SMALLER = "Send it in smaller parts, or raise the limit if you trust the sender."
_DAMAGED = "Ask the sender for the file again; it may have been damaged on the way."


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a container is opened. Each applies per top-level file or stream."""

    depth: int = 3  #: containers inside each other; a gzip counts as one
    members: int = 100_000  #: entries of all archives in it, folders included
    member_bytes: int = 1 << 30  #: one unpacked member, an inner archive too
    total_bytes: int = 2 << 30  #: everything unpacked, all layers together
    ratio: float = 200  #: unpacked to packed size of one member ...
    ratio_after_bytes: int = 64 << 20  #: ... counted only for members larger than this
    directory_bytes: int = 64 << 20  #: the directory of one zip, which is read into memory
    memory_bytes: int = 32 << 20  #: larger content lies in a temporary file, not in memory


DEFAULT_LIMITS = Limits()


class Member:
    """One file, unpacked and verified. Close it, or use it in a ``with``, when done.

    Attributes:
        name: where it was found, e.g. ``outer.zip/inner/day.csv``.
        size: bytes, unpacked.
        kind: "xml" when its first character that is not blank is ``<``, else "text".
    """

    __slots__ = ("_blob", "_sha256", "kind", "name", "size")

    def __init__(self, name: str, blob: Blob, *, kind: Kind, sha256: str | None = None) -> None:
        self.name = name
        self.size = blob.size
        self.kind = kind
        self._blob = blob
        self._sha256 = sha256

    def __repr__(self) -> str:
        return f"Member({self.name!r}, size={self.size}, kind={self.kind!r})"

    @property
    def sha256(self) -> str:
        """SHA-256 of the unpacked bytes in hex.

        Computed on first use for a large file that was not packed: whoever does not ask for it
        does not read the file twice.

        Raises:
            ArchiveRefused: the file on disk changed or cannot be read any more.
        """
        if self._sha256 is None:
            digest = hashlib.sha256()
            with self.open() as handle:
                while chunk := handle.read(CHUNK):
                    digest.update(chunk)
            self._sha256 = digest.hexdigest()
        return self._sha256

    def open(self) -> BinaryIO:
        """A new binary handle at position 0; may be called again and again.

        Raises:
            ArchiveRefused: the file on disk changed or cannot be read any more.
        """
        return self._blob.open()

    def read(self) -> bytes:
        """All bytes. Raises like ``open``."""
        data = self._blob.read()
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(data).hexdigest()
        return data

    def close(self) -> None:
        """Let go of the memory or the temporary file."""
        self._blob.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Refused:
    """One file or container that is not opened, and why."""

    name: str
    error: ArchiveRefused


def members(
    source: Source, *, name: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> Iterator[Member | Refused]:
    """Everything the source holds, unpacked, one at a time, in a fixed order.

    Args:
        source: a path (a folder is walked, sorted by name; hidden files, ``.tmp`` and ``.part``
            are left out, links to folders are not followed), bytes, a binary file object (from
            where it stands to its end; it need not be seekable), or a list of these.
        name: what to call bytes or a file object in names and errors; for a path, instead of it.
        limits: how much is opened; each source of a list and each file of a folder has its own.

    Returns:
        An iterator of members and refusals. Close a member before taking many more.

    Raises:
        UsageError: at once: a path that does not exist, or something that is no source.
        SystemFault: while iterating: no room for temporary files.
    """
    return _each(named(source, name), limits)


def _each(sources: list[tuple[One, str]], limits: Limits) -> Iterator[Member | Refused]:
    for source, name in sources:
        for file in files(source, name):
            if isinstance(file, ArchiveRefused):
                yield Refused(file.source, file)
                continue
            one, full = file
            try:
                blob = blob_of(
                    one, full, memory_bytes=limits.memory_bytes, total_bytes=limits.total_bytes
                )
            except ArchiveRefused as error:
                yield Refused(full, error)
            else:
                yield from _unpack(blob, full, 0, _Budget(limits))


class _Budget:
    """What one top-level source has used up of its limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.members = 0
        self.bytes = 0

    def refusal(self, size: int, packed: int, name: str) -> ArchiveRefused | None:
        """Why a member of ``size`` bytes (so far, or declared) out of ``packed`` is too much."""
        limits = self.limits
        if size > limits.member_bytes:
            what = f"it unpacks to more than {limits.member_bytes:,} bytes (limit member_bytes)."
        elif size > limits.ratio_after_bytes and size > limits.ratio * packed:
            what = f"it unpacks to more than {limits.ratio:g} times its size (limit ratio)."
        else:
            return self.total_refusal(size, name)
        return ArchiveRefused(what, source=name, hint=_SMALLER)

    def total_refusal(self, size: int, name: str) -> ArchiveRefused | None:
        """Why ``size`` bytes more are too much for the source as a whole."""
        if self.bytes + size <= self.limits.total_bytes:
            return None
        return ArchiveRefused(
            f"all its files together unpack to more than {self.limits.total_bytes:,} bytes "
            "(limit total_bytes).",
            source=name,
            hint=_SMALLER,
        )


def _unpack(
    blob: Blob, name: str, depth: int, budget: _Budget, sha256: str | None = None
) -> Iterator[Member | Refused]:
    """The blob as a member or, when it is a container, what is in it."""
    try:
        if isinstance(blob, InMemory):
            head = blob.read()[:4096]
        else:
            with blob.open() as stream:
                head = stream.read(4096)
        if not head.startswith((*_ZIP, _GZIP, *_FOREIGN)) and head[257:262] != b"ustar":
            yield _member(blob, name, head, sha256)
            return
        with closing(blob):
            _refuse_container(head, name, depth, budget.limits.depth)
            opened = _from_gzip if head.startswith(_GZIP) else _from_zip
            yield from opened(blob, name, depth, budget)
    except ArchiveRefused as error:
        yield Refused(name, error)
    except STREAM_ERRORS as error:
        yield Refused(name, unreadable(name, error))


def _refuse_container(head: bytes, name: str, depth: int, limit: int) -> None:
    if not head.startswith((*_ZIP, _GZIP)):
        kinds = (what for sign, what in _FOREIGN.items() if head.startswith(sign))
        raise ArchiveRefused(
            f"it is {next(kinds, 'a tar archive')}, which is not opened.",
            source=name,
            hint="Send it as zip or gzip, or as it is.",
        )
    if depth >= limit:
        raise ArchiveRefused(
            f"archives lie more than {limit} deep inside each other (limit depth).",
            source=name,
            hint="Have the files packed once.",
        )


def _member(blob: Blob, name: str, head: bytes, sha256: str | None) -> Member:
    if sha256 is None and isinstance(blob, InMemory):
        sha256 = hashlib.sha256(blob.read()).hexdigest()
    text = head
    for bom in _BOMS:
        text = text.removeprefix(bom)
    # A zero byte is half of a UTF-16 character.
    kind: Kind = "xml" if text.lstrip(b" \t\r\n\0").startswith(b"<") else "text"
    return Member(name, blob, kind=kind, sha256=sha256)


# ── zip ───────────────────────────────────────────────────────────────────────────────────


def _from_zip(blob: Blob, name: str, depth: int, budget: _Budget) -> Iterator[Member | Refused]:
    limits = budget.limits
    with blob.open() as stream:
        entries, count = walk(
            stream,
            blob.size,
            source=name,
            max_entries=limits.members - budget.members,
            max_directory=limits.directory_bytes,
        )
        budget.members += count
        if not entries:
            raise ArchiveRefused(
                "the archive holds no files.", source=name, hint="Ask the sender for the files."
            )
        if any(entry.name == "[Content_Types].xml" for entry in entries):
            raise ArchiveRefused(
                "it is an Excel or other Office document, not an archive of meter data.",
                source=name,
                hint="Send the original text file; Excel changes numbers and dates.",
            )
        faults = [_fault(entry, name, budget) for entry in entries]
        declared = sum(
            entry.size for entry, fault in zip(entries, faults, strict=True) if fault is None
        )
        if too_much := budget.total_refusal(declared, name):
            raise too_much
        for entry, fault in zip(entries, faults, strict=True):
            full = f"{name}/{entry.name}"
            try:
                if fault is not None:
                    raise fault
                inner, sha256 = _inflate(stream, entry, full, limits.memory_bytes)
            except ArchiveRefused as error:
                yield Refused(full, error)
                continue
            budget.bytes += inner.size
            yield from _unpack(inner, full, depth + 1, budget, sha256)


def _fault(entry: Entry, name: str, budget: _Budget) -> ArchiveRefused | None:
    """Why this entry is not opened, as far as its declaration tells."""
    return entry.fault or budget.refusal(entry.size, entry.packed, f"{name}/{entry.name}")


def _inflate(stream: BinaryIO, entry: Entry, name: str, memory_bytes: int) -> tuple[Blob, str]:
    """Unpack one entry, never past its declared size, and verify it to its end.

    Raises:
        ArchiveRefused: the data is damaged, or its directory did not tell the truth about it.
    """
    whole = entry.packed + entry.size + 1
    step = whole if whole <= memory_bytes else CHUNK
    stream.seek(entry.start)
    if step == whole:
        data = _sound(stream, entry)
        if data is not None:
            return InMemory(data), hashlib.sha256(data).hexdigest()
        stream.seek(entry.start)  # the long way below says what is wrong with it
    pieces = _inflated if entry.method == DEFLATED else _stored
    sink, crc = Sink(memory_bytes), 0
    try:
        for piece in pieces(stream, entry.packed, step, name):
            if sink.size + len(piece) > entry.size:
                raise _broken(name, f"it holds more than the {entry.size:,} bytes it declares")
            sink.write(piece)
            crc = zlib.crc32(piece, crc)
        if sink.size < entry.size:
            raise _broken(name, f"it holds less than the {entry.size:,} bytes it declares")
        if crc != entry.crc:
            raise _broken(name, "its checksum (CRC-32) is wrong")
    except ArchiveRefused:
        sink.discard()
        raise
    return sink.finish()


def _sound(stream: BinaryIO, entry: Entry) -> bytes | None:
    """All of a small entry in one go, as archives have thousands; None: it is not as declared."""
    data = stream.read(entry.packed)
    if entry.method == DEFLATED:
        inflater = zlib.decompressobj(-15)
        try:
            data = inflater.decompress(data, entry.size + 1)
        except zlib.error:
            return None
        if not inflater.eof or inflater.unconsumed_tail or inflater.unused_data:
            return None
    return data if len(data) == entry.size and zlib.crc32(data) == entry.crc else None


def _stored(stream: BinaryIO, packed: int, step: int, name: str) -> Iterator[bytes]:
    while packed:
        piece = stream.read(min(step, packed))
        if not piece:
            raise _broken(name, "its data is cut short")
        packed -= len(piece)
        yield piece


def _inflated(stream: BinaryIO, packed: int, step: int, name: str) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-15)
    while not inflater.eof:
        data = inflater.unconsumed_tail
        if not data:
            data = stream.read(min(step, packed))
            packed -= len(data)
        try:
            piece = inflater.decompress(data, step)
        except zlib.error as error:
            raise _broken(name, "its packed data is damaged") from error
        if not data and not piece:
            raise _broken(name, "its data is cut short")
        yield piece
    if packed or inflater.unused_data:
        raise _broken(name, "other bytes are hidden behind its data")


# ── gzip ──────────────────────────────────────────────────────────────────────────────────


def _from_gzip(blob: Blob, name: str, depth: int, budget: _Budget) -> Iterator[Member | Refused]:
    """The one file in a gzip; it has the gzip's name without .gz."""
    last = name.rpartition("/")[2]
    full = f"{name}/{last[:-3] if last.lower().endswith('.gz') and len(last) > 3 else 'content'}"
    limits = budget.limits
    sink = Sink(limits.memory_bytes)
    try:
        budget.members += 1
        if budget.members > limits.members:
            raise ArchiveRefused(
                f"its archive has more than {limits.members:,} entries (limit members).",
                source=name,
                hint="Send the files in several smaller archives, or raise the limit.",
            )
        with blob.open() as stream:
            for piece in _gunzipped(stream, name, limits.members):
                if fault := budget.refusal(sink.size + len(piece), blob.size, full):
                    raise fault
                sink.write(piece)
    except ArchiveRefused:
        sink.discard()
        raise
    inner, sha256 = sink.finish()
    budget.bytes += inner.size
    yield from _unpack(inner, full, depth + 1, budget, sha256)


def _gunzipped(stream: BinaryIO, name: str, max_parts: int) -> Iterator[bytes]:
    """The bytes of all parts of a gzip, one after the other; zero padding may follow."""
    rest = b""
    for _ in range(max_parts):
        inflater = zlib.decompressobj(31)  # checks each part's CRC-32 and length
        while not inflater.eof:
            data = inflater.unconsumed_tail or rest or stream.read(_GZIP_CHUNK)
            rest = b""
            try:
                piece = inflater.decompress(data, CHUNK)
            except zlib.error as error:
                raise _broken(name, f"its packed data is damaged ({_cause(error)})") from error
            if not data and not piece:
                raise _broken(name, "its data is cut short")
            yield piece
        rest = inflater.unused_data.lstrip(b"\0")
        while not rest:
            more = stream.read(_GZIP_CHUNK)
            if not more:
                return
            rest = more.lstrip(b"\0")
    raise ArchiveRefused(
        f"the gzip has more than {max_parts:,} parts (limit members).",
        source=name,
        hint=_SMALLER,
    )


def _cause(error: zlib.error) -> str:
    return {
        "incorrect header check": "other bytes follow its end",
        "incorrect data check": "its checksum is wrong",
        "incorrect length check": "its length is wrong",
    }.get(str(error).rpartition(": ")[2], "not valid deflate data")


def _broken(name: str, what: str) -> ArchiveRefused:
    return ArchiveRefused(f"{what}.", source=name, hint=_DAMAGED)
