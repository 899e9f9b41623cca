"""``nemflow serve`` alone: one command, no other server, killed and started again."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import httpx
import pytest

import nemflow
from borrowed import from_file

process = from_file(Path(__file__).with_name("service_process.py"))


@pytest.fixture
def service(tmp_path):
    """A running service in an empty folder."""
    with process.Service(tmp_path) as started:
        yield started


def text_of(number: int, **options: object) -> bytes:
    """A believable file of its own NMI."""
    return nemflow.generate(
        days=2, streams=("E1",), seed=number, nmis=[f"SAQ{number:07}"], **options
    )


def test_submit_tells_the_outcome_and_sigterm_ends_it_well(service, tmp_path) -> None:
    """Exit 0 for what is loaded or known, 1 for what was kept out; then SIGTERM: 0."""
    (tmp_path / "good.csv").write_bytes(text_of(1))
    (tmp_path / "bad.csv").write_bytes(text_of(2, break_it=["I001"]))
    told = service.run("submit", "good.csv", "--server", service.url, "--wait", "--json")
    assert (told.returncode, json.loads(told.stdout)[0]["state"]) == (0, "loaded"), told
    again = service.run("submit", "good.csv", "--server", service.url, "--wait", "--json")
    assert (again.returncode, json.loads(again.stdout)[0]["state"]) == (0, "duplicate")
    bad = service.run("submit", "bad.csv", "--server", service.url, "--wait", "--json")
    assert (bad.returncode, json.loads(bad.stdout)[0]["state"]) == (1, "partly_loaded")
    with service.client() as client:
        assert len(client.get("/v1/nmis").json()["nmis"]) == 2
    assert service.stop() == 0
    gone = service.run("submit", "good.csv", "--server", service.url, "--patience", "0")
    assert gone.returncode == 3
    assert "does not answer" in gone.stderr


def test_nothing_that_was_accepted_is_lost_however_it_is_killed(service) -> None:
    """Kill -9 of everything, twice while uploads come; every accepted file is loaded once."""
    dice = random.Random(11)  # noqa: S311
    accepted: dict[int, int] = {}
    number = 0
    for _ in range(2):
        killer, after = threading.Timer(dice.uniform(0.0, 0.1), service.kill), number + 4
        with service.client() as client:
            while True:
                number += 1
                try:
                    told = client.put(f"/v1/deliveries/{number}.csv", content=text_of(number))
                except httpx.TransportError:
                    break
                assert told.status_code == 202, told.text
                accepted[told.json()["delivery"]] = number
                if number == after:
                    killer.start()  # at a random moment of an upload
        killer.join()
        service.start()
    assert len(accepted) > 5
    assert set(service.finals(list(accepted)).values()) <= {"loaded", "duplicate"}
    with service.client() as client:
        days = {row["nmi"][:10]: row["days"] for row in client.get("/v1/nmis").json()["nmis"]}
    for sent in accepted.values():
        assert days[f"SAQ{sent:07}"] == 2


def test_other_addresses_need_keys_and_with_keys_nobody_is_answered_without(tmp_path) -> None:
    """No key: refused with what to do. A key: it serves, and asks for it."""
    refused = process.Service(tmp_path).run("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    assert refused.returncode == 2
    assert "nemflow keys add" in refused.stderr
    from nemflow.store import open_store

    with open_store(f"sqlite:///{tmp_path}/nemflow.db") as store:
        _, secret = store.make_key("sender", ["upload"], sender="MDPA")
    with process.Service(tmp_path, "--host", "0.0.0.0") as started:  # noqa: S104
        url = started.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert httpx.put(f"{url}/v1/deliveries/a", content=b"x").status_code == 401
        bearer = {"Authorization": f"Bearer {secret}"}
        told = httpx.put(f"{url}/v1/deliveries/a", content=text_of(1), headers=bearer)
        assert told.status_code == 202
        assert httpx.get(url + told.json()["href"], headers=bearer).json()["sender"] == "MDPA"
