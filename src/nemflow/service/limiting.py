"""How often one API key may ask.

Why: a program in a loop must not take the service from everybody else.

Promises: each key has its own count, over a window that slides; with Redis all processes count
together, without it each counts for itself. A Redis that does not answer lets everybody through
(counted, and said in the log): a limit that cannot be counted must not stop deliveries.

Look next: ``auth.py``, which asks; ``nemflow.jobs.rediskeys``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import SlidingWindowCounterRateLimiter

from nemflow.errors import BrokerAway, UsageError
from nemflow.jobs import rediskeys
from nemflow.service.problems import Problem

if TYPE_CHECKING:
    from nemflow.jobs.side import Side

#: A hundred requests a second: more than any sender needs, less than a loop makes.
USUAL: Final = "6000/minute"
OFF: Final = "off"
_HINT = 'Write it as "600/minute", "20/second" or "off".'


def rate_of(text: str) -> RateLimitItem | None:
    """``600/minute`` as a limit; None for ``off``. Raises UsageError."""
    if text.strip().lower() == OFF:
        return None
    try:
        found = parse(text)
    except ValueError as error:
        raise UsageError(f"service.rate_per_key: {text!r} is no rate.", hint=_HINT) from error
    if found.amount < 1:
        raise UsageError(f"service.rate_per_key: {text!r} lets nobody in.", hint=_HINT)
    return found


class RateLimit:
    """Counts the requests of each key."""

    def __init__(self, rate: RateLimitItem, side: Side | None = None) -> None:
        """``side``: the Redis in which all processes count; None: this process for itself."""
        self.refused = 0  #: requests that were one too many
        self.uncounted = 0  #: requests let through because Redis did not answer
        self._rate = rate
        self._side = side
        self._limiter = SlidingWindowCounterRateLimiter(_storage(side))

    def check(self, key: str) -> None:
        """Count a request of this key, by name. Raises ``Problem`` E-RATE when it is too many."""
        side = self._side
        if side is None:
            allowed = self._limiter.hit(self._rate, key)
        elif side.breaker.refuses():
            self.uncounted += 1
            return
        else:
            try:
                allowed = self._limiter.hit(self._rate, key)
                side.breaker.worked()
            except StorageError as error:
                side.breaker.failed(BrokerAway(f"Redis does not count: {error}."))
                side.away()
                self.uncounted += 1
                return
        if not allowed:
            self.refused += 1
            raise Problem(
                "E-RATE",
                f"The key {key} may ask {self._rate}.",
                hint="Wait as long as Retry-After says; see service.rate_per_key.",
                retry_after=self._until_free(key),
            )

    def _until_free(self, key: str) -> float:
        """Seconds until the next request should be let through."""
        try:
            free_at = self._limiter.get_window_stats(self._rate, key).reset_time
        except StorageError:
            return 1.0
        return min(max(1.0, free_at - time.time()), float(self._rate.get_expiry()))


def _storage(side: Side | None) -> Storage:
    if side is None:
        return MemoryStorage()
    from nemflow.jobs.side import PATIENCE_SECONDS

    url = side.url.replace("unix://", "redis+unix://", 1)
    return RedisStorage(
        url,
        key_prefix=rediskeys.rate(side.prefix),
        wrap_exceptions=True,
        socket_connect_timeout=PATIENCE_SECONDS,
        socket_timeout=PATIENCE_SECONDS,
    )
