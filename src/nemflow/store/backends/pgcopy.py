"""Frames as PostgreSQL's binary COPY, column by column.

Why: COPY is how PostgreSQL takes rows fastest, and its binary form spares the server all parsing;
but a driver that encodes value by value is slower than the server. Here every column becomes
bytes at once (numpy), and rows are woven from the columns' bytes.

Promises: the same rows as text COPY of the same frame, proved by test; integers, decimals and
instants are exact; what does not fit its column is an error before a byte is sent.

Look next: ``postgres.py`` sends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from nemflow.store.tables import Day, Exact, IntegerValues, Stamp

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
#: PostgreSQL counts from 2000-01-01, polars from 1970-01-01.
_EPOCH_DAYS = 10_957
_EPOCH_US = _EPOCH_DAYS * 86_400_000_000
_INT4_OID = 23
_MAX_INT4 = 2**31 - 1
#: Bytes of the number of columns at the start of a row.
_COUNT = 2
#: Longer values are copied one by one.
_WIDE = 200


@dataclass(slots=True)
class _Bytes:
    """One column as bytes: ``lengths`` per row (-1 null), and the payload of all rows."""

    lengths: np.ndarray[Any, Any]  #: int32, -1 for null
    payload: np.ndarray[Any, Any]  #: uint8, the non-null values one after the other

    @property
    def is_even(self) -> bool:
        """Whether all values are equally long, or all null."""
        return bool((self.lengths == self.lengths[0]).all())

    @property
    def width(self) -> int:
        """Bytes of an even column in a row: its length, and the value."""
        return 4 + max(int(self.lengths[0]), 0)


def encode(frame: pl.DataFrame, columns: Sequence[sa.Column[Any]]) -> memoryview:
    """A frame as the body of ``COPY table (columns) FROM STDIN WITH (FORMAT binary)``.

    Args:
        frame: one column per entry of ``columns``, by name.
        columns: the table's columns in the order of the COPY.

    Raises:
        OverflowError: a value of ``scaled_values`` does not fit 32 bits.
    """
    if frame.is_empty():
        return memoryview(_HEADER + _TRAILER)
    parts = [_column(frame[column.name], column.type) for column in columns]
    return _rows(parts, frame.height).data.cast("B")


def _rows(parts: Sequence[_Bytes], rows: int) -> np.ndarray[Any, Any]:
    """The columns' bytes woven into rows: a count, then length and value of each column.

    Where a column's values are all equally long it stands at a fixed distance from the column
    before; neighbours of that kind (mostly that is all of them) are written as one block.
    """
    runs: list[list[_Bytes]] = [[]]
    uneven: list[_Bytes] = []
    for part in parts:
        if part.is_even:
            runs[-1].append(part)
        else:
            uneven.append(part)
            runs.append([])
    widths = [sum(part.width for part in run) for run in runs]
    widths[0] += _COUNT
    if not uneven:
        out, body = _body(rows * widths[0])
        _fill(body.reshape(rows, widths[0]), runs[0], len(parts))
        return out
    sizes = np.full(rows, sum(widths), dtype=np.int64)
    for part in uneven:
        sizes += 4 + np.maximum(part.lengths, 0)
    starts = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(sizes, out=starts[1:])
    out, body = _body(int(starts[-1]))
    place = starts[:-1].copy()
    for number, (run, width) in enumerate(zip(runs, widths, strict=True)):
        block = np.empty((rows, width), dtype=np.uint8)
        _fill(block, run, 0 if number else len(parts))
        _put(body, place, block)
        place += width
        if number < len(uneven):
            part = uneven[number]
            _put(body, place, part.lengths.astype(">i4").view(np.uint8).reshape(rows, 4))
            place += 4
            _weave(body, place, part)
            place += np.maximum(part.lengths, 0)
    return out


def _body(size: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Room for everything, with the ends written, and the part of it that takes the rows."""
    out = np.empty(len(_HEADER) + size + len(_TRAILER), dtype=np.uint8)
    body = out[len(_HEADER) : len(_HEADER) + size]
    out[: len(_HEADER)] = np.frombuffer(_HEADER, dtype=np.uint8)
    out[-len(_TRAILER) :] = np.frombuffer(_TRAILER, dtype=np.uint8)
    return out, body


