"""PostgreSQL: the engine for many users and many loaders.

Why these settings (measured): a cut link hangs libpq for minutes unless ``tcp_user_timeout`` is
set; rows that are appended without unique keys cannot deadlock; a partition made by ``PARTITION
OF`` blocks readers and deadlocks loaders, one made by ``LIKE`` + ``ATTACH`` in its own short
transaction does neither; looking keys up through a temporary table and LATERAL keeps the planner
on the index whatever it believes of the table.

Promises: as :class:`~nemflow.store.backends.base.Backend` asks; commit order is the order of
``clock.seq``, because its one row is updated last before COMMIT.

Look next: ``pgcopy.py`` for the bytes of COPY, ``views_postgres.py`` for the SQL people use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl
import sqlalchemy as sa

from nemflow import failpoints
from nemflow.errors import (
    MissingExtra,
    StoreAway,
    StoreBusy,
    StoreError,
    StoreOutdated,
    StoreUnreachable,
    StoreUnresolved,
)
from nemflow.store.backends import codec
from nemflow.store.backends.faults_postgres import explained
from nemflow.store.backends.partitions import Months
from nemflow.store.backends.pool import Pool
from nemflow.store.days import GLANCE, KEY, STANDING_COLUMNS, Met, met_in, runs
from nemflow.store.tables import (
    MARKET_OFFSET,
    PARTITIONED,
    SCHEMA_REVISION,
    Day,
    Exact,
    Stamp,
    day_claim,
    day_content,
    load,
)

if TYPE_CHECKING:
    import psycopg

    from nemflow.store.backends import patience

T = TypeVar("T")

#: Numbers of advisory locks; "nemf" in ASCII, then what is locked.
_LOCK = 0x6E656D66 << 8
_LOCK_SCHEMA = _LOCK + 1  #: + 2: ``partitions.py``
_LOCK_IDS = _LOCK + 3
_LOCK_TEXTS = _LOCK + 4
_SCHEMA_LOCK_SECONDS = 2  #: so long a change of the schema waits for a table, and holds others up
_TEXTS_LOCKED = 200  #: with up to 30 loaders at once this fits the server's default lock table


class PostgresBackend:
    """One PostgreSQL database (and schema, by the URL's search_path)."""

    def __init__(self, url: sa.URL, pool: Pool | None = None) -> None:
        try:
            import psycopg  # noqa: F401
            import stamina  # noqa: F401
        except ImportError as error:
            raise MissingExtra("A PostgreSQL store", "postgres") from error
        self.url = url
        self.pool: Pool | None = pool or Pool()
        self._pool = self.pool
        self._engine = _engine(url, self._pool)
        self._months = Months(self._engine)

    @property
    def _place(self) -> str:
        """The store as people may see it: without its password."""
        return self.url.render_as_string(hide_password=True)

    # -- open ---------------------------------------------------------------------------------

    def open(self, *, create: bool) -> None:
        """See ``Backend.open``."""
        found = self._schema()
        if found is None and not create:
            raise StoreUnreachable(
                f"There is no nemflow store in {self._place}.",
                hint="Load something first (nemflow load PATH), or make it: nemflow db upgrade",
            )
        if found is None:
            self.upgrade()
        elif found != SCHEMA_REVISION:
            self._refuse(found)

    def upgrade(self) -> list[str]:
        """See ``Backend.upgrade``. Whoever comes second waits, and finds it done."""
        from nemflow.store import schema

        def work(conn: sa.Connection) -> list[str]:
            conn.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK_SCHEMA,))
            found = self._schema()
            if found is not None and found not in schema.revisions():
                self._refuse(found)
            # a lock that is waited for holds up everybody behind it: rather give way, and try again
            conn.exec_driver_sql(f"SET LOCAL lock_timeout = '{_SCHEMA_LOCK_SECONDS}s'")
            return schema.upgrade(conn)

        return self.transact(work)

    def _schema(self) -> str | None:
        with self.reading() as conn:
            there = conn.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar()
            if there is None:
                return None
            version = conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            return None if version is None else str(version)

    def _refuse(self, found: str) -> None:
        from nemflow.store import schema

        if found in schema.revisions():
            raise StoreOutdated(
                f"The store {self._place} has the older schema {found}; this program needs "
                f"{SCHEMA_REVISION}.",
                hint="Bring it up to date with: nemflow db upgrade",
            )
        raise StoreOutdated(
            f"The store {self._place} has schema {found}, newer than this program's "
            f"{SCHEMA_REVISION}.",
            hint="Update nemflow: pip install --upgrade nemflow",
        )

    # -- transactions -------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """See ``Backend.reading``: one snapshot for the whole block."""
        with self._mapped(), self._engine.connect() as opened:
            # not READ ONLY: a look-up of many keys brings them in a temporary table
            yield opened.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """See ``Backend.writing``. READ COMMITTED: nothing here relies on a snapshot."""
        with self._mapped(), self._engine.connect() as conn:
            with conn.begin():
                if not durable:
                    conn.exec_driver_sql("SET LOCAL synchronous_commit TO off")
                yield conn
                failpoints.reach("before-commit")
            failpoints.reach("after-commit")

    def transact(
        self,
        work: Callable[[sa.Connection], T],
        *,
        durable: bool = True,
        happened: Callable[[sa.Connection], bool] | None = None,
    ) -> T:
        """See ``Backend.transact``."""
        from nemflow.store.backends.patience import patiently

        return patiently(lambda: self._once(work, happened, durable=durable), self._pool)

    def look(self, work: Callable[[sa.Connection], T]) -> T:
        """See ``Backend.look``."""
        from nemflow.store.backends.patience import patiently

        def once() -> T:
            with self.reading() as conn:
                return work(conn)

        return patiently(once, self._pool)

    def _once(
        self,
        work: Callable[[sa.Connection], T],
        happened: Callable[[sa.Connection], bool] | None,
        *,
        durable: bool,
    ) -> T:
        """One try. A COMMIT without an answer is looked into before anything else is done."""
        from nemflow.store.backends import patience

        session: patience.Session | None = None
        done: list[T] = []  # filled when nothing but COMMIT is left
        try:
            with self.writing(durable=durable) as conn:
                session = patience.session_of(conn)
                done.append(work(conn))
        except StoreAway as error:
            if session is None:
                raise
            if self._committed(session, happened if done else None, error):
                return done[0]
            raise
        return done[0]

    def _committed(
        self,
        session: patience.Session,
        happened: Callable[[sa.Connection], bool] | None,
        error: StoreAway,
    ) -> bool:
        """Whether the transaction of a lost session was committed; the session is gone after it."""
        from nemflow.store.backends import patience

        def ask() -> bool:
            with self._mapped(), self._engine.connect() as conn:
                patience.end(conn, session, self._pool)
                conn.rollback()  # a new snapshot
                return happened is not None and happened(conn)

        try:
            return patience.patiently(ask, self._pool)
        except StoreError:  # all connections in use is no answer either
            if happened is None:
                raise error from None
            raise StoreUnresolved(
                f"The link to {self._place} was cut while a change was being saved, and the "
                "server did not come back: whether it was saved is not known.",
                hint="Load again when the server is back: what was saved is recognised.",
            ) from error

    def now(self, conn: sa.Connection) -> datetime:
        """See ``Backend.now``: the server's clock, the same for every loader."""
        at: datetime = conn.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        return at.astimezone(MARKET_OFFSET)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except sa.exc.DBAPIError as error:
            raise explained(error.orig, self._place) from error
        except sa.exc.TimeoutError as error:
            raise StoreBusy(
                f"All connections to {self._place} are in use.",
                hint="Wait, or allow more connections (setting pool.size).",
            ) from error
        except psycopg.Error as error:
            raise explained(error, self._place) from error

    # -- rows ---------------------------------------------------------------------------------

    def append(self, conn: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
        """See ``Backend.append``: one binary COPY."""
        from nemflow.store.backends import pgcopy

        if frame.is_empty():
            return
        if table.name in PARTITIONED:
            self._months.make(table, frame["day"])
        if table is day_content:
            frame = codec.with_arrays(frame)
        columns = [table.c[name] for name in frame.columns]
        names = ", ".join(f'"{column.name}"' for column in columns)
        statement = f'COPY "{table.name}" ({names}) FROM STDIN WITH (FORMAT binary)'
        with _driver(conn).cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(pgcopy.encode(frame, columns))
            failpoints.reach("mid-copy")

    def update(self, conn: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
        """See ``Backend.update``: rows are locked in the order of their ids, then set at once."""
        if frame.is_empty():
            return
        names = [name for name in frame.columns if name != "id"]
        kinds = {n: table.c[n].type.compile(self._engine.dialect) for n in frame.columns}
        ids = frame["id"].to_list()
        conn.exec_driver_sql(
            f'SELECT 1 FROM "{table.name}" WHERE id = ANY(%s) ORDER BY id FOR UPDATE',  # noqa: S608
            (ids,),
        )
        arrays = ", ".join(f"%s::{kinds[name]}[]" for name in ("id", *names))
        listed = ", ".join(f'"{name}"' for name in ("id", *names))
        settings = ", ".join(f'"{name}" = v."{name}"' for name in names)
        conn.exec_driver_sql(
            f'UPDATE "{table.name}" AS t SET {settings} '  # noqa: S608
            f"FROM unnest({arrays}) AS v({listed}) WHERE t.id = v.id",
            tuple(frame[name].to_list() for name in ("id", *names)),
        )

    def fetch(self, conn: sa.Connection, statement: sa.Select[Any]) -> pl.DataFrame:
        """See ``Backend.fetch``."""
        columns = list(statement.selected_columns)
        rows = conn.execute(statement).fetchall()
        return _frame(rows, {str(column.name): column.type for column in columns})

    def reserve(self, conn: sa.Connection, table: sa.Table, count: int) -> int:
        """See ``Backend.reserve``: a sequence moved on by ``count`` under a short lock.

        The lock is not of the transaction: nobody waits for another's load to get a number.
        """
        if count < 1:
            return 0
        got = conn.exec_driver_sql(
            "SELECT nemflow_reserve(%s, %s, %s)", (f"{table.name}_number", count, _LOCK_IDS)
        ).scalar()
        return int(got)  # type: ignore[arg-type]

    def guard(self, conn: sa.Connection, hashes: Collection[str]) -> None:
        """See ``Backend.guard``: one advisory lock per text, in sorted order.

        The server's lock table is shared and small, so a large batch takes one lock that keeps
        out all others instead of thousands.
        """
        many = len(hashes) > _TEXTS_LOCKED
        how = "pg_advisory_xact_lock" if many else "pg_advisory_xact_lock_shared"
        conn.exec_driver_sql(f"SELECT {how}(%s)", (_LOCK_TEXTS,))
        if not many:
            keys = sorted({int(text[:15], 16) for text in hashes})
            for key in keys:
                conn.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (key,))

    def tick(self, conn: sa.Connection) -> tuple[int, datetime]:
        """See ``Backend.tick``."""
        seq, at = conn.exec_driver_sql(
            "UPDATE clock SET seq = seq + 1, "
            "at = greatest(clock_timestamp(), at + interval '1 microsecond') RETURNING seq, at"
        ).one()
        return int(seq), at.astimezone(MARKET_OFFSET)

    def claims_of(self, conn: sa.Connection, keys: pl.DataFrame) -> pl.DataFrame:
        """See ``Backend.claims_of``: runs of consecutive days, each one range of the key index."""
        types = {column.name: column.type for column in (*_CLAIM_COLUMNS, load.c.state)}
        spans = runs(keys)
        given = tuple(spans[name].to_list() for name in ("nmi", "first", "last"))
        with _driver(conn).cursor() as cursor:
            rows = cursor.execute(_CLAIMS_OF, given).fetchall()
        found = _frame(rows, types)
        return found.join(keys, on=KEY, how="semi") if rows else found

    def met(self, conn: sa.Connection, days: pl.DataFrame, own: Collection[int]) -> Met:
        """See ``Backend.met``."""
        return met_in(self.claims_of(conn, days.select(KEY).unique()), own)

    def glance(self, conn: sa.Connection, days: pl.DataFrame) -> pl.DataFrame:
        """See ``Backend.glance``."""
        spans = runs(days)
        given = tuple(spans[name].to_list() for name in ("nmi", "first", "last"))
        with _driver(conn).cursor() as cursor:
            rows = cursor.execute(_GLANCE, given).fetchall()
        return _frame(rows, GLANCE)

    def standing(self, conn: sa.Connection, days: pl.DataFrame) -> pl.DataFrame:
        """See ``Backend.standing``."""
        wanted = days.select("nmi", "day").unique().sort("nmi", "day")
        with _driver(conn).cursor() as cursor:
            given = (wanted["nmi"].to_list(), wanted["day"].to_list())
            rows = cursor.execute(_STANDING, given).fetchall()
        return _frame(rows, {column.name: column.type for column in STANDING_COLUMNS})

    def settle(self) -> None:
        """See ``Backend.settle``: nothing to do, the server looks after itself."""

    def close(self) -> None:
        """See ``Backend.close``."""
        self._engine.dispose()

    def connections(self) -> tuple[int, int] | None:
        """See ``Backend.connections``."""
        pool = self._engine.pool
        return (pool.checkedout(), pool.size()) if isinstance(pool, sa.QueuePool) else None


_CLAIM_COLUMNS = [
    day_claim.c[name]
    for name in ("nmi", "day", "suffix", "version_at", "file_at", "content_hash", "load")
]
_CLAIMS_OF = """
SELECT c.nmi, c.day, c.suffix, c.version_at, c.file_at, c.content_hash, c.load, l.state
FROM unnest(%s::text[], %s::date[], %s::date[]) AS w (nmi, first, last)
CROSS JOIN LATERAL (
  SELECT d.nmi, d.day, d.suffix, d.version_at, d.file_at, d.content_hash, d.load
  FROM day_claim AS d
  WHERE d.nmi = w.nmi COLLATE "C" AND d.day BETWEEN w.first AND w.last OFFSET 0) AS c
JOIN load AS l ON l.id = c.load
"""
_GLANCE = """
SELECT w.nmi, c.suffix, c.quality, c.nmi_configuration
FROM unnest(%s::text[], %s::date[], %s::date[]) AS w (nmi, first, last)
CROSS JOIN LATERAL (
  SELECT d.quality, d.nmi_configuration, d.suffix
  FROM day_claim AS d WHERE d.nmi = w.nmi COLLATE "C" AND d.day BETWEEN w.first AND w.last
) AS c GROUP BY w.nmi, c.suffix, c.quality, c.nmi_configuration
"""
_STANDING = f"""
SELECT {", ".join(f"c.{column.name}" for column in STANDING_COLUMNS)}
FROM unnest(%s::text[], %s::date[]) AS w (nmi, day)
CROSS JOIN LATERAL (
  SELECT DISTINCT ON (d.suffix) d.* FROM day_claim AS d JOIN load AS l ON l.id = d.load
  WHERE d.nmi = w.nmi COLLATE "C" AND d.day = w.day AND l.state = 'published'
  ORDER BY d.suffix, d.version_at DESC NULLS LAST, d.file_at DESC NULLS LAST,
    d.content_hash DESC, d.load DESC) AS c
"""  # noqa: S608 - no outside text


def _engine(url: sa.URL, pool: Pool) -> sa.Engine:
    """A pooled engine with every time-out set."""
    from nemflow.store.backends.patience import remember_session

    settings = {
        "statement_timeout": pool.statement_seconds * 1000,
        "lock_timeout": pool.lock_seconds * 1000,
        "idle_in_transaction_session_timeout": pool.idle_in_transaction_seconds * 1000,
    }
    given = url.query.get("options", "")
    text = given if isinstance(given, str) else " ".join(given)
    options = " ".join([*(f"-c {name}={value}" for name, value in settings.items()), text])
    plain = url.set(drivername="postgresql+psycopg").difference_update_query(["options"])
    engine = sa.create_engine(
        plain,
        pool_size=pool.size,
        max_overflow=pool.overflow,
        pool_timeout=pool.wait_seconds,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": pool.connect_seconds,
            "tcp_user_timeout": pool.tcp_user_timeout_ms,
            "keepalives_idle": 30,
            "application_name": "nemflow",
            "options": options.strip(),
        },
    )
    sa.event.listen(engine, "connect", remember_session)
    return engine


