"""Several processes that load at the same time, as one.

Why: parsing is work for processors, and a server takes several loaders at once; whoever called
sees one load: one progress, one account in the order given, one way to stop it.

How: the files are cut into shares, large ones first. Each process (spawned, because polars' threads
do not survive a fork) has its own connections and takes one share after the other. What it has to
say goes through a pipe to this process, which passes progress and events on.

Promises: a process that is killed takes only its share with it: what it left open is cleared at
once, its files have the state ``dead``, another process takes its place. When this process is
stopped or killed, the others roll back what is open and end. No two shares hold files of one name.

Look next: ``worker.py``, the other end of the pipe.
"""

from __future__ import annotations

import contextlib
import signal
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import connection, get_context, resource_tracker
from typing import TYPE_CHECKING, Any

from nemflow.errors import ArchiveRefused
from nemflow.events import Progress, tell
from nemflow.pipeline import worker
from nemflow.pipeline.outcome import FileOutcome
from nemflow.pipeline.work import Given, How, size_of, size_of_one

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from nemflow.events import Hook, ProgressHook
    from nemflow.store import Store

_SHARES_EACH = 4  #: so many shares per process, so that none has all the work at the end
_MOST_FILES = 500  #: in one share: what a killed process takes with it
_PATIENCE_SECONDS = 30  #: for a process to roll back, before it is killed


@dataclass(slots=True)
class _Share:
    """Files that one process loads one after the other."""

    given: list[tuple[Any, str] | ArchiveRefused]
    places: list[int]  #: of each in what was given to load
    size: int


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    link: Connection
    share: int | None = None
    seen: Progress | None = None  #: the last it said of its share


def load_in_parallel(
    store: Store,
    given: Given,
    how: How,
    jobs: int,
    *,
    size: int,
    hook: Hook | None,
    progress: ProgressHook | None,
) -> list[FileOutcome]:
    """Load ``given`` with ``jobs`` processes; what became of each, in the order given.

    Raises:
        NemflowError: a process could not go on (the store is full, ...): no further share was
            begun; shares that were loaded before are loaded.
    """
    shares = _shares(given, jobs, how)
    begin = Progress("", 0, 0, 0, size)
    crew = _Crew(store, shares, how, hook, progress, begin, deque(range(len(shares))))
    try:
        crew.work(min(jobs, len(shares)))
    finally:
        crew.dismiss()
    every = [(place, outcome) for share in crew.told for place, outcome in share]
    return [outcome for _, outcome in sorted(every, key=lambda pair: pair[0])]


