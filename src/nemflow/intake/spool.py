"""The spool: where bytes land before anybody is told that they were accepted.

Why: a sender who was answered forgets the file. So what was answered must be on the disk, whole,
under a name that says what it is; and what was cut off on the way must leave nothing.

Promises: an original lies at ``aa/bb/<sha256>`` whole or not at all, whatever is killed when; after
``keep`` it survives a power cut (file flushed, renamed, folder flushed, in this order); more bytes
than allowed are refused as they come, not afterwards. Two senders of the same bytes share one
original: who deletes it must know that nobody else needs it (``nemflow.store`` does).

What stays for good (its delivery is refused, or not taken in whole) is set aside in ``kept/``: it
does not count towards ``total_bytes``, for nobody would ever make room by loading it.

What is being received lies in ``landing/`` under a lock; what a killed process left there is
removed by ``tidy``. Several processes may use one spool; on several machines it is a shared folder.

Look next: ``nemflow.pipeline.receiving``, which writes the ledger row after it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

from nemflow import failpoints
from nemflow.errors import NotFound, SpoolFault, SpoolFull, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

LANDING: Final = "landing"
_KEPT: Final = "kept"  #: below it the same ``aa/bb/<sha256>``
_UNFINISHED: Final = ".part"
_LOOK_BYTES: Final = 16 << 20  #: free space is looked at again after so many bytes
_COUNT_SECONDS: Final = 60.0  #: so often the whole spool is counted again
_COPY_BYTES: Final = 1 << 20
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How much the spool takes."""

    file_bytes: int = 256 << 20  #: one upload
    total_bytes: int = 64 << 30  #: all originals together that wait to be loaded
    free_bytes: int = 512 << 20  #: so much of the disk is left free


@dataclass(frozen=True, slots=True)
class Spooled:
    """An original that is safely there."""

    sha256: str  #: of its bytes, in hex
    size: int  #: bytes
    path: Path


@dataclass(frozen=True, slots=True)
class Usage:
    """What lies in the spool; ``landing`` is not counted."""

    files: int
    bytes: int
    free_bytes: int  #: of the disk it is on
    kept_files: int = 0  #: set aside: they count towards no limit but the disk's
    kept_bytes: int = 0


