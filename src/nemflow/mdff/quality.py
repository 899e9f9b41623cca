"""Quality per interval: 300 flags, 400 spans, methods and reasons.

Why: the quality a bill depends on is not the 300's when the day varies; a reader that stops at
the 300 is silently wrong.

Promises: every interval has one quality, from the 400 that covers it or else from the 300;
a gap, an overlap or a stray range is a finding.

Spec: 2.4 (record 400), 3.1 (flags), 3.2 (methods), 3.5 (reasons), 4 (400 in detail),
5.7 (ranking). Next: :mod:`nemflow.mdff.days`, :mod:`nemflow.mdff.readings`.
"""

from __future__ import annotations

from datetime import date
from typing import Final

import polars as pl

from nemflow.mdff import codes, fields
from nemflow.mdff.fields import filled
from nemflow.mdff.findings import Check, Findings
from nemflow.mdff.meterdata import SPAN

PATTERN: Final = r"^(?:[AVN]|[ESF][0-9]{2})$"
#: The flag N was withdrawn on this day (version 2.2 of the format).
N_WITHDRAWN: Final = date(2021, 10, 1)
#: Reasons that call for 400 records although the flag is A.
METER_EVENTS: Final = sorted(codes.METER_EVENT_REASONS)
#: Best first; the weakest of a day or roll-up is the last one present.
RANKING: Final = ("A", "F", "S", "E", "N")


def flag_checks(prefix: str, *, forbidden: str, on: pl.Expr) -> list[Check]:
    """Rules Q001 to Q007 for a record's quality, method and reason.

    Args:
        prefix: start of the fields' names, e.g. ``"Previous"`` for a 250.
        forbidden: flags the record may not have.
        on: the day the data is about, as Date (codes have validity dates).

    Expects columns ``qm`` (upper case), ``reason`` and ``reason_text`` as text, ``code`` as
    Int16.
    """
    qm, reason, code = pl.col("qm"), pl.col("reason"), pl.col("code")
    name, reason_name = f"{prefix}QualityMethod", f"{prefix}ReasonCode"
    fits = qm.str.contains(PATTERN).fill_null(value=False)
    flag, method = qm.str.head(1), qm.str.slice(1)
    has_method = fits & (qm.str.len_chars() == 3)
    known = method.is_in(list(codes.METHOD_FLAGS))
    pairs = sorted(codes.QUALITY_METHODS)
    banned = flag.is_in(list(forbidden)) if forbidden else pl.lit(value=False)
    unknown_reason = filled(reason) & ~code.is_in(list(codes.KNOWN_REASONS)).fill_null(value=False)
    obsolete = code.is_in(list(codes.OBSOLETE_REASONS)) & (on >= codes.REASONS_REVISED)
    return [
        Check("Q001", ~fits, name, qm,
              "one flag letter, and two digits of method for E, S and F, expected"),
        Check("Q001", fits & banned, name, qm, f"the flag is not allowed in this record "
              f"({', '.join(forbidden)} never is)"),
        Check("Q002", has_method & ~known, name, qm, "the method number is not known"),
        Check("Q003", has_method & known & ~qm.is_in(pairs), name, qm,
              "this method is not expected with this flag"),
        Check("Q004", fits & flag.is_in(["S", "F"]) & ~filled(reason), reason_name, reason,
              "a substitute needs a reason code"),
        Check("Q005", (code == 0) & ~filled(pl.col("reason_text")), f"{prefix}ReasonDescription",
              pl.col("reason_text"), "reason 0 needs a description"),
        Check("Q006", fits & (flag == "V") & filled(reason), reason_name, reason,
              "V has no reason of its own; the 400 records carry it"),
        Check("Q007", unknown_reason, reason_name, reason, "the reason code is not known"),
        Check("Q007", obsolete, reason_name, reason,
              "the reason code is obsolete for data of this date"),
        Check("Q010", fits & (flag == "N") & (on >= N_WITHDRAWN), name, qm,
              "the flag N was withdrawn on 1 October 2021"),
    ]  # fmt: skip


