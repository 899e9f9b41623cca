"""One broken NEM12 day for each rule a 200, 300, 400 or 500 can break.

Why: kept as a table, so that adding a rule is adding a line.
Promise: everything but the one thing is right: each day has an NMI of its own, one data
stream (so no stream is missing), 48 plain values, good stamps.
Where next: ``generate_broken.py`` puts the records into a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

_VALUES: Final = tuple(f"0.{200 + slot * 7 % 97}".rstrip("0") for slot in range(48))


@dataclass(frozen=True, slots=True)
class DayStage:
    """Where a broken day stands: its NMI, the file's time and its 100 record."""

    nmi: str
    file_at: datetime
    header: str

    def date(self, back: int = 1) -> str:
        """Give a date some days before the file's."""
        return f"{self.file_at - timedelta(days=back):%Y%m%d}"

    def stamp(self, minutes: int = -150) -> str:
        """Give a time some minutes from the file's."""
        return f"{self.file_at + timedelta(minutes=minutes):%Y%m%d%H%M%S}"

    def r200(self, **changed: str) -> str:
        """Give a right 200 but for the fields named."""
        fields = {
            "nmi": self.nmi,
            "configuration": "E1",
            "register": "1",
            "suffix": "E1",
            "stream": "N1",
            "serial": "EX0009999",
            "uom": "kWh",
            "length": "30",
            "next_read": "",
        }
        return ",".join(["200", *(fields | changed).values()])

    def r300(self, values: Sequence[str] = _VALUES, **changed: str) -> str:
        """Give a right 300 but for the fields named."""
        fields = {"date": self.date(), "values": ",".join(values)}
        fields |= {"quality": "A", "code": "", "text": "", "update": self.stamp(), "msats": ""}
        return ",".join(["300", *(fields | changed).values()])

    def first(self, value: str) -> tuple[str, ...]:
        """Give the day's values with another first one."""
        return (value, *_VALUES[1:])

    def block(self) -> list[str]:
        """Give a right 200 and a right 300."""
        return [self.r200(), self.r300()]


def _pieces(stage: DayStage) -> list[str]:
    """Break a 300 after its date and after its 24th value, as D21 has it."""
    fields = stage.r300().split(",")
    return [",".join(fields[:2]) + ",", ",".join(fields[2:26]) + ",", ",".join(fields[26:])]


def with_check_digit(nmi: str, *, off_by: int = 0) -> str:
    """Give the NMI with its check digit, or with a wrong one."""
    from nemflow.mdff.nmi import checksum

    return f"{nmi}{(checksum(nmi) + off_by) % 10}"