@dataclass(slots=True)
class _Crew:
    """The processes and what is left to do."""

    store: Store
    shares: list[_Share]
    how: How
    hook: Hook | None
    progress: ProgressHook | None
    done: Progress
    left: deque[int] = field(default_factory=deque)  #: shares not begun, by number
    workers: list[_Worker] = field(default_factory=list)
    told: list[list[tuple[int, FileOutcome]]] = field(default_factory=list)
    failed: BaseException | None = None

    def work(self, jobs: int) -> None:
        """Have all shares loaded."""
        for _ in range(jobs):
            self._hire()
        while self.workers:
            ready = connection.wait([each.link for each in self.workers])
            for each in [one for one in self.workers if one.link in ready]:
                try:
                    self._hear(each, each.link.recv())
                except (EOFError, OSError):
                    self._lost(each)
        if self.failed is not None:
            raise self.failed

    def dismiss(self) -> None:
        """End the processes that are left, and clear what they could not."""
        for each in self.workers:
            each.process.terminate()
        for each in self.workers:
            each.process.join(_PATIENCE_SECONDS)
            if each.process.is_alive():
                each.process.kill()
                each.process.join()
            each.link.close()
        if self.workers:
            self.workers.clear()
            self._clear()

    def _hire(self) -> None:
        here, there = get_context("spawn").Pipe()
        backend = self.store.backend
        url = backend.url.render_as_string(hide_password=False)
        process = get_context("spawn").Process(
            target=worker.main, args=(there, url, backend.pool, self.how), daemon=True
        )
        # starting the first process starts this one's tracker, which lifts the block again
        resource_tracker.ensure_running()
        with _no_interrupt():
            process.start()
        there.close()
        self.workers.append(_Worker(process, here))
        self._next(self.workers[-1])

    def _next(self, each: _Worker) -> None:
        """Give it a share, or let it go."""
        each.share = each.seen = None
        if self.left and self.failed is None:
            each.share = self.left.popleft()
            message: Any = self.shares[each.share].given
        else:
            message = None
        # a process that is gone is noticed by reading
        with contextlib.suppress(OSError):
            each.link.send(message)

    def _hear(self, each: _Worker, message: Any) -> None:
        kind, said = message
        if kind == "progress":
            each.seen = said
            self._report(said.source)
        elif kind == "event":
            tell(self.hook, said)
        elif kind == "failed":
            self.failed = self.failed or said
        else:
            self._finish(each, said)
            self._next(each)

    def _finish(self, each: _Worker, outcomes: list[tuple[int, FileOutcome]]) -> None:
        """A share is done: its outcomes by the number of the file in the share."""
        assert each.share is not None  # noqa: S101 - for the type checker
        share = self.shares[each.share]
        self.told.append([(share.places[at], outcome) for at, outcome in outcomes])
        found = [outcome for _, outcome in outcomes]
        self.done = replace(
            self.done,
            files_done=self.done.files_done + len(found),
            days_done=self.done.days_done + sum(each.days.read for each in found),
            bytes_done=self.done.bytes_done + share.size,
        )
        each.seen = None
        self._report(found[-1].source if found else "")

    def _lost(self, each: _Worker) -> None:
        """Its pipe is closed: it had nothing to do any more, it failed, or it was killed."""
        self.workers.remove(each)
        each.process.join()
        each.link.close()
        if each.share is None or self.failed is not None:
            return
        self._clear()
        self._finish(each, _dead(self.shares[each.share].given, each.process.exitcode))
        if self.left:
            self._hire()

    def _clear(self) -> None:
        from nemflow.pipeline.loading import reconcile

        reconcile(self.store, hook=self.hook)

    def _report(self, source: str) -> None:
        if self.progress is None:
            return
        now = [each.seen for each in self.workers if each.seen is not None]
        self.progress(
            Progress(
                source,
                self.done.files_done + sum(each.files_done for each in now),
                self.done.days_done + sum(each.days_done for each in now),
                self.done.bytes_done + sum(each.bytes_done for each in now),
                self.done.bytes_total,
            )
        )


def _shares(given: Given, jobs: int, how: How) -> list[_Share]:
    """Cut what was given: large files alone, small ones together, files of one name together."""
    target = min(how.batch_bytes, size_of(given) // (jobs * _SHARES_EACH))
    by_name: dict[str, _Share] = {}
    for place, found in enumerate(given):
        name = found.source if isinstance(found, ArchiveRefused) else found[1]
        one = by_name.setdefault(name, _Share([], [], 0))
        one.given.append(found)
        one.places.append(place)
        one.size += size_of_one(found)
    shares: list[_Share] = []
    for one in by_name.values():
        last = shares[-1] if shares else None
        fits = last is not None and last.size + one.size <= target
        if last is not None and fits and len(last.given) + len(one.given) <= _MOST_FILES:
            last.given += one.given
            last.places += one.places
            last.size += one.size
        else:
            shares.append(one)
    return sorted(shares, key=lambda share: -share.size)


def _dead(given: Given, code: int | None) -> list[tuple[int, FileOutcome]]:
    """What became of the files of a process that was killed."""
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    why = (
        f"The process that loaded it ended before it was done ({how}). Load it again: what was "
        "loaded is recognised."
    )
    names = [found.source if isinstance(found, ArchiveRefused) else found[1] for found in given]
    return [(at, FileOutcome(name, "dead", error=why)) for at, name in enumerate(names)]


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """A process begun in the block is born deaf to Ctrl-C; this one hears it after the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
