"""The monthly partitions of the day tables on PostgreSQL, made when first needed.

Why: nobody can know which months files will bring, and nobody should wait for a new one.

Promises: a month is made by ``LIKE`` + ``CHECK``, ``ATTACH`` and dropping the ``CHECK``, in a
short transaction of its own: this blocks neither readers nor loaders. Never ``PARTITION OF``, which
locks the parent exclusively; see docs/store.md.

Look next: ``postgres.py``, whose ``append`` asks for them.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from nemflow import failpoints

if TYPE_CHECKING:
    import polars as pl
    import sqlalchemy as sa

_LOCK_PARTITIONS = (0x6E656D66 << 8) + 2  #: an advisory lock: "nemf" in ASCII, then 2


class Months:
    """The months that are known to have their partition."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._known: set[tuple[str, date]] = set()

    def make(self, table: sa.Table, days: pl.Series) -> None:
        """Make the months of ``days`` that are missing, each in its own short transaction."""
        for month in days.dt.truncate("1mo").unique().sort().to_list():
            if (table.name, month) not in self._known:
                self._make(table.name, month)
                self._known.add((table.name, month))

    def _make(self, table: str, month: date) -> None:
        until = date(month.year + month.month // 12, month.month % 12 + 1, 1)
        name = f"{table}_{month:%Y%m}"
        bounds = f"'{month}' AND day < '{until}'"
        with self._engine.connect() as conn, conn.begin():
            # pg_inherits is read by snapshot; to_regclass would answer from a stale cache
            if conn.exec_driver_sql(_ATTACHED, (table, name)).scalar():
                return
            conn.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK_PARTITIONS,))
            if conn.exec_driver_sql(_ATTACHED, (table, name)).scalar():
                return
            for statement in (
                f'CREATE TABLE "{name}" (LIKE "{table}" INCLUDING DEFAULTS INCLUDING CONSTRAINTS '
                f"INCLUDING STORAGE INCLUDING COMPRESSION, "
                f'CONSTRAINT "{name}_range" CHECK (day >= {bounds}))',
                f'ALTER TABLE "{table}" ATTACH PARTITION "{name}" '
                f"FOR VALUES FROM ('{month}') TO ('{until}')",
                f'ALTER TABLE "{name}" DROP CONSTRAINT "{name}_range"',
            ):
                conn.exec_driver_sql(statement)
                failpoints.reach("mid-partition")


_ATTACHED = """
SELECT EXISTS (
  SELECT 1 FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
  WHERE i.inhparent = %s::regclass AND c.relname = %s)
"""
