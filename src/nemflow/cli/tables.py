"""Readings or register reads as CSV, Parquet, Arrow or JSON lines, chunk by chunk.

Why: one long table that any tool reads.

Promises: bounded memory, one pass; times are market time with their offset; in CSV, a text that a
spreadsheet would run as a formula gets a leading ``'``; a float is the nearest to the decimal.

Look next: ``MeterData.readings`` for the columns.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from nemflow.mdff.meterdata import MARKET, MeterData
from nemflow.plain import FORMULA, spreadsheet_safe

if TYPE_CHECKING:
    from polars.schema import Schema

_STAMP: Final = "%Y-%m-%dT%H:%M:%S%:z"
_TIME: Final = pl.Datetime("us", MARKET)


def write_table(
    form: str,
    chunks: Iterator[MeterData],
    draft: Path,
    *,
    exact: bool,
    missed: Counter[str] | None = None,
) -> int:
    """Write all chunks as ``csv``, ``jsonl``, ``parquet`` or ``arrow``; returns the row count.

    NEM12 days become readings. Files that hold register reads only (NEM13) become those.

    Args:
        form: what to write.
        chunks: the data.
        draft: where to.
        exact: decimals instead of floats.
        missed: counts the ``days`` and ``reads`` that are not of the table's kind.
    """
    missed = Counter() if missed is None else missed
    tables = _tables(chunks, missed, exact=exact, guarded=form == "csv")
    if form in ("csv", "jsonl"):
        return _append(form, tables, draft)
    if exact:
        return _assemble(form, tables, draft)
    return _stream(form, tables, draft)


def write_frames(form: str, frames: Iterator[pl.DataFrame], draft: Path, *, floats: bool) -> int:
    """Write frames of one schema, the first of which may be empty; returns the row count.

    Args:
        form: ``csv``, ``jsonl``, ``parquet`` or ``arrow``.
        frames: the rows, decimals and all.
        draft: where to.
        floats: decimals become the nearest floats.
    """
    tables = (_as_written(frame, floats=floats, guarded=form == "csv") for frame in frames)
    return (
        _append(form, tables, draft) if form in ("csv", "jsonl") else _stream(form, tables, draft)
    )


def _as_written(table: pl.DataFrame, *, floats: bool, guarded: bool) -> pl.DataFrame:
    """Floats where wanted; texts that a spreadsheet would run made safe."""
    if floats:
        table = table.with_columns(pl.col(pl.Decimal).cast(pl.Float64))
    if not guarded:
        return table
    texts = table.select(pl.col(pl.String))
    if any(bool(text.unique().str.contains(FORMULA).any()) for text in texts):
        return spreadsheet_safe(table)
    return table


def _tables(
    chunks: Iterator[MeterData], missed: Counter[str], *, exact: bool, guarded: bool
) -> Iterator[pl.DataFrame]:
    """One table per chunk, all of one kind: the kind of the first chunk that has rows.

    ``guarded``: texts are safe for spreadsheets.
    """
    reads_only: bool | None = None
    for data in chunks:
        if data.frame_days.is_empty() and data.register_reads.is_empty():
            continue
        if reads_only is None:
            reads_only = data.frame_days.is_empty()
        if reads_only:
            missed["days"] += data.frame_days.height
        else:
            missed["reads"] += data.register_reads.height
        table = data.register_reads if reads_only else data.readings(exact=True)
        if not exact:  # from the decimal, which gives the nearest float: 0.285, not 0.28500…03
            table = table.with_columns(pl.col(pl.Decimal).cast(pl.Float64))
        rules = pl.col("rejected_by")
        table = table.with_columns(pl.when(rules.list.len() > 0).then(rules.list.join(" ")))
        if guarded and (reads_only or _has_formula(data)):
            table = spreadsheet_safe(table)
        if not table.is_empty():
            yield table


def _append(form: str, tables: Iterator[pl.DataFrame], draft: Path) -> int:
    """Text forms: one table after the other."""
    rows = 0
    with draft.open("wb") as out:
        for table in tables:
            text = _with_times_as_text(table)
            if form == "csv":
                text.write_csv(out, include_header=rows == 0, float_scientific=False)
            else:
                text.write_ndjson(out)
            rows += table.height
    return rows


def _stream(form: str, tables: Iterator[pl.DataFrame], draft: Path) -> int:
    """Binary forms: one table after the other through polars' streaming engine."""
    from polars.io.plugins import register_io_source

    rows = 0
    stopped: list[BaseException] = []
    first = next(tables)

    def source(*_: object) -> Iterator[pl.DataFrame]:
        nonlocal rows
        try:
            rows += first.height
            yield first
            for table in tables:
                rows += table.height
                yield table
        except BaseException as error:  # told below in its own words, not in polars'
            stopped.append(error)
            raise

    schema: Schema = first.schema
    try:
        _sink(form, register_io_source(source, schema=schema), draft)
    except Exception:
        if stopped:
            raise stopped[0] from None
        raise
    return rows


def _assemble(form: str, tables: Iterator[pl.DataFrame], draft: Path) -> int:
    """Binary forms whose decimals differ from chunk to chunk: parts on disk, then one file."""
    rows = 0
    with tempfile.TemporaryDirectory(dir=draft.parent, prefix=".nemflow-") as folder:
        parts = []
        for number, table in enumerate(tables):
            part = Path(folder) / f"{number:06d}.parquet"
            table.write_parquet(part, compression="lz4")
            parts.append(pl.scan_parquet(part))
            rows += table.height
        _sink(form, pl.concat(parts, how="vertical_relaxed"), draft)
    return rows


def _sink(form: str, rows: pl.LazyFrame, draft: Path) -> None:
    """Write rows as they come."""
    if form == "parquet":
        rows.sink_parquet(draft)
    else:
        rows.sink_ipc(draft)


def _has_formula(data: MeterData) -> bool:
    """Whether any text of the days would be run: asked once per day, not once per reading."""
    days = data.frame_days
    reasons = days["spans"].explode().struct.field("reason_text")
    texts = [*days.select(pl.col(pl.String)), reasons]
    return any(bool(text.str.contains(FORMULA).any()) for text in texts)


def _with_times_as_text(table: pl.DataFrame) -> pl.DataFrame:
    """Times in ISO form with their offset; each different time is spelt once."""
    columns = [name for name, dtype in table.schema.items() if dtype == _TIME]
    spelt = []
    for name in columns:
        times = table[name].unique()
        texts = times.dt.to_string(_STAMP)
        spelt.append(pl.col(name).replace_strict(times, texts, return_dtype=pl.String))
    return table.with_columns(spelt)
