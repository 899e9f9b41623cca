"""A day: one 300 under its 200, with its 400s, its version and what keeps it out of a load.

Why: the day is the unit of versioning, so everything that is said of it comes together here.

Promises: the version is the row's UpdateDateTime, else the file's DateTime, never the moment
of arrival; a stamp far in the future is not trusted, because it would win for ever.

Spec: 2.3, 5.3 (versions), 5.5 (null days), 10 (I and Q rules).
Next: :mod:`nemflow.mdff.reader`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Final

import polars as pl

from nemflow.mdff import codes, fields, quality
from nemflow.mdff.fields import filled, none_if_empty
from nemflow.mdff.findings import Check, Findings
from nemflow.mdff.meterdata import MARKET, MAX_INT64, SPAN

#: No interval meter data of the market is older.
EARLIEST: Final = date(1998, 1, 1)
#: The last day whose last interval ends within the calendar's four-digit years.
LATEST: Final = date(9999, 12, 30)
DESCENDING: Final = "earlier than the day before it in the same 200"
_MARKET_CLOCK = timezone(timedelta(hours=10))


def dated(rows: pl.DataFrame, found: Findings) -> pl.DataFrame:
    """Add ``day``; rows without a date that exists are noted (I002) and left out."""
    text = pl.col("date_text")
    day = fields.date_of(text)
    rows = rows.with_columns(
        pl.when(day <= LATEST).then(day).alias("day"), pl.col("row").alias("target")
    )
    lost = pl.col("day").is_null()
    shortened = text.str.contains(fields.SCIENTIFIC)
    found.run(
        rows,
        [
            Check("I016", lost & shortened, "IntervalDate", text,
                  "a spreadsheet has shortened the date; its digits are lost"),
            Check("I002", lost & ~shortened, "IntervalDate", text,
                  "not a date CCYYMMDD of the calendar"),
            Check("I015", ~lost & ~text.str.contains(fields.DATE8), "IntervalDate", text,
                  "written as an ISO date; CCYYMMDD expected"),
        ],
    )  # fmt: skip
    return rows.filter(~lost) if rows["day"].null_count() else rows


def stamped(rows: pl.DataFrame, found: Findings, now: datetime) -> pl.DataFrame:
    """Add update_at, msats_at, version_at and version_derived from text and ``file_at``.

    Expects ``update``, ``msats`` as text; ``file_at`` as market time. ``now`` is aware.
    """
    update, msats = pl.col("update"), pl.col("msats")
    rows = rows.with_columns(
        fields.stamp_of(update).alias("update_at"), fields.stamp_of(msats).alias("msats_at")
    )
    limit = pl.lit(now + timedelta(days=1)).dt.convert_time_zone(MARKET)
    future = (pl.col("update_at") > limit).fill_null(value=False)
    shortened = update.str.contains(fields.SCIENTIFIC)
    ambiguous = update.str.contains(fields.DAY_FIRST)
    lost = pl.col("update_at").is_null()
    at = pl.col("update_at")
    found.run(
        rows,
        [
            Check("I008", update == "", "UpdateDateTime", update,
                  "missing; the file's DateTime stands in as the version"),
            Check("I016", lost & shortened, "UpdateDateTime", update,
                  "a spreadsheet has shortened the stamp; its digits are lost"),
            Check("I008", lost & ambiguous, "UpdateDateTime", update,
                  "which number is the day and which the month cannot be told", "D"),
            Check("I008", filled(update) & lost & ~shortened & ~ambiguous, "UpdateDateTime", update,
                  "not a stamp CCYYMMDDhhmmss; the file's DateTime stands in as the version"),
            Check("I008", ~lost & ~update.str.contains(fields.STAMP14), "UpdateDateTime", update,
                  "14 digits CCYYMMDDhhmmss expected; read all the same"),
            Check("I008", future, "UpdateDateTime", update,
                  "more than a day in the future, so not trusted; the file's DateTime stands in"),
            Check("I011", filled(msats) & pl.col("msats_at").is_null(), "MSATSLoadDateTime", msats,
                  "not a stamp CCYYMMDDhhmmss"),
            Check("I011", _in_another_form("msats_at", msats), "MSATSLoadDateTime", msats,
                  "14 digits CCYYMMDDhhmmss expected; read all the same"),
            Check("I013", ~future & (at > pl.col("file_at") + timedelta(minutes=1)),
                  "UpdateDateTime", update, "later than the file's own DateTime"),
            Check("I013", pl.col("msats_at") < at, "MSATSLoadDateTime", msats,
                  "earlier than the UpdateDateTime"),
        ],
    )  # fmt: skip
    trusted = pl.when(~future).then(at)
    return rows.with_columns(
        pl.coalesce(trusted, "file_at").alias("version_at"),
        trusted.is_null().alias("version_derived"),
    )


def _in_another_form(stamp: str, text: pl.Expr) -> pl.Expr:
    """A stamp that was read although it is not 14 digits: 12 digits, or ISO (D12, D14)."""
    return pl.col(stamp).is_not_null() & (text.str.len_bytes() != 14)


def check_days(
    rows: pl.DataFrame,
    found: Findings,
    now: datetime,
    scale: int,
    limits: Mapping[tuple[str, str], Decimal],
) -> None:
    """Rules on one 300 at a time: date, order, flags, plausible values.

    Args:
        rows: placed days with stream columns, ``values`` scaled by ``scale``.
        found: where findings go.
        now: the moment of reading, aware.
        scale: decimals of the scaled integers.
        limits: largest plausible value by (suffix or "*", unit), for I007.
    """
    today = now.astimezone(_MARKET_CLOCK).date()
    day, qm = pl.col("day"), pl.col("qm")
    same = pl.col("r200") == pl.col("r200").shift(1)
    later = same & (day < day.shift(1))
    spanned = pl.col("spans").list.len() > 0
    event_codes = pl.col("spans").list.eval(
        pl.element().struct.field("reason_code").is_in(quality.METER_EVENTS)
    )
    explained = event_codes.list.any().fill_null(value=False)
    checks = [
        Check("I002", (day > today) & qm.str.starts_with("A"), "IntervalDate",
              pl.col("date_text"), "actual data of a day that has not been yet"),
        Check("I002", day < EARLIEST, "IntervalDate", pl.col("date_text"),
              "before 1998, when there was no interval data in this market"),
        Check("I003", later, "IntervalDate", pl.col("date_text"), DESCENDING),
        Check("F017", pl.col("qm_given") != qm, "QualityMethod", pl.col("qm_given"),
              "in lower case; read as upper case"),
        Check("Q009", (qm == "V") & ~spanned & ~pl.col("has_events"), "QualityMethod", qm,
              "V says that quality varies, but no 400 says how"),
        Check("Q009", (qm != "V") & spanned & ~explained, "QualityMethod", qm,
              "400 records under a 300 that is not V", "W"),
        Check("Q011", (qm == "A") & pl.col("code").is_in(quality.METER_EVENTS) & ~spanned,
              "ReasonCode", pl.col("reason"), "A with this reason needs 400 records"),
        *quality.flag_checks("", forbidden="", on=day),
    ]  # fmt: skip
    found.run(rows, checks)
    _check_decimals(rows, found, scale)
    _check_limits(rows, found, scale, limits)


def _check_decimals(rows: pl.DataFrame, found: Findings, scale: int) -> None:
    """I006: more decimals than the unit allows."""
    allowed = pl.col("uom").replace_strict(codes.UNIT_DECIMALS, default=None, return_dtype=pl.Int32)
    risky = rows.filter(allowed < scale)
    if risky.is_empty():
        return
    parts = []
    for (decimals,), part in risky.with_columns(allowed.alias("allowed")).group_by(
        "allowed", maintain_order=True
    ):
        step = 10 ** (scale - decimals)
        parts.append(_with_first(part, pl.element() % step != 0, scale))
    found.add(
        pl.concat(parts),
        Check("I006", pl.lit(value=True), pl.col("field"), pl.col("value"),
              pl.format("more decimals than the {} that {} allows",
                        pl.col("allowed"), pl.col("uom"))),
    )  # fmt: skip


def _with_first(days: pl.DataFrame, bad: pl.Expr, scale: int) -> pl.DataFrame:
    """The days that have a value for which ``bad`` holds, with its field name and itself."""
    places = pl.col("values").list.eval(bad.fill_null(value=False))
    days = days.with_columns(places.alias("bad")).filter(pl.col("bad").list.any())
    place = pl.col("bad").list.arg_max()
    value = pl.col("values").list.get(place).cast(pl.Int128)
    text = value.reinterpret(dtype=pl.Decimal(38, scale)).cast(pl.String)
    return days.with_columns(
        pl.format("IntervalValue{}", place + 1).alias("field"),
        pl.when(text.str.contains(".", literal=True))
        .then(text.str.strip_chars_end("0").str.strip_chars_end("."))
        .otherwise(text)
        .alias("value"),
    )


def _check_limits(
    rows: pl.DataFrame, found: Findings, scale: int, limits: Mapping[tuple[str, str], Decimal]
) -> None:
    """I007: values above the plausible limit set for the suffix and unit."""
    for (suffix, unit), highest in limits.items():
        stream = pl.col("suffix") == suffix if suffix != "*" else pl.lit(value=True)
        bound = int(highest.scaleb(scale))
        if bound > MAX_INT64 and rows.schema["values"] == pl.List(pl.Int64):
            continue  # no value of this file comes near it
        above = rows.filter(
            stream & (pl.col("uom") == unit) & (pl.col("values").list.max() > bound)
        )
        if not above.is_empty():
            found.add(
                _with_first(above, pl.element() > bound, scale),
                Check("I007", pl.lit(value=True), pl.col("field"), pl.col("value"),
                      f"above the limit of {highest} {unit} set for this stream"),
            )  # fmt: skip


def check_gaps(rows: pl.DataFrame, found: Findings) -> None:
    """I004 for empty cells, judged with the 400s at hand.

    An empty cell under the withdrawn flag N says what the flag says, that no value is known
    (5.5); anywhere else a value is missing.
    """
    odd = rows.filter(pl.col("gaps").list.len() > 0)
    if odd.is_empty():
        return
    flags = quality.of_each_interval(odd)
    places = odd.select("row", "src", "target", "gaps", n="per_day").with_columns(
        pl.int_ranges(1, pl.col("n").cast(pl.Int64) + 1, dtype=pl.UInt16).alias("interval")
    )
    missing = (
        places.explode("interval")
        .with_columns(flags)
        .filter(
            pl.col("gaps").list.contains(pl.col("interval")) & pl.col("quality").ne_missing("N")
        )
        .group_by("row", "src", "target", maintain_order=True)
        .agg(pl.col("interval").first().alias("first"), pl.len().alias("count"))
    )
    more = (
        pl.when(pl.col("count") > 1)
        .then(pl.format(" ({} values of this record)", pl.col("count")))
        .otherwise(pl.lit(""))
    )
    found.add(
        missing,
        Check("I004", pl.lit(value=True), pl.format("IntervalValue{}", pl.col("first")),
              pl.lit(""),
              pl.format("the value is missing{}; it is kept as null, never 0", more)),
    )  # fmt: skip


def with_spans(rows: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Attach the spans of :func:`quality.read_events`; an empty list where there are none."""
    empty = pl.lit([], pl.List(SPAN))
    if spans.is_empty():
        return rows.with_columns(empty.alias("spans"))
    joined = rows.join(spans, on="row", how="left", maintain_order="left")
    return joined.with_columns(pl.col("spans").fill_null(empty))


def qualified(rows: pl.DataFrame) -> pl.DataFrame:
    """Add quality_method, quality, method, reason_code and reason_text as the days have them."""
    given = pl.col("qm")
    return rows.with_columns(
        given.alias("qm_given"),
        given.str.to_uppercase(),
        fields.code_of(pl.col("reason")).alias("code"),
        none_if_empty(pl.col("reason_text")),
    ).with_columns(
        pl.col("qm").alias("quality_method"),
        pl.col("code").alias("reason_code"),
        none_if_empty(pl.col("qm").str.head(1)).alias("quality"),
        none_if_empty(pl.col("qm").str.slice(1, 2)).alias("method"),
    )
