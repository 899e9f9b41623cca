"""Real worker processes on PostgreSQL and real brokers: killed, flushed, told to stop."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pika
import pytest
import redis
import sqlalchemy as sa

from nemflow.intake.spool import Spool
from nemflow.jobs import open_queue
from nemflow.jobs.pace import Rhythm
from nemflow.jobs.reconciler import Reconciler
from nemflow.jobs.supervisor import Supervisor
from nemflow.mdff.generate import generate
from nemflow.pipeline.delivering import Delivering
from nemflow.pipeline.receiving import receive
from nemflow.store import Store, open_store, work
from nemflow.store.invariants import checked
from nemflow.store.tables import delivery

LEASE = 3


@dataclass(frozen=True)
class Place:
    """A service's store, spool and broker."""

    store: Store
    spool: Spool
    broker: str
    prefix: str
    environ: dict[str, str]

    def give(self, content: bytes, name: str) -> int:
        """Receive some bytes, as an upload does."""
        with self.spool.landing() as landing:
            landing.write(content)
            return receive(self.store, self.spool, landing, name=name, channel="http").delivery

    def states(self) -> dict[int, str]:
        """The state of every delivery that was given."""
        statement = sa.select(delivery.c.id, delivery.c.state).where(delivery.c.parent.is_(None))
        rows = self.store.backend.look(lambda conn: conn.execute(statement).all())
        return {row.id: row.state for row in rows}

    def forget(self) -> None:
        """Take everything from the broker, what workers hold included."""
        if self.broker.startswith("redis"):
            with redis.Redis.from_url(self.broker) as client:
                for key in client.scan_iter(f"{self.prefix}*"):
                    client.delete(key)
            return
        with pika.BlockingConnection(pika.URLParameters(self.broker)) as connection:
            for lane in ("urgent", "normal", "bulk"):
                for kind in ("", ".DQ", ".XQ"):
                    connection.channel().queue_delete(f"{self.prefix}.{lane}{kind}")


@pytest.fixture(params=["redis", "rabbitmq"])
def place(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Iterator[Place]:
    """A new service on PostgreSQL and a broker."""
    broker = str(request.getfixturevalue(f"{request.param}_url"))
    prefix = f"nemflow_test_{uuid.uuid4().hex[:12]}"
    environ = {
        **os.environ,
        "NEMFLOW_DB": database,
        "NEMFLOW_QUEUE_URL": broker,
        "NEMFLOW_QUEUE_PREFIX": prefix,
        "NEMFLOW_SPOOL_FOLDER": str(tmp_path / "spool"),
        "NEMFLOW_WORKER_LEASE_SECONDS": str(LEASE),
        "NEMFLOW_WORKER_BEAT_SECONDS": "1",
        "NEMFLOW_WORKER_RETRY_SECONDS": "1",
        "NEMFLOW_WORKER_ATTEMPTS": "50",
        "NEMFLOW_WORKER_GRACE_SECONDS": "10",
    }
    with open_store(database) as store:
        here = Place(store, Spool(tmp_path / "spool"), broker, prefix, environ)
        yield here
        here.forget()


@contextmanager
def reconciled(place: Place) -> Iterator[None]:
    """A reconciler as the service runs it."""
    queue = open_queue(place.broker, prefix=place.prefix)
    reconciler = Reconciler(
        place.store, place.spool, queue, Delivering(), Rhythm(tidy_seconds=1, per_sender=20)
    )
    thread = threading.Thread(target=reconciler.run)
    thread.start()
    try:
        yield
    finally:
        reconciler.stop()
        thread.join(30)
        queue.close()


@contextmanager
def supervised(place: Place, count: int) -> Iterator[Supervisor]:
    """So many worker processes, started again whenever they end."""
    command = [sys.executable, "-m", "nemflow.cli", "worker", "--supervised"]
    supervisor = Supervisor(command, count, grace=10, environ=place.environ)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()
        thread.join(60)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    """Wait, but not for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def a_file(seed: int) -> bytes:
    """A file of a few NMIs, unlike every other seed's."""
    return generate(days=40, nmis=4, seed=seed)


@pytest.mark.parametrize("place", ["rabbitmq"], indirect=True)  # Redis: make chaos
def test_killed_workers_and_a_flushed_broker_lose_nothing(place: Place) -> None:
    """Each of 30 files ends loaded, once, though workers are killed and the broker forgets."""
    seed = int(os.environ.get("NEMFLOW_TEST_SEED", random.randrange(10**6)))  # noqa: S311
    dice = random.Random(seed)  # noqa: S311
    numbers = [place.give(a_file(number), f"f{number}.csv") for number in range(16)]
    kills = 0
    with reconciled(place), supervised(place, 2) as supervisor:
        wait_for(lambda: "loaded" in place.states().values())
        numbers += [place.give(a_file(number), f"f{number}.csv") for number in range(16, 30)]
        for turn in range(4):
            wait_for(lambda: bool(supervisor.alive))
            time.sleep(dice.uniform(0.2, 1.2))
            for pid in supervisor.alive[: dice.randint(1, 2)]:
                os.kill(pid, signal.SIGKILL)
                kills += 1
            if turn == 2:
                place.forget()
        wait_for(lambda: set(place.states().values()) <= set(work.FINAL), 120)
    assert place.states() == dict.fromkeys(numbers, "loaded"), f"seed {seed}"
    assert kills >= 4
    assert supervisor.restarts >= kills
    published = sa.text("SELECT count(*), count(DISTINCT file) FROM load WHERE state = 'published'")
    loads, files = place.store.backend.look(lambda conn: conn.execute(published).one())
    assert loads == files == 30, f"seed {seed}"
    found = place.store.backend.look(checked)
    assert found["held"].all(), found.filter(~found["held"])
    assert place.spool.usage().files == 0


@pytest.mark.parametrize("place", ["redis"], indirect=True)
def test_sigterm_hands_back_and_ends_with_0(place: Place, request: pytest.FixtureRequest) -> None:
    """In the middle of a large file: given back within the grace time, uncounted, then loaded."""
    place = replace(place, environ=place.environ | {"NEMFLOW_WORKER_GRACE_SECONDS": "5"})
    number = place.give(generate(days=30, nmis=20, seed=1), "large.csv")
    slow = place.environ | {"NEMFLOW_FAILPOINTS": "mid-parse=sleep:60"}
    command = [sys.executable, "-m", "nemflow.cli", "worker"]
    with reconciled(place):
        process = subprocess.Popen(command, env=slow)
        request.addfinalizer(lambda: (process.kill(), process.wait()))
        wait_for(lambda: place.states()[number] == "loading")
        time.sleep(0.5)
        at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - at < 10
        row = sa.select(delivery.c.state, delivery.c.attempts).where(delivery.c.id == number)
        with place.store.backend.reading() as conn:
            assert tuple(conn.execute(row).one()) == ("queued", 0)
        with supervised(place, 1):
            wait_for(lambda: place.states()[number] == "loaded")


@pytest.mark.parametrize("place", ["redis"], indirect=True)
def test_workers_end_with_their_supervisor(place: Place, request: pytest.FixtureRequest) -> None:
    """Also when it is killed: their input ends, and so do they."""
    command = [sys.executable, "-m", "nemflow.cli", "worker", "--supervised"]
    process = subprocess.Popen(command, env=place.environ, stdin=subprocess.PIPE)
    request.addfinalizer(lambda: (process.kill(), process.wait()))
    time.sleep(2)
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) == 0
