"""Real processes: kill -9 in the middle of a load, and many loads at once."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos.crashes import crash_hunt, sleepers
from chaos.model import new_seed
from nemflow.mdff.generate import generate
from nemflow.pipeline import load
from nemflow.store import open_store

# Loads one file in small pieces, saying after each how many days are in.
LOADER = """
import sys
from nemflow.pipeline import large, load, unpack
from nemflow.store import open_store
unpack.WHOLE_BYTES, large.PIECE_BYTES = 1000, 64 * 1024
def tell(step):
    print(step.days_done, flush=True)
with open_store(sys.argv[1]) as store:
    print("ready", flush=True)
    outcome = load(store, sys.argv[2], progress=tell).files[0]
    print(outcome.state, outcome.duplicate_of_delivery, flush=True)
"""


def loader(store: Path, path: Path) -> subprocess.Popen[str]:
    """A process that loads one file."""
    return subprocess.Popen(
        [sys.executable, "-c", LOADER, str(store), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows_without_a_published_load(store: Path) -> int:
    """Day rows that no reader may see."""
    connection = sqlite3.connect(store)
    hidden = "load NOT IN (SELECT id FROM load WHERE state = 'published')"
    count = sum(
        connection.execute(f"SELECT count(*) FROM {table} WHERE {hidden}").fetchone()[0]
        for table in ("day_claim", "day_content")
    )
    connection.close()
    return int(count)


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_a_killed_load_leaves_nothing_visible_and_the_next_one_succeeds(tmp_path, pieces):
    """Kill -9 before, at the first and at a later piece: no reading is seen, none is doubled."""
    path, target = tmp_path / "in.csv", tmp_path / "store.db"
    path.write_bytes(generate(nmis=4, days=90, interval=5, streams=["E1"]))
    open_store(str(target)).close()
    process = loader(target, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(pieces):
        assert int(process.stdout.readline()) > 0
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    with open_store(str(target)) as store:
        assert store.nmis().is_empty()
        if pieces:
            assert rows_without_a_published_load(target) > 0
        outcome = load(store, path).files[0]
        assert (outcome.state, outcome.days.stored) == ("loaded", 360)
        assert rows_without_a_published_load(target) == 0
        assert store.nmis()["days"].to_list() == [90] * 4
        assert store.readings("SASMPL0001").height == 90 * 288
        if pieces:
            assert store.deliveries()["state"].to_list() == ["loaded", "dead"]


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_killed_anywhere_nothing_is_partial_lost_or_double(tmp_path):
    """A short crash hunt: at each failpoint and at random; ``make chaos`` has the long one."""
    seed = new_seed()
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    rng = random.Random(seed)  # noqa: S311 - a shuffle
    hunt = crash_hunt(f"sqlite:///{tmp_path}/hunt.db", tmp_path, rng, kills=14, engine="SQLite")
    assert hunt.wrong == []
    asleep = sleepers(f"sqlite:///{tmp_path}/asleep.db", tmp_path, rng, rounds=2)
    assert asleep.wrong == []


def test_one_file_loaded_by_many_processes_at_once_is_loaded_once(tmp_path):
    """One load, the rest are duplicates of it; nothing is there twice."""
    path, target = tmp_path / "in.csv", tmp_path / "store.db"
    path.write_bytes(generate(nmis=2, days=30, interval=5, streams=["E1"]))
    open_store(str(target)).close()
    started = [loader(target, path) for _ in range(4)]
    answers = []
    for process in started:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        answers.append(out.splitlines()[-1].split()[0])
    assert sorted(answers) == ["duplicate"] * 3 + ["loaded"]
    with open_store(str(target)) as store:
        assert store.files().height == 1
        assert rows_without_a_published_load(target) == 0
        assert store.readings("SASMPL0001").height == 30 * 288


def test_readers_see_whole_loads_while_others_write(tmp_path):
    """A reader beside two loaders sees all days of a file or none, and never waits long."""
    target = tmp_path / "store.db"
    open_store(str(target)).close()
    started = []
    for number in range(2):
        path = tmp_path / f"{number}.csv"
        nmis = [f"SASMPL{number}{n:03}" for n in range(3)]
        path.write_bytes(generate(nmis=nmis, days=60, interval=5, streams=["E1"]))
        started.append(loader(target, path))
    longest = 0.0
    with open_store(str(target)) as store:
        while any(process.poll() is None for process in started):
            begun = time.perf_counter()
            assert set(store.nmis()["days"]) <= {60}
            longest = max(longest, time.perf_counter() - begun)
            time.sleep(0.02)
        for process in started:
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
        assert store.nmis()["days"].to_list() == [60] * 6
    assert longest < 5
