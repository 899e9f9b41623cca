"""Several processes that load at the same time: one account, one way to stop, nothing left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import sqlalchemy as sa

from nemflow.errors import StoreError
from nemflow.events import FileFinished, LoadCleared, Progress
from nemflow.mdff.generate import generate
from nemflow.pipeline import load
from nemflow.store import Store, open_store
from nemflow.store.tables import day_claim, delivery
from nemflow.store.tables import load as load_table

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Nine files: plain ones, a copy, a zip of three, a bad one, one that is no MDFF."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        text = generate(nmis=[f"SASMPL{number:04}"], days=10, seed=number)
        (folder / f"{number}.csv").write_bytes(text)
    (folder / "copy.csv").write_bytes((folder / "0.csv").read_bytes())
    (folder / "bad.csv").write_bytes(generate(days=2, break_it=["I005"], seed=9))
    (folder / "none.csv").write_bytes(b"NMI,DATE\r\n1,2\r\n")
    with ZipFile(folder / "box.zip", "w") as box:
        for number in range(3):
            text = generate(nmis=[f"SASMPL1{number:03}"], days=5, seed=number)
            box.writestr(f"m{number}.csv", text)
    return folder


def url_of(store: Store) -> str:
    """The store's URL, with its password."""
    return store.backend.url.render_as_string(hide_password=False)


