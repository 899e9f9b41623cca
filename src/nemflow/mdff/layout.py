"""The eight records, field by field.

Why: the number of fields, their names, lengths and patterns are needed by readers, writers,
findings and docs; they are written down once.
Promises: patterns match ASCII only, mean the same in Python (``re.fullmatch`` with re.ASCII) and
in the Rust regex that polars uses, and describe a filled field; ``requirement`` says whether it
may be empty.
Where next: ``nemflow.mdff.reader``; code lists in ``nemflow.mdff.codes``; spec section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nemflow.mdff.codes import NMI_CONFIGURATION
from nemflow.mdff.nmi import NMI_PATTERN

#: CCYYMMDD; whether the day exists is for the conversion to say.
DATE8: Final = r"^[0-9]{8}$"
#: CCYYMMDDhhmm
DATETIME12: Final = r"^[0-9]{12}$"
#: CCYYMMDDhhmmss
DATETIME14: Final = r"^[0-9]{14}$"
#: A plain decimal without sign or exponent; ``.362``, ``18`` and ``18.`` are fine.
NUMBER: Final = r"^(?:[0-9]{1,15}(?:\.[0-9]*)?|\.[0-9]+)$"
#: A register read as on the display, zeros kept; its length is limited apart.
REGISTER_READ: Final = r"^(?:[0-9]+\.?[0-9]*|\.[0-9]+)$"
#: Flag and method of a 300, of a 400 or current read, of a previous read.
QUALITY_300: Final = r"^(?:A|V|[ESF][0-9]{2})$"
QUALITY_400: Final = r"^(?:A|[ESF][0-9]{2})$"
QUALITY_PREVIOUS: Final = r"^(?:A|[SF][0-9]{2})$"
#: Reason codes are numbers of up to three digits.
REASON: Final = r"^[0-9]{1,3}$"
#: One of the three interval lengths; ``05`` is tolerated apart (rule N007).
INTERVAL_LENGTH: Final = r"^(?:5|15|30)$"
#: Interval numbers of a 400 begin at 1; the upper end depends on the 200.
INTERVAL_NUMBER: Final = r"^(?:[1-9][0-9]{0,2}|0[1-9][0-9]{0,2}|00[1-9][0-9]?|000[1-9])$"
#: Participant ids; lower case is seen in the specification's own examples.
PARTICIPANT: Final = r"^[A-Za-z0-9_-]{1,10}$"
TRANS_CODE: Final = r"^[ACDEGNORST]$"
SUFFIX: Final = r"^[A-HJ-NP-Z1-9][1-9A-HJ-NP-Z]$"

#: Printable ASCII without the comma.
_PRINTABLE: Final = r"[\x20-\x2B\x2D-\x7E]"

#: What the letters of a requirement mean.
REQUIREMENTS: Final[dict[str, str]] = {
    "M": "mandatory",
    "R": "required if the sender has it",
    "N": "not required",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record."""

    name: str
    type: str  #: as the specification writes it, e.g. ``VarChar(10)``
    max_length: int | None  #: characters; None where the specification gives none
    requirement: str  #: M, R, N, or several with a slash when it depends
    pattern: str  #: what a filled field looks like
    note: str = ""
    repeats: bool = False  #: one per interval of the day


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its indicator, where it belongs, and its fields in order."""

    indicator: str
    title: str
    file_kinds: tuple[str, ...]  #: ``NEM12``, ``NEM13`` or both
    fields: tuple[Field, ...]
    spec: str  #: section of the MDFF specification 2.5

    def names(self, intervals: int = 0) -> tuple[str, ...]:
        """Field names in order; a 300 has IntervalValue1 to ``intervals``."""
        out: list[str] = []
        for field in self.fields:
            if field.repeats:
                out += [f"{field.name}{i}" for i in range(1, intervals + 1)]
            else:
                out.append(field.name)
        return tuple(out)

    def width(self, intervals: int = 0) -> int:
        """How many fields a whole record has; for a 300 that is 7 + ``intervals``."""
        return len(self.names(intervals))


def _indicator(digits: str) -> Field:
    return Field("RecordIndicator", "Numeric(3)", 3, "M", rf"^{digits}$")


def _text(name: str, length: int, requirement: str, note: str = "") -> Field:
    pattern = rf"^{_PRINTABLE}{{1,{length}}}$"
    return Field(name, f"VarChar({length})", length, requirement, pattern, note)


def _stamp(name: str, requirement: str, note: str = "") -> Field:
    return Field(name, "DateTime(14)", 14, requirement, DATETIME14, note)


def _quality(name: str, pattern: str, note: str) -> Field:
    return Field(name, "VarChar(3)", 3, "M", pattern, note)


def _reason(prefix: str = "") -> tuple[Field, Field]:
    return (
        Field(
            f"{prefix}ReasonCode",
            "Numeric(3)",
            3,
            "M/N",
            REASON,
            "required with S and F; with A when the reason is 61, 79 or 89; empty with V",
        ),
        _text(f"{prefix}ReasonDescription", 240, "N/M", "mandatory with reason 0"),
    )


_NMI: Final = Field("NMI", "Char(10)", 10, "M", NMI_PATTERN, "without check digit")
_CONFIGURATION: Final = Field(
    "NMIConfiguration",
    "VarChar(240)",
    240,
    "M",
    NMI_CONFIGURATION,
    "all suffixes of the NMI strung together, e.g. E1B1Q1",
)
_SUFFIX: Final = Field("NMISuffix", "Char(2)", 2, "M", SUFFIX, "the data stream")
_STREAM: Final = Field(
    "MDMDataStreamIdentifier",
    "Char(2)",
    2,
    "M/N",
    rf"^{_PRINTABLE}{{2}}$",
    "as in MSATS; often empty on reactive data streams",
)
_UOM: Final = Field("UOM", "VarChar(5)", 5, "M", r"^[A-Za-z]{1,5}$", "any case")
_NEXT_READ: Final = Field(
    "NextScheduledReadDate",
    "Date(8)",
    8,
    "M/N",
    DATE8,
    "not required when read remotely, or not read again",
)
_MSATS: Final = _stamp("MSATSLoadDateTime", "R", "often empty at first; never decides a version")


_ALL: Final[tuple[Record, ...]] = (
    Record(
        "100",
        "Header",
        ("NEM12", "NEM13"),
        (
            _indicator("100"),
            Field("VersionHeader", "VarChar(5)", 5, "M", r"^NEM1[23]$"),
            Field("DateTime", "DateTime(12)", 12, "M", DATETIME12, "when the file was made"),
            Field("FromParticipant", "VarChar(10)", 10, "M", PARTICIPANT, "the MDP that made it"),
            Field("ToParticipant", "VarChar(10)", 10, "M", PARTICIPANT, "who it is meant for"),
        ),
        "§4.2, §5.2",
    ),
    Record(
        "200",
        "NMI data details",
        ("NEM12",),
        (
            _indicator("200"),
            _NMI,
            _CONFIGURATION,
            _text("RegisterID", 10, "M/N", "mandatory for types 4, 4A, 5 from the current MDP"),
            _SUFFIX,
            _STREAM,
            _text(
                "MeterSerialNumber", 12, "M/N", "from the day of an exchange on, the new meter's"
            ),
            _UOM,
            Field("IntervalLength", "Numeric(2)", 2, "M", INTERVAL_LENGTH, "minutes: 5, 15 or 30"),
            _NEXT_READ,
        ),
        "§4.3",
    ),
    Record(
        "300",
        "Interval data",
        ("NEM12",),
        (
            _indicator("300"),
            Field("IntervalDate", "Date(8)", 8, "M", DATE8, "the day"),
            Field(
                "IntervalValue",
                "Numeric(sx.y)",
                None,
                "M",
                NUMBER,
                "N = 1440 / IntervalLength of them, in the order of time; never negative or empty",
                repeats=True,
            ),
            _quality("QualityMethod", QUALITY_300, "V: the quality is in the 400s"),
            *_reason(),
            _stamp("UpdateDateTime", "M/N", "the version of this day"),
            _MSATS,
        ),
        "§4.4",
    ),
    Record(
        "400",
        "Interval event",
        ("NEM12",),
        (
            _indicator("400"),
            Field("StartInterval", "Numeric(4)", 4, "M", INTERVAL_NUMBER, "from 1"),
            Field("EndInterval", "Numeric(4)", 4, "M", INTERVAL_NUMBER, "inclusive"),
            _quality("QualityMethod", QUALITY_400, "never V"),
            *_reason(),
        ),
        "§4.5",
    ),
    Record(
        "500",
        "B2B details",
        ("NEM12",),
        (
            _indicator("500"),
            Field("TransCode", "Char(1)", 1, "M", TRANS_CODE, "why the data is sent"),
            _text("RetServiceOrder", 15, "R", "service order of the read"),
            _stamp("ReadDateTime", "M/R/N", "time part 000001 when the hour is unknown"),
            Field(
                "IndexRead",
                "VarChar(15)",
                15,
                "R/N",
                REGISTER_READ,
                "as on the display, before multipliers, zeros kept",
            ),
        ),
        "§4.6",
    ),
    Record(
        "250",
        "Accumulation data",
        ("NEM13",),
        (
            _indicator("250"),
            _NMI,
            _CONFIGURATION,
            _text("RegisterID", 10, "M"),
            _SUFFIX,
            _STREAM,
            _text("MeterSerialNumber", 12, "M"),
            Field(
                "DirectionIndicator",
                "Char(1)",
                1,
                "M",
                r"^[EI]$",
                "E grid to customer, I customer to grid",
            ),
            Field(
                "PreviousRegisterRead", "VarChar(15)", 15, "M", REGISTER_READ, "never an estimate"
            ),
            _stamp("PreviousRegisterReadDateTime", "M", "000001 when the hour is unknown"),
            _quality("PreviousQualityMethod", QUALITY_PREVIOUS, "never V or E"),
            *_reason("Previous"),
            Field("CurrentRegisterRead", "VarChar(15)", 15, "M", REGISTER_READ),
            _stamp("CurrentRegisterReadDateTime", "M", "time 000000 for an estimate"),
            _quality("CurrentQualityMethod", QUALITY_400, "never V"),
            *_reason("Current"),
            Field(
                "Quantity",
                "Numeric(sx.y)",
                None,
                "M",
                NUMBER,
                "after multiplier and roll-over; energy: current minus previous; else the current",
            ),
            _UOM,
            _NEXT_READ,
            _stamp("UpdateDateTime", "M", "the version of this record"),
            _MSATS,
        ),
        "§5.3",
    ),
    Record(
        "550",
        "B2B details",
        ("NEM13",),
        (
            _indicator("550"),
            Field("PreviousTransCode", "Char(1)", 1, "M", TRANS_CODE),
            _text("PreviousRetServiceOrder", 15, "R", "only for the retailer that raised it"),
            Field("CurrentTransCode", "Char(1)", 1, "M", TRANS_CODE),
            _text("CurrentRetServiceOrder", 15, "R", "only for the retailer that raised it"),
        ),
        "§5.4",
    ),
    Record(
        "900",
        "End of data",
        ("NEM12", "NEM13"),
        (_indicator("900"),),
        "§4.7, §5.5",
    ),
)

#: The eight records by their indicator.
RECORDS: Final[dict[str, Record]] = {record.indicator: record for record in _ALL}
