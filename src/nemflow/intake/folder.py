"""The drop folder: which files in it are whole, and where they go.

Why: a file in a folder says nothing about whether its writer is done. Taken too early it is half a
file; moved carelessly it overwrites another, or is taken twice.

Promises: a file is ready when its size and times have stood still for ``settle_seconds`` of our own
clock, seen by at least two looks, so neither a slow writer nor a share with a wrong clock fools it.
Hidden files and those whose names end like unfinished ones are let alone. A symbolic link, a pipe
or a device is never opened. Nothing that lies anywhere is overwritten. However many files lie
there, at most ``FolderPace.files`` are remembered at a time, not counting those that were put off
because they cannot be read; the others have their turn later.
Several processes may watch one folder: what another has moved away is no error.

A file's way: dropped → ``taken/`` (it is ours, safe in the spool) → ``done/`` or ``rejected/``. The
three lie in the folder itself unless told otherwise. The first folder below names the sender.

Look next: ``nemflow.pipeline.collecting``, which makes deliveries of what is ready.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

from nemflow import failpoints
from nemflow.errors import NemflowError, SpoolFault

INBOX: Final = ""
TAKEN: Final = "taken"
DONE: Final = "done"
REJECTED: Final = "rejected"
#: Names that end so are being written, or are lock files of programs that have them open.
UNFINISHED: Final = (".tmp", ".part", ".partial", ".crdownload", ".filepart", ".download", "~")
_HIDDEN: Final = (".", "~$")
_NO_SENDER: Final = ("lost+found", "System Volume Information")  #: folders of the disk's own
_MOVED_AWAY: Final = (errno.ENOENT, errno.ESTALE)
Barred = Callable[[Path, OSError], object]  #: told of a folder that cannot be read


@dataclass(frozen=True, slots=True)
class FolderPace:
    """How a folder is watched."""

    settle_seconds: int = 3  #: so long a file must stand still
    rescan_seconds: int = 15  #: so often everything is looked at, whatever the system tells
    files: int = 5_000  #: so many files are watched, and taken, in one round


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells one state of a file from another."""

    inode: int
    size: int  #: bytes
    modified: int  #: ns
    #: ns; when it was last renamed too (not on Windows). Makes it no other state by itself.
    changed: int = field(compare=False)

    @classmethod
    def of(cls, about: os.stat_result) -> Mark:
        """The mark in what the system says of a file."""
        return cls(about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Ready:
    """A file that stands still."""

    path: Path
    sender: str | None  #: the first folder it lies in; None: it lies at the top
    mark: Mark

    @property
    def name(self) -> str:
        """Its name without folders."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class Strange:
    """Something that is no file: it is moved to ``rejected/``, and never opened."""

    path: Path
    sender: str | None
    what: str  #: as half a sentence: ``it is a symbolic link``


class StillMoving(NemflowError):
    """The file changed, or went, while it was being taken. It has its turn again later."""

    code = "E-FOLDER"


@dataclass(slots=True)
class _Seen:
    mark: Mark
    since: float  #: monotonic clock
    not_before: float = 0.0


class Inbox:
    """One drop folder."""

    def __init__(
        self,
        root: Path,
        pace: FolderPace | None = None,
        *,
        taken: Path | None = None,
        done: Path | None = None,
        rejected: Path | None = None,
        recursive: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch ``root``; nothing is opened or made.

        Args:
            root: the folder.
            pace: how.
            taken: where files lie while they are loaded; None: ``taken`` in the folder.
            done: where they lie after that; None: ``done`` in the folder.
            rejected: and where those that could not be loaded; None: ``rejected`` in the folder.
            recursive: folders in it as well.
            clock: seconds, for tests.
        """
        self.root = root.absolute()
        self.pace = pace or FolderPace()
        self.places = {
            TAKEN: (taken or self.root / TAKEN).absolute(),
            DONE: (done or self.root / DONE).absolute(),
            REJECTED: (rejected or self.root / REJECTED).absolute(),
        }
        self._ours = frozenset(str(place) for place in self.places.values())
        self.places[INBOX] = self.root
        self._recursive = recursive
        self.clock = clock
        self._seen: dict[str, _Seen] = {}
        self.waiting = 0  #: files of the last look that did not stand still yet, or had no turn
        #: Of the last look: folders that could not be read, or of whose files nothing is said; why.
        self.unknown: dict[Path, OSError] = {}

    def look(self) -> tuple[list[Ready], list[Strange]]:
        """One round: the files that are ready, oldest first, and what is no file.

        Raises:
            SpoolFault: the folder cannot be read, or is gone.
        """
        now, kept = self.clock(), {}
        ready: list[Ready] = []
        others: list[Strange] = []
        # What was put off does not count: many files that cannot be read hold nobody back.
        room = self.pace.files - sum(each.not_before <= now for each in self._seen.values())
        self.waiting, self.unknown = 0, {}
        for entry, sender in self._entries():
            try:
                about = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:  # a folder that may be listed and not entered, a bad disk
                self.waiting += 1
                self.unknown.setdefault(Path(entry.path).parent, error)
                continue
            what = strange(about)
            if what is not None:
                if len(others) < self.pace.files:
                    others.append(Strange(Path(entry.path), sender, what))
                continue
            mark, before = Mark.of(about), self._seen.get(entry.path)
            if before is None:
                self.waiting += 1
                if room > 0:  # else it has its turn when others have gone
                    room -= 1
                    kept[entry.path] = _Seen(mark, now)
            elif before.mark != mark:
                self.waiting += 1
                kept[entry.path] = _Seen(mark, now)
            else:
                kept[entry.path] = before
                if now - before.since < self.pace.settle_seconds or now < before.not_before:
                    self.waiting += 1
                else:
                    ready.append(Ready(Path(entry.path), sender, mark))
        self._seen = kept
        ready.sort(key=lambda each: (each.mark.modified, each.path))
        return ready, others

    def later(self, path: Path, seconds: float) -> None:
        """Let a file alone for a while."""
        found = self._seen.get(str(path))
        if found is not None:
            found.not_before = self.clock() + seconds

    def opened(self, file: Ready) -> contextlib.AbstractContextManager[BinaryIO]:
        """See ``opened`` below."""
        return opened(file)

    def check(self) -> None:
        """See that the folder is there and may be written. Raises SpoolFault."""
        if not (self.root.is_dir() and os.access(self.root, os.R_OK | os.W_OK | os.X_OK)):
            raise SpoolFault(
                f"The folder {self.root} is not there, or may not be written.",
                hint="Is it mounted, and may this user read and write it? See folder.path.",
            )

    def move(self, path: Path, place: str, sender: str | None, name: str) -> Path | None:
        """Move a file into one of our places, under a name of which there is only one.

        Returns:
            Where it is now; None: somebody else has moved it away.

        Raises:
            SpoolFault: it cannot be moved.
        """
        folder = self.place(place, sender)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            target = _free(folder / name)
            failpoints.reach("folder-move")
            try:
                path.rename(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                _across(path, target)
        except OSError as error:
            if error.errno in _MOVED_AWAY and not os.path.lexists(path):
                self._seen.pop(str(path), None)
                return None
            raise _told(path, error, to=folder) from error
        self._seen.pop(str(path), None)
        return target

    def place(self, place: str, sender: str | None) -> Path:
        """One of our places, for a sender."""
        return self.places[place] / sender if sender else self.places[place]

    def waiting_in(self, place: str, barred: Barred) -> Iterator[tuple[Path, str | None]]:
        """Files in one of our places, with their senders; ``barred``: see ``entries``."""
        root = self.places[place]
        with contextlib.suppress(FileNotFoundError):
            for entry, sender in entries(root, barred):
                yield Path(entry.path), sender

    def _entries(self) -> Iterator[tuple[os.DirEntry[str], str | None]]:
        barred = self.unknown.setdefault if self._recursive else lambda *_: None
        try:
            for entry, sender in entries(self.root, barred, self._ours):
                if self._recursive or sender is None:
                    yield entry, sender
        except OSError as error:
            raise SpoolFault(
                f"The folder {self.root} cannot be read: {error.strerror or error}.",
                hint="Is it mounted, and may this user read and write it?",
            ) from error


@contextlib.contextmanager
def opened(file: Ready) -> Iterator[BufferedReader]:
    """A file for reading; when the block ends it must still be what it was.

    Raises:
        StillMoving: it is gone, or is not as it was when it was ready.
        SpoolFault: it cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.fdopen(os.open(file.path, flags | getattr(os, "O_BINARY", 0)), "rb")
    except OSError as error:
        raise _told(file.path, error) from error
    with handle:
        _same(file, os.fstat(handle.fileno()))
        yield handle
        try:
            about = file.path.lstat()
        except OSError as error:
            raise _told(file.path, error) from error
        _same(file, about)


def entries(
    root: Path, barred: Barred, but: frozenset[str] = frozenset()
) -> Iterator[tuple[os.DirEntry[str], str | None]]:
    """Every finished file below, and whatever is no folder, with the first folder it lies in.

    Hidden ones and those still being written are left out, and the folders ``but`` and those of
    the disk itself. ``barred`` is called with each folder below that cannot be read. Raises
    OSError: the root cannot be.
    """
    for entry, sender in _walk(root, root, barred, but):
        if not entry.name.lower().endswith(UNFINISHED):
            yield entry, sender


def strange(about: os.stat_result) -> str | None:
    """Why it is no file, as half a sentence; None: it is one."""
    if stat.S_ISREG(about.st_mode):
        return None
    kinds = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISFIFO, "a pipe"))
    what = next((word for test, word in kinds if test(about.st_mode)), "a device")
    return f"it is {what}, not a file"


def _same(file: Ready, about: os.stat_result) -> None:
    if strange(about) is not None or Mark.of(about) != file.mark:
        raise StillMoving(f"{file.path} is still being written.")


class Watch:
    """Wakes somebody when the system says that something has come.

    What the system says may be lost or late, and on network shares nothing is said at all: whoever
    is woken looks at regular times as well. With ``polling`` the system is not asked.
    """

    def __init__(self, inbox: Inbox, wake: Callable[[], None], *, polling: bool) -> None:
        self._inbox = inbox
        self._wake = wake
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if not polling:
            self._thread = threading.Thread(target=self._run, name="folder-watch", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        if self._thread is not None:
            self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()

    def _run(self) -> None:
        from watchfiles import Change, watch

        ours = tuple(str(self._inbox.places[place]) for place in (TAKEN, DONE, REJECTED))

        def matters(change: Change, path: str) -> bool:
            return change != Change.deleted and not path.startswith(ours)

        while not self._stop.is_set():
            # No folder yet, too many watches, an unmounted share: the regular looks go on.
            with contextlib.suppress(OSError, RuntimeError):
                for _ in watch(
                    self._inbox.root,
                    watch_filter=matters,
                    stop_event=self._stop,
                    rust_timeout=1000,
                    raise_interrupt=False,
                ):
                    self._wake()
            self._stop.wait(10)


def _walk(
    folder: Path, root: Path, barred: Barred, but: frozenset[str]
) -> Iterator[tuple[os.DirEntry[str], str | None]]:
    """Every entry below that is no folder, and the first folder it lies in; links are entries."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_HIDDEN):
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.path not in but and entry.name not in _NO_SENDER:
                    try:
                        yield from _walk(Path(entry.path), root, barred, but)
                    except FileNotFoundError:
                        pass
                    except OSError as error:
                        barred(Path(entry.path), error)
                continue
            inside = Path(entry.path).relative_to(root).parts
            yield entry, inside[0] if len(inside) > 1 else None


def _free(target: Path) -> Path:
    """A name like it that nothing has."""
    number, free = 1, target
    while os.path.lexists(free):
        number += 1
        free = target.with_name(f"{target.stem}-{number}{target.suffix}")
    return free


def _across(path: Path, target: Path) -> None:
    """Move to another disk: whole under its name, or not at all."""
    beside = target.with_name(f".{target.name}.part")
    try:
        if path.is_symlink():
            beside.symlink_to(path.readlink())
        else:
            shutil.copy2(path, beside, follow_symlinks=False)
            with beside.open("rb") as copied:
                os.fsync(copied.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    path.unlink()


def _told(path: Path, error: OSError, *, to: Path | None = None) -> NemflowError:
    if error.errno in _MOVED_AWAY:
        return StillMoving(f"{path} is gone.")
    if to is None:
        what, hint = "cannot be taken", "May this user read it, and write its folder?"
    else:
        what, hint = f"cannot be moved to {to}", "May this user write both folders? Is there room?"
    return SpoolFault(f"{path} {what}: {error.strerror or error}.", hint=hint)
