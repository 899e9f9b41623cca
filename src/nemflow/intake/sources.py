"""What a caller hands in -> bytes with a name.

Why: people have a path, a folder, bytes, an open file, a pipe, or a list of these.
Promises: a path that leads nowhere is the caller's mistake and said at once; a file that
exists and cannot be read is one refusal among the others. A file on disk is not copied.
Where to look next: ``archive`` opens what comes out of here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from nemflow.errors import ArchiveRefused, UsageError
from nemflow.intake.blob import CHUNK, STREAM_ERRORS, InFile, InMemory, OnDisk, Sink, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nemflow.intake.blob import Blob

    One = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
    Source = One | Sequence[One]

_UNFINISHED = (".tmp", ".part")  # names under which others are still writing


def named(source: Source, name: str | None) -> list[tuple[One, str]]:
    """The sources one by one, each with the name it goes by.

    Raises:
        UsageError: a path that does not exist, or something that is no source.
    """
    if isinstance(source, list | tuple):
        if name is not None:
            raise UsageError("name= names one source, not a list of them.")
        return [(one, _name_of(one)) for one in map(_checked, source)]
    one = _checked(source)
    return [(one, name or _name_of(one))]


def files(source: One, name: str) -> Iterator[tuple[One, str] | ArchiveRefused]:
    """The source itself or, for a folder, every file below it, sorted by name.

    Hidden files and those still being written (.tmp, .part) are left out; links to files are
    followed, links to folders are not (they may run in circles).
    """
    pending: list[tuple[One, str]] = [(source, name)]
    while pending:
        one, full = pending.pop()
        if not isinstance(one, str | os.PathLike):
            yield one, full
            continue
        try:
            children = _children(Path(one), full)
        except OSError as error:
            yield unreadable(full, error)
            continue
        if children is None:
            yield one, full
        else:
            pending += reversed(children)


def _children(path: Path, name: str) -> list[tuple[One, str]] | None:
    """What of a folder is to be read, sorted; None when the path is no folder."""
    if not path.is_dir():
        return None
    with os.scandir(path) as found:
        return [
            (child.path, f"{name.rstrip('/')}/{_printable(child.name)}")
            for child in sorted(found, key=lambda child: child.name)
            if not child.name.startswith(".")
            and not child.name.lower().endswith(_UNFINISHED)
            and (child.is_dir(follow_symlinks=False) or child.is_file())
        ]


def blob_of(source: One, name: str, *, memory_bytes: int, total_bytes: int) -> Blob:
    """The bytes of a file, a stream, or bytes; a seekable file is left where it is.

    Raises:
        ArchiveRefused: they cannot be read, or a stream without end passes ``total_bytes``.
        SystemFault: there is no room to spool a stream.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return InMemory(bytes(source))
    try:
        if not isinstance(source, str | os.PathLike):
            return _blob_of_stream(source, name, memory_bytes, total_bytes)
        path = Path(source)
        if path.is_file():
            on_disk = OnDisk(path, name)
            return InMemory(on_disk.read()) if on_disk.size <= memory_bytes else on_disk
        with path.open("rb") as pipe:  # a named pipe, /dev/stdin
            return _blob_of_stream(pipe, name, memory_bytes, total_bytes)
    except STREAM_ERRORS as error:
        raise unreadable(name, error) from error


def _blob_of_stream(stream: BinaryIO, name: str, memory_bytes: int, total_bytes: int) -> Blob:
    if stream.seekable():
        start = stream.tell()
        size = max(0, stream.seek(0, os.SEEK_END) - start)
        blob = InFile(stream, start=start, size=size, owned=False)
        return InMemory(blob.read()) if size <= memory_bytes else blob
    sink = Sink(memory_bytes)
    while chunk := stream.read(CHUNK):
        sink.write(chunk)
        if sink.size > total_bytes:
            sink.discard()
            raise ArchiveRefused(
                f"the stream gives more than {total_bytes:,} bytes (limit total_bytes).",
                source=name,
                hint="Save it to a file first, or raise the limit.",
            )
    return sink.finish()[0]


def _checked(source: object) -> One:
    """The source, when it is one; a path must lead to something.

    Raises:
        UsageError: it is none.
    """
    if isinstance(source, str | os.PathLike):
        _check_path(source)
        return source
    if isinstance(source, bytes | bytearray | memoryview):
        return source
    read = getattr(source, "read", None)
    try:
        is_binary = read is not None and isinstance(read(0), bytes)
    except STREAM_ERRORS as error:
        raise UsageError(f"The file object cannot be read: {error}.") from error
    if not is_binary:
        raise UsageError(
            f"Cannot read from {type(source).__name__}.",
            hint="Give a path, bytes, a file opened in binary mode ('rb'), or a list of them.",
        )
    return cast("BinaryIO", source)


def _check_path(path: str | os.PathLike[str]) -> None:
    shown = _printable(os.fspath(path))[:200]
    if not shown:
        raise UsageError("An empty path leads nowhere.", hint="Use '.' for the current folder.")
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        told = f"There is no file or folder {shown!r}."
        raise UsageError(told, hint="Check the path.") from error
    except PermissionError:
        return  # it may exist: refused when its turn comes, beside the others
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown!r} cannot be a path: {error}.") from error


def _name_of(source: One) -> str:
    if isinstance(source, str | os.PathLike):
        return _printable(os.fspath(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>"
    given = getattr(source, "name", None)
    return _printable(given) if isinstance(given, str) else "<stream>"


def _printable(path: str) -> str:
    """A path in which bytes that are no text cannot break later encoding."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
