"""Whether the store answers at all, asked again and again from beside the requests.

Why: a database that is frozen, or behind a link that swallows everything, does not fail: it never
answers, and neither would we.

Promises: within ``PATIENCE_SECONDS`` and a moment the breaker of the store is open, and stays open
until the store has answered; then it is closed within a second. One question is asked at a time, so
a store that is away costs one thread and one connection.

Look next: ``app.py``, which then answers 503 in place of those that wait.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from nemflow.errors import NemflowError, StoreAway

if TYPE_CHECKING:
    from nemflow.jobs.breaker import Breaker

log = logging.getLogger(__name__)
#: So long an answer may take; longer than anybody waits for a free connection.
PATIENCE_SECONDS: Final = 7.0
_EVERY_SECONDS: Final = 1.0


class Pulse:
    """Asks the store, in a thread of its own."""

    def __init__(
        self,
        ask: Callable[[], object],
        breaker: Breaker,
        *,
        patience: float = PATIENCE_SECONDS,
        every: float = _EVERY_SECONDS,
    ) -> None:
        """``ask``: any short question to the store; ``patience``, ``every``: seconds."""
        self._ask = ask
        self._breaker = breaker
        self._patience = patience
        self._every = every
        self._stop = threading.Event()

    def run(self) -> None:
        """Ask until ``stop``."""
        while not self._stop.wait(self._every):
            answered = threading.Event()
            asked = threading.Thread(
                target=self._question, args=(answered,), name="pulse-question", daemon=True
            )
            asked.start()
            waited = 0.0
            while not answered.wait(self._every) and not self._stop.is_set():
                waited += self._every
                if waited >= self._patience:
                    self._silent(waited)

    def stop(self) -> None:
        """Let ``run`` end. Returns at once."""
        self._stop.set()

    def _question(self, answered: threading.Event) -> None:
        try:
            with self._breaker.guarding():
                self._ask()
        except NemflowError as error:
            log.debug("The store does not answer: %s", error)
        except Exception:
            log.exception("The store cannot be asked.")
        finally:
            answered.set()

    def _silent(self, seconds: float) -> None:
        """Have it open, and keep it so: whoever tried it now would wait as long."""
        if not self._breaker.open:
            log.warning("The store has not answered for %.0f s: requests are refused.", seconds)
        away = StoreAway("The store does not answer.", hint="Send it again after Retry-After.")
        for _ in range(1 if self._breaker.open else 3):
            self._breaker.failed(away)
