"""The values of a 300: where the speed is.

Why: nearly all bytes of a file are interval values. Lines that match the whole grammar of a
300 (one regular expression, which also proves the number of values) are turned into exact
scaled integers in one go, in blocks on all cores; only the other lines are looked at field by
field.

Promises: a value is exactly what the file says, scaled; nothing is rounded and nothing passes
through a binary float; a line with a value count that disagrees with its 200 is a finding,
never a shifted or shortened day.

Spec: 2.3 (record 300), 3.4 (numbers), 8.9 (D09, D10, D13, D16 to D19, D21, D27).
Next: :mod:`nemflow.mdff.days` for the rest of the record.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import polars as pl

from nemflow.mdff import fields
from nemflow.mdff.findings import Check, Findings
from nemflow.mdff.lines import BLANKS
from nemflow.mdff.meterdata import MAX_INT64, MAX_SCALE_INT64, largest, relist, rescaled

#: Digits before and after the point that fit 64-bit integers, tried in this order.
_TIERS: Final = ((15, 3), (11, 7), (4, 14))
#: Intervals in a day of the format's own lengths; others are read, but not fast.
_USUAL: Final = (48, 96, 288)
#: Bytes of text that one task converts: large enough to be busy, small enough for the cache.
_BLOCK_BYTES: Final = 4_000_000
#: A block smaller than this is not worth a task of its own.
_SMALL_BLOCK_BYTES: Final = 500_000
#: What can be kept exactly: 38 digits, of them 15 before the point.
_NUMBER: Final = r"^(?:[0-9]{1,15}(?:\.[0-9]{0,23})?|\.[0-9]{1,23})$"
_NEGATIVE: Final = r"^-(?:[0-9]{1,15}(?:\.[0-9]{0,23})?|\.[0-9]{1,23})$"
_TOO_LONG: Final = r"^-?[0-9]*(?:\.[0-9]*)?$"
_QUALITY_LIKE: Final = r"^[A-Za-z][0-9]{0,2}$"
_TAIL: Final = (
    r",(?<quality>[A-Z][0-9]{0,2}),(?<reason>[0-9]{0,3}),(?<text>[^,]*),"
    r"(?<update>(?:[0-9]{14})?),(?<msats>(?:[0-9]{14})?)$"
)
#: The end of a 300 without a long description fits into this; longer ones are asked again.
_TAIL_CHARS: Final = 96


@dataclass(slots=True)
class Values:
    """Days with their values: ``frame`` has a list column of integers scaled by ``scale``."""

    frame: pl.DataFrame
    scale: int


def read_values(rows: pl.DataFrame, found: Findings) -> Values:
    """Turn 300 lines into days.

    Args:
        rows: row, src, line, text, ``per_day`` (intervals expected) and whatever else shall
            stay with the day.
        found: where lines that cannot be placed, and bad cells, are noted.

    Returns:
        The placeable days in the order of ``rows`` without ``text``, with ``date_text``,
        ``qm``, ``reason``, ``reason_text``, ``update``, ``msats`` (text, trimmed), ``values``
        and ``gaps`` (places of empty cells, null where there was none to look for).
    """
    parts: list[Values] = []
    lengths = rows["per_day"].unique().to_list()
    for per_day in sorted(lengths):
        same = rows if len(lengths) == 1 else rows.filter(pl.col("per_day") == per_day)
        rest = same
        for whole, decimals in _TIERS if per_day in _USUAL else ():
            if rest.is_empty():
                break
            done, rest = _clean(rest, per_day, whole, decimals)
            if not done.is_empty():
                parts.append(Values(done, decimals))
        if not rest.is_empty():
            parts.append(_field_by_field(rest, per_day, found))
    return _together(parts, rows)


def _together(parts: list[Values], rows: pl.DataFrame) -> Values:
    """All parts at one scale, in file order."""
    parts = [part for part in parts if not part.frame.is_empty()]
    if not parts:
        columns = {"values": pl.List(pl.Int64), "gaps": _GAPS} | dict.fromkeys(_TEXTS, pl.String)
        empty = rows.clear().drop("text")
        return Values(
            empty.with_columns(pl.lit(None, dtype).alias(n) for n, dtype in columns.items()), 0
        )
    scale = max(part.scale for part in parts)
    frames = [rescaled(part.frame, scale - part.scale) for part in parts]
    if any(frame.schema["values"] == pl.List(pl.Int128) for frame in frames):
        frames = [frame.cast({"values": pl.List(pl.Int128)}) for frame in frames]
    if len(frames) == 1:
        return Values(frames[0], scale)
    names = frames[0].columns
    return Values(pl.concat([frame.select(names) for frame in frames]).sort("row"), scale)


_TEXTS = ("date_text", "qm", "reason", "reason_text", "update", "msats")
_GAPS = pl.List(pl.UInt16)


# ---------------------------------------------------------------- lines that are right


def _clean(
    rows: pl.DataFrame, per_day: int, whole: int, decimals: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Convert the lines that match the grammar exactly; give those and the others."""
    value = rf"[0-9]{{1,{whole}}}(?:\.[0-9]{{1,{decimals}}})?,"
    pattern = (
        rf"^300,[0-9]{{8}},(?:{value}){{{per_day}}}[A-Z][0-9]{{0,2}},[0-9]{{0,3}},"
        rf"(?:[^,\x22 \t](?:[^,\x22]*[^,\x22 \t])?)?,(?:[0-9]{{14}})?,(?:[0-9]{{14}})?$"
    )
    text = rows["text"]
    width = per_day + 7

    def convert(block: pl.Series) -> tuple[pl.Series, pl.Series]:
        match = block.str.contains(pattern)
        good = block if match.all() else block.filter(match)
        if good.is_empty():
            return match, pl.Series([], dtype=pl.Int64)
        # the last number is ours: an empty field at the very end would not count as one
        joined = f"{','.join(good.to_list())},0".encode()
        numbers = pl.read_csv(
            joined,
            has_header=False,
            eol_char=",",
            quote_char=None,
            ignore_errors=True,
            schema={"value": pl.Decimal(38, decimals)},
        ).to_series()
        grid = numbers.head(-1).reshape((good.len(), width)).arr.slice(2, per_day, as_array=True)
        return match, grid.reshape((-1,)).to_physical().cast(pl.Int64)

    blocks = list(_blocks(text))
    if len(blocks) == 1:
        results = [convert(blocks[0])]
    else:
        with ThreadPoolExecutor(min(len(blocks), os.cpu_count() or 1)) as pool:
            results = list(pool.map(convert, blocks))
    matches = pl.concat([match for match, _ in results])
    flat = pl.concat([numbers for _, numbers in results], rechunk=True)
    if flat.is_empty():
        return rows.clear(), rows
    if matches.all():
        good, rest = rows, rows.clear()
    else:
        good, rest = rows.filter(matches), rows.filter(~matches)
    values = flat.reshape((good.height, per_day)).arr.to_list()
    none = pl.lit(None, _GAPS).alias("gaps")
    return _with_tail(good).with_columns(values.alias("values"), none), rest


