"""Frames to rows and back, for engines that keep instants and days as text.

Promises: nothing passes through a binary float; an instant keeps its microseconds; text sorts as
time does. See ``tables.py`` for the spelling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

import polars as pl
import polars.selectors as cs
import sqlalchemy as sa

from nemflow.store.tables import Day, Exact, Stamp

MARKET = "Etc/GMT-10"
STAMP = pl.Datetime("us", MARKET)
_MAX_INT32 = 2**31 - 1
#: Decimal arithmetic rounds to its context's digits, 28 by default; a value may have 38.
_EXACTLY = Context(prec=60)


def stamp_text(column: pl.Expr) -> pl.Expr:
    """``2025-03-06T02:15:09+10:00``; six decimals only where there are any."""
    return column.dt.convert_time_zone(MARKET).dt.strftime("%Y-%m-%dT%H:%M:%S%.f+10:00")


def to_text(frame: pl.DataFrame) -> pl.DataFrame:
    """The same frame in types the driver takes as they are."""
    return frame.with_columns(
        stamp_text(cs.datetime()),
        cs.date().cast(pl.String),
        cs.decimal().cast(pl.String),
        cs.boolean().cast(pl.Int8),
    )


def from_rows(rows: Sequence[Any], types: Mapping[str, Any]) -> pl.DataFrame:
    """Driver rows as a frame, decoded by the columns' types."""
    raw = {name: _raw_type(kind) for name, kind in types.items()}
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(raw)
    frame = pl.DataFrame(
        [
            pl.Series(name, column, dtype=dtype, strict=False)
            for (name, dtype), column in zip(raw.items(), columns, strict=True)
        ]
    )
    return frame.with_columns(
        [_decoded(name, kind) for name, kind in types.items() if _raw_type(kind) == pl.String]
        + [pl.col(name).cast(pl.Boolean) for name, kind in types.items() if _is(kind, sa.Boolean)]
    ).pipe(_with_decimals, [name for name, kind in types.items() if isinstance(kind, Exact)])


def with_arrays(frame: pl.DataFrame) -> pl.DataFrame:
    """Contents for an engine with 32-bit arrays: lists, and decimals as JSON where too wide."""
    values = pl.col("values")
    flat = frame["values"].explode(empty_as_null=False)
    ends = [end for end in (flat.min(), flat.max()) if isinstance(end, int)]
    if all(abs(end) <= _MAX_INT32 for end in ends):
        return frame.with_columns(values.cast(pl.List(pl.Int64)).alias("scaled_values")).drop(
            "values"
        )
    fits = (values.list.eval(pl.element().abs()).list.max() <= _MAX_INT32).fill_null(value=True)
    frame = frame.with_columns(fits.alias("fits"))
    if not frame["fits"].all():
        exact = [
            text if text is not None or fit else decimal_json(numbers, scale)
            for text, fit, numbers, scale in frame.select(
                "exact_values", "fits", "scaled_values", "scale"
            ).iter_rows()
        ]
        frame = frame.with_columns(pl.Series("exact_values", exact, dtype=pl.String))
    return frame.with_columns(
        pl.when("fits").then(values.cast(pl.List(pl.Int64), strict=False)).alias("scaled_values")
    ).drop("fits", "values")


def decimal_json(ints: str, scale: int) -> str:
    """JSON integers at a scale as JSON decimals, each as text."""
    values = [
        None if number is None else f"{_EXACTLY.scaleb(Decimal(number), -scale):f}"
        for number in json.loads(ints)
    ]
    return json.dumps(values, separators=(",", ":"))


def exact_decimals(text: pl.Series) -> pl.Series:
    """Plain decimal digits as ``Decimal(38, S)``, S being what the longest needs."""
    digits = text.str.extract(r"\.(\d+)$", 1).str.len_chars().max()
    return text.cast(pl.Decimal(38, int(str(digits or 0))))


def _with_decimals(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    return frame.with_columns(exact_decimals(frame[name]) for name in names)


def _decoded(name: str, kind: Any) -> pl.Expr:
    column = pl.col(name)
    if isinstance(kind, Stamp):
        wall = column.str.replace(r"\+10:00$", "")
        return wall.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us").dt.replace_time_zone(
            MARKET
        )
    if isinstance(kind, Day):
        return column.str.to_date("%Y-%m-%d")
    return column


def _raw_type(kind: Any) -> pl.DataType:
    if _is(kind, sa.Boolean) or _is(kind, sa.Integer):
        return pl.Int64()
    if _is(kind, sa.Float):
        return pl.Float64()
    return pl.String()


def _is(kind: Any, wanted: type[Any]) -> bool:
    return isinstance(kind, wanted)
