"""What must be true of a store at any moment, asked of the store itself.

Why: promises are easy to make; after a crash, a restore or an update somebody wants to see them
kept.

Promises: nothing is changed; one consistent look; each promise is one line, held or broken with how
often and an example. Contents are hashed again from what is stored: a sample, or all (``deep``).

Look next: ``nemflow db check``; ``tables.py`` for what the columns mean.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from nemflow.mdff.content import hashes_of
from nemflow.store.tables import NUMBERED, PARTITIONED

if TYPE_CHECKING:
    import sqlalchemy as sa

SAMPLE: Final = 1000  #: contents that are hashed again unless all are
_AT_ONCE = 5000
_EXACTLY = Context(prec=60)
SCHEMA: Final = {"promise": pl.String, "held": pl.Boolean, "broken": pl.Int64, "example": pl.String}

#: Promise -> SQL whose rows are the exceptions, as one text each. Plain SQL of both engines.
_PROMISES: Final = {
    "counts of every file balance": """
        SELECT 'file ' || id FROM file
        WHERE days_read <> days_stored + days_unchanged + days_rejected
           OR reads_read <> reads_stored + reads_unchanged + reads_rejected""",
    "counts of every load balance": """
        SELECT 'load ' || id FROM load
        WHERE days_read <> days_stored + days_unchanged + days_rejected
           OR reads_read <> reads_stored + reads_unchanged + reads_rejected""",
    "no file counts less than nothing": """
        SELECT 'file ' || id FROM file
        WHERE days_stored < 0 OR days_unchanged < 0 OR days_rejected < 0
           OR reads_stored < 0 OR reads_unchanged < 0 OR reads_rejected < 0""",
    "a published load has its event": """
        SELECT 'load ' || l.id FROM load AS l WHERE l.state = 'published' AND NOT EXISTS (
          SELECT 1 FROM load_event AS e
          WHERE e.load = l.id AND e.kind IN ('published', 'redone'))""",
    "an undone load has its event": """
        SELECT 'load ' || l.id FROM load AS l WHERE l.state = 'undone' AND NOT EXISTS (
          SELECT 1 FROM load_event AS e WHERE e.load = l.id AND e.kind = 'undone')""",
    "the last event of a load is its state": """
        SELECT 'load ' || l.id FROM load AS l
        JOIN (SELECT load, max(seq) AS seq FROM load_event GROUP BY load) AS last
          ON last.load = l.id
        JOIN load_event AS e ON e.load = last.load AND e.seq = last.seq
        WHERE (l.state = 'published') <> (e.kind IN ('published', 'redone'))
           OR l.state NOT IN ('published', 'undone')""",
    "the clock is not behind the events": """
        SELECT 'clock ' || clock.seq || ', event ' || newest.seq
        FROM clock, (SELECT max(seq) AS seq FROM load_event) AS newest
        WHERE clock.seq < newest.seq""",
    "every load is of a known file and delivery": """
        SELECT 'load ' || l.id FROM load AS l
        WHERE NOT EXISTS (SELECT 1 FROM file AS f WHERE f.id = l.file)
           OR NOT EXISTS (SELECT 1 FROM delivery AS d WHERE d.id = l.delivery)""",
    "every loaded file has a load that stands": """
        SELECT 'file ' || f.id FROM file AS f
        WHERE f.state IN ('loaded', 'partly_loaded') AND NOT EXISTS (
          SELECT 1 FROM load AS l
          WHERE l.base = f.load AND l.file = f.id AND l.state = 'published')""",
    "no claim is of an unknown, dead or rejected load": """
        SELECT 'load ' || claimed.load || ': ' || claimed.claims || ' claims'
        FROM (SELECT load, count(*) AS claims FROM day_claim GROUP BY load) AS claimed
        LEFT JOIN load AS l ON l.id = claimed.load
        WHERE l.id IS NULL OR l.state IN ('dead', 'rejected')""",
    "no register read is of an unknown, dead or rejected load": """
        SELECT 'load ' || claimed.load || ': ' || claimed.claims || ' reads'
        FROM (SELECT load, count(*) AS claims FROM register_read GROUP BY load) AS claimed
        LEFT JOIN load AS l ON l.id = claimed.load
        WHERE l.id IS NULL OR l.state IN ('dead', 'rejected')""",
    "a load claims no more days than it counts": """
        SELECT 'load ' || l.id
        FROM load AS l
        JOIN (SELECT load, count(*) AS claims FROM day_claim GROUP BY load) AS claimed
          ON claimed.load = l.id
        WHERE l.state IN ('published', 'undone')
          AND claimed.claims > l.days_stored + l.days_unchanged""",
    "every claim has its content": """
        SELECT c.nmi || ' ' || c.day || ' ' || c.suffix || ', load ' || c.load
        FROM day_claim AS c JOIN load AS l ON l.id = c.load
        WHERE l.state IN ('published', 'undone') AND NOT EXISTS (
          SELECT 1 FROM day_content AS v
          WHERE v.nmi = c.nmi AND v.day = c.day AND v.suffix = c.suffix
            AND v.content_hash = c.content_hash)""",
}
_PARTITIONS: Final = """
SELECT c.relname FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_class AS p ON p.oid = i.inhparent
WHERE p.relname = '{table}' AND p.relnamespace = current_schema()::regnamespace
  AND (SELECT count(*) FROM pg_index AS x WHERE x.indrelid = c.oid AND x.indisvalid)
    < (SELECT count(*) FROM pg_index AS x WHERE x.indrelid = p.oid)
