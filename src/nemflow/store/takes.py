"""Who used what, and what of it has changed since.

Why: a bill made from readings that were corrected afterwards must be found. A consumer (billing,
settlement, a forecast) takes readings under its name; the store remembers what it asked for and
the commit number as of which it was answered.

How: what a consumer holds of a day is what was known at that number, and *as known on* never
changes. So a take is one row per range asked for, not one per day: days that had no data then are
covered too, and a take costs two small inserts however many days it spans.

Promises: of several takes of a day the last recorded counts. A take is recorded after its answer
is complete, with the number of the snapshot that answered: a commit that lands in between has a
greater number and is told as a change; a take that was never recorded (the process died) leaves
its days on the list. Something may be told twice, nothing is lost.

Look next: ``moments.py`` compares; ``feed.py`` tells every commit in order.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

import polars as pl
import sqlalchemy as sa

from nemflow.errors import NotFound, UsageError
from nemflow.store import known, moments
from nemflow.store.days import KEY
from nemflow.store.tables import (
    MARKET_OFFSET,
    consumer_range,
    consumer_take,
    day_claim,
    load,
    load_event,
)

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

_RANGE = ["nmi", "suffix", "first", "last"]
_NAME_LENGTH = 100
#: NMIs looked for in one statement: few enough that the index of the key serves when they are
#: few among many changes, and that of the load when the changes are few.
_NMIS_AT_ONCE = 500
#: Up to so many days committed per NMI that was asked for, they are looked at without naming NMIs.
_DAYS_PER_NMI = 20


def checked_name(consumer: str) -> str:
    """The consumer's name without blanks around it. Raises UsageError when it is none."""
    name = consumer.strip()
    if not name or len(name) > _NAME_LENGTH or not name.isprintable():
        raise UsageError(
            f"{consumer!r} is no name for a consumer.", hint="Use a short one, such as billing."
        )
    return name


def asked(
    nmis: Sequence[str] | None,
    suffixes: Sequence[str] | None,
    first: date | None,
    last: date | None,
) -> pl.DataFrame:
    """What was asked for as rows of ``consumer_range``: every NMI with every stream."""
    spans = pl.DataFrame(
        {"first": [first], "last": [last]}, schema={"first": pl.Date, "last": pl.Date}
    )
    return (
        pl.DataFrame({"nmi": [None] if nmis is None else list(nmis)}, schema={"nmi": pl.String})
        .join(
            pl.DataFrame(
                {"suffix": [None] if suffixes is None else list(suffixes)},
                schema={"suffix": pl.String},
            ),
            how="cross",
        )
        .join(spans, how="cross")
        .unique(maintain_order=True)
    )


def record(backend: Backend, consumer: str, *, seq: int, how: str, ranges: pl.DataFrame) -> int:
    """Write down a take, in a short transaction of its own; returns its number.

    On PostgreSQL it waits for nobody; on SQLite it holds the write lock for a few rows.
    """
    number = 0

    def write(conn: sa.Connection) -> int:
        nonlocal number
        number = backend.reserve(conn, consumer_take, 1)
        conn.execute(
            sa.insert(consumer_take).values(
                id=number,
                consumer=consumer,
                seq=seq,
                at=datetime.now(MARKET_OFFSET),
                how=how,
            )
        )
        backend.append(
            conn,
            consumer_range,
            ranges.select(
                *_RANGE,
                take=pl.lit(number, pl.Int64),
                consumer=pl.lit(consumer),
                seq=pl.lit(seq, pl.Int64),
            ),
        )
        return number

    def written(conn: sa.Connection) -> bool:
        own = sa.select(consumer_take.c.id).where(
            consumer_take.c.id == number, consumer_take.c.consumer == consumer
        )
        return conn.execute(own).first() is not None

    backend.transact(write, happened=written)
    return number


