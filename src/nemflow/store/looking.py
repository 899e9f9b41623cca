"""What whoever is on call looks at: traffic, pace, and what a delivery has replaced.

Why: at 3 a.m. nobody writes SQL; and what is looked at every few seconds must be cheap.

Promises: traffic and pace read no further back than they are asked to, however large the ledger
is; what a delivery replaced is decided by the same order as who wins.

Look next: ``days.py`` for who wins; ``nemflow.console.overview``, which shows it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import sqlalchemy as sa

from nemflow.store import history
from nemflow.store.days import KEY, SORT_KEY
from nemflow.store.readings import decimals
from nemflow.store.review import best
from nemflow.store.tables import Big, day_claim, day_content, delivery, load, load_event

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

#: Unit of time -> how long its beginning is in ISO text, and how PostgreSQL writes it.
_UNITS: Final = {
    "hour": (13, 'YYYY-MM-DD"T"HH24'),
    "minute": (16, 'YYYY-MM-DD"T"HH24:MI'),
}
_MINUTES: Final = 24 * 60


class Looking:
    """The part of ``Store`` that the console looks at."""

    backend: Backend

    def traffic(self, hours: int = 24) -> pl.DataFrame:
        """Deliveries of the last hours by the hour they were received in and their state now.

        What was inside another delivery is not counted. Columns: at String (``2025-03-05T14``,
        market time), state, files Int64, bytes Int64; hours without any are left out.
        """
        return self.backend.look(lambda conn: traffic(conn, self.backend, hours))

    def pace(self, minutes: int = 60) -> pl.DataFrame:
        """What was published in the last minutes, by the minute.

        Columns: at String (``2025-03-05T14:31``, market time), files, days, reads, readings Int64
        (interval values, as many a day as the file's first day has); minutes without any are left
        out.
        """
        return self.backend.look(lambda conn: pace(conn, self.backend, minutes))

    def replaced(self, number: int, *, limit: int = 400) -> pl.DataFrame:
        """The days of a delivery beside what stood before it came: at most ``limit``.

        Columns: nmi, day, suffix, before_total, total Decimal (sum of the day; null: none, or it
        overflows), before_version_at, version_at, before_source (name of the delivery that
        brought it), before_delivery, change (new|changed|same|older: what stood is newer),
        current Boolean (whether this delivery's word counts now).

        Raises:
            NotFound: there is no such delivery.
        """
        return self.backend.look(lambda conn: replaced(conn, self.backend, number, limit))


def _begin_of(backend: Backend, column: Any, unit: str) -> sa.ColumnElement[str]:
    """The hour or minute an instant is in, as ISO text of market time."""
    length, form = _UNITS[unit]
    if backend.url.get_backend_name() == "sqlite":
        return sa.func.substr(column, 1, length, type_=sa.Text())
    there = sa.func.timezone("Etc/GMT-10", column)
    return sa.func.to_char(there, form, type_=sa.Text())


def traffic(conn: sa.Connection, backend: Backend, hours: int) -> pl.DataFrame:
    """See ``Looking.traffic``."""
    columns = delivery.c
    since = backend.now(conn) - timedelta(hours=hours)
    # numbers grow with time: the last one before decides where to begin, without an index of times
    before = (
        sa.select(columns.id)
        .where(columns.received_at < since)
        .order_by(columns.id.desc())
        .limit(1)
    )
    first = conn.execute(before).scalar() or 0
    at = _begin_of(backend, columns.received_at, "hour")
    return backend.fetch(
        conn,
        sa.select(
            at.label("at"),
            columns.state,
            sa.func.count().label("files"),
            sa.cast(sa.func.coalesce(sa.func.sum(columns.size), 0), Big).label("bytes"),
        )
        .where(columns.id > first, columns.parent.is_(None), columns.received_at >= since)
        .group_by(at, columns.state)
        .order_by(at, columns.state),
    ).with_columns(pl.col("files", "bytes").cast(pl.Int64))


def pace(conn: sa.Connection, backend: Backend, minutes: int) -> pl.DataFrame:
    """See ``Looking.pace``."""
    since = backend.now(conn) - timedelta(minutes=minutes)
    per_day = (
        sa.select(day_content.c.interval_minutes)
        .join(day_claim, sa.and_(*(day_claim.c[n] == day_content.c[n] for n in KEY),
                                 day_claim.c.content_hash == day_content.c.content_hash))
        .where(day_claim.c.load == load.c.id)
        .limit(1)
        .correlate(load)
        .scalar_subquery()
    )  # fmt: skip
    at = _begin_of(backend, load_event.c.at, "minute")
    taken = lambda of: load.c[f"{of}_stored"] + load.c[f"{of}_unchanged"]  # noqa: E731
    each = backend.fetch(
        conn,
        sa.select(
            at.label("at"),
            taken("days").label("days"),
            taken("reads").label("reads"),
            per_day.label("interval_minutes"),
        )
        .join(load, load.c.id == load_event.c.load)
        .where(load_event.c.at >= since, load_event.c.kind == "published"),
    )
    a_day = pl.lit(_MINUTES) // pl.col("interval_minutes").cast(pl.Int64).fill_null(30)
    return (
        each.with_columns(readings=pl.col("days").cast(pl.Int64) * a_day)
        .group_by("at")
        .agg(
            pl.len().cast(pl.Int64).alias("files"),
            pl.col("days", "reads", "readings").cast(pl.Int64).sum(),
        )
        .sort("at")
    )


def replaced(conn: sa.Connection, backend: Backend, number: int, limit: int) -> pl.DataFrame:
    """See ``Looking.replaced``."""
    history.must_be_there(conn, number)
    ours = _keys_of(number).limit(limit).subquery("ours")
    first = (
        sa.select(sa.func.min(load_event.c.seq))
        .where(load_event.c.load == load.c.id)
        .correlate(load)
        .scalar_subquery()
    )
    mine = sa.or_(delivery.c.id == number, delivery.c.parent == number)
    claims = backend.fetch(
        conn,
        sa.select(
            *(day_claim.c[name] for name in (*KEY, *SORT_KEY, "load", "total", "scale")),
            load.c.state,
            first.label("seq"),
            delivery.c.id.label("delivery"),
            delivery.c.name.label("source"),
            sa.case((mine, 1), else_=0).label("mine"),
        )
        .join(ours, sa.and_(*(ours.c[name] == day_claim.c[name] for name in KEY)))
        .join(load, load.c.id == day_claim.c.load)
        .join(delivery, delivery.c.id == load.c.delivery)
        .where(load.c.state.in_(["published", "undone"])),
    )
    return _beside(_with_totals(claims))


def _keys_of(number: int) -> sa.Select[Any]:
    """The days that a delivery, or what was inside it, has claimed; in order."""
    columns = [day_claim.c[name] for name in ("nmi", "day", "suffix")]
    return (
        sa.select(*columns)
        .join(load, load.c.id == day_claim.c.load)
        .join(delivery, delivery.c.id == load.c.delivery)
        .where(
            sa.or_(delivery.c.id == number, delivery.c.parent == number),
            load.c.state.in_(["published", "undone"]),
        )
        .distinct()
        .order_by(*columns)
    )


def _with_totals(claims: pl.DataFrame) -> pl.DataFrame:
    """Totals of different scales as decimals of one."""
    scale = int(claims["scale"].max() or 0) if claims.height else 0  # type: ignore[arg-type]
    scaled = pl.col("total").cast(pl.Int64) * 10 ** (scale - pl.col("scale").cast(pl.Int64))
    return decimals(claims.with_columns(total=scaled), scale, "total")


def _beside(claims: pl.DataFrame) -> pl.DataFrame:
    """Our word on each day beside the one that stood when it came."""
    seen = claims.with_columns(pl.col("mine").cast(pl.Boolean))
    ours = best(seen.filter("mine"), KEY)
    came = ours.select(*KEY, came="seq")
    others = seen.filter(~pl.col("mine")).join(came, on=KEY)
    before = best(others.filter(pl.col("seq") < pl.col("came")), KEY).select(
        *KEY,
        *(
            pl.col(name).alias(f"before_{name}")
            for name in ("total", *SORT_KEY, "source", "delivery")
        ),
    )
    now = best(seen.filter(pl.col("state") == "published"), KEY)
    now = now.select(*KEY, now_hash="content_hash", now_load="load")
    told = ours.join(before, on=KEY, how="left").join(now, on=KEY, how="left")
    newer = _greater("before_", "")
    change = (
        pl.when(pl.col("before_content_hash").is_null()).then(pl.lit("new"))
        .when(pl.col("before_content_hash") == pl.col("content_hash")).then(pl.lit("same"))
        .when(newer).then(pl.lit("older"))
        .otherwise(pl.lit("changed"))
    )  # fmt: skip
    return told.select(
        *KEY,
        "before_total",
        "total",
        "before_version_at",
        "version_at",
        "before_source",
        "before_delivery",
        change.alias("change"),
        (pl.col("now_load") == pl.col("load")).fill_null(value=False).alias("current"),
    ).sort("nmi", "day", "suffix")


def _greater(one: str, other: str) -> pl.Expr:
    """Whether one claim wins over another: SORT_KEY, null lowest."""
    result = pl.lit(value=False)
    for name in reversed(SORT_KEY):
        a, b = pl.col(f"{one}{name}"), pl.col(f"{other}{name}")
        more = (a > b).fill_null(a.is_not_null() & b.is_null())
        result = more | (a.eq_missing(b) & result)
    return result
