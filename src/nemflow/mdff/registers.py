"""Accumulation data: 250 records, and the 550s below them.

Why: a NEM13 file carries periods between two reads of a dial, not intervals; reads are text
because their zeros say how wide the dial is.

Promises: reads stay as displayed; the quantity is an exact decimal; a period with a fault is
here with its rule ids, unless it has no quantity field at all.

Spec: 2.7, 2.8, 5.2, 5.6, 10 (A rules). Next: :mod:`nemflow.mdff.reader`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Final

import polars as pl

from nemflow.mdff import codes, days, fields, quality, streams
from nemflow.mdff.fields import filled, none_if_empty
from nemflow.mdff.findings import Check, Findings
from nemflow.mdff.meterdata import SERVICE_EVENTS, STAMP, Type, largest

_QUANTITY: Final = r"^-?(?:[0-9]{1,15}(?:\.[0-9]{0,23})?|\.[0-9]{1,23})$"
_DIGITS: Final = r"^-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)$"
_NUMBER: Final = r"^[0-9]+(?:\.[0-9]+)?$"
_READ: Final = r"^[0-9]{1,15}(?:\.[0-9]+)?$"
#: How far a quantity may stray from the register's usual multiplier (A005).
_MULTIPLIER_TOLERANCE: Final = 0.02
#: What makes two deliveries of one period the same content.
_CONTENT: Final = (
    "direction", "previous_read", "previous_at", "previous_quality_method",
    "previous_reason_code", "previous_reason_text", "current_read", "current_at",
    "current_quality_method", "current_reason_code", "current_reason_text", "quantity", "uom",
)  # fmt: skip
#: The columns of a line that are used here.
_LINES: Final[dict[str, Type]] = {
    "row": pl.UInt32, "src": pl.UInt32, "line": pl.UInt32, "block": pl.UInt32,
    "text": pl.String, "file_at": STAMP,
}  # fmt: skip
KEY: Final = ("src", "nmi", "suffix", "register_id", "meter_serial", "previous_at")


def read_registers(rows: pl.DataFrame, found: Findings, now: datetime) -> pl.DataFrame:
    """Read 250 records (with ``file_at`` of their block).

    Returns:
        One row per 250 that has a quantity field, with the columns of
        ``MeterData.register_reads`` except source and rejected_by, and row, src, target.
    """
    if rows.is_empty():
        return _no_reads().clone()
    return _read(rows, found, now)


@cache
def _no_reads() -> pl.DataFrame:
    """The result for a file without 250s, made once: most files have none."""
    rows = pl.DataFrame(schema=_LINES)
    return _read(rows, Findings("portal"), datetime(2000, 1, 1, tzinfo=UTC))


def _read(rows: pl.DataFrame, found: Findings, now: datetime) -> pl.DataFrame:
    rows = fields.split(rows.with_columns(pl.col("row").alias("target")), 23, found)
    found.run(
        rows,
        [
            Check("A001", pl.col("given") != 23, "", pl.col("given").cast(pl.String),
                  pl.format("{} fields, 23 expected", pl.col("given"))),
            Check("F015", pl.col("padded") > 0, "", None,
                  pl.format("empty fields after the last one: {}", pl.col("padded"))),
        ],
    )  # fmt: skip
    rows = rows.filter(pl.col("given") >= 19)
    rows = streams.identified(rows, pl.col("f2"), found)
    unit = pl.col("f20").str.to_uppercase()
    rows = rows.with_columns(
        pl.col("f5").str.to_uppercase().alias("suffix"),
        pl.col("f3").str.to_uppercase().alias("configuration"),
        pl.col("f20").alias("unit_given"),
        unit.replace_strict(codes.UNIT_CANON, default=None, return_dtype=pl.String).alias("uom"),
        fields.stamp_of(pl.col("f10")).alias("previous_at"),
        fields.stamp_of(pl.col("f15")).alias("current_at"),
        fields.date_of(pl.col("f21")).alias("next_scheduled_read"),
        pl.col("f22").alias("update"),
        pl.col("f23").alias("msats"),
        _quantity(rows["f19"]),
    )
    rows = days.stamped(rows, found, now)
    found.run(rows, [*streams.stream_checks("NMISuffix", codes.ACCUMULATION_SUFFIX), *_checks()])
    _check_flags(rows, found)
    reads = rows.select(
        "row", "src", "target", "line", "block", "nmi",
        nmi_configuration=none_if_empty(pl.col("configuration")),
        register_id=none_if_empty(pl.col("f4")),
        suffix=none_if_empty(pl.col("suffix")),
        mdm_stream=none_if_empty(pl.col("f6")),
        meter_serial=none_if_empty(pl.col("f7")),
        direction=none_if_empty(pl.col("f8").str.to_uppercase()),
        previous_read=none_if_empty(pl.col("f9")),
        previous_at="previous_at",
        previous_quality_method=none_if_empty(pl.col("f11").str.to_uppercase()),
        previous_reason_code=fields.code_of(pl.col("f12")),
        previous_reason_text=none_if_empty(pl.col("f13")),
        current_read=none_if_empty(pl.col("f14")),
        current_at="current_at",
        current_quality_method=none_if_empty(pl.col("f16").str.to_uppercase()),
        current_reason_code=fields.code_of(pl.col("f17")),
        current_reason_text=none_if_empty(pl.col("f18")),
        quantity="quantity",
        uom=pl.coalesce("uom", none_if_empty(pl.col("f20"))),
        next_scheduled_read="next_scheduled_read",
        update_at="update_at",
        msats_at="msats_at",
        version_at="version_at",
        file_at="file_at",
        version_derived="version_derived",
        quantity_text="f19",
    )  # fmt: skip
    return reads.with_columns(pl.Series("content_hash", _hashes(reads), dtype=pl.String))


#: What is remembered of a period for the rules that look at several.
PERIOD: Final = [
    "row", "src", "target", "line", "nmi", "suffix", "register_id", "meter_serial", "uom",
    "previous_at", "previous_read", "current_at", "current_read", "quantity", "quantity_text",
    "version_at", "update_at", "content_hash",
]  # fmt: skip


def check_periods(reads: pl.DataFrame, found: Findings) -> pl.DataFrame:
    """Rules over all periods of a source: A005, A009, A010.

    Args:
        reads: rows of :func:`read_registers`, or their PERIOD columns with ``at`` (the line)
            for periods of earlier pieces, whose ``row`` and ``target`` are null.
        found: where findings go.

    Returns:
        The periods that stand twice with one stamp and different content.
    """
    if reads.is_empty():
        return reads
    _check_multiplier(reads, found)
    return _check_chain(reads, found)


def _quantity(text: pl.Series) -> pl.Series:
    """Exact decimals with as many places as the longest; null where it is no number."""
    good = pl.select(pl.when(text.str.contains(_QUANTITY)).then(text)).to_series()
    scale = largest(good.str.extract(r"\.([0-9]*)$", 1).str.len_bytes())
    return good.cast(pl.Decimal(38, scale)).alias("quantity")


def _checks() -> list[Check]:
    previous, current = pl.col("previous_at"), pl.col("current_at")
    flag = pl.col("f16").str.to_uppercase().str.head(1)
    negative = pl.col("quantity") < 0
    midnight = (current.dt.hour() == 0) & (current.dt.minute() == 0) & (current.dt.second() == 0)
    early = current.dt.date() < pl.col("next_scheduled_read")
    too_long = pl.col("f19").str.contains(_DIGITS)
    decimals = pl.col("f19").str.extract(r"^-?[0-9]*\.([0-9]+?)0*$", 1).str.len_bytes()
    allowed = pl.col("uom").replace_strict(codes.UNIT_DECIMALS, default=None, return_dtype=pl.Int32)
    long_reads = [
        Check("N013", pl.col(column).str.len_chars() > 15, name, pl.col(column),
              "longer than the 15 characters allowed")
        for column, name in (("f9", "PreviousRegisterRead"), ("f14", "CurrentRegisterRead"))
    ]  # fmt: skip
    return [
        *long_reads,
        Check("A008", previous.is_null(), "PreviousRegisterReadDateTime", pl.col("f10"),
              "not a stamp CCYYMMDDhhmmss"),
        Check("A008", current.is_null(), "CurrentRegisterReadDateTime", pl.col("f15"),
              "not a stamp CCYYMMDDhhmmss"),
        *(
            Check("A008", pl.col(at).is_not_null() & (pl.col(given).str.len_bytes() != 14), name,
                  pl.col(given), "14 digits CCYYMMDDhhmmss expected; read all the same", "W")
            for at, given, name in (("previous_at", "f10", "PreviousRegisterReadDateTime"),
                                    ("current_at", "f15", "CurrentRegisterReadDateTime"))
        ),
        Check("A002", previous > current, "PreviousRegisterReadDateTime", pl.col("f10"),
              "the previous read is later than the current one"),
        Check("A004", pl.col("quantity").is_null() & ~too_long, "Quantity", pl.col("f19"),
              "missing or not a plain decimal number", "D"),
        Check("I014", pl.col("quantity").is_null() & too_long, "Quantity", pl.col("f19"),
              "more digits than can be kept exactly"),
        Check("I006", decimals > allowed, "Quantity", pl.col("f19"),
              pl.format("more decimals than the {} that {} allows", allowed, pl.col("uom"))),
        Check("A004", negative, "Quantity", pl.col("f19"), "the quantity is negative"),
        Check("A006", ~pl.col("f8").str.to_uppercase().is_in(["E", "I"]), "DirectionIndicator",
              pl.col("f8"), "E (from the grid) or I (into the grid) expected"),
        Check("A007", (flag == "E") & ~midnight, "CurrentRegisterReadDateTime", pl.col("f15"),
              "an estimate has the time 000000"),
        Check("A007", (flag == "E") & midnight & early, "CurrentRegisterReadDateTime",
              pl.col("f15"), "an estimate lies on or after the next scheduled read"),
        Check("A011", ~pl.col("f9").str.contains(_NUMBER), "PreviousRegisterRead", pl.col("f9"),
              "not a register read of digits and one point"),
        Check("A011", ~pl.col("f14").str.contains(_NUMBER), "CurrentRegisterRead", pl.col("f14"),
              "not a register read of digits and one point"),
        Check("N014", filled(pl.col("f21")) & pl.col("next_scheduled_read").is_null(),
              "NextScheduledReadDate", pl.col("f21"), "not a date CCYYMMDD"),
        Check("N014", pl.col("next_scheduled_read").is_not_null()
              & (pl.col("f21").str.len_bytes() != 8), "NextScheduledReadDate", pl.col("f21"),
              "an ISO date; CCYYMMDD expected, read all the same"),
    ]  # fmt: skip


def _check_flags(rows: pl.DataFrame, found: Findings) -> None:
    """Quality rules for both reads of a period."""
    for prefix, qm, reason, text, banned, at in (
        ("Previous", "f11", "f12", "f13", ["E", "V"], "previous_at"),
        ("Current", "f16", "f17", "f18", ["V"], "current_at"),
    ):
        view = rows.with_columns(
            pl.col(qm).str.to_uppercase().alias("qm"),
            pl.col(reason).alias("reason"),
            pl.col(text).alias("reason_text"),
            fields.code_of(pl.col(reason)).alias("code"),
            pl.col(at).dt.date().alias("on"),
        )
        name = f"{prefix}QualityMethod"
        found.run(
            view,
            [
                Check("A003", pl.col("qm").str.head(1).is_in(banned), name, pl.col("qm"),
                      f"the {prefix.lower()} read may not be {' or '.join(banned)}"),
                *quality.flag_checks(prefix, forbidden="", on=pl.col("on")),
            ],
        )  # fmt: skip


def _check_multiplier(reads: pl.DataFrame, found: Findings) -> None:
    """A005: energy that does not follow from the two reads by the register's usual multiplier."""
    difference = pl.col("current_read").cast(pl.Float64, strict=False) - pl.col(
        "previous_read"
    ).cast(pl.Float64, strict=False)
    is_energy = pl.col("uom").is_in([name for name, unit in codes.UNITS.items() if unit.is_energy])
    energy = reads.filter(is_energy).with_columns(difference.alias("difference"))
    ratio = pl.when(pl.col("difference") > 0).then(
        pl.col("quantity").cast(pl.Float64) / pl.col("difference")
    )
    register = ["src", "nmi", "register_id", "meter_serial"]
    usual = pl.col("ratio").median().over(register)
    many = pl.col("ratio").count().over(register) > 2
    energy = energy.with_columns(ratio.alias("ratio")).with_columns(
        usual.alias("usual"), many.alias("many")
    )
    # a change of one in the dial's last place is rounding, not another multiplier
    off = ((pl.col("ratio") - pl.col("usual")) * pl.col("difference")).abs() > (
        pl.col("usual") * (1 + _MULTIPLIER_TOLERANCE * pl.col("difference"))
    )
    still = (pl.col("difference") == 0) & (pl.col("quantity") > 0)
    found.run(
        energy,
        [
            Check("A005", pl.col("many") & off, "Quantity", pl.col("quantity_text"),
                  "does not follow from the two reads by this register's usual multiplier"),
            Check("A005", still, "Quantity", pl.col("quantity_text"),
                  "a quantity although both reads are the same"),
        ],
    )  # fmt: skip


