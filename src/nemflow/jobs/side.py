"""Redis beside the queue: what makes the service quicker or nicer, and may be lost.

Why: the ledger is told of progress only with each lease, and asking it everything costs; a Redis
that is there anyway can do better.

Promises: nothing here raises because Redis is away, slow or full: the answer is then as if there
were none, and after three failures it is left alone for five seconds. No decision rests on it.

Look next: ``rediskeys.py`` for what is in it and for how long.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

import redis

from nemflow.errors import BrokerAway
from nemflow.jobs import rediskeys as keys
from nemflow.jobs.breaker import Breaker

T = TypeVar("T")
log = logging.getLogger(__name__)
#: Nobody waits longer for a comfort.
PATIENCE_SECONDS: Final = 0.5
_SAID_SECONDS = 30.0


class Side:
    """What else Redis does, when there is one."""

    def __init__(self, url: str, *, prefix: str) -> None:
        """``url``: as of the queue; ``prefix``: what all keys begin with. Connects when used."""
        self.url = url
        self.prefix = prefix
        self.breaker = Breaker("redis", BrokerAway)
        self.failures = 0  #: how often it did not answer
        self._said = -float("inf")  #: by the monotonic clock
        self._client = redis.Redis.from_url(
            url,
            socket_connect_timeout=PATIENCE_SECONDS,
            socket_timeout=PATIENCE_SECONDS,
            health_check_interval=15,
        )

    def tell_progress(self, delivery: int, progress: Mapping[str, Any]) -> None:
        """Say how far a delivery is; plain values."""
        text = json.dumps(progress)
        where = keys.progress(self.prefix, delivery)
        self._tried(lambda: self._client.set(where, text, ex=keys.PROGRESS_SECONDS), None)

    def progress(self, delivery: int) -> dict[str, Any] | None:
        """How far a delivery is; None: nobody has said of late, ask the ledger."""
        where = keys.progress(self.prefix, delivery)
        found = self._tried(lambda: cast("bytes | None", self._client.get(where)), None)
        try:
            told = None if found is None else json.loads(found)
        except ValueError:
            return None
        return told if isinstance(told, dict) else None

    def recall(self, digest: str) -> bytes | None:
        """An answer that was kept; None: none."""
        where = keys.lookup(self.prefix, digest)
        return self._tried(lambda: cast("bytes | None", self._client.get(where)), None)

    def keep(self, digest: str, answer: bytes) -> None:
        """Keep an answer for a while, unless it is large."""
        if len(answer) <= keys.LOOKUP_BYTES:
            where = keys.lookup(self.prefix, digest)
            self._tried(lambda: self._client.set(where, answer, ex=keys.LOOKUP_SECONDS), None)

    def begun(self, name: str, slot: str) -> bool:
        """Whether somebody is known to have begun this run of a sweep.

        A hint, which spares the database the question; ``store.once.take_slot`` decides.
        """
        where = keys.sweep(self.prefix, name, slot)
        return self._tried(lambda: self._client.get(where) is not None, False)

    def note_begun(self, name: str, slot: str) -> None:
        """Say that the store has given this run of a sweep to somebody; never before it has."""
        where = keys.sweep(self.prefix, name, slot)
        self._tried(lambda: self._client.set(where, "1", ex=keys.SWEEP_SECONDS), None)

    def away(self) -> None:
        """Count that Redis did not answer, and say so now and then."""
        self.failures += 1
        if time.monotonic() - self._said > _SAID_SECONDS:
            self._said = time.monotonic()
            log.warning(
                "Redis does not answer: no live progress, no rate limit, no remembered answers "
                "until it is back. Nothing is lost."
            )

    def close(self) -> None:
        """Let go of all connections."""
        self._client.close()

    def _tried(self, act: Callable[[], T], otherwise: T) -> T:
        if self.breaker.refuses():
            return otherwise
        try:
            with self.breaker.guarding():
                try:
                    return act()
                except (redis.RedisError, OSError) as error:
                    raise BrokerAway(f"Redis does not do its part: {error}.") from error
        except BrokerAway:
            self.away()
            return otherwise
