"""Interval data by seed: the 200, 300, 400 and 500 records of a generated NEM12 file.

Why: values alone are not a file; qualities, stamps and service orders make it believable.
Promise: rows come in file order (NMI, data stream, day) and any slice of them can be made
alone, so a file of any length needs little memory.
Where next: ``generate_load.py`` for the values, ``writer.py`` for the records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

import polars as pl

from nemflow.mdff.generate_load import Curves, bits, meter_days, recipe, values
from nemflow.mdff.generate_options import Options, market_time
from nemflow.mdff.meterdata import MARKET, SPAN
from nemflow.mdff.writer import EOL, record_200, records_300

_READINGS_AT_ONCE: Final = 1_000_000

#: (quality, method, reason code, reason text) of estimated and substituted stretches.
_ESTIMATES: Final = (("E", "52", 77, None), ("E", "57", 77, None), ("E", "51", None, None))
_SUBSTITUTES: Final = (
    ("S", "14", 76, None),
    ("S", "15", 78, None),
    ("S", "17", 43, None),
    ("F", "14", 45, None),
    ("F", "18", 28, None),
    ("S", "18", 0, "Meter clock under test"),
)


def intervals(options: Options) -> Iterator[bytes]:
    """Give all records between the 100 and the 900, piece by piece."""
    curves = {minutes: Curves(minutes) for minutes in set(options.lengths)}
    total = len(options.nmi_list) * len(options.suffixes) * options.days
    step = max(64, _READINGS_AT_ONCE * min(curves) // 1440)
    for first in range(0, total, step):
        yield _piece(options, curves, first, min(total, first + step))


def _piece(options: Options, curves: dict[int, Curves], first: int, end: int) -> bytes:
    """Give the 200, 300, 400 and 500 records of rows first...end: NMI, stream, day in order."""
    rows = meter_days(_rows(options, first, end), options.seed)
    rows = _stamps(_qualities(rows, options), options)
    with_solar = any(recipe(suffix).quantity == "export" for suffix in options.suffixes)
    parts = []
    for (suffix, minutes), part in rows.partition_by(
        "suffix", "interval_minutes", as_dict=True, maintain_order=True
    ).items():
        decimals = min(options.decimals, recipe(suffix).decimals)
        numbers = values(part, suffix, curves[minutes], decimals, with_solar=with_solar)
        text = records_300(part.with_columns(numbers.alias("values")), decimals)
        head = pl.when(part["nth"] == 0).then(record_200(part)).otherwise(pl.lit(""))
        parts.append(part.select("row", head.alias("head"), text.alias("text"), "tail"))
    whole = pl.concat(parts).sort("row")
    lines = whole.select(pl.concat_str("head", "text", "tail").str.join(""))
    return str(lines.item()).encode("ascii")


def _rows(options: Options, first: int, end: int) -> pl.DataFrame:
    """One row per 300, with the fields of its 200."""
    suffixes, days = options.suffixes, options.days
    row = pl.int_range(first, end, dtype=pl.Int64)
    frame = pl.select(
        row.alias("row"),
        meter=row // (len(suffixes) * days),
        stream=row // days % len(suffixes),
        nth=row % days,
    )
    meter, stream = pl.col("meter"), pl.col("stream")

    def of(choices: Sequence[object], index: pl.Expr, dtype: type[pl.DataType]) -> pl.Expr:
        return pl.lit(pl.Series(choices, dtype=dtype)).gather(index)

    units = [recipe(suffix).uom for suffix in suffixes]
    # The settlement stream nets the active channels; others stand for themselves.
    nets = [f"N{s[1]}" if unit == "kWh" else s for s, unit in zip(suffixes, units, strict=True)]
    epoch_day = pl.lit((options.first_day - date(1970, 1, 1)).days, dtype=pl.Int64)
    return frame.with_columns(
        nmi=of(options.nmi_list, meter, pl.String),
        nmi_configuration=pl.lit("".join(suffixes)),
        register_id=(stream + 1).cast(pl.String),
        suffix=of(suffixes, stream, pl.String),
        mdm_stream=of(nets, stream, pl.String),
        meter_serial=pl.lit("EX") + (meter + 1).cast(pl.String).str.zfill(7),
        uom=of(units, stream, pl.String),
        interval_minutes=of(options.lengths, meter % len(options.lengths), pl.Int64),
        next_scheduled_read=pl.lit(None, dtype=pl.Date),
        day=(epoch_day + pl.col("nth")).cast(pl.Int32).cast(pl.Date),
    )


def _qualities(rows: pl.DataFrame, options: Options) -> pl.DataFrame:
    """Choose the days with an estimated or substituted stretch and write their 400s."""
    odd = pl.col("odd")
    draw = bits(odd, 8, 1_000_000)
    estimated = round(options.estimated * 1_000_000)
    substituted = estimated + round(options.substituted * 1_000_000)
    if not substituted:
        return rows.with_columns(
            smooth_from=pl.lit(0),
            smooth_to=pl.lit(0),
            quality_method=pl.lit("A"),
            reason_code=pl.lit(None, dtype=pl.Int16),
            reason_text=pl.lit(None, dtype=pl.String),
            spans=pl.lit([], dtype=pl.List(SPAN)),
        )
    choices = pl.Series(
        [_span_fields(*each) for each in (*_ESTIMATES, *_SUBSTITUTES)],
        dtype=pl.Struct(SPAN.fields[2:]),
    )
    which = (
        pl.when(draw < estimated)
        .then(bits(odd, 44, len(_ESTIMATES)))
        .otherwise(len(_ESTIMATES) + bits(odd, 44, len(_SUBSTITUTES)))
    )
    each = 30 // pl.col("interval_minutes")  # intervals in half an hour
    rows = rows.with_columns(
        touched=draw < substituted,
        smooth_from=(2 + bits(odd, 24, 30)) * each + 1,
        smooth_to=(4 + bits(odd, 24, 30) + bits(odd, 34, 14)) * each,
        why=pl.lit(choices).gather(which),
    )
    touched = pl.col("touched")
    actual = pl.lit(_span_fields("A", None, None, None), dtype=choices.dtype)
    last = 1440 // pl.col("interval_minutes")
    spans = pl.concat_list(
        _span(pl.lit(1), pl.col("smooth_from") - 1, actual),
        _span(pl.col("smooth_from"), pl.col("smooth_to"), pl.col("why")),
        _span(pl.col("smooth_to") + 1, last, actual),
    )
    return rows.with_columns(
        smooth_from=pl.when(touched).then("smooth_from").otherwise(0),
        smooth_to=pl.when(touched).then("smooth_to").otherwise(0),
        quality_method=pl.when(touched).then(pl.lit("V")).otherwise(pl.lit("A")),
        reason_code=pl.lit(None, dtype=pl.Int16),
        reason_text=pl.lit(None, dtype=pl.String),
        spans=pl.when(touched).then(spans).otherwise(pl.lit([], dtype=pl.List(SPAN))),
    )


def _span_fields(
    quality: str, method: str | None, code: int | None, text: str | None
) -> dict[str, str | int | None]:
    return {"quality": quality, "method": method, "reason_code": code, "reason_text": text}


def _span(start: pl.Expr, end: pl.Expr, fields: pl.Expr) -> pl.Expr:
    names = [field.name for field in SPAN.fields[2:]]
    parts = [fields.struct.field(name) for name in names]
    return pl.struct(start.cast(pl.UInt16).alias("start"), end.cast(pl.UInt16).alias("end"), *parts)


def _stamps(rows: pl.DataFrame, options: Options) -> pl.DataFrame:
    """Add UpdateDateTime, MSATSLoadDateTime and the 500 record, if any."""
    file_at = pl.lit(options.file_time, dtype=pl.Datetime("us"))
    day, odd = pl.col("day").cast(pl.Datetime("us")), pl.col("odd")
    if options.update_at is None:
        morning = day + pl.duration(seconds=86400 + 4500 + bits(odd, 3, 2400).cast(pl.Int64))
        update = pl.min_horizontal(morning, file_at)
    else:
        given = market_time(options.update_at).replace(microsecond=0)
        update = pl.lit(given, dtype=pl.Datetime("us"))
    rows = rows.with_columns(update_at=update)
    msats = pl.col("update_at") + pl.duration(seconds=1794)
    rows = rows.with_columns(msats_at=pl.when(msats <= file_at).then(msats), tail=pl.lit(""))
    if options.service_orders:
        rows = rows.with_columns(tail=_order_500(options))
    zone = [pl.col(name).dt.replace_time_zone(MARKET) for name in ("update_at", "msats_at")]
    return rows.with_columns(zone)


def _order_500(options: Options) -> pl.Expr:
    """Give a 500 record on the last day and on about every tenth, active channels only."""
    odd, day = pl.col("odd"), pl.col("day")
    when = (pl.col("nth") == options.days - 1) | (bits(odd, 30, 10) == 0)
    ordered = bits(odd, 40, 3) == 0
    seconds = 8 * 3600 + bits(odd, 18, 8 * 3600)
    clock = [seconds // 3600, seconds // 60 % 60, seconds % 60]
    dial = 1000 + bits(odd, 50, 200) + (day.cast(pl.Int64) - 9000) * (8 + pl.col("stream"))
    record = pl.concat_str(
        pl.lit("500,"),
        pl.when(ordered)
        .then(pl.lit("S,SO") + odd.cast(pl.String).str.zfill(8).str.tail(8))
        .otherwise(pl.lit("N,")),
        pl.lit(","),
        day.dt.to_string("%Y%m%d"),
        *(part.cast(pl.String).str.zfill(2) for part in clock),
        pl.lit(","),
        dial.cast(pl.String).str.zfill(6),
        pl.lit("."),
        bits(odd, 12, 10).cast(pl.String),
        pl.lit(EOL),
    )
    active = pl.col("uom") == "kWh"
    return pl.when(when & active).then(record).otherwise(pl.lit(""))
