"""The queue on RabbitMQ.

Why: the broker of houses that already run one.

Promises: as :mod:`nemflow.jobs.queue`. ``enqueue`` returns when the server has confirmed a
persistent message. A killed worker's messages come back at once, its connection being gone.

Look next: docs/queue.md for the settings and why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import dramatiq
import pika
import pika.exceptions
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.errors import BrokerConnectionError

from nemflow.errors import BrokerAway
from nemflow.jobs.brokered import BrokeredQueue

T = TypeVar("T")

#: What a URL may say otherwise. A server that is short of memory or disk does not refuse, it stops
#: reading: without ``blocked_connection_timeout`` a publisher would wait for ever.
CONNECTION: Final = {
    "heartbeat": "60",
    "blocked_connection_timeout": "10",
    "socket_timeout": "5",
    "stack_timeout": "10",
    "connection_attempts": "1",
}


class OwnConnection(dramatiq.Middleware):
    """A connection may be touched by its own thread only; so it is closed there too."""

    def before_consumer_thread_shutdown(
        self, broker: dramatiq.Broker, _: dramatiq.ConsumerThread
    ) -> None:
        """Close what the thread declared its queue through."""
        del broker.connection  # type: ignore[attr-defined]


class RabbitQueue(BrokeredQueue):
    """Messages in durable queues of a RabbitMQ server."""

    def __init__(self, url: str, *, prefix: str) -> None:
        self._rabbit = RabbitmqBroker(
            url=_with_settings(url), middleware=[OwnConnection()], confirm_delivery=True
        )
        # The broker keeps a connection per thread; one thread sends for all of this process.
        self._sender: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        super().__init__(self._rabbit, prefix=prefix)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (BrokerConnectionError, pika.exceptions.AMQPError, OSError) as error:
            raise BrokerAway(
                f"RabbitMQ does not do its part: {error}.",
                hint="Check queue.url and the server; nothing is lost, the ledger sends again.",
            ) from error

    def _send(self, message: dramatiq.Message[Any]) -> None:
        self._by_sender(lambda: self._rabbit.enqueue(message))

    def _waiting(self, name: str) -> int:
        return self._by_sender(lambda: self._again(lambda: self._ready(name)))

    def ping(self) -> None:
        """Return when RabbitMQ answers. Raises BrokerAway when it does not."""
        with self._mapped():
            self._by_sender(lambda: self._again(self._roundtrip))

    def flush(self) -> None:
        """Forget every message that waits."""
        with self._mapped():
            self._by_sender(lambda: self._again(self._rabbit.flush_all))

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            sender, self._sender = self._sender, None
        if sender is not None:
            with suppress(pika.exceptions.AMQPError, OSError):
                sender.submit(self._let_go).result(timeout=5)
            sender.shutdown(wait=True, cancel_futures=True)

    def _by_sender(self, act: Callable[[], T]) -> T:
        with self._lock:
            if self._sender is None:
                self._sender = ThreadPoolExecutor(1, thread_name_prefix="rabbitmq-sender")
            sender = self._sender
        return sender.submit(act).result()

    def _again(self, act: Callable[[], T]) -> T:
        """Once more on a fresh connection: one that lay idle may have been closed meanwhile."""
        try:
            return act()
        except (pika.exceptions.AMQPError, OSError):
            self._let_go()
            return act()

    def _let_go(self) -> None:
        del self._rabbit.connection

    def _ready(self, name: str) -> int:
        self._rabbit.declare_queue(name, ensure=True)
        return int(self._rabbit.get_queue_message_counts(name)[0])

    def _roundtrip(self) -> None:
        """Open and close a channel: both are answered by the server."""
        self._rabbit.connection.channel().close()


def _with_settings(url: str) -> str:
    """The URL with our settings where it names none."""
    parts = urlsplit(url)
    query = CONNECTION | dict(parse_qsl(parts.query))
    return urlunsplit(parts._replace(query=urlencode(query)))