def taken(conn: sa.Connection, backend: Backend, consumer: str | None) -> pl.DataFrame:
    """Takes with their ranges, newest first; see ``Store.consumers``."""
    rows = consumer_range.c
    question = (
        sa.select(
            consumer_take.c.consumer,
            consumer_take.c.id.label("take"),
            consumer_take.c.at,
            consumer_take.c.seq,
            consumer_take.c.how,
            sa.func.count(rows.nmi.distinct()).label("nmis"),
            sa.func.min(rows.nmi).label("nmi"),
            sa.func.count(rows.suffix.distinct()).label("streams"),
            sa.func.min(rows.suffix).label("suffix"),
            sa.func.min(rows.first, type_=rows.first.type).label("first_day"),
            sa.func.max(rows.last, type_=rows.last.type).label("last_day"),
        )
        .join(consumer_range, rows.take == consumer_take.c.id)
        .group_by(
            consumer_take.c.consumer,
            consumer_take.c.id,
            consumer_take.c.at,
            consumer_take.c.seq,
            consumer_take.c.how,
        )
        .order_by(consumer_take.c.id.desc())
    )
    if consumer is not None:
        question = question.where(consumer_take.c.consumer == consumer)
    found = backend.fetch(conn, question)
    return found.with_columns(
        pl.when(pl.col("nmis") > 0).then("nmis"),  # null: every NMI
        pl.when(pl.col("nmis") == 1).then("nmi"),
        pl.when(pl.col("streams") == 1).then("suffix"),
    ).drop("streams")


def changed(
    conn: sa.Connection,
    backend: Backend,
    consumer: str,
    *,
    since: int = 0,
    nmis: Collection[str] | None = None,
) -> pl.DataFrame:
    """Days whose current content is not what the consumer took last; see ``Store.changes``.

    Raises:
        NotFound: nobody of this name ever took anything.
    """
    now = known.last_seq(conn)
    ranges = _ranges(conn, backend, consumer, nmis)
    few = _few(conn, ranges)
    touched = [
        _touched(conn, backend, some, since, nmis, whole=few)
        for some in ([ranges] if few else _parts(ranges))
    ]
    days = pl.concat([_no_days().select(*KEY, "changed_seq"), *touched])
    days = (
        _last_takes(days.group_by(KEY).agg(pl.col("changed_seq").max()), ranges)
        .filter(pl.col("changed_seq") > pl.col("seq"))
        .with_columns(before=pl.col("seq"), after=pl.lit(now, pl.Int64))
    )
    return _differing(conn, backend, days.select(*KEY, "changed_seq", "take", "before", "after"))


def changed_since(
    conn: sa.Connection, backend: Backend, since: int, nmis: Collection[str] | None
) -> pl.DataFrame:
    """Days whose current content is not what it was as known on ``since``."""
    now = known.last_seq(conn)
    every = asked(None, None, None, None).with_columns(
        take=pl.lit(None, pl.Int64), seq=pl.lit(since, pl.Int64)
    )
    days = _touched(conn, backend, every, since, nmis).with_columns(
        take=pl.lit(None, pl.Int64),
        before=pl.lit(since, pl.Int64),
        after=pl.lit(now, pl.Int64),
    )
    return _differing(conn, backend, days)


def _no_days() -> pl.DataFrame:
    numbers = ("changed_seq", "take", "before", "after")
    return pl.DataFrame(
        schema={"nmi": pl.String, "day": pl.Date, "suffix": pl.String}
        | dict.fromkeys(numbers, pl.Int64)
    )


def _differing(conn: sa.Connection, backend: Backend, days: pl.DataFrame) -> pl.DataFrame:
    """Only the days whose content differs, with both sides told."""
    told = moments.compared(conn, backend, days)
    kind = (
        pl.when(pl.col("before_hash").is_null())
        .then(pl.lit("new"))
        .when(pl.col("after_hash").is_null())
        .then(pl.lit("withdrawn"))
        .otherwise(pl.lit("revised"))
    )
    names = [f"{side}_{name}" for name in moments.TOLD for side in ("before", "after")]
    return (
        told.filter(pl.col("before_hash").ne_missing(pl.col("after_hash")))
        .with_columns(kind=kind, taken_seq=pl.col("before"))
        .select("nmi", "suffix", "day", "kind", *names, "take", "taken_seq", "changed_seq")
        .drop("before_file_at", "after_file_at")
        .sort("nmi", "suffix", "day")
    )


def _ranges(
    conn: sa.Connection, backend: Backend, consumer: str, nmis: Collection[str] | None
) -> pl.DataFrame:
    """What the consumer asked for; of equal ranges only the last take."""
    rows = consumer_range.c
    own = sa.select(*(rows[name] for name in _RANGE), sa.func.max(rows.take).label("take"))
    own = own.where(rows.consumer == consumer).group_by(*(rows[name] for name in _RANGE))
    latest = own.subquery("latest")
    found = backend.fetch(
        conn,
        sa.select(*latest.c, consumer_take.c.seq).join(
            consumer_take, consumer_take.c.id == latest.c.take
        ),
    )
    if found.is_empty():
        raise NotFound(
            f"Nobody ever took anything as {consumer!r}.",
            hint="See who did: nemflow consumers; take something: nemflow readings NMI --as NAME",
        )
    if nmis is not None:
        found = found.filter(pl.col("nmi").is_null() | pl.col("nmi").is_in(list(nmis)))
    return found


