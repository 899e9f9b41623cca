"""Frames as JSON, CSV, Parquet or Arrow, by the request's Accept header.

Why: a script wants JSON, a spreadsheet CSV, a notebook Parquet or Arrow; the rows are the same.

Promises: decimals are exact in every form (JSON number literals, CSV text, Decimal columns); times
are market time with their offset; a CSV cell that a spreadsheet would run gets a leading ``'``;
an Accept that asks for none of the four is refused with 406.

Look next: ``nemflow.plain``; ``nemflow.cli.output``, which prints the same for people.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import polars as pl
from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from nemflow.mdff.meterdata import MARKET
from nemflow.plain import spreadsheet_safe, to_json
from nemflow.service.problems import Problem

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"
_STAMP = "%Y-%m-%dT%H:%M:%S%.f%:z"
_ROWS_AT_ONCE = 5_000
_JSON_TEXTS = ("inspected", "progress")
#: Further names under which a form is asked for.
_SAME = {"application/parquet": PARQUET, "application/x-ndjson": JSON, "*/*": JSON,
         "application/*": JSON, "text/*": CSV}  # fmt: skip

#: For the OpenAPI of a route that answers with rows.
ROWS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The rows.",
        "content": {
            JSON: {"schema": {"type": "object"}},
            CSV: {"schema": {"type": "string"}},
            PARQUET: {"schema": {"type": "string", "format": "binary"}},
            ARROW: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def chosen(request: Request, among: Collection[str] | None = None) -> str:
    """The form the request asks for; JSON when it does not say. Raises ``Problem`` E-FORM.

    ``among``: the forms there are; None: all four.
    """
    there = _WRITERS.keys() if among is None else among
    given = request.headers.get("accept", "*/*")
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate(given.split(",")):
        name, *options = (piece.strip().lower() for piece in part.split(";"))
        weight = _weight(options)
        form = _SAME.get(name, name)
        if weight > 0 and form in there:
            wanted.append((-weight, place, form))
    if not wanted:
        raise Problem(
            "E-FORM",
            f"Nothing of {given!r} can be given.",
            hint=f"Ask for one of {', '.join(there)}.",
        )
    return min(wanted)[2]


def answered(
    request: Request, name: str, rows: pl.DataFrame, more: Mapping[str, Any] | None = None
) -> Response:
    """Rows in the form asked for.

    Args:
        request: says which form.
        name: what the rows are; the key of the list in JSON.
        rows: the frame.
        more: further members in JSON; in the other forms ``next`` becomes a ``Link`` header.
    """
    form = chosen(request)
    headers = {"Vary": "Accept"}
    onward = (more or {}).get("next")
    if onward is not None:
        link = request.url.include_query_params(cursor=onward)
        headers["Link"] = f'<{link.path}?{link.query}>; rel="next"'
    return _WRITERS[form](name, rows, more or {}, headers)


def document(value: Mapping[str, Any], status: int = 200, **headers: str) -> Response:
    """One JSON object, decimals exact."""
    return Response(to_json(value), status, headers, JSON)


def row_of(rows: pl.DataFrame) -> dict[str, Any]:
    """The one row of a frame; what the store keeps as JSON text becomes an object again."""
    row = rows.row(0, named=True)
    for name in _JSON_TEXTS:
        if isinstance(row.get(name), str):
            row[name] = json.loads(row[name])
    return row


def _as_json(
    name: str, rows: pl.DataFrame, more: Mapping[str, Any], headers: dict[str, str]
) -> Response:
    def text() -> Iterator[str]:
        yield f'{{"{name}":['
        for number, part in enumerate(rows.iter_slices(_ROWS_AT_ONCE)):
            yield (", " if number else "") + to_json(part.to_dicts())[1:-1]
        yield "]" + "".join(f",{to_json(key)}:{to_json(value)}" for key, value in more.items())
        yield "}"

    if rows.height <= _ROWS_AT_ONCE:
        return Response("".join(text()), 200, headers, JSON)
    return StreamingResponse(text(), 200, headers, JSON)


def _as_csv(
    _: str, rows: pl.DataFrame, more: Mapping[str, Any], headers: dict[str, str]
) -> Response:
    flat = rows.with_columns(
        *(_joined(column) for column, kind in rows.schema.items() if isinstance(kind, pl.List)),
        pl.col(pl.Datetime("us", MARKET)).dt.to_string(_STAMP),
    )
    buffer = io.BytesIO()
    spreadsheet_safe(flat).write_csv(buffer, float_scientific=False)
    return Response(buffer.getvalue(), 200, headers, CSV)


def _joined(column: str) -> pl.Expr:
    """A list as texts with blanks between; the days of a gap as ``from..to``."""

    def text(items: Any) -> str:
        return " ".join(
            "..".join(str(part) for part in item.values())
            if isinstance(item, Mapping)
            else str(item)
            for item in items
        )

    return pl.col(column).map_elements(text, return_dtype=pl.String)


def _as_parquet(
    _: str, rows: pl.DataFrame, more: Mapping[str, Any], headers: dict[str, str]
) -> Response:
    buffer = io.BytesIO()
    rows.write_parquet(buffer)
    return Response(buffer.getvalue(), 200, headers, PARQUET)


def _as_arrow(
    _: str, rows: pl.DataFrame, more: Mapping[str, Any], headers: dict[str, str]
) -> Response:
    buffer = io.BytesIO()
    rows.write_ipc_stream(buffer)
    return Response(buffer.getvalue(), 200, headers, ARROW)


def _weight(options: list[str]) -> float:
    """The ``q`` of one part of an Accept header; what is no number counts as 0."""
    for option in options:
        if option.startswith("q="):
            try:
                return float(option[2:])
            except ValueError:
                return 0.0
    return 1.0


_WRITERS: dict[str, Callable[[str, pl.DataFrame, Mapping[str, Any], dict[str, str]], Response]] = {
    JSON: _as_json,
    CSV: _as_csv,
    PARQUET: _as_parquet,
    ARROW: _as_arrow,
}