def _fill(block: np.ndarray[Any, Any], run: Sequence[_Bytes], count: int) -> None:
    """Write even columns side by side, with the number of columns before them if it is given."""
    at = 0
    if count:
        block[:, :_COUNT] = np.array([count], dtype=">i2").view(np.uint8)
        at = _COUNT
    for part in run:
        length = int(part.lengths[0])
        block[:, at : at + 4] = np.array([length], dtype=">i4").view(np.uint8)
        if length > 0:
            block[:, at + 4 : at + 4 + length] = part.payload.reshape(-1, length)
        at += part.width


def _put(
    out: np.ndarray[Any, Any], place: np.ndarray[Any, Any], block: np.ndarray[Any, Any]
) -> None:
    """Write a block of equally wide values, one per row."""
    width = block.shape[1]
    if width > _WIDE:  # one copy each beats an index per byte
        for at, row in zip(place.tolist(), block, strict=True):
            out[at : at + width] = row
        return
    out[place[:, None] + np.arange(width)] = block


def _weave(out: np.ndarray[Any, Any], place: np.ndarray[Any, Any], part: _Bytes) -> None:
    """Write a column's payload into its rows."""
    there = part.lengths > 0
    if not there.any():
        return
    lengths = part.lengths[there].astype(np.int64)
    width = int(lengths[0])
    if (lengths == width).all():
        _put(out, place[there], part.payload.reshape(-1, width))
        return
    starts = np.zeros(lengths.size, dtype=np.int64)
    np.cumsum(lengths[:-1], out=starts[1:])
    if lengths.mean() > _WIDE:
        for at, start, size in zip(
            place[there].tolist(), starts.tolist(), lengths.tolist(), strict=True
        ):
            out[at : at + size] = part.payload[start : start + size]
        return
    shift = np.repeat(place[there] - starts, lengths)
    out[np.arange(part.payload.size) + shift] = part.payload


# ---------------------------------------------------------------- one column


def _lengths(present: pl.Series, width: int) -> np.ndarray[Any, Any]:
    return np.where(present.to_numpy(), np.int32(width), np.int32(-1))


def _fixed(series: pl.Series, dtype: str) -> _Bytes:
    """Numbers of one width, big-endian."""
    kind = np.dtype(dtype)
    present = series.is_not_null()
    numbers = series.drop_nulls().to_numpy().astype(kind)
    return _Bytes(_lengths(present, kind.itemsize), numbers.view(np.uint8))


def _text(series: pl.Series) -> _Bytes:
    """UTF-8 text. NUL, which PostgreSQL cannot hold, becomes the replacement character."""
    joined: bytes = series.str.join("").cast(pl.Binary).item() or b""
    if b"\0" in joined:
        series = series.str.replace_all("\0", "\ufffd", literal=True)
        joined = series.str.join("").cast(pl.Binary).item()
    lengths = series.str.len_bytes().cast(pl.Int32).fill_null(-1).to_numpy()
    return _Bytes(lengths, np.frombuffer(joined, dtype=np.uint8))


