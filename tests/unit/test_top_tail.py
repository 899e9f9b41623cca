"""``nemflow top`` and ``nemflow tail``: one screen, and each outcome on one line, once."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import random
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console, Group
from typer.testing import CliRunner

from borrowed import from_file
from nemflow import pipeline
from nemflow.cli import app, tail
from nemflow.cli.top import view
from nemflow.errors import SystemFault
from nemflow.service.auth import Keyring
from nemflow.service.context import Context
from nemflow.store import Store, work

served = from_file(Path(__file__).with_name("serving.py")).served
SHORT = ("1",) * 47


def run(*args: object, code: int = 0) -> str:
    """What a command prints; the exit code must be as said."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exit_code == code, done.output
    return done.stdout


def arrive(store: Store, name: str, lane: str = "normal") -> int:
    """A delivery that waits."""
    arrival = work.Arrival(name, "http", "ab" * 32, 2_000_000, sender="MDPA", lane=lane)
    return store.backend.transact(lambda conn: work.receive(conn, store.backend, arrival))


@pytest.fixture
def busy(store, put, nem12, a_day):
    """Two rejected files, one loaded; one in hand, twelve waiting."""
    for day in ("20250301", "20250302"):
        pipeline.load(store, [put(f"{day}.csv", nem12(a_day(day=day, values=SHORT)))])
    pipeline.load(store, [put("good.csv", nem12(a_day(), sender="OTHER"))])
    held = arrive(store, "folder/" * 9 + "in-hand.csv", "bulk")
    backend = store.backend
    backend.transact(
        lambda conn: work.claim(conn, backend, held, "host/boot/4026531836:77:1:a", 60)
    )
    said = {"percent": 40, "days": 1000}
    backend.transact(
        lambda conn: work.progress(
            conn, backend, held, "host/boot/4026531836:77:1:a", progress=said
        )
    )
    for number in range(12):
        arrive(store, f"{number}.csv", "urgent" if number else "normal")
    return store


def test_one_view_has_rates_lanes_workers_failures_and_problems(busy) -> None:
    """From the store, as text and as JSON."""
    db = busy.backend.url.database
    said = run("top", "--once", "--db", db)
    for words in ("3 files, 2 with faults", "waiting 12  working 1", "urgent", "in-hand.csv",
                  "host:77", "40 %", "I001", "20250302.csv", "1 file"):  # fmt: skip
        assert words in said
    found = json.loads(run("top", "--json", "--db", db))
    assert [lane["lane"] for lane in found["lanes"]] == ["urgent", "normal", "bulk"]
    assert found["lanes"][0]["files"] == 11
    assert found["rates"]["files"] == 3
    (worker,) = found["workers"]
    assert (worker["percent"], worker["worker"]) == (40, "host:77")
    assert 0 < worker["lease_seconds"] <= 120
    assert found["open_problems"] == {"file": 1, "dead": 0, "system": 0}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 60)])
def test_a_view_fits_its_screen(busy, width: int, height: int) -> None:
    """No line wider, not more lines, whatever there is to show; lanes are always there."""
    found = busy.snapshot()
    many = {**found, "failures": found["failures"] * 20, "workers": found["workers"] * 20}
    screen = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    with screen.file:
        shown = {**many, "health": {}}
        screen.print(Group(*view(shown, "sqlite:///x.db", width, height, note="old")))
    lines = screen.export_text().splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert any("urgent" in line for line in lines)


