"""Crashes: loaders killed with -9 at random moments and at every failpoint.

Promises: after each kill no load is visible in part; the files are simply loaded again, by another
process; in the end the store is the model's: nothing partial, lost or double.

Look next: ``nemflow.failpoints`` for the places; ``outages.py`` for what happens on the server's
side.
"""

from __future__ import annotations

import random
import signal
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from chaos.contests import put
from chaos.loaders import Loader, Order
from chaos.model import SentFile, sent_files
from chaos.report import Attack
from chaos.verdict import faults, partial
from nemflow.failpoints import PLACES
from nemflow.pipeline import load, reconcile
from nemflow.store import Store, open_store
from nemflow.store.tables import day_claim, delivery
from nemflow.store.tables import load as load_table

#: A text of more than so many bytes is loaded in pieces of so many, in these attacks.
PIECE = 6_000
#: What is given to a killed loader: how many files, as one zip, in pieces.
SHAPES = {
    "one small file": (1, False, False),
    "five files together": (5, False, False),
    "a zip of five": (5, True, False),
    "a large file in pieces": (1, False, True),
}
#: Places that only a large file reaches.
_LARGE_ONLY = {"between-pieces", "mid-clear"}
#: How often a place is passed, at most: by a batch, by a large file. Others: once.
_TIMES = {
    "mid-copy": (4, 8),
    "before-commit": (1, 5),
    "after-commit": (1, 5),
    "between-pieces": (1, 3),
    "mid-parse": (1, 3),
    "mid-clear": (4, 4),
}
AT_RANDOM = "at a random moment"


def crash_hunt(
    database: str, folder: Path, rng: random.Random, *, kills: int, engine: str
) -> Attack:
    """Kill a loader, look, load again; so many times."""
    elsewhere = (
        *("spool-", "folder-", "delivery-", "job-"),
        *(["mid-partition"] if engine == "SQLite" else []),
    )
    places = [place for place in PLACES if not place.startswith(elsewhere)]
    ways = [way for n, place in enumerate(places) for way in (place, *[AT_RANDOM] * (n % 2))]
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    sent: list[SentFile] = []
    tries = repeated = 0
    with open_store(database) as store:
        while (done := seen.total()) < kills and tries < kills * 3:
            way = ways[tries % len(ways)]
            shape = "a large file in pieces" if way in _LARGE_ONLY else rng.choice(list(SHAPES))
            tries += 1
            count, zipped, pieces = SHAPES[shape]
            some = _new_files(
                rng, count, len(sent), month=done + 1 if way == "mid-partition" else 0
            )
            paths = _given(folder, some, zipped=zipped)
            order = Order(database, (paths,), pieces=PIECE if pieces else 0)
            if not _killed(order, folder, rng, way):
                repeated += 1
            else:
                seen[way] += 1
            sent += some
            wrong += [f"{way}, {shape}: {fault}" for fault in partial(store)]
            wrong += _loaded_again(store, paths, f"{way}, {shape}")
        wrong += faults(store, sent)
    attack = Attack(
        f"Crash hunt, {engine}",
        "A loading process is killed with -9, at a random moment or at a failpoint; after each "
        "kill the store is looked at, and the same files are loaded again by another process. "
        f"Files: {', '.join(SHAPES)}.",
        counts={
            "kills": seen.total(),
            "files": len(sent),
            "done before the kill": repeated,
            **{f"killed {_worded(way)}": seen[way] for way in (AT_RANDOM, *places)},
        },
        wrong=wrong,
    )
    if seen.total() < kills:
        attack.wrong.append(f"only {seen.total()} of {kills} kills met a running load")
    attack.wrong += [
        f"no load was ever killed {_worded(way)}"
        for way in (places if kills >= 3 * len(places) else ())
        if not seen[way]
    ]
    return attack


def _worded(way: str) -> str:
    return way if way == AT_RANDOM else f"at {way}"


