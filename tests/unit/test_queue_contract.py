"""What every queue promises; here in memory, in tests/integration on Redis and RabbitMQ.

The handler is a stand-in: this is about messages, not about files.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from nemflow.errors import UsageError
from nemflow.jobs import LANES, JobQueue, open_queue

PATIENCE = 15.0

Opener = Callable[[], JobQueue]


@pytest.fixture
def queue() -> Iterator[JobQueue]:
    """An empty queue."""
    opened = open_queue("memory://")
    yield opened
    opened.close()


@contextmanager
def served(
    queue: JobQueue,
    handler: Callable[[int], None],
    *,
    lanes: Sequence[str] = LANES,
    threads: int = 1,
    grace: float = 10.0,
) -> Iterator[threading.Thread]:
    """Serve the queue in a thread as long as the block lasts."""
    thread = threading.Thread(
        target=lambda: queue.run(handler, lanes=lanes, threads=threads), daemon=True
    )
    thread.start()
    try:
        yield thread
    finally:
        queue.stop(grace)
        thread.join(grace + PATIENCE)
        assert not thread.is_alive()


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for something, but not for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_every_message_reaches_the_handler_from_every_lane(queue: JobQueue) -> None:
    """What was sent before and while it is served arrives, as the number it was."""
    seen: list[int] = []
    for place, lane in enumerate(LANES):
        queue.enqueue(100 + place, lane)
    with served(queue, seen.append):
        for number in range(20):
            queue.enqueue(number, LANES[number % 3])
        until(lambda: len(seen) >= 23)
        time.sleep(0.2)
    assert sorted(seen) == [*range(20), 100, 101, 102]


def test_urgent_goes_before_bulk(queue: JobQueue) -> None:
    """A full bulk lane does not hold back the urgent one."""
    seen: list[int] = []

    def handler(number: int) -> None:
        time.sleep(0.005)
        seen.append(number)

    for number in range(60):
        queue.enqueue(number, "bulk")
    for number in range(100, 120):
        queue.enqueue(number, "urgent")
    with served(queue, handler):
        until(lambda: len(seen) == 80)
    last_urgent = max(place for place, number in enumerate(seen) if number >= 100)
    assert last_urgent < 60, seen


def test_only_the_lanes_asked_for_are_served(queue: JobQueue) -> None:
    """A worker kept for urgent work leaves the rest alone."""
    seen: list[int] = []
    queue.enqueue(1, "bulk")
    queue.enqueue(2, "urgent")
    with served(queue, seen.append, lanes=["urgent"]):
        until(lambda: seen == [2])
        time.sleep(0.3)
        assert seen == [2]
        assert queue.depth()["bulk"] == 1


def test_a_handler_that_fails_ends_its_message_and_no_other(queue: JobQueue) -> None:
    """The ledger knows what is unfinished, so the broker does not try again."""
    seen: list[int] = []

    def handler(number: int) -> None:
        seen.append(number)
        if number == 1:
            raise ValueError("a fault of ours")
        if number == 2:
            raise UsageError("A fault with a name.")

    for number in range(5):
        queue.enqueue(number, "normal")
    with served(queue, handler):
        until(lambda: len(seen) >= 5)
        time.sleep(0.5)
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_as_many_at_a_time_as_threads(queue: JobQueue) -> None:
    """Three threads meet; they could not if one waited for the other."""
    meeting = threading.Barrier(3)
    met: list[int] = []

    def handler(number: int) -> None:
        meeting.wait(PATIENCE)
        met.append(number)

    for number in range(3):
        queue.enqueue(number, "normal")
    with served(queue, handler, threads=3):
        until(lambda: len(met) == 3)


def test_stopping_lets_the_work_in_hand_finish(queue: JobQueue) -> None:
    """And begins nothing new; run returns as soon as it is done."""
    begun, finished = [], []
    go_on = threading.Event()

    def handler(number: int) -> None:
        begun.append(number)
        go_on.wait(PATIENCE)
        finished.append(number)

    for number in range(5):
        queue.enqueue(number, "normal")
    with served(queue, handler) as thread:
        until(lambda: len(begun) == 1)
        queue.stop(PATIENCE)
        time.sleep(0.3)
        go_on.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert begun == finished == begun[:1]


def test_work_that_outlasts_the_grace_time_is_not_waited_for(queue: JobQueue) -> None:
    """The process wants to end; the ledger gets the work back."""
    begun, go_on = threading.Event(), threading.Event()

    def handler(_: int) -> None:
        begun.set()
        go_on.wait(2 * PATIENCE)

    queue.enqueue(1, "normal")
    with served(queue, handler, grace=0.3) as thread:
        assert begun.wait(PATIENCE)
        at = time.monotonic()
        queue.stop(0.3)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert time.monotonic() - at < 5
    go_on.set()


def test_asked_to_stop_before_it_runs(queue: JobQueue) -> None:
    """A signal may come first."""
    queue.stop(0)
    at = time.monotonic()
    queue.run(lambda _: None)
    assert time.monotonic() - at < 5


def test_what_waits_can_be_counted_and_forgotten(queue: JobQueue) -> None:
    """By lane."""
    for number in range(3):
        queue.enqueue(number, "bulk")
    queue.enqueue(9, "urgent")
    until(lambda: queue.depth() == {"urgent": 1, "normal": 0, "bulk": 3})
    queue.flush()
    assert queue.depth() == {"urgent": 0, "normal": 0, "bulk": 0}
    seen: list[int] = []
    with served(queue, seen.append):
        queue.enqueue(7, "normal")
        until(lambda: 7 in seen)
    assert seen == [7]


def test_many_threads_send_at_once(queue: JobQueue) -> None:
    """Eight threads send 25 each, and every one arrives."""
    seen: list[int] = []

    def send(first: int) -> None:
        for number in range(first, first + 25):
            queue.enqueue(number, "normal")

    senders = [threading.Thread(target=send, args=(25 * place,)) for place in range(8)]
    with served(queue, seen.append, threads=2):
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(PATIENCE)
        until(lambda: len(seen) >= 200)
    assert sorted(seen) == list(range(200))


def test_there_are_three_lanes_and_no_more(queue: JobQueue) -> None:
    """A lane that is misspelt is said so, and nothing is sent."""
    with pytest.raises(UsageError, match="lane 'express'"):
        queue.enqueue(1, "express")
    with pytest.raises(UsageError, match="lane"):
        queue.run(lambda _: None, lanes=["express"])


def test_it_answers(queue: JobQueue) -> None:
    """A ping that comes back."""
    queue.ping()


@pytest.mark.parametrize("url", ["kafka://localhost", "nothing", "amqp://host:notaport/"])
def test_other_kinds_of_queue_are_refused(url: str) -> None:
    """With the kinds there are."""
    with pytest.raises(UsageError, match="memory://"):
        open_queue(url)
