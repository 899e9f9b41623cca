"""Why a row per day and no index by timestamp: the same readings both ways, on one PostgreSQL.

    BENCH_POSTGRES=postgresql://postgres@127.0.0.1:5432/postgres python bench/why.py

Two databases of their own are made and dropped. One is a store of ours. The other is the usual
table: a row per reading, unique by (nmi, suffix, timestamp), and an index by timestamp, filled by
COPY into a staging table and INSERT ... ON CONFLICT. Both get 446,400 readings (50 NMIs, 31 days,
5 minutes), then a correction of every one of them, then three questions. Ours is timed from the
file to the commit; of the other only the database is timed, its rows are parsed already. Each
question is asked five times, the median counts. Prints the table that docs/why.md shows; takes
half a minute.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import postgres
import psycopg

import nemflow
from nemflow.pipeline import load
from nemflow.store import open_store

NMIS, DAYS, FIRST = 50, 31, date(2025, 1, 1)
_TABLE = """
CREATE TABLE reading (
  nmi text NOT NULL, suffix text NOT NULL, "timestamp" timestamptz NOT NULL,
  value numeric(18, 6) NOT NULL, quality text NOT NULL, uom text NOT NULL,
  UNIQUE (nmi, suffix, "timestamp"));
CREATE INDEX reading_timestamp ON reading ("timestamp");
CREATE UNLOGGED TABLE staging (LIKE reading)
"""
_UPSERT = """
INSERT INTO reading SELECT * FROM staging ON CONFLICT (nmi, suffix, "timestamp") DO UPDATE SET
  value = excluded.value, quality = excluded.quality, uom = excluded.uom
"""
_COLUMNS = ("nmi", "suffix", "interval_end", "value", "quality", "uom")
_QUESTIONS = {
    "one NMI, one month": "nmi = %(nmi)s AND \"timestamp\" > '2025-01-01+10' "
    "AND \"timestamp\" <= '2025-02-01+10'",
    "all NMIs, one day": "\"timestamp\" > '2025-01-15+10' AND \"timestamp\" <= '2025-01-16+10'",
}


def written(folder: Path) -> tuple[Path, Path]:
    """The file and its correction: the same days, other values, written later."""
    text = nemflow.generate(nmis=NMIS, days=DAYS, start=FIRST, interval=5, streams=["E1"], seed=11)
    paths = folder / "first.csv", folder / "second.csv"
    paths[0].write_bytes(text)
    paths[1].write_bytes(nemflow.generate(corrections_of=text, seed=12))
    return paths


def timed(action: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def asked(action: Callable[[], object]) -> float:
    """Milliseconds, the median of five."""
    return 1000 * statistics.median(timed(action) for _ in range(5))


def ours(first: Path, second: Path) -> dict[str, float]:
    """What a store of ours takes."""
    seen: dict[str, float] = {}
    with postgres.database() as url, open_store(url) as store:
        warm_up = first.with_name("warm-up.csv")  # connections, code, a first partition
        warm_up.write_bytes(nemflow.generate(nmis=["SASMPL0099"], days=1))
        load(store, [warm_up])
        seen["load, s"] = timed(lambda: load(store, [first]))
        seen["disk, MB"] = postgres._day_bytes(url) / 1e6
        seen["correct everything, s"] = timed(lambda: load(store, [second]))
        seen["disk after it, MB"] = postgres._day_bytes(url) / 1e6
        nmi = store.nmis()["nmi"][0]
        january = date(2025, 1, 1), date(2025, 1, 31)
        seen["one NMI, one month, ms"] = asked(lambda: store.readings(nmi, *january))
        day = date(2025, 1, 15)
        seen["all NMIs, one day, ms"] = asked(lambda: list(store.export(day, day)))
        seen["what was known before, ms"] = asked(
            lambda: store.readings(nmi, *january, as_known_on=2)
        )
    return seen


def usual(first: Path, second: Path) -> dict[str, float]:
    """What the usual table takes."""
    seen: dict[str, float] = {}
    with postgres.database() as url, psycopg.connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(_TABLE)
        conn.commit()

        def put(path: Path) -> float:
            frame = nemflow.read(path).readings(exact=True).select(_COLUMNS)
            text = frame.write_csv(include_header=False).encode()

            def upsert() -> None:
                with cursor.copy("COPY staging FROM STDIN WITH (FORMAT csv)") as copy:
                    copy.write(text)
                cursor.execute(_UPSERT)
                cursor.execute("TRUNCATE staging")
                conn.commit()

            return timed(upsert)

        seen["load, s"] = put(first)
        seen["disk, MB"] = postgres.disk(url, "reading") / 1e6
        seen["correct everything, s"] = put(second)
        seen["disk after it, MB"] = postgres.disk(url, "reading") / 1e6
        conn.autocommit = True
        cursor.execute("VACUUM ANALYZE reading")
        (nmi,) = cursor.execute("SELECT min(nmi) FROM reading").fetchone() or ("",)
        for name, where in _QUESTIONS.items():
            question = f"SELECT * FROM reading WHERE {where} ORDER BY 1, 2, 3"  # noqa: S608
            seen[f"{name}, ms"] = asked(
                lambda question=question: pl.DataFrame(
                    cursor.execute(question, {"nmi": nmi}).fetchall(), orient="row"
                )
            )
    return seen


def main() -> None:
    """Both, and the table."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = written(Path(folder))
        readings = nemflow.read(first).readings().height
        mine, theirs = ours(first, second), usual(first, second)
    print(f"{readings:,} readings\n")
    print("| what | a row per reading, two indexes | nemflow |\n|---|---|---|")
    for what, value in mine.items():
        name, _, unit = what.rpartition(", ")
        other = f"{theirs[what]:,.3g} {unit}" if what in theirs else "gone: overwritten"
        print(f"| {name} | {other} | {value:,.3g} {unit} |")


if __name__ == "__main__":
    main()
