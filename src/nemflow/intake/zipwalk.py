"""Read a zip's directory and say what cannot be trusted, before anything is inflated.

Why: no reader at hand refuses every hostile zip (overlapping entries, two names for one
member, sizes that lie), and two readers of one zip may see different files. Here there is one
reading: what was checked is what is opened.

Promises: ``walk`` reads the end record, the central directory and every local header, bounded
by the limits it is given, and inflates nothing. A fault of one entry is kept on that entry, a
fault that makes the whole container doubtful is raised. Only nemflow's errors leave it.
Layout: PKWARE's APPNOTE.TXT, sections 4.3 to 4.5. Where to look next: ``archive`` inflates.
"""

from __future__ import annotations

import re
import stat
import struct
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from nemflow.errors import ArchiveRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

STORED, DEFLATED = 0, 8

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13  # classic, strong, and a masked directory
_SIZES_FOLLOW = 1 << 3  # a data descriptor behind the data; the local header may hold zeros
_UTF8 = 1 << 11
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "look into the zip64 field"
_PADDING = b"\0\x1a\r\n \t"  # what transfers append; never a record
_TAIL = _END.size + _FULL16 + (1 << 16)  # end record, longest comment, some padding
_NAME_BYTES = 1024  # far beyond any honest path
_METHODS = {6: "implode", 9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz"}
_UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # and text direction
_DAMAGED = "Ask the sender for the file again; it may have been damaged on the way."
_AGAIN = "Have it packed again with an ordinary zip program."


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a zip, as its directory declares it. Sizes in bytes."""

    name: str  #: cleaned and printable, ``/`` between folders
    start: int  #: where the packed data begins
    packed: int  #: declared size in the zip
    size: int  #: declared size unpacked
    crc: int  #: declared CRC-32 of the unpacked bytes
    method: int  #: STORED or DEFLATED, unless ``fault`` says otherwise
    fault: ArchiveRefused | None  #: why this one is not opened


class _End(NamedTuple):
    """What the end record says, zip64 resolved."""

    entries: int
    directory_size: int
    directory_offset: int
    is_zip64: bool


class _Central(NamedTuple):
    """One entry of the central directory, zip64 resolved."""

    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int


def walk(
    stream: BinaryIO, size: int, *, source: str, max_entries: int, max_directory: int
) -> tuple[list[Entry], int]:
    """Read and check the directory of the zip in ``stream`` (``size`` bytes).

    Returns the files in directory order, and how many entries the directory has; folders and
    macOS leftovers (``__MACOSX/``, ``.DS_Store``) are counted but not listed.

    Raises:
        ArchiveRefused: the container cannot be trusted as a whole or is over a limit.
    """
    end = _read_end(stream, size, source)
    if end.directory_size > max_directory:
        raise ArchiveRefused(
            f"its directory alone has {end.directory_size:,} bytes, over the limit of "
            f"{max_directory:,} (directory_bytes).",
            source=source,
            hint="Send the files in several smaller archives.",
        )
    stream.seek(end.directory_offset)
    directory = stream.read(end.directory_size)
    entries = []
    for entry in _central_entries(directory, source):
        entries.append(entry)
        if len(entries) > max_entries:
            raise ArchiveRefused(
                f"it has more than {max_entries:,} entries, over the limit (members).",
                source=source,
                hint="Send the files in several smaller archives, or raise the limit.",
            )
    # Some writers without zip64 (macOS) keep only the low 16 bits of a larger count.
    honest = len(entries) if end.is_zip64 else len(entries) & _FULL16
    if end.entries != honest:
        raise ArchiveRefused(
            f"its end record says {end.entries:,} entries, its directory has {len(entries):,}.",
            source=source,
            hint=_DAMAGED,
        )
    return _check(stream, entries, end.directory_offset, source), len(entries)


# ── the end record ────────────────────────────────────────────────────────────────────────


def _read_end(stream: BinaryIO, size: int, source: str) -> _End:
    base = max(0, size - _TAIL)
    stream.seek(base)
    tail = stream.read(size - base)
    needed = len(tail.rstrip(_PADDING))  # the record may end later than this, not earlier
    found = [
        position
        for position in _positions(tail, b"PK\5\6")
        if needed <= position + _END.size + _comment_length(tail, position) <= len(tail)
    ]
    if not found:
        cut = b"PK\5\6" not in tail
        raise ArchiveRefused(
            "the zip has no end record: it was cut short."
            if cut
            else "other bytes follow the end of the zip, or its end record is not true.",
            source=source,
            hint=_DAMAGED,
        )
    if len(found) > 1:
        raise ArchiveRefused(
            "the zip has two end records, so two readers may see different files in it.",
            source=source,
            hint=_AGAIN,
        )
    at = found[0]
    _, disk, directory_disk, here, count, length, offset, _ = _END.unpack_from(tail, at)
    locator_at = at - _LOCATOR.size
    is_zip64 = locator_at >= 0 and tail.startswith(b"PK\6\7", locator_at)
    directory_end = base + at
    if is_zip64:
        narrow = (disk, directory_disk, here, count, length, offset)
        wide, directory_end = _read_end64(
            stream, tail[locator_at:at], base + locator_at, narrow, source
        )
        disk, directory_disk, here, count, length, offset = wide
    if disk or directory_disk or here != count:
        raise ArchiveRefused(
            "it is one part of a zip split over several files.",
            source=source,
            hint="Send it as one file.",
        )
    if offset + length != directory_end:
        raise ArchiveRefused(
            "its directory is not where its end record says: bytes were added, cut or moved.",
            source=source,
            hint=_DAMAGED,
        )
    return _End(count, length, offset, is_zip64)


def _positions(tail: bytes, signature: bytes) -> Iterator[int]:
    at = tail.find(signature)
    while 0 <= at <= len(tail) - _END.size:
        yield at
        at = tail.find(signature, at + 1)


def _comment_length(tail: bytes, position: int) -> int:
    return int.from_bytes(tail[position + 20 : position + 22], "little")


def _read_end64(
    stream: BinaryIO, locator: bytes, locator_at: int, values: tuple[int, ...], source: str
) -> tuple[tuple[int, ...], int]:
    """The zip64 end record's values in the same order, and where the directory must end."""
    _, locator_disk, offset, _ = _LOCATOR.unpack(locator)
    record = b""
    if offset + _END64.size <= locator_at:
        stream.seek(offset)
        record = stream.read(_END64.size)
    if len(record) < _END64.size or not record.startswith(b"PK\6\6") or locator_disk:
        raise _lies(source, "its zip64 end record is not where it should be")
    _, length, _, _, *wide = _END64.unpack(record)
    if offset + 12 + length != locator_at:
        raise _lies(source, "its zip64 end record does not have the size it says")
    full = (_FULL16,) * 4 + (_FULL32,) * 2
    for narrow, limit, value in zip(values, full, wide, strict=True):
        if narrow not in (limit, value):
            raise _lies(source, "its two end records disagree")
    return tuple(wide), offset


# ── the central directory ─────────────────────────────────────────────────────────────────


def _central_entries(directory: bytes, source: str) -> Iterator[_Central]:
    at, end = 0, len(directory)
    while at < end:
        head = at + _CENTRAL.size
        if head > end or not directory.startswith(b"PK\1\2", at):
            raise _lies(source, "its directory is damaged")
        (_, _, _, flags, method, _, _, crc, packed, size,
         name_length, extra_length, comment_length, disk, _, attributes, offset,
        ) = _CENTRAL.unpack_from(directory, at)  # fmt: skip
        extra_at = head + name_length
        at = extra_at + extra_length + comment_length
        if at > end:
            raise _lies(source, "its directory is damaged")
        if _FULL32 in (packed, size, offset) or disk == _FULL16:
            wide = _zip64_field(directory[extra_at : extra_at + extra_length])
            size, wide = _widen(size, wide, source)
            packed, wide = _widen(packed, wide, source)
            offset, wide = _widen(offset, wide, source)
            disk = int.from_bytes(wide[:4], "little") if disk == _FULL16 else disk
        if disk:
            raise _lies(source, "an entry says it lies in another file")
        yield _Central(
            directory[head:extra_at], flags, method, crc, packed, size, offset, attributes >> 16
        )


def _zip64_field(extra: bytes) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        length = int.from_bytes(extra[at + 2 : at + 4], "little")
        if extra.startswith(b"\1\0", at):
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _widen(value: int, wide: bytes, source: str) -> tuple[int, bytes]:
    """A 32-bit field, or the next 64-bit one that stands for it."""
    if value != _FULL32:
        return value, wide
    if len(wide) < 8:
        raise _lies(source, "an entry promises a zip64 size or place and does not give it")
    return int.from_bytes(wide[:8], "little"), wide[8:]


# ── the local headers ─────────────────────────────────────────────────────────────────────


def _check(
    stream: BinaryIO, entries: list[_Central], directory_offset: int, source: str
) -> list[Entry]:
    """Compare with the local headers, look for overlaps, name the faults."""
    files: dict[int, Entry] = {}
    reached = 0
    for index in sorted(range(len(entries)), key=lambda index: entries[index].offset):
        entry = entries[index]
        if entry.offset < reached:
            raise ArchiveRefused(
                "two of its entries share the same bytes: a zip bomb, or a damaged archive.",
                source=source,
                hint=_AGAIN,
            )
        start, reason = _local_header(stream, entry, directory_offset, source)
        reached = start + entry.packed
        if reached > directory_offset:
            raise _lies(source, f"the entry {shown(entry.raw_name)} reaches beyond its data")
        name, name_fault = _clean_name(entry.raw_name, entry.flags)
        is_folder = entry.raw_name.endswith((b"/", b"\\")) or stat.S_ISDIR(entry.mode)
        if (is_folder and not entry.size) or _is_leftover(name):
            continue
        reason = _entry_fault(entry, is_folder=is_folder) or name_fault or reason
        name = name or shown(entry.raw_name)
        fault = ArchiveRefused(
            reason, source=f"{source}/{name}", hint=_hint(reason)
        ) if reason else None  # fmt: skip
        files[index] = Entry(name, start, entry.packed, entry.size, entry.crc, entry.method, fault)
    return _without_twins([files[index] for index in sorted(files)], source)


def _local_header(
    stream: BinaryIO, entry: _Central, directory_offset: int, source: str
) -> tuple[int, str]:
    """Where the data starts, and what the local header contradicts (empty: nothing).

    Raises:
        ArchiveRefused: there is no such header, or the sizes differ.
    """
    header = b""
    if entry.offset + _LOCAL.size <= directory_offset:
        stream.seek(entry.offset)
        header = stream.read(_LOCAL.size + len(entry.raw_name))
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        raise _lies(source, f"there is no data where the directory says {shown(entry.raw_name)} is")
    (_, _, flags, method, _, _, crc, packed, size, name_length, extra_length
    ) = _LOCAL.unpack_from(header)  # fmt: skip
    start = entry.offset + _LOCAL.size + name_length + extra_length
    if _FULL32 in (packed, size):
        stream.seek(entry.offset + _LOCAL.size + name_length)
        wide = _zip64_field(stream.read(extra_length))
        size, wide = _widen(size, wide, source)
        packed, _ = _widen(packed, wide, source)
    later = (flags | entry.flags) & _SIZES_FOLLOW
    for local, central in ((packed, entry.packed), (size, entry.size)):
        if local != central and not (later and local == 0):
            raise _lies(source, f"the two headers of {shown(entry.raw_name)} give different sizes")
    is_stored = entry.method == STORED and not entry.flags & _ENCRYPTED
    if is_stored and entry.packed != entry.size:
        raise _lies(source, f"{shown(entry.raw_name)} is not packed, yet has two different sizes")
    if name_length != len(entry.raw_name) or header[_LOCAL.size :] != entry.raw_name:
        return start, "it has one name in the directory and another at its data."
    if method != entry.method or (flags ^ entry.flags) & _ENCRYPTED:
        return start, "its two headers disagree on how it is packed."
    if crc != entry.crc and not (later and crc == 0):
        return start, "its two headers give different checksums."
    return start, ""


def _entry_fault(entry: _Central, *, is_folder: bool) -> str:
    kind = stat.S_IFMT(entry.mode)
    if entry.flags & _ENCRYPTED:
        return "it is encrypted."
    if kind == stat.S_IFLNK:
        return "it is a symbolic link, not a file."
    if is_folder:
        return "it is called a folder, yet it holds data."
    if kind not in (0, stat.S_IFREG):
        return "it is a device or another special file."
    if entry.method not in (STORED, DEFLATED):
        how = _METHODS.get(entry.method, f"method {entry.method}")
        return f"it is packed with {how}; only stored and deflated members are opened."
    return ""


def _hint(reason: str) -> str:
    return "Send it without a password." if "encrypted" in reason else _AGAIN


# ── names ─────────────────────────────────────────────────────────────────────────────────


def _clean_name(raw: bytes, flags: int) -> tuple[str, str]:
    """The name with ``/`` between folders, or an empty one and what is wrong with it."""
    if len(raw) > _NAME_BYTES:
        return "", f"its name has {len(raw):,} bytes; {_NAME_BYTES:,} are allowed."
    try:
        text = raw.decode("utf-8")  # many writers use it without setting the flag
    except UnicodeDecodeError:
        if flags & _UTF8:
            return "", "its name is said to be UTF-8 and is not."
        text = raw.decode("cp437")
    path = text.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    fault = ""
    if _UNSHOWABLE.search(text):
        fault = "its name holds control characters."
    elif path.startswith("/") or path[1:2] == ":":
        fault = "its name is an absolute path."
    elif ".." in parts:
        fault = "its name climbs out of the archive (..)."
    elif not parts:
        fault = "it has no name."
    return "" if fault else "/".join(parts), fault


def shown(raw: bytes) -> str:
    """A doubtful name made printable and short, for messages."""
    text = ascii(raw[:120].decode("utf-8", "replace"))[1:-1]
    return f"{text}..." if len(raw) > 120 else text


def _is_leftover(name: str) -> bool:
    *folders, last = name.split("/")
    return last == ".DS_Store" or "__MACOSX" in folders


def _without_twins(files: list[Entry], source: str) -> list[Entry]:
    """Entries that share a name are all refused: which one is meant cannot be told."""
    count = Counter(entry.name for entry in files)
    if len(count) == len(files):
        return files
    result = []
    for entry in files:
        times = count[entry.name]
        if times == 1 or entry.fault is not None:
            result.append(entry)
            continue
        fault = ArchiveRefused(
            f"the archive holds {times} members of this name; which is meant cannot be told.",
            source=f"{source}/{entry.name}",
            hint="Have it packed again with a name of its own for each file.",
        )
        result.append(
            Entry(entry.name, entry.start, entry.packed, entry.size, entry.crc, entry.method, fault)
        )
    return result


def _lies(source: str, what: str) -> ArchiveRefused:
    return ArchiveRefused(f"the zip cannot be trusted: {what}.", source=source, hint=_DAMAGED)
