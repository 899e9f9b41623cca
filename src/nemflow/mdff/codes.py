"""The format's code lists, behind one door.

Why: readers, rules, docs and the command line must mean the same thing by ``S14``, ``E1`` or 79.
Promises: each list is one plain table that vectorised code can use as it stands; facts that were
not read in AEMO's own text are marked ``verified=False`` or with a comment, easy to change.
Where next: ``nemflow.mdff.codelists``, one module per list; spec section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nemflow.mdff.codelists.quality import (
    METER_EVENT_REASONS,
    METHOD_FLAGS,
    QUALITY_FLAGS,
    QUALITY_METHODS,
    Method,
    QualityFlag,
    describe_quality,
)
from nemflow.mdff.codelists.reasons import (
    CURRENT_REASONS,
    KNOWN_REASONS,
    OBSOLETE_REASONS,
    REASONS,
    REASONS_EXTENDED,
    REASONS_REVISED,
    Reason,
    reason_title,
)
from nemflow.mdff.codelists.suffixes import (
    ACCUMULATION_KINDS,
    ACCUMULATION_SUFFIX,
    DIRECTION_INDICATORS,
    INTERVAL_KINDS,
    INTERVAL_SUFFIX,
    NMI_CONFIGURATION,
    SUFFIX_UNIT_GROUP,
    Suffix,
    SuffixKind,
    describe_suffix,
    parse_suffix,
)
from nemflow.mdff.codelists.units import (
    ENERGY_UNITS,
    UNIT_CANON,
    UNIT_DECIMALS,
    UNITS,
    Unit,
    canonical_unit,
)

__all__ = [
    "ACCUMULATION_KINDS",
    "ACCUMULATION_SUFFIX",
    "CURRENT_REASONS",
    "DIRECTION_INDICATORS",
    "ENERGY_UNITS",
    "INSTALLATION_TYPES",
    "INTERVAL_KINDS",
    "INTERVAL_LENGTHS",
    "INTERVAL_SUFFIX",
    "KNOWN_REASONS",
    "METER_EVENT_REASONS",
    "METHOD_FLAGS",
    "NMI_CONFIGURATION",
    "OBSOLETE_REASONS",
    "QUALITY_FLAGS",
    "QUALITY_METHODS",
    "REASONS",
    "REASONS_EXTENDED",
    "REASONS_REVISED",
    "SUFFIX_UNIT_GROUP",
    "TRANS_CODES",
    "UNITS",
    "UNIT_CANON",
    "UNIT_DECIMALS",
    "InstallationType",
    "Method",
    "QualityFlag",
    "Reason",
    "Suffix",
    "SuffixKind",
    "TransCode",
    "Unit",
    "canonical_unit",
    "describe_quality",
    "describe_suffix",
    "parse_suffix",
    "reason_title",
]

#: Minutes of an interval to intervals in a day; there are no others, and no 23-hour days.
INTERVAL_LENGTHS: Final[dict[int, int]] = {5: 288, 15: 96, 30: 48}


@dataclass(frozen=True, slots=True)
class TransCode:
    """Why a read was made or tried (500 and 550)."""

    code: str
    action: str
    gist: str = ""
    obsolete: bool = False  #: accepted in historical data


TRANS_CODES: Final[dict[str, TransCode]] = {
    each.code: each
    for each in (
        TransCode("A", "Alteration", "any change of the metering installation"),
        TransCode("C", "Meter reconfiguration", "e.g. controlled-load timing; not a removal"),
        TransCode("D", "De-energisation", "also for non-payment"),
        TransCode("E", "Estimate", "every estimate"),
        TransCode("G", "Re-energisation"),
        TransCode("N", "Normal read", "scheduled collection, with its substitutions"),
        TransCode("O", "Other", "investigations and other orders; history, or unknown"),
        TransCode("R", "Removal", "meter removed or supply abolished, not replaced"),
        TransCode("S", "Special read"),
        TransCode("T", "Obsolete", "stands in one example of the MDFF as history", obsolete=True),
    )
}


@dataclass(frozen=True, slots=True)
class InstallationType:
    """A type of metering installation; context only, no MDFF record carries it."""

    code: str
    meaning: str
    verified: bool = False


INSTALLATION_TYPES: Final[dict[str, InstallationType]] = {
    each.code: each
    for each in (
        InstallationType("BASIC", "type 6, accumulation meter", verified=True),
        InstallationType("MRIM", "type 5, interval meter read by hand"),
        InstallationType("MRAM", "type 4A, able to be read remotely, read by hand"),
        InstallationType("COMMS1", "type 1, read remotely"),
        InstallationType("COMMS2", "type 2, read remotely"),
        InstallationType("COMMS3", "type 3, read remotely"),
        InstallationType("COMMS4", "type 4, read remotely"),
        InstallationType("COMMS4C", "type 4, small customer, contestable"),
        InstallationType("COMMS4D", "type 4, small customer, distributor"),
        InstallationType("VICAMI", "Victorian smart meter"),
        InstallationType("UMCP", "type 7, unmetered"),
        InstallationType("NCONUML", "unmetered, not contestable"),
    )
}
