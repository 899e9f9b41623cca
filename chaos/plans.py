"""Plans: the common questions on a million NMI-days, and what the planner makes of them.

Why: a question that reads a whole table is fast on every developer's machine and nowhere else.

How: days and claims are made inside the server (small arrays: their size changes no plan), then
the questions are asked through nemflow itself, every statement it sends is caught, and EXPLAIN
shows how it was answered.

Promises: nothing is asked that the store or a person does not ask in just these words.

Look next: ``tests/integration/test_postgres_plans.py``.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa

from chaos.report import Attack
from chaos.servers import asking
from nemflow.store import Store, open_store

FIRST = date(2025, 1, 1)
MONTHS = 12
DAYS_OF_A_MONTH = 28  #: days made of each month
FILES_OF_A_DAY = 10
LOADS = MONTHS * DAYS_OF_A_MONTH * FILES_OF_A_DAY
_TABLES = ("day_content", "day_claim")


def fill(database: str, rows: int) -> int:
    """Make about so many claims, each with its content: twelve months of one suffix.

    They lie in the order in which they come in practice: day by day, a load being one day of a
    tenth of the NMIs. Returns how many NMIs there are.
    """
    nmis = max(rows // (MONTHS * DAYS_OF_A_MONTH), 1)
    open_store(database).close()
    with asking(database) as conn:
        conn.exec_driver_sql("SET synchronous_commit = off; SET maintenance_work_mem = '256MB'")
        conn.exec_driver_sql(_LEDGER.format(loads=LOADS))
        for month in range(MONTHS):
            first = date(FIRST.year, month + 1, 1)
            values = {"nmis": nmis, "month": month, "first": first, "days": DAYS_OF_A_MONTH}
            for table, select in zip(_TABLES, (_CONTENT, _CLAIM), strict=True):
                name = f"{table}_{first:%Y%m}"
                until = (first + timedelta(days=31)).replace(day=1)
                conn.exec_driver_sql(
                    f"CREATE UNLOGGED TABLE {name} (LIKE {table} INCLUDING DEFAULTS)"
                )
                conn.exec_driver_sql(f"INSERT INTO {name} {select.format(**values)}")
                conn.exec_driver_sql(
                    f"ALTER TABLE {table} ATTACH PARTITION {name} "
                    f"FOR VALUES FROM ('{first}') TO ('{until}')"
                )
        conn.exec_driver_sql("ANALYZE")
    return nmis


_LEDGER = """
INSERT INTO file (id, sha256, name, size, state, load, delivery, first_seen_at, days_read,
                  days_stored)
SELECT n, lpad(to_hex(n), 64, '0'), n || '.csv', 1, 'loaded', n, n, now(), 298, 298
FROM generate_series(1, {loads}) AS n;
INSERT INTO delivery (id, name, channel, profile, state, file, received_at)
SELECT n, n || '.csv', 'cli', 'portal', 'loaded', n, now() FROM generate_series(1, {loads}) AS n;
INSERT INTO load (id, file, delivery, base, kind, state, parser_version, profile, started_at)
SELECT n, n, n, n, 'load', 'published', '1', 'portal', now()
FROM generate_series(1, {loads}) AS n;
INSERT INTO load_event (seq, load, kind, at)
SELECT n, n, 'published', timestamptz '2025-06-01' + n * interval '1 second'
FROM generate_series(1, {loads}) AS n;
UPDATE clock SET seq = {loads}, at = timestamptz '2025-06-01' + {loads} * interval '1 second';
"""
_SERIES = """
FROM generate_series(0, {days} - 1) AS d, generate_series(1, {nmis}) AS n
ORDER BY d, mod(n, 10), n
"""
_LOAD = "({month} * {days} + d) * 10 + mod(n, 10) + 1"
_CONTENT = f"""
(nmi, day, suffix, content_hash, uom, interval_minutes, scale, scaled_values, quality, spans, load)
SELECT 'SASM' || lpad(n::text, 6, '0'), date '{{first}}' + d, 'E1', md5(mod(n, 100)::text), 'kWh',
       30, 3, ARRAY[n, d], 'A', '[]', {_LOAD} {_SERIES}
"""
_CLAIM = f"""
(nmi, day, suffix, version_at, file_at, content_hash, load, line, version_derived, total, scale,
 missing, quality, register_id, meter_serial)
SELECT 'SASM' || lpad(n::text, 6, '0'), date '{{first}}' + d, 'E1', timestamptz '{{first}}' + d *
       interval '1 day', '{{first}}', md5(mod(n, 100)::text), {_LOAD}, n, false,
       n + d, 3, 0, 'A', '1', 'METER1' {_SERIES}
