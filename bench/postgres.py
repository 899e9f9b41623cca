"""What is measured on PostgreSQL: our load beside the server's own COPY, and an upsert table.

Run as ``python postgres.py TASK FILE... --warm-up FILE``; the server's URL is in BENCH_POSTGRES.
Each task makes a database of its own and drops it. Prints one JSON object as stopwatch.py does,
and ``disk``: the bytes of the tables that hold the readings, and their indexes.

load      everything included: from the file to the published load (``load2``: two processes)
copy      the very rows a load appends, already encoded, by binary COPY into the same empty tables:
          nothing that ends in these tables can be faster
upsert    a row per reading under a unique (nmi, timestamp), put in by INSERT ... ON CONFLICT from a
          staging table: the usual way, done well; parsing is not counted
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
import psycopg
import sqlalchemy as sa
import stopwatch

import nemflow
from nemflow.pipeline import load
from nemflow.store import Store, open_store
from nemflow.store.backends import pgcopy
from nemflow.store.backends.postgres import PostgresBackend
from nemflow.store.tables import day_claim, day_content

Body = tuple[str, bytes]  #: a COPY statement and what it takes


@contextmanager
def database() -> Iterator[str]:
    """A fresh database; its URL as people write it."""
    url = sa.make_url(os.environ["BENCH_POSTGRES"])
    name = f"nemflow_bench_{uuid.uuid4().hex[:8]}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as conn:
            conn.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        engine.dispose()


def disk(url: str, *tables: str) -> int:
    """Bytes of tables, their partitions and indexes."""
    with psycopg.connect(url) as conn:
        row = conn.execute(
            "SELECT sum(pg_total_relation_size(relid)) FROM unnest(%s::text[]) AS t(name), "
            "LATERAL (SELECT relid FROM pg_partition_tree(name::regclass) "
            "UNION SELECT name::regclass) AS part",
            (list(tables),),
        ).fetchone()
    return int(row[0]) if row and row[0] else 0


def measured_load(
    paths: list[str], warm_up: str, jobs: int, chunk: int | None = None
) -> dict[str, Any]:
    """Load into a fresh store."""
    with database() as url, open_store(url) as store:
        load(store, [warm_up])
        gc.collect()
        start = time.perf_counter()
        summary = load(store, paths, jobs=jobs, chunk_bytes=chunk)
        seconds = time.perf_counter() - start
        readings = summary.days.stored
        return {"seconds": seconds, "readings": readings, "disk": _day_bytes(url)}


def _day_bytes(url: str) -> int:
    return disk(url, day_content.name, day_claim.name)


def recorded(store: Store, paths: list[str]) -> tuple[list[Body], pl.Series]:
    """What a load appends to the day tables, encoded; and the days it needs partitions for."""
    bodies: list[Body] = []
    days: list[pl.Series] = []
    encode = pgcopy.encode

    def listening(frame: pl.DataFrame, columns: Any) -> memoryview:
        body = encode(frame, columns)
        table = columns[0].table
        if table in (day_content, day_claim) and "load" in frame.columns:
            names = ", ".join(f'"{column.name}"' for column in columns)
            statement = f'COPY "{table.name}" ({names}) FROM STDIN WITH (FORMAT binary)'
            bodies.append((statement, bytes(body)))
            days.append(frame["day"])
        return body

    pgcopy.encode = listening
    try:
        load(store, paths)
    finally:
        pgcopy.encode = encode
    return bodies, pl.concat(days)


def measured_copy(paths: list[str], warm_up: str) -> dict[str, Any]:
    """The same rows, already encoded, into the same tables with their indexes and partitions."""
    with database() as source, open_store(source) as store:
        bodies, days = recorded(store, paths)
    with database() as url, open_store(url) as store:
        load(store, [warm_up])
        backend = store.backend
        assert isinstance(backend, PostgresBackend)  # noqa: S101 - for the type checker
        for table in (day_content, day_claim):
            backend._months.make(table, days)  # a load makes them by itself
        gc.collect()
        with psycopg.connect(url) as conn, conn.cursor() as cursor:
            start = time.perf_counter()
            for statement, body in bodies:
                with cursor.copy(statement) as copy:
                    copy.write(body)
            conn.commit()
            seconds = time.perf_counter() - start
            got = cursor.execute("SELECT count(*) FROM day_claim").fetchone()
        warm = nemflow.read(warm_up).frame_days.height
        readings = int(got[0]) - warm if got else 0
        return {"seconds": seconds, "readings": readings, "disk": _day_bytes(url)}


_UPSERT_TABLE = """
CREATE TABLE reading (
  nmi text NOT NULL, "timestamp" timestamptz NOT NULL, consumption numeric(18, 6) NOT NULL,
  UNIQUE (nmi, "timestamp"));
CREATE UNLOGGED TABLE staging (LIKE reading)
"""
_UPSERT = """
INSERT INTO reading SELECT * FROM staging
ON CONFLICT (nmi, "timestamp") DO UPDATE SET consumption = excluded.consumption
"""
_ROWS_AT_ONCE = 50_000


def measured_upsert(paths: list[str], warm_up: str) -> dict[str, Any]:
    """A row per reading: COPY into a staging table, then INSERT ... ON CONFLICT, in batches."""
    with database() as url, psycopg.connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(_UPSERT_TABLE)
        conn.commit()
        seconds, readings = 0.0, 0
        for path in (warm_up, *paths):
            frame = nemflow.read(path).readings(exact=True).select("nmi", "interval_end", "value")
            texts = [
                part.write_csv(include_header=False).encode()
                for part in frame.iter_slices(_ROWS_AT_ONCE)
            ]
            start = time.perf_counter()
            for text in texts:
                with cursor.copy("COPY staging FROM STDIN WITH (FORMAT csv)") as copy:
                    copy.write(text)
                cursor.execute(_UPSERT)
                cursor.execute("TRUNCATE staging")
                conn.commit()
            if path != warm_up:
                seconds += time.perf_counter() - start
                readings += frame.height
        # counted in days, as a load does
        return {"seconds": seconds, "readings": readings // 288, "disk": disk(url, "reading")}


def main() -> None:
    """Run one task and print what it took."""
    options = argparse.ArgumentParser()
    options.add_argument("task", choices=["load", "load2", "copy", "upsert"])
    options.add_argument("paths", nargs="+")
    options.add_argument("--warm-up", required=True)
    options.add_argument("--chunk", type=int, help="bytes of a piece; without: the default")
    given = options.parse_args()
    if given.task == "copy":
        seen = measured_copy(given.paths, given.warm_up)
    elif given.task == "upsert":
        seen = measured_upsert(given.paths, given.warm_up)
    else:
        seen = measured_load(
            given.paths, given.warm_up, 2 if given.task == "load2" else 1, given.chunk
        )
    print(json.dumps({**seen, "peak": stopwatch.peak_bytes()}))


if __name__ == "__main__":
    main()
