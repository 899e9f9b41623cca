"""Register reads (NEM13) and service events (500, 550).

Why: accumulation meters speak in periods, not days; the period's start is its key, because an
estimate's end moves when the actual read arrives.

Promises: as for days: appended, never updated, the greatest ``(version_at, file_at,
content_hash)`` wins; reads are text exactly as displayed; a 500 or 550 is seen only while the day
or period it came with is the current one.

Spec: 2.5, 2.7, 2.8, 5.2. Look next: ``days.py`` for the same idea at work on interval data.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from nemflow.store.days import SORT_KEY, judge, met_in, visible, winners
from nemflow.store.tables import day_claim, load, register_read, service_event

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

PERIOD_KEY = ["nmi", "suffix", "register_id", "meter_serial", "previous_at"]
#: What is looked at of a period's claims when another arrives.
CLAIM_COLUMNS = [
    *PERIOD_KEY, *SORT_KEY, "load", "line", "nmi_configuration", "previous_read", "current_at",
    "current_read", "current_quality_method",
]  # fmt: skip
READ_COLUMNS = [column.name for column in register_read.columns]
EVENT_COLUMNS = [column.name for column in service_event.columns]
_AT_ONCE = 500


def claims_of(conn: sa.Connection, backend: Backend, nmis: Collection[str]) -> pl.DataFrame:
    """Every period claim of these NMIs: CLAIM_COLUMNS and the ``state`` of its load."""
    columns = [register_read.c[name] for name in CLAIM_COLUMNS]
    question = sa.select(*columns, load.c.state).join(load, load.c.id == register_read.c.load)
    every = sorted(nmis)
    found = [
        backend.fetch(conn, question.where(register_read.c.nmi.in_(every[at : at + _AT_ONCE])))
        for at in range(0, max(len(every), 1), _AT_ONCE)
    ]
    return pl.concat(found)


def append_reads(
    conn: sa.Connection,
    backend: Backend,
    reads: pl.DataFrame,
    own: Collection[int],
    claims: pl.DataFrame,
) -> pl.DataFrame:
    """Append one claim per register read; returns them as ``days.judge`` does.

    ``claims`` are all there are of their NMIs (``claims_of``).
    """
    judged = judge(reads, met_in(claims, own, PERIOD_KEY), PERIOD_KEY)
    backend.append(conn, register_read, judged.filter("write_claim").select(READ_COLUMNS))
    return judged


def append_events(conn: sa.Connection, backend: Backend, events: pl.DataFrame) -> None:
    """Append 500 and 550 records (columns of ``service_event``)."""
    backend.append(conn, service_event, events.select(EVENT_COLUMNS))


def periods(
    conn: sa.Connection, backend: Backend, nmi: str, *, history: bool = False
) -> pl.DataFrame:
    """Period claims of one NMI with ``file`` and ``state``; see ``Store.register_reads``."""
    columns = register_read.c
    found = backend.fetch(
        conn,
        sa.select(*columns, load.c.file, load.c.state.label("load_state"))
        .join(load, load.c.id == columns.load)
        .where(columns.nmi == nmi, load.c.state.in_(["published", "undone"])),
    )
    return told(found, PERIOD_KEY, history=history).sort(
        *PERIOD_KEY, "load", nulls_last=False, maintain_order=True
    )


def told(claims: pl.DataFrame, key: list[str], *, history: bool) -> pl.DataFrame:
    """Claims with ``state`` (current, superseded, undone), winner first within each key.

    Expects ``load_state``. Equal claims of several loads are one version: the last load tells it.
    """
    stands = pl.col("load_state") == "published"
    order = ["stands", *SORT_KEY, "load"]
    ranked = claims.with_columns(stands=stands).sort(
        order, descending=True, nulls_last=True, maintain_order=True
    )
    first = pl.struct(key).is_first_distinct()
    ranked = ranked.with_columns(
        state=pl.when(~pl.col("stands"))
        .then(pl.lit("undone"))
        .when(first)
        .then(pl.lit("current"))
        .otherwise(pl.lit("superseded"))
    ).drop("stands", "load_state")
    return ranked if history else ranked.filter(pl.col("state") == "current")


def events_of(conn: sa.Connection, backend: Backend, nmi: str) -> pl.DataFrame:
    """The 500 and 550 records of current days and periods; see ``Store.service_events``."""
    columns = service_event.c
    found = backend.fetch(
        conn,
        sa.select(*columns, load.c.file)
        .join(load, load.c.id == columns.load)
        .where(columns.nmi == nmi, visible(None)),
    )
    days = winners(None, day_claim.c.nmi == nmi)
    current: list[pl.DataFrame] = [
        backend.fetch(conn, sa.select(days.c.load, days.c.line)),
        periods(conn, backend, nmi).select("load", "line"),
    ]
    parents = pl.concat(current).rename({"line": "parent_line"})
    return found.join(parents, on=["load", "parent_line"], how="semi").sort(
        "suffix", "day", "load", "line", nulls_last=False
    )


def nmis_with_reads(conn: sa.Connection) -> dict[str, int]:
    """How many visible register reads each NMI has."""
    columns = register_read.c
    counted: sa.Select[Any] = (
        sa.select(columns.nmi, sa.func.count())
        .join(load, load.c.id == columns.load)
        .where(visible(None))
        .group_by(columns.nmi)
    )
    return {row[0]: row[1] for row in conn.execute(counted)}
