"""Limits and outages: a key that asks too often, a store that is away, a Redis that is away."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest

from borrowed import from_file
from nemflow.errors import BrokerAway, StoreAway, UsageError
from nemflow.jobs.breaker import Breaker
from nemflow.jobs.rediskeys import KEYS
from nemflow.jobs.side import Side
from nemflow.service.auth import Keyring
from nemflow.service.context import Context
from nemflow.service.limiting import RateLimit, rate_of

served = from_file(Path(__file__).with_name("serving.py")).served
DOCS = Path(__file__).parents[2] / "docs"
NOWHERE = "redis://127.0.0.1:1/0"  # nobody listens there


def with_key(store, name: str) -> dict[str, str]:
    """The header of a new key."""
    return {"Authorization": f"Bearer {store.make_key(name, ['read'])[1]}"}


def limited(store, rate: str, side: Side | None = None) -> Context:
    """A service that needs keys and counts their requests."""
    found = rate_of(rate)
    assert found is not None
    context = Context(store, Keyring(store.check_key, needed=True))
    context.rate, context.side = RateLimit(found, side), side
    return context


def test_a_key_that_asks_too_often_is_told_when_to_come_back(store) -> None:
    """429 with Retry-After for it alone; after that time it is let in again."""
    busy, calm = with_key(store, "busy"), with_key(store, "calm")
    context = limited(store, "3/second")
    with served(context) as url, httpx.Client(base_url=url) as client:
        answers = [client.get("/v1/nmis", headers=busy) for _ in range(20)]
        refused = [each for each in answers if each.status_code == 429]
        assert {each.status_code for each in answers} == {200, 429}
        assert all(each.json()["code"] == "E-RATE" for each in refused)
        assert all(1 <= int(each.headers["retry-after"]) <= 60 for each in refused)
        assert context.rate is not None
        assert context.rate.refused == len(refused)
        assert client.get("/v1/nmis", headers=calm).status_code == 200
        assert client.get("/livez").status_code == 200
        until = time.monotonic() + 20
        while client.get("/v1/nmis", headers=busy).status_code == 429:
            assert time.monotonic() < until
            time.sleep(0.3)
        said = client.get("/metrics", headers=calm).text
    assert "# TYPE nemflow_rate_refused_total counter" in said


def test_a_limit_that_cannot_be_counted_lets_everybody_through(store, caplog) -> None:
    """Redis away: every request is answered, counted as such, and said once in the log."""
    side = Side(NOWHERE, prefix="t")
    context = limited(store, "1/hour", side)
    key = with_key(store, "busy")
    with served(context) as url, httpx.Client(base_url=url) as client:
        assert [client.get("/v1/nmis", headers=key).status_code for _ in range(8)] == [200] * 8
    assert context.rate is not None
    assert context.rate.uncounted == 8
    assert side.breaker.open
    assert side.failures == 3, "then it is left alone"
    assert len([each for each in caplog.records if "Redis does not answer" in each.message]) == 1


@pytest.mark.parametrize("text", ["", "600", "often", "0/minute", "5/fortnight"])
def test_a_rate_that_is_none_is_refused(text) -> None:
    """With an example of how to write it."""
    with pytest.raises(UsageError, match="rate_per_key"):
        rate_of(text)


def test_off_is_no_limit() -> None:
    """And the usual words are understood."""
    assert rate_of("off") is None
    assert str(rate_of("20/second")) == "20 per 1 second"


class Away:
    """A store that can be made to be away; counts how often it was asked then."""

    def __init__(self, store) -> None:
        self._store = store
        self.away = False
        self.asked = 0

    def __getattr__(self, name: str):
        if self.away:
            self.asked += 1
            raise StoreAway("The server is away.")
        return getattr(self._store, name)


def test_a_store_that_is_away_is_not_asked_by_every_request(store) -> None:
    """After three failures 503 at once, red and named; one tries; then all is well again."""
    gone = Away(store)
    context = Context(gone, Keyring(lambda _: None, needed=False))  # type: ignore[arg-type]
    breaker = context.breakers["store"] = Breaker("store", StoreAway, reset_seconds=1.0)
    with served(context) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/nmis").status_code == 200
        gone.away = True
        codes = [client.get("/v1/nmis").json()["code"] for _ in range(3)]
        assert codes == ["E-STORE-AWAY"] * 3
        assert breaker.open
        gone.asked, breaker._opened = 0, time.monotonic()
        shed = client.get("/v1/nmis")
        put = client.put("/v1/deliveries/a.csv", content=b"x" * 100_000)
        assert {shed.status_code, put.status_code} == {503}
        assert int(shed.headers["retry-after"]) >= 1
        red = client.get("/readyz")
        assert (red.status_code, red.json()["parts"]["store"]) == (503, "E-STORE-AWAY")
        assert gone.asked == 0, "nobody has asked it"
        assert 'nemflow_breaker_open{part="store"} 1.0' in client.get("/metrics").text
        breaker._opened = time.monotonic() - 2
        assert client.get("/v1/nmis").json()["code"] == "E-STORE-AWAY"
        assert gone.asked == 1, "one has tried"
        gone.away = False
        breaker._opened = time.monotonic() - 2
        assert client.get("/v1/nmis/SASMPL0009/readings").status_code == 404  # it answers
        assert [client.get("/v1/nmis").status_code for _ in range(3)] == [200] * 3
        assert client.get("/readyz").json()["parts"]["store"] == "ready"
        assert 'nemflow_breaker_open{part="store"} 0.0' in client.get("/metrics").text


def test_of_many_who_come_while_it_is_open_one_may_try() -> None:
    """Whoever it is; the others are told to wait."""
    breaker = Breaker("store", StoreAway, failures=1, reset_seconds=60)
    breaker.failed(StoreAway("away"))
    breaker._opened -= 61
    waits: list[float] = []
    callers = [threading.Thread(target=lambda: waits.append(breaker.refuses())) for _ in range(20)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert sorted(bool(each) for each in waits) == [False] + [True] * 19
    breaker.worked()
    assert breaker.refuses() == 0


def test_a_broker_that_is_away_is_named_and_refuses_nothing(store) -> None:
    """/readyz is red at once; questions are answered."""
    context = Context(store, Keyring(lambda _: None, needed=False))
    asked: list[int] = []
    context.ready["queue"] = lambda: asked.append(1)
    breaker = context.breakers["queue"] = Breaker("broker", BrokerAway, failures=1)
    breaker.failed(BrokerAway("away"))
    with served(context) as url, httpx.Client(base_url=url) as client:
        assert client.get("/readyz").json()["parts"] == {
            "store": "ready",
            "queue": "E-BROKER-AWAY",
        }
        assert asked == []
        assert client.get("/v1/nmis").status_code == 200


def test_without_redis_everything_beside_the_queue_is_as_if_there_were_none() -> None:
    """Nothing raises, nothing is known, and whoever would sweep goes on to ask the store."""
    side = Side(NOWHERE, prefix="t")
    side.tell_progress(1, {"days": 1})
    assert side.progress(1) is None
    side.keep("x", b"answer")
    assert side.recall("x") is None
    side.note_begun("hourly", "2025-03-01T01")
    assert not side.begun("hourly", "2025-03-01T01")
    side.close()


def test_the_page_and_the_module_say_the_same_of_redis() -> None:
    """docs/queue.md has each kind of key with its meaning and its expiry, and no other."""
    page = (DOCS / "queue.md").read_text(encoding="utf-8")
    section = page.split("## What is in Redis\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{each.key}` | {each.what} | {each.until} |" for each in KEYS]
