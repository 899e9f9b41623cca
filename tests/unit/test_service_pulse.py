"""A store that never answers: nobody waits for it as long as it likes."""

from __future__ import annotations

import threading
import time

import httpx
import pytest

from borrowed import from_unit
from nemflow.errors import StoreAway
from nemflow.jobs.breaker import Breaker
from nemflow.service.auth import Keyring
from nemflow.service.context import Context
from nemflow.service.pulse import Pulse
from nemflow.store import open_store

served = from_unit("serving").served


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    with open_store(f"sqlite:///{tmp_path}/a.db") as opened:
        yield opened


def until(what, seconds: float = 20) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_who_waits_for_a_silent_store_is_sent_away_and_it_is_used_again_when_it_answers(
    store, monkeypatch
) -> None:
    """503 with Retry-After for those that wait and those that come; 200 when it is back."""
    frozen, back, asked = threading.Event(), threading.Event(), threading.Event()

    def look() -> None:
        if frozen.is_set():
            asked.set()
            assert back.wait(60)

    nmis = type(store).nmis

    def slow(self, *given, **named):
        look()
        return nmis(self, *given, **named)

    monkeypatch.setattr(type(store), "nmis", slow)
    monkeypatch.setattr(type(store), "nmis_from", slow, raising=False)
    context = Context(store, Keyring(lambda _: None, needed=False))
    breaker = context.breakers["store"] = Breaker("store", StoreAway)
    pulse = Pulse(look, breaker, patience=0.2, every=0.05)
    beating = threading.Thread(target=pulse.run)
    beating.start()
    try:
        with served(context) as where, httpx.Client(base_url=where, timeout=30) as client:
            assert client.get("/v1/nmis").status_code == 200
            frozen.set()
            waited = client.get("/v1/nmis")
            assert asked.is_set()
            assert (waited.status_code, waited.json()["code"]) == (503, "E-STORE-AWAY")
            assert int(waited.headers["Retry-After"]) > 0
            begun = time.monotonic()
            assert client.get("/v1/nmis").status_code == 503
            assert time.monotonic() - begun < 5
            assert client.get("/livez").status_code == 200
            frozen.clear()
            back.set()
            until(lambda: not breaker.open)
            assert client.get("/v1/nmis").status_code == 200
    finally:
        back.set()
        pulse.stop()
        beating.join(20)
    assert not beating.is_alive()
