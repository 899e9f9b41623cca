"""The query API: the real application on a real socket, asked over HTTP."""

from __future__ import annotations

import csv
import io
import json
import logging
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import httpx
import polars as pl
import pytest

from borrowed import from_file
from nemflow import pipeline
from nemflow.events import SCENE
from nemflow.service import auth
from nemflow.service.auth import Keyring
from nemflow.service.context import Context
from nemflow.service.forms import ARROW, PARQUET
from nemflow.service.problems import KINDS

served = from_file(Path(__file__).with_name("serving.py")).served
NMI = "SASMPL0001"


@pytest.fixture
def filled(store, put, nem12, a_day):
    """A day, its correction, and a file with a rejected day."""
    pipeline.load(store, [put("first.csv", nem12(a_day(value="0.125")))])
    pipeline.load(store, [put("second.csv", nem12(a_day(value="2.5", update="20250309010000")))])
    broken = a_day(day="20250302", values=("1",) * 47)
    good = a_day(nmi="SASMPL0002", suffix="B1")
    pipeline.load(store, [put("third.csv", nem12(broken, good))])
    return store


@pytest.fixture
def ask(filled):
    """A client of a service over that store, on loopback without keys."""
    context = Context(filled, Keyring(lambda _: None, needed=False))
    with served(context) as url, httpx.Client(base_url=url) as client:
        yield client


def rows_of(answer: httpx.Response, name: str) -> list[dict]:
    """The rows of a JSON answer, decimals exact."""
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)[name]


def test_readings_are_the_same_in_every_form_and_exact(ask, filled) -> None:
    """JSON, CSV, Parquet and Arrow hold what the store says, decimal by decimal."""
    told = filled.readings(NMI)
    path = f"/v1/nmis/{NMI}/readings"
    rows = rows_of(ask.get(path), "readings")
    assert [row["value"] for row in rows] == told["value"].to_list()
    assert rows[0]["interval_start"] == "2025-03-01T00:00:00+10:00"
    binary = {"Accept": PARQUET}
    assert pl.read_parquet(ask.get(path, headers=binary).content).equals(told)
    stream = ask.get(path, headers={"Accept": ARROW})
    assert pl.read_ipc_stream(stream.content).equals(told)
    text = ask.get(path, headers={"Accept": "text/csv"})
    cells = list(csv.DictReader(io.StringIO(text.text)))
    assert [Decimal(row["value"]) for row in cells] == told["value"].to_list()
    assert cells[0]["interval_start"].endswith("+10:00")


def test_a_span_a_suffix_a_resolution_and_what_was_known(ask) -> None:
    """The query string means what the command line's options mean."""
    path = f"/v1/nmis/{NMI}/readings"
    day = rows_of(
        ask.get(path, params={"resolution": "day", "from": "2025-03-01", "to": "2025-03-01"}),
        "readings",
    )
    assert [row["value"] for row in day] == [Decimal(120)]
    before = rows_of(ask.get(path, params={"as_known_on": 1, "suffix": "e1"}), "readings")
    assert {row["value"] for row in before} == {Decimal("0.125")}
    part = {"from": "2025-03-01T01:00", "to": "2025-03-01T02:00"}
    assert len(rows_of(ask.get(path, params=part), "readings")) == 2


def test_lists_come_in_pages_that_meet_every_row_once(ask) -> None:
    """``next`` leads on, in JSON as a member and elsewhere as a Link header."""
    seen, cursor = [], None
    while True:
        answer = ask.get(
            "/v1/deliveries", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        )
        seen += [row["delivery"] for row in rows_of(answer, "deliveries")]
        cursor = answer.json()["next"]
        if cursor is None:
            break
        link = ask.get(answer.links["next"]["url"], headers={"Accept": "text/csv"})
        assert link.text.splitlines()[1].startswith(str(cursor - 1))
    assert seen == [3, 2, 1]
    assert [row["file"] for row in rows_of(ask.get("/v1/files?limit=1"), "files")] == [3]


def test_one_delivery_one_file_its_findings_and_quarantine(ask) -> None:
    """What became of a file, and why a day was kept out."""
    assert ask.get("/v1/deliveries/3").json()["state"] == "partly_loaded"
    file = ask.get("/v1/files/3").json()
    assert file["days_rejected"] == 1
    assert [load["event"] for load in file["loads"]] == ["published"]
    assert ask.get(f"/v1/files/{file['sha256'][:10]}").json() == file
    rules = {row["rule"] for row in rows_of(ask.get("/v1/files/3/findings"), "findings")}
    held = rows_of(ask.get("/v1/quarantine", params={"file": "3"}), "quarantine")
    assert [row["day"] for row in held] == ["2025-03-02"]
    assert set(held[0]["rules"]) & rules
    assert rows_of(ask.get("/v1/quarantine?rule=N001"), "quarantine") == []