def test_live_it_follows_the_screen_and_ends_with_q(busy) -> None:
    """On a real terminal: drawn, drawn anew when the size changes, gone after q with code 0."""
    ours, theirs = pty.openpty()

    def resize(lines: int, columns: int) -> None:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(words: bytes) -> None:
        seen, end = b"", time.monotonic() + 60
        while words not in seen:
            assert time.monotonic() < end, seen
            seen += os.read(ours, 65536)

    resize(24, 80)
    before = termios.tcgetattr(theirs)
    done = subprocess.Popen(
        [sys.executable, "-m", "nemflow.cli", "top", "--db", str(busy.backend.url.database)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    until(b"waiting 12")
    resize(30, 130)
    until(b"sender")  # a column that only a wide screen has
    os.write(ours, b"q")
    until(b"\x1b[?1049l")
    assert done.wait(30) == 0
    assert termios.tcgetattr(theirs)[3] == before[3]
    os.close(theirs)
    os.close(ours)


def test_tail_prints_the_last_and_what_is_behind_a_number(busy) -> None:
    """In order, by state and sender, as lines or as JSON."""
    db = busy.backend.url.database
    lines = run("tail", "--db", db).splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert "loaded" in lines[2]
    assert "1 day: 1 stored" in lines[2]
    assert run("tail", "-n", 1, "--db", db).split()[0] == "3"
    assert run("tail", "-n", 0, "--db", db) == ""
    rows = [json.loads(line) for line in run("tail", "--since", 1, "--json", "--db", db).split("\n")
            if line]  # fmt: skip
    assert [row["seq"] for row in rows] == [2, 3]
    assert len(run("tail", "--state", "rejected", "--db", db).splitlines()) == 2
    assert len(run("tail", "--sender", "OTHER", "--db", db).splitlines()) == 1
    assert "no outcome 9" in CliRunner().invoke(app, ["tail", "--since", "9", "--db", db]).output


def test_a_server_answers_like_the_store(busy) -> None:
    """``--server``: the same lines, the same view, and health."""
    db = busy.backend.url.database
    with served(Context(busy, Keyring(lambda _: None, needed=False))) as url:
        assert run("tail", "--server", url) == run("tail", "--db", db)
        filtered = run("tail", "--server", url, "--state", "rejected", "--since", 0)
        assert len(filtered.splitlines()) == 2
        found = json.loads(run("top", "--server", url, "--json"))
        assert found["health"] == {"store": "ready"}
        assert found["waiting"] == 12
        assert "all parts work" in run("top", "--server", url)
    assert "does not answer" in CliRunner().invoke(app, ["top", "--server", url]).output
    assert CliRunner().invoke(app, ["tail", "--server", url]).exit_code == 3
    assert CliRunner().invoke(app, ["tail", "--server", "x", "--db", db]).exit_code == 2


def test_following_loses_and_repeats_no_line_although_answers_are_lost(store, monkeypatch, capsys):
    """Deliveries end meanwhile, every third answer is lost on the way, a filter hides most."""
    chance = random.Random(3)  # noqa: S311
    real = tail._of_store(store, ["rejected"], None)
    over, late = threading.Event(), time.monotonic() + 120

    def ask(since, limit):
        if over.is_set() and since == len(ends):
            raise KeyboardInterrupt
        assert time.monotonic() < late, "it never got there"
        answer = real(since, min(limit, 3))
        if chance.random() < 0.33:
            raise SystemFault("The service went away.")
        return answer

    monkeypatch.setattr(tail, "_PAGE", 3)
    monkeypatch.setattr(tail, "_LONGEST_PAUSE", 0.01)
    ends = [("rejected", "loaded", "duplicate")[number % 3] for number in range(45)]

    def deliver() -> None:
        backend = store.backend
        for state in ends:
            number = arrive(store, "x.csv")
            backend.transact(lambda conn, n=number: work.claim(conn, backend, n, "t", 60))
            backend.transact(lambda conn, n=number, s=state: work.settle(conn, backend, n, "t", s))
        store.collect_outcomes()
        over.set()

    thread = threading.Thread(target=deliver)
    thread.start()
    tail._follow(ask, 0, 0.005, as_json=True)
    thread.join()
    told = capsys.readouterr()
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert [row["delivery"] for row in rows] == list(range(1, 46, 3))
    assert "Go on from here with --since 45" in told.err