def _few(conn: sa.Connection, ranges: pl.DataFrame) -> bool:
    """Whether so little was committed since that to look at all of it beats looking NMI by NMI."""
    oldest = int(ranges["seq"].min() or 0)  # type: ignore[arg-type]
    days = sa.func.sum(load.c.days_stored + load.c.days_unchanged)
    since = sa.select(days).join(load_event, load_event.c.load == load.c.id)
    committed = conn.execute(since.where(load_event.c.seq > oldest)).scalar()
    return int(committed or 0) <= _DAYS_PER_NMI * ranges["nmi"].n_unique()


def _parts(ranges: pl.DataFrame) -> list[pl.DataFrame]:
    """Ranges of every NMI together; the others by some hundred NMIs, alike in age."""
    every = ranges.filter(pl.col("nmi").is_null())
    named = ranges.filter(pl.col("nmi").is_not_null())
    oldest = named.group_by("nmi").agg(pl.col("seq").min()).sort("seq", "nmi")
    alike = [
        named.join(some.select("nmi"), on="nmi", how="semi")
        for some in oldest.iter_slices(_NMIS_AT_ONCE)
    ]
    return alike if every.is_empty() else [every, *alike]


def _touched(
    conn: sa.Connection,
    backend: Backend,
    ranges: pl.DataFrame,
    since: int,
    nmis: Collection[str] | None,
    *,
    whole: bool = False,
) -> pl.DataFrame:
    """Days within these ranges' bounds that a later commit said anything about.

    ``whole``: of every NMI (of ``nmis``), not only of those in the ranges.

    Columns: KEY and ``changed_seq``, the last commit that did.
    """
    low = max(since, int(ranges["seq"].min() or 0))  # type: ignore[arg-type]
    columns = day_claim.c
    question = (
        sa.select(
            *(columns[name] for name in KEY), sa.func.max(load_event.c.seq).label("changed_seq")
        )
        .join(load_event, load_event.c.load == columns.load)
        .where(load_event.c.seq > low)
        .group_by(*(columns[name] for name in KEY))
    )
    if not ranges["first"].has_nulls():
        question = question.where(columns.day >= ranges["first"].min())
    if not ranges["last"].has_nulls():
        question = question.where(columns.day <= ranges["last"].max())
    if whole or ranges["nmi"].has_nulls():
        if nmis is None:
            return backend.fetch(conn, question)
        wanted = sorted(nmis)
    else:
        wanted = ranges["nmi"].unique().sort().to_list()
    parts = [
        backend.fetch(conn, question.where(columns.nmi.in_(wanted[at : at + _NMIS_AT_ONCE])))
        for at in range(0, len(wanted), _NMIS_AT_ONCE)
    ]
    return pl.concat(parts) if parts else _no_days().select(*KEY, "changed_seq")


def _last_takes(days: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    """Days that lie in a range, with the last ``take`` among those that cover them, its ``seq``."""
    named = ranges.filter(pl.col("nmi").is_not_null())
    covering = [
        days.join(named, on="nmi", suffix="_asked")
        .filter(
            pl.col("suffix_asked").is_null() | (pl.col("suffix_asked") == pl.col("suffix")),
            pl.col("first").is_null() | (pl.col("first") <= pl.col("day")),
            pl.col("last").is_null() | (pl.col("last") >= pl.col("day")),
        )
        .select(*days.columns, "take", "seq")
    ]
    for row in ranges.filter(pl.col("nmi").is_null()).iter_rows(named=True):
        inside = pl.lit(value=True)
        if row["suffix"] is not None:
            inside &= pl.col("suffix") == row["suffix"]
        if row["first"] is not None:
            inside &= pl.col("day") >= row["first"]
        if row["last"] is not None:
            inside &= pl.col("day") <= row["last"]
        covering.append(
            days.filter(inside).with_columns(
                take=pl.lit(row["take"], pl.Int64), seq=pl.lit(row["seq"], pl.Int64)
            )
        )
    return pl.concat(covering).sort("take", descending=True).unique(KEY, keep="first")