def _hashes(reads: pl.DataFrame) -> list[str]:
    """Content hash per period, 32 hex digits; stamps of receipt do not count."""
    quantity = pl.col("quantity").cast(pl.String)
    shortest = (
        pl.when(quantity.str.contains(".", literal=True))
        .then(quantity.str.strip_chars_end("0").str.strip_chars_end("."))
        .otherwise(quantity)
    )
    parts = [shortest if name == "quantity" else pl.col(name).cast(pl.String) for name in _CONTENT]
    text = reads.select(
        pl.concat_str([part.fill_null("") for part in parts], separator="\x1f")
    ).to_series()
    return [sha256(each.encode()).hexdigest()[:32] for each in text]


def _check_chain(reads: pl.DataFrame, found: Findings) -> pl.DataFrame:
    """A009 and A010: periods of one register follow each other, and stand once."""
    reads = reads.filter(pl.col("previous_at").is_not_null() & pl.col("nmi").is_not_null())
    register = ["src", "nmi", "suffix", "register_id", "meter_serial"]
    chain = reads.sort(*register, "previous_at", "version_at", maintain_order=True)
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in register)
    chain = chain.with_columns(
        meets=same & (pl.col("current_at").shift(1) == pl.col("previous_at")),
        before=pl.col("current_read").shift(1),
    )
    found.run(
        chain,
        [
            Check("A009", pl.col("meets") & (pl.col("before") != pl.col("previous_read")),
                  "PreviousRegisterRead", pl.col("previous_read"),
                  pl.format("the period before ended with {}", pl.col("before"))),
        ],
    )  # fmt: skip
    doubled = reads.filter(pl.struct(KEY).is_duplicated())
    versions = [*KEY, "update_at"]
    first = pl.col("line").min().over([*versions, "content_hash"])
    doubled = doubled.with_columns(
        (pl.col("content_hash").n_unique().over(versions) > 1).alias("conflict"),
        (pl.col("line") > first).alias("again"),
    )
    found.run(
        doubled,
        [
            Check("A010", pl.col("conflict"), "", pl.col("nmi"),
                  "this period stands twice in the file with one stamp and different content"),
            Check("A010", pl.col("again"), "", pl.col("nmi"),
                  "this period stands twice in the file with the same content; counted once",
                  "W"),
        ],
    )  # fmt: skip
    return doubled.filter("conflict")


