"""Many loaders on one PostgreSQL: partitions, the same text, the same days, the views."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from subprocess import PIPE, Popen

import polars as pl
import sqlalchemy as sa

from nemflow.mdff.generate import generate
from nemflow.pipeline import load, undo
from nemflow.store import Store, open_store, schema
from nemflow.store.tables import day_claim

LOADERS = 6


def _months(store: Store) -> list[str]:
    question = (
        "SELECT inhrelid::regclass::text FROM pg_inherits "
        "WHERE inhparent = 'day_claim'::regclass ORDER BY 1"
    )
    with store.backend.reading() as conn:
        return list(conn.exec_driver_sql(question).scalars())


def test_loaders_that_need_the_same_new_months_make_each_once(database: str) -> None:
    """Six loaders, each with days in the same eight new months: no error, eight partitions."""
    open_store(database).close()
    files = [
        b"".join(
            generate(
                nmis=[f"SASMPL00{loader:02d}"], days=1, start=date(2023, month, 5), seed=loader
            )
            for month in range(1, 9)
        )
        for loader in range(LOADERS)
    ]

    def work(text: bytes) -> list[str]:
        with open_store(database) as store:
            return [outcome.state for outcome in load(store, [_spooled(text)]).files]

    with ThreadPoolExecutor(LOADERS) as pool:
        states = list(pool.map(work, files))
    assert states == [["loaded"]] * LOADERS
    with open_store(database) as store:
        assert _months(store) == [f"day_claim_2023{month:02d}" for month in range(1, 9)]
        assert store.nmis().height == LOADERS


def test_one_text_loaded_by_many_processes_at_once_is_loaded_once(
    database: str, tmp_path: Path
) -> None:
    """One of them loads it, the others find a duplicate; every reading is there once."""
    open_store(database).close()
    path = tmp_path / "same.csv"
    path.write_bytes(generate(nmis=5, days=30, interval=5, seed=2))
    words = [sys.executable, "-m", "nemflow.cli", "load", str(path), "--db", database, "--json"]
    running = [Popen(words, stdout=PIPE, text=True) for _ in range(4)]
    said = "".join(process.communicate(timeout=120)[0] for process in running)
    assert said.count('"state": "loaded"') == 1, said
    assert said.count('"state": "duplicate"') == 3, said
    with open_store(database) as store:
        stored = store.readings("SASMPL0001")
    assert stored.height == 2 * 30 * 288


def test_originals_and_corrections_in_any_order_at_once_end_at_the_newest(
    database: str, tmp_path: Path
) -> None:
    """Four loaders on the same NMI-days in random orders: no deadlock, the last version wins."""
    open_store(database).close()
    seed = random.randrange(10**6)  # noqa: S311 - a shuffle
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    original = generate(nmis=3, days=10, seed=1)
    second = generate(corrections_of=original, seed=2)
    third = generate(corrections_of=second, seed=3)
    paths = []
    for name, text in (("a", original), ("b", second), ("c", third)):
        path = tmp_path / f"{name}.csv"
        path.write_bytes(text)
        paths.append(path)

    def work(loader: int) -> None:
        order = random.Random(seed + loader).sample(paths, len(paths))  # noqa: S311 - a shuffle
        with open_store(database) as store:
            for path in order:
                load(store, [path])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    with open_store(database) as store, open_store(f"sqlite:///{tmp_path}/model.db") as model:
        load(model, paths)
        for nmi in model.nmis()["nmi"]:
            wanted = model.readings(nmi).drop("file")
            assert store.readings(nmi).drop("file").equals(wanted)
        assert store.files().height == len(paths)


def test_views_and_function_say_what_the_store_says(
    store: Store, put: Callable[[str, bytes], Path]
) -> None:
    """value, instants and the quality of each interval agree with ``Store.readings``."""
    load(store, [put("a.csv", generate(nmis=1, days=3, estimated=0.6, decimals=4, seed=5))])
    ours = store.readings("SASMPL0001").select("suffix", "interval_start", "value", "quality")
    names = "suffix, interval_start, value, quality"
    slice_ = (
        "SELECT suffix, interval_start, value, quality FROM meter_readings"
        "('SASMPL0001', '2025-03-29 00:00+10', '2025-04-01 00:00+10')"
    )
    with store.backend.reading() as conn:
        view = conn.exec_driver_sql(
            f"SELECT {names} FROM meter_readings WHERE nmi = 'SASMPL0001'"
        ).fetchall()
        sliced = conn.exec_driver_sql(slice_).fetchall()
    wanted = sorted(
        (suffix, start.astimezone(UTC), Decimal(str(value)).normalize(), quality)
        for suffix, start, value, quality in ours.iter_rows()
    )
    for rows in (view, sliced):
        got = sorted((s, at.astimezone(UTC), value.normalize(), q) for s, at, value, q in rows)
        assert got == wanted


def test_a_time_slice_reads_only_its_months(
    store: Store, put: Callable[[str, bytes], Path]
) -> None:
    """The planner prunes the partitions of other months, and can use the key index."""
    load(store, [put("a.csv", generate(nmis=3, days=120, start=date(2025, 1, 1), seed=6))])
    with store.backend.writing() as conn:
        conn.exec_driver_sql("ANALYZE day_claim, day_content")
        # a month this small is rather read whole; what matters is that the index serves
        conn.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = "\n".join(
            conn.exec_driver_sql(
                "EXPLAIN SELECT * FROM current_day WHERE nmi = 'SASMPL0002' "
                "AND day BETWEEN '2025-02-03' AND '2025-02-09'"
            ).scalars()
        )
    assert "day_claim_202502" in plan
    assert "day_claim_202503" not in plan
    assert "Seq Scan on day_claim" not in plan


def test_a_fresh_schema_has_every_table_column_and_index(store: Store) -> None:
    """What the migrations make is what ``tables.py`` says."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from nemflow.store.tables import metadata

    with store.backend.writing() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": False})
        differences = [
            entry
            for entry in compare_metadata(context, metadata)
            if not (entry[0] == "remove_table" and "_20" in entry[1].name)
            and not (entry[0] == "remove_index" and "_20" in entry[1].name)
        ]
    assert differences == []
    assert schema.revisions()


