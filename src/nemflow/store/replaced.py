"""What a delivery has replaced: its days beside those that stood before.

Why: "which numbers did this file change, and what were they" is the question after every upload
that somebody doubts.

Promises: what stood before is decided by the same order as who wins, among what was published
before; what was undone since counts as it did then.

Look next: ``days.py`` for who wins; ``nemflow.console.delivery``, which shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from nemflow.store import history
from nemflow.store.days import KEY, SORT_KEY
from nemflow.store.readings import decimals
from nemflow.store.review import best
from nemflow.store.tables import day_claim, delivery, load, load_event

if TYPE_CHECKING:
    from nemflow.store.backends import Backend


class Replacing:
    """The part of ``Store`` that compares a delivery with what stood before it."""

    backend: Backend

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


def replaced(conn: sa.Connection, backend: Backend, number: int, limit: int) -> pl.DataFrame:
    """See ``Replacing.replaced``."""
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
