"""Days to intervals: the long form with one row per interval, and the wide form.

Why: people ask for readings with times and quality, not for rows of 288 values.

Promises: both ends of every interval, in market time; the quality in force for that interval
(400s applied); a missing value is null; streams meet by time in the wide form.

Spec: 4 (400s), 7 (time). Next: :mod:`nemflow.mdff.quality`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from nemflow.errors import UsageError
from nemflow.mdff import quality
from nemflow.mdff.meterdata import STAMP

if TYPE_CHECKING:
    from nemflow.mdff.meterdata import MeterData

#: The largest integer, and the largest power of ten, up to which all are exact floats.
_EXACT_INTEGER = 2**53
_EXACT_POWER = 22
_MINUTE = 60_000_000
_BLOCK = 1 << 19
#: Market midnight is 14:00 UTC of the day before.
_OFFSET = 10 * 60 * _MINUTE

COLUMNS = (
    "source", "nmi", "suffix", "register_id", "meter_serial", "uom", "interval_start",
    "interval_end", "value", "quality", "method", "reason_code", "reason_text", "version_at",
    "rejected_by",
)  # fmt: skip


#: Texts that repeat for many intervals.
LABELS = (
    "source", "nmi", "suffix", "register_id", "meter_serial", "uom", "quality", "method",
    "reason_text",
)  # fmt: skip


def long(data: MeterData, exact: bool, compact: bool = False) -> pl.DataFrame:
    """One row per interval, in file order; see ``MeterData.readings``."""
    days = data.frame_days.with_columns(pl.col("values").list.len().cast(pl.Int64).alias("per_day"))
    first = pl.lit(0, pl.Int64)
    if (days["spans"].list.len() > 0).any():
        pieces = quality.segments(days)
        own = ("quality", "method", "reason_code", "reason_text")
        days = days.drop(own)[pieces["place"]].with_columns(
            pieces["start"],
            pieces["end"],
            *(pieces[name] for name in own),
        )
        length = pl.col("end") - pl.col("start") + 1
        days = days.with_columns(
            pl.col("values").list.slice(pl.col("start") - 1, length), per_day=length.cast(pl.Int64)
        )
        first = pl.col("start").cast(pl.Int64) - 1
    step = pl.col("interval_minutes").cast(pl.Int64) * _MINUTE
    opens = pl.col("day").cast(pl.Datetime("us")).cast(pl.Int64) - _OFFSET + first * step
    closes = opens + pl.col("per_day") * step
    steps = days["interval_minutes"].unique()
    days = days.select(
        *(
            pl.col(name).cast(pl.Categorical) if compact and name in LABELS else pl.col(name)
            for name in COLUMNS
            if name in days.columns
        ),
        *([] if steps.len() == 1 else [step.alias("step")]),
        pl.int_ranges(opens, closes, step).alias("interval_start"),
        pl.col("values").alias("value"),
    )
    frame = days.explode("value", "interval_start", empty_as_null=False)
    value = decimals(frame["value"], data.scale) if exact else floats(frame["value"], data.scale)
    ends = pl.col("interval_start") + (steps[0] * _MINUTE if steps.len() == 1 else pl.col("step"))
    return frame.with_columns(
        pl.col("interval_start").cast(STAMP),
        ends.cast(STAMP).alias("interval_end"),
        value.alias("value"),
    ).select(COLUMNS)


def decimals(values: pl.Series, scale: int) -> pl.Series:
    """Scaled integers as ``Decimal(38, scale)``."""
    return values.cast(pl.Int128).reinterpret(dtype=pl.Decimal(38, scale))


def floats(values: pl.Series, scale: int) -> pl.Series:
    """Scaled integers as the floats nearest to them.

    One division is exact enough while both sides are exact floats; a longer number goes by way
    of its text.
    """
    if scale > _EXACT_POWER:
        return decimals(values, scale).cast(pl.String).cast(pl.Float64)
    # by a column: polars divides by a number by multiplying with its inexact reciprocal;
    # in blocks, because one more column of that length costs more than the division
    divisor = pl.repeat(10.0**scale, min(_BLOCK, values.len()), eager=True)
    blocks = [
        block.cast(pl.Float64) / divisor.head(block.len())
        for block in (values.slice(at, _BLOCK) for at in range(0, values.len(), _BLOCK))
    ]
    quick = pl.concat(blocks) if blocks else values.cast(pl.Float64)
    ends = [end for end in (values.min(), values.max()) if isinstance(end, int)]
    if all(abs(end) <= _EXACT_INTEGER for end in ends):
        return quick
    long = (values.abs() > _EXACT_INTEGER).arg_true()
    texts = decimals(values.gather(long), scale).cast(pl.String)
    return quick.scatter(long, texts.cast(pl.Float64))


def wide(data: MeterData, exact: bool) -> pl.DataFrame:
    """One row per NMI and interval, one value and one quality column per suffix."""
    frame = long(data, exact).select(
        "nmi", "suffix", "interval_start", "interval_end", "value", "quality"
    )
    key = ["nmi", "interval_start", "interval_end"]
    doubled = frame.filter(pl.struct(*key, "suffix").is_duplicated())
    if not doubled.is_empty():
        nmi, suffix, start = doubled.select("nmi", "suffix", "interval_start").row(0)
        raise UsageError(
            f"{nmi} {suffix} has more than one value for {start:%Y-%m-%d %H:%M}; "
            "the wide form has room for one.",
            hint="Keep one version per day first, or use the long form.",
        )
    suffixes = sorted(frame["suffix"].unique().drop_nulls().to_list())
    table = frame.pivot(on="suffix", index=key, values=["value", "quality"]).sort(key)
    renamed = {f"value_{suffix}": suffix for suffix in suffixes} | {
        f"quality_{suffix}": f"{suffix}_quality" for suffix in suffixes
    }
    if len(suffixes) == 1 and "value" in table.columns:
        renamed = {"value": suffixes[0], "quality": f"{suffixes[0]}_quality"}
    table = table.rename(renamed)
    return table.select(*key, *(name for s in suffixes for name in (s, f"{s}_quality")))
