"""Eight loaders at once on PostgreSQL: what was once answered is answered for ever.

How: loaders load originals and corrections of the same few days in any order, undo and redo them.
Meanwhile readers note what they saw and as of which commit. Afterwards all of it is asked again.
The control does what most systems do, and decides by the transaction's ``now()``; it must differ,
or the storm would show nothing.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl
import pytest

from nemflow.pipeline import load, redo, undo
from nemflow.store import Store, known, open_store, readings

LOADERS = 8
SECONDS = float(os.environ.get("NEMFLOW_STORM_SECONDS", "2.5"))  #: longer by hand
NMIS = ["SASMPL0001", "SASMPL0002"]
DAYS = ["20250301", "20250302"]
Answer = dict[tuple[str, object, str], str]

#: The control's own record of commits: a moment before, by the clock of the transaction's begin.
_CONTROL = """
CREATE TABLE control (load bigint, kind text, at timestamptz);
CREATE FUNCTION note_control() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO control VALUES (NEW.load, NEW.kind, now()); RETURN NULL; END $$;
CREATE TRIGGER note_control AFTER INSERT ON load_event
  FOR EACH ROW EXECUTE FUNCTION note_control();
"""
_CONTROL_SAYS = """
SELECT load FROM (SELECT DISTINCT ON (load) load, kind FROM control WHERE at <= %s
                  ORDER BY load, at DESC) AS l