def test_nmis_versions_coverage_changes_and_the_feed(ask, filled) -> None:
    """Each answers what the store's method answers."""
    assert [row["nmi"] for row in rows_of(ask.get("/v1/nmis"), "nmis")] == [NMI, "SASMPL0002"]
    versions = rows_of(ask.get(f"/v1/nmis/{NMI}/versions?day=2025-03-01"), "versions")
    assert [(row["state"], row["total"]) for row in versions] == [
        ("current", Decimal(120)),
        ("superseded", Decimal(6)),
    ]
    covered = rows_of(ask.get(f"/v1/nmis/{NMI}/coverage?to=2025-03-02&from=2025-03-01"), "coverage")
    assert covered[0]["gaps"] == [{"start": "2025-03-02", "end": "2025-03-02"}]
    as_text = ask.get(
        f"/v1/nmis/{NMI}/coverage?to=2025-03-02&from=2025-03-01", headers={"Accept": "text/csv"}
    )
    assert "2025-03-02..2025-03-02" in as_text.text
    filled.readings(NMI, as_known_on=1, consumer="billing")
    changed = rows_of(ask.get("/v1/changes?consumer=billing"), "changes")
    assert [row["kind"] for row in changed] == ["revised"]
    assert len(rows_of(ask.get("/v1/changes?since=1"), "changes")) == 2
    seen, cursor = [], "0"
    while page := rows_of(ask.get("/v1/feed", params={"cursor": cursor, "limit": 1}), "feed"):
        seen += page
        cursor = page[-1]["cursor"]
    assert [row["seq"] for row in seen] == [1, 2, 3]


def test_undo_redo_and_replay_and_who_did_it(ask, filled, nem12, a_day) -> None:
    """They change what the store says, once; doing them twice is refused with 409."""
    done = ask.post("/v1/deliveries/2/undo")
    assert (done.status_code, done.json()["days"]) == (200, 1)
    assert filled.readings(NMI)["value"].to_list()[0] == Decimal("0.125")
    again = ask.post("/v1/deliveries/2/undo")
    assert (again.status_code, again.json()["code"]) == (409, "E-STATE")
    assert ask.post("/v1/deliveries/2/redo").json()["kind"] == "redone"
    number = filled.quarantine()["quarantine"].item()
    mended = "\n".join(a_day(day="20250302", value="3").lines()[1:])
    body = {"edits": {str(number): mended}}
    dry = ask.post("/v1/files/3/replay", json=body | {"dry_run": True}).json()
    assert dry["days"] == {"read": 1, "stored": 1, "unchanged": 0, "rejected": 0}
    assert filled.quarantine().height == 1
    assert ask.post("/v1/replay", json=body).json()["days"]["stored"] == 1
    assert filled.quarantine().height == 0
    assert filled.readings(NMI, date(2025, 3, 2))["value"].to_list() == [Decimal(3)] * 48


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/v1/nmis/QB00000001/readings", {}, 404, "E-NOT-FOUND"),
        ("/v1/deliveries/99", {}, 404, "E-NOT-FOUND"),
        ("/v1/deliveries/none", {}, 422, "E-USAGE"),
        (f"/v1/nmis/{NMI}/readings?resolution=week", {}, 422, "E-USAGE"),
        (f"/v1/nmis/{NMI}/readings?from=yesterday", {}, 422, "E-USAGE"),
        (f"/v1/nmis/{NMI}/readings?as_known_on=99", {}, 422, "E-USAGE"),
        (f"/v1/nmis/{NMI}/readings", {"Accept": "image/png"}, 406, "E-FORM"),
        ("/v1/feed?cursor=x/y", {}, 422, "E-USAGE"),
        ("/v1/nowhere", {}, 404, "E-ROUTE"),
        ("/v1/files?nmi=%00", {}, 400, "E-REQUEST"),
        ("/v1/files/a%00b", {}, 400, "E-REQUEST"),
        ("/v1/deliveries/1/undo", {}, 405, "E-METHOD"),
        ("/v1/nmis", {"Host": "evil.example"}, 403, "E-ORIGIN"),
        ("/v1/nmis", {"Origin": "https://evil.example"}, 403, "E-ORIGIN"),
        ("/v1/nmis", {"Authorization": "Basic eDp5"}, 401, "E-KEY"),
        ("/v1/nmis", {"Authorization": "Bearer wrong"}, 401, "E-KEY"),
    ],
)
def test_every_error_is_a_problem_document_with_a_stable_code(
    ask, path, headers, status, code
) -> None:
    """RFC 9457: type, title, status, detail; and our code."""
    answer = ask.get(path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"].endswith(code)
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]


