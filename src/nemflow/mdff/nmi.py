"""The NMI: its pattern, its check digit, and a hint at the network it belongs to.

Why: an NMI that is off by one character is somebody else's bill.
Promises: eleven characters are accepted only with the right check digit, nothing is ever cut off
silently; the network is a hint from a published list, never a test of validity.
Where next: rules N001, N011 and N012 in ``nemflow.mdff.rules``; spec section 6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from nemflow.errors import DataError, UsageError

#: Ten digits and capital letters without I and O. Match whole (``re.fullmatch`` with re.ASCII).
NMI_PATTERN: Final = r"^[A-HJ-NP-Z0-9]{10}$"
_ALLOWED: Final = re.compile(r"[A-HJ-NP-Z0-9]{10}", re.ASCII)
_SAMPLE: Final = re.compile(r"SASMPL[0-9]{4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Network:
    """Who a range of NMIs was allocated to, as published on 1 August 2017."""

    region: str  #: ACT, NSW, NT, QLD, SA, TAS, VIC, WA, or empty
    name: str
    participant: str = ""  #: participant id in MSATS, where one is known
    kind: str = "distribution"  #: distribution, transmission, embedded, reserved or gas


@dataclass(frozen=True, slots=True)
class Nmi:
    """An NMI taken apart."""

    nmi: str  #: ten characters, capitals
    check_digit: int  #: the right one, computed
    check: str  #: ``not given``, ``verified`` or ``wrong``
    given: str = ""  #: the eleventh character as given
    network: Network | None = None  #: a hint; None when the list has no such range
    transmission: bool = False  #: W in fifth place marks the transmission network
    sample: bool = False  #: of the range kept for examples, SASMPL0000 to SASMPL9999

    @property
    def region(self) -> str:
        """The region of the network, or empty."""
        return self.network.region if self.network else ""


def _network(
    region: str, name: str, participant: str, prefixes: str, kind: str = "distribution"
) -> list[tuple[str, Network]]:
    network = Network(region, name, participant, kind)
    return [(prefix, network) for prefix in prefixes.split()]


#: Prefix to network. A prefix of digits holds for NMIs of digits only. [list of 2017]
ALLOCATIONS: Final[dict[str, Network]] = dict(
    [
        *_network("ACT", "Evoenergy", "ACTEWP", "NGGG 7001"),
        *_network("NSW", "Essential Energy", "CNRGYP", "NAAA NBBB NDDD NFFF 4001 4204 4407 4508"),
        *_network("NSW", "Ausgrid", "ENERGYAP", "NCCC 4102 4103 4104"),
        *_network("NSW", "Endeavour Energy", "INTEGP", "NEEE 431"),
        *_network(
            "NSW",
            "TransGrid",
            "TRANSGP",
            "NTTT " + " ".join(str(4608100 + n) for n in range(9)),
            "transmission",
        ),
        *_network("NSW", "Snowy Hydro", "SNOWY", "4708109"),
        *_network("NSW", "Sydney Airport", "FEDAIRPORTS", "NJJJNR", "embedded"),
        *_network("NT", "Northern Territory, reserved", "", "250", "reserved"),
        *_network("NT", "Power and Water", "PWCLNSP", "2500 2503"),
        *_network("QLD", "Ergon Energy", "ERGONETP", "QAAA QCCC QDDD QEEE QFFF QGGG 30"),
        *_network("QLD", "Energex", "ENERGEXP", "31 " + " ".join(f"QB{n:02}" for n in range(100))),
        *_network("QLD", "Powerlink", "PLINKP", "320200", "transmission"),
        *_network("SA", "SA Power Networks", "UMPLP", "SAAA SASMPL 2001 2002"),
        *_network("SA", "ElectraNet", "ETSATP", "210200", "transmission"),
        # T000000000 to T000005001: inferred, the published pattern is one character too long.
        *_network("TAS", "TasNetworks", "AURORAP", "T00000 8000 85902 85903"),
        *_network("VIC", "CitiPower", "CITIPP", "VAAA 6102 6103"),
        *_network("VIC", "AusNet Services", "EASTERN", "VBBB 6305 6306"),
        *_network("VIC", "Powercor", "POWCP", "VCCC 6203 6204"),
        *_network("VIC", "Jemena", "SOLARISP", "VDDD 6001"),
        *_network("VIC", "United Energy", "UNITED", "VEEE 6407 6408"),
        *_network("VIC", "AusNet Services, transmission", "GPUPP", "650900", "transmission"),
        *_network(
            "WA",
            "Western Power",
            "",
            "WAAA 801 8020 " + " ".join(str(8000 + n) for n in range(1, 10)),
        ),
        *_network("WA", "Horizon Power", "", "8021"),
        *_network("", "exempt and embedded networks", "", "NKKK 7102", "embedded"),
        *_network("", "AEMO, reserved", "", "8801 8802 8803 8804 8805 9", "reserved"),
        *_network("NSW", "gas, not electricity", "", "52", "gas"),
        *_network("VIC", "gas, not electricity", "", "53", "gas"),
        *_network("QLD", "gas, not electricity", "", "54", "gas"),
        *_network("SA", "gas, not electricity", "", "55", "gas"),
        *_network("WA", "gas, not electricity", "", "56", "gas"),
        *_network("TAS", "gas, not electricity", "", "57", "gas"),
    ]
)

#: Alphanumeric NMIs with W in fifth place: first letter to the region's transmission network.
TRANSMISSION: Final[dict[str, Network]] = {
    "Q": Network("QLD", "Powerlink", "PLINKP", "transmission"),
    "S": Network("SA", "ElectraNet", "ETSATP", "transmission"),
    "T": Network("TAS", "TasNetworks, transmission", "TRANSEND", "transmission"),
    "V": Network("VIC", "AusNet Services, transmission", "GPUPP", "transmission"),
}
_LONGEST: Final = max(map(len, ALLOCATIONS))


def checksum(nmi: str) -> int:
    """The check digit (0 to 9) of ten characters; spec section 6.2.

    From right to left every other ASCII code is doubled, beginning with the last; the digits of
    all results are added; the check digit is the distance to the next multiple of ten.

    Raises:
        UsageError: not ten ASCII characters.
    """
    if len(nmi) != 10 or not nmi.isascii():
        raise UsageError(
            f"A check digit needs ten ASCII characters, {nmi!r} is not that.",
            hint="Give the NMI without its check digit.",
        )
    total = 0
    for place, character in enumerate(reversed(nmi)):
        value = ord(character) * (2 if place % 2 == 0 else 1)
        total += sum(int(digit) for digit in str(value))
    return (10 - total % 10) % 10


def is_nmi(text: str) -> bool:
    """True for ten allowed characters in capitals; says nothing of whether it exists."""
    return _ALLOWED.fullmatch(text) is not None


def allocation(nmi: str) -> Network | None:
    """The network an NMI's range was allocated to, longest prefix first; None when unknown.

    A hint only: the list is of 2017, ranges were transferred, embedded networks lie inside.
    """
    digits_only = nmi.isdigit()
    if not digits_only and nmi[4:5] == "W":  # distributors' letter ranges leave out the W
        return TRANSMISSION.get(nmi[:1])
    for length in range(_LONGEST, 0, -1):
        prefix = nmi[:length]
        found = ALLOCATIONS.get(prefix)
        if found is not None and (digits_only or not prefix.isdigit()):
            return found
    return None


def parse(text: str, *, strict: bool = True) -> Nmi:
    """Take an NMI apart: ten characters, or eleven with the check digit last.

    Args:
        text: the NMI; spaces around it and lower case are mended.
        strict: raise on a wrong check digit; else return it with ``check == "wrong"``.

    Raises:
        DataError: not ten allowed characters, or an eleventh that is not the check digit.
    """
    given = text.strip()
    whole = given.upper() if given.isascii() else given
    nmi, eleventh = whole[:10], whole[10:]
    if len(eleventh) > 1 or not is_nmi(nmi):
        raise DataError(
            f"{text!r} is not an NMI.",
            hint="An NMI has 10 characters, digits and capital letters without I and O, and may "
            "be followed by its check digit.",
        )
    right = checksum(nmi)
    check = "not given"
    if eleventh:
        check = "verified" if eleventh == str(right) else "wrong"
    if check == "wrong" and strict:
        raise DataError(
            f"{whole} ends in {eleventh}, but the check digit of {nmi} is {right}.",
            hint="Any of the characters may be the wrong one: compare it with the source.",
        )
    return Nmi(
        nmi=nmi,
        check_digit=right,
        check=check,
        given=eleventh,
        network=allocation(nmi),
        transmission=not nmi.isdigit() and nmi[4] == "W",
        sample=_SAMPLE.fullmatch(nmi) is not None,
    )
