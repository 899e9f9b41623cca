"""The queue's contract on real brokers, and what only they can do: outlive a process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator

import pika
import pytest
import redis

from borrowed import from_unit
from nemflow.errors import BrokerAway
from nemflow.jobs import JobQueue, open_queue
from nemflow.jobs.redis import RedisQueue

_unit = from_unit("test_queue_contract")
served, until, PATIENCE = _unit.served, _unit.until, _unit.PATIENCE
globals().update(
    {
        name: test
        for name, test in vars(_unit).items()
        if name.startswith("test_") and "queue" in test.__annotations__
    }
)


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    """The URL of a broker that runs."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def prefix(broker: str) -> Iterator[str]:
    """A prefix nobody else uses; what was made under it is removed."""
    name = f"nemflow_test_{uuid.uuid4().hex[:12]}"
    yield name
    if broker.startswith("redis"):
        with redis.Redis.from_url(broker) as client:
            for key in client.scan_iter(f"{name}*"):
                client.delete(key)
        return
    connection = pika.BlockingConnection(pika.URLParameters(broker))
    for lane in ("urgent", "normal", "bulk"):
        for kind in ("", ".DQ", ".XQ"):
            connection.channel().queue_delete(f"{name}.{lane}{kind}")
    connection.close()


@pytest.fixture
def queue(broker: str, prefix: str) -> Iterator[JobQueue]:
    """An empty queue on that broker."""
    opened = open_queue(broker, prefix=prefix)
    yield opened
    opened.close()


def test_what_was_not_begun_is_there_for_the_next_worker(
    queue: JobQueue, broker: str, prefix: str
) -> None:
    """A worker that stops gives back what it had taken in advance."""
    go_on = threading.Event()
    first: list[int] = []

    def handler(number: int) -> None:
        first.append(number)
        go_on.wait(PATIENCE)

    for number in range(6):
        queue.enqueue(number, ("urgent", "normal", "bulk")[number % 3])
    with served(queue, handler):
        until(lambda: len(first) == 1)
        queue.stop(PATIENCE)
        time.sleep(0.2)
        go_on.set()
    second: list[int] = []
    other = open_queue(broker, prefix=prefix)
    with served(other, second.append):
        until(lambda: len(second) >= 5)
        time.sleep(0.3)
    other.close()
    assert len(first) == 1
    assert sorted(first + second) == list(range(6))


def _take_and_hang(broker: str, prefix: str, taken: multiprocessing.Queue[int]) -> None:
    def handler(number: int) -> None:
        taken.put(number)
        time.sleep(60)

    _opened(broker, prefix).run(handler)


def _opened(broker: str, prefix: str) -> JobQueue:
    if broker.startswith("redis"):  # not a minute, as in life
        return RedisQueue(broker, prefix=prefix, heartbeat_ms=1500)
    return open_queue(broker, prefix=prefix)


def test_a_killed_worker_s_message_comes_back(broker: str, prefix: str) -> None:
    """Killed in the middle of the work: another worker gets the message."""
    spawn = multiprocessing.get_context("spawn")
    taken = spawn.Queue()
    process = spawn.Process(target=_take_and_hang, args=(broker, prefix, taken), daemon=True)
    process.start()
    queue = _opened(broker, prefix)
    queue.enqueue(17, "normal")
    assert taken.get(timeout=2 * PATIENCE) == 17
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE)
    seen: list[int] = []
    with served(queue, seen.append):
        until(lambda: seen == [17], 2 * PATIENCE)
    queue.close()
    taken.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://guest:guest@127.0.0.1:1/"])
def test_a_broker_that_is_away_is_said_so(url: str) -> None:
    """Soon, in our words, by every call; and a worker that waits for it can be stopped."""
    queue = open_queue(url)
    at = time.monotonic()
    with pytest.raises(BrokerAway, match="the ledger sends again"):
        queue.enqueue(1, "normal")
    with pytest.raises(BrokerAway):
        queue.ping()
    with pytest.raises(BrokerAway):
        queue.depth()
    assert BrokerAway.transient
    assert time.monotonic() - at < 15
    with served(queue, lambda _: None, grace=0.2):
        time.sleep(0.3)
    queue.close()