"""
_NUMBERS: Final = """
SELECT '{table} ' || newest.id || ', next ' || s.last_value
FROM (SELECT max(id) AS id FROM "{table}") AS newest, "{table}_number" AS s
WHERE newest.id > s.last_value
"""
_CONTENTS: Final = """
SELECT nmi, CAST(day AS text) AS day, suffix, content_hash, uom, interval_minutes, scale,
  CAST(scaled_values AS text) AS ints, exact_values, quality, method, reason_code, reason_text,
  spans FROM day_content {which}
"""
_FORM: Final = {
    "nmi": pl.String,
    "day": pl.String,
    "suffix": pl.String,
    "content_hash": pl.String,
    "uom": pl.String,
    "interval_minutes": pl.Int64,
    "scale": pl.Int64,
    "ints": pl.String,
    "exact_values": pl.String,
    "quality": pl.String,
    "method": pl.String,
    "reason_code": pl.Int64,
    "reason_text": pl.String,
    "spans_json": pl.String,
}


def checked(conn: sa.Connection, *, deep: bool = False) -> pl.DataFrame:
    """Every promise: promise, held Boolean, broken Int64 (how often), example (the first).

    Args:
        conn: a reading connection.
        deep: hash every content again, not only a sample; takes as long as reading all of them.
    """
    on_server = conn.dialect.name == "postgresql"
    promises = dict(_PROMISES)
    if on_server:
        for table in PARTITIONED:
            promises[f"every month of {table} has its indexes"] = _PARTITIONS.format(table=table)
        for each in NUMBERED:
            promises[f"numbers of {each.name} are not given twice"] = _NUMBERS.format(
                table=each.name
            )
    rows = [line(name, *exceptions(conn, sql)) for name, sql in promises.items()]
    which = "" if deep else _sample(conn, on_server=on_server)
    tried, wrong, example = 0, 0, None
    for form in _contents(conn, which):
        bad = form.filter(hashes_of(form) != form["content_hash"])
        tried += form.height
        wrong += bad.height
        if example is None and not bad.is_empty():
            example = "{} {} {}, {}".format(*bad.row(0)[:4])
    name = "contents hash to their name (all)" if deep else f"contents hash to their name ({tried})"
    rows.append(line(name, wrong, example))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def line(name: str, broken: int, example: str | None) -> tuple[str, bool, int, str | None]:
    """A promise as a row of ``SCHEMA``."""
    return name, broken == 0, broken, example


def exceptions(conn: sa.Connection, sql: str) -> tuple[int, str | None]:
    """How many rows, and the first in order."""
    row = conn.exec_driver_sql(
        f"SELECT count(*), min(what) FROM (SELECT x.* FROM ({sql}) AS x) AS found(what)"  # noqa: S608
        if conn.dialect.name == "postgresql"
        else f"WITH found(what) AS ({sql}) SELECT count(*), min(what) FROM found"  # noqa: S608
    ).one()
    return int(row[0]), row[1]


def _sample(conn: sa.Connection, *, on_server: bool) -> str:
    """Which contents to hash again: some at random, without reading them all."""
    if on_server:
        estimate = conn.exec_driver_sql(
            "SELECT sum(greatest(reltuples, 0)) FROM pg_class AS c "
            "JOIN pg_inherits AS i ON i.inhrelid = c.oid "
            "WHERE i.inhparent = 'day_content'::regclass"
        ).scalar()
        share = min(100.0, 100 * 3 * SAMPLE / max(float(estimate or 0), 1.0))
        return f"TABLESAMPLE SYSTEM ({share:.6f}) LIMIT {SAMPLE}"
    highest = conn.exec_driver_sql("SELECT max(rowid) FROM day_content").scalar() or 0
    chosen = random.sample(range(1, highest + 1), min(SAMPLE, highest))
    return f"WHERE rowid IN ({', '.join(map(str, chosen))})"


def _contents(conn: sa.Connection, which: str) -> Iterator[pl.DataFrame]:
    """Stored contents in canonical form, so many at a time."""
    found = conn.execution_options(stream_results=True).exec_driver_sql(
        _CONTENTS.format(which=which)
    )
    for rows in found.partitions(_AT_ONCE):
        form = pl.DataFrame([tuple(row) for row in rows], schema=_FORM, orient="row")
        ints = [_ints(*row) for row in form.select("ints", "exact_values", "scale").iter_rows()]
        yield form.with_columns(
            pl.Series("ints", ints, dtype=pl.String),
            quality_method=pl.concat_str("quality", pl.col("method").fill_null("")),
        )


def _ints(scaled: str | None, exact: str | None, scale: int) -> str:
    """The scaled integers as JSON, from an array, JSON, or decimals."""
    if exact is not None:
        numbers = [
            None if each is None else int(_EXACTLY.scaleb(Decimal(each), scale))
            for each in json.loads(exact)
        ]
        return json.dumps(numbers, separators=(",", ":"))
    text: Any = scaled or "[]"
    return str(text).replace("{", "[").replace("}", "]").replace("NULL", "null")
