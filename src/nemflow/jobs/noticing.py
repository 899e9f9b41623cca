"""Notices what became of deliveries, and which parts of the system fail.

Why: problems, webhooks and whoever follows the service live on what is noticed here; nobody must
ask for it first.

Promises: outcomes are written within about a second of a delivery's end, also those that a killed
process left unwritten; each part is tried every ``CHECK_SECONDS`` and its problem opened, counted
or closed; while the store itself is away what is seen is kept in memory and written down when it
is back. Any number of processes may run it. It never ends because of an error.

Look next: ``nemflow.store.outcomes`` and ``problems``; docs/problems.md.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from nemflow.errors import NemflowError
from nemflow.store.tables import MARKET_OFFSET

if TYPE_CHECKING:
    from nemflow.store import Store

log = logging.getLogger(__name__)
EVERY_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 15.0
STORE: Final = "store"

Check = Callable[[], object]  #: raises a ``NemflowError`` when the part cannot work now


class Noticer:
    """Looks every second; ``run`` in a thread of its own."""

    def __init__(
        self,
        store: Store,
        checks: Mapping[str, Check],
        *,
        every_seconds: float = EVERY_SECONDS,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        """``checks``: by part, as ``store.problems.PARTS`` names them; the store checks itself."""
        self._store = store
        self._checks = checks
        self._every = every_seconds
        self._check = check_seconds
        self._stopped = threading.Event()
        self._awake = threading.Event()
        #: while the store is away: since when, the error, how often it was seen
        self._away: tuple[datetime, NemflowError, int] | None = None

    def run(self) -> None:
        """Look until ``stop``; errors are logged, and it goes on."""
        checked = -float("inf")
        while not self._stopped.is_set():
            self._awake.clear()
            self.look()
            if time.monotonic() - checked >= self._check:
                self.check()
                checked = time.monotonic()
            self._awake.wait(self._every)

    def stop(self) -> None:
        """Let ``run`` end. Returns at once."""
        self._stopped.set()
        self._awake.set()

    def wake(self) -> None:
        """A delivery has just ended: look now."""
        self._awake.set()

    def look(self) -> int:
        """Write the outcomes that are missing; how many."""
        try:
            done = self._store.collect_outcomes()
            self._back()
        except NemflowError as error:
            since, _, times = self._away or (datetime.now(MARKET_OFFSET), error, 0)
            self._away = since, error, times + 1
            log.warning("Outcomes are written later: %s", error)
            return 0
        except Exception:
            log.exception("Outcomes are written later.")
            return 0
        return done

    def check(self) -> dict[str, bool]:
        """Try each part and tell the store; by part whether it works."""
        works: dict[str, bool] = {}
        for part, check in self._checks.items():
            try:
                check()
            except NemflowError as error:
                works[part] = False
                log.warning("The %s fails: %s", part, error)
                self._tell(part, error)
            except Exception as error:
                works[part] = False
                log.exception("The %s could not be tried.", part)
                self._tell(part, NemflowError(f"{type(error).__name__}: {error}"))
            else:
                works[part] = True
                self._tell(part, None)
        return works

    def _tell(self, part: str, error: NemflowError | None) -> None:
        try:
            if error is None:
                self._store.part_works(part)
            else:
                self._store.part_fails(part, error.message, hint=error.hint)
        except NemflowError as away:
            log.warning("What was seen of the %s is not written down: %s", part, away)

    def _back(self) -> None:
        """The store answers again: write down that it did not."""
        if self._away is None:
            return
        since, error, times = self._away
        self._store.part_fails(STORE, error.message, hint=error.hint, since=since, times=times)
        self._store.part_works(STORE)
        self._away = None
