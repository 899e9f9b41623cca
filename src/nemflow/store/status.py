"""What a store is made of and who works on it: sizes, partitions, open loads, leases.

Why: the first questions of whoever runs it.

Promises: cheap on a store of any size: sizes and row counts come from the engine's own statistics
(on PostgreSQL as fresh as its last ANALYZE; on SQLite the highest row number).

Look next: ``nemflow db status``; ``invariants.py`` for whether all is well.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from nemflow.errors import StoreOutdated
from nemflow.store import leases
from nemflow.store.tables import SCHEMA_REVISION, delivery, load, metadata

if TYPE_CHECKING:
    from nemflow.store.backends import Backend, Pool

_TABLES = {
    "table": pl.String,
    "rows": pl.Int64,
    "bytes": pl.Int64,
    "partitions": pl.Int64,
    "first_month": pl.String,
    "last_month": pl.String,
}
_OPEN = {
    "load": pl.Int64,
    "delivery": pl.Int64,
    "name": pl.String,
    "started_at": pl.String,
    "holder": pl.String,
    "seconds_left": pl.Float64,
}


@dataclass(frozen=True, slots=True)
class Status:
    """What is there. Frames: see ``status``."""

    engine: str  #: PostgreSQL or SQLite
    version: str  #: of the engine or server
    schema: str | None  #: revision of the store
    needed: str  #: revision this program works with
    tables: pl.DataFrame
    open_loads: pl.DataFrame
    leases: pl.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "engine": self.engine,
            "version": self.version,
            "schema": self.schema,
            "needed": self.needed,
            "tables": self.tables.to_dicts(),
            "open_loads": self.open_loads.to_dicts(),
            "leases": self.leases.to_dicts(),
        }


def status_of(url: str | None, pool: Pool | None = None) -> Status:
    """What the store at ``url`` is made of, also when its schema is older or newer.

    Raises:
        StoreUnreachable: there is none, or it may not be opened.
    """
    from nemflow.store.store import backend_of

    backend = backend_of(url, pool)
    try:
        with contextlib.suppress(StoreOutdated):
            backend.open(create=False)
        return backend.look(lambda conn: status(conn, backend))
    finally:
        backend.close()


def status(conn: sa.Connection, backend: Backend) -> Status:
    """What the store is made of.

    ``tables``: table, rows (estimated; null: not known yet), bytes (with indexes; null: not known),
    partitions, first_month, last_month (``2025-03``). ``open_loads``: load, delivery, name,
    started_at, holder (``host:process``), seconds_left. ``leases``: holder, seconds_left; less than
    0: whoever held it is gone.
    """
    on_server = conn.dialect.name == "postgresql"
    version = "SHOW server_version" if on_server else "SELECT sqlite_version()"
    held = leases.leases(conn, backend)
    revision = conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return Status(
        engine="PostgreSQL" if on_server else "SQLite",
        version=str(conn.exec_driver_sql(version).scalar_one()),
        schema=None if revision is None else str(revision),
        needed=SCHEMA_REVISION,
        tables=_on_server(conn) if on_server else _in_file(conn),
        open_loads=_open(conn, held),
        leases=pl.DataFrame(
            {
                "holder": [leases.holder_of(token) for token in held],
                "seconds_left": [round(left, 1) for left in held.values()],
            },
            schema={"holder": pl.String, "seconds_left": pl.Float64},
        ),
    )


def _open(conn: sa.Connection, held: dict[str, float]) -> pl.DataFrame:
    question = (
        sa.select(load.c.id, delivery.c.id, delivery.c.name, load.c.started_at, load.c.lease_token)
        .outerjoin(delivery, delivery.c.id == load.c.delivery)
        .where(load.c.state == "open")
        .order_by(load.c.id)
    )
    rows = [
        (number, about, name, str(at), leases.holder_of(token), round(held.get(token, 0.0), 1))
        for number, about, name, at, token in conn.execute(question)
    ]
    return pl.DataFrame(rows, schema=_OPEN, orient="row")


def _names(conn: sa.Connection) -> list[str]:
    """The tables that are there: an older store lacks some."""
    there = set(sa.inspect(conn).get_table_names())
    return sorted(there & set(metadata.tables))


def _on_server(conn: sa.Connection) -> pl.DataFrame:
    rows = []
    for name in _names(conn):
        found = conn.exec_driver_sql(_SIZES, (f'"{name}"',)).one()
        months = [str(child)[-6:] for child in found.children or () if str(child)[-6:].isdigit()]
        rows.append(
            (
                name,
                None if found.estimate is None else int(found.estimate),
                int(found.bytes),
                len(found.children or ()),
                _month(min(months, default="")),
                _month(max(months, default="")),
            )
        )
    return pl.DataFrame(rows, schema=_TABLES, orient="row")


def _month(digits: str) -> str | None:
    return f"{digits[:4]}-{digits[4:]}" if digits else None


#: reltuples is -1 until the first ANALYZE or VACUUM.
_SIZES = """
SELECT sum(pg_total_relation_size(c.oid)) AS bytes,
  sum(c.reltuples) FILTER (WHERE c.relkind = 'r' AND c.reltuples >= 0) AS estimate,
  array_agg(c.relname::text) FILTER (WHERE c.relispartition) AS children
FROM (SELECT to_regclass(%s) AS oid) AS t
JOIN pg_class AS c
  ON c.oid = t.oid OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = t.oid)
"""


def _in_file(conn: sa.Connection) -> pl.DataFrame:
    sizes = _file_sizes(conn)
    rows = []
    for name in _names(conn):
        highest = conn.exec_driver_sql(f'SELECT max(rowid) FROM "{name}"').scalar()  # noqa: S608
        rows.append((name, int(highest or 0), sizes.get(name), 0, None, None))
    return pl.DataFrame(rows, schema=_TABLES, orient="row")


def _file_sizes(conn: sa.Connection) -> dict[str, int]:
    """Bytes per table with its indexes, where SQLite was built with ``dbstat``."""
    try:
        rows = conn.exec_driver_sql(
            "SELECT m.tbl_name, sum(s.pgsize) FROM dbstat AS s "
            "JOIN sqlite_master AS m ON m.name = s.name WHERE s.aggregate = TRUE GROUP BY 1"
        )
        return {str(name): int(size) for name, size in rows}
    except sa.exc.OperationalError:
        return {}