def read_events(rows: pl.DataFrame, days: pl.DataFrame, found: Findings) -> pl.DataFrame:
    """Read 400 records and apply them to their days.

    Args:
        rows: the 400 lines, with ``r300`` (row of their day).
        days: the placed days: ``row``, ``src``, ``per_day``, ``qm``, ``day``.
        found: where faults are noted; a fault takes the whole day.

    Returns:
        One row per day that has 400s: ``row`` and ``spans`` (valid ranges only, ascending).
    """
    if rows.is_empty():
        return pl.DataFrame(schema={"row": pl.UInt32, "spans": pl.List(SPAN)})
    rows = rows.filter(pl.col("r300").is_not_null()).with_columns(pl.col("r300").alias("target"))
    rows = fields.split(rows, 6, found)
    number = r"^[0-9]{1,4}$"
    rows = (
        rows.with_columns(
            pl.when(pl.col("f2").str.contains(number)).then(pl.col("f2")).cast(pl.UInt16).alias("start"),
            pl.when(pl.col("f3").str.contains(number)).then(pl.col("f3")).cast(pl.UInt16).alias("end"),
            pl.col("f4").str.to_uppercase().alias("qm"),
            pl.col("f5").alias("reason"),
            pl.col("f6").alias("reason_text"),
            fields.code_of(pl.col("f5")).alias("code"),
        )
        .join(
            days.select(pl.col("row").alias("r300"), "per_day", "day", day_qm="qm"),
            on="r300", how="inner", maintain_order="left",
        )
    )  # fmt: skip
    given = pl.col("given")
    numbers = pl.format("{}-{}", "f2", "f3")
    in_range = (pl.col("start") >= 1) & (pl.col("start") <= pl.col("end")) & (
        pl.col("end") <= pl.col("per_day")
    )  # fmt: skip
    in_range = in_range.fill_null(value=False)
    found.run(
        rows,
        [
            Check("Q012", given != 6, "", given.cast(pl.String),
                  pl.format("{} fields, 6 expected", given)),
            Check("F015", pl.col("padded") > 0, "", None,
                  pl.format("empty fields after the last one: {}", pl.col("padded"))),
            Check("Q008", ~in_range, "StartInterval", numbers,
                  pl.format("the range must lie within intervals 1 to {}", pl.col("per_day"))),
            *flag_checks("", forbidden="V", on=pl.col("day")),
        ],
    )  # fmt: skip
    # a flag without its method rejects the day, but still says more than the 300's own
    usable = rows.filter(in_range & pl.col("qm").str.head(1).is_in(list("AESFN")))
    _check_cover(rows.filter(in_range), found)
    return (
        usable.sort("r300", "start", maintain_order=True)
        .group_by("r300", maintain_order=True)
        .agg(
            pl.struct(
                start="start",
                end="end",
                quality=pl.col("qm").str.head(1),
                method=fields.none_if_empty(pl.col("qm").str.slice(1)),
                reason_code="code",
                reason_text=fields.none_if_empty(pl.col("reason_text")),
            )
            .cast(SPAN)
            .alias("spans")
        )
        .rename({"r300": "row"})
    )


def _check_cover(rows: pl.DataFrame, found: Findings) -> None:
    """Q008: the 400s of a day follow each other from the first interval to the last.

    A gap, or another order, under a 300 that is not V is a warning: its own flag fills.
    """
    if rows.is_empty():
        return
    same_day = pl.col("r300") == pl.col("r300").shift(1)
    last_of_day = (pl.col("r300") != pl.col("r300").shift(-1)).fill_null(value=True)
    before = pl.when(same_day).then(pl.col("end").shift(1)).otherwise(0).fill_null(0)
    mild = pl.when(pl.col("day_qm") == "V").then(pl.lit("D")).otherwise(pl.lit("W"))
    rows = rows.with_columns(
        before.cast(pl.Int32).alias("before"), last_of_day.alias("last_of_day")
    )
    start, end = pl.col("start").cast(pl.Int32), pl.col("end").cast(pl.Int32)
    ordered = rows.sort("r300", "start", maintain_order=True)
    reach = pl.col("end").cast(pl.Int32).cum_max().shift(1).over("r300").fill_null(0)
    overlaps = ordered.filter(start <= reach)
    found.add(
        overlaps,
        Check("Q008", pl.lit(value=True), "StartInterval", pl.col("start").cast(pl.String),
              pl.format("intervals {} to {} overlap the 400 before",
                        pl.col("start"), pl.col("end"))),
    )  # fmt: skip
    clear = rows.join(
        overlaps.select("r300").unique(), on="r300", how="anti", maintain_order="left"
    )
    found.run(
        clear,
        [
            Check("Q008", start > pl.col("before") + 1, "StartInterval",
                  pl.col("start").cast(pl.String),
                  pl.format("intervals {} to {} are not covered by any 400",
                            pl.col("before") + 1, start - 1), mild),
            Check("Q008", start <= pl.col("before"), "StartInterval",
                  pl.col("start").cast(pl.String), "the 400 records are not in ascending order",
                  mild),
            Check("Q008", pl.col("last_of_day") & (end < pl.col("per_day")), "EndInterval",
                  pl.col("end").cast(pl.String),
                  pl.format("intervals {} to {} are not covered by any 400",
                            end + 1, pl.col("per_day")), mild),
        ],
    )  # fmt: skip