def _int4_arrays(series: pl.Series) -> _Bytes:
    """Lists of integers as ``integer[]``: a header, then length and value of each."""
    count = series.list.len()
    present = series.is_not_null()
    kept = series if present.all() else series.drop_nulls()
    flat = kept.explode(empty_as_null=False).cast(pl.Int64)
    ends = [end for end in (flat.min(), flat.max()) if isinstance(end, int)]
    if any(abs(end) > _MAX_INT4 for end in ends):
        raise OverflowError("a scaled value does not fit 32 bits")
    sizes = count.drop_nulls().to_numpy().astype(np.int64)
    holes = flat.null_count() > 0
    if sizes.size and (sizes == sizes[0]).all() and not holes:
        width = int(sizes[0])
        block = np.empty((sizes.size, 5 + 2 * width), dtype=">i4")
        block[:, 0] = 1  # dimensions
        block[:, 1] = 0  # no nulls
        block[:, 2] = _INT4_OID
        block[:, 3] = width
        block[:, 4] = 1  # lower bound
        block[:, 5::2] = 4
        block[:, 6::2] = flat.to_numpy().reshape(sizes.size, width)
        lengths = np.full(series.len(), -1, dtype=np.int32)
        lengths[present.to_numpy()] = block.shape[1] * 4
        return _Bytes(lengths, block.reshape(-1).view(np.uint8))
    return _ragged_arrays(kept, present)


def _ragged_arrays(kept: pl.Series, present: pl.Series) -> _Bytes:
    """Lists of differing lengths, or with holes: rare, so one at a time."""
    chunks = []
    for numbers in kept:
        values = numbers.to_list()
        words: list[int] = [1, int(any(v is None for v in values)), _INT4_OID, len(values), 1]
        for value in values:
            words.extend((-1,) if value is None else (4, value))
        chunks.append(np.array(words, dtype=">i4").tobytes())
    lengths = np.full(present.len(), -1, dtype=np.int32)
    lengths[present.to_numpy()] = [len(chunk) for chunk in chunks]
    return _Bytes(lengths, np.frombuffer(b"".join(chunks), dtype=np.uint8))


def _numeric(series: pl.Series) -> _Bytes:
    """Exact decimals as ``numeric``: base 10,000 digits; few rows, so one at a time."""
    chunks = [_numeric_bytes(str(value)) for value in series.drop_nulls()]
    lengths = np.full(series.len(), -1, dtype=np.int32)
    lengths[series.is_not_null().to_numpy()] = [len(chunk) for chunk in chunks]
    return _Bytes(lengths, np.frombuffer(b"".join(chunks), dtype=np.uint8))


def _numeric_bytes(text: str) -> bytes:
    sign = 0x4000 if text.startswith("-") else 0
    whole, _, part = text.lstrip("-").partition(".")
    scale = len(part)
    whole = whole.zfill(-(-len(whole) // 4) * 4)
    part = part.ljust(-(-len(part) // 4) * 4, "0")
    digits = [int((whole + part)[i : i + 4]) for i in range(0, len(whole + part), 4)]
    weight = len(whole) // 4 - 1
    while digits and digits[0] == 0:
        digits.pop(0)
        weight -= 1
    while digits and digits[-1] == 0:
        digits.pop()
    if not digits:
        weight, sign = 0, 0
    head = np.array([len(digits), weight], dtype=">i2").tobytes()
    tail = np.array([sign, scale], dtype=">u2").tobytes()
    return head + tail + np.array(digits, dtype=">i2").tobytes()


def _stamps(series: pl.Series) -> _Bytes:
    return _fixed(series.dt.epoch("us") - _EPOCH_US, ">i8")


def _days(series: pl.Series) -> _Bytes:
    return _fixed(series.cast(pl.Int32) - _EPOCH_DAYS, ">i4")


#: The binary form of each kind of column; the first kind that fits counts.
_FORMS: tuple[tuple[type[Any], Callable[[pl.Series], _Bytes]], ...] = (
    (IntegerValues, _int4_arrays),
    (Stamp, _stamps),
    (Day, _days),
    (Exact, _numeric),
    (sa.BigInteger, lambda series: _fixed(series.cast(pl.Int64), ">i8")),
    (sa.Integer, lambda series: _fixed(series.cast(pl.Int32), ">i4")),
    (sa.Boolean, lambda series: _fixed(series.cast(pl.UInt8), "u1")),
    (sa.Text, lambda series: _text(series.cast(pl.String))),
)


def _column(series: pl.Series, kind: Any) -> _Bytes:
    """One column as bytes."""
    form = next(form for known, form in _FORMS if isinstance(kind, known))
    return form(series)
