"""Finds work that nobody does, and says so to the queue.

Why: brokers forget, workers are killed, messages are lost between a commit and a send. The ledger
knows all that is unfinished; somebody must look.

Promises: whatever is not final and held by nobody is told to the queue, at once when it is new, and
again when the queue has forgotten it. As many reconcilers as wanted may run: the ledger gives each
row to one of them. Of each sender only so many are in the broker at a time, so one sender's ten
thousand files do not starve another's one. It never ends because of an error.

Look next: ``nemflow.store.dispatch`` for what is due; docs/queue.md.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from nemflow import failpoints
from nemflow.errors import BrokerAway, NemflowError
from nemflow.events import About, LeaseExpired, LookedThrough, tell
from nemflow.jobs.breaker import Breaker
from nemflow.jobs.pace import Rhythm
from nemflow.pipeline import reconcile
from nemflow.pipeline.delivering import clear_originals
from nemflow.pipeline.receiving import sweep_spool
from nemflow.store import dispatch

if TYPE_CHECKING:
    from nemflow.events import Hook
    from nemflow.intake.spool import Spool
    from nemflow.jobs.queue import JobQueue
    from nemflow.pipeline.delivering import Delivering
    from nemflow.store import Store

log = logging.getLogger(__name__)

#: What was told is told again after so long, when no message waits in the broker: it has them not.
FORGOTTEN_SECONDS: Final = 10.0
#: And after so long when some do: most of what was told is still there.
RESEND_SECONDS: Final = 300.0
_AT_ONCE = 1000
_START_SECONDS = 1.0  #: no service starts sooner after the end of the one before
_SWEEP_SECONDS = 3600.0  #: the whole spool is looked through


class Reconciler:
    """Looks through the ledger, again and again."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        queue: JobQueue,
        how: Delivering,
        rhythm: Rhythm | None = None,
        *,
        hook: Hook | None = None,
    ) -> None:
        self.breaker = Breaker("broker", BrokerAway, hook=hook)
        self._store = store
        self._spool = spool
        self._queue = queue
        self._how = how
        self._rhythm = rhythm or Rhythm()
        self._hook = hook
        self._awake = threading.Event()
        self._stopping = False
        self._began = time.monotonic()
        self._swept = -float("inf")  #: by the monotonic clock

    def run(self) -> None:
        """Look until ``stop``; errors are logged, and it goes on."""
        tidied = -float("inf")
        while not self._stopping:
            self._awake.clear()
            more = self._safely(self.send_due)
            if time.monotonic() - tidied >= self._rhythm.tidy_seconds:
                self._safely(self.tidy)
                tidied = time.monotonic()
            if not (more and more >= _AT_ONCE):
                self._awake.wait(self._rhythm.every_seconds)

    def stop(self) -> None:
        """Let ``run`` end. Returns at once."""
        self._stopping = True
        self._awake.set()

    def wake(self) -> None:
        """Something has just arrived: look now."""
        self._awake.set()

    def send_due(self) -> int:
        """Tell the queue what is due; returns how many.

        Raises:
            BrokerAway: it cannot be told; what is left is told when it is back.
            StoreError: the ledger cannot be read.
        """
        if self.breaker.open and self.breaker.retry_after > 0:
            return 0
        with self.breaker.guarding():
            empty = not any(self._queue.depth().values())
            after = FORGOTTEN_SECONDS if empty else RESEND_SECONDS
            if not self._queue.lasting:  # what was told before we began died with that process
                after = min(after, time.monotonic() - self._began + _START_SECONDS)
            found = dispatch.due_now(
                self._store.backend,
                limit=_AT_ONCE,
                per_sender=self._rhythm.per_sender,
                resend_after=after,
            )
            if found:
                failpoints.reach("job-due")
            for each in found:
                self._queue.enqueue(each.delivery, each.lane)
                failpoints.reach("job-sent")
        tell(self._hook, LookedThrough(len(found)))
        return len(found)

    def tidy(self) -> None:
        """Clear what killed workers left; take away what does not move; forget old details."""
        store, backend = self._store, self._store.backend
        reconcile(store, hook=self._hook)
        longest = self._rhythm.longest_seconds
        for number in backend.look(lambda conn: dispatch.wedged(conn, backend, longest)):
            why = f"It was in one state for more than {longest} seconds."
            if self._take_away(number, why):
                tell(self._hook, LeaseExpired(About(number), 0))
                log.error("Delivery %s was taken from its worker: %s", number, why)
        clear_originals(store, self._spool, self._how)
        if time.monotonic() - self._swept >= _SWEEP_SECONDS:
            sweep_spool(store, self._spool)
            self._swept = time.monotonic()
        backend.transact(
            lambda conn: dispatch.expire(
                conn, backend,
                details=timedelta(days=self._rhythm.details_days),
                keys=timedelta(days=self._rhythm.keys_days),
            )
        )  # fmt: skip

    def _take_away(self, number: int, why: str) -> bool:
        backend = self._store.backend
        return backend.transact(lambda conn: dispatch.take_away(conn, backend, number, why))

    def _safely(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except NemflowError as error:
            log.warning("The ledger is looked through again later: %s", error)
        except Exception:
            log.exception("The ledger is looked through again later.")
        return None
