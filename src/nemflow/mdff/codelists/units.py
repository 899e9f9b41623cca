"""Units of measure: one spelling, a scale, and whether values may be added up.

Why: files spell a unit in every case, and a sum of volts is nonsense.
Promises: a unit is known or not, never guessed; only energy is summed over time.
Where next: ``nemflow.mdff.codes``; spec section 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of the list."""

    name: str  #: the spelling we store and show
    group: str  #: what it measures, e.g. ``active energy``
    base: str  #: the group's base unit
    scale: int  #: how many base units one of it is: 1, 1,000 or 1,000,000
    decimals: int  #: decimals the format allows

    @property
    def is_energy(self) -> bool:
        """True for an amount per interval: active, reactive or apparent energy."""
        return self.group.endswith("energy")

    @property
    def summable(self) -> bool:
        """True when values of several intervals may be added; else they are averaged or held."""
        return self.is_energy


_MEGA: Final = (1_000_000, 7)
_KILO: Final = (1_000, 4)
_BASE: Final = (1, 1)

_GROUPS: Final[tuple[tuple[str, str, tuple[tuple[str, tuple[int, int]], ...]], ...]] = (
    ("active energy", "Wh", (("MWh", _MEGA), ("kWh", _KILO), ("Wh", _BASE))),
    ("reactive energy", "VArh", (("MVArh", _MEGA), ("kVArh", _KILO), ("VArh", _BASE))),
    ("reactive power", "VAr", (("MVAr", _MEGA), ("kVAr", _KILO), ("VAr", _BASE))),
    ("active power", "W", (("MW", _MEGA), ("kW", _KILO), ("W", _BASE))),
    ("apparent energy", "VAh", (("MVAh", _MEGA), ("kVAh", _KILO), ("VAh", _BASE))),
    ("apparent power", "VA", (("MVA", _MEGA), ("kVA", _KILO), ("VA", _BASE))),
    ("voltage", "V", (("kV", _KILO), ("V", _BASE))),
    ("current", "A", (("kA", _KILO), ("A", _BASE))),
    ("power factor", "pf", (("pf", (1, 3)),)),
)

#: Every unit by its spelling, e.g. ``kWh``.
UNITS: Final[dict[str, Unit]] = {
    name: Unit(name, group, base, scale, decimals)
    for group, base, members in _GROUPS
    for name, (scale, decimals) in members
}
#: Upper-case text to spelling: the whole look-up, because units differ in case only.
UNIT_CANON: Final[dict[str, str]] = {name.upper(): name for name in UNITS}
#: Spelling to the number of decimals allowed.
UNIT_DECIMALS: Final[dict[str, int]] = {name: unit.decimals for name, unit in UNITS.items()}
#: Spellings of the units whose values may be added up over time.
ENERGY_UNITS: Final[frozenset[str]] = frozenset(n for n, unit in UNITS.items() if unit.is_energy)


def canonical_unit(text: str) -> Unit | None:
    """The unit a text means, in any case and with spaces around it; None when it is none."""
    name = UNIT_CANON.get(text.strip().upper())
    return UNITS[name] if name else None
