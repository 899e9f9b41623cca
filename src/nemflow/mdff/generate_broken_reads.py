"""One broken NEM13 register for each rule a 250 or 550 can break.

Why: kept as a table, so that adding a rule is adding a line.
Promise: everything but the one thing is right: each register has an NMI of its own, reads
that follow each other, a Quantity that follows from them.
Where next: ``generate_broken.py`` puts the records into a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nemflow.mdff.generate_broken_days import with_check_digit


@dataclass(frozen=True, slots=True)
class ReadStage:
    """Where a broken register stands: its NMI, the file's time and its 100 record."""

    nmi: str
    file_at: datetime
    header: str

    def at(self, days: int) -> str:
        """Give the time of a read some days from the file's, the hour not known."""
        return f"{self.file_at + timedelta(days=days):%Y%m%d}000001"

    def stamp(self, minutes: int = -150) -> str:
        """Give a time some minutes from the file's."""
        return f"{self.file_at + timedelta(minutes=minutes):%Y%m%d%H%M%S}"

    def r250(self, **changed: str) -> str:
        """Give a right 250 of the last quarter but for the fields named."""
        fields = {
            "nmi": self.nmi,
            "configuration": "11",
            "register": "1",
            "suffix": "11",
            "stream": "11",
            "serial": "EX0009999",
            "direction": "E",
            "before": "000300",
            "before_at": self.at(-93),
            "before_quality": "A",
            "before_code": "",
            "before_text": "",
            "now": "000400",
            "now_at": self.at(-2),
            "now_quality": "A",
            "now_code": "",
            "now_text": "",
            "quantity": "100",
            "uom": "kWh",
            "next_read": self.at(89)[:8],
            "update": self.stamp(),
            "msats": "",
        }
        return ",".join(["250", *(fields | changed).values()])

    def earlier(self, quarters: int, **changed: str) -> str:
        """Give a right 250 some quarters before, whose end is the next one's start."""
        start, read = -93 - 91 * quarters, 300 - 100 * quarters
        fields = {
            "before": f"{read:06d}",
            "before_at": self.at(start),
            "now": f"{read + 100:06d}",
            "now_at": self.at(start + 91),
            "next_read": self.at(start + 182)[:8],
        }
        return self.r250(**(fields | changed))

    def block(self) -> list[str]:
        """Give a right 250."""
        return [self.r250()]


#: Rule id -> the records that break it and nothing else. F010 is made at the file's start.
READ_BREAKERS: Final[Mapping[str, Callable[[ReadStage], list[str]]]] = {
    "F005": lambda s: [s.header, s.r250()],
    "F009": lambda s: [s.r250(), "Total,100,kWh"],
    "F010": lambda s: [],
    "F012": lambda s: [s.r250(now_quality="S62", now_code="0", now_text="Zähler defekt")],
    "F013": lambda s: ["", s.r250()],
    "F016": lambda s: [s.r250(nmi=f'"{s.nmi}"')],
    "F017": lambda s: [s.r250(serial=" EX0009999")],
    "N001": lambda s: [s.r250(nmi=f"NMI{s.nmi[3:]}")],
    "N003": lambda s: [s.r250(configuration="")],
    "N004": lambda s: [s.r250(configuration="E1", suffix="E1")],
    "N005": lambda s: [s.r250(uom="kW/h")],
    "N008": lambda s: [s.r250(register="", stream="", serial="")],
    "N011": lambda s: [s.r250(nmi=with_check_digit(s.nmi))],
    "N012": lambda s: [s.r250(nmi=with_check_digit(s.nmi, off_by=3))],
    "N013": lambda s: [s.r250(serial="EX-00001234567890")],
    "N014": lambda s: [s.r250(next_read="20250431")],
    "I006": lambda s: [s.r250(quantity="100.00000001")],
    "I008": lambda s: [s.r250(update=s.stamp() + "1")],
    "I011": lambda s: [s.r250(msats=s.stamp()[:10])],
    "I013": lambda s: [s.r250(update=s.stamp(60))],
    "I014": lambda s: [s.r250(quantity="1234567890123456")],
    "I016": lambda s: [s.r250(update="2.02503E+13")],
    "Q001": lambda s: [s.r250(now_quality="T")],
    "Q002": lambda s: [s.r250(now_quality="S99", now_code="13")],
    "Q003": lambda s: [s.r250(now_quality="S65", now_code="13")],
    "Q004": lambda s: [s.r250(now_quality="S62")],
    "Q005": lambda s: [s.r250(now_quality="F62", now_code="0")],
    "Q007": lambda s: [s.r250(now_quality="S62", now_code="57")],
    "B001": lambda s: [s.r250(), "550,N,,X,"],
    "B003": lambda s: [s.r250(), "550,N,,N"],
    "A001": lambda s: [s.r250().removesuffix(",")],
    "A002": lambda s: [s.r250(before_at=s.at(-2), now_at=s.at(-93))],
    "A003": lambda s: [s.r250(before_quality="E65", before_code="77")],
    "A004": lambda s: [s.r250(direction="I", now="000200", quantity="-100")],
    "A005": lambda s: [s.earlier(2), s.earlier(1), s.r250(quantity="7000")],
    "A006": lambda s: [s.r250(direction="B")],
    "A007": lambda s: [s.r250(now_quality="E65", now_code="77", now_at=s.stamp())],
    "A008": lambda s: [s.r250(before_at=s.at(-93)[:8])],
    "A009": lambda s: [s.earlier(1), s.r250(before="000310", quantity="90")],
    "A010": lambda s: [s.r250(), s.r250(now="000500", quantity="200")],
    "A011": lambda s: [s.r250(now="0004OO")],
}
