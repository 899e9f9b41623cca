"""``delivery``, ``dead``, ``verify`` and ``keys`` on the command line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from nemflow.cli import app
from nemflow.pipeline import verifying
from nemflow.store import Store, open_store, timeline, work
from nemflow.store.tables import MARKET_OFFSET


def run(*args: object, code: int = 0) -> str:
    """What a command prints; the exit code must be as said."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exit_code == code, done.output
    return done.output


def arrive(store: Store, name: str, data: bytes) -> int:
    """An original in the spool and its row."""
    sha256 = hashlib.sha256(data).hexdigest()
    path = Path("nemflow-spool") / sha256[:2] / sha256[2:4] / sha256
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    arrival = work.Arrival(name, "http", sha256, len(data), sender="MDPA")
    return store.backend.transact(lambda conn: work.receive(conn, store.backend, arrival))


@pytest.fixture
def arrived(tmp_path, monkeypatch):
    """Two dead deliveries and one that waits, in the usual store of an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verifying, "_LOOK_AGAIN_SECONDS", 0.0)
    at = datetime(2025, 3, 1, 10, tzinfo=MARKET_OFFSET)
    with open_store() as store:
        numbers = [arrive(store, f"{name}.csv", name.encode()) for name in "abc"]

        def kill(conn: sa.Connection) -> None:
            for number in numbers[:2]:
                token = f"w:{number}:x"
                work.claim(conn, store.backend, number, token, 60)
                work.describe(
                    conn, number, token,
                    {"kind": "NEM12", "nmi_count": 2, "first_day": "2025-03-01",
                     "last_day": "2025-03-02"},
                )  # fmt: skip
                timeline.step(
                    conn, number, "load", attempt=1, began_at=at, ended_at=at,
                    outcome="E-SYSTEM", detail={"error": "broken", "days": {"read": 1}},
                )  # fmt: skip
                work.settle(conn, store.backend, number, token, "dead", error="E-SYSTEM: broken")

        store.backend.transact(kill)
    return numbers


def test_one_delivery_tells_where_it_is_and_its_way(arrived):
    """For people, and all of it for programs."""
    told = run("delivery", arrived[0])
    assert "delivery 1: a.csv" in told
    assert "holds     NEM12, 2 NMIs, 2025-03-01 to 2025-03-02" in told
    assert "E-SYSTEM  2025-03-01 10:00:00     0.00  error: broken" in told
    assert "Try it again: nemflow delivery 1 --retry" in told
    answer = json.loads(run("delivery", arrived[0], "--json"))
    assert (answer["state"], answer["sender"], answer["kept"]) == ("dead", "MDPA", "spooled")
    assert answer["inspected"]["nmi_count"] == 2
    assert answer["timeline"][0]["detail"] == {"error": "broken", "days": {"read": 1}}
    lines = io.StringIO(run("delivery", arrived[0], "--csv").partition("\n\n")[0])
    row, end = csv.DictReader(lines)
    assert (end["step"], end["outcome"]) == ("attempt", "dead")
    assert (row["step"], row["outcome"]) == ("load", "E-SYSTEM")
    assert "no delivery 99" in run("delivery", 99, code=1)


def test_one_is_cancelled_and_tried_again(arrived):
    """The act shows at once; one that cannot be is wrong usage, with the next step."""
    assert "state     cancelled" in run("delivery", arrived[2], "--cancel")
    assert "cancelled already" in run("delivery", arrived[2], "--cancel", code=2)
    assert "state     queued" in run("delivery", arrived[2], "--retry")
    assert "only what is dead" in run("delivery", arrived[2], "--retry", code=2)
    assert "exclude each other" in run("delivery", 1, "--retry", "--cancel", code=2)


def test_the_dead_are_listed_and_tried_again_singly_and_together(arrived):
    """By number, by range, or all of them."""
    told = run("dead")
    assert "E-SYSTEM: broken" in told
    assert "Try it again: nemflow dead --retry 2" in told
    rows = json.loads(run("dead", "--json"))
    assert [row["delivery"] for row in rows] == [2, 1]
    assert "no number" in run("dead", "--retry", "x", code=2)
    assert "received" in run("dead", "--retry", "2-3", code=2)
    assert run("dead", "--retry", 1) == "Queued again: 1 delivery.\n"
    assert json.loads(run("dead", "--retry", "all", "--json")) == [{"delivery": 2, "act": "retry"}]
    assert run("dead") == "Nothing is dead.\n"


def test_verify_says_what_holds_and_ends_with_1_when_something_does_not(arrived):
    """Every promise is a line; a lost original is a broken one."""
    told = run("verify")
    assert "3 deliveries: 2 dead, 1 received." in told
    assert "3 originals looked for." in told
    assert "promises held." in told
    assert "BROKEN" in run("verify", "--drained", code=1)
    assert "BROKEN" in run("verify", "--spool", "elsewhere", code=1)
    answer = json.loads(run("verify", "--spool", "elsewhere", "--json", code=1))
    assert answer["held"] is False
    (wrong,) = [line for line in answer["promises"] if not line["held"]]
    assert wrong["promise"] == "originals that are spooled are there"
    assert wrong["broken"] == 3
    rows = list(csv.DictReader(io.StringIO(run("verify", "--deep", "--csv"))))
    assert {row["held"].lower() for row in rows} == {"true"}


def test_keys_are_made_listed_and_revoked(tmp_path, monkeypatch):
    """The secret is printed once; a key may come before the first file."""
    monkeypatch.chdir(tmp_path)
    told = run("keys", "add", "desk", "--sender", "MDPA")
    secret = told.splitlines()[1]
    with open_store() as store:
        key = store.check_key(secret)
        assert key is not None
        assert (key.name, key.sender, key.scopes) == ("desk", "MDPA", {"upload", "read"})
    answer = json.loads(run("keys", "add", "desk", "--scope", "operate", "--expires",
                            "2099-01-01T00:00", "--json"))  # fmt: skip
    assert answer[0]["scopes"] == "operate"
    assert "2 live keys" in run("keys", "add", "desk", code=2)
    listed = run("keys", "list")
    assert secret not in listed
    assert "2099-01-01 00:00" in listed
    assert run("keys", "revoke", 1) == "Revoked: key 1.\n"
    assert "revoked already" in run("keys", "revoke", 1, code=2)
    assert "no scope" in run("keys", "add", "other", "--scope", "everything", code=2)
    rows = json.loads(run("keys", "list", "--json"))
    assert [(row["key"], row["state"]) for row in rows] == [(2, "live"), (1, "revoked")]
    again = json.loads(run("keys", "rotate", 2, "--revoke", "--json"))[0]
    assert (again["name"], again["scopes"], again["key"]) == ("desk", "operate", 3)
    assert "no live key 2" in run("keys", "rotate", 2, code=1)
    assert "nemflow keys revoke 3" in run("keys", "rotate", 3)
    assert "2 live keys" in run("keys", "rotate", 3, code=2)


def test_deliveries_are_listed_by_who_sent_them_and_how(arrived):
    """Filters go together with all others."""
    told = json.loads(run("deliveries", "--sender", "MDPA", "--channel", "http", "--json"))
    assert [row["delivery"] for row in told] == [3, 2, 1]
    assert json.loads(run("deliveries", "--sender", "MDPA", "--channel", "folder", "--json")) == []
    assert "No deliveries" in run("deliveries", "--sender", "OTHER")
