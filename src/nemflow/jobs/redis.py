"""The queue on Redis.

Why: the broker most people have. Everything it holds for the queue may be lost at any time.

Promises: as :mod:`nemflow.jobs.queue`. A killed worker's messages come back after about
``HEARTBEAT_MS``; the ledger usually knows sooner. All keys begin with ``<prefix>:queue``.

Look next: ``rediskeys.py`` says what is in Redis and until when; docs/queue.md why these settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

import redis
from dramatiq.brokers.redis import RedisBroker

from nemflow.errors import BrokerAway
from nemflow.jobs.brokered import BrokeredQueue
from nemflow.jobs.rediskeys import HEARTBEAT_MS

#: One command in ten looks for dead workers; the default, one in 1,000, took > 400 s (measured).
MAINTENANCE_CHANCE: Final = 100_000
CONNECT_SECONDS: Final = 3
ANSWER_SECONDS: Final = 10
#: An idle connection is tried before use: a firewall may have dropped it without a word.
HEALTH_SECONDS: Final = 15


class RedisQueue(BrokeredQueue):
    """Messages in lists and hashes of a Redis server."""

    def __init__(self, url: str, *, prefix: str, heartbeat_ms: int = HEARTBEAT_MS) -> None:
        self._client = redis.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            socket_keepalive=True,
            health_check_interval=HEALTH_SECONDS,
        )
        self._namespace = f"{prefix}:queue"
        broker = RedisBroker(  # type: ignore[no-untyped-call]
            client=self._client,
            middleware=[],
            namespace=self._namespace,
            heartbeat_timeout=heartbeat_ms,
            maintenance_chance=MAINTENANCE_CHANCE,
        )
        super().__init__(broker, prefix=prefix)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise BrokerAway(
                f"Redis does not do its part: {error}.",
                hint="Check queue.url and the server; nothing is lost, the ledger sends again.",
            ) from error

    def _waiting(self, name: str) -> int:
        # redis types its answers for async clients too; this one answers at once
        return cast("int", self._client.llen(f"{self._namespace}:{name}"))

    def ping(self) -> None:
        """Return when Redis answers. Raises BrokerAway when it does not."""
        with self._mapped():
            self._client.ping()

    def close(self) -> None:
        """Let go of all connections."""
        super().close()
        self._client.close()
