"""Which record belongs to which: blocks, the open 200 of a 300, the day of a 400.

Why: a record means nothing without the ones before it. The state table of the format is
evaluated over all lines at once by carrying the last 100, 200, 300 and 250 forward.

Promises: a record out of place is a finding, never attached to the wrong parent.

Spec: 1.3 (sequence), 1.4 (state table), 8.9 (D01 to D04). Next: :mod:`nemflow.mdff.streams`
for what a 200 says, :mod:`nemflow.mdff.intervals` for what a 300 says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from nemflow.mdff.findings import Check, Findings
from nemflow.mdff.lines import Numbered, Text

NEM12_KINDS = (200, 300, 400, 500)
NEM13_KINDS = (250, 550)
_INDICATOR = pl.col("text").str.split(",").list.first().str.head(20)
#: So many lines of something else may stand before the first record of an MDFF file.
PREAMBLE = 20


@dataclass(frozen=True, slots=True)
class Before:
    """What stands before the lines of a later piece of a text."""

    carried: int = 0  #: so many lines at the start (the open 100 and 200) are repeated
    prev: int = 0  #: kind of the last record before the piece, 0 at the start of a text
    block: int = 1  #: the block that goes on
    family: str = ""  #: NEM12 or NEM13, as the block has been so far
    mixed: bool = False  #: rule F004 has been noted for that block


def ordered(lines: Numbered, before: Before) -> pl.DataFrame:
    """Add to every line its block and its parents.

    Returns:
        The lines with ``prev`` (kind of the known record before it in its source, 0 at the
        start), ``part`` (block number over all sources), ``block`` (1-based in its source),
        ``r100``, ``r200``, ``r300``, ``r250`` (row of the open record, null when none is).
    """
    frame = lines.frame
    starts = (pl.col("src") != pl.col("src").shift(1)).fill_null(value=True)
    kind = pl.col("kind")
    row = pl.col("row").cast(pl.Int64)
    # the carried lines are parents of what follows, not the records before it
    known = pl.when((kind > 0) & (row >= before.carried)).then(kind)
    since = pl.when(starts).then(pl.lit(before.prev, pl.UInt16))

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
        pl.when(starts)
        .then(before.prev)
        .otherwise(pl.coalesce(known, since).forward_fill().shift(1))
        .cast(pl.UInt16)
        .alias("prev"),
        starts.alias("opens"),
        last(100).alias("r100"),
        last(200, 100, 900, 250).alias("r200"),
        last(300, 100, 200, 900, 250).alias("r300"),
        last(250, 100, 900, 200).alias("r250"),
    )
    # what stands before the first record belongs to the first block
    new = (kind == 100) & (pl.col("prev") != 0) & (row >= before.carried)
    frame = frame.with_columns(
        (new | pl.col("opens")).cum_sum().cast(pl.UInt32).alias("part"),
    )
    first_part = pl.when(pl.col("opens")).then(pl.col("part")).forward_fill()
    return frame.with_columns(
        (pl.col("part") - first_part + before.block).cast(pl.UInt32).alias("block"),
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
        pl.col("kind").head(PREAMBLE).is_in([100, 200, 250]).any().alias("opened"),
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
        kind = ""
    seems = f"this looks like {kind}" if kind else "this is no meter data file that we know"
    return (
        f"the first record is not 100, 200 or 250; {seems}. "
        "Ask the sender or the portal for the NEM12 (detailed) format"
    )


def check_order(
    lines: pl.DataFrame, found: Findings, *, opening: bool, closing: bool, before: Before
) -> None:
    """Apply the file-level rules on record order to lines that :func:`ordered` prepared.

    ``opening`` and ``closing`` say whether the first and last line of the sources are here.
    """
    kind, prev = pl.col("kind"), pl.col("prev")
    known = _targeted(lines.filter(kind > 0))
    misplaced = (
        ((kind == 300) & pl.col("r200").is_null())
        | ((kind == 400) & (pl.col("r300").is_null() | ~prev.is_in([300, 400])))
        | ((kind == 500) & pl.col("r300").is_null())
        | ((kind == 550) & pl.col("r250").is_null())
    )
    found.run(
        known.filter(pl.col("row") >= before.carried),
        [
            Check("F005", (kind == 100) & ~prev.is_in([0, 900]), "RecordIndicator", _INDICATOR,
                  "a second 100 before the 900 of the first"),
            Check("F006", prev == 900, "RecordIndicator", _INDICATOR,
                  "data after the 900 record; a file is one 100...900 block"),
            Check("F010", misplaced, "RecordIndicator", _INDICATOR,
                  pl.when(kind == 300).then(pl.lit("a 300 without an open 200 before it"))
                  .when((kind == 400) & (prev == 500)).then(pl.lit("a 400 after a 500 of its day"))
                  .when(kind == 400).then(pl.lit("a 400 without a 300 directly before it"))
                  .when(kind == 500).then(pl.lit("a 500 without a 300 before it"))
                  .otherwise(pl.lit("a 550 without a 250 before it"))),
            Check("F011", (kind == 900) & prev.is_in([0, 100]), "RecordIndicator", _INDICATOR,
                  "no data before this 900"),
        ],
    )  # fmt: skip
    same = pl.col("src") == pl.col("src").shift(-1)
    after = pl.when(same).then(kind.shift(-1)).otherwise(0 if closing else 300)
    # a carried 200 is without a 300 only if the piece before ended with it
    own = pl.col("row") >= before.carried - (1 if before.prev == 200 else 0)
    found.run(
        known,
        [Check("N015", (kind == 200) & (after != 300) & own, "RecordIndicator", _INDICATOR,
               "no 300 follows this 200")],
    )  # fmt: skip
    if opening:
        first = pl.col("src") != pl.col("src").shift(1)
        found.run(
            known.filter(first.fill_null(value=True)),
            [Check("F002", kind != 100, "RecordIndicator", _INDICATOR,
                   "the first record is not a 100 header; the sender is not known")],
        )  # fmt: skip
    if closing:
        last = pl.col("src") != pl.col("src").shift(-1)
        found.run(
            known.filter(last.fill_null(value=True)),
            [Check("F006", kind != 900, "RecordIndicator", _INDICATOR,
                   "the file ends without a 900 record; it may be cut off"),
             Check("F011", kind == 100, "RecordIndicator", _INDICATOR,
                   "the file ends after this 100: no data")],
        )  # fmt: skip


def check_unknown(lines: pl.DataFrame, too_long: pl.DataFrame | None, found: Findings) -> None:
    """F009: lines that are no record, unless another finding has told what they are.

    The rest of a 300 that is broken over several lines (I012) is told of at its start, a line
    that is too long (F001) by itself.
    """
    unknown = lines.filter(pl.col("kind") == 0)
    if unknown.is_empty():
        return
    broken = found.collected().filter(pl.col("rule") == "I012")["target"]
    pieces = (pl.col("prev") == 300) & pl.col("r300").is_in(broken.implode())
    told = pl.Series(dtype=pl.UInt32) if too_long is None else too_long["row"]
    found.run(
        _targeted(unknown.filter(~pieces.fill_null(value=False))),
        [Check("F009", ~pl.col("row").is_in(told.implode()), "RecordIndicator", _INDICATOR,
               "the line does not start with a known record indicator "
               "(100, 200, 300, 400, 500, 250, 550 or 900)")],
    )  # fmt: skip


def _targeted(lines: pl.DataFrame) -> pl.DataFrame:
    """A misplaced record takes down the day it stands next to, if there is one."""
    return lines.with_columns(
        pl.when(pl.col("kind").is_in([400, 500]))
        .then(pl.col("r300"))
        .when(pl.col("kind") == 550)
        .then(pl.col("r250"))
        .alias("target")
    )


def check_families(lines: pl.DataFrame, found: Findings, before: Before) -> tuple[str, bool]:
    """F004: records of both formats in one block, or of the other than the header says.

    Returns:
        What the last block is taken for, and whether it is mixed: the next piece's ``Before``.
    """
    kind = pl.col("kind")
    is12, is13 = kind.is_in(NEM12_KINDS), kind.is_in(NEM13_KINDS)
    family = pl.when(is12).then(pl.lit("NEM12")).when(is13).then(pl.lit("NEM13"))
    header = pl.col("text").str.extract(r"(?i)^\W*100\W+(NEM1[23])\b", 1).str.to_uppercase()
    goes_on = pl.col("part") == (1 if before.prev else 0)
    # without a NEM13 record nothing can be wrong but a 200 under a NEM13 header
    records = is12 | is13 if lines["kind"].is_in(NEM13_KINDS).any() else kind == 200
    own = lines.filter(((kind == 100) | records) & (pl.col("row") >= before.carried)).select(
        "row", "src", "part", "kind",
        family=family,
        says=pl.when(goes_on & (before.family != "")).then(pl.lit(before.family))
        .when(kind == 100).then(header),
        told=goes_on & before.mixed,
    )  # fmt: skip
    if own.is_empty():
        return before.family, before.mixed
    blocks = own.group_by("part", maintain_order=True).agg(
        pl.coalesce("says", "family").drop_nulls().first().alias("expected"),
        pl.col("told").any(),
    )
    wrong = (
        own.drop("told")
        .join(blocks, on="part", how="left", maintain_order="left")
        .filter(pl.col("family") != pl.col("expected"))
        .unique("part", keep="first", maintain_order=True)
        .with_columns(pl.lit(None, pl.UInt32).alias("target"))
    )
    found.run(
        wrong,
        [Check("F004", ~pl.col("told"), "RecordIndicator", kind.cast(pl.String),
               pl.format("a {} record in a {} block; the two are never mixed",
                         kind, pl.col("expected")))],
    )  # fmt: skip
    last = blocks.tail(1)
    mixed = bool(last["told"][0]) or last["part"][0] in wrong["part"]
    return last["expected"][0] or "", mixed