def _new_files(rng: random.Random, count: int, first: int, *, month: int) -> list[SentFile]:
    """Files over the same NMI-days; with ``month`` some of a month never seen before."""
    files = sent_files(rng, count, nmis=6, days=10, per_file=(15, 30), first=first)
    if not month:
        return files
    first_day = date(2000 + month % 300 // 12, month % 12 + 1, 1)
    moved = []
    for file in files:
        days = (replace(day, day=first_day + timedelta(days=day.day.day % 28)) for day in file.days)
        once = {(day.nmi, day.day): day for day in days}
        moved.append(SentFile(file.number, file.file_at, tuple(once.values())))
    return moved


def _given(folder: Path, files: Sequence[SentFile], *, zipped: bool) -> tuple[str, ...]:
    """The files on disk, or one zip of them."""
    if not zipped:
        return tuple(put(folder, files).values())
    path = folder / f"{files[0].number:05}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.writestr(file.name, file.text())
    return (str(path),)


def _killed(order: Order, folder: Path, rng: random.Random, way: str) -> bool:
    """Start a loader and kill it; False when it was done before."""
    said = folder / f"said-{time.monotonic_ns()}"
    if way == AT_RANDOM:
        loader = Loader(order, said)
        loader.wait_until_ready()
        time.sleep(rng.uniform(0.0, 0.12))
        loader.process.kill()
        return loader.wait() == -9
    if way == "mid-clear":  # there must be something to clear: a load that died half way
        Loader(_armed(order, "between-pieces"), folder / f"{said.name}-before").wait()
        return (
            Loader(_armed(order, f"mid-clear@{rng.randint(1, _TIMES[way][1])}"), said).wait() == -9
        )
    place = f"{way}@{rng.randint(1, _TIMES.get(way, (1, 1))[order.pieces > 0])}"
    return Loader(_armed(order, place), said).wait() == -9


def _armed(order: Order, place: str) -> Order:
    return Order(order.database, order.calls, failpoint=f"{place}=kill", pieces=order.pieces)


def _loaded_again(store: Store, paths: Sequence[str], about: str) -> list[str]:
    """Load the same files once more: every one is taken in now, or was before the kill."""
    fine = {"loaded", "partly_loaded", "rejected", "duplicate"}
    return [
        f"{about}: loaded again, {outcome.source} is {outcome.state}: {outcome.error}"
        for outcome in load(store, list(paths)).files
        if outcome.state not in fine
    ]


# -- loaders that only seemed dead --------------------------------------------------------------

_OLD = datetime.now(UTC) - timedelta(hours=3)


def sleepers(database: str, folder: Path, rng: random.Random, *, rounds: int) -> Attack:
    """Loaders that fall asleep in mid-load, are taken for dead, and wake up again."""
    sent: list[SentFile] = []
    wrong: list[str] = []
    refused = duplicates = 0
    with open_store(database) as store:
        for turn in range(rounds):
            (file,) = sent_files(rng, 1, nmis=6, per_file=(30, 40), first=len(sent))
            path = put(folder, [file])[file.number]
            sent.append(file)
            # asleep it holds no lock; then it is stopped, so that it cannot wake up too early
            place = "between-pieces=sleep:1.5"
            order = Order(database, ((path,),), failpoint=place, pieces=PIECE)
            sleeper = Loader(order, folder / f"sleeper-{turn}")
            if not _left_open(store):
                wrong.append("the loader never opened a load")
            sleeper.signal(signal.SIGSTOP)
            reconcile(store)
            loaded_meanwhile = turn % 2 == 1
            if loaded_meanwhile:
                wrong += _loaded_again(store, [path], "while it slept")
            sleeper.signal(signal.SIGCONT)
            sleeper.wait()
            said = sleeper.said()
            refused += sum(one.kind == "StoreTaken" for one in said)
            duplicates += sum("duplicate" in one.states for one in said)
            wrong += partial(store)
            wrong += _loaded_again(store, [path], "when it woke up")
        wrong += faults(store, sent)
    if refused + duplicates != rounds:
        wrong.append(f"only {refused + duplicates} of {rounds} sleepers found themselves replaced")
    return Attack(
        "Sleepers",
        "A loader falls asleep between two pieces; its lease runs out, it is taken for dead and "
        "cleared, every second time the file is loaded by another process; then it wakes up and "
        "goes on. It must not publish.",
        counts={"sleepers": rounds, "refused": refused, "found a duplicate": duplicates},
        wrong=wrong,
    )


def _left_open(store: Store) -> bool:
    """Wait until a load is open and a piece of it is there, then let its lease run out."""
    end = time.monotonic() + 20
    question = sa.select(day_claim.c.load).join(load_table, load_table.c.id == day_claim.c.load)
    while time.monotonic() < end:
        with store.backend.reading() as conn:
            found = conn.execute(question.where(load_table.c.state == "open").limit(1)).scalar()
        if found is not None:
            with store.backend.writing() as conn:
                for table, state in ((load_table, "open"), (delivery, "loading")):
                    conn.execute(
                        sa.update(table).where(table.c.state == state).values(lease_until=_OLD)
                    )
            return True
        time.sleep(0.01)
    return False
