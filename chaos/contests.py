"""Contests: many loaders at once on the same NMI-days, or on the same text.

Promises: every attack ends with the model's verdict on the store; the deadlock hunt has a control
that does what most systems do, and must fail.

Look next: ``months.py`` for contests over partitions; ``loaders.py``, ``verdict.py``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psycopg

from chaos.loaders import PATIENCE, Order, Said, all_said, crew, gate, start
from chaos.model import SentFile, pairs, sent_files, shuffled
from chaos.report import Attack
from chaos.servers import asking, deadlocks
from chaos.verdict import faults
from nemflow.pipeline import load
from nemflow.store import open_store


def put(folder: Path, files: Iterable[SentFile]) -> dict[int, str]:
    """Write files; returns their paths by number."""
    paths = {}
    for file in files:
        path = folder / file.name
        path.write_bytes(file.text())
        paths[file.number] = str(path)
    return paths


def errors_of(said: Sequence[Said]) -> list[str]:
    """What went wrong, in words."""
    return [f"{one.kind}: {one.error}" for one in said if one.error]


# -- deadlocks --------------------------------------------------------------------------------


def deadlock_hunt(
    database: str, folder: Path, rng: random.Random, *, files: int, loaders: int = 8
) -> Attack:
    """Loaders on the same 300 NMI-days in opposite and random orders."""
    sent = sent_files(rng, files)
    paths = put(folder, sent)
    open_store(database).close()
    before = deadlocks(database)
    begun = time.perf_counter()
    said = all_said(crew(folder, _orders(database, rng, sent, paths, loaders)))
    took = time.perf_counter() - begun
    attack = Attack(
        "Deadlock hunt",
        f"{loaders} processes load {files:,} files over the same 300 NMI-days, in rising, falling "
        "and random order of days; originals and corrections, lengths of 5, 15 and 30 minutes "
        "mixed; one file in twenty is given to two loaders.",
        wrong=errors_of(said),
    )
    found = deadlocks(database) - before
    if found:
        attack.wrong.append(f"{found} deadlocks")
    with open_store(database) as store:
        attack.wrong += faults(store, sent)
        days = sum(len(file.days) for file in sent)
    attack.counts = {
        "files": files,
        "NMI-day versions": days,
        "calls of load": len(said),
        "duplicates": sum(one.states.count("duplicate") for one in said),
        "deadlocks": found,
        "errors": len(errors_of(said)),
        "seconds of loading": took,
    }
    return attack


def _orders(
    database: str,
    rng: random.Random,
    sent: Sequence[SentFile],
    paths: dict[int, str],
    loaders: int,
) -> list[Order]:
    """Every file to one loader, some to two, a few files per call."""
    shares: list[list[str]] = [[] for _ in range(loaders)]
    for place, file in enumerate(shuffled(rng, sent)):
        shares[place % loaders].append(paths[file.number])
        if rng.random() < 0.05:
            shares[rng.randrange(loaders)].append(paths[file.number])
    orders = []
    for share in shares:
        calls = []
        while share:
            size = rng.choice((1, 1, 2, 4))
            calls.append(tuple(share[:size]))
            del share[:size]
        orders.append(Order(database, tuple(calls)))
    return orders


_UPSERTED = """
CREATE TABLE upserted (
  nmi text, suffix text, day date, version_at text, content integer,
  PRIMARY KEY (nmi, suffix, day))
