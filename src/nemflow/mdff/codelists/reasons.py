"""Reason codes: why a value is what it is, with the dates between which each title held.

Why: numbers were given new meanings over time, so a title is only right for a date.
Promises: the number is what is stored; ``reason_title`` finds the words for a number and a date.
Where next: ``nemflow.mdff.codes``; spec section 3.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final


@dataclass(frozen=True, slots=True)
class Reason:
    """One meaning of one reason code."""

    code: int
    title: str
    gist: str = ""  #: in our words
    valid_from: date | None = None  #: None = from the beginning
    valid_until: date | None = None  #: last day; None = still in force
    verified: bool = True  #: read in the MDFF text itself


#: Version 2.5 took effect: from this day on the obsolete codes are wrong.
REASONS_REVISED: Final = date(2022, 5, 1)
#: Version 2.6 took effect: codes 100 to 109 are in force.
REASONS_EXTENDED: Final = date(2024, 9, 29)
#: Last day before version 1.02; the older list gave many codes another title. [K]
_OLD_LIST_ENDS: Final = date(2014, 5, 14)
_OBSOLETE_ENDS: Final = date(2022, 4, 30)

_CURRENT: Final[tuple[tuple[int, str, str], ...]] = (
    (0, "Free text description", "nothing else fits; the description is mandatory"),
    (1, "Meter/equipment changed", "the installation was exchanged"),
    (2, "Extreme weather conditions", "flood, storm or bushfire stopped collection"),
    (3, "Quarantined premises", "quarantine or lockdown"),
    (5, "Blank screen", "electronic display blank, cause unknown"),
    (6, "De-energised premises", "de-energised, or substituted while de-energised"),
    (7, "Unable to locate meter", "site found, meter not"),
    (8, "Vacant premises", "believed vacant and no access"),
    (9, "Under investigation", "a known issue is being looked at"),
    (10, "Lock damaged unable to open", ""),
    (11, "In wrong route", ""),
    (12, "Locked premises", ""),
    (13, "Locked gate", ""),
    (14, "Locked meter box", ""),
    (15, "Overgrown vegetation", ""),
    (17, "Unsafe equipment/location", "unsafe, other than a high meter"),
    (18, "Read less than previous", "lower read, no tamper, no reverse energy"),
    (20, "Damaged equipment/panel", "damaged but not unsafe"),
    (21, "Main switch off", ""),
    (22, "Meter/equipment seals missing", "no tamper found"),
    (23, "Reader error", "the reader took a wrong read"),
    (24, "Substituted/replaced data (data correction)", "wrong intervals were replaced"),
    (25, "Unable to locate premises", ""),
    (26, "Negative consumption (generation)", "current read below previous because of generation"),
    (27, "RoLR", "retailer-of-last-resort transfer"),
    (28, "CT/VT fault", "corrected for an instrument-transformer fault"),
    (29, "Relay faulty/damaged", ""),
    (31, "Not all meters read", "some reads of the site are missing"),
    (32, "Re-energised without readings", ""),
    (33, "De-energised without readings", ""),
    (34, "Meter not in handheld", "unexpected meter on site"),
    (35, "Timeswitch faulty/reset required", ""),
    (36, "Meter high/ladder required", ""),
    (37, "Meter under churn", "the other MDP did not deliver"),
    (38, "Unmarried lock", "several locks not linked"),
    (39, "Reverse energy observed", "where none is expected"),
    (40, "Unrestrained livestock", ""),
    (41, "Faulty Meter display/dials", ""),
    (42, "Channel added/removed", ""),
    (43, "Power outage", "no supply at the meter, substituted"),
    (44, "Meter testing", ""),
    (45, "Readings failed to validate", ""),
    (47, "Refused access", ""),
    (48, "Dog on premises", ""),
    (51, "Installation demolished", ""),
    (52, "Access - blocked", ""),
    (53, "Pests in meter box", ""),
    (54, "Meter box damaged/faulty", ""),
    (55, "Dials obscured", ""),
    (60, "Illegal connection", ""),
    (61, "Equipment tampered", "goes with A on a 400"),
    (62, "NSRD window expired", ""),
    (64, "Key required", ""),
    (65, "Wrong key provided", ""),
    (67, "Transfer", "the read was made for a customer transfer"),
    (68, "Zero consumption", "known zero, not de-energised"),
    (69, "Reading exceeds Substitute", "substituted anew to smooth against the next actual"),
    (71, "Probe read error", ""),
    (72, "Re-calculated based on Actual Metering Data", "actuals came in, substitutes amended"),
    (73, "Low consumption", "failed the low check, kept or substituted"),
    (74, "High consumption", "failed the high check, kept or substituted"),
    (75, "Customer read", "where the jurisdiction allows it"),
    (76, "Communications fault", ""),
    (77, "Estimation Forecast", "optional on estimates"),
    (78, "Null Data", "nothing received, substitutes made"),
    (79, "Power Outage Alarm", "the meter logged an outage; goes with A on a 400"),
    (80, "Short Interval Alarm", "the clock was slow and corrected, the interval is shorter"),
    (81, "Long Interval Alarm", "the clock was fast and corrected, the interval is longer"),
    (87, "Reset occurred", "reprogramming, firmware"),
    (89, "Time reset occurred", "goes with A on a 400"),
)

# Not read in the text of version 2.6, taken from a library that implements it.
_SINCE_2024: Final[tuple[tuple[int, str], ...]] = (
    (100, "Incorrect Meter Multiplier"),
    (101, "Temporarily Connection Point unmetered"),
    (102, "Customer By-Pass"),
    (103, "Network By-Pass"),
    (104, "Transposed Channel"),
    (105, "Transposed Channel - UoM Correction"),
    (106, "Transposed Channel - Reverse Polarity"),
    (107, "Transposed Meter"),
    (108, "Network by-pass extreme weather"),
    (109, "Defined load method"),
)

_OBSOLETE: Final[tuple[tuple[int, str], ...]] = (
    (4, "Dangerous dog"),
    (16, "Noxious weeds"),
    (19, "Consumer wanted"),
    (30, "Meter stop switch on"),
    (46, "Extreme weather/hot"),
    (49, "Wet paint"),
    (50, "Wrong tariff"),
    (58, "Meter OK - supply failure"),
    (70, "Probe reports tampering"),
    (82, "CRC error"),
    (83, "RAM checksum error"),
    (84, "ROM checksum error"),
    (85, "Data missing alarm"),
    (86, "Clock error alarm"),
    (88, "Watchdog timeout alarm"),
    (90, "Test mode"),
    (91, "Load control"),
    (92, "Added interval (data correction)"),
    (93, "Replaced interval (data correction)"),
    (94, "Estimated interval (data correction)"),
    (95, "Pulse overflow alarm"),
    (96, "Data out of limits"),
    (97, "Excluded data"),
    (98, "Parity error"),
    (99, "Energy type (register changed)"),
)

# The list before 2014 gave these numbers another meaning; from one library, not verified.
_BEFORE_2014: Final[tuple[tuple[int, str], ...]] = (
    (2, "Extreme weather/wet"),
    (5, "Meter/equipment changed"),
    (6, "Extreme weather/wet"),
    (9, "Meter/equipment changed"),
    (23, "Meter/equipment seals missing"),
    (24, "Meter/equipment seals missing"),
    (25, "Meter/equipment seals missing"),
    (26, "Meter/equipment seals missing"),
    (27, "Meter/equipment seals missing"),
    (28, "Damaged equipment/panel"),
    (31, "Meter/equipment seals missing"),
    (32, "Damaged equipment/panel"),
    (33, "Relay faulty/damaged"),
    (37, "Meter high/ladder required"),
    (38, "Unsafe equipment/location"),
    (40, "Timeswitch faulty/reset required"),
    (42, "Faulty equipment display/dials"),
    (44, "Unsafe equipment/location"),
    (48, "Timeswitch faulty/reset required"),
    (55, "Faulty equipment display/dials"),
    (60, "Illegal connection/equipment tampered"),
    (61, "Meter box damaged/faulty"),
    (62, "Damaged equipment/panel"),
    (67, "Extreme weather/wet"),
    (69, "Reading exceeds estimate"),
    (72, "Meter/equipment changed"),
)


def _all_meanings() -> dict[int, tuple[Reason, ...]]:
    """Each code's meanings, oldest first."""
    old = dict(_BEFORE_2014)
    later = date.fromordinal(_OLD_LIST_ENDS.toordinal() + 1)
    meanings: dict[int, tuple[Reason, ...]] = {}
    for code, title, gist in _CURRENT:
        now = Reason(code, title, gist, later if code in old else None)
        then = (Reason(code, old[code], "", None, _OLD_LIST_ENDS, False),) if code in old else ()
        meanings[code] = (*then, now)
    for code, title in _OBSOLETE:
        meanings[code] = (Reason(code, title, "", None, _OBSOLETE_ENDS),)
    for code, title in _SINCE_2024:
        meanings[code] = (Reason(code, title, "", REASONS_EXTENDED, None, False),)
    return dict(sorted(meanings.items()))


