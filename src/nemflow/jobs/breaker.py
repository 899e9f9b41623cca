"""A circuit breaker: when a server is away, nobody keeps asking it.

Why: with the database away every attempt would fail, be counted, and make files dead that have
nothing wrong with them.

Promises: after ``failures`` failures in a row it is open; then, every ``reset_seconds``, one caller
may try. The guarded block runs outside the breaker's lock, so slow calls do not queue up.

Look next: ``worker.py``, which takes no work while it is open; docs/queue.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import pybreaker

from nemflow.errors import NemflowError
from nemflow.events import BreakerChanged, tell

if TYPE_CHECKING:
    from nemflow.events import Hook

FAILURES: Final = 3
RESET_SECONDS: Final = 5.0
_LOOK_SECONDS = 0.2


class Breaker:
    """Whether something that fails when it is away is worth asking."""

    def __init__(
        self,
        name: str,
        *away: type[NemflowError],
        failures: int = FAILURES,
        reset_seconds: float = RESET_SECONDS,
        hook: Hook | None = None,
    ) -> None:
        """``away``: the errors that mean it is away; others say nothing about it."""
        self._hook = hook
        self.name = name
        self._away = away
        self._reset = reset_seconds
        self._opened = 0.0  #: by the monotonic clock
        self._turn = threading.Lock()
        self._circuit = pybreaker.CircuitBreaker(
            fail_max=failures, reset_timeout=reset_seconds, throw_new_error_on_trip=False
        )

    @property
    def open(self) -> bool:
        """Whether it is away as far as we know."""
        return self._circuit.current_state != pybreaker.STATE_CLOSED

    @property
    def retry_after(self) -> float:
        """Seconds until it is tried again; 0 while closed."""
        if not self.open:
            return 0.0
        return max(0.0, self._opened + self._reset - time.monotonic())

    def refuses(self) -> float:
        """Seconds to stay away; 0: ask. While it is open, one caller per reset time may try.

        Who was let in says ``failed`` or ``worked``; who says neither leaves it open.
        """
        with self._turn:
            if not self.open:
                return 0.0
            left = self.retry_after
            if left <= 0:
                self._opened = time.monotonic()  # the others wait for what this one finds
            return left

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Learn from what happens in the block; it is never refused."""
        try:
            yield
        except self._away as error:
            self.failed(error)
            raise
        self.worked()

    def wait(self, attempt: Callable[[], object], *, stopped: Callable[[], bool]) -> bool:
        """Wait while it is open, trying ``attempt`` now and then; False when told to stop."""
        while self.open and not stopped():
            if self.retry_after > 0:
                time.sleep(min(_LOOK_SECONDS, self.retry_after))
                continue
            with suppress(*self._away), self.guarding():
                attempt()
        return not stopped()

    def failed(self, error: NemflowError) -> None:
        """It did not answer."""

        def fail() -> None:
            raise error

        was_open = self.open
        with suppress(pybreaker.CircuitBreakerError, type(error)):
            self._circuit.call(fail)
        if self.open:
            self._circuit.open()
            self._opened = time.monotonic()
            if not was_open:
                tell(self._hook, BreakerChanged(self.name, open=True))

    def worked(self) -> None:
        """It answered."""
        if self.open:
            self._circuit.close()
            tell(self._hook, BreakerChanged(self.name, open=False))
        else:
            self._circuit.call(lambda: None)
