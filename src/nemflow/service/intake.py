"""What an upload needs beside its bytes: room, the ledger, and somebody to be told.

Why: the routes should not know the spool, the backlog and the queue one by one.

Promises: nothing is accepted while too much waits, and whoever is refused is told when to come
back, from how fast work is being done; the queue is told after the ledger's commit, by another
thread, so that a broker that is away delays no answer and loses no work.

Look next: ``uploads.py``; ``nemflow.store.dispatch`` for what is due.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from nemflow.errors import NemflowError, SpoolFull
from nemflow.intake.accepting import AcceptLimits
from nemflow.pipeline import crowding
from nemflow.service.problems import Problem
from nemflow.store import dispatch

if TYPE_CHECKING:
    from nemflow.intake.spool import Spool
    from nemflow.store import Store

_BACKLOG_SECONDS = 1.0
_SHORTEST, _LONGEST, _UNKNOWN = 2.0, 600.0, 30.0


class Intake:
    """Takes uploads for a store.

    Args:
        store: whose ledger they are written to.
        spool: where their bytes go.
        limits: how many at the same time, and how much may wait.
        nudge: called after each commit; returns at once.
    """

    def __init__(
        self, store: Store, spool: Spool, limits: AcceptLimits, nudge: Callable[[], None]
    ) -> None:
        self.store = store
        self.spool = spool
        self.limits = limits
        self.nudge = nudge
        self._looking = threading.Lock()
        self._backlog: tuple[float, dispatch.Backlog] | None = None
        self._since = [0, 0]  #: files and bytes accepted here since the ledger was asked
        self._uploads = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the uploads of this moment. Raises ``Problem`` E-BUSY."""
        if self._uploads >= self.limits.uploads:
            raise Problem(
                "E-BUSY",
                f"{self.limits.uploads} uploads are coming in at this moment.",
                hint="Send it again in a moment.",
            )
        self._uploads += 1  # on the event loop only: no lock
        try:
            yield
        finally:
            self._uploads -= 1

    def check_room(self, size: int) -> None:
        """See that ``size`` more bytes may wait; may ask the store: call it in a thread.

        Raises:
            Problem: E-BACKLOG, with the time after which there should be room.
            TooLarge: nobody may send so much.
            SpoolFull: the spool or its disk is full.
        """
        self.spool.check_room(size)
        waiting = self.backlog()
        limits = self.limits
        if waiting.files < limits.waiting_files and waiting.bytes + size <= limits.waiting_bytes:
            return
        raise Problem(
            "E-BACKLOG",
            f"{waiting.files:,} files ({waiting.bytes:,} bytes) are waiting to be loaded.",
            hint="Send it again later; what was accepted is safe.",
            retry_after=retry_after(waiting, size, limits),
        )

    def accepted(self, size: int) -> None:
        """Count what was just accepted, so that the limits hold between two looks."""
        with self._looking:
            self._since[0] += 1
            self._since[1] += size

    def crowded(self) -> str | None:
        """Why a folder should wait with the next file; None: there is room."""
        return crowding.crowded(self.spool, self.backlog, self.limits)

    def room_after(self, error: Exception) -> float | None:
        """Seconds until a full spool should have room again: when a tenth of what waits is loaded.

        None: it is another error, or nothing is being loaded. May ask the store.
        """
        if not isinstance(error, SpoolFull):
            return None
        with suppress(NemflowError):
            waiting = self.backlog()
            if waiting.bytes_per_second > 0 and waiting.bytes > 0:
                seconds = waiting.bytes / 10 / waiting.bytes_per_second
                return min(max(_SHORTEST, seconds), _LONGEST)
        return None

    def backlog(self) -> dispatch.Backlog:
        """What waits: as the ledger said within the last second, and what was accepted since."""
        with self._looking:
            now = time.monotonic()
            if self._backlog is None or now - self._backlog[0] > _BACKLOG_SECONDS:
                found = self.store.backend.look(
                    lambda conn: dispatch.backlog(conn, self.store.backend)
                )
                self._backlog, self._since = (now, found), [0, 0]
            found, (files, size) = self._backlog[1], self._since
            return replace(found, files=found.files + files, bytes=found.bytes + size)


def retry_after(waiting: dispatch.Backlog, size: int, limits: AcceptLimits) -> float:
    """Seconds until there should be room for ``size`` bytes, by how fast work is being done."""
    needed = [_SHORTEST]
    files = waiting.files + 1 - limits.waiting_files
    if files > 0:
        rate = waiting.drained_per_second
        needed.append(files / rate if rate > 0 else _UNKNOWN)
    excess = waiting.bytes + size - limits.waiting_bytes
    if excess > 0:
        rate = waiting.bytes_per_second
        needed.append(excess / rate if rate > 0 else _UNKNOWN)
    return min(max(needed), _LONGEST)
