"""Quality flags, and the methods by which estimates and substitutes are made.

Why: a bill rests on how good a value is and how it came to be.
Promises: ``verified`` is false where the text of the Metrology Procedure was not seen.
Where next: ``nemflow.mdff.quality`` applies them; spec sections 3.1, 3.2, 5.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final


@dataclass(frozen=True, slots=True)
class QualityFlag:
    """The first letter of a QualityMethod."""

    letter: str
    meaning: str
    has_method: bool  #: two digits of method follow
    reason: str  #: ``required``, ``optional`` or ``forbidden``
    records: tuple[str, ...]  #: where it may stand; ``250`` = both reads, ``250 current`` = one
    rank: int  #: for display and roll-ups only, never for choosing versions; -1 = no quality
    withdrawn: date | None = None  #: no longer in use from this day on


QUALITY_FLAGS: Final[dict[str, QualityFlag]] = {
    flag.letter: flag
    for flag in (
        QualityFlag("A", "actual", False, "optional", ("300", "400", "250"), 4),
        QualityFlag("E", "forward estimate", True, "optional", ("300", "400", "250 current"), 1),
        QualityFlag(
            "S",
            "substitute, may still be replaced",
            True,
            "required",
            ("300", "400", "250"),
            2,
        ),
        QualityFlag(
            "F",
            "final substitute, not replaced by actuals",
            True,
            "required",
            ("300", "400", "250"),
            3,
        ),
        QualityFlag("V", "varies over the day, see the 400s", False, "forbidden", ("300",), -1),
        QualityFlag(
            "N",
            "null data, no values known",
            False,
            "optional",
            ("300", "400"),
            0,
            withdrawn=date(2021, 10, 1),
        ),
    )
}

#: Reasons that call for 400 records even though the flag is A.
METER_EVENT_REASONS: Final[frozenset[int]] = frozenset({61, 79, 89})


@dataclass(frozen=True, slots=True)
class Method:
    """The last two digits of a QualityMethod: a type of the Metrology Procedure, Part B."""

    number: str  #: two digits
    name: str
    estimate: bool  #: may follow E
    substitute: bool  #: may follow S and F
    installations: str  #: metering installation types it is meant for; not in the file
    note: str = ""
    obsolete_since: date | None = None
    verified: bool = True  #: two independent implementations agree


#: Effective date of the Metrology Procedure Part B edition that one library calls v7.8. [K]
_PART_B_7_8: Final = date(2024, 11, 4)

METHOD_FLAGS: Final[dict[str, Method]] = {
    method.number: method
    for method in (
        Method("11", "Check", False, True, "1-4", "data of the check meter"),
        Method("12", "Calculated", False, True, "1-4"),
        Method("13", "SCADA", False, True, "1-4"),
        Method("14", "Retrospective like day", False, True, "1-4", "earlier: like day"),
        Method(
            "15", "Retrospective average like day", False, True, "1-4", "earlier: average like day"
        ),
        Method(
            "16",
            "Agreed",
            False,
            True,
            "1-4",
            "history only",
            obsolete_since=_PART_B_7_8,
            verified=False,
        ),
        Method("17", "Linear interpolation", False, True, "1-4"),
        Method("18", "Alternate", False, True, "1-4"),
        Method("19", "Zero", False, True, "1-4"),
        Method(
            "20",
            "Prospective like day",
            False,
            True,
            "1-4",
            "earlier: churn correction like day",
            verified=False,
        ),
        Method("21", "Five-minute, no historical data", False, True, "1-4", verified=False),
        Method("22", "Prospective average like day", False, True, "1-4", verified=False),
        Method("23", "Previous year", False, True, "1-4", verified=False),
        Method("24", "Data scaling", False, True, "1-4", verified=False),
        Method("25", "Average daily load", False, True, "1-4", verified=False),
        Method("51", "Previous year", True, True, "5", "type 4A too, not verified"),
        Method("52", "Previous read", True, True, "5", "seen in NEM13 files of 2005 as S52"),
        Method("53", "Revision", False, True, "5"),
        Method("54", "Linear interpolation", False, True, "5", "E54 is seen all the same"),
        Method("55", "Agreed", False, True, "5"),
        Method("56", "Prior to first read, agreed", True, True, "5"),
        Method("57", "Customer class", True, True, "5"),
        Method("58", "Zero", True, True, "5"),
        Method("59", "Five-minute, no historical data", True, True, "5", verified=False),
        Method("61", "Previous year", True, True, "6"),
        Method("62", "Previous read", True, True, "6"),
        Method("63", "Customer class", True, True, "6"),
        Method("64", "Agreed", False, True, "6", "E64 stands in the MDFF's own examples"),
        Method("65", "Average daily load", True, False, "6"),
        Method("66", "Revision", False, True, "6"),
        Method("67", "Customer read", False, True, "6"),
        Method("68", "Zero", True, True, "6"),
        Method("69", "Linear extrapolation", False, True, "6", verified=False),
        Method("71", "Recalculation", False, True, "7"),
        Method("72", "Revised table", False, True, "7"),
        Method("73", "Revised algorithm", False, True, "7"),
        Method("74", "Agreed", False, True, "7"),
        Method("75", "Existing table", True, False, "7"),
    )
}

#: Every QualityMethod whose flag and method go together, ``A``, ``V`` and ``N`` among them.
QUALITY_METHODS: Final[frozenset[str]] = frozenset(
    {letter for letter, flag in QUALITY_FLAGS.items() if not flag.has_method}
    | {f"E{method.number}" for method in METHOD_FLAGS.values() if method.estimate}
    | {
        f"{flag}{method.number}"
        for method in METHOD_FLAGS.values()
        if method.substitute
        for flag in "SF"
    }
)


def describe_quality(quality_method: str) -> str:
    """A QualityMethod in words, e.g. ``S14: substitute …, method 14 retrospective like day``."""
    text = quality_method.strip().upper()
    flag = QUALITY_FLAGS.get(text[:1])
    if flag is None:
        return f"{quality_method}: not a quality"
    if not text[1:]:
        return f"{text}: {flag.meaning}"
    method = METHOD_FLAGS.get(text[1:])
    name = method.name[0].lower() + method.name[1:] if method else "unknown"
    return f"{text}: {flag.meaning}; method {text[1:]}, {name}"
