"""SQLite: the embedded engine.

Why these settings (measured): a deferred BEGIN that later wants to write fails "locked" at once
whatever the busy timeout, so writers always BEGIN IMMEDIATE; WAL lets readers and the writer live
together, and is checkpointed after loads because readers keep it from shrinking by itself;
``json_each`` and ``sum`` turn decimals into binary floats, so values are stored as scaled integers.

Look next: ``views.py`` for the SQL that any SQLite tool can use.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import polars as pl
import sqlalchemy as sa

from nemflow import failpoints
from nemflow.errors import (
    StoreBusy,
    StoreError,
    StoreFull,
    StoreOutdated,
    StoreUnreachable,
    UsageError,
)
from nemflow.store.backends import codec
from nemflow.store.backends.pool import Pool
from nemflow.store.days import GLANCE, KEY, SORT_KEY, STANDING_COLUMNS, Met, runs
from nemflow.store.tables import MARKET_OFFSET, SCHEMA_REVISION, clock, day_claim, day_content, load

T = TypeVar("T")

BUSY_SECONDS = 60.0  #: how long a writer waits for another before it gives up
_PAGE_BYTES = 8192  # six 5-minute days to a page; measured best of 4096, 8192, 16384
_WAL_LIMIT = 64 * 1024 * 1024
_ROWS_AT_ONCE = 4096  #: rows that are Python objects at a time: they are large
_PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -65536",  # 64 MiB
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA journal_size_limit = {_WAL_LIMIT}",
    # A checkpoint inside a load's commit would stall it; settle() does it afterwards.
    f"PRAGMA wal_autocheckpoint = {_WAL_LIMIT // _PAGE_BYTES}",
)


#: Of each store that is open in this process: whose turn it is to write.
_turns: WeakValueDictionary[Path, threading.Lock] = WeakValueDictionary()
_turns_guard = threading.Lock()


def _writers_of(path: Path) -> threading.Lock:
    """The lock that all who write this store in this process share."""
    with _turns_guard:
        found = _turns.get(path.absolute())
        if found is None:
            found = _turns[path.absolute()] = threading.Lock()
        return found


class SqliteBackend:
    """One SQLite file."""

    def __init__(self, url: sa.URL) -> None:
        if url.database in (None, "", ":memory:"):
            raise UsageError(
                "The store needs a file; an SQLite database in memory has none.",
                hint="Use for example: --db sqlite:///nemflow.db",
            )
        self.url = url
        self.pool: Pool | None = None
        self.path = Path(str(url.database))
        self._writers = _writers_of(self.path)
        self._engine = sa.create_engine(
            url, connect_args={"timeout": BUSY_SECONDS, "cached_statements": 256}
        )
        sa.event.listen(self._engine, "connect", _on_connect)
        sa.event.listen(self._engine, "begin", _on_begin)

    def connections(self) -> tuple[int, int] | None:
        """See ``Backend.connections``."""
        return None

    # -- open ---------------------------------------------------------------------------------

    def open(self, *, create: bool) -> None:
        """See ``Backend.open``."""
        if not self.path.exists() and not create:
            raise StoreUnreachable(
                f"There is no store at {self.path}.",
                hint="Load something first (nemflow load PATH), or name another with --db.",
            )
        if not self.path.parent.is_dir():
            raise StoreUnreachable(
                f"The folder {self.path.parent} does not exist.", hint="Make it, or check --db."
            )
        found = self._schema()
        if found is None:
            self._make()
        elif found != SCHEMA_REVISION:
            self._refuse(found)

    def upgrade(self) -> list[str]:
        """See ``Backend.upgrade``."""
        from nemflow.store import schema

        found = self._schema()
        if found is not None and found not in schema.revisions():
            self._refuse(found)
        with self.writing() as conn:
            return schema.upgrade(conn)

    def _schema(self) -> str | None:
        """The schema revision of the file; None when it is new and empty."""
        with self.reading() as conn:
            names = set(conn.exec_driver_sql("SELECT name FROM sqlite_master").scalars())
            if not names:
                return None
            if not {"alembic_version", "day_claim"} <= names:
                raise StoreUnreachable(
                    f"{self.path} is a database, but not a nemflow store.",
                    hint="Name another file with --db.",
                )
            return str(conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())

    def _make(self) -> None:
        """Give a new file its schema; whoever comes second finds it done."""
        from nemflow.store import schema

        with self.reading() as conn:
            raw = conn.connection.driver_connection
            assert raw is not None  # noqa: S101 - for the type checker
            conn.rollback()
            raw.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            for patience in range(50):
                try:
                    raw.execute("PRAGMA journal_mode = WAL")
                    break
                except sqlite3.OperationalError:  # another process is just making it
                    if patience == 49:
                        raise
                    time.sleep(0.1)
        with self.writing() as conn:
            schema.upgrade(conn)

    def _refuse(self, found: str) -> None:
        from nemflow.store import schema

        if found in schema.revisions():
            raise StoreOutdated(
                f"The store {self.path} has the older schema {found}; this program needs "
                f"{SCHEMA_REVISION}.",
                hint="Bring it up to date with: nemflow db upgrade",
            )
        raise StoreOutdated(
            f"The store {self.path} has schema {found}, newer than this program's "
            f"{SCHEMA_REVISION}.",
            hint="Update nemflow: pip install --upgrade nemflow",
        )

    # -- transactions -------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """See ``Backend.reading``."""
        with self._mapped(), self._engine.connect() as conn:
            yield conn

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """See ``Backend.writing``. A durable commit syncs the whole log, what came before too."""
        with self._turn(), self._mapped(), self._engine.connect() as opened:
            raw = opened.connection.driver_connection
            assert raw is not None  # noqa: S101 - for the type checker
            raw.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            conn = opened.execution_options(nemflow_writes=True)
            with conn.begin():
                yield conn
                failpoints.reach("before-commit")
            failpoints.reach("after-commit")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the writers of this process here: SQLite has those who wait sleep in long steps.

        Measured with eight threads that receive uploads: the longest wait 30 ms, not 640.
        """
        if not self._writers.acquire(timeout=BUSY_SECONDS):
            raise StoreBusy(
                f"The store {self.path} is being written by another thread.",
                hint="Wait for it to finish, then try again.",
            )
        try:
            yield
        finally:
            self._writers.release()

    def transact(
        self,
        work: Callable[[sa.Connection], T],
        *,
        durable: bool = True,
        happened: Callable[[sa.Connection], bool] | None = None,
    ) -> T:
        """See ``Backend.transact``: the busy time-out has waited already, so it is done once."""
        with self.writing(durable=durable) as conn:
            return work(conn)

    def look(self, work: Callable[[sa.Connection], T]) -> T:
        """See ``Backend.look``."""
        with self.reading() as conn:
            return work(conn)

    def now(self, conn: sa.Connection) -> datetime:
        """See ``Backend.now``: an embedded store has the clock of its machine."""
        return datetime.now(MARKET_OFFSET)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise self._explained(error.orig) from error
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: BaseException | None) -> StoreError:
        """A driver's error as one of ours, with the next step."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreBusy(
                f"The store {self.path} is locked by another process.",
                hint="Wait for it to finish, then try again.",
            )
        if code == sqlite3.SQLITE_FULL:
            return StoreFull(
                f"There is no space left for the store {self.path}.",
                hint="Make room, then load again: nothing of this load is visible.",
            )
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return StoreUnreachable(
                f"{self.path} is not an SQLite database, or it is damaged ({error}).",
                hint="Name another file with --db, or restore a backup.",
            )
        if code in (
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_PERM,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_AUTH,
        ):
            return StoreUnreachable(
                f"The store {self.path} cannot be opened for this ({error}).",
                hint="Check the path, its permissions and the disk.",
            )
        return StoreError(f"The store {self.path} failed: {error}.")

    # -- rows ---------------------------------------------------------------------------------

    def append(self, conn: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
        """See ``Backend.append``."""
        if frame.is_empty():
            return
        if table is day_content:
            frame = frame.drop("values")  # their JSON text is what is stored here
        names = ", ".join(f'"{name}"' for name in frame.columns)
        marks = ", ".join("?" * frame.width)
        statement = f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})'  # noqa: S608
        for some in codec.to_text(frame).iter_slices(_ROWS_AT_ONCE):
            conn.exec_driver_sql(statement, some.rows())
            failpoints.reach("mid-copy")

    def update(self, conn: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
        """See ``Backend.update``."""
        if frame.is_empty():
            return
        names = [name for name in frame.columns if name != "id"]
        settings = ", ".join(f'"{name}" = ?' for name in names)
        statement = f'UPDATE "{table.name}" SET {settings} WHERE id = ?'  # noqa: S608
        conn.exec_driver_sql(statement, codec.to_text(frame.select(*names, "id")).rows())

    def fetch(self, conn: sa.Connection, statement: sa.Select[Any]) -> pl.DataFrame:
        """See ``Backend.fetch``."""
        columns = list(statement.selected_columns)
        rows = conn.execute(statement).fetchall()
        return codec.from_rows(rows, {str(column.name): column.type for column in columns})

    def reserve(self, conn: sa.Connection, table: sa.Table, count: int) -> int:
        """See ``Backend.reserve``. The write lock is held, and ledger rows are never deleted."""
        highest = conn.execute(sa.select(sa.func.max(table.c.id))).scalar()
        return int(highest or 0) + 1

    def guard(self, conn: sa.Connection, hashes: Collection[str]) -> None:
        """See ``Backend.guard``: the write lock of the transaction keeps everybody out."""

    def tick(self, conn: sa.Connection) -> tuple[int, datetime]:
        """See ``Backend.tick``."""
        seq, last = conn.execute(sa.select(clock.c.seq, clock.c.at)).one()
        now = datetime.now(MARKET_OFFSET)
        at = max(now, datetime.fromisoformat(last) + timedelta(microseconds=1))
        conn.execute(sa.update(clock).values(seq=seq + 1, at=at))
        return seq + 1, at

    def claims_of(self, conn: sa.Connection, keys: pl.DataFrame) -> pl.DataFrame:
        """See ``Backend.claims_of``: runs of consecutive days, each one range of the key index."""
        columns = [*_CLAIM_COLUMNS, load.c.state]
        types = {column.name: column.type for column in columns}
        spans = json.dumps(codec.to_text(runs(keys)).rows(), separators=(",", ":"))
        rows = conn.exec_driver_sql(_CLAIMS_OF, (spans,)).fetchall()
        found = codec.from_rows(rows, types)
        return found.join(keys, on=["nmi", "day", "suffix"], how="semi") if rows else found

    def met(self, conn: sa.Connection, days: pl.DataFrame, own: Collection[int]) -> Met:
        """See ``Backend.met``. Days that meet nothing at all, the common case, cost one look."""
        spans = json.dumps(codec.to_text(runs(days)).rows(), separators=(",", ":"))
        if conn.exec_driver_sql(_ANY_CLAIM, (spans,)).first() is None:
            return Met(pl.DataFrame(), pl.DataFrame())
        incoming = json.dumps(codec.to_text(days.unique()).rows(), separators=(",", ":"))
        loads = json.dumps(sorted(own))
        columns = {column.name: column.type for column in _CLAIM_COLUMNS[:-1]}
        flags = {"stands": sa.Boolean(), "known": sa.Boolean(), "mine": sa.Boolean()}

        def found(statement: str, names: tuple[str, ...]) -> pl.DataFrame:
            rows = conn.exec_driver_sql(statement, (loads, incoming)).fetchall()
            return codec.from_rows(rows, {name: (columns | flags)[name] for name in names})

        return Met(
            found(_SAME_CONTENT, (*KEY, "content_hash", "stands", "known")),
            found(_SAME_STAMP, (*KEY, *SORT_KEY, "stands", "mine")),
        )

    def glance(self, conn: sa.Connection, days: pl.DataFrame) -> pl.DataFrame:
        """See ``Backend.glance``."""
        spans = json.dumps(codec.to_text(runs(days)).rows(), separators=(",", ":"))
        rows = conn.exec_driver_sql(_GLANCE, (spans,)).fetchall()
        return codec.from_rows(rows, GLANCE)

    def standing(self, conn: sa.Connection, days: pl.DataFrame) -> pl.DataFrame:
        """See ``Backend.standing``."""
        wanted = codec.to_text(days.select("nmi", "day").unique())
        listed = json.dumps(wanted.rows(), separators=(",", ":"))
        rows = conn.exec_driver_sql(_STANDING, (listed,)).fetchall()
        return codec.from_rows(rows, {column.name: column.type for column in STANDING_COLUMNS})

    def settle(self) -> None:
        """See ``Backend.settle``: the write-ahead log goes into the file and is emptied."""
        try:
            with self._engine.connect() as conn:
                raw = conn.connection.driver_connection
                assert raw is not None  # noqa: S101 - for the type checker
                conn.rollback()
                raw.execute("PRAGMA busy_timeout = 200")
                # Most of it while others write; emptying it keeps writers waiting.
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                raw.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        except (sa.exc.DBAPIError, sqlite3.Error):
            return  # a reader is in the way; the next load's checkpoint does it

    def close(self) -> None:
        """See ``Backend.close``."""
        self._engine.dispose()


_CLAIM_COLUMNS = [
    day_claim.c[name]
    for name in ("nmi", "day", "suffix", "version_at", "file_at", "content_hash", "load")
]
# CROSS JOIN fixes the order: for each run one search of the key index, which holds every column.
_CLAIMS_OF = """
SELECT c.nmi, c.day, c.suffix, c.version_at, c.file_at, c.content_hash, c.load, l.state
FROM json_each(?) AS run
CROSS JOIN day_claim AS c ON c.nmi = json_extract(run.value, '$[0]')
  AND c.day BETWEEN json_extract(run.value, '$[1]') AND json_extract(run.value, '$[2]')