#: Every known code's meanings, oldest first.
REASONS: Final[dict[int, tuple[Reason, ...]]] = _all_meanings()

#: Codes in force today.
CURRENT_REASONS: Final[frozenset[int]] = frozenset(
    code for code, meanings in REASONS.items() if meanings[-1].valid_until is None
)
#: Codes that are legal in historical data only: wrong from REASONS_REVISED on.
OBSOLETE_REASONS: Final[frozenset[int]] = frozenset(code for code, _ in _OBSOLETE)
#: Every code of either list; 56, 57, 59, 63, 66 and everything above 109 are in neither.
KNOWN_REASONS: Final[frozenset[int]] = frozenset(REASONS)


def reason_title(code: int, on: date | None = None) -> str | None:
    """The title a reason code had on a date, best the date of its file.

    Args:
        code: the number as it stands in the file.
        on: the date; without one the newest title is given.

    Returns:
        The title in force on that date. An obsolete code keeps its last title, and a code used
        before its time has its first, because the number still says what was meant. None for a
        number of no list.
    """
    meanings = REASONS.get(code)
    if meanings is None:
        return None
    if on is None:
        return meanings[-1].title
    for meaning in meanings:
        if meaning.valid_until is None or on <= meaning.valid_until:
            return meaning.title
    return meanings[-1].title
