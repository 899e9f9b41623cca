"""What a queue must do, and how one is named.

Why: the service runs with no other server, with Redis or with RabbitMQ; nothing above this module
may tell the difference.

Promises: a message is the number of a delivery in a lane, nothing else. A message is given to a
handler at least once as long as the broker lives, and may be given twice; a handler that fails
ends its message, for the ledger knows what is unfinished. Lanes are separate queues, so a full
``bulk`` does not hold back ``urgent``. Driver errors come out as :class:`BrokerAway`.

Look next: ``brokered.py`` (what the three have in common), ``memory.py``, ``redis.py``,
``rabbitmq.py``; docs/queue.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from nemflow.errors import MissingExtra, UsageError

LANES: Final = ("urgent", "normal", "bulk")  #: in the order in which they are served
MEMORY: Final = "memory://"
PREFIX: Final = "nemflow"

Handler = Callable[[int], None]


class JobQueue(Protocol):
    """Deliveries that somebody should look at, in three lanes."""

    #: Whether messages outlive the process that sent them.
    lasting: bool

    def enqueue(self, delivery: int, lane: str) -> None:
        """Say that a delivery is to be looked at; returns when the broker has it.

        Safe from any thread. May have happened although it raises.

        Raises:
            BrokerAway: the broker does not answer, or takes nothing more.
            UsageError: no such lane.
        """

    def run(self, handler: Handler, *, lanes: Sequence[str] = LANES, threads: int = 1) -> None:
        """Give deliveries to ``handler``, ``threads`` at a time; blocks until ``stop``.

        A broker that goes away is waited for. A message is acknowledged when the handler returns
        or raises. What was taken and not begun goes back to the broker at the end. Once per queue.
        """

    def stop(self, grace: float) -> None:
        """Let ``run`` end: no new work, ``grace`` seconds for what is in hand. Returns at once.

        May be called from a signal handler, before ``run``, and again with a shorter grace.
        """

    def depth(self) -> dict[str, int]:
        """Messages that wait, by lane; those in a worker's hand may or may not count.

        Raises:
            BrokerAway: the broker does not answer.
        """

    def ping(self) -> None:
        """Return when the broker answers. Raises BrokerAway when it does not."""

    def flush(self) -> None:
        """Forget every message that waits. Raises BrokerAway when the broker does not answer."""

    def close(self) -> None:
        """Let go of all connections."""


def open_queue(url: str = MEMORY, *, prefix: str = PREFIX) -> JobQueue:
    """The queue at a URL; connects when it is first used.

    Args:
        url: ``memory://`` (this process), ``redis://host:6379/0`` (``rediss://``,
            ``unix://``) or ``amqp://user:password@host:5672/vhost`` (``amqps://``).
        prefix: what the names of keys and queues begin with; services that share a broker but not
            a ledger need different ones.

    Raises:
        UsageError: no such kind of queue.
        MissingExtra: its library is not installed.
    """
    scheme = url.partition("://")[0]
    try:
        if scheme == "memory":
            from nemflow.jobs.memory import MemoryQueue

            return MemoryQueue(prefix=prefix)
        if scheme in {"redis", "rediss", "unix"}:
            from nemflow.jobs.redis import RedisQueue

            return RedisQueue(url, prefix=prefix)
        if scheme in {"amqp", "amqps"}:
            from nemflow.jobs.rabbitmq import RabbitQueue

            return RabbitQueue(url, prefix=prefix)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"dramatiq", "redis", "pika"}:
            raise MissingExtra("The queue", "service") from error
        raise
    except ValueError as error:
        raise UsageError(f"The queue's URL cannot be read: {error}.", hint=_KINDS) from error
    raise UsageError(f"There is no queue of the kind {scheme!r}.", hint=_KINDS)


_KINDS = "Known are memory://, redis://host:6379/0 and amqp://user:password@host:5672/."