def of_each_interval(days: pl.DataFrame) -> pl.Series:
    """The flag in force for every interval of every day, one after the other.

    Args:
        days: as for :func:`segments`.
    """
    pieces = segments(days)
    length = (pl.col("end") - pl.col("start") + 1).cast(pl.UInt32)
    return pieces.select(
        pl.col("quality").repeat_by(length).explode(empty_as_null=False)
    ).to_series()


def has_withdrawn(days: pl.DataFrame) -> pl.Series:
    """Which days have an interval with the withdrawn flag N, by themselves or by a 400."""
    spanned = pl.col("spans").list.eval(pl.element().struct.field("quality") == "N").list.any()
    own = (pl.col("quality") == "N") & (pl.col("spans").list.len() == 0)
    return days.select((spanned | own).fill_null(value=False)).to_series()


def segments(days: pl.DataFrame) -> pl.DataFrame:
    """Cut every day into stretches of one quality that cover it without a gap.

    Args:
        days: ``spans``, ``per_day`` and the 300's quality, method, reason_code, reason_text.

    Returns:
        ``place`` (index of the day), ``start``, ``end`` (1-based, inclusive), quality, method,
        reason_code, reason_text; ordered by day and start. Where spans overlap, the earlier
        one keeps its intervals.
    """
    own = ("quality", "method", "reason_code", "reason_text")
    days = days.with_row_index("place")
    plain = days.filter(pl.col("spans").list.len() == 0).select(
        "place", pl.lit(1, pl.Int32).alias("start"), pl.col("per_day").cast(pl.Int32).alias("end"),
        *own,
    )  # fmt: skip
    varied = days.filter(pl.col("spans").list.len() > 0)
    if varied.is_empty():
        return plain
    spans = (
        varied.select("place", "spans")
        .explode("spans")
        .unnest("spans")
        .with_columns(pl.col("start", "end").cast(pl.Int32))
        .sort("place", "start", maintain_order=True)
    )
    reach = pl.col("end").cum_max().shift(1).over("place").fill_null(0)
    spans = spans.with_columns(pl.max_horizontal(pl.col("start"), reach + 1).alias("start"))
    spans = spans.filter(pl.col("start") <= pl.col("end"))
    before = spans.with_columns(pl.col("end").shift(1).over("place").fill_null(0).alias("reach"))
    gaps = before.filter(pl.col("start") > pl.col("reach") + 1).select(
        "place", (pl.col("reach") + 1).alias("start"), (pl.col("start") - 1).alias("end")
    )
    tails = (
        spans.group_by("place").agg(pl.col("end").max())
        .join(varied.select("place", pl.col("per_day").cast(pl.Int32)), on="place")
        .filter(pl.col("end") < pl.col("per_day"))
        .select("place", start=pl.col("end") + 1, end="per_day")
    )  # fmt: skip
    filling = pl.concat([gaps, tails]).join(varied.select("place", *own), on="place", how="left")
    names = plain.columns
    return pl.concat([plain, spans.select(names), filling.select(names)]).sort("place", "start")
