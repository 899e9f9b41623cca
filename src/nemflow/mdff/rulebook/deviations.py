"""The 41 known deviations: how files in the field leave the specification, and our treatment.

Why: a tolerant reader must say exactly what it tolerates.
Promises: each deviation names the rules that report it; those rules name it back.
Where next: ``nemflow.mdff.rules``.
"""

from __future__ import annotations

from nemflow.mdff.rulebook.model import Deviation

_SAME = "as under portal"

DEVIATION_LIST: tuple[Deviation, ...] = (
    Deviation(
        "D01",
        "no 100; the file starts with a 200 (abridged or detailed portal downloads)",
        "read as NEM12, or as NEM13 when it starts with a 250; sender and file time unknown",
        "file refused",
        ("F002",),
    ),
    Deviation(
        "D02",
        "no 900, or the file is cut off",
        "warned; a day that is cut short is rejected",
        "file refused",
        ("F006",),
    ),
    Deviation(
        "D03",
        "several 100…900 blocks or several 900s in one file, a blank line before the 100",
        "split into blocks",
        "file refused; a blank line alone is only warned of",
        ("F005", "F006", "F013"),
    ),
    Deviation(
        "D04",
        "a 200 after the 900 without a new 100",
        "read on under the header before",
        "file refused",
        ("F006",),
    ),
    Deviation("D05", "blank lines, or lines of spaces", "skipped", _SAME, ("F013",)),
    Deviation(
        "D06", "LF, CR or mixed line ends, no line end after the 900", "read", _SAME, ("F014",)
    ),
    Deviation("D07", "a UTF-8 byte order mark", "skipped", _SAME, ("F012",)),
    Deviation(
        "D08",
        "a 200 with 9 fields, the last comma missing",
        "missing fields are read as empty",
        "days under the 200 rejected",
        ("N010",),
    ),
    Deviation(
        "D09",
        "a 300 without MSATSLoadDateTime, or without its last 2 to 5 fields",
        "missing fields are read as empty, when all values and the quality are there",
        "day rejected",
        ("I010",),
    ),
    Deviation(
        "D10",
        "every row padded with commas to the widest row, as spreadsheets save",
        "empty fields beyond the layout are cut",
        _SAME,
        ("F015",),
    ),
    Deviation("D11", "900 with one or more commas", "empty fields are cut", _SAME, ("F015",)),
    Deviation(
        "D12",
        "an UpdateDateTime of 12 digits",
        "read with seconds 00",
        _SAME,
        ("I008",),
    ),
    Deviation(
        "D13",
        "a date in scientific notation (2.02607E+11), as spreadsheets save",
        "an IntervalDate, UpdateDateTime or time of a register read: rejected, the digits are "
        "lost; any other date is left empty",
        "as under portal; in the header the file is refused",
        ("F007", "N014", "I011", "I016", "A008"),
    ),
    Deviation(
        "D14",
        "ISO dates (2025-03-06T02:15:09), with or without +10:00; a header DateTime with seconds",
        "read and warned of; with any other zone the date is malformed",
        "an IntervalDate rejects the day, a header DateTime refuses the file, others are read",
        ("F007", "I008", "I011", "I015", "N014", "A008", "B002"),
    ),
    Deviation(
        "D15",
        "DateTime in the header empty or malformed, From or To empty",
        "read; file time or participant unknown",
        "file refused",
        ("F007",),
    ),
    Deviation("D16", "a day with fewer values than intervals", "day rejected", _SAME, ("I001",)),
    Deviation("D17", "a 300 without any value", "day rejected", _SAME, ("I001",)),
    Deviation(
        "D18",
        "empty interval values",
        "day rejected; the value is missing, never 0",
        _SAME,
        ("I004",),
    ),
    Deviation(
        "D19",
        "an IntervalLength in the 200 that disagrees with the number of values in the 300s",
        "day rejected",
        _SAME,
        ("I001",),
    ),
    Deviation(
        "D20",
        "IntervalLength 05, 10, 60 or 1",
        "05 is read as 5; days of the others are rejected",
        _SAME,
        ("N007", "N016"),
    ),
    Deviation(
        "D21",
        "one 300 broken over several lines",
        "day rejected, never glued",
        _SAME,
        ("I012",),
    ),
    Deviation(
        "D22",
        "negative Quantity on generation registers",
        "read as given",
        "register read rejected",
        ("A004",),
    ),
    Deviation(
        "D23",
        "unit in another case, or empty on a volt channel",
        "any case is legal and read; days with an empty unit are rejected",
        _SAME,
        ("N005",),
    ),
    Deviation(
        "D24",
        "MDMDataStreamIdentifier that repeats the suffix, or is empty on active energy",
        "read, nothing reported",
        "read; empty is warned of",
        ("N008",),
    ),
    Deviation(
        "D25",
        "NMIConfiguration empty, or without the record's suffix",
        "read",
        "days or register reads rejected",
        ("N003",),
    ),
    Deviation(
        "D26",
        "RegisterID empty or equal to the suffix, serial longer than 12 characters",
        "read; too long a serial is warned of",
        "read; an empty RegisterID is warned of too",
        ("N008", "N013"),
    ),
    Deviation(
        "D27",
        "values such as .362 or 18, or with 14 decimals",
        ".362 and 18 are legal; more decimals than the unit has are kept and warned of",
        _SAME,
        ("I006",),
    ),
    Deviation("D28", "NextScheduledReadDate far in the past", "legal; read", _SAME),
    Deviation(
        "D29",
        "400s under a 300 that is not V; V or an unknown flag in a 400; flag N",
        "400s are applied; V and unknown flags reject the day; N is read as missing",
        _SAME,
        ("Q001", "Q008", "Q009", "Q010"),
    ),
    Deviation("D30", "spaces around fields", "trimmed", _SAME, ("F017",)),
    Deviation(
        "D31",
        "an UpdateDateTime of 15 digits",
        "the day is read, the stamp is not: the file's DateTime orders the version",
        _SAME,
        ("I008",),
    ),
    Deviation(
        "D32",
        "the same rows twice, in one file or across files",
        "equal rows make one claim; equal stamps with different content reject both",
        _SAME,
        ("I009", "A010"),
    ),
    Deviation(
        "D33",
        "a zip with several members, a zip in a zip, an inner name that differs from the outer",
        "each member is a file of its own; names are for information only",
        _SAME,
        ("F019",),
    ),
    Deviation(
        "D34",
        "an NMI of 11 characters, in a field or a file name",
        "cut to 10 when the check digit is right, else rejected",
        _SAME,
        ("N011", "N012"),
    ),
    Deviation("D35", "a file name in lower case (nem12#…)", "legal; read", _SAME),
    Deviation(
        "D36",
        "DirectionIndicator B or N",
        "read; the suffix gives the direction",
        "register read rejected",
        ("A006",),
    ),
    Deviation("D37", "a day split by 400s into A and A with reason 79", "legal; read", _SAME),
    Deviation(
        "D38",
        "not MDFF at all: a retailer's or distributor's own CSV",
        "file refused, with a guess at what it is",
        _SAME,
        ("F018",),
    ),
    Deviation("D39", "NEM13 with E64, E54 or S52", "read as given", _SAME, ("Q003",)),
    Deviation(
        "D40",
        "quoted fields",
        "the marks are taken off",
        "day or register read rejected",
        ("F016",),
    ),
    Deviation(
        "D41",
        "dates written DD/MM/YYYY",
        "ambiguous: an IntervalDate, UpdateDateTime or time of a register read is rejected; any "
        "other date is left empty",
        "as under portal; in the header the file is refused",
        ("F007", "N014", "I002", "I008", "I011", "A008"),
    ),
)
