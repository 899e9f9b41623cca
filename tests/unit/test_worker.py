"""What a worker promises: each delivery comes to one end, whatever goes wrong in between."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from nemflow.errors import (
    BrokerAway,
    DataError,
    SpoolFault,
    StoreAway,
    StoreFull,
    StoreUnresolved,
)
from nemflow.events import Progress
from nemflow.intake.spool import Spool
from nemflow.jobs import JobQueue, open_queue
from nemflow.jobs import attempt as attempts
from nemflow.jobs.attempt import Attempt, may_pass, pause
from nemflow.jobs.breaker import Breaker
from nemflow.jobs.pace import Rhythm, Working
from nemflow.jobs.reconciler import Reconciler
from nemflow.jobs.worker import Worker
from nemflow.mdff.generate import generate
from nemflow.pipeline.delivering import Delivering
from nemflow.pipeline.receiving import receive
from nemflow.store import Store, dispatch, open_store, work
from nemflow.store.tables import delivery

QUICK = Working(beat_seconds=1, retry_seconds=1, retry_most_seconds=1, grace_seconds=6)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """An empty spool."""
    return Spool(tmp_path / "spool")


def given(store: Store, spool: Spool, content: bytes, name: str = "day.csv") -> int:
    """Receive some bytes."""
    with spool.landing() as landing:
        landing.write(content)
        return receive(store, spool, landing, name=name, channel="http").delivery


def row(store: Store, number: int) -> sa.Row[tuple[object, ...]]:
    """The ledger's word on a delivery."""
    statement = sa.select(delivery).where(delivery.c.id == number)
    return store.backend.look(lambda conn: conn.execute(statement).one())


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait, but not for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextmanager
def service(
    store: Store, spool: Spool, *, isolate: bool = False, working: Working = QUICK
) -> Iterator[tuple[Worker, Reconciler, JobQueue]]:
    """A worker and a reconciler round a queue in memory."""
    queue = open_queue()
    how = Delivering()
    worker = Worker(store, spool, queue, how, working, isolate=isolate)
    reconciler = Reconciler(store, spool, queue, how, Rhythm(tidy_seconds=1))
    threads = [threading.Thread(target=each.run) for each in (worker, reconciler)]
    for thread in threads:
        thread.start()
    try:
        yield worker, reconciler, queue
    finally:
        reconciler.stop()
        worker.stop()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.parametrize("isolate", [False, True], ids=["here", "in a child process"])
def test_what_was_received_is_loaded(store: Store, spool: Spool, isolate: bool) -> None:
    """Nobody tells the queue but the reconciler; good and bad files come to their ends."""
    good = given(store, spool, generate(days=3, seed=1))
    bad = given(store, spool, b"this is no meter data\n", "letter.txt")
    with service(store, spool, isolate=isolate):
        wait_for(lambda: {row(store, good).state, row(store, bad).state} <= set(work.FINAL))
    assert row(store, good).state == "loaded"
    assert row(store, good).attempts == 1
    assert row(store, good).kept == "deleted"
    assert row(store, bad).state == "rejected"
    assert row(store, bad).kept == "spooled"
    assert not store.nmis().is_empty()


def test_a_queue_that_forgot_everything_loses_nothing(store: Store, spool: Spool) -> None:
    """Told, forgotten, told again."""
    number = given(store, spool, generate(days=1))
    queue = open_queue()
    reconciler = Reconciler(store, spool, queue, Delivering())
    assert reconciler.send_due() == 1
    assert reconciler.send_due() == 0, "it is in the queue"
    queue.flush()
    long_ago = store.backend.look(store.backend.now).replace(year=2020)
    with store.backend.writing() as conn:
        conn.execute(sa.update(delivery).values(sent_at=long_ago))
    assert reconciler.send_due() == 1
    assert row(store, number).state == "received"
    assert sum(queue.depth().values()) == 1