"""


# -- what was asked -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """One statement that a question sent, and how the server answers it."""

    statement: str
    scans: tuple[str, ...]  #: day tables read whole
    partitions: int  #: day tables read at all
    indexes: int  #: of them, how many through an index

    @property
    def of_days(self) -> bool:
        """Whether it looks at days at all."""
        return self.partitions > 0


def plan_of(conn: sa.Connection, statement: str, parameters: Any) -> Asked:
    """How the server would answer a statement."""
    question = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"
    said = conn.exec_driver_sql(question, parameters).scalar_one()
    plan = said if isinstance(said, list) else json.loads(said)
    read = (node for node in _nodes(plan[0]["Plan"]) if node["Actual Loops"])
    tables = [node for node in read if _is_day(node.get("Relation Name", ""))]
    scans = tuple(n["Relation Name"] for n in tables if n["Node Type"] == "Seq Scan")
    return Asked(
        statement, scans, len({n["Relation Name"] for n in tables}), len(tables) - len(scans)
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from _nodes(below)


def _is_day(table: str) -> bool:
    return table.startswith(_TABLES)


@contextmanager
def caught(store: Store) -> Iterator[list[tuple[str, Any]]]:
    """Every statement a store sends within the block, with its parameters."""
    engine: sa.Engine = store.backend._engine  # type: ignore[attr-defined]
    found: list[tuple[str, Any]] = []

    def catch(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", catch)
    try:
        yield found
    finally:
        sa.event.remove(engine, "before_cursor_execute", catch)


_ONE_DAY = """
SELECT nmi, suffix, total, scale, weakest, missing FROM current_day WHERE day = '{day}'
"""
_ONE_FILE = "SELECT nmi, day, suffix, content_hash FROM day_claim WHERE load = {load}"


def common_questions(nmis: int) -> dict[str, Callable[[Store], Any]]:
    """The questions of the issue, in the words in which they are asked."""
    name = f"SASM{nmis // 2:06}"
    month = (date(2025, 3, 1), date(2025, 3, 28))
    number = LOADS // 4

    def sql(text: str) -> Callable[[Store], Any]:
        def ask(store: Store) -> Any:
            with store.backend.reading() as conn:
                return conn.exec_driver_sql(text).fetchall()

        return ask

    return {
        "one NMI, one month": lambda store: store.readings(name, *month),
        "one NMI, one month, as known on": lambda store: store.readings(
            name, *month, as_known_on=LOADS - 100
        ),
        "one NMI, one day, all versions": lambda store: store.versions(name, month[0]),
        "one NMI, one month, from SQL": sql(
            f"SELECT * FROM current_day WHERE nmi = '{name}' "
            f"AND day BETWEEN '{month[0]}' AND '{month[1]}'"
        ),
        "a slice of time, by the function": sql(
            f"SELECT * FROM meter_readings('{name}', '{month[0]} 00:00+10', '{month[1]} 00:00+10')"
        ),
        "all NMIs, one day": sql(_ONE_DAY.format(day=month[0])),
        "one file's days": sql(_ONE_FILE.format(load=number)),
        "what happened to one file": lambda store: store.loads(number),
    }


def questions(database: str, *, rows: int) -> Attack:
    """Ask the common questions, time them, and look at their plans."""
    begun = time.perf_counter()
    nmis = fill(database, rows)
    made = time.perf_counter() - begun
    attack = Attack(
        "Plans of the common questions",
        f"{nmis * MONTHS * DAYS_OF_A_MONTH:,} NMI-days in {MONTHS} months, each with a content and "
        "a claim, made inside the server. The questions are asked through nemflow; every "
        "statement it sends is explained. No day table may be read whole, and no month that was "
        "not asked for.",
        counts={"NMI-days": nmis * MONTHS * DAYS_OF_A_MONTH, "seconds to make them": made},
    )
    lines = ["| question | ms | partitions | read whole |", "| --- | --- | --- | --- |"]
    with open_store(database) as store:
        for question, ask in common_questions(nmis).items():
            asked, took = explained(store, ask)
            found = [one for one in asked if one.of_days]
            scans = sorted({scan for one in found for scan in one.scans})
            partitions = max((one.partitions for one in found), default=0)
            attack.wrong += [f"{question}: reads {scan} whole" for scan in scans]
            if not found:
                attack.wrong.append(f"{question}: asks no day table")
            lines.append(f"| {question} | {took:.1f} | {partitions} | {len(scans)} |")
    attack.more = "\n".join(lines)
    return attack


def explained(
    store: Store, ask: Callable[[Store], Any], *, times: int = 5
) -> tuple[list[Asked], float]:
    """The plans of a question's statements, and its milliseconds, the middle of ``times``."""
    with caught(store) as statements:
        ask(store)
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        ask(store)
        took.append((time.perf_counter() - begun) * 1000)
    with store.backend.reading() as conn:
        plans = [
            plan_of(conn, statement, parameters)
            for statement, parameters in statements
            if statement.lstrip().upper().startswith(("SELECT", "WITH"))
        ]
    return plans, statistics.median(took)