CROSS JOIN load AS l ON l.id = c.load
"""

_ANY_CLAIM = """
SELECT 1 FROM json_each(?) AS run
CROSS JOIN day_claim AS c ON c.nmi = json_extract(run.value, '$[0]')
  AND c.day BETWEEN json_extract(run.value, '$[1]') AND json_extract(run.value, '$[2]')
LIMIT 1
"""
_GLANCE = """
SELECT c.nmi, c.suffix, c.quality, c.nmi_configuration
FROM json_each(?) AS run
CROSS JOIN day_claim AS c ON c.nmi = json_extract(run.value, '$[0]')
  AND c.day BETWEEN json_extract(run.value, '$[1]') AND json_extract(run.value, '$[2]')
GROUP BY 1, 2, 3, 4
"""
_STANDING = f"""
WITH wanted AS MATERIALIZED (
  SELECT json_extract(value, '$[0]') AS nmi, json_extract(value, '$[1]') AS day FROM json_each(?))
SELECT {", ".join(column.name for column in STANDING_COLUMNS)} FROM (
  SELECT c.*, row_number() OVER (
    PARTITION BY c.nmi, c.day, c.suffix
    ORDER BY c.version_at DESC, c.file_at DESC, c.content_hash DESC, c.load DESC) AS place
  FROM wanted AS w
  CROSS JOIN day_claim AS c ON c.nmi = w.nmi AND c.day = w.day
  CROSS JOIN load AS l ON l.id = c.load
  WHERE l.state = 'published')
