"""Register reads by seed: the 250 and 550 records of a generated NEM13 file.

Why: accumulation meters are read each quarter of a year, their dials only grow, some reads
are substituted, and the open end of each register is an estimate.
Promise: each period starts with the read the one before ended with, Quantity is current minus
previous (multiplier 1), and reads are texts with leading zeros as on a display.
Where next: spec §2.7, §2.8 and §5.6; ``writer.py`` for the records.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final

import polars as pl

from nemflow.mdff.generate_load import bits, day_key
from nemflow.mdff.generate_options import QUARTER, Options, market_time
from nemflow.mdff.meterdata import MARKET
from nemflow.mdff.writer import EOL, records_250

_ROWS_AT_ONCE: Final = 100_000
#: (quality method, reason code) of a read that was not made.
_SUBSTITUTES: Final = (("S62", 13), ("S63", 48), ("S61", 12), ("F62", 20))


def registers(options: Options) -> Iterator[bytes]:
    """Give all records between the 100 and the 900, piece by piece."""
    per_meter = len(options.suffixes) * (options.periods + 1)
    step = max(1, _ROWS_AT_ONCE // per_meter)
    for first in range(0, len(options.nmi_list), step):
        end = min(first + step, len(options.nmi_list))
        rows = _periods(_reads(options, first, end), options)
        text = records_250(rows, 0)
        if options.service_orders:
            text = text + rows.select(_order_550(options)).to_series()
        yield str(text.str.join("").item()).encode("ascii")


def _reads(options: Options, first: int, end: int) -> pl.DataFrame:
    """One row per read of a register, the estimate at its end included, in time order."""
    reads, suffixes = options.periods + 2, options.suffixes
    row = pl.int_range((end - first) * len(suffixes) * reads, dtype=pl.Int64)
    start = (options.first_day - date(1970, 1, 1)).days
    meter, nth = pl.col("meter"), pl.col("nth")
    quarter = start + nth * QUARTER
    frame = pl.select(
        meter=first + row // (len(suffixes) * reads),
        register=row // reads % len(suffixes),
        nth=row % reads,
    )
    frame = frame.with_columns(
        scheduled=quarter,
        visit=day_key(options.seed, meter, quarter, 11),
        use=day_key(options.seed, meter * 100 + pl.col("register"), quarter, 12),
        home=day_key(options.seed, meter * 100 + pl.col("register"), pl.lit(0), 13),
    )
    visit, estimated = pl.col("visit"), nth == reads - 1
    late = pl.when((nth == 0) | estimated).then(0).otherwise(bits(visit, 5, 7) - 3)
    # 00:00:01 says that the hour is not known.
    known = 8 * 3600 + bits(visit, 24, 8 * 3600)
    clock = pl.when(bits(visit, 20, 8) == 0).then(1).otherwise(known)
    per_day = 5 + bits(pl.col("home"), 9, 20)
    used = per_day * QUARTER * (750 + bits(pl.col("use"), 9, 500)) // 1000
    dial = pl.when(nth == 0).then(1000 + bits(pl.col("home"), 30, 60_000)).otherwise(used)
    substituted = (
        (bits(visit, 30, 1_000_000) < round(options.substituted * 1_000_000))
        & (nth > 0)
        & ~estimated
    )
    qualities = pl.lit(pl.Series([quality for quality, _ in _SUBSTITUTES]))
    reasons = pl.lit(pl.Series([code for _, code in _SUBSTITUTES], dtype=pl.Int16))
    which = bits(visit, 50, len(_SUBSTITUTES))
    seconds = pl.when(estimated).then(0).otherwise(clock).cast(pl.Int64)
    day = (pl.col("scheduled") + late).cast(pl.Int32).cast(pl.Date)
    return frame.with_columns(
        at=day.cast(pl.Datetime("us")) + pl.duration(seconds=seconds),
        dial=dial.cast(pl.Int64).cum_sum().over("meter", "register"),
        quality_method=pl.when(estimated)
        .then(pl.lit("E65"))
        .when(substituted)
        .then(qualities.gather(which))
        .otherwise(pl.lit("A")),
        reason_code=pl.when(estimated)
        .then(pl.lit(77, dtype=pl.Int16))
        .when(substituted)
        .then(reasons.gather(which)),
    )


def _periods(reads: pl.DataFrame, options: Options) -> pl.DataFrame:
    """Join each read with the one before it: the fields of a 250, one row per period."""
    last = options.periods + 1  # the estimate
    before = [
        pl.col(name).shift().alias(f"previous_{name}")
        for name in ("at", "dial", "quality_method", "reason_code")
    ]
    rows = reads.with_columns(before).filter(pl.col("nth") > 0)
    nothing = pl.lit(None, dtype=pl.String)
    estimated = pl.col("nth") == last
    following = pl.col("scheduled") + pl.when(estimated).then(0).otherwise(QUARTER)
    # The estimate is made when the last real read comes in.
    made = pl.when(estimated).then("previous_at").otherwise("at")
    file_at = pl.lit(options.file_time, dtype=pl.Datetime("us"))
    if options.update_at is None:
        update = made.dt.truncate("1d") + pl.duration(seconds=86_400 + 7800)
        update = pl.min_horizontal(update, file_at)
    else:
        given = market_time(options.update_at).replace(microsecond=0)
        update = pl.lit(given, dtype=pl.Datetime("us"))
    meter, register = pl.col("meter"), pl.col("register")
    suffix = pl.lit(pl.Series(options.suffixes)).gather(register)
    return rows.select(
        "meter",
        "nth",
        "visit",
        nmi=pl.lit(pl.Series(options.nmi_list)).gather(meter),
        nmi_configuration=pl.lit("".join(options.suffixes)),
        register_id=(register + 1).cast(pl.String),
        suffix=suffix,
        mdm_stream=suffix,
        meter_serial=pl.lit("EX") + (meter + 1).cast(pl.String).str.zfill(7),
        direction=pl.lit("E"),
        previous_read=pl.col("previous_dial").cast(pl.String).str.zfill(6),
        previous_at=_market("previous_at"),
        previous_quality_method="previous_quality_method",
        previous_reason_code="previous_reason_code",
        previous_reason_text=nothing,
        current_read=pl.col("dial").cast(pl.String).str.zfill(6),
        current_at=_market("at"),
        current_quality_method="quality_method",
        current_reason_code="reason_code",
        current_reason_text=nothing,
        quantity=pl.col("dial") - pl.col("previous_dial"),
        uom=pl.lit("kWh"),
        next_scheduled_read=following.cast(pl.Int32).cast(pl.Date),
        update_at=update.dt.replace_time_zone(MARKET),
        msats_at=pl.lit(None, dtype=pl.Datetime("us", MARKET)),
    )


def _market(column: str) -> pl.Expr:
    return pl.col(column).dt.replace_time_zone(MARKET)


def _order_550(options: Options) -> pl.Expr:
    """Give a 550 record to each estimate and to about every third read."""
    estimated = pl.col("nth") == options.periods + 1
    ordered = (bits(pl.col("visit"), 15, 3) == 0) | (pl.col("nth") == 1)
    number = pl.lit("SO") + pl.col("visit").cast(pl.String).str.zfill(8).str.tail(8)
    return (
        pl.when(estimated)
        .then(pl.lit(f"550,N,,E,{EOL}"))
        .when(ordered)
        .then(pl.lit("550,N,,S,") + number + EOL)
        .otherwise(pl.lit(""))
    )
