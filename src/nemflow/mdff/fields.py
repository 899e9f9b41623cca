"""Fields as column expressions: splitting a record, and dates and stamps out of text.

Why: the format's grammar is plain ASCII patterns; Python's and polars' own conversions take
far more (full-width digits, ``1_0``, ``+5``, ``nan``, blanks). Pattern first, conversion second.

Promises: what does not match its pattern becomes null, never a guess; a stamp is market time.

Spec: 1.1, 2 (data types), 8.9 (D12, D14, D30, D31, D40).
"""

from __future__ import annotations

import polars as pl

from nemflow.mdff.findings import Check, Findings
from nemflow.mdff.lines import BLANKS, unquoted
from nemflow.mdff.meterdata import MARKET, STAMP, largest

#: Years from 1000 on (no library below counts from 0), and no leap seconds.
STAMP14 = r"^[1-9][0-9]{11}[0-5][0-9]$"
STAMP12 = r"^[1-9][0-9]{11}$"
ISO_STAMP = (
    r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}"
    r"(?::[0-5][0-9](?:\.[0-9]{1,9})?)?(?:\+10:00)?$"
)
ISO_DATE = r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}(?:[T ]00:00(?::00)?(?:\+10:00)?)?$"
DATE8 = r"^[1-9][0-9]{7}$"
#: A spreadsheet has shortened the digits; they cannot be had back (D13).
SCIENTIFIC = r"^[0-9](?:\.[0-9]+)?[eE]\+?[0-9]{1,2}$"
#: Day or month first, as spreadsheets write dates: which is which cannot be told (D41).
DAY_FIRST = r"^[0-9]{1,2}[/.-][0-9]{1,2}[/.-][0-9]{4}(?:[T ]|$)"
#: A blank before or after a comma, or at an end of the line.
SPACED = r"(?:^[ \t]|[ \t],|,[ \t]|[ \t]$)"


def split(rows: pl.DataFrame, count: int, found: Findings) -> pl.DataFrame:
    """Split records of one type into ``f1`` ... ``f<count>``, trimmed, "" where absent.

    Adds ``given``, the number of fields without empty ones beyond ``count``, and ``padded``,
    how many empty ones stood there. Notes quotes (F016) and blanks (F017).
    """
    rows = tidy(rows, found)
    cells = rows["text"].str.split(",")
    width = largest(cells.list.len())
    out = rows.with_columns(
        cells.alias("cells"),
        cells.list.len().cast(pl.Int32).alias("given"),
        pl.lit(0, pl.Int32).alias("padded"),
    ).with_columns(
        pl.col("cells")
        .list.get(i, null_on_oob=True)
        .str.strip_chars(BLANKS)
        .fill_null("")
        .alias(f"f{i + 1}")
        for i in range(count)
    )
    if width > count:
        beyond = pl.col("cells").list.slice(count)
        used = beyond.list.eval(
            pl.when(pl.element().str.strip_chars(BLANKS) != "").then(pl.int_range(1, pl.len() + 1))
        ).list.max()
        out = out.with_columns(
            pl.when(pl.col("given") > count)
            .then(count + used.fill_null(0).cast(pl.Int32))
            .otherwise(pl.col("given"))
            .alias("used")
        ).with_columns(
            (pl.col("given") - pl.col("used")).alias("padded"), pl.col("used").alias("given")
        )
    return out.select(*rows.columns, "given", "padded", *(f"f{i + 1}" for i in range(count)))


def tidy(rows: pl.DataFrame, found: Findings) -> pl.DataFrame:
    """The same rows with quotes taken off and noted; blanks are noted, trimmed by the caller."""
    lines = rows["text"]
    quoted = lines.str.contains('"', literal=True).arg_true()
    if not quoted.is_empty():
        found.add(
            rows[quoted],
            Check("F016", pl.lit(value=True), "", None, "quoted fields; the format has no quoting"),
        )
        plain = [unquoted(line) for line in lines.gather(quoted)]
        rows = rows.with_columns(lines.clone().scatter(quoted, plain))
    spaced = pl.col("text").str.contains(SPACED)
    found.run(rows, [Check("F017", spaced, "", None, "blanks round a field")])
    return rows


def date_of(text: pl.Expr) -> pl.Expr:
    """CCYYMMDD (or an ISO date, D14) as Date; null when it is no date of the calendar."""
    digits = (
        pl.when(text.str.contains(DATE8))
        .then(text)
        .when(text.str.contains(ISO_DATE))
        .then(text.str.head(10).str.replace_all("-", "", literal=True))
    )
    return digits.str.to_date("%Y%m%d", strict=False)


def stamp_of(text: pl.Expr) -> pl.Expr:
    """A 14- or 12-digit stamp (or ISO, D14) as market time; null when it is none.

    An ISO stamp is taken without an offset or with ``+10:00`` only.
    """
    digits = (
        pl.when(text.str.contains(STAMP14))
        .then(text)
        .when(text.str.contains(STAMP12))
        .then(text + "00")
        .when(text.str.contains(ISO_STAMP))
        .then(text.str.head(19).str.replace_all(r"[-:T ]|\+.*", "").str.pad_end(14, "0"))
    )
    naive = digits.str.to_datetime("%Y%m%d%H%M%S", strict=False, time_unit="us")
    return naive.dt.replace_time_zone(MARKET).cast(STAMP)


def code_of(text: pl.Expr) -> pl.Expr:
    """A reason code of one to three digits as Int16; null when empty or malformed."""
    return pl.when(text.str.contains(r"^[0-9]{1,3}$")).then(text).cast(pl.Int16, strict=False)


def none_if_empty(text: pl.Expr) -> pl.Expr:
    """Null for an empty field."""
    return pl.when(text != "").then(text)


def filled(text: pl.Expr) -> pl.Expr:
    """True where a field is there and not empty."""
    return (text != "").fill_null(value=False)