class Spool:
    """A folder of originals, by their SHA-256."""

    def __init__(self, root: str | Path, limits: SpoolLimits | None = None) -> None:
        """Use, or make, the spool in the folder ``root``.

        Raises:
            SpoolFault: the folder cannot be made or written.
            SpoolFull: there is no room to make it.
        """
        self.root = Path(root).absolute()
        self.limits = limits or SpoolLimits()
        self._landing = self.root / LANDING
        self._counted_at: float | None = None
        self._files = self._bytes = 0  #: when it was counted, and what came and went here since
        self._kept_counts = 0, 0  #: files and bytes set aside, when it was counted
        self._counting = threading.Lock()
        with _faults(self.root):
            _make_folder(self._landing)

    def landing(self) -> Landing:
        """A place for the bytes of one upload; use it in a ``with``.

        Raises:
            SpoolFull: the spool, or its disk, has no room for more.
            SpoolFault: it cannot be written.
        """
        self.check_room(0)
        return Landing(self)

    def check_room(self, more: int) -> None:
        """See that ``more`` bytes find room; for whoever knows a size before the bytes come.

        Raises:
            TooLarge: no upload may be so large.
            SpoolFull: there is no room now; later there may be.
        """
        limits = self.limits
        if more > limits.file_bytes:
            raise too_large(limits.file_bytes)
        self._count_now_and_then()
        if self._bytes + more > limits.total_bytes:
            raise SpoolFull(
                f"The spool holds {self._bytes:,} bytes of {limits.total_bytes:,} allowed.",
                hint="Wait until what is there is loaded, or raise spool.total_bytes.",
            )
        self.check_disk(more)

    def check_disk(self, more: int) -> None:
        """See that the disk keeps ``limits.free_bytes`` free after ``more``. Raises SpoolFull."""
        free = self._free()
        if free - more < self.limits.free_bytes:
            raise SpoolFull(
                f"The spool's disk has {free:,} bytes left; "
                f"{self.limits.free_bytes:,} are to stay free.",
                hint="Free space on it, or lower spool.free_bytes.",
            )

    def path(self, sha256: str) -> Path:
        """Where the original of this SHA-256 lies, or would lie.

        Raises:
            ValueError: it is no SHA-256 in lower-case hex.
        """
        here, kept = self._usual(sha256), aside(self.root, sha256)
        return kept if not here.exists() and kept.exists() else here

    def _usual(self, sha256: str) -> Path:
        if _SHA256.fullmatch(sha256) is None:
            raise ValueError(f"{sha256[:80]!r} is no SHA-256.")
        return self.root / sha256[:2] / sha256[2:4] / sha256

    def set_aside(self, sha256: str) -> bool:
        """Keep an original where it does not count; False: it was not there. Raises SpoolFault."""
        here, kept = self._usual(sha256), aside(self.root, sha256)
        with _faults(kept):
            if not here.exists():
                return False
            size = here.stat().st_size
            _make_folder(kept.parent)
            here.replace(kept)
            _flush_folder(kept.parent)
            _flush_folder(here.parent)
        self._noted(-1, -size)
        return True

    def has(self, sha256: str) -> bool:
        """Whether the original is there."""
        return self.path(sha256).is_file()

    def delete(self, sha256: str) -> bool:
        """Remove an original; False when it was not there. Raises SpoolFault."""
        gone = False
        for path in (self._usual(sha256), aside(self.root, sha256)):
            with _faults(path):
                try:
                    size = path.stat().st_size
                    path.unlink()
                except FileNotFoundError:
                    continue
                _flush_folder(path.parent)
            if path == self._usual(sha256):
                self._noted(-1, -size)
            gone = True
        return gone

    def copy(self, sha256: str, to: str | Path) -> Path:
        """Have an original at ``to/aa/bb/<sha256>`` too, on the disk; returns where that is.

        Raises:
            NotFound: it is in neither place.
            SpoolFull: there is no room in the archive.
            SpoolFault: the archive cannot be written.
        """
        path = self.path(sha256)
        target = Path(to).absolute() / sha256[:2] / sha256[2:4] / sha256
        with _faults(target):
            if target.exists():
                return target
            if not path.exists():
                raise NotFound(
                    f"The original {sha256[:12]} is not in the spool.",
                    hint="See what became of it: nemflow deliveries",
                )
            _make_folder(target.parent)
            beside = target.with_name(f".{sha256}.{uuid.uuid4().hex}{_UNFINISHED}")
            try:
                with path.open("rb") as source, beside.open("xb") as copy:
                    shutil.copyfileobj(source, copy, _COPY_BYTES)
                    _flush(copy)
                beside.replace(target)
            finally:
                beside.unlink(missing_ok=True)
            _flush_folder(target.parent)
        return target

    def usage(self, *, max_age: float = 0.0) -> Usage:
        """How much lies here, counted file by file (slow), or up to ``max_age`` seconds ago."""
        at = self._counted_at
        if at is not None and time.monotonic() - at < max_age:
            return Usage(self._files, self._bytes, self._free(), *self._kept_counts)
        files = total = kept = kept_bytes = 0
        for _, size, _ in self._each(self.root):
            files, total = files + 1, total + size
        for _, size, _ in self._each(self.root / _KEPT):
            kept, kept_bytes = kept + 1, kept_bytes + size
        self._files, self._bytes, self._counted_at = files, total, time.monotonic()
        self._kept_counts = kept, kept_bytes
        return Usage(files, total, self._free(), kept, kept_bytes)

    def _count_now_and_then(self) -> None:
        """Have it counted in another thread when that was long ago; nobody waits for it."""
        at = self._counted_at
        if at is not None and time.monotonic() - at < _COUNT_SECONDS:
            return
        if self._counting.acquire(blocking=False):
            threading.Thread(target=self._count, name="spool-count", daemon=True).start()

    def _count(self) -> None:
        try:
            self.usage()
        except (OSError, SpoolFault):
            self._counted_at = time.monotonic()  # whoever writes next is told what is wrong
        finally:
            self._counting.release()

    def _noted(self, files: int, size: int) -> None:
        """So much came, or went."""
        self._files = max(0, self._files + files)
        self._bytes = max(0, self._bytes + size)

    def originals(self, *, older_than: float = 0.0) -> Iterator[str]:
        """The SHA-256 of every original that has lain here for so many seconds."""
        latest = time.time() - older_than
        for root in (self.root, self.root / _KEPT):
            for sha256, _, at in self._each(root):
                if at <= latest:
                    yield sha256

    def tidy(self) -> int:
        """Remove what killed processes left of uploads; returns how many.

        What is still being received, by any process, is under a lock and is left alone.
        """
        gone = 0
        with _faults(self._landing):
            for path in sorted(self._landing.glob(f"*{_UNFINISHED}")):
                try:
                    with path.open("rb") as file:
                        if not _lock(file):
                            continue
                        path.unlink(missing_ok=True)
                        gone += 1
                except FileNotFoundError:
                    continue
        return gone

    def _each(self, root: Path) -> Iterator[tuple[str, int, float]]:
        """SHA-256, size and time of every original below ``root``."""
        for folder in self._inner_folders(root):
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        if _SHA256.fullmatch(entry.name):
                            about = entry.stat()
                            yield entry.name, about.st_size, about.st_mtime

    def _inner_folders(self, root: Path) -> Iterator[str]:
        """Every ``aa/bb``."""
        if root != self.root and not root.exists():
            return
        with os.scandir(root) as outer:
            first = [each.path for each in outer if len(each.name) == 2 and each.is_dir()]
        for path in first:
            with os.scandir(path) as inner:
                yield from [each.path for each in inner if each.is_dir()]

    def _free(self) -> int:
        with _faults(self.root):
            return shutil.disk_usage(self.root).free


