"""The service over a link to PostgreSQL that is cut and mended."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import sqlalchemy as sa

from borrowed import from_file, from_unit
from nemflow.errors import StoreAway
from nemflow.jobs.breaker import Breaker
from nemflow.service.auth import Keyring
from nemflow.service.context import Context
from nemflow.store import open_store
from nemflow.store.backends.pool import Pool

served = from_unit("serving").served
Cable = from_file(Path(__file__).with_name("cable.py")).Cable


def test_a_server_that_is_away_is_told_at_once_and_used_again_when_it_is_back(database) -> None:
    """Red and 503 while the link is cut, without waiting for it each time; green after."""
    url = sa.make_url(database)
    cable = Cable(url.host or "127.0.0.1", url.port or 5432)
    away = url.set(host="127.0.0.1", port=cable.port).render_as_string(hide_password=False)
    hurry = Pool(attempts=2, retry_seconds=1, connect_seconds=2, wait_seconds=2)
    with open_store(away, pool=hurry) as store:
        context = Context(store, Keyring(lambda _: None, needed=False))
        breaker = context.breakers["store"] = Breaker("store", StoreAway, reset_seconds=1.0)
        with served(context) as where, httpx.Client(base_url=where, timeout=30) as client:
            assert client.get("/v1/nmis").status_code == 200
            cable.close()
            for _ in range(10):
                answer = client.get("/v1/nmis")
                assert (answer.status_code, answer.json()["code"]) == (503, "E-STORE-AWAY")
            assert breaker.open
            assert client.get("/readyz").json()["parts"]["store"] == "E-STORE-AWAY"
            assert client.get("/livez").status_code == 200
            mended = Cable(url.host or "127.0.0.1", url.port or 5432, at=cable.port)
            until = time.monotonic() + 30
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < until
                time.sleep(0.2)
            assert client.get("/v1/nmis").status_code == 200
            assert not breaker.open
    mended.close()
