"""The time a page is shown in: market time, or the local time of a place.

Why: the market knows no daylight saving, people do; a household's evening peak is an hour off for
half of the year when it is shown in market time.

Promises: market time unless another is chosen; the place of an NMI is a hint, from the ranges NMIs
were allocated in, and is called that.

Look next: ``nemflow.mdff.nmi.allocation``; ``Store.local_days``.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from nemflow.mdff.nmi import allocation
from nemflow.store.tables import MARKET_OFFSET

#: Region of a network -> IANA name of its time.
ZONES: Final = {
    "NSW": "Australia/Sydney",
    "ACT": "Australia/Sydney",
    "VIC": "Australia/Melbourne",
    "QLD": "Australia/Brisbane",
    "SA": "Australia/Adelaide",
    "TAS": "Australia/Hobart",
    "NT": "Australia/Darwin",
    "WA": "Australia/Perth",
}
MARKET_WORDS: Final = "market time, UTC+10 all year"


def zone_of(nmi: str) -> str | None:
    """The time of the place an NMI's range was allocated to; None: not known."""
    network = allocation(nmi)
    return ZONES.get(network.region) if network else None


def chosen(text: str) -> str | None:
    """What the address asks for: a zone of ``ZONES``; None: market time."""
    return text if text in ZONES.values() else None


def bounds(day: date, zone: str | None) -> tuple[datetime, datetime]:
    """Midnight to midnight of a day, in market time (None) or in a zone."""
    there = MARKET_OFFSET if zone is None else ZoneInfo(zone)
    return (
        datetime.combine(day, time(), there),
        datetime.combine(day + timedelta(days=1), time(), there),
    )


def hours(day: date, zone: str | None) -> float:
    """How long a day is: 24; 23 or 25 where clocks change."""
    opens, closes = bounds(day, zone)
    return (closes.astimezone(MARKET_OFFSET) - opens.astimezone(MARKET_OFFSET)) / timedelta(hours=1)


def long_day_words(day: date, zone: str | None) -> str:
    """``25 hours: clocks go back``, or nothing for a day of 24."""
    length = hours(day, zone)
    if length == 24:
        return ""
    return f"{length:g} hours: clocks go {'back' if length > 24 else 'forward'}"
