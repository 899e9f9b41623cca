"""What a 200 says: NMI, stream, unit and interval length of the days below it.

Why: every fault of a 200 is a fault of all its days; it is found and named once, on its own
line, and takes its days along.

Promises: an NMI is never cut silently; an interval length that cannot place values in time
leaves its days in the findings, not in the data.

Spec: 2.2 (record 200), 3.4 (units), 3.6 (suffixes), 6 (NMI), 10 (N rules).
Next: :mod:`nemflow.mdff.intervals`.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from nemflow.mdff import codes, fields, nmi
from nemflow.mdff.fields import none_if_empty
from nemflow.mdff.findings import Check, Findings

NMI_PATTERN: Final = r"^[A-HJ-NP-Z0-9]{10}$"
_REACTIVE: Final = [
    first for first, kind in codes.INTERVAL_KINDS.items() if kind.quantity == "reactive"
]
_LIMITS = {"NMIConfiguration": 240, "RegisterID": 10, "MDMDataStreamIdentifier": 2,
           "MeterSerialNumber": 12}  # fmt: skip


def read_streams(rows: pl.DataFrame, found: Findings) -> pl.DataFrame:
    """Read 200 records.

    Returns:
        One row per 200: ``r200`` and the stream's columns (nmi, nmi_configuration,
        register_id, suffix, mdm_stream, meter_serial, uom, interval_minutes,
        next_scheduled_read), with ``per_day`` = intervals in a day, null when values cannot
        be placed.
    """
    rows = fields.split(rows.with_columns(pl.col("row").alias("target")), 10, found)
    rows = identified(rows, pl.col("f2"), found)
    unit = pl.col("f8").str.to_uppercase()
    minutes = pl.when(pl.col("f9").str.contains(r"^[0-9]{1,4}$")).then(pl.col("f9"))
    rows = rows.with_columns(
        pl.col("f5").str.to_uppercase().alias("suffix"),
        pl.col("f3").str.to_uppercase().alias("configuration"),
        pl.col("f8").alias("unit_given"),
        unit.replace_strict(codes.UNIT_CANON, default=None, return_dtype=pl.String).alias("uom"),
        minutes.cast(pl.UInt16, strict=False).alias("minutes"),
        fields.date_of(pl.col("f10")).alias("next_read"),
    )
    found.run(rows, [*stream_checks("NMISuffix", codes.INTERVAL_SUFFIX), *_interval_checks()])
    divides = (1440 % pl.col("minutes")) == 0
    per_day = pl.when((pl.col("minutes") > 0) & divides).then(1440 // pl.col("minutes"))
    return rows.select(
        r200="row",
        nmi="nmi",
        nmi_configuration=none_if_empty(pl.col("configuration")),
        register_id=none_if_empty(pl.col("f4")),
        suffix=none_if_empty(pl.col("suffix")),
        mdm_stream=none_if_empty(pl.col("f6")),
        meter_serial=none_if_empty(pl.col("f7")),
        uom=pl.coalesce("uom", none_if_empty(pl.col("f8"))),
        interval_minutes="minutes",
        next_scheduled_read="next_read",
        per_day=per_day.cast(pl.UInt16),
    )


def identified(rows: pl.DataFrame, given: pl.Expr, found: Findings) -> pl.DataFrame:
    """Add ``nmi``: upper case, an eleventh character cut when it is the right check digit."""
    rows = rows.with_columns(given.alias("given_nmi"), given.str.to_uppercase().alias("nmi"))
    eleven = rows.filter(pl.col("nmi").str.len_chars() == 11)
    right: list[str] = []
    if not eleven.is_empty():
        right = [
            text
            for text in eleven["nmi"].unique()
            if text[:10].isalnum() and text.isascii() and text[10] == str(nmi.checksum(text[:10]))
        ]
    is_right = pl.col("nmi").is_in(right)
    wrong = (pl.col("nmi").str.len_chars() == 11) & ~is_right
    name = pl.col("given_nmi")
    fits = pl.col("nmi").str.contains(NMI_PATTERN).fill_null(value=False)
    found.run(
        rows,
        [
            Check("N011", is_right, "NMI", name,
                  "11 characters, the last is the right check digit; cut to 10"),
            Check("N011", name != pl.col("nmi"), "NMI", name,
                  "the NMI is in lower case; read as upper case"),
            Check("N012", wrong, "NMI", name,
                  "11 characters, and the last is not the check digit of the first ten"),
            Check("N001", pl.col("nmi") == "", "NMI", name, "the NMI is empty", "D"),
            Check("N001", (pl.col("nmi") != "") & ~fits & ~is_right & ~wrong, "NMI", name,
                  "not an NMI: 10 digits and capital letters without I and O expected"),
        ],
    )  # fmt: skip
    return rows.with_columns(
        pl.when(is_right).then(pl.col("nmi").str.head(10)).otherwise(none_if_empty(pl.col("nmi")))
        .alias("nmi")
    )  # fmt: skip


def stream_checks(suffix_field: str, suffix_pattern: str) -> list[Check]:
    """Checks shared by 200 and 250: configuration, suffix, unit, text lengths.

    Expects columns f3 to f7 as given, suffix, configuration, uom and unit_given.
    """
    configuration, suffix = pl.col("configuration"), pl.col("suffix")
    pairs = configuration.str.extract_all(r"..")
    lacks = ~pairs.list.contains(suffix)
    bad_configuration = ~configuration.str.contains(codes.NMI_CONFIGURATION).fill_null(value=False)
    letter = suffix.str.head(1)
    group = pl.col("uom").replace_strict(
        {name: unit.group for name, unit in codes.UNITS.items()},
        default=None,
        return_dtype=pl.String,
    )
    allowed = letter.replace_strict(
        {key: sorted(groups) for key, groups in codes.SUFFIX_UNIT_GROUP.items()},
        default=None,
        return_dtype=pl.List(pl.String),
    )
    misfit = pl.col("uom").is_not_null() & ~allowed.list.contains(group)
    # MSATS has no reactive data: its data stream is typically empty (spec 2.2)
    reactive = letter.is_in(_REACTIVE) | (group == "reactive energy").fill_null(value=False)
    no_stream = (pl.col("f6") == "") & ~reactive
    missing = (pl.col("f4") == "") | no_stream | (pl.col("f7") == "")
    unit_given = pl.col("unit_given")
    long = [
        Check("N013", pl.col(column).str.len_chars() > _LIMITS[name], name, pl.col(column),
              f"longer than the {_LIMITS[name]} characters allowed")
        for name, column in zip(_LIMITS, ("f3", "f4", "f6", "f7"), strict=True)
    ]  # fmt: skip
    return [
        Check("N003", bad_configuration, "NMIConfiguration", configuration,
              "not a list of two-character suffixes"),
        Check("N003", ~bad_configuration & lacks, "NMIConfiguration", configuration,
              pl.format("the configuration does not hold the suffix {}", suffix)),
        Check("N004", ~suffix.str.contains(suffix_pattern).fill_null(value=False), suffix_field,
              suffix, "not a suffix of the NMI procedure"),
        Check("N005", pl.col("uom").is_null(), "UOM", unit_given,
              "not a unit of the format (kWh, kVArh, ... see the unit list)"),
        Check("N006", misfit, "UOM", unit_given,
              pl.format("the unit does not fit a stream {}", suffix)),
        Check("N008", missing, "RegisterID", None,
              "RegisterID, MDMDataStreamIdentifier or MeterSerialNumber is empty"),
        Check("F017", suffix != pl.col("f5"), suffix_field, pl.col("f5"), "in lower case"),
        *long,
    ]  # fmt: skip


def _interval_checks() -> list[Check]:
    """Checks of the 200 alone."""
    given, minutes = pl.col("given"), pl.col("minutes")
    unknown_length = ~minutes.is_in(list(codes.INTERVAL_LENGTHS)).fill_null(value=False)
    return [
        Check("N010", given < 10, "", given.cast(pl.String),
              pl.format("{} fields, 10 expected; the missing ones are taken as empty", given)),
        Check("N010", given > 10, "", given.cast(pl.String),
              pl.format("{} fields, 10 expected", given)),
        Check("F015", pl.col("padded") > 0, "", None,
              pl.format("empty fields after the last one: {}", pl.col("padded"))),
        Check("N007", unknown_length, "IntervalLength", pl.col("f9"), "5, 15 or 30 expected"),
        Check("N016", ~unknown_length & (pl.col("f9").str.len_chars() > 1)
              & pl.col("f9").str.starts_with("0"), "IntervalLength", pl.col("f9"),
              "written with a leading zero"),
        Check("N014", fields.filled(pl.col("f10")) & pl.col("next_read").is_null(),
              "NextScheduledReadDate", pl.col("f10"), "not a date CCYYMMDD"),
        Check("N014", pl.col("next_read").is_not_null() & (pl.col("f10").str.len_bytes() != 8),
              "NextScheduledReadDate", pl.col("f10"), "an ISO date; CCYYMMDD expected, read all "
              "the same"),
    ]  # fmt: skip
