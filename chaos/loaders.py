"""Loaders: real processes that load files, all ready at once, each killable.

Why: what is shown of threads is not shown of processes; and a process that starts in half a second
cannot be killed three hundred times in a test. So they are forked from a server that has the
imports done (``multiprocessing``'s forkserver).

Promises: a loader says what became of every file, also when it fails; what it said before it was
killed is kept.

Look next: ``crashes.py`` and ``contests.py``, which use them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from nemflow import failpoints
from nemflow.errors import NemflowError
from nemflow.pipeline import large, load, unpack
from nemflow.store import Store, open_store

PATIENCE = 180  # seconds any loader may take

_CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "nemflow.pipeline",
        "nemflow.store.backends.postgres",
        "nemflow.store.backends.sqlite",
        "nemflow.store.backends.pgcopy",
        "psycopg",
        "sqlalchemy.dialects.postgresql.psycopg",
        "sqlalchemy.dialects.sqlite.pysqlite",
        "nemflow.library",
    ]
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a loader said of one call of ``load``."""

    states: tuple[str, ...]  #: of each text, in order
    error: str  #: of the call; empty when it went well
    kind: str  #: class of that error


@dataclass(frozen=True, slots=True)
class Order:
    """What a loader shall do."""

    database: str
    calls: tuple[tuple[str, ...], ...]  #: the paths of each call of ``load``
    failpoint: str = ""  #: armed anew before each call
    pieces: int = 0  #: bytes of a piece; 0: the usual, else every text counts as large
    again: int = 0  #: so often a call that failed is made again, after a pause


class Loader:
    """One loading process."""

    def __init__(self, order: Order, said: Path, gate: Barrier | None = None) -> None:
        self._said = said
        self._gate = gate  # kept: the gate is gone when nobody here holds it
        self.process = start(_work, order, str(said), gate)

    def wait_until_ready(self) -> None:
        """Wait until its store is open."""
        end = time.monotonic() + PATIENCE
        while not self._said.exists() and self.process.is_alive() and time.monotonic() < end:
            time.sleep(0.002)

    def signal(self, number: int) -> None:
        """Send it a signal, unless it is gone."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def wait(self) -> int:
        """Wait for its end; its exit code, -9 when it was killed."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"a loader took longer than {PATIENCE} s")
        return self.process.exitcode

    def said(self) -> list[Said]:
        """What it said so far."""
        if not self._said.exists():
            return []
        lines = self._said.read_text(encoding="utf-8").splitlines()
        return [Said(tuple(s), error, kind) for s, error, kind in map(json.loads, lines)]


def start(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a function as a process of its own."""
    process = _CONTEXT.Process(target=target, args=arguments, daemon=True)
    runner = sys.modules["__main__"]
    # a child need not run the test runner's own script again
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = runner
    return process


def gate(parties: int) -> Barrier:
    """A gate that opens when so many loaders stand before it."""
    return _CONTEXT.Barrier(parties)


def crew(folder: Path, orders: Sequence[Order], *, together: bool = True) -> list[Loader]:
    """Several loaders, that begin together; wait for them with ``all_said``."""
    begin = gate(len(orders)) if together else None
    now = time.monotonic_ns()
    return [Loader(order, folder / f"said-{now}-{n}", begin) for n, order in enumerate(orders)]


def all_said(loaders: Sequence[Loader]) -> list[Said]:
    """What they all said when they are done; a process that died says so as an error."""
    found: list[Said] = []
    for loader in loaders:
        code = loader.wait()
        found += loader.said()
        if code:
            found.append(Said((), f"the process ended with {code}", "Died"))
    return found


@contextmanager
def opened(database: str, begin: Barrier | None) -> Iterator[Store]:
    """An open store, when all the others have theirs; if one cannot, nobody waits for it."""
    try:
        store = open_store(database)
    except BaseException:
        if begin is not None:
            begin.abort()
        raise
    with store:
        if begin is not None:
            begin.wait(PATIENCE)
        yield store


def _work(order: Order, path: str, begin: Barrier | None) -> None:
    """The process: open, wait for the others, load, say."""
    if order.pieces:
        unpack.WHOLE_BYTES, large.PIECE_BYTES = 0, order.pieces
    with opened(order.database, begin) as store, Path(path).open("ab", buffering=0) as out:
        for paths in order.calls:
            for attempt in range(order.again + 1):
                failpoints.arm(order.failpoint)
                states: tuple[str, ...] = ()
                error, kind = "", ""
                try:
                    states = tuple(file.state for file in load(store, list(paths)).files)
                except NemflowError as failure:
                    error, kind = failure.message, type(failure).__name__
                except Exception as failure:  # noqa: BLE001 - it is what the test wants to see
                    error, kind = f"{failure!r}", "Unmapped"
                line = json.dumps([states, error, kind])
                out.write(f"{line}\n".encode())
                if not error or kind == "Unmapped":
                    break
                time.sleep(min(0.05 * 2**attempt, 1.0))
