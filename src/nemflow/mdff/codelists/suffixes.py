"""NMI suffixes: which way the energy flows, what is measured, and in which role.

Why: two characters decide whether a reading is consumption or feed-in, and whether it may be
billed or is only a check.
Promises: directions are seen from the grid, as the format means them: E is what the customer
consumes, B is what the customer feeds in (home portals often say it the other way round).
Where next: ``nemflow.mdff.codes``; spec sections 3.6, 3.7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: A data stream of interval data (NEM12): letter without I and O, then element.
INTERVAL_SUFFIX: Final = r"^[A-HJ-NP-Z][1-9A-HJ-NP-Z]$"
#: A data stream of accumulation data (NEM13): digit, then meter.
ACCUMULATION_SUFFIX: Final = r"^[1-9][1-9A-HJ-NP-Z]$"
#: All suffixes of an NMI strung together; length is limited to 240 characters apart.
NMI_CONFIGURATION: Final = r"^(?:[A-HJ-NP-Z1-9][1-9A-HJ-NP-Z])+$"


@dataclass(frozen=True, slots=True)
class SuffixKind:
    """What the first character of a suffix says."""

    first: str  #: the first character
    direction: str  #: ``consumption``, ``generation``, ``net`` or ``n/a``
    quantity: str  #: active, reactive, apparent, pf, q, par, volt_amp; ``n/a`` for accumulation
    role: str  #: ``average``, ``master``, ``check`` or ``net``
    meaning: str  #: in plain words
    unit_groups: tuple[str, ...] = ()  #: groups of units that fit; empty = any


@dataclass(frozen=True, slots=True)
class Suffix:
    """One data stream: its kind and the meter or element it comes from."""

    code: str  #: two characters, upper case
    kind: SuffixKind
    element: str  #: second character: meter or measuring element

    @property
    def direction(self) -> str:
        """``consumption``, ``generation``, ``net`` or ``n/a``."""
        return self.kind.direction

    @property
    def quantity(self) -> str:
        """Active, reactive, apparent, pf, q, par, volt_amp, or ``n/a`` for accumulation."""
        return self.kind.quantity

    @property
    def role(self) -> str:
        """``average``, ``master``, ``check`` or ``net``; bill on master, never add check."""
        return self.kind.role


_FEED_IN: Final = "solar or other generation fed into the grid"
_USE: Final = "consumption taken from the grid"
_VAR_IN: Final = "reactive energy into the grid"
_VAR_OUT: Final = "reactive energy out of the grid"
_WH: Final = ("active energy",)
_VARH: Final = ("reactive energy",)
_VAH: Final = ("apparent energy",)

#: NEM12: first letter to what it says. An older list used D and J for net streams.
INTERVAL_KINDS: Final[dict[str, SuffixKind]] = {
    kind.first: kind
    for kind in (
        SuffixKind("A", "generation", "active", "average", f"{_FEED_IN}, average", _WH),
        SuffixKind("B", "generation", "active", "master", _FEED_IN, _WH),
        SuffixKind("C", "generation", "active", "check", f"{_FEED_IN}, check meter", _WH),
        SuffixKind("D", "consumption", "active", "average", f"{_USE}, average", _WH),
        SuffixKind("E", "consumption", "active", "master", _USE, _WH),
        SuffixKind("F", "consumption", "active", "check", f"{_USE}, check meter", _WH),
        SuffixKind("N", "net", "active", "net", "consumption less generation, net", _WH),
        SuffixKind("J", "generation", "reactive", "average", f"{_VAR_IN}, average", _VARH),
        SuffixKind("K", "generation", "reactive", "master", _VAR_IN, _VARH),
        SuffixKind("L", "generation", "reactive", "check", f"{_VAR_IN}, check meter", _VARH),
        SuffixKind("P", "consumption", "reactive", "average", f"{_VAR_OUT}, average", _VARH),
        SuffixKind("Q", "consumption", "reactive", "master", _VAR_OUT, _VARH),
        SuffixKind("R", "consumption", "reactive", "check", f"{_VAR_OUT}, check meter", _VARH),
        SuffixKind("X", "net", "reactive", "net", "reactive energy, net", _VARH),
        SuffixKind("S", "n/a", "apparent", "average", "apparent energy, average", _VAH),
        SuffixKind("T", "n/a", "apparent", "master", "apparent energy", _VAH),
        SuffixKind("U", "n/a", "apparent", "check", "apparent energy, check meter", _VAH),
        SuffixKind("G", "n/a", "pf", "master", "power factor", ("power factor",)),
        SuffixKind("H", "n/a", "q", "master", "Q metering (Qh)"),
        SuffixKind("Y", "n/a", "q", "check", "Q metering (Qh), check meter"),
        SuffixKind("M", "n/a", "par", "master", "par metering (parh)"),
        SuffixKind("W", "n/a", "par", "check", "par metering (parh), check meter"),
        SuffixKind("V", "n/a", "volt_amp", "master", "volts or amps", ("voltage", "current")),
        SuffixKind(
            "Z", "n/a", "volt_amp", "check", "volts or amps, check meter", ("voltage", "current")
        ),
    )
}

#: NEM13: first digit to what it says; direction and quantity come from the record itself.
ACCUMULATION_KINDS: Final[dict[str, SuffixKind]] = {
    str(digit): SuffixKind(str(digit), "n/a", "n/a", "master", meaning)
    for digit, meaning in enumerate(
        (
            "first data stream",
            "second data stream",
            "third data stream",
            "first controlled load",
            "second controlled load",
            "third controlled load",
            "first data stream defined by the network",
            "second data stream defined by the network",
            "third data stream defined by the network",
        ),
        start=1,
    )
}

#: First letter to the groups of units that fit, for rule N006; letters left out fit any.
SUFFIX_UNIT_GROUP: Final[dict[str, frozenset[str]]] = {
    first: frozenset(kind.unit_groups) for first, kind in INTERVAL_KINDS.items() if kind.unit_groups
}

#: The DirectionIndicator of a 250; old files have other letters, the suffix then decides.
DIRECTION_INDICATORS: Final[dict[str, str]] = {
    "E": "consumption",
    "I": "generation",
}


def parse_suffix(text: str) -> Suffix | None:
    """The data stream a suffix means, in any case; None when it is none."""
    code = text.strip().upper()
    if re.fullmatch(INTERVAL_SUFFIX, code, re.ASCII):
        return Suffix(code, INTERVAL_KINDS[code[0]], code[1])
    if re.fullmatch(ACCUMULATION_SUFFIX, code, re.ASCII):
        return Suffix(code, ACCUMULATION_KINDS[code[0]], code[1])
    return None


def describe_suffix(text: str) -> str:
    """A suffix in plain words: ``B1: solar or other generation …, meter element 1``."""
    suffix = parse_suffix(text)
    if suffix is None:
        return f"{text}: not a data stream of the NMI Procedure"
    place = "meter element" if suffix.code[0].isalpha() else "meter"
    return f"{suffix.code}: {suffix.kind.meaning}, {place} {suffix.element}"
