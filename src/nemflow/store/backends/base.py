"""The interface an engine fulfils.

Promises asked of every engine: a ``reading`` block sees one moment of the store; a ``writing``
block is one transaction that never deadlocks with another and whose commit is durable; ``append``
keeps every value exact; all driver errors come out as ``nemflow.errors.StoreError``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import sqlalchemy as sa

if TYPE_CHECKING:
    import polars as pl

    from nemflow.store.backends.pool import Pool
    from nemflow.store.days import Met


T = TypeVar("T")


class Backend(Protocol):
    """One engine, connected to one store."""

    url: sa.URL

    def connections(self) -> tuple[int, int] | None:
        """Connections in use, and how many the pool keeps; None: there is no pool."""

    pool: Pool | None  #: of connections; None: an embedded store, with one writer at a time

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

    def transact(
        self,
        work: Callable[[sa.Connection], T],
        *,
        durable: bool = True,
        happened: Callable[[sa.Connection], bool] | None = None,
    ) -> T:
        """Do ``work`` in one transaction, again when the engine says that may help.

        ``work`` may be called several times, each time as if it were the first: it must change
        nothing outside its transaction. ``happened`` looks in the store for what the last call
        wrote; it is asked when COMMIT was sent and no answer came. Without it such a transaction
        is done again, so then doing it twice must be the same as doing it once.

        Raises:
            StoreUnresolved: whether what was tried last was saved cannot be found out.
            StoreError: it did not work out.
        """

    def look(self, work: Callable[[sa.Connection], T]) -> T:
        """Do ``work`` on a consistent look at the store, again when that may help."""

    def now(self, conn: sa.Connection) -> datetime:
        """The clock by which leases run out, in market time: one for all who use the store."""

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

    def glance(self, conn: sa.Connection, days: pl.DataFrame) -> pl.DataFrame:
        """A glance at all claims on the given NMI-days (nmi, day), visible or not; cheap.

        Different rows of: nmi, suffix, quality (weakest of the day), nmi_configuration.
        """

    def standing(self, conn: sa.Connection, days: pl.DataFrame) -> pl.DataFrame:
        """The current claim of every stream of the given NMI-days (nmi, day), set-based.

        Columns: nmi, day, suffix, version_at, file_at, content_hash, load, line, quality (weakest
        of the day), nmi_configuration.
        """

    def settle(self) -> None:
        """Called after a load, outside any transaction: checkpoint, give space back."""

    def close(self) -> None:
        """Let go of all connections."""