def _driver(conn: sa.Connection) -> psycopg.Connection[Any]:
    """The psycopg connection below, for COPY."""
    raw: psycopg.Connection[Any] | None = conn.connection.driver_connection
    assert raw is not None  # noqa: S101 - for the type checker
    return raw


def _frame(rows: Collection[Any], types: dict[str, Any]) -> pl.DataFrame:
    """Driver rows as a frame: instants in market time, days as Date, exact decimals."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(types)
    return pl.DataFrame(
        [
            _series(name, column, kind)
            for (name, kind), column in zip(types.items(), columns, strict=True)
        ]
    )


def _stamps(values: Sequence[Any]) -> pl.Series:
    utc = pl.Series(values, dtype=pl.Datetime("us", "UTC"))
    return utc.dt.convert_time_zone(codec.MARKET)


def _decimals(values: Sequence[Any]) -> pl.Series:
    return codec.exact_decimals(
        pl.Series([None if value is None else f"{value:f}" for value in values], dtype=pl.String)
    )


#: How the driver's values of each kind of column become a series; the first that fits counts.
_SERIES: tuple[tuple[type[Any], Callable[[Sequence[Any]], pl.Series]], ...] = (
    (Stamp, _stamps),
    (Day, lambda values: pl.Series(values, dtype=pl.Date)),
    (Exact, _decimals),
    (sa.Boolean, lambda values: pl.Series(values, dtype=pl.Boolean)),
    (sa.Integer, lambda values: pl.Series(values, dtype=pl.Int64)),
    (sa.Float, lambda values: pl.Series(values, dtype=pl.Float64)),
    (object, lambda values: pl.Series(values, dtype=pl.String)),
)


def _series(name: str, values: Sequence[Any], kind: Any) -> pl.Series:
    make = next(make for known, make in _SERIES if isinstance(kind, known))
    return make(values).alias(name)
