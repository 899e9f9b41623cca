"""Acts over HTTP: many at once, keys, reading an original again."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from borrowed import from_file
from nemflow.intake.spool import Spool, SpoolLimits
from nemflow.pipeline.delivering import Delivering, process
from nemflow.pipeline.loading import new_token
from nemflow.pipeline.receiving import receive
from nemflow.service.auth import Keyring
from nemflow.service.context import Context
from nemflow.service.intake import Intake
from nemflow.store import Store, work

served = from_file(Path(__file__).with_name("serving.py")).served
NMI = "SASMPL0001"


class Desk:
    """A service that archives what was loaded, with a worker by hand."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.spool = Spool(folder / "spool", SpoolLimits(free_bytes=1))
        self.how = Delivering(keep_after="archive", archive=folder / "archive")
        self.context = Context(store, Keyring(store.check_key, needed=False, made=store.has_keys))
        self.context.how = self.how
        self.context.intake = Intake(store, self.spool, self.context.limits, lambda: None)
        self.client = httpx.Client()

    def send(self, name: str, data: bytes, sender: str | None = None) -> int:
        """Received; its number."""
        with self.spool.landing() as landing:
            landing.write(data)
            told = receive(
                self.store, self.spool, landing, name=name, channel="folder", sender=sender
            )
        return told.delivery

    def work(self, number: int) -> str:
        """To its end."""
        token, backend = new_token(), self.store.backend
        backend.transact(lambda conn: work.claim(conn, backend, number, token, 60))
        return process(self.store, self.spool, number, token=token, how=self.how).state

    def kill(self, number: int, why: str) -> None:
        """Make it dead."""
        token, backend = new_token(), self.store.backend
        backend.transact(lambda conn: work.claim(conn, backend, number, token, 60))
        backend.transact(lambda conn: work.settle(conn, backend, number, token, "dead", error=why))


@pytest.fixture
def desk(store, tmp_path):
    """A running service."""
    made = Desk(store, tmp_path)
    with served(made.context) as url, httpx.Client(base_url=url, timeout=20) as client:
        made.client = client
        yield made


@pytest.fixture
def dead(desk):
    """Three dead deliveries of two senders, for two reasons."""
    numbers = [
        desk.send(f"{n}.csv", f"bytes {n}".encode(), sender)
        for n, sender in enumerate(["ann", "ann", "bob"])
    ]
    for number, why in zip(
        numbers, ["the disk was full", "a fault", "the disk was full"], strict=True
    ):
        desk.kill(number, why)
    return numbers


def test_dead_deliveries_are_listed_with_why(desk, dead) -> None:
    """Newest first, and by a part of the error."""
    rows = desk.client.get("/v1/dead").json()["dead"]
    assert [row["delivery"] for row in rows] == dead[::-1]
    assert {row["error"] for row in rows} == {"the disk was full", "a fault"}
    found = desk.client.get("/v1/dead", params={"error": "disk"}).json()["dead"]
    assert [row["delivery"] for row in found] == [dead[2], dead[0]]


def test_many_are_looked_at_before_they_are_tried_again(desk, dead) -> None:
    """The preview names exactly those that are then queued, and nobody else."""
    chosen = {"error": "disk", "sender": "ann"}
    seen = desk.client.post("/v1/deliveries/retry", json=chosen | {"dry_run": True}).json()
    assert ([row["delivery"] for row in seen["deliveries"]], seen["done"]) == ([dead[0]], [])
    assert desk.store.dead().height == 3
    done = desk.client.post("/v1/deliveries/retry", json=chosen).json()
    assert (done["done"], done["refused"], done["more"]) == ([dead[0]], [], False)
    states = {row["delivery"]: row["state"] for row in desk.store.deliveries().to_dicts()}
    assert [states[each] for each in dead] == ["queued", "dead", "dead"]
    stopped = desk.client.post("/v1/deliveries/cancel", json={"deliveries": dead}).json()
    assert stopped["done"] == [dead[0]], "only what is not done"


def test_one_that_cannot_be_acted_on_holds_back_no_other(desk, dead) -> None:
    """It is told of with its reason."""
    desk.store.backend.transact(
        lambda conn: work.put(
            conn, dead[1], state="dead", now=desk.store.backend.now(conn), kept="deleted"
        )
    )
    told = desk.client.post("/v1/deliveries/retry", json={"state": ["dead"]}).json()
    assert told["done"] == [dead[0], dead[2]]
    assert [(each["delivery"], each["code"]) for each in told["refused"]] == [(dead[1], "E-USAGE")]


@pytest.mark.parametrize(
    ("act", "chosen", "status"),
    [
        ("retry", {}, 422),
        ("retry", {"dry_run": True}, 422),
        ("retry", {"state": ["loaded"]}, 422),
        ("undo", {"state": ["dead"]}, 422),
        ("cancel", {"deliveries": [99]}, 404),
        ("cancel", {"since": "yesterday"}, 422),
        ("cancel", {"colour": "red"}, 422),
    ],
)
def test_nothing_is_chosen_by_mistake(desk, dead, act, chosen, status) -> None:
    """An empty or wrong request changes nothing."""
    assert desk.client.post(f"/v1/deliveries/{act}", json=chosen).status_code == status
    assert desk.store.dead().height == 3