def test_an_undone_load_is_gone_and_the_version_before_is_back(
    store: Store, put: Callable[[str, bytes], Path]
) -> None:
    """As known on the commit before the undo, the corrected values are still told."""
    original = generate(nmis=1, days=2, seed=8)
    load(store, [put("a.csv", original)])
    before = store.readings("SASMPL0001")
    load(store, [put("b.csv", generate(corrections_of=original, seed=9))])
    corrected = store.readings("SASMPL0001")
    asked = datetime.now(UTC)
    undo(store, "2")
    assert store.readings("SASMPL0001").drop("file").equals(before.drop("file"))
    known = store.readings("SASMPL0001", as_known_on=asked)
    assert known.equals(corrected)


def test_rows_outside_32_bits_are_kept_exactly(
    store: Store, put: Callable[[str, bytes], Path]
) -> None:
    """A day with a huge value, and one with fourteen decimals, come back digit for digit."""
    day = generate(nmis=1, days=1, streams=("E1",), seed=3).decode()
    rows = day.split("\r\n")
    cells = rows[2].split(",")
    longest = "123456789012345.12345678901234567890123"
    cells[2], cells[3] = "0.12345678901234", longest
    rows[2] = ",".join(cells)
    load(store, [put("huge.csv", "\r\n".join(rows).encode())])
    values = store.readings("SASMPL0001")["value"].to_list()
    assert values[:2] == [Decimal("0.12345678901234"), Decimal(longest)]
    with store.backend.reading() as conn:
        found = conn.execute(sa.select(sa.func.count()).select_from(day_claim)).scalar()
        text = conn.exec_driver_sql("SELECT max(value)::text FROM meter_readings").scalar()
    assert found == 1
    assert Decimal(str(text)) == Decimal(longest)


def _spooled(text: bytes) -> Path:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".csv", delete=False) as file:
        file.write(text)
    return Path(file.name)


def test_readings_have_the_same_types_on_both_engines(store: Store, tmp_path: Path) -> None:
    """A program does not notice which engine answers."""
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=1, days=2, seed=4))
    load(store, [path])
    with open_store(f"sqlite:///{tmp_path}/other.db") as other:
        load(other, [path])
        ours, theirs = store.readings("SASMPL0001"), other.readings("SASMPL0001")
    assert isinstance(ours, pl.DataFrame)
    assert ours.schema == theirs.schema
    assert ours.equals(theirs)
