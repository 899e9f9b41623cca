"""Bytes somewhere: in memory, in an open file, or in a file on disk.

Why: a container and a member are the same thing to whoever reads them, wherever they lie.
Promises: a blob can be opened any number of times, each handle with its own position; small
content stays in memory, large content goes to an unnamed temporary file that the system
removes even when the process is killed; a file on disk is never copied.
Where to look next: ``archive`` decides what becomes a blob.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import threading
import weakref
import zlib
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from nemflow.errors import ArchiveRefused, SystemFault

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 1 << 18  #: bytes moved at a time
#: What reading a caller's own stream may raise (closed meanwhile, cut short, damaged).
STREAM_ERRORS = (OSError, ValueError, EOFError, zlib.error)


class Blob(Protocol):
    """Bytes of a known size that can be read again and again."""

    size: int

    def open(self) -> BinaryIO:
        """A new binary handle at position 0; the caller closes it."""

    def read(self) -> bytes:
        """All of it; only sensible for content that fits in memory."""

    def close(self) -> None:
        """Let go of the memory or the temporary file; harmless twice."""


class InMemory:
    """Bytes in memory."""

    __slots__ = ("_data", "size")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def open(self) -> BinaryIO:
        """A handle on the bytes; they are not copied."""
        return io.BytesIO(self._data)

    def read(self) -> bytes:
        """The bytes themselves."""
        return self._data

    def close(self) -> None:
        """Let go of the bytes."""
        self._data = b""


class InFile:
    """Bytes of an open, seekable file from ``start`` on; handles share it under a lock.

    With ``owned`` the file is closed with the blob (a temporary file); a caller's file is not.
    """

    def __init__(self, file: BinaryIO, *, start: int, size: int, owned: bool) -> None:
        self._file = file
        self._start = start
        self._lock = threading.Lock()
        self.size = size
        self._closer = weakref.finalize(self, file.close) if owned else None

    def open(self) -> BinaryIO:
        """A handle with its own position."""
        return cast("BinaryIO", io.BufferedReader(_Window(self), CHUNK))

    def read(self) -> bytes:
        """All bytes."""
        with self.open() as handle:
            return handle.read()

    def read_at(self, position: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``position`` (0 = the blob's first byte)."""
        count = min(count, self.size - position)
        if count <= 0:
            return b""
        with self._lock:
            self._file.seek(self._start + position)
            return self._file.read(count)

    def close(self) -> None:
        """Close the file when it is ours."""
        if self._closer is not None:
            self._closer()


class OnDisk:
    """A file on disk, opened when needed. It must not change while we work on it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._seen = path.stat()
        self.size = self._seen.st_size

    def open(self) -> BinaryIO:
        """A handle on the file.

        Raises:
            ArchiveRefused: the file is gone, unreadable, or was written to since it was found.
        """
        try:
            handle = self._path.open("rb")
        except OSError as error:
            raise unreadable(self._name, error) from error
        now = os.fstat(handle.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._seen.st_size, self._seen.st_mtime_ns):
            handle.close()
            raise ArchiveRefused(
                "the file changed while it was being read.",
                source=self._name,
                hint="Wait until it is completely written, then try again.",
            )
        return handle

    def read(self) -> bytes:
        """All bytes; raises like ``open``."""
        with self.open() as handle:
            return handle.read()

    def close(self) -> None:
        """Nothing is held."""


class _Window(io.RawIOBase):
    """One reader's position in an ``InFile``."""

    def __init__(self, blob: InFile) -> None:
        self._blob = blob
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._blob.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._blob.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class Sink:
    """Takes bytes as they come: in memory up to ``memory_bytes``, then in a temporary file."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._parts: list[bytes] = []
        self._file: BinaryIO | None = None
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            SystemFault: there is no room for the temporary file.
        """
        self._sha256.update(data)
        self.size += len(data)
        if self._file is None:
            self._parts.append(data)
            if self.size <= self._memory_bytes:
                return
            data, self._parts = b"".join(self._parts), []
        try:
            if self._file is None:
                self._file = cast("BinaryIO", tempfile.TemporaryFile(prefix="nemflow-"))  # noqa: SIM115
            self._file.write(data)
        except OSError as error:
            self.discard()
            raise no_room(error) from error

    def finish(self) -> tuple[Blob, str]:
        """What was written, and its SHA-256 in hex."""
        digest = self._sha256.hexdigest()
        if self._file is None:
            return InMemory(b"".join(self._parts)), digest
        try:
            self._file.flush()
        except OSError as error:
            self.discard()
            raise no_room(error) from error
        return InFile(self._file, start=0, size=self.size, owned=True), digest

    def discard(self) -> None:
        """Let go of everything; the sink is not used again."""
        self._parts = []
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError:  # a full disk: what could not be flushed is not wanted anyway
                return


def no_room(error: OSError) -> SystemFault:
    """The fault of a temporary file that cannot be written."""
    return SystemFault(
        f"Unpacking needs a temporary file, which failed: {error.strerror or error}.",
        hint="Free space in the temporary folder, or point TMPDIR to another one.",
    )


def out_of_reach(error: BaseException | None) -> bool:
    """Whether a refusal comes of the disk or the share, not of what the bytes are."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return True
        error = error.__cause__
    return False


def unreadable(name: str, error: Exception) -> ArchiveRefused:
    """The refusal of a file or stream that cannot be read."""
    return ArchiveRefused(
        f"it cannot be read: {getattr(error, 'strerror', None) or error}.",
        source=name,
        hint="Check that the file is still there and that you may read it.",
    )
