"""Coverage: which days are there, where the gaps are, how much of it is estimated.

Look next: ``rollup.py`` for totals that say what they leave out.
"""

from __future__ import annotations

from datetime import date
from typing import Final

import polars as pl

GAP: Final = pl.List(pl.Struct({"start": pl.Date, "end": pl.Date}))
_STREAM = ["nmi", "suffix"]


def covered(
    days: pl.DataFrame, intervals: pl.DataFrame, first: date | None, last: date | None
) -> pl.DataFrame:
    """One row per stream; see ``Store.coverage``.

    Args:
        days: current days: nmi, suffix, day, uom, interval_minutes.
        intervals: their intervals: nmi, suffix, day, value, quality.
        first: count from this day on; None: from the stream's first.
        last: count to this day; None: to the stream's last.
    """
    flag = pl.when(pl.col("value").is_null()).then(pl.lit("N")).otherwise(pl.col("quality"))
    quality = intervals.group_by(_STREAM).agg(
        lost=pl.col("value").is_null().sum().cast(pl.Int64),
        estimated=(flag == "E").sum(),
        substituted=flag.is_in(["S", "F"]).sum(),
    )
    known = days.group_by(_STREAM).agg(
        pl.col("uom").sort_by("day").last(),
        pl.col("day").min().alias("first_day"),
        pl.col("day").max().alias("last_day"),
        pl.len().cast(pl.Int64).alias("days_present"),
        pl.col("interval_minutes").cast(pl.UInt16).unique().sort(),
    )
    edges = known.select(
        *_STREAM,
        low=pl.lit(first, pl.Date).fill_null(pl.col("first_day")),
        high=pl.lit(last, pl.Date).fill_null(pl.col("last_day")),
    )
    calendar = (
        edges.select(*_STREAM, day=pl.date_ranges("low", "high"))
        .explode("day")
        .join(
            days.select(*_STREAM, "day", length="interval_minutes"),
            on=[*_STREAM, "day"],
            how="left",
        )
        .sort(*_STREAM, "day")
        .with_columns(
            gone=pl.col("length").is_null(),
            length=pl.col("length")
            .forward_fill()
            .over(_STREAM)
            .fill_null(pl.col("length").backward_fill().over(_STREAM)),
        )
        .with_columns(expected=1440 // pl.col("length"))
    )
    spans = calendar.group_by(_STREAM).agg(
        days_expected=pl.len().cast(pl.Int64),
        days_missing=pl.col("gone").sum().cast(pl.Int64),
        intervals_expected=pl.col("expected").sum().cast(pl.Int64),
        absent=pl.col("expected").filter(pl.col("gone")).sum().cast(pl.Int64),
    )
    table = (
        known.join(spans, on=_STREAM)
        .join(quality, on=_STREAM)
        .join(_gaps(calendar), on=_STREAM, how="left")
        .with_columns(
            pl.col("gaps").fill_null(pl.lit([], GAP)),
            intervals_missing=pl.col("absent") + pl.col("lost"),
        )
    )
    whole = pl.col("intervals_expected")
    return table.select(
        *_STREAM,
        "uom",
        "first_day",
        "last_day",
        "days_expected",
        "days_present",
        "days_missing",
        "gaps",
        "intervals_expected",
        "intervals_missing",
        (pl.col("intervals_missing") / whole).alias("missing_share"),
        (pl.col("estimated") / whole).alias("estimated_share"),
        (pl.col("substituted") / whole).alias("substituted_share"),
        "interval_minutes",
    ).sort(_STREAM)


def _gaps(calendar: pl.DataFrame) -> pl.DataFrame:
    """Runs of missing days per stream."""
    return (
        calendar.with_columns(run=pl.col("gone").rle_id().over(_STREAM))
        .filter("gone")
        .group_by(*_STREAM, "run", maintain_order=True)
        .agg(start=pl.col("day").min(), end=pl.col("day").max())
        .group_by(_STREAM, maintain_order=True)
        .agg(gaps=pl.struct("start", "end"))
    )
