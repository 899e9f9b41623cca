"""A later version of the same days, as a meter data provider sends it.

Why: the newest version of a day wins whatever arrives last; tests and the demo need two
versions of one day that differ in the way real ones do.
Promise: the header's DateTime and the UpdateDateTime of every changed day are newer than
before; a changed day always differs in at least one value; days that do not change are sent
again as they were, stamps included.
Where next: spec §5 on versions; ``writer.py`` makes the text.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from nemflow.mdff.generate_load import bits, day_key
from nemflow.mdff.generate_options import Options, market_time, must
from nemflow.mdff.meterdata import MARKET, SPAN, MeterData, relist
from nemflow.mdff.writer import to_text

_MOST: Final = 1_000_000


def later_version(earlier: bytes | MeterData, options: Options, corrected: float) -> bytes:
    """Give the text of a later version of one file's days; see ``generate``.

    Estimated stretches become actual, substituted ones actual or final, their values change a
    little; on days without such a stretch some values around noon do. In NEM13 estimates
    become reads. ``options`` gives the stamps and the seed.

    Raises:
        UsageError: nothing to correct, or more than one 100...900 block.
        FileRefused: ``earlier`` is not MDFF.
    """
    must(0 <= corrected <= 1, "The share of corrected days lies between 0 and 1.")
    data = _read(earlier) if isinstance(earlier, bytes) else earlier
    must(data.headers.height == 1, "Corrections are made of one 100...900 block at a time.")
    filled = not (data.frame_days.is_empty() and data.register_reads.is_empty())
    must(filled, "There are no days to correct.")
    file_at = _file_time(data, options)
    given = options.update_at
    update_at = file_at - timedelta(minutes=75) if given is None else market_time(given)
    stamp = pl.lit(update_at, dtype=pl.Datetime("us")).dt.replace_time_zone(MARKET)
    share = round(corrected * _MOST)
    return to_text(
        replace(
            data,
            headers=data.headers.with_columns(
                file_at=pl.lit(file_at, dtype=pl.Datetime("us")).dt.replace_time_zone(MARKET)
            ),
            frame_days=_corrected_days(
                data.frame_days, options.seed, share, stamp, scale=data.scale
            ),
            register_reads=_corrected_reads(data.register_reads, options.seed, share, stamp),
        )
    )


def _read(text: bytes) -> MeterData:
    from nemflow.mdff.reader import Parser, Text

    data = Parser().feed([Text("earlier version", text)])
    if data.refused:
        raise data.refused[0]
    return data


def _file_time(data: MeterData, options: Options) -> datetime:
    """Give the later file's DateTime: as asked, or the morning after all that is in it."""
    if options.file_at is not None:
        return options.file_time
    estimates = data.register_reads.filter(_is_estimate())
    known: list[datetime | None] = [
        *data.headers["file_at"].to_list(),
        data.frame_days["update_at"].max(),  # type: ignore[list-item]
        estimates["current_at"].max(),  # type: ignore[list-item]
    ]
    latest = max((at.replace(tzinfo=None) for at in known if at is not None), default=None)
    return (latest or options.file_time).replace(second=0) + timedelta(days=1)