def read_service_events(rows: pl.DataFrame, parents: pl.DataFrame, found: Findings) -> pl.DataFrame:
    """Read 500 and 550 records.

    Args:
        rows: their lines, with ``r300`` and ``r250``.
        parents: row, line, nmi, suffix, register_id, day of the placed 300s and 250s.
        found: where findings go.

    Returns:
        The columns of ``MeterData.service_events`` except source, and src.
    """
    if rows.is_empty():
        columns = {"src": pl.UInt32} | dict(SERVICE_EVENTS)
        return pl.DataFrame(schema={n: t for n, t in columns.items() if n != "source"})
    rows = rows.with_columns(pl.coalesce("r300", "r250").alias("target"))
    rows = fields.split(rows.filter(pl.col("target").is_not_null()), 5, found)
    is500 = pl.col("kind") == 500
    code = pl.col("f2").str.to_uppercase()
    known = sorted(codes.TRANS_CODES)
    read_at = fields.stamp_of(pl.col("f4"))
    found.run(
        rows,
        [
            Check("B003", pl.col("given") != 5, "", pl.col("given").cast(pl.String),
                  pl.format("{} fields, 5 expected", pl.col("given"))),
            Check("F015", pl.col("padded") > 0, "", None,
                  pl.format("empty fields after the last one: {}", pl.col("padded"))),
            Check("B001", is500 & ~code.is_in(known), "TransCode", pl.col("f2"),
                  "not a TransCode of the format"),
            Check("B001", ~is500 & ~code.is_in(known), "PreviousTransCode", pl.col("f2"),
                  "not a TransCode of the format"),
            Check("B001", ~is500 & ~pl.col("f4").str.to_uppercase().is_in(known),
                  "CurrentTransCode", pl.col("f4"), "not a TransCode of the format"),
            Check("B002", is500 & filled(pl.col("f4")) & read_at.is_null(), "ReadDateTime",
                  pl.col("f4"), "not a stamp CCYYMMDDhhmmss"),
            Check("B002", is500 & read_at.is_not_null() & (pl.col("f4").str.len_bytes() != 14),
                  "ReadDateTime", pl.col("f4"),
                  "14 digits CCYYMMDDhhmmss expected; read all the same"),
            Check("B002", is500 & filled(pl.col("f5")) & ~pl.col("f5").str.contains(_READ),
                  "IndexRead", pl.col("f5"), "not a register read of digits and one point"),
        ],
    )  # fmt: skip
    events = rows.join(
        parents.rename({"row": "target", "line": "parent_line"}),
        on="target", how="inner", maintain_order="left",
    )  # fmt: skip
    return events.select(
        "src", "line", "block",
        record="kind",
        nmi="nmi", suffix="suffix", register_id="register_id",
        day=pl.when(is500).then(pl.col("day")),
        parent_line="parent_line",
        trans_code=none_if_empty(pl.when(is500).then(code).otherwise(pl.col("f4"))),
        service_order=none_if_empty(pl.when(is500).then(pl.col("f3")).otherwise(pl.col("f5"))),
        read_at=pl.when(is500).then(read_at),
        index_read=none_if_empty(pl.when(is500).then(pl.col("f5"))),
        previous_trans_code=none_if_empty(pl.when(~is500).then(code)),
        previous_service_order=none_if_empty(pl.when(~is500).then(pl.col("f3"))),
    )  # fmt: skip