WHERE place = 1
"""  # noqa: S608 - no outside text
# AS MATERIALIZED: the JSON is taken apart once, not once per claim.
_INCOMING = """
WITH own AS MATERIALIZED (SELECT value AS load FROM json_each(?)),
incoming AS MATERIALIZED (
  SELECT json_extract(value, '$[0]') AS nmi, json_extract(value, '$[1]') AS day,
         json_extract(value, '$[2]') AS suffix, json_extract(value, '$[3]') AS version_at,
         json_extract(value, '$[5]') AS content_hash
  FROM json_each(?))
"""
_SAME_CONTENT = f"""{_INCOMING}
SELECT c.nmi, c.day, c.suffix, c.content_hash,
       max(l.state = 'published' OR c.load IN own) AS stands,
       max(l.state IN ('published', 'undone') OR c.load IN own) AS known
FROM (SELECT DISTINCT nmi, day, suffix, content_hash FROM incoming) AS i
CROSS JOIN day_claim AS c ON c.nmi = i.nmi AND c.day = i.day AND c.suffix = i.suffix
  AND c.content_hash = i.content_hash
CROSS JOIN load AS l ON l.id = c.load
GROUP BY 1, 2, 3, 4
"""  # noqa: S608 - no outside text
_SAME_STAMP = f"""{_INCOMING}
SELECT c.nmi, c.day, c.suffix, c.version_at, c.file_at, c.content_hash,
       max(l.state = 'published' OR c.load IN own) AS stands, max(c.load IN own) AS mine
FROM (SELECT DISTINCT nmi, day, suffix, version_at FROM incoming) AS i
CROSS JOIN day_claim AS c ON c.nmi = i.nmi AND c.day = i.day AND c.suffix = i.suffix
  AND c.version_at IS i.version_at
CROSS JOIN load AS l ON l.id = c.load
GROUP BY 1, 2, 3, 4, 5, 6
"""  # noqa: S608 - no outside text


def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _on_begin(conn: sa.Connection) -> None:
    writes = conn.get_execution_options().get("nemflow_writes", False)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
