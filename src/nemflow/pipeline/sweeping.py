"""Sweep: everything in a folder that is not known yet becomes a delivery; the files stay.

Why: an archive, or a share that others write to and read from, is not ours to tidy.

Promises: a file that was taken is not taken again unless it was written again; this costs one look
at each file, not its bytes. Killed in between, nothing is taken twice. Two sweeps of one folder at
the same time make one delivery of each file. What cannot be read is counted and named, and holds
back no other file.

Look next: ``collecting.py`` for folders whose files are moved; ``nemflow.jobs.sweeper`` for when.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nemflow.errors import NemflowError, SpoolFault, SpoolFull, TooLarge, UsageError
from nemflow.intake.folder import Mark, Ready, StillMoving, entries, opened, strange
from nemflow.pipeline.collecting import Wishes, key_of, shown
from nemflow.pipeline.receiving import receive

if TYPE_CHECKING:
    from nemflow.intake.spool import Spool
    from nemflow.pipeline.collecting import Collector
    from nemflow.store import Store

log = logging.getLogger(__name__)
_COPY_BYTES: Final = 1 << 20
_NOTED_AT_ONCE: Final = 200
_TOLD: Final = 100  #: problems that are named


@dataclass(slots=True)
class Swept:
    """What a sweep did, in files; found = known + taken + duplicates + young + refused + left."""

    found: int = 0  #: files in the folder
    known: int = 0  #: taken by an earlier sweep, and as they were
    taken: int = 0  #: became deliveries
    duplicates: int = 0  #: the same, of bytes that are loaded already
    young: int = 0  #: written a moment ago: for the next sweep
    refused: int = 0  #: too large, unreadable, or no files at all; see ``problems``
    left: int = 0  #: no room for them now; see ``held``
    held: str | None = None  #: why no more was taken
    problems: list[str] = field(default_factory=list)  #: at most a hundred


def sweep(
    store: Store,
    spool: Spool,
    root: Path,
    *,
    wishes: Wishes | None = None,
    recursive: bool = True,
    settle_seconds: float = 3.0,
    crowded: Callable[[], str | None] = lambda: None,
    nudge: Callable[[], None] = lambda: None,
    tell: Callable[[Swept], None] = lambda _: None,
) -> Swept:
    """Make deliveries of what is new in a folder.

    Args:
        store: whose ledger they go to.
        spool: where their bytes go.
        root: the folder; it is only read.
        wishes: channel (default ``batch``), rule profile, lane, sender of files at the top; the
            first folder below the root names the sender of all others.
        recursive: folders below as well.
        settle_seconds: a file must be at least so old, by the clock of its disk.
        crowded: why nothing more should be taken now; None: there is room.
        nudge: called when something was taken.
        tell: called with the counts so far, after each file that was looked at closely.

    Raises:
        UsageError: there is no such folder.
        SpoolFault: the spool cannot be used.
        StoreError: the ledger cannot be used; what was taken stays taken.
    """
    root = root.absolute()
    if not root.is_dir():
        raise UsageError(f"There is no folder {root}.", hint="Is it mounted?")
    wishes = wishes or Wishes(channel="batch")
    name, done = shown(str(root)), Swept()
    known, fresh = store.swept(name), dict[str, tuple[str, int]]()
    try:
        for file in _files(root, done, recursive=recursive):
            inside = shown(str(file.path.relative_to(root)))
            mark = f"{file.mark.size}:{file.mark.modified}"
            if known.get(inside) == mark:
                done.known += 1
                continue
            tell(done)
            # A time in the future is a wrong clock's, not a moment ago: it would be young for ever.
            if 0 <= time.time() - file.mark.modified / 1e9 < settle_seconds:
                done.young += 1
                continue
            if done.held is None:
                done.held = crowded()
            if done.held is not None:
                done.left += 1
                continue
            number = _take(store, spool, file, wishes, done)
            if number is not None:
                fresh[inside] = mark, number
            if len(fresh) >= _NOTED_AT_ONCE:
                store.note_swept(name, fresh)
                fresh.clear()
                nudge()
    finally:
        store.note_swept(name, fresh)
        if done.taken:
            nudge()
    tell(done)
    return done


def sweep_away(
    mover: Collector,
    root: Path,
    *,
    settle_seconds: float,
    tell: Callable[[Swept], None] = lambda _: None,
) -> Swept:
    """Take in a folder whose files are moved, until none is left that is ready.

    Args:
        mover: of the folder; it is not running.
        root: the folder.
        settle_seconds: its inbox's.
        tell: called with the counts so far, after each round.

    Raises:
        UsageError: there is no such folder.
        SpoolFault, StoreError: see ``Collector.round``; what was taken stays taken.
    """
    if not root.is_dir():
        raise UsageError(f"There is no folder {root}.", hint="Is it mounted?")
    done, idle = Swept(), 0
    while True:
        last = mover.round()
        idle = 0 if last.taken else idle + 1
        done.taken += last.taken
        done.refused += last.refused
        done.left, done.held = last.left, last.held
        done.found = done.taken + done.refused + done.left
        tell(done)
        # What was first seen in this look is ready in the next; what moves on is not waited for.
        if done.held is not None or not last.left or idle > 1:
            return done
        time.sleep(settle_seconds if idle else 0.0)


def _files(root: Path, done: Swept, *, recursive: bool) -> Iterator[Ready]:
    """The files, with those counted that are none, and folders that cannot be read."""

    def barred(folder: Path, error: OSError) -> None:
        if not recursive:
            return
        done.found += 1
        _refused(done, folder, error.strerror or str(error))

    try:
        for entry, sender in entries(root, barred):
            if sender is not None and not recursive:
                continue
            done.found += 1
            try:
                about = entry.stat(follow_symlinks=False)
            except OSError as error:
                _refused(done, Path(entry.path), error.strerror or str(error))
                continue
            what = strange(about)
            if what is not None:
                _refused(done, Path(entry.path), what)
            else:
                yield Ready(Path(entry.path), sender, Mark.of(about))
    except OSError as error:
        raise UsageError(
            f"The folder {root} cannot be read: {error.strerror or error}.",
            hint="Is it mounted, and may this user read it?",
        ) from error


def _take(store: Store, spool: Spool, file: Ready, wishes: Wishes, done: Swept) -> int | None:
    """The delivery it became; None: it became none, and ``done`` says why."""
    try:
        spool.check_room(file.mark.size)
        with spool.landing() as landing:
            with opened(file) as source:
                while piece := source.read(_COPY_BYTES):
                    landing.write(piece)
            receipt = receive(
                store,
                spool,
                landing,
                name=shown(file.name),
                channel=wishes.channel,
                sender=shown(file.sender) if file.sender else wishes.sender,
                profile=wishes.profile,
                lane=wishes.lane,
                idempotency_key=key_of(file, landing.sha256),
                hook=wishes.hook,
            )
    except (TooLarge, OSError) as error:
        _refused(done, file.path, str(error))
    except StillMoving:
        done.young += 1
    except SpoolFull as full:
        done.held = str(full)
        done.left += 1
    except SpoolFault as error:
        if not os.access(file.path, os.R_OK):
            _refused(done, file.path, str(error))
        else:
            raise
    except NemflowError:
        raise
    except Exception as error:
        log.exception("%s cannot be taken.", shown(str(file.path)))
        _refused(done, file.path, f"{type(error).__name__}: {error}")
    else:
        if receipt.duplicate_of is None:
            done.taken += 1
        else:
            done.duplicates += 1
        return receipt.delivery
    return None


def _refused(done: Swept, path: Path, why: str) -> None:
    done.refused += 1
    if len(done.problems) < _TOLD:
        done.problems.append(shown(f"{path}: {why}"))