def _corrected_days(
    days: pl.DataFrame, seed: int, share: int, stamp: pl.Expr, *, scale: int
) -> pl.DataFrame:
    if days.is_empty() or not share:
        return days
    key = day_key(seed, pl.int_range(pl.len(), dtype=pl.Int64), pl.col("day"), 21)
    days = days.with_row_index("row").with_columns(
        changed=bits(key, 8, _MOST) < share, final=bits(key, 40, 3) == 0
    )
    spans = days.filter(pl.col("spans").list.len() > 0).select("row", "spans")
    odd = spans.explode("spans").unnest("spans").filter(pl.col("quality") != "A")
    odd = odd.group_by("row").agg(
        pl.col("start").min(),
        pl.col("end").max(),
        only_substitutes=(pl.col("quality") == "S").all(),
    )
    days = days.join(odd, on="row", how="left", maintain_order="left")
    per_day = pl.col("values").list.len().cast(pl.Int64)
    days = days.with_columns(
        first=pl.col("start").cast(pl.Int64).fill_null(per_day * 5 // 12),
        last=pl.col("end").cast(pl.Int64).fill_null(per_day * 7 // 12),
        final=pl.col("final") & pl.col("only_substitutes").fill_null(value=False),
    )
    changed, final = pl.col("changed"), pl.col("final")
    quality = pl.element().struct.field("quality")
    made_final = pl.element().struct.with_fields(
        pl.when(quality == "S").then(pl.lit("F")).otherwise(quality).alias("quality")
    )
    plain = changed & ~final
    days = days.with_columns(_nudged(days, scale).alias("values"))
    return days.with_columns(
        pl.when(changed).then(stamp).otherwise("update_at").alias("update_at"),
        pl.when(~changed).then("msats_at").alias("msats_at"),
        pl.when(plain).then(pl.lit("A")).otherwise("quality_method").alias("quality_method"),
        pl.when(~plain).then("reason_code").alias("reason_code"),
        pl.when(~plain).then("reason_text").alias("reason_text"),
        pl.when(plain)
        .then(pl.lit([], dtype=pl.List(SPAN)))
        .when(changed)
        .then(pl.col("spans").list.eval(made_final))
        .otherwise("spans")
        .alias("spans"),
    )


def _nudged(days: pl.DataFrame, scale: int) -> pl.Series:
    """Move the values of the stretch by about a fortieth, the first by at least one step."""
    values = days["values"]
    count = values.list.len()
    per_reading = days.select(
        pl.when("changed").then("first").otherwise(0).repeat_by(count).alias("first"),
        pl.when("changed").then("last").otherwise(0).repeat_by(count).alias("last"),
        _last_digit(values, scale).alias("step").repeat_by(count),
        pl.int_ranges(1, count.cast(pl.Int64) + 1).alias("nth"),
        values.alias("value"),
    ).explode("first", "last", "step", "nth", "value", empty_as_null=False)
    value, nth, step = pl.col("value"), pl.col("nth"), pl.col("step")
    more = value // step // 40 * step
    up = (nth - pl.col("first")) % 2 == 0
    moved = pl.when(up).then(value + more + step).otherwise(value - more)
    touched = nth.is_between("first", "last") & (value >= 0)
    flat = per_reading.select(pl.when(touched).then(moved).otherwise(value).alias("value"))
    return relist(flat["value"], values)


def _last_digit(values: pl.Series, scale: int) -> pl.Series:
    """Give the power of ten that each day counts in, so that no decimals are added.

    A day of zeros counts in tenths, which every unit allows.
    """
    kind = values.dtype.inner  # type: ignore[attr-defined]
    step = pl.repeat(1, len(values), dtype=kind, eager=True)
    for digits in range(1, min(scale, 18) + 1):
        power = 10**digits
        whole = pl.element() % pl.lit(power, dtype=kind) == 0
        divides = values.list.eval(whole.all()).list.first()
        step = step.set(divides, power)
    tenth = 10 ** max(0, min(scale, 18) - 1)
    return step.set(values.list.max() == 0, tenth)


def _is_estimate() -> pl.Expr:
    return pl.col("current_quality_method").str.starts_with("E")


def _corrected_reads(reads: pl.DataFrame, seed: int, share: int, stamp: pl.Expr) -> pl.DataFrame:
    """Put a real read in place of an estimate: dial and Quantity move together."""
    if reads.is_empty() or not share:
        return reads
    key = day_key(seed, pl.int_range(pl.len(), dtype=pl.Int64), pl.lit(0), 22)
    whole = pl.col("current_read").str.contains(r"^\d{1,15}$") & pl.col("quantity").is_not_null()
    changed = (bits(key, 8, _MOST) < share) & _is_estimate() & whole
    more = pl.when(changed).then(1 + bits(key, 30, 40)).otherwise(0)
    dial = pl.col("current_read").cast(pl.Int64, strict=False) + more
    padded = pl.concat_str(pl.lit("0" * 15), dial.cast(pl.String))
    width = pl.max_horizontal(
        pl.col("current_read").str.len_chars(), dial.cast(pl.String).str.len_chars()
    )
    seconds = pl.duration(seconds=9 * 3600 + bits(key, 45, 20_000).cast(pl.Int64))
    scale = reads.schema["quantity"]
    return reads.with_columns(
        pl.when(changed)
        .then(padded.str.tail(width))
        .otherwise("current_read")
        .alias("current_read"),
        pl.when(changed)
        .then(pl.col("current_at").dt.truncate("1d") + seconds)
        .otherwise("current_at")
        .alias("current_at"),
        pl.when(changed)
        .then(pl.lit("A"))
        .otherwise("current_quality_method")
        .alias("current_quality_method"),
        pl.when(~changed).then("current_reason_code").alias("current_reason_code"),
        pl.when(~changed).then("current_reason_text").alias("current_reason_text"),
        (pl.col("quantity") + more.cast(scale)).cast(scale).alias("quantity"),
        pl.when(changed).then(stamp).otherwise("update_at").alias("update_at"),
        pl.when(~changed).then("msats_at").alias("msats_at"),
    )
