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
import re
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
#: Digits that always fit a 64-bit integer.
_DIGITS_INT64: Final = 18
#: A 300 whose values all have the same number of decimals, as most senders write them.
_ALIKE: Final = re.compile(
    r"300,[0-9]{8},[0-9]+(?:\.(?P<decimals>[0-9]{1,14}))?,"
    r"(?:(?(decimals)[0-9]+\.[0-9]+|[0-9]+),)*[A-Z]"
)
#: Fields of a 300 beside its values: indicator and date before, five after.
_FIELDS: Final = 7
#: Intervals in a day of the format's own lengths; others are read, but not fast.
_USUAL: Final = (48, 96, 288)
#: Bytes of text that one task converts: large enough to be busy, small enough for the cache.
_BLOCK_BYTES: Final = 2_000_000
#: A block smaller than this is not worth a task of its own.
_SMALL_BLOCK_BYTES: Final = 250_000
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
        for form in _forms(same["text"]) if per_day in _USUAL and not same.is_empty() else ():
            if rest.is_empty():
                break
            done, rest = _clean(rest, per_day, form)
            if not done.is_empty():
                parts.append(Values(done, form.decimals))
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


@dataclass(frozen=True, slots=True)
class _Form:
    """How the values of a line may be written: so many digits before and after the point.

    ``fixed``: every value has exactly ``decimals`` of them, so the point can be left out and
    the number read as an integer at once, which costs half.
    """

    whole: int
    decimals: int
    fixed: bool = False

    @property
    def grammar(self) -> str:
        """The whole line; that it has the right number of values shows later."""
        value = rf"[0-9]{{1,{self.whole}}}"
        if self.decimals:
            value += (
                rf"\.[0-9]{{{self.decimals}}}"
                if self.fixed
                else rf"(?:\.[0-9]{{1,{self.decimals}}})?"
            )
        return (
            rf"^300,[0-9]{{8}},(?:{value},)+[A-Z][0-9]{{0,2}},[0-9]{{0,3}},"
            rf"(?:[^,\x22 \t](?:[^,\x22]*[^,\x22 \t])?)?,(?:[0-9]{{14}})?,(?:[0-9]{{14}})?$"
        )


def _forms(text: pl.Series) -> list[_Form]:
    """The forms to try: the first line's own, if its values are all written alike, then any."""
    general = [_Form(whole, decimals) for whole, decimals in _TIERS]
    line = text[0]
    alike = _ALIKE.match(line)
    if alike is None:
        return general
    decimals = len(alike["decimals"] or "")
    return [_Form(_DIGITS_INT64 - decimals, decimals, fixed=True), *general]


def _clean(rows: pl.DataFrame, per_day: int, form: _Form) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Convert the lines that match the grammar exactly; give those and the others."""
    pattern = form.grammar
    text = rows["text"]

    def convert(block: pl.Series) -> tuple[pl.Series, pl.Series]:
        match = block.str.contains(pattern)
        good = block if match.all() else block.filter(match)
        values = _numbers(good, per_day, form)
        if values is None:  # some have another number of values than their 200 says
            match &= block.str.count_matches(",", literal=True) == per_day + _FIELDS - 1
            values = _numbers(block.filter(match), per_day, form)
        assert values is not None  # noqa: S101 - for the type checker
        return match, values

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


def _numbers(good: pl.Series, per_day: int, form: _Form) -> pl.Series | None:
    """The values of lines that match the form, one after the other, as scaled integers.

    None when a line has more or fewer values than ``per_day``: then, of the first such line, the
    quality stands where a value should, or a value where the quality should. As a quality is no
    number and everything else there is one, the nulls show it.
    """
    if good.is_empty():
        return pl.Series([], dtype=pl.Int64)
    width = per_day + _FIELDS
    joined: bytes = good.str.join(",").cast(pl.Binary).item()
    if form.fixed and form.decimals:
        joined = joined.translate(None, b".")
    # the last number is ours: an empty field at the very end would not count as one
    numbers = pl.read_csv(
        joined + b",0",
        has_header=False,
        eol_char=",",
        quote_char=None,
        ignore_errors=True,
        schema={"value": pl.Int64 if form.fixed else pl.Decimal(38, form.decimals)},
    ).to_series()
    if numbers.len() != good.len() * width + 1:
        return None
    grid = numbers.head(-1).reshape((good.len(), width))
    values = grid.arr.slice(2, per_day, as_array=True).reshape((-1,))
    qualities = grid.arr.get(2 + per_day)
    if values.null_count() or qualities.null_count() < good.len():
        return None
    return values if form.fixed else values.to_physical().cast(pl.Int64)


def _blocks(text: pl.Series) -> Iterator[pl.Series]:
    """Cut a column of lines into equal blocks: the same number for every core, none too large."""
    size = int(text.str.len_bytes().sum())
    cores = os.cpu_count() or 1
    rounds = -(-size // (_BLOCK_BYTES * cores))
    count = max(1, min(cores * rounds, size // _SMALL_BLOCK_BYTES))
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