def command(store: Store, *paths: object, **env: str) -> subprocess.Popen[str]:
    """A ``load --jobs 2`` with a process group of its own."""
    words = [sys.executable, "-m", "nemflow.cli", "load", *map(str, paths), "--jobs", "2"]
    return subprocess.Popen(
        [*words, "--json", "--db", url_of(store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
        start_new_session=True,
    )


def left_open(store: Store) -> list[Any]:
    """Loads and deliveries somebody still works on, and claims nobody may see."""
    with store.backend.reading() as conn:
        held = sa.or_(delivery.c.lease_token.is_not(None), delivery.c.state == "loading")
        return [
            *conn.execute(sa.select(load_table.c.id).where(load_table.c.state == "open")),
            *conn.execute(sa.select(delivery.c.id, delivery.c.state).where(held)),
            *conn.execute(
                sa.select(day_claim.c.nmi)
                .join(load_table, load_table.c.id == day_claim.c.load)
                .where(load_table.c.state != "published")
                .limit(1)
            ),
        ]


def children_of(parent: int) -> list[int]:
    """Loading processes below a process."""
    import psutil

    return [
        child.pid
        for child in psutil.Process(parent).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]


def wait_for(what: Callable[[], Any], seconds: float = 30) -> Any:
    """The first answer that is not nothing."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def test_two_processes_give_the_account_that_one_gives(
    store: Store, inbox: Path, tmp_path: Path
) -> None:
    """The same files in the same order, the same counts and readings; progress to its end."""
    progress: list[Progress] = []
    events: list[Any] = []
    together = load(store, inbox, jobs=2, progress=progress.append, hook=events.append)
    with open_store(f"sqlite:///{tmp_path}/model.db") as model:
        alone = load(model, inbox)
        for nmi in model.nmis()["nmi"]:
            wanted = model.readings(nmi).drop("file")
            assert store.readings(nmi).drop("file").equals(wanted)
    names = [outcome.source for outcome in alone.files]
    assert [outcome.source for outcome in together.files] == names

    def account(summary: Any) -> list[Any]:
        same_text = ("0.csv", "copy.csv")  # either of the two may come first
        return [
            (each.source, each.days, each.rules, each.error)
            for each in summary.files
            if not each.source.endswith(same_text)
        ]

    assert account(together) == account(alone)
    assert together.states == alone.states
    assert together.to_dict().keys() == alone.to_dict().keys()
    assert sorted(e.source for e in events if isinstance(e, FileFinished)) == sorted(names)
    assert progress[-1].files_done == len(names)
    assert progress[-1].bytes_done == progress[-1].bytes_total
    assert left_open(store) == []
    assert sorted(store.deliveries()["state"]) == sorted(
        [*(outcome.state for outcome in alone.files), "loaded"]
    )


def test_a_killed_process_is_told_and_the_others_are_loaded(store: Store, tmp_path: Path) -> None:
    """Exit 3; the file it had is dead, its rows are gone, every other file is loaded."""
    victim = tmp_path / "a.csv"
    victim.write_bytes(generate(nmis=60, days=90, interval=5, streams=["E1"]))
    others = []
    for number in range(3):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(generate(nmis=[f"SASMPL9{number:03}"], days=20, seed=number))
        others.append(path)
    process = command(store, victim, *others, NEMFLOW_LOAD_CHUNK_BYTES="256 KiB")
    question = sa.select(load_table.c.lease_token).where(load_table.c.state == "open")

    def owner() -> Any:
        with store.backend.reading() as conn:
            return conn.execute(question).scalar()

    token = wait_for(owner)
    os.kill(int(token.split(":")[1]), signal.SIGKILL)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    files = json.loads(out)["files"]
    assert [each["state"] for each in files] == ["dead", "loaded", "loaded", "loaded"]
    assert "signal 9" in files[0]["error"]
    assert left_open(store) == []
    assert store.nmis().height == 3
    assert load(store, victim).files[0].days.stored == 60 * 90


@pytest.mark.parametrize(("signals", "code"), [([signal.SIGINT], 130), ([signal.SIGTERM], 143)])
def test_a_stopped_load_leaves_no_process_and_no_open_load(
    store: Store, tmp_path: Path, signals: list[int], code: int
) -> None:
    """Ctrl-C goes to the whole group, as a terminal sends it; SIGTERM to the first process."""
    for number in range(2):
        nmis = [f"SASMPL{number}{n:03}" for n in range(60)]
        text = generate(nmis=nmis, days=90, interval=5, streams=["E1"], seed=number)
        (tmp_path / f"{number}.csv").write_bytes(text)
    process = command(store, tmp_path, NEMFLOW_LOAD_CHUNK_BYTES="256 KiB")
    wait_for(lambda: left_open(store))
    children = wait_for(lambda: children_of(process.pid))
    for number in signals:
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    wait_for(lambda: not any(_is_there(child) for child in children))
    assert left_open(store) == []
    assert store.nmis().is_empty()


def test_processes_end_when_their_parent_is_killed(store: Store, tmp_path: Path) -> None:
    """They roll back and go; the next load finds nothing in its way."""
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=60, days=90, interval=5, streams=["E1"]))
    other = tmp_path / "b.csv"
    other.write_bytes(generate(nmis=["SASMPL9000"], days=1))
    process = command(store, path, other, NEMFLOW_LOAD_CHUNK_BYTES="256 KiB")
    wait_for(lambda: left_open(store))
    children = children_of(process.pid)
    process.kill()
    process.communicate(timeout=30)
    wait_for(lambda: not any(_is_there(child) for child in children))
    assert left_open(store) == []


def test_an_error_of_the_store_ends_the_load_as_it_does_in_one_process(
    store: Store, inbox: Path
) -> None:
    """It is raised here, with its words and its type; nothing is left open."""
    with store.backend.writing() as conn:
        conn.exec_driver_sql("ALTER TABLE file RENAME COLUMN nmis TO other")
    try:
        with pytest.raises(StoreError, match="nmis"):
            load(store, inbox, jobs=2)
        assert left_open(store) == []
    finally:
        with store.backend.writing() as conn:
            conn.exec_driver_sql("ALTER TABLE file RENAME COLUMN other TO nmis")


def test_what_a_dead_process_left_is_told_as_an_event(store: Store, tmp_path: Path) -> None:
    """Metrics see that something was cleared."""
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=30, days=60, interval=5, streams=["E1"]))
    events: list[Any] = []

    def kill(_: Progress) -> None:
        with store.backend.reading() as conn:
            token = conn.execute(
                sa.select(load_table.c.lease_token).where(load_table.c.state == "open")
            ).scalar()
        if token and int(token.split(":")[1]) != os.getpid():
            os.kill(int(token.split(":")[1]), signal.SIGKILL)

    other = tmp_path / "b.csv"
    other.write_bytes(generate(nmis=["SASMPL9000"], days=1))
    summary = load(
        store, [path, other], jobs=2, chunk_bytes=100_000, progress=kill, hook=events.append
    )
    assert [each.state for each in summary.files] == ["dead", "loaded"]
    assert summary.died
    assert any(isinstance(event, LoadCleared) for event in events)


def _is_there(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"