def test_many_are_taken_back_at_once(desk, nem12, a_day) -> None:
    """By sender and time of receipt."""
    for n in (1, 2):
        number = desk.send(f"{n}.csv", nem12(a_day(day=f"2025030{n}")), "ann")
        assert desk.work(number) == "loaded"
    chosen = {"sender": "ann", "since": "2020-01-01T00:00", "until": "2100-01-01T00:00"}
    assert desk.client.post("/v1/deliveries/undo", json=chosen).json()["done"] == [1, 2]
    assert desk.store.readings(NMI).is_empty()


def test_keys_are_made_rotated_and_revoked_by_admins_only(desk) -> None:
    """A secret is told once; two are good while one replaces the other; all is in the audit."""
    client = desk.client
    wanted = {"name": "ops", "scopes": ["admin"]}
    made = client.post("/v1/keys", json=wanted)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    root = {"Authorization": f"Bearer {made.json()['secret']}"}
    first = client.post("/v1/keys", json={"name": "mdp", "sender": "MDP1"}, headers=root).json()
    assert first["scopes"] == ["read", "upload"]
    mine = {"Authorization": f"Bearer {first['secret']}"}
    for method, path in (("GET", ""), ("POST", ""), ("POST", "/1/rotate"), ("POST", "/1/revoke")):
        told = client.request(method, f"/v1/keys{path}", headers=mine, json={"name": "x"})
        assert told.status_code in (403, 422), path
        assert method == "POST" or told.json()["code"] == "E-SCOPE"
    assert desk.store.keys().height == 2
    second = client.post(f"/v1/keys/{first['key']}/rotate", headers=root).json()
    assert (second["name"], second["sender"]) == ("mdp", "MDP1")
    for secret in (first["secret"], second["secret"]):
        assert desk.store.check_key(secret).name == "mdp"
    assert client.post(f"/v1/keys/{first['key']}/revoke", headers=root).status_code == 200
    again = client.post(f"/v1/keys/{first['key']}/revoke", headers=root)
    assert (again.status_code, again.json()["code"]) == (409, "E-STATE")
    assert client.post(f"/v1/keys/{first['key']}/rotate", headers=root).status_code == 409
    assert desk.store.check_key(first["secret"]) is None
    assert desk.store.check_key(second["secret"]).name == "mdp"
    listed = client.get("/v1/keys", headers=root).text
    assert "revoked" in listed
    assert not any(each in listed for each in (first["secret"], second["secret"]))


def test_a_file_is_read_again_after_it_was_seen_what_changes(desk, nem12, a_day) -> None:
    """Compared by anybody who reads, done by who operates; the original comes from the archive."""
    text = nem12(a_day(day="20250301"), a_day(day="20250302"))
    number = desk.send("day.csv", text.replace(b"300,20250302", b"300,2025-03-02"))
    assert desk.work(number) == "loaded"
    assert not desk.spool.has(desk.store.delivery(number)["sha256"].item())
    answer = desk.client.get(f"/v1/deliveries/{number}/original")
    assert (answer.status_code, len(answer.content)) == (200, len(text) + 2)
    seen = desk.client.get("/v1/files/1/reprocess", params={"profile": "b2b"}).json()
    assert seen["counts"] == {"same": 1, "changed": 0, "gained": 0, "lost": 1}
    lost = seen["changes"][0]
    assert (lost["change"], lost["day"], lost["rules"]) == ("lost", "2025-03-02", ["I015"])
    asked = {"profile": "b2b", "dry_run": "true"}
    dry = desk.client.post("/v1/files/1/reprocess", params=asked)
    assert (dry.status_code, dry.json()["changes"]) == (200, seen["changes"])
    assert desk.store.delivery(number)["state"].item() == "loaded"
    done = desk.client.post("/v1/files/1/reprocess", params={"profile": "b2b"})
    assert done.status_code == 202
    again = done.json()["delivery"]
    assert done.headers["location"] == f"/v1/deliveries/{again}"
    assert desk.work(again) == "partly_loaded"
    days = desk.store.readings(NMI)["day"].unique().to_list()
    assert [str(each) for each in days] == ["2025-03-01"]
    assert desk.client.get("/v1/files/9/reprocess").status_code == 404


def test_what_could_not_be_checked_is_said(desk, nem12, a_day) -> None:
    """On the delivery and in its report: nobody said who we are."""
    number = desk.send("day.csv", nem12(a_day()))
    desk.work(number)
    row = desk.client.get(f"/v1/deliveries/{number}").json()
    assert row["inspected"]["not_checked"] == ["F008", "N002"]
    report = desk.client.get(f"/v1/deliveries/{number}/report").json()
    assert report["not_checked"] == ["F008", "N002"]
    assert Delivering(participant="US").not_checked == ("N002",)
