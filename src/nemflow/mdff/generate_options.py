"""What can be asked of the generator, checked once.

Why: three modules need the same answers (which NMIs, which days, which stamps).
Promise: an ``Options`` that exists can be generated; defaults are fixed, so examples in the
docs stay true.
Where next: ``generate.py`` explains each option.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Final

from nemflow.errors import UsageError
from nemflow.mdff.generate_load import recipe
from nemflow.mdff.writer import EOL

FROM: Final = "MDPEXMPL"
TO: Final = "RETEXMPL"
#: Where generated days end unless a start is given.
LAST_DAY: Final = date(2025, 3, 31)
_FIRST_DAY: Final = date(1998, 1, 1)
#: Days between two reads of an accumulation meter.
QUARTER: Final = 91


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to generate; ``generate`` explains each."""

    nmis: int | Sequence[str] = 1
    days: int = 7
    start: date | None = None
    interval: int | Sequence[int] = 30
    streams: Sequence[str] | None = None
    seed: int = 0
    estimated: float = 0.0
    substituted: float = 0.0
    service_orders: bool = False
    kind: str = "NEM12"
    file_at: datetime | None = None
    update_at: datetime | None = None
    from_participant: str = FROM
    to_participant: str = TO
    decimals: int = 3

    def __post_init__(self) -> None:
        must(self.kind in ("NEM12", "NEM13"), f"{self.kind!r} is neither NEM12 nor NEM13.")
        must(self.days >= 1, "At least one day is needed.")
        must(0 <= self.decimals <= 4, "kWh carry 0 to 4 decimals.")
        shares = (self.estimated, self.substituted)
        fits = min(shares) >= 0 and sum(shares) <= 1
        must(fits, "Shares lie between 0 and 1, both together too.")
        lengths = set(self.lengths)
        must(bool(lengths) and lengths <= {5, 15, 30}, "An interval is 5, 15 or 30 minutes long.")
        names = (self.from_participant, self.to_participant)
        plain = all(re.fullmatch(r"[A-Za-z0-9_-]{1,10}", name) for name in names)
        must(plain, "A participant id has 1 to 10 letters or digits.")
        right = all(re.fullmatch(r"[A-HJ-NP-Z0-9]{10}", nmi) for nmi in self.nmi_list)
        must(right and bool(self.nmi_list), "An NMI has 10 digits or capitals other than I and O.")
        must(len(set(self.nmi_list)) == len(self.nmi_list), "Each NMI is given once.")
        must(bool(self.suffixes), "At least one data stream is needed.")
        must(len(set(self.suffixes)) == len(self.suffixes), "Each data stream is given once.")
        if self.kind == "NEM12":
            for suffix in self.suffixes:
                recipe(suffix)
        else:
            numbered = all(re.fullmatch(r"[1-9][1-9A-HJ-NP-Z]", each) for each in self.suffixes)
            must(numbered, "NEM13 data streams are like 11 or 41.")
        last = self.first_day.toordinal() + max(self.days, self.periods * QUARTER) + 400
        must(last < date.max.toordinal(), "So many days do not fit the calendar.")

    @cached_property
    def nmi_list(self) -> list[str]:
        """The NMIs, in file order."""
        if isinstance(self.nmis, int):
            return sample_nmis(self.nmis)
        return [self.nmis] if isinstance(self.nmis, str) else list(self.nmis)

    @cached_property
    def suffixes(self) -> list[str]:
        """The data streams of every NMI."""
        if self.streams is None:
            return ["E1", "B1"] if self.kind == "NEM12" else ["11"]
        return [self.streams] if isinstance(self.streams, str) else list(self.streams)

    @cached_property
    def lengths(self) -> list[int]:
        """The interval lengths, taken in turn by the NMIs."""
        return [self.interval] if isinstance(self.interval, int) else list(self.interval)

    @cached_property
    def periods(self) -> int:
        """How many periods between two reads a NEM13 register has, the estimate not counted."""
        return max(1, round(self.days / QUARTER))

    @cached_property
    def first_day(self) -> date:
        """The first day: as given, or such that the last one is LAST_DAY, if that can be."""
        if self.start is not None:
            return self.start
        back = self.days - 1 if self.kind == "NEM12" else self.periods * QUARTER
        return max(_FIRST_DAY, LAST_DAY - timedelta(days=min(back, 20_000)))

    @cached_property
    def file_time(self) -> datetime:
        """The header's DateTime in market time, to the minute."""
        if self.file_at is not None:
            return market_time(self.file_at).replace(second=0, microsecond=0)
        reach = self.days if self.kind == "NEM12" else self.periods * QUARTER + 5
        after = self.first_day + timedelta(days=reach)
        return datetime(after.year, after.month, after.day, 4, 30)  # noqa: DTZ001 - market time

    def header(self) -> str:
        """The 100 record."""
        at = f"{self.file_time:%Y%m%d%H%M}"
        return f"100,{self.kind},{at},{self.from_participant},{self.to_participant}{EOL}"


def sample_nmis(count: int) -> list[str]:
    """Give ``count`` NMIs of the sample range: SASMPL0001 ... SASMPL9999, then with letters.

    Raises:
        UsageError: fewer than one, or more than the range has.
    """
    digits, letters = "0123456789", "ABCDEFGHJKLMNPQRSTUVWXYZ"
    most = 9999 + len(letters) * 34**3
    must(1 <= count <= most, f"Between 1 and {most} sample NMIs can be made.")
    found = [f"SASMPL{number:04d}" for number in range(1, min(count, 9999) + 1)]
    signs = digits + letters
    for number in range(count - len(found)):
        rest, tail = number, ""
        for _ in range(3):
            rest, sign = divmod(rest, 34)
            tail = signs[sign] + tail
        found.append(f"SASMPL{letters[rest]}{tail}")
    return found


def market_time(at: datetime) -> datetime:
    """Give a time as naive market time; a time without zone is market time already."""
    if at.tzinfo is None:
        return at
    return (at - at.utcoffset()).replace(tzinfo=None) + timedelta(hours=10)  # type: ignore[operator]


def must(holds: bool, message: str) -> None:
    """Raise UsageError with ``message`` unless it holds."""
    if not holds:
        raise UsageError(message)