WHERE kind <> 'undone' ORDER BY load
"""


def answer(store: Store, seq: int | None) -> tuple[int, Answer]:
    """What is current, or was at ``seq``: the content of every day, and the commit it is as of."""
    with store.backend.reading() as conn:
        now = known.last_seq(conn)
        found = readings.days_of(conn, store.backend, NMIS, known=seq)
    rows = found.select("nmi", "day", "suffix", "content_hash").iter_rows()
    return now, {(nmi, day, suffix): content for nmi, day, suffix, content in rows}


@dataclass
class Seen:
    """What the readers noted during a storm."""

    answers: list[tuple[int, Answer]] = field(default_factory=list)
    moments: list[tuple[datetime, int]] = field(default_factory=list)
    control: list[tuple[datetime, list[int]]] = field(default_factory=list)
    feed: list[pl.DataFrame] = field(default_factory=list)
    taken: dict[str, Answer] = field(default_factory=dict)


def storm(database: str, text_of: Callable[[random.Random], bytes], folder, seconds: float) -> Seen:
    """Loaders and readers for so long; then the feed is read to its end."""
    seed = random.randrange(10**6)  # noqa: S311 - a storm
    print(f"seed {seed}")  # noqa: T201 - shown when a test fails
    over = threading.Event()
    seen = Seen()

    def loader(number: int) -> None:
        dice = random.Random(seed + number)  # noqa: S311 - a storm
        mine: list[int] = []
        gone: list[int] = []
        with open_store(database) as store:
            for turn in range(10_000):
                if over.is_set():
                    return
                what = dice.random()
                if what < 0.25 and mine:
                    gone.append(mine.pop(dice.randrange(len(mine))))
                    undo(store, gone[-1])
                elif what < 0.4 and gone:
                    mine.append(gone.pop(dice.randrange(len(gone))))
                    redo(store, mine[-1])
                else:
                    path = folder / f"{number}-{turn}.csv"
                    path.write_bytes(text_of(dice))
                    (outcome,) = load(store, path).files
                    if outcome.state == "loaded":
                        mine.append(outcome.delivery)

    def watcher() -> None:
        with open_store(database) as store:
            while not over.is_set():
                seen.answers.append(answer(store, None))
                moment = datetime.now(UTC)
                seen.moments.append((moment, store.seq_at(moment)))
                with store.backend.reading() as conn:
                    at = conn.exec_driver_sql("SELECT clock_timestamp()").scalar()
                    rows = conn.exec_driver_sql(_CONTROL_SAYS, (at,)).scalars()
                    seen.control.append((at, list(rows)))

    def follower() -> None:
        place: int | str = 0
        with open_store(database) as store:
            while True:
                last = over.is_set() and done.is_set()
                page = store.feed(place, limit=5)
                if not page.is_empty():
                    seen.feed.append(page)
                    place = page["cursor"][-1]
                elif last:
                    return

    def consumer() -> None:
        with open_store(database) as store:
            while not over.is_set():
                for nmi in NMIS:
                    seen.taken[nmi] = _values(store.readings(nmi, consumer="billing"))

    done = threading.Event()
    with ThreadPoolExecutor(LOADERS + 3) as pool:
        loaders = [pool.submit(loader, number) for number in range(LOADERS)]
        readers = [pool.submit(work) for work in (watcher, follower, consumer)]
        _wait(database, seconds)
        over.set()
        try:
            for each in loaders:
                each.result()
        finally:
            done.set()
        for each in readers:
            each.result()
    return seen


@pytest.fixture
def text_of(nem12, a_day) -> Callable[[random.Random], bytes]:
    """A random small file about the same few days: a third of the stamps is shared."""

    def make(dice: random.Random) -> bytes:
        days = [
            a_day(
                nmi=nmi,
                day=day,
                value=str(dice.randint(1, 4)),
                update=f"202503{dice.randint(10, 28)}0{dice.randint(1, 9)}0000",
            )
            for nmi in NMIS
            for day in DAYS
            if dice.random() < 0.7
        ] or [a_day(value="5", update=f"202504{dice.randint(10, 28)}000000")]
        return nem12(*days, file_at=f"202504{dice.randint(10, 28)}{dice.randint(1000, 2359)}")

    return make


def test_answers_and_feed_under_eight_loaders(
    database: str, text_of, nem12, a_day, tmp_path
) -> None:
    """Nothing answered ever changes, no commit is missed or told twice, no change is lost."""
    with open_store(database) as store, store.backend.writing() as conn:
        conn.exec_driver_sql(_CONTROL)
    path = tmp_path / "first.csv"
    path.write_bytes(nem12(*(a_day(nmi=nmi) for nmi in NMIS)))
    with open_store(database) as store:
        load(store, path)
    seen = storm(database, text_of, tmp_path, SECONDS)
    with open_store(database) as store:
        last = store.seq_at()
        assert last > 2 * LOADERS
        assert len(seen.answers) > 10
        # as known on: what was seen then is what is said now; and the same for moments
        then = {seq: answer(store, seq)[1] for seq in range(last + 1)}
        assert [seq for seq, noted in seen.answers if then[seq] != noted] == []
        assert [pair for pair in seen.moments if store.seq_at(pair[0]) != pair[1]] == []
        # the control, asked again, has changed its mind
        with store.backend.reading() as conn:
            again = [
                list(conn.exec_driver_sql(_CONTROL_SAYS, (at,)).scalars()) for at, _ in seen.control
            ]
        differing = sum(a != noted for a, (_, noted) in zip(again, seen.control, strict=True))
        print(  # noqa: T201 - what the storm was worth
            f"{last} commits, {len(seen.answers)} answers, control differs {differing} times"
        )
        assert differing > 0
        # the feed: every row once, in order; and it adds up to every state on the way
        feed = pl.concat(seen.feed)
        whole = store.feed(limit=100_000)
        assert feed["cursor"].to_list() == whole["cursor"].to_list()
        assert feed["cursor"].n_unique() == feed.height
        assert feed["seq"].is_sorted()
        _adds_up(whole, then)
        # the consumer: the list is exactly what differs from what it holds
        now = {key: v for nmi in NMIS for key, v in _values(store.readings(nmi)).items()}
        held = {key: value for nmi in NMIS for key, value in seen.taken[nmi].items()}
        wanted = {key for key in now.keys() | held.keys() if now.get(key) != held.get(key)}
        listed = store.changes("billing").select("nmi", "day", "suffix").rows()
        assert set(listed) == wanted


def _wait(database: str, seconds: float) -> None:
    """So long, and until there are commits enough to show anything."""
    begin = time.monotonic()
    with open_store(database) as store:
        while time.monotonic() - begin < seconds or (
            store.seq_at() <= 2 * LOADERS and time.monotonic() - begin < 60
        ):
            time.sleep(0.1)


def _values(frame: pl.DataFrame) -> Answer:
    """Raw readings as one value per day: all intervals of a day have the same here."""
    return {
        (nmi, day, suffix): str(rows["value"][0].normalize())
        for (nmi, day, suffix), rows in frame.group_by("nmi", "day", "suffix")
    }


def _adds_up(feed: pl.DataFrame, then: dict[int, Answer]) -> None:
    """Applying the feed row by row gives the state known on every commit."""
    state: Answer = {}
    parts = feed.partition_by("seq", as_dict=True)
    for seq in sorted(then):
        for row in parts.get((seq,), feed.clear()).iter_rows(named=True):
            key = row["nmi"], row["day"], row["suffix"]
            assert state.get(key) == row["before_hash"], (seq, key)
            state.pop(key, None)
            if row["after_hash"] is not None:
                state[key] = row["after_hash"]
        assert state == then[seq], seq
