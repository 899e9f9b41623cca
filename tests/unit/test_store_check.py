"""``db check`` sees every kind of damage, and nothing where there is none; ``db status`` counts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nemflow.mdff.generate import generate
from nemflow.pipeline import load, undo
from nemflow.store import Store, invariants
from nemflow.store.invariants import checked
from nemflow.store.status import status
from nemflow.store.tables import metadata


@pytest.fixture
def filled(store: Store, put: Callable[[str, bytes], Path]) -> Store:
    """Days with spans, holes, many decimals and no unit trouble; a correction; an undone file."""
    every = ["F014", "I005", "Q004"]
    original = generate(nmis=2, days=5, estimated=0.5, decimals=4, seed=1)
    corrected = generate(corrections_of=original, seed=2)
    for name, text in (
        ("a.csv", original),
        ("b.csv", corrected),
        ("c.csv", generate(nmis=["SASMPL0900"], days=3, interval=5, break_it=every, seed=3)),
        ("d.csv", generate(nmis=["SASMPL0901"], days=2, seed=4)),
        ("e.csv", _huge()),
    ):
        load(store, put(name, text))
    undo(store, 4)
    return store


def _huge() -> bytes:
    """A day whose values fit no 64-bit integer, and a missing one."""
    rows = generate(nmis=["SASMPL0902"], days=1, streams=("E1",), seed=5).decode().split("\r\n")
    cells = rows[2].split(",")
    cells[2:4] = ["0.12345678901234", "123456789012345.12345678901234567890123"]
    rows[2] = ",".join(cells)
    return "\r\n".join(rows).encode()


def broken(store: Store, *, deep: bool = True) -> list[str]:
    """The promises that are not held."""
    with store.backend.reading() as conn:
        found = checked(conn, deep=deep)
    return found.filter(~pl.col("held"))["promise"].to_list()


def damage(store: Store, statement: str) -> None:
    """Do what no program of ours does."""
    with store.backend.writing() as conn:
        conn.exec_driver_sql(statement)


def test_a_store_that_was_only_used_as_it_should_holds_every_promise(filled: Store) -> None:
    """All contents hash to their names, from what is stored."""
    assert broken(filled) == []
    assert broken(filled, deep=False) == []


DAMAGE = {
    "UPDATE file SET days_read = days_read + 1 WHERE id = 1": "counts of every file",
    "UPDATE load SET days_read = days_read + 1 WHERE id = 1": "counts of every load",
    "UPDATE file SET days_stored = days_stored + days_rejected + 1, days_rejected = -1 "
    "WHERE id = 1": "no file counts less than nothing",
    "DELETE FROM load_event WHERE load = 1": "a published load has its event",
    "UPDATE load SET state = 'dead' WHERE id = 1": "no claim is of an unknown, dead",
    "UPDATE load SET state = 'undone' WHERE id = 1": "the last event of a load",
    "UPDATE clock SET seq = 0": "the clock is not behind",
    "DELETE FROM load WHERE id = 1": "no claim is of an unknown",
    "UPDATE load SET file = 99 WHERE id = 1": "of a known file and delivery",
    "DELETE FROM day_content WHERE day = '2025-03-30'": "every claim has its content",
    "INSERT INTO day_claim SELECT * FROM day_claim WHERE load = 1": "no more days than",
    "UPDATE day_content SET scale = scale + 1 WHERE load = 1": "contents hash",
    "UPDATE day_content SET spans = '[]' WHERE spans <> '[]'": "contents hash",
}


def test_every_kind_of_damage_is_seen(filled: Store) -> None:
    """Each by the promise that speaks of it, with an example; what was done is rolled back."""
    for statement, promise in DAMAGE.items():
        with contextlib.suppress(_Undone), filled.backend.writing() as conn:
            conn.exec_driver_sql(statement)
            found = checked(conn, deep=True).filter(~pl.col("held"))
            assert any(promise in each for each in found["promise"]), (statement, found)
            assert found["example"].null_count() == 0
            assert (found["broken"] > 0).all()
            raise _Undone
    assert broken(filled) == []


class _Undone(Exception):
    """Rolls a transaction back."""


def test_a_sample_is_a_sample(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how many contents it looked at."""
    monkeypatch.setattr(invariants, "SAMPLE", 3)
    with filled.backend.reading() as conn:
        (line,) = checked(conn)["promise"].str.extract(r"contents hash .*\((\d+)\)").drop_nulls()
    assert 0 < int(line) <= 3


def test_the_status_counts_tables_and_open_loads(filled: Store) -> None:
    """Every table is there; a load that is open is named with who holds it."""
    damage(
        filled,
        "UPDATE load SET state = 'open', lease_token = 'box/boot/4:12:abc', "
        "lease_until = '2025-01-01T00:00:00+10:00' WHERE id = 2",
    )
    with filled.backend.reading() as conn:
        found = status(conn, filled.backend)
    assert set(found.tables["table"]) == set(metadata.tables)
    assert found.schema == found.needed
    (held,) = found.open_loads.to_dicts()
    assert (held["load"], Path(held["name"]).name, held["holder"]) == (2, "b.csv", "box:12")
    assert held["seconds_left"] < 0
    rows: dict[str, Any] = dict(found.tables.select("table", "rows").iter_rows())
    assert rows["file"] in (None, 5)
