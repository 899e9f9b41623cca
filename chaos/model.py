"""The model: files as plain data, and who wins by one ``max`` over a dictionary.

Why: the store is compared with something a person can check by reading it once.

Promises: ``text`` writes NEM12 that nemflow reads without help; the model never asks the store,
and takes from nemflow only the hash of a content, which it cannot guess.

Look next: ``verdict.py`` compares a store with it.
"""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from nemflow.mdff.reader import Parser, Text

Key = tuple[str, date]  #: an NMI-day; all of it is suffix E1
MINUTES = (5, 15, 30)
VALUES = ("0.125", "1", "2.5", "37.25")
#: Every content a day can have: one value in all intervals of one length.
CONTENTS = tuple((value, minutes) for value in VALUES for minutes in MINUTES)
BROKEN = -1  #: the content of a day that no profile takes in: one interval has no value
SUFFIX = "E1"


@dataclass(frozen=True, slots=True)
class SentDay:
    """What a file says of one NMI-day."""

    nmi: str
    day: date
    stamp: str  #: UpdateDateTime, 14 digits, or nothing
    content: int  #: place in CONTENTS, or BROKEN


@dataclass(frozen=True, slots=True)
class SentFile:
    """One NEM12 text."""

    number: int  #: keeps equal files apart, as the sender's name
    file_at: str  #: DateTime of the 100, 12 digits
    days: tuple[SentDay, ...]

    @property
    def name(self) -> str:
        """Its file name."""
        return f"{self.number:05}.csv"

    @property
    def good(self) -> int:
        """How many of its days are taken in."""
        return sum(day.content != BROKEN for day in self.days)

    def text(self) -> bytes:
        """The file's bytes."""
        lines = [f"100,NEM12,{self.file_at},M{self.number},RETAILER"]
        for day in self.days:
            value, minutes = CONTENTS[max(day.content, 0)]
            values = [value] * (1440 // minutes)
            if day.content == BROKEN:
                values[7] = "none"
            lines.append(f"200,{day.nmi},{SUFFIX},1,{SUFFIX},N1,METER1,kWh,{minutes},")
            lines.append(f"300,{day.day:%Y%m%d},{','.join(values)},A,,,{day.stamp},")
        return "".join(f"{line}\r\n" for line in [*lines, "900"]).encode()


@functools.cache
def hashes() -> tuple[str, ...]:
    """The content hash of each of CONTENTS, as nemflow computes it."""
    one = date(2025, 1, 1)
    files = [
        SentFile(n, "202501020000", (SentDay(nmi(0), one, "", n),)) for n in range(len(CONTENTS))
    ]
    found = Parser().feed([Text(str(file.number), file.text()) for file in files]).days
    return tuple(found.sort(found["source"].cast(int))["content_hash"])


def nmi(number: int) -> str:
    """An NMI of the sample range."""
    return f"SASMPL{number:04}"


def winners(files: Iterable[SentFile]) -> dict[Key, tuple[str, int]]:
    """Who wins each day: the greatest (version_at, file_at, content_hash). Value and length."""
    best: dict[Key, tuple[tuple[str, str, str], int]] = {}
    for file in files:
        file_at = file.file_at + "00"
        for day in file.days:
            if day.content == BROKEN:
                continue
            rank = (day.stamp or file_at, file_at, hashes()[day.content])
            key = (day.nmi, day.day)
            if key not in best or rank > best[key][0]:
                best[key] = rank, day.content
    return {key: CONTENTS[content] for key, (_, content) in best.items()}


def state_of(file: SentFile) -> str:
    """The one state a file must end in."""
    if file.good == len(file.days):
        return "loaded"
    return "partly_loaded" if file.good else "rejected"


# -- files by seed ------------------------------------------------------------------------------


def new_seed() -> int:
    """A seed for a run: the one ``NEMFLOW_TEST_SEED`` says, to repeat one, else a new one."""
    return int(os.environ.get("NEMFLOW_TEST_SEED") or random.SystemRandom().randrange(10**6))


_FIRST = date(2025, 1, 20)


def sent_files(
    rng: random.Random,
    count: int,
    *,
    nmis: int = 30,
    days: int = 10,
    per_file: tuple[int, int] = (5, 40),
    first: int = 0,
) -> list[SentFile]:
    """Originals and corrections of the same ``nmis`` times ``days`` NMI-days.

    The days of a file come in rising, falling or random order; lengths, stamps and contents are
    mixed, so that files repeat each other, overtake each other, and contradict each other under
    one stamp.
    """
    every = [(nmi(n), _FIRST + timedelta(days=d)) for n in range(nmis) for d in range(days)]
    files = []
    for number in range(first, first + count):
        size = min(rng.randint(*per_file), len(every))
        picked = sorted(rng.sample(every, size))
        order = rng.randrange(3)
        if order == 1:
            picked.reverse()
        elif order == 2:
            rng.shuffle(picked)
        generation = rng.randrange(6)
        file_at = f"202503{rng.randint(1, 28):02}{rng.randrange(24):02}00"
        files.append(
            SentFile(
                number,
                file_at,
                tuple(_sent_day(rng, name, day, generation) for name, day in picked),
            )
        )
    return files


def _sent_day(rng: random.Random, name: str, day: date, generation: int) -> SentDay:
    if rng.random() < 0.01:
        return SentDay(name, day, "", BROKEN)
    # few stamps for many versions: equal stamps and equal contents meet often
    stamp = "" if rng.random() < 0.15 else f"202502{10 + generation:02}0{rng.randrange(3)}0000"
    return SentDay(name, day, stamp, rng.randrange(len(CONTENTS)))


def pairs(rounds: int, versions: int) -> list[list[SentFile]]:
    """For each round an NMI-day of its own: an original and its corrections, oldest first."""
    found = []
    for number in range(rounds):
        day = _FIRST + timedelta(days=number % 50)
        name = nmi(number // 50)
        found.append(
            [
                SentFile(
                    number * 10 + version,
                    f"2025040{1 + version}0000",
                    (
                        SentDay(
                            name,
                            day,
                            f"2025030{1 + version}000000",
                            (number + version) % len(CONTENTS),
                        ),
                    ),
                )
                for version in range(versions)
            ]
        )
    return found


def shuffled(rng: random.Random, files: Sequence[SentFile]) -> list[SentFile]:
    """The same files in another order."""
    return rng.sample(list(files), len(files))
