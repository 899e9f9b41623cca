"""When sweeps run: by a cron expression, once per moment however many schedulers there are.

Why: with three API processes each would sweep at the full hour.

Promises: the store decides who runs a moment's sweep; nobody runs it twice. A moment at which the
store did not answer is asked for again until it does. A moment that passed
while nobody was there is made up for once, at the start, however many were missed. A sweep that
fails, or finds no room, is told in the log and gone on with after a pause that grows, by the same
process, until it is done or the next moment comes. Cron expressions mean market time,
UTC+10 all year.

Look next: ``nemflow.pipeline.sweeping`` for what a sweep does; ``nemflow.store.once``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from croniter import croniter

from nemflow.errors import NemflowError, UsageError
from nemflow.store.tables import MARKET_OFFSET

if TYPE_CHECKING:
    from nemflow.jobs.side import Side
    from nemflow.store import Store

log = logging.getLogger(__name__)
_LOOK_SECONDS = 5.0  #: so often it is seen whether a moment has come
_PAUSE = 30.0  #: until a sweep that is not done is gone on with; doubled each time
_MOST_PAUSE = 900.0


def checked(cron: str) -> str:
    """The expression, when it is one of five fields. Raises UsageError."""
    if len(cron.split()) != 5 or not croniter.is_valid(cron):
        raise UsageError(
            f"sweep.cron: {cron!r} is no cron expression.",
            hint='Five fields: minute, hour, day, month, weekday; hourly is "0 * * * *".',
        )
    return cron


def latest(cron: str, now: datetime) -> datetime:
    """The last moment of the expression that is not after ``now``, in market time."""
    at: datetime = croniter(cron, now.astimezone(MARKET_OFFSET)).get_prev(datetime)
    exact = now.astimezone(MARKET_OFFSET).replace(second=0, microsecond=0)
    return exact if croniter.match(cron, exact) else at


class Sweeper:
    """Runs one sweep at its moments, in a thread of its own."""

    def __init__(
        self,
        store: Store,
        name: str,
        cron: str,
        work: Callable[[], Any],
        *,
        side: Side | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(MARKET_OFFSET),
    ) -> None:
        """Nothing runs before ``run``.

        Args:
            store: decides who runs a moment.
            name: of the sweep; schedulers of the same sweep use the same.
            cron: five fields, market time. Raises UsageError.
            work: the sweep; what it returns is logged. With ``held`` it is not done yet.
            side: remembers which runs the store has given away; None: the store is asked.
            clock: for tests.
        """
        self._store = store
        self._name = name
        self._cron = checked(cron)
        self._work = work
        self._side = side
        self._clock = clock
        self._stop = threading.Event()
        self._done: str | None = None  #: the moment nothing is left to do for
        self._ours: str | None = None  #: the moment that is ours and not done
        self._pause, self._again = 0.0, 0.0  #: seconds, and when by the monotonic clock

    def run(self) -> None:
        """Sweep at every moment until ``stop``."""
        while not self._stop.is_set():
            try:
                self.due()
            except NemflowError as error:
                log.warning("The sweep is tried again later: %s", error)
            except Exception:
                log.exception("The sweep is tried again later.")
            self._stop.wait(_LOOK_SECONDS)

    def stop(self) -> None:
        """Let ``run`` end when the sweep in hand is over. Returns at once."""
        self._stop.set()

    def due(self) -> bool:
        """Sweep if a moment has come that nobody has taken, or that is not done; whether it did."""
        slot = latest(self._cron, self._clock()).isoformat()
        if slot == self._done:
            return False
        if slot != self._ours and not self._taken(slot):
            self._done = slot
            return False
        if time.monotonic() < self._again:
            return False
        self._again = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _MOST_PAUSE)
        swept = self._work()
        held = getattr(swept, "held", None)
        log.info("Sweep %s of %s: %s", self._name, slot, swept)
        if held is None:
            self._done = slot
        return True

    def _taken(self, slot: str) -> bool:
        """Whether a moment is ours; asked once."""
        if self._side is not None and self._side.begun(self._name, slot):
            return False
        ours = self._store.take_slot(self._name, slot)
        if self._side is not None:
            self._side.note_begun(self._name, slot)
        if ours:
            self._ours, self._pause, self._again = slot, _PAUSE, 0.0
        return ours
