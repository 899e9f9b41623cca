"""Roll-ups: half hours, hours, days and months out of intervals, honestly.

Why: a total that silently leaves out missing intervals is worse than none.

Promises: energy is summed, everything else averaged, over integers; every roll-up says how many
intervals it should have had, how many are missing, how many are estimated or substituted, and
the weakest quality within; days that were never delivered count as missing.

Spec: 5.4 (never sum volts), 5.7 (ranking). Look next: ``coverage.py`` for where the holes are.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final

import polars as pl

from nemflow.mdff.quality import RANKING
from nemflow.store.backends.codec import MARKET, STAMP

EVERY: Final = {"30min": "30m", "hour": "1h", "day": "1d", "month": "1mo"}
#: Further decimals of an average, so that it is as good as its parts.
MEAN_DIGITS: Final = 3
_STREAM = ["nmi", "suffix"]
_US_PER_DAY = 86_400_000_000


def with_absent_days(
    frame: pl.DataFrame, resolution: str, first: date | None, last: date | None, *, around: int = 0
) -> pl.DataFrame:
    """Add missing intervals for days nobody delivered, as long as those of the day before.

    Holes between a stream's first and last day are filled; for months also the rest of the first
    and last month, as far as ``first`` and ``last`` ask for it; and so many days ``around``.
    """
    present = frame.select(*_STREAM, "day", "uom", "interval_minutes").unique([*_STREAM, "day"])
    edges = present.group_by(_STREAM).agg(low=pl.col("day").min(), high=pl.col("day").max())
    if around:
        edges = edges.with_columns(
            pl.col("low").dt.offset_by(f"-{around}d"), pl.col("high").dt.offset_by(f"{around}d")
        )
    if resolution == "month":
        edges = edges.with_columns(
            pl.col("low").dt.month_start(), pl.col("high").dt.month_end()
        ).with_columns(
            pl.max_horizontal(pl.col("low"), pl.lit(first, pl.Date)),
            pl.min_horizontal(pl.col("high"), pl.lit(last, pl.Date)),
        )
    every = edges.select(*_STREAM, day=pl.date_ranges("low", "high")).explode("day")
    absent = (
        every.join(present, on=[*_STREAM, "day"], how="left")
        .sort(*_STREAM, "day")
        .with_columns(
            missing=pl.col("uom").is_null(),
            uom=_nearest("uom"),
            interval_minutes=_nearest("interval_minutes"),
        )
        .filter("missing")
    )
    if absent.is_empty():
        return frame
    step = pl.col("interval_minutes").cast(pl.Int64) * 60_000_000
    midnight = pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone(MARKET).cast(pl.Int64)
    holes = (
        absent.with_columns(
            interval_start=pl.int_ranges(midnight, midnight + _US_PER_DAY, step), step=step
        )
        .explode("interval_start")
        .with_columns(
            interval_end=(pl.col("interval_start") + pl.col("step")).cast(STAMP),
            quality=pl.lit("N"),
        )
        .with_columns(pl.col("interval_start").cast(STAMP))
        .drop("missing", "step")
    )
    return pl.concat([frame, holes], how="diagonal_relaxed")


def _nearest(name: str) -> pl.Expr:
    column = pl.col(name)
    return column.forward_fill().over(_STREAM).fill_null(column.backward_fill().over(_STREAM))


def rolled(frame: pl.DataFrame, scale: int, resolution: str) -> tuple[pl.DataFrame, int]:
    """Intervals (``value`` scaled by ``scale``) as periods; see ``Store.readings``.

    Returns:
        One row per stream, unit and period; ``value`` scaled by the returned scale.
    """
    rank = {flag: place for place, flag in enumerate(RANKING)}
    every = EVERY[resolution]
    gone = pl.col("value").is_null()
    flag = pl.when(gone).then(pl.lit("N")).otherwise(pl.col("quality"))
    periods = (
        frame.with_columns(
            interval_start=pl.col("interval_start").dt.truncate(every),
            rank=flag.replace_strict(rank, default=len(RANKING) - 1, return_dtype=pl.Int8),
            estimated=(flag == "E"),
            substituted=flag.is_in(["S", "F"]),
            gone=gone,
        )
        .group_by("nmi", "suffix", "uom", "interval_start")
        .agg(
            pl.col("value").sum().alias("total"),
            pl.len().cast(pl.Int64).alias("intervals"),
            pl.col("gone").sum().cast(pl.Int64).alias("missing"),
            pl.col("estimated").sum(),
            pl.col("substituted").sum(),
            pl.col("rank").max(),
        )
        .sort("nmi", "suffix", "interval_start", "uom")
    )
    energy = is_energy(pl.col("uom"))
    more = 0 if bool(periods.select(energy.all()).item()) else MEAN_DIGITS
    there = (pl.col("intervals") - pl.col("missing")).cast(pl.Int128)
    lifted = pl.col("total") * pl.lit(10**more, pl.Int128)
    # Rounded half up, in integers: (2 x total + n) // 2n.
    mean = (lifted * 2 + there) // (there * 2)
    value = pl.when(there > 0).then(pl.when(energy).then(lifted).otherwise(mean))
    share = {
        "missing_share": pl.col("missing"),
        "estimated_share": pl.col("estimated"),
        "substituted_share": pl.col("substituted"),
    }
    return periods.select(
        "nmi",
        "suffix",
        "uom",
        "interval_start",
        pl.col("interval_start").dt.offset_by(every).alias("interval_end"),
        value.alias("value"),
        pl.when(energy).then(pl.lit("sum")).otherwise(pl.lit("mean")).alias("how"),
        pl.col("rank")
        .replace_strict(dict(enumerate(RANKING)), return_dtype=pl.String)
        .alias("quality"),
        "intervals",
        "missing",
        *((part / pl.col("intervals")).alias(name) for name, part in share.items()),
        (pl.col("missing") == 0).alias("complete"),
    ), scale + more


def local_days(
    frame: pl.DataFrame, scale: int, zone: str, opens: datetime, closes: datetime
) -> tuple[pl.DataFrame, int]:
    """Intervals as days of a place with daylight saving: 23, 24 or 25 hours long.

    A stream's first and last day count whole: the hours that nobody delivered are missing.

    Args:
        frame: intervals, ``value`` scaled by ``scale``.
        scale: decimals of the values.
        zone: IANA name, as ``Australia/Sydney``.
        opens: midnight, there, that the first day begins at.
        closes: midnight, there, that the last day ends at.

    Returns:
        As :func:`rolled`, starts and ends in the zone.
    """
    edges = frame.group_by(_STREAM).agg(
        begins=pl.col("interval_start").min().dt.convert_time_zone(zone),
        ends=pl.col("interval_end").max().dt.convert_time_zone(zone),
    )
    whole = with_absent_days(frame, "day", None, None, around=1).filter(
        pl.col("interval_start") >= pl.lit(opens).dt.convert_time_zone(MARKET),
        pl.col("interval_end") <= pl.lit(closes).dt.convert_time_zone(MARKET),
    )
    there = whole.with_columns(pl.col("interval_start").dt.convert_time_zone(zone))
    periods, scale = rolled(there, scale, "day")
    known = periods.join(edges, on=_STREAM).filter(
        pl.col("interval_end") > pl.col("begins"), pl.col("interval_start") < pl.col("ends")
    )
    return known.drop("begins", "ends"), scale


def is_energy(uom: pl.Expr) -> pl.Expr:
    """Units that may be summed over time: watt hours, var hours, volt ampere hours.

    The canonical spelling of every energy unit, and of no other, ends in ``h``.
    """
    return uom.str.ends_with("h")
