"""The interface an engine fulfils.

Promises asked of every engine: a ``reading`` block sees one moment of the store; a ``writing``
block is one transaction that never deadlocks with another and whose commit is durable; ``append``
keeps every value exact; all driver errors come out as ``nemflow.errors.StoreError``.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

if TYPE_CHECKING:
    import polars as pl

    from nemflow.store.days import Met


class Backend(Protocol):
    """One engine, connected to one store."""

    url: sa.URL

    def open(self, *, create: bool) -> None:
        """Check that the store is there and has the right schema, or make it (``create``)."""

    def upgrade(self) -> list[str]:
        """Apply missing schema revisions; returns them, oldest first."""

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A consistent look at the store; never blocks and is never blocked by writers."""

    def writing(self, *, durable: bool = True) -> AbstractContextManager[sa.Connection]:
        """One transaction: committed at the end of the block, rolled back on any exception.

        ``durable=False`` does not wait for the disk: a power cut (not a crash of the process) may
        take it back, until the next durable commit, which makes all before it durable too. For
        pieces of a load that nobody sees yet.
        """

    def append(self, conn: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
        """Append a frame whose columns are columns of ``table``; in bulk, exact."""

    def update(self, conn: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
        """Set the frame's columns on the ledger rows with the ids in its ``id`` column."""

    def fetch(self, conn: sa.Connection, statement: sa.Select[Any]) -> pl.DataFrame:
        """A query's answer as a frame: instants in market time, days as Date, exact decimals."""

    def reserve(self, conn: sa.Connection, table: sa.Table, count: int) -> int:
        """The first of ``count`` ids in a row that nobody else will get."""

    def guard(self, conn: sa.Connection, hashes: Collection[str]) -> None:
        """Until the transaction ends, nobody else recognises or publishes these texts."""

    def tick(self, conn: sa.Connection) -> tuple[int, datetime]:
        """Draw the next commit number and its time: the last statement before COMMIT."""

    def claims_of(self, conn: sa.Connection, keys: pl.DataFrame) -> pl.DataFrame:
        """All claims on the given (nmi, day, suffix) keys, one set-based look-up.

        Columns: nmi, day, suffix, version_at, file_at, content_hash, load, state (of the load).
        """

    def met(self, conn: sa.Connection, days: pl.DataFrame, own: Collection[int]) -> Met:
        """What incoming days (nmi, day, suffix, version_at, file_at, content_hash) meet.

        Set-based, and no larger than what comes in: a day may have a thousand versions.
        ``own`` are the loads of this run.
        """

    def settle(self) -> None:
        """Called after a load, outside any transaction: checkpoint, give space back."""

    def close(self) -> None:
        """Let go of all connections."""
