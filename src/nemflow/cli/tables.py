"""Readings or register reads as CSV, Parquet, Arrow or JSON lines, chunk by chunk.

Why: one long table that any tool reads.

Promises: bounded memory (CSV and JSON lines are appended to; Parquet and Arrow are put together
from parts on disk); times are market time with their offset; in CSV, a text that a spreadsheet
would run as a formula gets a leading ``'``.

Look next: ``MeterData.readings`` for the columns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from nemflow.mdff.meterdata import MARKET, MeterData

_FORMULA: Final = r"^[=+\-@\t\x00\r\n]"
_STAMP: Final = "%Y-%m-%dT%H:%M:%S%:z"


def write_table(form: str, chunks: Iterator[MeterData], draft: Path, *, exact: bool) -> int:
    """Write all chunks as ``csv``, ``jsonl``, ``parquet`` or ``arrow``; returns the row count.

    NEM12 days become readings. Files that hold register reads only (NEM13) become those.
    """
    tables = _tables(chunks, exact=exact)
    if form in ("csv", "jsonl"):
        return _append(form, tables, draft)
    return _assemble(form, tables, draft)


def _tables(chunks: Iterator[MeterData], *, exact: bool) -> Iterator[pl.DataFrame]:
    """One table per chunk, all of one kind: the kind of the first chunk that has rows."""
    reads_only: bool | None = None
    for data in chunks:
        if reads_only is None and not (
            data.frame_days.is_empty() and data.register_reads.is_empty()
        ):
            reads_only = data.frame_days.is_empty()
        table = data.register_reads if reads_only else data.readings(exact=True)
        if not exact:  # from the decimal, which gives the nearest float: 0.285, not 0.28500…03
            table = table.with_columns(pl.col(pl.Decimal).cast(pl.Float64))
        if not table.is_empty():
            rules = pl.col("rejected_by")
            yield table.with_columns(pl.when(rules.list.len() > 0).then(rules.list.join(" ")))


def _append(form: str, tables: Iterator[pl.DataFrame], draft: Path) -> int:
    """Text forms: one table after the other."""
    rows = 0
    with draft.open("wb") as out:
        for table in tables:
            if form == "csv":
                spreadsheet_safe(table).write_csv(
                    out,
                    include_header=rows == 0,
                    datetime_format=_STAMP,
                    float_scientific=False,
                )
            else:
                _with_times_as_text(table).write_ndjson(out)
            rows += table.height
    return rows


def _assemble(form: str, tables: Iterator[pl.DataFrame], draft: Path) -> int:
    """Binary forms: parts on disk, then one file, streamed."""
    rows = 0
    with tempfile.TemporaryDirectory(dir=draft.parent, prefix=".nemflow-") as folder:
        parts = []
        for number, table in enumerate(tables):
            part = Path(folder) / f"{number:06d}.parquet"
            table.write_parquet(part, compression="lz4")
            parts.append(pl.scan_parquet(part))
            rows += table.height
        whole = pl.concat(parts, how="vertical_relaxed")
        if form == "parquet":
            whole.sink_parquet(draft)
        else:
            whole.sink_ipc(draft)
    return rows


def spreadsheet_safe(table: pl.DataFrame) -> pl.DataFrame:
    """Text cells that a spreadsheet would run get a leading ``'``; numbers and times do not."""
    text = pl.col(pl.String)
    return table.with_columns(
        pl.when(text.str.contains(_FORMULA)).then(pl.lit("'") + text).otherwise(text).name.keep()
    )


def _with_times_as_text(table: pl.DataFrame) -> pl.DataFrame:
    """Times in ISO form with their offset."""
    return table.with_columns(pl.col(pl.Datetime("us", MARKET)).dt.to_string(_STAMP))
