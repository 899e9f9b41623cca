"""Raw records cut out of a text once more, by line number.

Why: only when the last piece of a large text was read can it turn out that an earlier day is a
twin (I009), or that the whole file is refused; then those records need their raw text.

Promises: line numbers as an editor shows them; memory is that of the records asked for, a slice
at a time.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from typing import BinaryIO

import polars as pl

from nemflow.mdff.meterdata import QUARANTINE

_OPENS = {"100", "200", "250", "300", "900"}
_SLICE = 2000  #: records handed out at a time


def records(
    stream: BinaryIO, lines: Collection[int], *, source: str, rules: list[str], first_line: int = 1
) -> Iterator[pl.DataFrame]:
    """The records that start on these lines, as slices of ``MeterData.quarantine``."""
    wanted = set(lines)
    header = opener = ""
    block = 0
    rows: list[dict[str, object]] = []
    text = io.TextIOWrapper(stream, encoding="latin-1", newline=None)
    current: list[str] | None = None
    for number, raw in enumerate(text, first_line):
        line = raw.rstrip("\n")
        kind = line.lstrip('\ufeff" \t').removeprefix("\xef\xbb\xbf")[:3]
        if kind in _OPENS:
            current = None
            if kind == "100":
                header, opener, block = line, "", block + 1
            elif kind == "200":
                opener = line
        if number in wanted and kind in ("300", "250"):
            current = [line]
            if len(rows) == _SLICE:
                yield _frame(rows)
                rows = []
            about = {"source": source, "line": number, "block": max(block, 1), "rules": rules}
            rows.append(about | _row(kind, current, header, opener))
        elif current is not None and line.strip():
            current.append(line)
    text.detach()
    if rows:
        yield _frame(rows)


def _row(kind: str, lines: list[str], header: str, opener: str) -> dict[str, object]:
    fields = (opener if kind == "300" else lines[0]).split(",")
    return {
        "record": kind,
        "nmi": fields[1].strip() if len(fields) > 1 else None,
        "suffix": fields[4].strip() if len(fields) > 4 else None,
        "date": lines[0].split(",")[1].strip() if kind == "300" and "," in lines[0] else None,
        "lines": lines,
        "context": "\n".join(part for part in (header, opener if kind == "300" else "") if part),
    }


def _frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Rows as a frame, text decoded as UTF-8 where it is, else as Windows-1252."""
    for row in rows:
        lines = row.pop("lines")
        assert isinstance(lines, list)  # noqa: S101 - for the type checker
        row["raw"] = _decoded("\n".join(lines))
        row["context"] = _decoded(str(row["context"]))
    frame = pl.DataFrame(rows, infer_schema_length=None)
    day = pl.col("date").cast(pl.String).str.to_date("%Y%m%d", strict=False)
    return frame.with_columns(day=day).select(list(QUARANTINE)).cast(dict(QUARANTINE))  # type: ignore[arg-type]


def _decoded(text: str) -> str:
    data = text.encode("latin-1")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
