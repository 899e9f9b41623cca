"""What is sent: a plan of parcels by seed, and the bytes of each.

Why: the right outcome must be known without remembering every reading that was sent.

Promises: the same mix gives the same plan and the same bytes on every machine; each text can be
made again alone, from its line (a group of NMIs and a span of days) and its version. All versions
of a line hold the same NMI-days, a later version has newer stamps, so whatever arrives last the
newest version that was loaded is the right answer. NMIs come from the sample range, the seed says
from where in it.

Look next: ``judging.py``, which makes the texts again to compare; :mod:`nemflow.mdff.generate`.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import Any, Final

from nemflow.errors import UsageError
from nemflow.mdff.generate import generate, generate_message
from nemflow.mdff.generate_broken import broken

#: Rules that keep one record out: the rest of the file is loaded.
PARTLY: Final = ("I001", "I002", "I004", "I012", "Q001", "Q008", "Q009", "N004")
#: Rules that keep the whole file out.
REFUSED: Final = ("F001", "F003")
_SIGNS: Final = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_NMIS: Final = len(_SIGNS) ** 4
_START: Final = date(2021, 1, 1)
_MOST_DAYS: Final = 1500  # of one line of business: no day lies in the future
_RECENT: Final = 200  # parcels that are sent again, and lines that are corrected, are recent ones
_CORRECTED: Final = 0.4  # of a correction's days; the others are sent again as they were
_MEMBERS: Final = (2, 4)
_LAST_VERSION: Final = 3
_SHARES: Final = ("corrections", "broken", "duplicates", "zipped", "asexml")


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What the traffic is made of.

    Attributes:
        files: how many parcels are sent.
        nmis: NMIs of each text.
        days: days of each text.
        intervals: minutes, 5, 15 or 30, taken in turn.
        streams: data streams of each NMI.
        corrections: share of texts that are a later version of an earlier one.
        broken: share of texts with a mistake: most keep a record out, some the whole file.
        duplicates: share of parcels that are sent again byte for byte.
        zipped: share of parcels that are a zip of two to four texts.
        asexml: share of parcels that are an aseXML message.
        seed: another seed, other NMIs, values and order.
    """

    files: int = 20
    nmis: int = 50
    days: int = 50
    intervals: tuple[int, ...] = (5, 15, 30)
    streams: tuple[str, ...] = ("E1",)
    corrections: float = 0.1
    broken: float = 0.02
    duplicates: float = 0.05
    zipped: float = 0.0
    asexml: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.files, self.nmis, self.days) < 1:
            raise UsageError("Files, NMIs and days are at least one each.")
        if self.days > _MOST_DAYS:
            raise UsageError(f"A file holds at most {_MOST_DAYS} days.", hint="Give fewer --days.")
        if not self.intervals or not set(self.intervals) <= {5, 15, 30}:
            raise UsageError("An interval is 5, 15 or 30 minutes long.", hint="--interval 5,15,30")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name}: a share lies between 0 % and 100 %.")
        if self.zipped + self.asexml > 1:
            raise UsageError("Zips and messages together are at most 100 %.")
        if self.groups * len(self.intervals) * self.nmis > _NMIS:
            raise UsageError(
                f"So many files need more than the {_NMIS:,} sample NMIs.",
                hint="Give fewer files, or fewer NMIs for each.",
            )

    @cached_property
    def groups(self) -> int:
        """How many groups of NMIs each interval has; their days follow each other."""
        texts = self.files * (1 + self.zipped * (_MEMBERS[1] - 1))
        per_interval = math.ceil(texts / len(self.intervals))
        most = max(1, _MOST_DAYS // self.days)
        return max(math.isqrt(per_interval), math.ceil(per_interval / most), 1)

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a record of the run."""
        names = (*_SHARES, "files", "nmis", "days", "seed")
        plain = {name: getattr(self, name) for name in names}
        return plain | {"intervals": list(self.intervals), "streams": list(self.streams)}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Mix:
        """The other way round. Raises UsageError."""
        try:
            lists = {name: tuple(told[name]) for name in ("intervals", "streams")}
            return cls(**told | lists)
        except (KeyError, TypeError) as error:
            raise UsageError("This is no record of a simulation.") from error


@dataclass(frozen=True, slots=True)
class Text:
    """One NEM12 text: a version of a line, perhaps with a mistake."""

    line: int
    version: int = 0
    rule: str = ""  #: the rule it breaks

    @property
    def name(self) -> str:
        """Its name as a member of a zip; of the text alone, so that equal zips are equal bytes."""
        return f"line-{self.line}-{self.version}.csv"

    @property
    def state(self) -> str:
        """What becomes of it when it is the first with these bytes."""
        if not self.rule:
            return "loaded"
        return "rejected" if self.rule in REFUSED else "partly_loaded"


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent at once."""

    number: int
    name: str  #: no two have the same
    wrapping: str  #: plain, zip or xml
    texts: tuple[Text, ...]
    again: int | None = None  #: number of the parcel that this one repeats


@dataclass(frozen=True, slots=True)
class Line:
    """The NMI-days that all versions of a line hold."""

    nmis: tuple[str, ...]
    first_day: date
    days: int
    interval: int

    @property
    def last_day(self) -> date:
        """Included."""
        return self.first_day + timedelta(days=self.days - 1)


@dataclass
class Traffic:
    """The plan of a mix; makes the bytes of each parcel."""

    mix: Mix
    parcels: list[Parcel] = field(init=False)

    def __post_init__(self) -> None:
        self.parcels = _planned(self.mix)

    def line(self, number: int) -> Line:
        """The NMI-days of a line."""
        mix = self.mix
        turn, place = number % len(mix.intervals), number // len(mix.intervals)
        group, window = place % mix.groups, place // mix.groups
        first = self._first_nmi + (turn * mix.groups + group) * mix.nmis
        return Line(
            tuple(_nmi((first + nth) % _NMIS) for nth in range(mix.nmis)),
            _START + timedelta(days=window * mix.days),
            mix.days,
            mix.intervals[turn],
        )

    @cached_property
    def _first_nmi(self) -> int:
        told = hashlib.sha256(f"nmis of {self.mix.seed}".encode()).digest()
        return int.from_bytes(told[:8], "big") % _NMIS

    def text(self, text: Text) -> bytes:
        """The bytes of one text: NEM12, CRLF."""
        line = self.line(text.line)
        seed = self.mix.seed * 1_000_003 + text.line
        made = generate(
            nmis=line.nmis,
            days=line.days,
            start=line.first_day,
            interval=line.interval,
            streams=self.mix.streams,
            seed=seed,
            estimated=0.03,
            substituted=0.02,
        )
        for version in range(1, text.version + 1):
            made = generate(corrections_of=made, corrected=_CORRECTED, seed=seed + version)
        if text.rule:
            # on the later version: a line's good days are the same with and without the mistake
            made = broken(made, (text.rule,))
        return made

    def body(self, parcel: Parcel) -> bytes:
        """What is sent: a text, a zip of texts or a message."""
        texts = [self.text(each) for each in parcel.texts]
        if parcel.wrapping == "zip":
            return _zipped(parcel, texts)
        if parcel.wrapping == "xml":
            return generate_message(texts)
        return texts[0]


def _planned(mix: Mix) -> list[Parcel]:
    """Draw the parcels, in the order in which they are sent."""
    dice = random.Random(f"parcels of {mix.seed}")  # noqa: S311  not for secrets
    parcels: list[Parcel] = []
    newest: list[int] = []  # the newest version of each line
    firsts: list[int] = []  # parcels that may be sent again
    for number in range(mix.files):
        stem = f"sim-{mix.seed}-{number:06d}"
        if firsts and dice.random() < mix.duplicates:
            earlier = parcels[dice.choice(firsts[-_RECENT:])]
            name = stem + _ENDINGS[earlier.wrapping]
            again = earlier.number
            parcels.append(Parcel(number, name, earlier.wrapping, earlier.texts, again))
            continue
        draw = dice.random()
        wrapping = "plain"
        if draw < mix.zipped + mix.asexml:
            wrapping = "zip" if draw < mix.zipped else "xml"
        count = dice.randint(*_MEMBERS) if wrapping == "zip" else 1
        rules = PARTLY if wrapping == "xml" else PARTLY + REFUSED
        texts = tuple(_drawn(dice, mix, newest, rules) for _ in range(count))
        parcels.append(Parcel(number, stem + _ENDINGS[wrapping], wrapping, texts))
        if all(text.state == "loaded" for text in texts):
            firsts.append(number)
    return parcels


_ENDINGS: Final = {"plain": ".csv", "zip": ".zip", "xml": ".xml"}


def _drawn(dice: random.Random, mix: Mix, newest: list[int], rules: Sequence[str]) -> Text:
    """The next text: a correction of a recent line, or a new line; perhaps with a mistake."""
    rule = dice.choice(rules) if dice.random() < mix.broken else ""
    if newest and dice.random() < mix.corrections:
        line = dice.randrange(max(0, len(newest) - _RECENT), len(newest))
        if newest[line] < _LAST_VERSION:
            newest[line] += 1
            return Text(line, newest[line], rule)
    newest.append(0)
    return Text(len(newest) - 1, 0, rule)


def _zipped(parcel: Parcel, texts: Sequence[bytes]) -> bytes:
    """The texts as a zip; equal texts give equal bytes."""
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for member, text in zip(parcel.texts, texts, strict=True):
            file.writestr(zipfile.ZipInfo(member.name, (2025, 1, 1, 0, 0, 0)), text)
    return box.getvalue()


def _nmi(number: int) -> str:
    """The sample NMI with this number."""
    tail = ""
    for _ in range(4):
        number, sign = divmod(number, len(_SIGNS))
        tail = _SIGNS[sign] + tail
    return f"SASMPL{tail}"
