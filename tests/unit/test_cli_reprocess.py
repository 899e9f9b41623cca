"""``reprocess``, ``delivery --report`` and ``submit`` over a bad link, on the command line."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nemflow.cli import app
from nemflow.cli import submitting as submit_module
from nemflow.intake.spool import Spool, SpoolLimits
from nemflow.pipeline.delivering import Delivering, process
from nemflow.pipeline.loading import new_token
from nemflow.pipeline.receiving import receive
from nemflow.store import open_store, work


def run(*args: object, code: int = 0) -> str:
    """What a command prints; the exit code must be as said."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def loaded(tmp_path, monkeypatch, nem12, a_day) -> int:
    """A delivery of a good day, one that b2b refuses, and one that every profile refuses."""
    monkeypatch.chdir(tmp_path)
    text = nem12(
        a_day(day="20250301"), a_day(day="20250302"), a_day(day="20250303", values=("1",) * 47)
    )
    spool = Spool("nemflow-spool", SpoolLimits(free_bytes=1))
    with open_store() as store, spool.landing() as landing:
        landing.write(text.replace(b"300,20250302", b"300,2025-03-02"))
        number = receive(store, spool, landing, name="day.csv", channel="http").delivery
        token, backend = new_token(), store.backend
        backend.transact(lambda conn: work.claim(conn, backend, number, token, 60))
        process(store, spool, number, token=token, how=Delivering(keep_after="keep"))
    return number


def test_reprocess_shows_what_would_change_and_does_it_only_when_told(loaded) -> None:
    """Text, JSON and CSV say the same; --apply takes back and queues."""
    assert "Nothing would change" in run("reprocess", loaded)
    told = run("reprocess", loaded, "--profile", "b2b")
    assert "I015" in told
    assert f"nemflow reprocess {loaded} --apply --profile b2b" in told
    answer = json.loads(run("reprocess", loaded, "--profile", "b2b", "--json"))
    assert answer["counts"] == {"same": 1, "changed": 0, "gained": 0, "lost": 1}
    (row,) = csv.DictReader(io.StringIO(run("reprocess", loaded, "--profile", "b2b", "--csv")))
    assert (row["change"], row["day"]) == ("lost", "2025-03-02")
    with open_store() as store:
        assert store.deliveries().height == 1
    done = json.loads(run("reprocess", loaded, "--profile", "b2b", "--apply", "--json"))
    assert done == {"delivery": loaded + 1, "undone": loaded}
    with open_store() as store:
        states = dict(store.deliveries().select("delivery", "state").iter_rows())
    assert states == {loaded: "undone", loaded + 1: "received"}
    assert "no delivery of 99" in run("reprocess", 99, code=1)


def test_the_report_of_a_delivery_says_what_to_mend(loaded) -> None:
    """For people, and as JSON and CSV the very report that the service gives."""
    told = run("delivery", loaded, "--report")
    assert "partly_loaded" in told
    assert "Not checked, see nemflow explain: F008, N002." in told
    answer = json.loads(run("delivery", loaded, "--report", "--json"))
    assert answer["not_checked"] == ["F008", "N002"]
    rows = list(csv.DictReader(io.StringIO(run("delivery", loaded, "--report", "--csv"))))
    assert [row["rule"] for row in rows] == [each["rule"] for each in answer["findings"]]
    assert any(row["day"] == "2025-03-03" for row in rows)


@pytest.fixture
def odd() -> Iterator[tuple[str, list[tuple[int, dict, dict]], list[bytes]]]:
    """A server that answers what it is told to, one after the other; what was sent to it."""
    answers: list[tuple[int, dict, dict]] = []
    heard: list[bytes] = []

    class Odd(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, body = answers.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            data = json.dumps(body).encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers, heard
    server.shutdown()
    server.server_close()
    thread.join()


def refused(status: int, code: str, **headers: str) -> tuple[int, dict, dict]:
    """A problem document."""
    return status, headers, {"code": code, "detail": "no"}


def test_submit_sends_again_what_was_damaged_and_comes_back_when_told(
    odd, tmp_path: Path, monkeypatch
) -> None:
    """Damaged: at once, three times in all. Later: as long as Retry-After says. No: never."""
    url, answers, heard = odd
    naps: list[float] = []
    monkeypatch.setattr(submit_module.time, "sleep", naps.append)
    day = tmp_path / "day.csv"
    day.write_bytes(b"bytes")
    taken = (202, {}, {"delivery": 1, "state": "received"})
    later = {"retry-after": "7"}
    answers += [
        refused(400, "E-DIGEST"), refused(429, "E-RATE", **later),
        refused(503, "E-BACKLOG", **later), refused(400, "E-LENGTH"), taken,
    ]  # fmt: skip
    run("submit", day, "--server", url)
    assert (heard, naps) == ([b"bytes"] * 5, [1.0, 7.0, 7.0, 4.0])
    answers += [refused(400, "E-DIGEST")] * 3
    assert "E-DIGEST" in run("submit", day, "--server", url, code=1)
    answers += [refused(413, "E-TOO-LARGE")]
    assert "E-TOO-LARGE" in run("submit", day, "--server", url, code=1)
    assert answers == []


def test_one_refused_file_holds_back_no_other_and_a_service_that_is_gone_all(
    odd, tmp_path: Path
) -> None:
    """Each has its row; what came after a refusal is sent, what came after the end is named."""
    url, answers, heard = odd
    days = [tmp_path / f"{nth}.csv" for nth in range(3)]
    for day in days:
        day.write_bytes(day.name.encode())

    def states(code: int) -> list[str]:
        told = run("submit", *days, "--server", url, "--patience", "0", "--json", code=code)
        return [row["state"] for row in json.loads(told[told.index("[\n") : told.rindex("]") + 1])]

    answers += [
        (202, {}, {"delivery": 1, "state": "received"}),
        refused(413, "E-TOO-LARGE"),
        (202, {}, {"delivery": 2, "state": "received"}),
    ]
    assert states(1) == ["received", "refused", "received"]
    answers += [(202, {}, {"delivery": 3, "state": "received"}), refused(503, "E-BACKLOG")]
    assert states(3) == ["received", "not sent", "not sent"]
    answers += [refused(401, "E-KEY")]
    assert states(2) == ["not sent"] * 3
    assert len(heard) == 6
