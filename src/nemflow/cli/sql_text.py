"""Readings as SQL: INSERT statements that any database takes.

Why: two tables are asked for: the simple ``meter_readings(nmi, timestamp, consumption)`` that
many programs have, and our own with every column.

What goes into the simple table, which has no suffix: the consumption streams (suffixes E1, E2,
...: active energy out of the grid, master registers), added up in kWh per NMI and interval. Not
feed-in (B), reactive energy (Q, K), check meters or volts. ``timestamp`` is the *start* of the
interval in market time (UTC+10 all year), so that the 48 readings of a day carry its date. When a
day occurs more than once, its newest version counts. Streams of different interval lengths on one
day are added up at the longest of them. An interval without a value is NULL, never 0.

Promises: values are exact decimals; every text is escaped; bounded memory (days are kept on disk
and worked off a few NMIs at a time); statements are standard SQL (PostgreSQL, MySQL, SQLite).

Look next: ``tables.py`` for everything that is not SQL.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, TextIO

import polars as pl

from nemflow.mdff.codes import INTERVAL_KINDS, UNITS
from nemflow.mdff.meterdata import MARKET, MeterData

_ROWS_PER_INSERT: Final = 500
_ROWS_AT_ONCE: Final = 400_000
_STAMP: Final = "%Y-%m-%d %H:%M:%S"

_SIMPLE_HEAD: Final = """\
-- Consumption of each NMI in kWh: the sum of its E streams. No feed-in, no reactive energy.
-- timestamp is the start of the interval in market time, UTC+10 all year.
-- CREATE TABLE meter_readings (
--   nmi varchar(10) NOT NULL, timestamp timestamp NOT NULL, consumption numeric,
--   UNIQUE (nmi, timestamp));
"""
_FULL: Final = (
    "source", "nmi", "suffix", "register_id", "meter_serial", "uom", "interval_start",
    "interval_end", "value", "quality", "method", "reason_code", "reason_text", "version_at",
)  # fmt: skip
_FULL_HEAD: Final = """\
-- One row per interval and data stream; times are market time, UTC+10 all year.
-- CREATE TABLE readings (
--   source text, nmi varchar(10), suffix char(2), register_id varchar(10),
--   meter_serial varchar(12), uom varchar(5), interval_start timestamp, interval_end timestamp,
--   value numeric, quality char(1), method char(2), reason_code smallint, reason_text text,
--   version_at timestamp);
"""


def write_nemflow(chunks: Iterator[MeterData], draft: Path) -> int:
    """Every reading with every column, into a table ``readings``; returns the row count."""
    rows = 0
    with draft.open("w", encoding="utf-8", newline="\n") as out:
        out.write(_FULL_HEAD)
        for data in chunks:
            table = data.readings(exact=True).select(_FULL)
            rows += _insert(out, f"readings ({', '.join(_FULL)})", table)
    return rows


def write_simple(chunks: Iterator[MeterData], draft: Path) -> int:
    """Consumption per NMI and interval, into ``meter_readings``; returns the row count."""
    rows = 0
    with (
        tempfile.TemporaryDirectory(dir=draft.parent, prefix=".nemflow-") as folder,
        draft.open("w", encoding="utf-8", newline="\n") as out,
    ):
        out.write(_SIMPLE_HEAD)
        kept = _keep_consumption(chunks, Path(folder))
        for nmis in _batches(kept):
            mine = kept.filter(pl.col("nmi").is_in(nmis)).collect()
            table = _consumption(mine)
            rows += _insert(out, "meter_readings (nmi, timestamp, consumption)", table)
    return rows


def _keep_consumption(chunks: Iterator[MeterData], folder: Path) -> pl.LazyFrame:
    """The days of the consumption streams, on disk, with what decides which version counts."""
    letters = [
        kind.first
        for kind in INTERVAL_KINDS.values()
        if (kind.direction, kind.quantity, kind.role) == ("consumption", "active", "master")
    ]
    energy = [unit.name for unit in UNITS.values() if unit.group == "active energy"]
    consumption = pl.col("suffix").str.slice(0, 1).is_in(letters) & pl.col("uom").is_in(energy)
    parts = []
    for number, data in enumerate(chunks):
        mine = replace(data, frame_days=data.frame_days.filter(consumption))
        days = mine.days.select(
            "nmi", "suffix", "day", "uom", "interval_minutes", "values",
            "version_at", "file_at", "content_hash",
        ).with_columns(pl.col("values").list.eval(pl.element().cast(pl.String)))  # fmt: skip
        part = folder / f"{number:06d}.parquet"
        days.write_parquet(part, compression="lz4")
        parts.append(pl.scan_parquet(part))
    return pl.concat(parts)


def _batches(days: pl.LazyFrame) -> Iterator[list[str]]:
    """NMIs in order, a few at a time, so that their readings fit in memory."""
    counts = (
        days.group_by("nmi").agg((1440 // pl.col("interval_minutes")).sum().alias("n")).collect()
    )
    batch: list[str] = []
    rows = 0
    for nmi, n in counts.sort("nmi").iter_rows():
        batch.append(nmi)
        rows += n
        if rows >= _ROWS_AT_ONCE:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _consumption(days: pl.DataFrame) -> pl.DataFrame:
    """nmi, start of the interval, kWh: the winners' E streams added up."""
    winners = days.sort("version_at", "file_at", "content_hash", nulls_last=False).unique(
        ["nmi", "suffix", "day"], keep="last", maintain_order=True
    )
    longest = pl.col("interval_minutes").max().over("nmi", "day").cast(pl.Int64)
    minute = pl.col("minute")
    flat = winners.with_columns(
        longest.alias("length"),
        pl.int_ranges(0, 1440, pl.col("interval_minutes").cast(pl.Int64)).alias("minute"),
    ).explode("minute", "values")
    flat = flat.with_columns(
        (minute // pl.col("length") * pl.col("length")).alias("minute"),
        _kwh(_decimals(flat["values"])).alias("kwh"),
    )
    summed = flat.group_by("nmi", "day", "minute").agg(
        pl.when(pl.col("kwh").null_count() == 0).then(pl.col("kwh").sum()).alias("consumption")
    )
    start = pl.col("day").cast(pl.Datetime("us")) + pl.duration(minutes="minute")
    return summed.select("nmi", start.alias("timestamp"), "consumption").sort("nmi", "timestamp")


def _decimals(values: pl.Series) -> int:
    """How many digits after the point the longest number text has."""
    text = pl.col(values.name)
    after = text.str.len_bytes() - text.str.find(".", literal=True) - 1
    return int(values.to_frame().select(after.max()).item() or 0)


def _kwh(decimals: int) -> pl.Expr:
    """The value in kWh as an exact decimal; Wh need three more digits."""
    value = pl.col("values").cast(pl.Decimal(38, min(decimals + 3, 23)))
    return (
        pl.when(pl.col("uom") == "MWh")
        .then(value * 1000)
        .when(pl.col("uom") == "Wh")
        .then(value / 1000)
        .otherwise(value)
    )


def _insert(out: TextIO, into: str, table: pl.DataFrame) -> int:
    """INSERTs of a few hundred rows each."""
    tuples = table.select(
        pl.concat_str(
            pl.lit("("),
            pl.concat_str(
                [_literal(name, dtype) for name, dtype in table.schema.items()], separator=", "
            ),
            pl.lit(")"),
        )
    ).to_series()
    for start in range(0, tuples.len(), _ROWS_PER_INSERT):
        values = ",\n  ".join(tuples.slice(start, _ROWS_PER_INSERT).to_list())
        out.write(f"INSERT INTO {into} VALUES\n  {values};\n")
    return table.height


def _literal(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as SQL literals: quotes doubled, control characters gone, NULL where empty.

    A backslash becomes a slash: MySQL would take it for an escape and run what follows.
    """
    column = pl.col(name)
    if isinstance(dtype, pl.String):
        plain = column.str.replace_all(r"[\x00-\x1f\x7f]", " ").str.replace_all(r"\\", "/")
        text = plain.str.replace_all("'", "''", literal=True)
        shown = pl.lit("'") + text + "'"
    elif isinstance(dtype, pl.Datetime):
        local = column.dt.convert_time_zone(MARKET) if dtype.time_zone else column
        shown = pl.lit("'") + local.dt.to_string(_STAMP) + "'"
    elif isinstance(dtype, pl.Decimal):
        text = column.cast(pl.String)
        shown = (
            pl.when(text.str.contains(".", literal=True))
            .then(text.str.strip_chars_end("0").str.strip_chars_end("."))
            .otherwise(text)
        )
    else:
        shown = column.cast(pl.String)
    return shown.fill_null("NULL")