#: Rule id -> the records that break it and nothing else.
DAY_BREAKERS: Final[Mapping[str, Callable[[DayStage], list[str]]]] = {
    "F005": lambda s: [s.header, *s.block()],
    "F009": lambda s: [*s.block(), "Total,9.6,kWh"],
    "F010": lambda s: [
        s.r200(),
        s.r300(quality="V"),
        f"500,N,,{s.stamp(-900)},001234.5",
        "400,1,30,A,,",
        "400,31,48,S14,76,",
    ],
    "F012": lambda s: [s.r200(), s.r300(quality="S14", code="0", text="Zähler defekt")],
    "F013": lambda s: [s.r200(), "", s.r300()],
    "F015": lambda s: [s.r200() + ",,,", s.r300()],
    "F016": lambda s: [s.r200(nmi=f'"{s.nmi}"'), s.r300()],
    "F017": lambda s: [s.r200(serial=" EX0009999"), s.r300()],
    "N001": lambda s: [s.r200(nmi=f"NMI{s.nmi[3:]}"), s.r300()],
    "N003": lambda s: [s.r200(configuration=""), s.r300()],
    "N004": lambda s: [s.r200(configuration="11", suffix="11"), s.r300()],
    "N005": lambda s: [s.r200(uom="kW/h"), s.r300()],
    "N006": lambda s: [s.r200(configuration="Q1", suffix="Q1"), s.r300()],
    "N007": lambda s: [s.r200(length="60"), s.r300(values=_VALUES[:24])],
    "N008": lambda s: [s.r200(register="", stream="", serial=""), s.r300()],
    "N009": lambda s: [s.r200(configuration="B1E1"), s.r300()],
    "N010": lambda s: [s.r200().removesuffix(","), s.r300()],
    "N011": lambda s: [s.r200(nmi=with_check_digit(s.nmi)), s.r300()],
    "N012": lambda s: [s.r200(nmi=with_check_digit(s.nmi, off_by=3)), s.r300()],
    "N013": lambda s: [s.r200(serial="EX-00001234567890"), s.r300()],
    "N014": lambda s: [s.r200(next_read="20250431"), s.r300()],
    "N015": lambda s: [s.r200()],
    "N016": lambda s: [s.r200(length="05"), s.r300(values=_VALUES * 6)],
    "I001": lambda s: [s.r200(), s.r300(values=_VALUES[:47])],
    "I002": lambda s: [s.r200(), s.r300(date="20250229")],
    "I003": lambda s: [s.r200(), s.r300(), s.r300(date=s.date(back=2))],
    "I004": lambda s: [s.r200(), s.r300(values=s.first(""))],
    "I005": lambda s: [s.r200(), s.r300(values=s.first("-0.227"))],
    "I006": lambda s: [s.r200(), s.r300(values=s.first("0.22700000000001"))],
    "I007": lambda s: [s.r200(), s.r300(values=s.first("999999.9"))],
    "I008": lambda s: [s.r200(), s.r300(update=s.stamp() + "1")],
    "I009": lambda s: [*s.block(), s.r300(values=s.first("0.999"))],
    "I010": lambda s: [s.r200(), s.r300().removesuffix(",")],
    "I011": lambda s: [s.r200(), s.r300(msats=s.stamp()[:10])],
    "I012": lambda s: [s.r200(), *_pieces(s)],
    "I013": lambda s: [s.r200(), s.r300(update=s.stamp(60))],
    "I014": lambda s: [s.r200(), s.r300(values=s.first("1234567890123456"))],
    "I015": lambda s: [s.r200(), s.r300(date=f"{s.file_at - timedelta(days=1):%Y-%m-%d}")],
    "I016": lambda s: [s.r200(), s.r300(update="2.02503E+13")],
    "Q001": lambda s: [s.r200(), s.r300(quality="T")],
    "Q002": lambda s: [s.r200(), s.r300(quality="S99", code="76")],
    "Q003": lambda s: [s.r200(), s.r300(quality="E14")],
    "Q004": lambda s: [s.r200(), s.r300(quality="S14")],
    "Q005": lambda s: [s.r200(), s.r300(quality="F14", code="0")],
    "Q006": lambda s: [
        s.r200(),
        s.r300(quality="V", code="76"),
        "400,1,30,A,,",
        "400,31,48,S14,76,",
    ],
    "Q007": lambda s: [s.r200(), s.r300(quality="S14", code="57")],
    "Q008": lambda s: [s.r200(), s.r300(quality="V"), "400,1,30,A,,", "400,33,48,S14,76,"],
    "Q009": lambda s: [s.r200(), s.r300(quality="V")],
    "Q010": lambda s: [s.r200(), s.r300(quality="V"), "400,1,30,A,,", "400,31,48,N,,"],
    "Q011": lambda s: [s.r200(), s.r300(code="79")],
    "Q012": lambda s: [s.r200(), s.r300(quality="V"), "400,1,30,A,,", "400,31,48,A"],
    "B001": lambda s: [*s.block(), f"500,X,,{s.stamp(-900)},001234.5"],
    "B002": lambda s: [*s.block(), f"500,N,,{s.date()} 1020,001234.5"],
    "B003": lambda s: [*s.block(), "500,N,"],
}
