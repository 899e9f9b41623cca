"""The worker: what is done with a message.

Why: one process that takes deliveries from the queue and brings each to its end, or gives it back.

Promises: a message is looked up in the ledger first; what is done, held by another or unknown is
left alone. Work that does not stop when its lease has run out ends with its process. While the
database is away no work is taken and no attempt is used up. Told to stop, it begins nothing more,
finishes what it can within the grace time, hands back the rest, and ``run`` returns.

Look next: ``attempt.py`` (one delivery), ``isolation.py`` (in a child process), ``reconciler.py``
(what becomes of a worker's work when it is killed).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import sqlalchemy as sa

from nemflow import failpoints
from nemflow.errors import NemflowError, StoreAway, StoreFull
from nemflow.jobs.attempt import HAND_BACK_SECONDS, Attempt
from nemflow.jobs.breaker import Breaker
from nemflow.jobs.pace import Working
from nemflow.jobs.queue import LANES

if TYPE_CHECKING:
    from nemflow.events import Hook
    from nemflow.intake.spool import Spool
    from nemflow.jobs.attempt import Live
    from nemflow.jobs.isolation import Child
    from nemflow.jobs.queue import JobQueue
    from nemflow.pipeline.delivering import Delivering
    from nemflow.store import Store

log = logging.getLogger(__name__)
#: How a process ends in which an attempt is wedged.
WEDGED = 70
#: A message is held so long while the database is away; RabbitMQ takes it back after 30 minutes.
_HELD_SECONDS = 600.0


class _InHand(Protocol):
    def abort(self) -> None: ...


class Worker:
    """Takes deliveries from a queue and brings them to their end."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        queue: JobQueue,
        how: Delivering,
        working: Working | None = None,
        *,
        lanes: Sequence[str] = LANES,
        isolate: bool = False,
        hook: Hook | None = None,
        live: Live | None = None,
        ends: bool = False,
    ) -> None:
        """``isolate``: in child processes; for a service whose other threads must not wait.

        ``live``: told of progress, unless isolated; see ``Attempt``. ``ends``: a wedged attempt
        ends this process with ``WEDGED``; for one that is started again by whoever supervises it.
        """
        self.breaker = Breaker("database", StoreAway, StoreFull, hook=hook)
        self._store = store
        self._spool = spool
        self._queue = queue
        self._how = how
        self._working = working or Working()
        self._lanes = lanes
        self._isolate = isolate
        self._hook = hook
        self._live = live
        self._ends = ends
        self._stopping = False
        self._in_hand: dict[int, _InHand] = {}  #: by thread
        self._lock = threading.Lock()
        self._own = threading.local()  #: each thread's child
        self._children: list[Child] = []

    def run(self) -> bool:
        """Work until ``stop``; then return when all is finished or handed back.

        False: a thread does not hear and still runs; end the process without waiting for it.
        """
        try:
            self._queue.run(self.handle, lanes=self._lanes, threads=self._working.threads)
        finally:
            self._stopping = True
            self._hand_back()
            for child in self._children:
                child.close()
        return not self._in_hand

    def stop(self, grace: float | None = None) -> None:
        """Begin nothing more; may be called from a signal handler. Returns at once."""
        self._stopping = True
        whole = self._working.grace_seconds if grace is None else grace
        self._queue.stop(max(0.0, whole - HAND_BACK_SECONDS))

    def handle(self, number: int) -> None:
        """Look at one delivery; what the queue calls.

        Raises:
            NemflowError: it could not be brought to its end; the ledger knows.
        """
        failpoints.reach("job-taken")
        if not self._database_answers():
            return  # the ledger sends it again
        with self.breaker.guarding():
            state = self._isolated(number) if self._isolate else self._here(number)
        if state is not None:
            log.debug("Delivery %s: %s", number, state)
        failpoints.reach("job-done")

    def _here(self, number: int) -> str | None:
        attempt = Attempt(
            self._store,
            self._spool,
            number,
            self._how,
            self._working,
            hook=self._hook,
            live=self._live,
            wedged=self._end_process if self._ends else None,
        )
        with self._holding(attempt):
            return attempt.run()

    def _end_process(self, wedged: Attempt) -> None:
        """Give back what the other threads have, and end: nothing else frees the one that hangs."""
        log.critical(
            "Delivery %s does not stop though its lease has run out: this worker ends, and what it "
            "had is taken up again.",
            wedged.number,
        )
        for each in self._left():
            if isinstance(each, Attempt) and each is not wedged:
                _give_back(each)
        os._exit(WEDGED)

    def _isolated(self, number: int) -> str | None:
        from nemflow.jobs.isolation import Child

        child: Child | None = getattr(self._own, "child", None)
        if child is None:
            child = self._own.child = Child(
                self._store, self._spool, self._how, self._working, hook=self._hook
            )
            self._children.append(child)
        with self._holding(child):
            return child.run(number)

    @contextlib.contextmanager
    def _holding(self, work: _InHand) -> Iterator[None]:
        me = threading.get_ident()
        with self._lock:
            self._in_hand[me] = work
        try:
            yield
        finally:
            with self._lock:
                del self._in_hand[me]

    def _database_answers(self) -> bool:
        """Wait while the database is away; False: it is not worth waiting any longer."""
        until = time.monotonic() + _HELD_SECONDS
        return self.breaker.wait(
            lambda: self._store.backend.look(lambda conn: conn.execute(sa.select(1)).scalar()),
            stopped=lambda: self._stopping or time.monotonic() > until,
        )

    def _hand_back(self) -> None:
        """Have what is still in hand stop and given back; by us when it does not hear."""
        until = time.monotonic() + HAND_BACK_SECONDS - 1
        for each in self._left():
            each.abort()
        while self._in_hand and time.monotonic() < until - 2:
            time.sleep(0.05)
        # In threads: what does not hear may hold the row that is to be changed.
        tries = [
            threading.Thread(target=_give_back, args=(each,), daemon=True)
            for each in self._left()
            if isinstance(each, Attempt)
        ]
        for thread in tries:
            thread.start()
        for thread in tries:
            thread.join(max(0.0, until - time.monotonic()))

    def _left(self) -> list[_InHand]:
        with self._lock:
            return list(self._in_hand.values())


def _give_back(attempt: Attempt) -> None:
    try:
        if attempt.hand_back():
            log.warning("Delivery %s was handed back unfinished.", attempt.number)
    except NemflowError as error:
        log.warning("Delivery %s is left to its lease: %s", attempt.number, error)
