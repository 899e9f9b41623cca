"""Problems and outcomes as people and programs see them: the command line and HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from borrowed import from_file
from nemflow import pipeline
from nemflow.cli import app
from nemflow.service.auth import Keyring
from nemflow.service.context import Context

served = from_file(Path(__file__).with_name("serving.py")).served
SHORT = ("1",) * 47


def run(*args: object, code: int = 0) -> str:
    """What a command prints; the exit code must be as said."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def broken(store, put, nem12, a_day):
    """A store with two rejected files of one sender."""
    for day in ("20250301", "20250302"):
        pipeline.load(store, [put(f"{day}.csv", nem12(a_day(day=day, values=SHORT)))])
    return store


def test_the_command_line_says_what_is_wrong_who_must_act_and_what_to_do(broken):
    """As a table with the next step, as JSON, and closed by hand."""
    db = broken.backend.url.database
    said = run("problems", "--db", db)
    for words in (
        "MDPA",
        "I001",
        "Number of fields",
        "sender",
        "What to do: Compare",
        "20250302.csv",
    ):
        assert words in said
    assert f'problems close 1 --note "..." --db {db}' in said
    (row,) = json.loads(run("problems", "--json", "--db", db))
    assert (row["times"], row["kind"], row["state"], row["last_delivery"]) == (2, "file", "open", 2)
    assert run("problems", "--sender", "OTHER", "--db", db) == "No open problems.\n"
    assert run("problems", "close", 1, "--note", "told them", "--db", db) == "Closed: 1 problem.\n"
    assert run("problems", "--db", db) == "No open problems.\n"
    assert "told them" in run("problems", "--all", "--db", db)
    assert "closed already" in run("problems", "close", 1, "--note", "x", "--db", db, code=2)


def test_problems_and_outcomes_over_http(broken):
    """Listed, closed with a note and the right scope, followed without a gap."""
    with served(Context(broken, Keyring(lambda _: None, needed=False))) as url:
        ask = httpx.Client(base_url=url)
        (row,) = ask.get("/v1/problems").json()["problems"]
        assert (row["sender"], row["times"]) == ("MDPA", 2)
        assert ask.post("/v1/problems/1/close", json={"note": " "}).status_code == 422
        assert ask.post("/v1/problems/1/close", json={"note": "seen"}).json()["state"] == "closed"
        assert ask.post("/v1/problems/1/close", json={"note": "seen"}).json()["code"] == "E-STATE"
        assert (
            ask.post("/v1/problems/9/close", json={"note": "seen"}).json()["code"] == "E-NOT-FOUND"
        )
        assert ask.get("/v1/problems").json()["problems"] == []
        assert len(ask.get("/v1/problems?state=all").json()["problems"]) == 1
        first = ask.get("/v1/outcomes?cursor=0&limit=1").json()
        assert [each["state"] for each in first["outcomes"]] == ["rejected"]
        rest = ask.get(f"/v1/outcomes?cursor={first['next']}").json()
        assert [each["delivery"] for each in rest["outcomes"]] == [2]
        end = ask.get(f"/v1/outcomes?cursor={rest['next']}").json()
        assert (end["outcomes"], end["next"]) == ([], 2)
        assert ask.get("/v1/outcomes?state=loaded").json()["next"] == 2
        ask.close()


def test_webhooks_by_command_and_over_http(broken):
    """Made with a secret shown once, listed without it, tested, switched, removed."""
    db = broken.backend.url.database
    nobody = "http://127.0.0.1:9/x"
    made = json.loads(run("webhooks", "add", nobody, "--json", "--db", db))
    assert made[0]["secret"].startswith("whsec_")
    assert "Not delivered: no answer" in run("webhooks", "test", 1, "--db", db, code=1)
    (message,) = json.loads(run("webhooks", "messages", 1, "--json", "--db", db))
    assert (message["event"], message["state"], message["attempts"]) == (
        "webhook.test",
        "waiting",
        1,
    )
    listed = run("webhooks", "list", "--json", "--db", db)
    assert made[0]["secret"] not in listed
    assert run("webhooks", "disable", 1, "--db", db) == "Webhook 1: disabled.\n"
    with served(Context(broken, Keyring(lambda _: None, needed=False))) as url:
        ask = httpx.Client(base_url=url + "/v1")
        (row,) = ask.get("/webhooks").json()["webhooks"]
        assert (row["state"], row["waiting"], "secret" in row) == ("disabled", 1, False)
        assert ask.post("/webhooks", json={"url": "ftp://x/yyyyy"}).status_code == 422
        new = ask.post("/webhooks", json={"url": nobody, "events": ["file.dead"]})
        assert (new.status_code, new.json()["webhook"]) == (201, 2)
        assert ask.post("/webhooks/1/enable").json()["state"] == "on"
        assert ask.post("/webhooks/2/test").status_code == 202
        assert len(ask.get("/webhooks/2/messages").json()["messages"]) == 1
        assert ask.post("/webhooks/2/retry", json={}).json()["messages"] == 0
        assert ask.post("/webhooks/2/retry", json={"messages": [9]}).json()["code"] == "E-STATE"
        assert ask.delete("/webhooks/2").status_code == 204
        assert ask.delete("/webhooks/2").json()["code"] == "E-NOT-FOUND"
        ask.close()
    assert run("webhooks", "remove", 1, "--db", db) == "Webhook 1: removed.\n"
