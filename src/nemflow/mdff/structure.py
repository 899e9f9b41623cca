"""Which record belongs to which: blocks, the open 200 of a 300, the day of a 400.

Why: a record means nothing without the ones before it. The state table of the format is
evaluated over all lines at once by carrying the last 100, 200, 300 and 250 forward.

Promises: a record out of place is a finding, never attached to the wrong parent.

Spec: 1.3 (sequence), 1.4 (state table), 8.9 (D01 to D04). Next: :mod:`nemflow.mdff.streams`
for what a 200 says, :mod:`nemflow.mdff.intervals` for what a 300 says.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from nemflow.mdff.findings import Check, Findings
from nemflow.mdff.lines import Numbered, Text

NEM12_KINDS = (200, 300, 400, 500)
NEM13_KINDS = (250, 550)
#: So many lines of something else may stand before the first record of an MDFF file.
_PREAMBLE = 20


def ordered(lines: Numbered, carried: int = 0, prev: int = 0) -> pl.DataFrame:
    """Add to every line its block and its parents.

    The first ``carried`` lines are repeated from an earlier piece of the text, which ended
    with a record of kind ``prev``.

    Returns:
        The lines with ``prev`` (kind of the known record before it in its source, 0 at the
        start), ``part`` (block number over all sources), ``block`` (1-based in its source),
        ``r100``, ``r200``, ``r300``, ``r250`` (row of the open record, null when none is).
    """
    frame = lines.frame
    starts = (pl.col("src") != pl.col("src").shift(1)).fill_null(value=True)
    kind = pl.col("kind")
    row = pl.col("row").cast(pl.Int64)

    def last(keep: int, *closing: int) -> pl.Expr:
        """Row of the last ``keep`` record; -1 after a closing record or a new source."""
        value = (
            pl.when(kind == keep)
            .then(row)
            .when(kind.is_in(list(closing)) | starts)
            .then(pl.lit(-1, pl.Int64))
        )
        return value.forward_fill()

    frame = frame.with_columns(
        starts.alias("opens"),
        ((kind == 100) | starts).cum_sum().cast(pl.UInt32).alias("part"),
        pl.when(kind > 0).then(kind).forward_fill().shift(1).alias("prev"),
        last(100).alias("r100"),
        last(200, 100, 900, 250).alias("r200"),
        last(300, 100, 200, 900, 250).alias("r300"),
        last(250, 100, 900, 200).alias("r250"),
    )
    first_part = pl.when(pl.col("opens")).then(pl.col("part")).forward_fill()
    known = pl.when(kind > 0).then(pl.col("src")).forward_fill().shift(1)
    return frame.with_columns(
        (pl.col("part") - first_part + 1).cast(pl.UInt32).alias("block"),
        # a record of the source before does not precede the first record of this one
        pl.when((pl.lit(carried > 0)) & (pl.col("row") == carried))
        .then(pl.lit(prev, pl.UInt16))
        .when(known == pl.col("src"))
        .then(pl.col("prev"))
        .otherwise(0)
        .alias("prev"),
        *(
            pl.when(pl.col(name) >= 0).then(pl.col(name)).cast(pl.UInt32).alias(name)
            for name in ("r100", "r200", "r300", "r250")
        ),
    ).drop("opens")


def foreign(
    lines: pl.DataFrame, texts: Sequence[Text], found: Findings, refused: set[int]
) -> set[int]:
    """Note sources that are not MDFF at all (F018), with a guess; give their indexes."""
    summary = lines.group_by("src").agg(
        pl.col("kind").first().alias("first"),
        pl.col("kind").head(_PREAMBLE).is_in([100, 200, 250]).any().alias("opened"),
    )
    seen = set(summary["src"].to_list())
    bad = summary.filter((pl.col("first") == 0) & ~pl.col("opened"))["src"].to_list()
    heads = lines.filter(pl.col("src").is_in(bad)).group_by("src").agg(pl.col("text").head(2))
    for src, head in heads.iter_rows():
        found.note("F018", src, guess(head), row=None, value=head[0])
    for src in range(len(texts)):
        if src not in seen and src not in refused:
            found.note("F018", src, "the file is empty")
            bad.append(src)
    return set(bad)


def guess(head: Sequence[str]) -> str:
    """What a text that is not MDFF might be, from its first two lines. Spec: D38."""
    first = head[0].strip().lower()
    if first.startswith(("nmi,meter serial", "nmi,meter_serial")):
        kind = "a Jemena or AusNet portal table (one row per day, not NEM12)"
    elif first.startswith("usage type,amount used"):
        kind = "an Origin usage table"
    elif "datetime_utc" in first or "powerpal" in first or "watt_hours" in first:
        kind = "a Powerpal export"
    elif first.startswith(("i,", "c,", "d,")) and first.count(",") >= 4:
        kind = "an AEMO market data table (C/I/D records)"
    elif first.startswith(("{", "[")):
        kind = "JSON"
    elif first.startswith("%pdf"):
        kind = "a PDF"
    elif "mdpversiondate" in first:
        kind = "an MDMT settlement table, not MDFF"
    elif first.count(",") >= 2 and any(word in first for word in ("date", "time", "nmi", "read")):
        kind = "a table with column titles, not record-based NEM12 or NEM13"
    else:
        kind = "not a meter data file known to us"
    return (
        f"the first record is not 100, 200 or 250; this looks like {kind}. "
        "Ask the sender or the portal for the NEM12 (detailed) format"
    )


def check_order(
    lines: pl.DataFrame, found: Findings, *, opening: bool, closing: bool, carried: int
) -> None:
    """Apply the file-level rules on record order to lines that :func:`ordered` prepared.

    ``opening`` and ``closing`` say whether the first and last line of the sources are here.
    """
    kind, prev = pl.col("kind"), pl.col("prev")
    known = kind > 0
    indicator = pl.col("text").str.split(",").list.first().str.head(20)
    misplaced = (
        ((kind == 300) & pl.col("r200").is_null())
        | ((kind == 400) & (pl.col("r300").is_null() | ~prev.is_in([300, 400])))
        | ((kind == 500) & pl.col("r300").is_null())
        | ((kind == 550) & pl.col("r250").is_null())
    )
    checks = [
        Check("F005", (kind == 100) & ~prev.is_in([0, 900]), "RecordIndicator", indicator,
              "a second 100 before the 900 of the first"),
        Check("F006", known & (prev == 900), "RecordIndicator", indicator,
              "data after the 900 record; a file is one 100...900 block"),
        Check("F009", kind == 0, "RecordIndicator", indicator,
              "the line does not start with a known record indicator "
              "(100, 200, 300, 400, 500, 250, 550 or 900)"),
        Check("F010", misplaced, "RecordIndicator", indicator,
              pl.when(kind == 300).then(pl.lit("a 300 without an open 200 before it"))
              .when((kind == 400) & (prev == 500)).then(pl.lit("a 400 after a 500 of its day"))
              .when(kind == 400).then(pl.lit("a 400 without a 300 directly before it"))
              .when(kind == 500).then(pl.lit("a 500 without a 300 before it"))
              .otherwise(pl.lit("a 550 without a 250 before it"))),
        Check("F011", (kind == 900) & (prev == 100), "RecordIndicator", indicator,
              "the 100 is followed by the 900: no data in the file"),
        Check("N015", known & (prev == 200) & (kind != 300), "RecordIndicator", indicator,
              "the 200 before this record has no 300"),
    ]  # fmt: skip
    if opening:
        first = pl.col("src") != pl.col("src").shift(1)
        heads = lines.filter(known).filter(first.fill_null(value=True))
        found.run(
            _targeted(heads),
            [Check("F002", kind != 100, "RecordIndicator", indicator,
                   "the first record is not a 100 header; the sender is not known")],
        )  # fmt: skip
    if closing:
        tails = lines.filter(known).group_by("src", maintain_order=True).last()
        found.run(
            _targeted(tails.select(lines.columns)),
            [Check("F006", kind != 900, "RecordIndicator", indicator,
                   "the file ends without a 900 record; it may be cut off")],
        )  # fmt: skip
    found.run(_targeted(lines.slice(carried)), checks)
    _check_families(lines, found)


def _targeted(lines: pl.DataFrame) -> pl.DataFrame:
    """A misplaced record takes down the day it stands next to, if there is one."""
    return lines.with_columns(
        pl.when(pl.col("kind").is_in([400, 500]))
        .then(pl.col("r300"))
        .when(pl.col("kind") == 550)
        .then(pl.col("r250"))
        .alias("target")
    )


def _check_families(lines: pl.DataFrame, found: Findings) -> None:
    """F004: records of both formats in one block, or of the other than the header says."""
    family = (
        pl.when(pl.col("kind").is_in(NEM12_KINDS))
        .then(pl.lit("NEM12"))
        .when(pl.col("kind").is_in(NEM13_KINDS))
        .then(pl.lit("NEM13"))
    )
    if not lines["kind"].is_in(NEM13_KINDS).any():
        marked = lines.filter(pl.col("kind").is_in([100, 200]))
    else:
        marked = lines.filter(pl.col("kind") > 0)
    header = pl.col("text").str.extract(r"(?i)^\W*100\W+(NEM1[23])\b", 1).str.to_uppercase()
    marked = marked.with_columns(
        family.alias("family"),
        pl.when(pl.col("kind") == 100).then(header).alias("says"),
    )
    expected = (
        pl.coalesce("says", "family").drop_nulls().first().over("part")
        if marked.select(pl.col("part").n_unique()).item() > 1
        else pl.coalesce("says", "family").drop_nulls().first()
    )
    wrong = (
        marked.with_columns(expected.alias("expected"))
        .filter(pl.col("family") != pl.col("expected"))
        .unique("part", keep="first", maintain_order=True)
        .with_columns(pl.lit(None, pl.UInt32).alias("target"))
    )
    found.add(
        wrong,
        Check("F004", pl.lit(value=True), "RecordIndicator", pl.col("kind").cast(pl.String),
              pl.format("a {} record in a {} block; the two are never mixed",
                        pl.col("kind"), pl.col("expected"))),
    )  # fmt: skip