"""
_UPSERT = """
INSERT INTO upserted VALUES (%s, 'E1', %s, %s, %s)
ON CONFLICT (nmi, suffix, day) DO UPDATE
SET version_at = excluded.version_at, content = excluded.content
WHERE upserted.version_at <= excluded.version_at
"""


def deadlock_control(
    database: str, folder: Path, rng: random.Random, *, files: int, loaders: int = 8
) -> Attack:
    """The same files the way most systems load them: one row per NMI-day, upserted as they come."""
    sent = sent_files(rng, files, per_file=(100, 200))
    with asking(database) as conn:
        conn.exec_driver_sql(_UPSERTED)
    begin = gate(loaders)
    said = folder / "upserts"
    shares = [sent[n::loaders] for n in range(loaders)]
    running = [start(_upsert_all, database, share, str(said), begin) for share in shares]
    for process in running:
        process.join(PATIENCE)
    failed = said.read_text(encoding="utf-8").split() if said.exists() else []
    found = failed.count("DeadlockDetected")
    counted = deadlocks(database)
    attack = Attack(
        "Control: unsorted upserts",
        f"The hunt's control: {loaders} processes, {files:,} files of the same kind, but each "
        "NMI-day is one row with a unique key, upserted in the order of the file. It must "
        "deadlock, else the hunt proves nothing.",
        counts={"files": files, "deadlocks": found, "deadlocks the server counted": counted},
    )
    if not found:
        attack.wrong.append("the control did not deadlock")
    return attack


def _upsert_all(database: str, files: Sequence[SentFile], path: str, begin: Barrier) -> None:
    with (
        psycopg.connect(database, autocommit=False) as conn,
        Path(path).open("ab", buffering=0) as out,
    ):
        conn.execute("SET deadlock_timeout = '50ms'")
        conn.commit()
        begin.wait(PATIENCE)
        for file in files:
            try:
                for day in file.days:
                    conn.execute(_UPSERT, (day.nmi, day.day, day.stamp, day.content))
                conn.commit()
            except psycopg.Error as error:
                conn.rollback()
                out.write(f"{type(error).__name__}\n".encode())


# -- races ------------------------------------------------------------------------------------


def races(
    database: str, folder: Path, rng: random.Random, *, rounds: int, versions: int = 2
) -> Attack:
    """An original and its corrections released at the same moment, in every order."""
    contests = pairs(rounds, versions)
    sent = [file for contest in contests for file in contest]
    paths = put(folder, sent)
    open_store(database).close()
    begin = gate(versions)
    turns = [rng.sample(range(versions), versions) for _ in contests]
    calls = [
        [
            (paths[contest[turn[racer]].number], racer)
            for contest, turn in zip(contests, turns, strict=True)
        ]
        for racer in range(versions)
    ]
    said = folder / f"races-{versions}"
    gaps = [rng.choice((0.0, 0.0, 0.001, 0.004)) for _ in contests]
    running = [
        start(_race, database, calls[racer], gaps, str(said), begin) for racer in range(versions)
    ]
    for process in running:
        process.join(PATIENCE + rounds)
    told = said.read_text(encoding="utf-8").splitlines() if said.exists() else []
    wrong = sorted({line for line in told if line != "loaded"})
    wrong += [f"a racer ended with {p.exitcode}" for p in running if p.exitcode]
    won = 0
    with open_store(database) as store:
        wrong += faults(store, sent)
        for contest in contests:
            newest = store.versions(contest[0].days[0].nmi, contest[0].days[0].day)
            won += newest["version_at"][0] == newest["version_at"].max()
    if won != rounds:
        wrong.append(f"the newest won only {won} of {rounds} rounds")
    word = {2: "an original and its correction", 3: "an original and its two corrections"}[versions]
    return Attack(
        f"Races, {versions} ways",
        f"In each of {rounds:,} rounds {word} of one NMI-day are released at the same moment, or "
        "up to 4 ms apart, each in a process of its own that takes turns in being first.",
        counts={"rounds": rounds, "loads": len(told), "rounds won by the newest": won},
        wrong=wrong,
    )


def _race(
    database: str,
    calls: Sequence[tuple[str, int]],
    gaps: Sequence[float],
    path: str,
    begin: Barrier,
) -> None:
    with open_store(database) as store, Path(path).open("ab", buffering=0) as out:
        for (one, racer), gap in zip(calls, gaps, strict=True):
            begin.wait(PATIENCE)
            time.sleep(gap * racer)
            try:
                said = load(store, one).files[0].state
            except Exception as error:  # noqa: BLE001 - it is what the test wants to see
                said = f"{error!r}"
            out.write(f"{said}\n".encode())


def same_text(database: str, folder: Path, rng: random.Random, *, loaders: int) -> Attack:
    """One text, loaded by many processes at once: one load, the rest duplicates."""
    sent = sent_files(rng, 1, per_file=(100, 100))
    paths = put(folder, sent)
    open_store(database).close()
    order = Order(database, ((paths[0],),))
    said = all_said(crew(folder, [order] * loaders))
    states = [state for one in said for state in one.states]
    loads, duplicates = (
        states.count("loaded") + states.count("partly_loaded"),
        states.count("duplicate"),
    )
    wrong = errors_of(said)
    if (loads, duplicates) != (1, loaders - 1):
        wrong.append(f"{loads} loads and {duplicates} duplicates")
    with open_store(database) as store:
        wrong += faults(store, sent)
    return Attack(
        "The same text at once",
        f"{loaders} processes load one text at the same moment.",
        counts={"processes": loaders, "loads": loads, "duplicates": duplicates},
        wrong=wrong,
    )
