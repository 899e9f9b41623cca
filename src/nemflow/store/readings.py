"""Winners to intervals: one row per interval, with exact value and its own quality.

Why: people ask for readings; the store keeps days.

Promises: values stay integers until the last step, then become decimals; the quality of an
interval is that of the 400 that covers it, else the 300's; a missing value is null.

Look next: ``days.py`` for who wins, ``rollup.py`` for hours, days and months.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import sqlalchemy as sa

from nemflow.mdff.meterdata import SPAN
from nemflow.mdff.quality import segments
from nemflow.store.backends.codec import MARKET, STAMP
from nemflow.store.days import KEY, winners, with_content
from nemflow.store.tables import MARKET_OFFSET, day_claim

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

_MINUTE_US = 60_000_000
_MIDNIGHT_US = 10 * 60 * _MINUTE_US  # market midnight is 14:00 UTC of the day before
OWN = ("quality", "method", "reason_code", "reason_text")

RAW = [
    "nmi",
    "suffix",
    "day",
    "interval_start",
    "interval_end",
    "value",
    "uom",
    *OWN,
    "interval_minutes",
    "register_id",
    "meter_serial",
    "version_at",
    "file_at",
    "file",
]


def current_days(
    conn: sa.Connection,
    backend: Backend,
    nmi: str,
    *,
    first: date | None = None,
    last: date | None = None,
    suffixes: Collection[str] | None = None,
    known: int | None = None,
) -> pl.DataFrame:
    """The winning days of one NMI with their content, in order of suffix and day."""
    where: list[sa.ColumnElement[bool]] = []
    if first is not None:
        where.append(day_claim.c.day >= first)
    if last is not None:
        where.append(day_claim.c.day <= last)
    if suffixes is not None:
        where.append(day_claim.c.suffix.in_(list(suffixes)))
    return days_of(conn, backend, [nmi], *where, known=known)


def days_of(
    conn: sa.Connection,
    backend: Backend,
    nmis: Collection[str],
    *where: sa.ColumnElement[bool],
    known: int | None = None,
) -> pl.DataFrame:
    """The winning days of some NMIs with their content, in order of NMI, suffix and day."""
    found = backend.fetch(
        conn, with_content(winners(known, day_claim.c.nmi.in_(list(nmis)), *where))
    )
    return found.unique(KEY, keep="first").sort("nmi", "suffix", "day")


def intervals(days: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Days with content as intervals.

    Returns:
        Frame with the columns of ``RAW``, ``value`` being Int128 scaled by the returned scale.
    """
    values, scale = scaled_values(days)
    frame = days.with_columns(values, _spans(days["spans"]))
    frame = frame.with_columns(
        pl.col("reason_code").cast(pl.Int16), per_day=pl.col("values").list.len()
    )
    if (frame["spans"].list.len() > 0).any():
        pieces = segments(frame)
        frame = frame.drop(OWN)[pieces["place"]].with_columns(
            pieces["start"], *(pieces[name] for name in OWN)
        )
        frame = frame.with_columns(pieces["end"].alias("until")).with_columns(
            pl.col("values").list.slice(pl.col("start") - 1, pl.col("until") - pl.col("start") + 1)
        )
        first = pl.col("start").cast(pl.Int64) - 1
    else:
        first = pl.lit(0, pl.Int64)
    step = pl.col("interval_minutes") * _MINUTE_US
    midnight = pl.col("day").cast(pl.Datetime("us")).cast(pl.Int64) - _MIDNIGHT_US
    opens = midnight + first * step
    closes = opens + pl.col("values").list.len().cast(pl.Int64) * step
    told = [name for name in RAW if name in frame.columns]  # what each interval repeats
    frame = frame.select(
        *told,
        pl.int_ranges(opens, closes, step).alias("interval_start"),
        pl.col("values").alias("value"),
    ).explode("interval_start", "value", empty_as_null=False)
    return frame.with_columns(
        pl.col("interval_start").cast(STAMP),
        (pl.col("interval_start") + step).cast(STAMP).alias("interval_end"),
        pl.col("reason_code").cast(pl.Int16),
        pl.col("interval_minutes").cast(pl.UInt16),
    ).select(RAW), scale