class Landing:
    """The bytes of one upload, hashed as they come. Leaves no trace unless it is kept.

    Not for several threads at once. A process that is killed leaves a file that nobody takes for
    an original; ``Spool.tidy`` removes it.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._digest = hashlib.sha256()
        self._kept: Spooled | None = None
        self._synced = False
        self._looked = 0
        self.size = 0  #: bytes so far
        with _faults(spool.root):
            self._path, self._file = _locked_file(spool.root / LANDING)
        failpoints.reach("spool-begun")

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes so far, in hex."""
        return self._digest.hexdigest()

    @property
    def digest(self) -> bytes:
        """The same as 32 bytes, as Content-Digest has them."""
        return self._digest.digest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Raises:
            TooLarge: with these it is more than ``limits.file_bytes``.
            SpoolFull: the disk, or what may be used of it, is full.
            SpoolFault: the disk does not take them.
        """
        self._synced = False
        self.size += len(data)
        if self.size > self._spool.limits.file_bytes:
            raise too_large(self._spool.limits.file_bytes)
        if self.size - self._looked >= _LOOK_BYTES:
            self._looked = self.size
            self._spool.check_disk(0)
        with _faults(self._path):
            self._file.write(data)
        self._digest.update(data)

    def sync(self) -> None:
        """Have the bytes on the disk; ``keep`` does it too, this way it can be done beforehand."""
        if not self._synced:
            with _faults(self._path):
                failpoints.reach("spool-written")
                _flush(self._file)
                self._synced = True
        failpoints.reach("spool-synced")

    def keep(self) -> Spooled:
        """Make it an original: when this returns, it is there for good.

        May be called again: then it makes sure that it is still there, since somebody else may
        have been done with the same bytes and have deleted them.

        Raises:
            SpoolFull: no room for the folder it goes to.
            SpoolFault: the disk does not do it.
        """
        spooled = Spooled(self.sha256, self.size, self._spool._usual(self.sha256))
        target = spooled.path
        self.sync()
        with _faults(target):
            _make_folder(target.parent)
            was_there = target.exists() and target.stat().st_size == self.size
            if was_there:  # left as it is: somebody may be reading it
                self._path.unlink(missing_ok=True)
            elif self._kept is None:
                self._path.replace(target)
            else:
                self._copy(target)
            failpoints.reach("spool-renamed")
            _flush_folder(target.parent)
        self._kept = spooled
        if not was_there:
            self._spool._noted(1, self.size)
        failpoints.reach("spool-kept")
        return spooled

    def discard(self) -> None:
        """Remove the bytes unless they are kept; harmless twice."""
        if self._kept is None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a full disk: what is not flushed is not wanted
            self._file.close()

    def _copy(self, target: Path) -> None:
        """Once more under its name, from the bytes that are still open here."""
        path, copy = _locked_file(self._spool.root / LANDING)
        try:
            with copy:
                self._file.seek(0)
                shutil.copyfileobj(self._file, copy, _COPY_BYTES)
                _flush(copy)
                path.replace(target)
        finally:
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()


def aside(root: Path, sha256: str) -> Path:
    """Where an original that is kept for good lies."""
    return root / _KEPT / sha256[:2] / sha256[2:4] / sha256


def too_large(most: int) -> TooLarge:
    """The refusal of an upload of more than ``most`` bytes."""
    return TooLarge(
        f"The upload has more than {most:,} bytes, which is the most that is taken.",
        hint="Send it compressed (zip, gzip) or in parts, or raise spool.file_bytes.",
    )


def _locked_file(folder: Path) -> tuple[Path, IO[bytes]]:
    """A new file to write into, under a lock that ends with this process."""
    while True:
        path = folder / f"{uuid.uuid4().hex}{_UNFINISHED}"
        file = path.open("x+b")
        # ``tidy`` may be there between the two: then it has the lock, or the file is gone
        if _lock(file) and path.exists():
            return path, file
        file.close()


def _lock(file: IO[bytes]) -> bool:
    """Take the file's lock; False when somebody has it."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows: an open file cannot be removed there
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on the disk before what is put into it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    if os.name != "posix":  # pragma: no cover - Windows has no such call
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Errors of the operating system as ours."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in _FULL:
            raise SpoolFull(
                f"There is no room for {path.name} in the spool: {why}.",
                hint="Free space on the spool's disk; nothing that was accepted is lost.",
            ) from error
        raise SpoolFault(
            f"The spool cannot use {path}: {why}.",
            hint="Check the folder's permissions and its disk.",
        ) from error
