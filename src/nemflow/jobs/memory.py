"""The queue of a service that has no broker: messages in this process.

Why: ``nemflow serve`` on a laptop needs no other server.

Promises: as :mod:`nemflow.jobs.queue`; it dies with its process, and the reconciler fills it again
from the ledger at the next start.

Look next: ``isolation.py``, which keeps the parsing out of this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dramatiq.brokers.stub import StubBroker

from nemflow.jobs.brokered import BrokeredQueue


class MemoryQueue(BrokeredQueue):
    """Messages in this process."""

    lasting = False

    def __init__(self, *, prefix: str) -> None:
        self._memory = StubBroker(middleware=[])
        super().__init__(self._memory, prefix=prefix)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        yield

    def _waiting(self, name: str) -> int:
        return int(self._memory.queues[name].qsize())

    def ping(self) -> None:
        """It is here."""