def scaled_values(days: pl.DataFrame) -> tuple[pl.Series, int]:
    """The days' values as lists of Int128 at one scale, and that scale."""
    exact = days["exact_values"].is_not_null()
    scale = int(days["scale"].max() or 0)  # type: ignore[arg-type]
    plain = (
        days.select(text="scaled_values", scale="scale")
        .with_row_index("place")
        .with_columns(pl.col("text").str.strip_chars("[]{}").str.split(","))
        .explode("text", empty_as_null=False)
        .with_columns(value=pl.col("text").cast(pl.Int64, strict=False).cast(pl.Int128))
    )
    lift = plain["scale"].n_unique() > 1
    if lift:
        powers = {s: 10 ** (scale - s) for s in plain["scale"].unique().to_list()}
        factor = plain["scale"].replace_strict(powers, return_dtype=pl.Int128)
        plain = plain.with_columns(value=pl.col("value") * factor)
    flat = plain.select("place", "value")
    if exact.any():
        flat = flat.filter(~exact.gather(flat["place"]))
        flat = pl.concat([flat, _exact(days, scale)]).sort("place", maintain_order=True)
    lists = flat.group_by("place", maintain_order=True).agg("value")
    return lists["value"].alias("values"), scale


def _exact(days: pl.DataFrame, scale: int) -> pl.DataFrame:
    """The rare days whose values do not fit 64-bit integers."""
    return (
        days.select(text="exact_values")
        .with_row_index("place")
        .filter(pl.col("text").is_not_null())
        .with_columns(pl.col("text").str.strip_chars("[]").str.replace_all('"', "").str.split(","))
        .explode("text", empty_as_null=False)
        .with_columns(pl.col("text").replace("null", None).cast(pl.Decimal(38, scale)))
        .select("place", value=pl.col("text").reinterpret(dtype=pl.Int128))
    )


def _spans(text: pl.Series) -> pl.Series:
    """JSON rows of 400s as lists of structs. Most days have none; equal texts are read once."""
    none = pl.lit([], dtype=pl.List(SPAN))
    days = pl.DataFrame({"text": text}).with_row_index("place")
    told = days.filter(pl.col("text") != "[]")
    if told.is_empty():
        return days.with_columns(spans=none)["spans"]
    read = {each: json.loads(each) for each in told["text"].unique()}
    rows = [(place, *row) for place, each in told.iter_rows() for row in read[each]]
    names = [field.name for field in SPAN.fields]
    types = {"place": pl.UInt32, **{field.name: field.dtype for field in SPAN.fields}}
    lists = (
        pl.DataFrame(rows, schema=types, orient="row")
        .group_by("place", maintain_order=True)
        .agg(spans=pl.struct(names))
    )
    joined = days.join(lists, on="place", how="left", maintain_order="left")
    return joined.select(pl.col("spans").fill_null(none)).to_series()


def decimals(frame: pl.DataFrame, scale: int, name: str = "value") -> pl.DataFrame:
    """The scaled column as ``Decimal(38, scale)``."""
    return frame.with_columns(pl.col(name).cast(pl.Int128).reinterpret(dtype=pl.Decimal(38, scale)))


def span_of(
    start: date | datetime | None, end: date | datetime | None
) -> tuple[date | None, date | None, datetime | None, datetime | None]:
    """What was asked, as first day, last day (both included), earliest start, latest end."""
    first, opens = _edge(start)
    last, closes = _edge(end)
    if closes is not None and closes.time() == datetime.min.time():
        last = closes.date() - timedelta(days=1)
    return first, last, opens, closes


def _edge(given: date | datetime | None) -> tuple[date | None, datetime | None]:
    if isinstance(given, datetime):
        aware = given if given.tzinfo is not None else given.replace(tzinfo=MARKET_OFFSET)
        local = aware.astimezone(MARKET_OFFSET)
        return local.date(), local
    return given, None


def within(frame: pl.DataFrame, opens: datetime | None, closes: datetime | None) -> pl.DataFrame:
    """Only intervals that lie wholly between the two instants."""
    if opens is not None:
        frame = frame.filter(pl.col("interval_start") >= pl.lit(opens).dt.convert_time_zone(MARKET))
    if closes is not None:
        frame = frame.filter(pl.col("interval_end") <= pl.lit(closes).dt.convert_time_zone(MARKET))
    return frame
