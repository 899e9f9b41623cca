"""What the three queues have in common: dramatiq, used for as little as possible.

Why: dramatiq moves messages and runs threads well. Retries, time limits, results and dead letters
are the ledger's business, so all of its middleware is left out.

Promises: one actor per lane, which calls the handler and never fails; a thread that is free takes
``urgent`` before ``normal`` before ``bulk``; no more messages are taken from a lane than there
are threads.

Look next: ``queue.py`` for the contract; docs/queue.md for each broker's settings.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import dramatiq

from nemflow.errors import NemflowError, UsageError
from nemflow.jobs.queue import LANES

if TYPE_CHECKING:
    from nemflow.jobs.queue import Handler

log = logging.getLogger(__name__)

#: How long a consumer of an empty queue sleeps at most; so late is the first of a quiet hour.
IDLE_MS = 500
_LOOK_SECONDS = 0.1  #: how soon ``stop`` is noticed
_CLOSING_SECONDS = 2  #: connections are closed in their threads, which may be busy for a moment


class BrokeredQueue(ABC):
    """A queue over a dramatiq broker; its kinds say how to connect, count and map errors."""

    lasting = True

    def __init__(self, broker: dramatiq.Broker, *, prefix: str) -> None:
        self._broker = broker
        self._names = {lane: f"{prefix}.{lane}" for lane in LANES}
        self._handler: Handler | None = None
        self._grace: float | None = None  #: seconds; None: not asked to stop
        self._actors = {
            lane: dramatiq.actor(broker=broker, actor_name=name, queue_name=name, priority=place)(
                self._look
            )
            for place, (lane, name) in enumerate(self._names.items())
        }

    @abstractmethod
    def _mapped(self) -> AbstractContextManager[None]:
        """In its block the driver's errors become ``BrokerAway``."""

    @abstractmethod
    def _waiting(self, name: str) -> int:
        """How many messages wait in the queue of this name."""

    @abstractmethod
    def ping(self) -> None:
        """Return when the broker answers. Raises BrokerAway when it does not."""

    def enqueue(self, delivery: int, lane: str) -> None:
        """See :class:`~nemflow.jobs.queue.JobQueue`."""
        if lane not in self._actors:
            raise UsageError(f"There is no lane {lane!r}.", hint=f"Lanes: {', '.join(LANES)}.")
        with self._mapped():
            self._send(self._actors[lane].message(delivery))

    def _send(self, message: dramatiq.Message[Any]) -> None:
        self._broker.enqueue(message)

    def run(self, handler: Handler, *, lanes: Sequence[str] = LANES, threads: int = 1) -> None:
        """See :class:`~nemflow.jobs.queue.JobQueue`."""
        unknown = [lane for lane in lanes if lane not in self._names]
        if unknown or not lanes:
            raise UsageError(f"There is no lane {unknown}.", hint=f"Lanes: {', '.join(LANES)}.")
        self._handler = handler
        worker = dramatiq.Worker(
            self._broker,
            queues={self._names[lane] for lane in lanes},
            worker_timeout=IDLE_MS,
            worker_threads=threads,
        )
        worker.queue_prefetch = threads
        worker.delay_prefetch = 1  # nothing is ever delayed in the broker
        worker.start()
        try:
            # Not an Event: ``stop`` may run in a signal handler of this very thread.
            while self._grace is None:
                time.sleep(_LOOK_SECONDS)
        finally:
            worker.stop(timeout=int(1000 * max(self._grace or 0, _CLOSING_SECONDS)))

    def stop(self, grace: float) -> None:
        """See :class:`~nemflow.jobs.queue.JobQueue`."""
        self._grace = grace if self._grace is None else min(grace, self._grace)

    def depth(self) -> dict[str, int]:
        """See :class:`~nemflow.jobs.queue.JobQueue`."""
        with self._mapped():
            return {lane: self._waiting(name) for lane, name in self._names.items()}

    def flush(self) -> None:
        """See :class:`~nemflow.jobs.queue.JobQueue`."""
        with self._mapped():
            self._broker.flush_all()

    def close(self) -> None:
        """See :class:`~nemflow.jobs.queue.JobQueue`."""
        self._broker.close()

    def _look(self, delivery: int) -> None:
        """What a message does; it never fails, for the ledger knows what is unfinished."""
        if self._handler is None:
            return
        try:
            self._handler(delivery)
        except NemflowError as error:
            log.warning("Delivery %s is left to the ledger: %s", delivery, error)
        except Exception:
            log.exception("Delivery %s is left to the ledger.", delivery)