def test_what_died_with_a_queue_in_memory_is_told_to_the_next_one_at_once(
    store: Store, spool: Spool
) -> None:
    """A service that was killed and is started again does not wait until it counts as forgotten."""
    given(store, spool, generate(days=1))
    assert Reconciler(store, spool, open_queue(), Delivering()).send_due() == 1
    a_moment_ago = store.backend.look(store.backend.now) - timedelta(seconds=5)
    with store.backend.writing() as conn:
        conn.execute(sa.update(delivery).values(sent_at=a_moment_ago))
    reconciler = Reconciler(store, spool, open_queue(), Delivering())
    assert reconciler.send_due() == 1
    assert reconciler.send_due() == 0, "it is in the queue"


def test_a_transient_error_brings_it_back(
    store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt loads it; the first one's error is kept in the ledger meanwhile."""
    number = given(store, spool, generate(days=1))
    real, tries = attempts.delivering.process, []

    def once_away(*args: object, **options: object) -> object:
        tries.append(1)
        if len(tries) == 1:
            raise BrokenPipeError("the share went away")
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(attempts.delivering, "process", once_away)
    assert Attempt(store, spool, number, Delivering(), QUICK).run() == "waiting_retry"
    waiting = row(store, number)
    assert waiting.state == "waiting_retry"
    assert "the share went away" in str(waiting.error)
    assert waiting.next_try_at is not None
    assert Attempt(store, spool, number, Delivering(), QUICK).run() is None, "not due yet"
    time.sleep(1.1)
    assert Attempt(store, spool, number, Delivering(), QUICK).run() == "loaded"
    assert row(store, number).attempts == 2


@pytest.mark.parametrize(
    ("error", "ends_after"), [(OSError("disk"), 3), (ValueError("a fault of ours"), 1)]
)
def test_errors_end_as_dead(
    store: Store,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    ends_after: int,
) -> None:
    """A fault of ours at once, what may pass after its last attempt; a person can try again."""
    number = given(store, spool, generate(days=1))

    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(attempts.delivering, "process", broken)
    working = dataclasses.replace(QUICK, attempts=3, retry_most_seconds=0)
    for _ in range(5):
        Attempt(store, spool, number, Delivering(), working).run()
    assert row(store, number).state == "dead"
    assert row(store, number).attempts == ends_after
    assert row(store, number).kept == "spooled"
    monkeypatch.undo()
    store.backend.transact(lambda conn: dispatch.retry(conn, store.backend, [number], "tester"))
    assert Attempt(store, spool, number, Delivering(), working).run() == "loaded"


def test_a_child_that_always_dies_ends_as_dead(
    store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poison file kills each process that takes it; it does so a few times only."""
    number = given(store, spool, generate(days=1))
    monkeypatch.setenv("NEMFLOW_FAILPOINTS", "mid-parse=kill")
    working = dataclasses.replace(QUICK, attempts=2)
    with service(store, spool, isolate=True, working=working):
        wait_for(lambda: row(store, number).state == "dead", 60)
    assert row(store, number).attempts == 2
    assert work.POISON in str(row(store, number).error)


def test_told_to_stop_it_hands_back(
    store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that outlasts the grace time is queued again and the attempt is not counted."""
    number = given(store, spool, generate(days=1))
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> None:
        begun.set()
        go_on.wait(60)
        raise OSError("too late")

    monkeypatch.setattr(attempts.delivering, "process", slow)
    with service(store, spool) as (worker, *_):
        assert begun.wait(10)
        worker.stop(grace=0)
        wait_for(lambda: row(store, number).state == "queued")
    assert row(store, number).attempts == 0
    go_on.set()


def test_progress_is_told_and_the_lease_renewed(
    store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes, days and percent can be seen while it is worked on, past the first lease."""
    number = given(store, spool, generate(days=1))
    seen: list[sa.Row[tuple[object, ...]]] = []

    def long(*_: object, beat: Callable[[Progress], bool], **__: object) -> None:
        for step in range(1, 5):
            assert beat(Progress("day.csv", 0, 10 * step, 25 * step, 100))
            time.sleep(0.8)
        rival = store.backend.transact(
            lambda conn: work.claim(conn, store.backend, number, "rival:1:a", 60)
        )
        assert rival is None
        seen.append(row(store, number))
        raise OSError("enough")

    monkeypatch.setattr(attempts.delivering, "process", long)
    working = dataclasses.replace(QUICK, lease_seconds=2)
    assert Attempt(store, spool, number, Delivering(), working).run() == "waiting_retry"
    told = json.loads(str(seen[0].progress))
    assert told["percent"] in (75, 100)
    assert told["bytes_total"] == 100


def test_work_that_does_not_move_loses_its_lease(
    store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wedged worker is alive and still loses it; what it does afterwards is refused."""
    number = given(store, spool, generate(days=1))
    real = attempts.delivering.process

    def wedged(*args: object, **options: object) -> object:
        time.sleep(3.5)
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(attempts.delivering, "process", wedged)
    working = dataclasses.replace(QUICK, lease_seconds=2, stuck_seconds=1, beat_seconds=1)
    late: list[str | None] = []
    first = Attempt(store, spool, number, Delivering(), working)
    thread = threading.Thread(target=lambda: late.append(first.run()))
    thread.start()
    time.sleep(2.5)
    monkeypatch.undo()
    assert Attempt(store, spool, number, Delivering(), working).run() == "loaded"
    thread.join(30)
    assert late == [None]
    assert row(store, number).state == "loaded"
    assert row(store, number).attempts == 2


def test_what_killed_processes_left_is_cleared(
    store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original of what is loaded goes, and so does what no delivery knows."""
    number = given(store, spool, generate(days=1))
    assert Attempt(store, spool, number, Delivering(keep_after="keep"), QUICK).run() == "loaded"
    with spool.landing() as landing:
        landing.write(b"nobody was answered for this")
        unknown = landing.keep()
    a_while_ago = time.time() - 7200
    os.utime(unknown.path, (a_while_ago, a_while_ago))
    assert len(list(spool.originals())) == 2
    Reconciler(store, spool, open_queue(), Delivering()).tidy()
    assert list(spool.originals()) == []
    assert row(store, number).kept == "deleted"


def test_what_is_in_one_state_for_too_long_is_taken_away(store: Store, spool: Spool) -> None:
    """Whatever its lease says; the attempt stays counted."""
    number = given(store, spool, generate(days=1))
    claim = store.backend.transact(
        lambda conn: work.claim(conn, store.backend, number, "worker:1:a", 3600)
    )
    assert claim is not None
    reconciler = Reconciler(store, spool, open_queue(), Delivering(), Rhythm(longest_seconds=1))
    reconciler.tidy()
    assert row(store, number).state == "inspecting"
    time.sleep(1.1)
    reconciler.tidy()
    assert row(store, number).state == "queued"
    assert row(store, number).attempts == 1
    assert reconciler.send_due() == 1


def test_one_sender_does_not_starve_another(store: Store, spool: Spool) -> None:
    """Of each sender only so many are in the broker; who has one comes among the first."""
    many = [given(store, spool, b"%d" % number) for number in range(12)]
    with spool.landing() as landing:
        landing.write(b"of another")
        one = receive(store, spool, landing, name="o", channel="http", sender="OTHER").delivery
    queue = open_queue()
    reconciler = Reconciler(store, spool, queue, Delivering(), Rhythm(per_sender=3))
    assert reconciler.send_due() == 4
    seen: list[int] = []
    thread = threading.Thread(target=lambda: queue.run(seen.append))
    thread.start()
    wait_for(lambda: len(seen) == 4)
    queue.stop(1)
    thread.join(10)
    assert sorted(seen) == [*many[:3], one]


def test_pauses_grow_and_differ() -> None:
    """Doubled each time, up to the longest, and never the same for all."""
    working = Working(retry_seconds=4, retry_most_seconds=100)
    pauses = [[pause(number, working) for _ in range(50)] for number in range(1, 9)]
    for number, some in enumerate(pauses):
        whole = min(100, 4 * 2**number)
        assert whole / 2 <= min(some) < max(some) <= whole


def test_a_spool_that_is_away_uses_up_no_attempt(
    store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried again for a day, then loaded at the first attempt; dead when it stays away."""
    number = given(store, spool, generate(days=1))
    away = spool.root.with_name("elsewhere")
    spool.root.rename(away)
    for _ in range(QUICK.attempts + 2):
        assert Attempt(store, spool, number, Delivering(), QUICK).run() == "waiting_retry"
        assert row(store, number).attempts == 0
        assert str(row(store, number).error).startswith("E-SPOOL: ")
        due_again(store, number)
    away.rename(spool.root)
    assert Attempt(store, spool, number, Delivering(), QUICK).run() == "loaded"
    assert row(store, number).attempts == 1
    again = given(store, spool, generate(days=2))
    spool.root.rename(away)
    monkeypatch.setattr(attempts, "SPOOL_AWAY_SECONDS", 0.0)
    for nth in range(1, QUICK.attempts + 1):
        state = Attempt(store, spool, again, Delivering(), QUICK).run()
        assert state == ("dead" if nth == QUICK.attempts else "waiting_retry")
        due_again(store, again)


def due_again(store: Store, number: int) -> None:
    """What waits for its next attempt waits no longer."""
    said = sa.update(delivery).where(delivery.c.id == number).values(next_try_at=None)
    store.backend.transact(lambda conn: conn.execute(said))


def test_what_may_pass() -> None:
    """The error tree says it; a full disk and the machine's own errors may pass too."""
    assert may_pass(StoreAway("away"))
    assert may_pass(StoreUnresolved("whether it was saved is not known"))
    assert may_pass(StoreFull("full"))
    assert may_pass(SpoolFault("the original is not there"))
    assert may_pass(OSError("share"))
    assert not may_pass(DataError("wrong"))
    assert not may_pass(KeyError("ours"))


def test_the_breaker_opens_and_closes() -> None:
    """Three failures open it, one success closes it; other errors do not count."""
    breaker = Breaker("broker", BrokerAway, failures=3, reset_seconds=0.2)

    def fail(error: Exception) -> None:
        with pytest.raises(type(error)), breaker.guarding():
            raise error

    for _ in range(5):
        fail(ValueError("ours"))
    for _ in range(2):
        fail(BrokerAway("away"))
    assert not breaker.open
    fail(BrokerAway("away"))
    assert breaker.open
    assert 0 < breaker.retry_after <= 0.2
    tried: list[int] = []

    def attempt() -> None:
        tried.append(1)
        if len(tried) < 3:
            raise BrokerAway("still away")

    at = time.monotonic()
    assert breaker.wait(attempt, stopped=lambda: False)
    assert len(tried) == 3
    assert time.monotonic() - at >= 0.5
    assert not breaker.open
    assert breaker.retry_after == 0


def test_while_the_database_is_away_no_attempt_is_used_up(
    store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker waits with the message in its hand and goes on when it is back."""
    number = given(store, spool, generate(days=1))
    queue = open_queue()
    worker = Worker(store, spool, queue, Delivering(), QUICK)
    real = store.backend.look
    for _ in range(3):
        with pytest.raises(StoreAway), worker.breaker.guarding():
            raise StoreAway("The server is away.")
    away = [True]

    def look(*args: object, **options: object) -> object:
        if away[0]:
            raise StoreAway("The server is away.")
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(worker.breaker, "_reset", 0.1)
    monkeypatch.setattr(store.backend, "look", look)
    thread = threading.Thread(target=worker.handle, args=(number,))
    thread.start()
    time.sleep(0.5)
    assert thread.is_alive()
    away[0] = False
    thread.join(30)
    assert row(store, number).state == "loaded"
    assert row(store, number).attempts == 1