def _blocks(text: pl.Series) -> Iterator[pl.Series]:
    """Cut a column of lines into equal blocks: enough for all cores, none too large."""
    size = int(text.str.len_bytes().sum())
    cores = min(os.cpu_count() or 1, size // _SMALL_BLOCK_BYTES)
    count = max(1, cores, -(-size // _BLOCK_BYTES))
    step = max(1, -(-text.len() // count))
    for start in range(0, text.len(), step):
        yield text.slice(start, step)


def _with_tail(rows: pl.DataFrame) -> pl.DataFrame:
    """Date, quality, reason and stamps of lines known to match the grammar."""

    def cut(text: pl.Expr) -> pl.Expr:
        return text.str.extract_groups(_TAIL).alias("tail")

    rows = rows.with_columns(
        pl.col("text").str.slice(4, 8).alias("date_text"),
        cut(pl.col("text").str.tail(_TAIL_CHARS)),
    )
    missed = pl.col("tail").struct.field("quality").is_null()
    if rows.select(missed.any()).item():
        rows = rows.with_columns(
            pl.when(missed).then(cut(pl.col("text"))).otherwise(pl.col("tail")).alias("tail")
        )
    tail = pl.col("tail").struct
    return rows.with_columns(
        tail.field("quality").alias("qm"),
        tail.field("reason"),
        tail.field("text").alias("reason_text"),
        tail.field("update"),
        tail.field("msats"),
    ).drop("tail", "text")


# ---------------------------------------------------------------- lines that need a closer look


def _field_by_field(rows: pl.DataFrame, per_day: int, found: Findings) -> Values:
    """Convert lines that differ from the grammar, and say how they differ."""
    rows = fields.tidy(rows.with_columns(pl.col("row").alias("target")), found)
    cells = rows["text"].str.split(",").list.eval(pl.element().str.strip_chars(BLANKS))
    rows = rows.with_columns(cells.alias("cells")).with_columns(
        pl.col("cells").list.len().cast(pl.Int32).alias("given"),
        _last(pl.element() != "").alias("used"),
        pl.col("cells").list.get(per_day + 2, null_on_oob=True).alias("qm"),
        pl.col("cells")
        .list.slice(2)
        .list.eval(pl.element().str.contains(_QUALITY_LIKE).arg_max())
        .list.first()
        .cast(pl.Int32)
        .alias("count"),
        pl.col("cells")
        .list.slice(2)
        .list.eval(pl.element().str.contains(_QUALITY_LIKE).any())
        .list.first()
        .alias("has_quality"),
    )
    in_place = pl.col("qm").str.contains(_QUALITY_LIKE).fill_null(value=False)
    # a letter among the values may be the quality of a shorter day; then what follows it shows
    # in an empty cell
    early = pl.col("has_quality") & (pl.col("count") < per_day)
    short = early & pl.col("cells").list.slice(2, per_day).list.contains("")
    no_quality = ~early & (pl.col("given") == per_day + 7)
    is_placed = (in_place & ~short) | no_quality
    placed = rows.filter(is_placed)
    _note_unplaced(rows.filter(~is_placed), per_day, found)
    found.run(placed, _width_checks(per_day))
    cell = pl.col("cells").list
    placed = placed.with_columns(
        cell.get(1, null_on_oob=True).fill_null("").alias("date_text"),
        pl.col("qm").fill_null(""),
        cell.get(per_day + 3, null_on_oob=True).fill_null("").alias("reason"),
        cell.get(per_day + 4, null_on_oob=True).fill_null("").alias("reason_text"),
        cell.get(per_day + 5, null_on_oob=True).fill_null("").alias("update"),
        cell.get(per_day + 6, null_on_oob=True).fill_null("").alias("msats"),
        cell.slice(2, per_day).alias("cells"),
    )
    return _exact(placed, found)


def _last(condition: pl.Expr) -> pl.Expr:
    """One-based place of the last cell that meets the condition, 0 when none does."""
    place = pl.when(condition).then(pl.int_range(1, pl.len() + 1))
    return pl.col("cells").list.eval(place).list.max().fill_null(0).cast(pl.Int32)


def _width_checks(per_day: int) -> list[Check]:
    """Fields missing or too many round values that are all in place."""
    full = per_day + 7
    return [
        Check("I010", pl.col("given") < full, "", pl.col("given").cast(pl.String),
              pl.format("{} fields, {} expected: values and quality are there, "
                        "fields after them are missing", pl.col("given"), full)),
        Check("I001", pl.col("used") > full, "", pl.col("used").cast(pl.String),
              pl.format("{} fields, {} expected", pl.col("used"), full)),
        Check("F015", (pl.col("given") > full) & (pl.col("used") <= full), "", None,
              pl.format("empty fields after the last one: {}", pl.col("given") - full)),
    ]  # fmt: skip


def _note_unplaced(rows: pl.DataFrame, per_day: int, found: Findings) -> None:
    """Say why a day cannot be placed in time."""
    minutes = 1440 // per_day
    count = pl.when(pl.col("has_quality")).then(pl.col("count")).otherwise(pl.col("used") - 2)
    broken = ~pl.col("has_quality") & pl.col("continued")
    other = pl.lit(None, pl.String)
    for length in (5, 15, 30):
        fits = (count == 1440 // length) & pl.lit(length != minutes)
        hint = f"; the row is complete for {length}-minute data, so the 200 may be wrong"
        other = pl.when(fits).then(pl.lit(hint)).otherwise(other)
    expected = pl.format(
        "{} values, {} expected for {}-minute data{}",
        count.clip(lower_bound=0), per_day, minutes, other.fill_null(""),
    )  # fmt: skip
    number = count.clip(lower_bound=0).cast(pl.String)
    found.run(
        rows,
        [
            Check("I012", broken, "", number,
                  pl.format("the record is broken over several lines: {} values on this one, "
                            "{} expected", count.clip(lower_bound=0), per_day)),
            Check("I001", ~broken, "", number, expected),
        ],
    )  # fmt: skip


def _exact(placed: pl.DataFrame, found: Findings) -> Values:
    """Cells to scaled integers; a cell that is no number becomes null and a finding."""
    if placed.is_empty():
        return Values(
            placed.drop("cells", "text", *_WORK).with_columns(
                pl.lit(None, pl.List(pl.Int64)).alias("values"), pl.lit(None, _GAPS).alias("gaps")
            ),
            0,
        )
    cells = placed["cells"]
    flat = cells.explode(empty_as_null=False)
    number = flat.str.contains(_NUMBER) | flat.str.contains(_NEGATIVE)
    numbers = pl.select(pl.when(number).then(flat)).to_series()
    scale = largest(numbers.str.extract(r"\.([0-9]*)$", 1).str.len_bytes())
    exact = numbers.cast(pl.Decimal(38, scale)).to_physical()
    if scale <= MAX_SCALE_INT64 and largest(exact.abs()) <= MAX_INT64:
        exact = exact.cast(pl.Int64)
    if not bool(number.all()) or bool(flat.str.starts_with("-").any()):
        _note_cells(placed, flat, found)
    empty = pl.when(pl.element() == "").then(pl.int_range(1, pl.len() + 1, dtype=pl.UInt16))
    placed = placed.with_columns(
        relist(exact, cells).alias("values"),
        pl.col("cells").list.eval(empty.drop_nulls()).alias("gaps"),
    )
    return Values(placed.drop("cells", "text", *_WORK), scale)


_WORK = ("given", "used", "count", "has_quality", "target")


def _note_cells(placed: pl.DataFrame, flat: pl.Series, found: Findings) -> None:
    """One finding per line and kind of fault, naming the first cell and how many follow."""
    cells = (
        placed.select("row", "src", "target", "qm", n=pl.col("cells").list.len())
        .with_columns(pl.int_ranges(1, pl.col("n") + 1).alias("place"))
        .explode("place")
        .with_columns(flat.alias("cell"))
    )
    cell = pl.col("cell")
    good = cell.str.contains(_NUMBER)
    fault = (
        pl.when(good | (cell == ""))  # empty cells are judged with the 400s, see days
        .then(None)
        .when(cell.str.contains(_NEGATIVE))
        .then(pl.lit("negative"))
        .when(cell.str.contains(_TOO_LONG) & cell.str.contains("[0-9]"))
        .then(pl.lit("long"))
        .otherwise(pl.lit("text"))
    )
    faults = (
        cells.with_columns(fault.alias("fault"))
        .drop_nulls("fault")
        .group_by("row", "src", "target", "fault", maintain_order=True)
        .agg(pl.col("place").first(), pl.col("cell").first(), pl.len().alias("count"))
        .with_columns(
            pl.format("IntervalValue{}", "place").alias("field"),
            pl.when(pl.col("count") > 1)
            .then(pl.format(" ({} values of this record)", "count"))
            .otherwise(pl.lit(""))
            .alias("more"),
        )
    )
    kind, name, more = pl.col("fault"), pl.col("field"), pl.col("more")
    found.run(
        faults,
        [
            Check("I004", kind == "text", name, cell,
                  pl.format("not a plain decimal number{}", more)),
            Check("I005", kind == "negative", name, cell,
                  pl.format("the value is negative{}", more)),
            Check("I014", kind == "long", name, cell,
                  pl.format("more digits than can be kept exactly{}", more)),
        ],
    )  # fmt: skip