def test_a_delivery_has_a_timeline_and_can_be_cancelled_and_retried(ask, filled) -> None:
    """The same acts as on the command line; what is done is not cancelled."""
    from nemflow.store import work

    backend = filled.backend
    arrival = work.Arrival("x.csv", "http", "a" * 64, 5)
    number = backend.transact(lambda conn: work.receive(conn, backend, arrival))
    assert ask.get("/v1/backlog").json()["files"] == 1
    assert ask.post(f"/v1/deliveries/{number}/cancel").json()["state"] == "cancelled"
    again = ask.post(f"/v1/deliveries/{number}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "E-STATE")
    wrong = ask.post(f"/v1/deliveries/{number}/retry", params={"profile": "lax"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "E-USAGE")
    again = ask.post(f"/v1/deliveries/{number}/retry", params={"profile": "b2b"}).json()
    assert (again["state"], again["profile"]) == ("queued", "b2b")
    steps = rows_of(ask.get(f"/v1/deliveries/{number}/timeline"), "steps")
    assert {"cancel", "retry"} <= {row["step"] for row in steps}
    assert ask.post("/v1/deliveries/1/cancel").status_code == 409
    assert ask.get("/v1/deliveries/99/timeline").status_code == 404


def test_a_fault_of_ours_tells_nothing_but_its_number(ask, filled, monkeypatch) -> None:
    """No path, SQL or stack reaches the caller; the number is in the log."""
    monkeypatch.setattr(filled, "nmis", lambda: 1 / 0)
    answer = ask.get("/v1/nmis")
    assert (answer.status_code, answer.json()["code"]) == (500, "E-INTERNAL")
    assert "division" not in answer.text


def test_a_fault_and_its_line_name_the_request(ask, filled, monkeypatch) -> None:
    """Who was answered 500 says its X-Request-ID, and the line with the stack has it too."""
    seen: list[tuple[str, str | None]] = []

    class Lines(logging.Handler):
        """Has the request of each line, as the log's own handler would write it."""

        def emit(self, record: logging.LogRecord) -> None:
            scene = SCENE.get()
            seen.append((record.msg, None if scene is None else scene.request))

    lines = Lines()
    logging.getLogger("nemflow.service").addHandler(lines)
    monkeypatch.setattr(filled, "nmis", lambda: 1 / 0)
    try:
        answer = ask.get("/v1/nmis", headers={"X-Request-ID": "at-3-am"})
    finally:
        logging.getLogger("nemflow.service").removeHandler(lines)
    assert (answer.status_code, answer.headers.get("X-Request-ID")) == (500, "at-3-am")
    assert ("fault %s", "at-3-am") in seen


@dataclass
class AKey:
    """A key as the store knows it."""

    name: str
    sender: str | None
    scopes: list[str]


def test_keys_and_their_scopes(filled) -> None:
    """No key: 401; a key without the scope: 403; with it, or admin: 200; undo by name."""
    keys = {
        "r": AKey("reader", None, ["read"]),
        "o": AKey("operator", None, ["operate"]),
        "a": AKey("boss", None, ["admin"]),
    }
    context = Context(filled, Keyring(keys.get, needed=True))
    with served(context) as url, httpx.Client(base_url=url) as client:

        def status(method: str, path: str, secret: str | None) -> int:
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            return client.request(method, path, headers=headers).status_code

        assert status("GET", "/v1/nmis", None) == 401
        assert status("GET", "/v1/nmis", "x") == 401
        assert status("GET", "/v1/nmis", "r") == 200
        assert status("GET", "/v1/nmis", "a") == 200
        assert status("GET", "/v1/nmis", "o") == 403
        assert status("POST", "/v1/deliveries/2/undo", "r") == 403
        assert status("POST", "/v1/deliveries/2/undo", "o") == 200
        assert status("GET", "/livez", None) == 200
        assert status("GET", "/readyz", None) == 200
    with filled.backend.reading() as conn:
        who = conn.exec_driver_sql("SELECT who FROM audit WHERE act = 'undo'").scalars().all()
    assert who == ["operator"]


def test_the_first_key_closes_the_door_on_loopback_too(monkeypatch) -> None:
    """Within ten seconds; before that, and without keys, local callers need none."""
    now, made = [100.0], [False]
    monkeypatch.setattr(auth.time, "monotonic", lambda: now[0])
    keyring = Keyring(lambda _: None, needed=False, made=lambda: made[0])
    now[0] += 11
    assert keyring.caller(None) is auth.LOCAL
    made[0] = True
    now[0] += 11
    with pytest.raises(auth.Problem):
        keyring.caller(None)


def test_alive_and_ready_are_two_things(filled) -> None:
    """A part that is away turns /readyz red, never /livez."""
    from nemflow.errors import StoreAway

    def away() -> None:
        raise StoreAway("It is away.")

    context = Context(filled, Keyring(lambda _: None, needed=False), ready={"queue": away})
    with served(context) as url, httpx.Client(base_url=url) as client:
        assert client.get("/livez").status_code == 200
        red = client.get("/readyz")
        assert red.status_code == 503
        assert red.json()["parts"] == {"store": "ready", "queue": "E-STORE-AWAY"}
        context.ready.clear()
        assert client.get("/readyz").json()["status"] == "ready"


def test_events_come_as_they_happen_and_resume_where_one_stopped(ask, filled) -> None:
    """One event per commit, by id; a second reader goes on behind the first one's last id."""

    def read(count: int, **headers: str) -> list[tuple[int, str]]:
        got: list[tuple[int, str]] = []
        with ask.stream("GET", "/v1/events?since=0", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            kind = number = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                number = value if name == "id" else number
                kind = value if name == "event" else kind
                if name == "data":
                    assert json.loads(value)["seq"] == int(number)
                    got.append((int(number), kind))
                if len(got) == count:
                    return got
        raise AssertionError("the stream ended")

    assert read(3) == [(1, "published"), (2, "published"), (3, "published")]
    pipeline.undo(filled, 2)
    assert read(2, **{"Last-Event-ID": "2"}) == [(3, "published"), (4, "undone")]


def test_events_end_when_the_key_is_good_no_more(filled, monkeypatch) -> None:
    """Revoked, or its scope taken away: an open stream ends as soon as another request fails."""
    monkeypatch.setattr(auth, "_BELIEVED_SECONDS", 0.1)
    a, b = AKey("a", None, ["read"]), AKey("b", None, ["read"])
    keys = {"a": a, "b": b}
    context = Context(filled, Keyring(keys.get, needed=True))
    with served(context) as url, httpx.Client(base_url=url, timeout=10) as client:
        for secret, change in (("a", lambda: a.scopes.remove("read")), ("b", keys.clear)):
            headers = {"Authorization": f"Bearer {secret}"}
            with client.stream("GET", "/v1/events?since=0", headers=headers) as answer:
                lines = answer.iter_lines()
                assert next(line for line in lines if line.startswith("data: "))
                change()
                *_, last = (line for line in lines if line)
                assert last == ": your key or session is good no more"


def test_an_event_that_cannot_have_been_is_refused(ask) -> None:
    """Of a number that no commit can have, in the header as in the query."""
    for number in (str(2**63), "9" * 20):
        answer = ask.get("/v1/events", headers={"Last-Event-ID": number})
        assert (answer.status_code, answer.json()["code"]) == (422, "E-USAGE")


def test_the_docs_and_every_code_are_there(ask) -> None:
    """/docs answers; the OpenAPI names every route's problems; docs/service.md every code."""
    assert ask.get("/docs").status_code == 200
    paths = ask.get("/openapi.json").json()["paths"]
    assert {"/v1/deliveries", "/v1/nmis/{nmi}/readings", "/v1/events"} <= set(paths)
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")
    assert [code for code in KINDS if f"`{code}`" not in page] == []
    assert [path for path in paths if f"`{path}`" not in page] == []


def test_what_is_switched_off_is_not_there(filled) -> None:
    """Uploads, metrics and docs by their switches; everything else answers."""
    bare = Context(filled, Keyring(lambda _: None, needed=False), features=frozenset())
    with served(bare) as url, httpx.Client(base_url=url) as client:
        for path in ("/docs", "/openapi.json", "/metrics"):
            assert client.get(path).json()["code"] == "E-ROUTE"
        assert client.put("/v1/deliveries/x", content=b"x").json()["code"] == "E-ROUTE"
        assert client.get("/livez").status_code == 200
        assert client.get("/v1/nmis").status_code == 200
