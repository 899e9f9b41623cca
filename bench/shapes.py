"""The files the bench reads: three shapes of NEM12, their multiples, a big zip, one huge stream.

Run as ``python shapes.py FOLDER [--quick]``; prints one JSON object, name -> facts. Standard
library only and independent of nemflow, so that what is measured never makes its own input and
the same bytes are read by every version of it and by the peers.

A   50 NMIs x 50 days x 5 minutes: a few customers, some weeks    (720,000 readings)
B   ten times A in NMIs                                          (7,200,000)
B10 ten times B in NMIs, for the memory of ``scan``              (72,000,000)
C   20,000 NMIs x 1 day x 30 minutes, a 200 each: a daily delivery (960,000)
"""

from __future__ import annotations

import json
import math
import random
import re
import sys
import zipfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

HEADER = "100,NEM12,202607010200,BENCHMDP,BENCHRET\r\n"
END = "900\r\n"
FIRST_DAY = date(2026, 3, 1)


class Site:
    """One meter's habits: mostly homes, some businesses, so values differ in length."""

    def __init__(self, dice: random.Random, minutes: int) -> None:
        steps = 1440 // minutes
        business = dice.random() < 0.2
        level = (dice.uniform(4, 60) if business else dice.uniform(0.2, 1.2)) * minutes / 60
        peak = dice.uniform(10, 15) if business else dice.uniform(17, 20)
        width = dice.uniform(3, 5) if business else dice.uniform(1, 3)
        self.dice = dice
        self.idle = 0.02 if business else 0.06  # share of intervals without any use
        self.curve = [
            level * (0.25 + math.exp(-(((step * minutes / 60 - peak) / width) ** 2)))
            for step in range(steps)
        ]

    def day(self) -> str:
        """The interval values of one day as the file spells them, three decimals each."""
        dice = self.dice.random
        idle = self.idle
        return ",".join(
            ["0.000" if dice() < idle else f"{v * (0.6 + 0.8 * dice()):.3f}" for v in self.curve]
        )


def nmi(number: int) -> str:
    """An invented NMI: the sample range first, and on from there in the same manner."""
    return f"SASMPL{number:04d}" if number < 10_000 else f"SASMP{number:05d}"


def details(number: int, minutes: int) -> str:
    """The 200 record of one stream."""
    return f"200,{nmi(number)},E1,1,E1,N1,{'EX%07d' % number},kWh,{minutes},\r\n"  # noqa: UP031


def interval_day(site: Site, day: date) -> str:
    """The 300 record of one day, quality A, stamped the next morning."""
    stamp = f"{day + timedelta(days=1):%Y%m%d}"
    return f"300,{day:%Y%m%d},{site.day()},A,,,{stamp}011500,{stamp}014500\r\n"


def records(nmis: range, days: int, minutes: int, seed: int) -> Iterator[str]:
    """The 200 and 300 records of many NMIs, one text per NMI."""
    dice = random.Random(seed)
    for number in nmis:
        site = Site(dice, minutes)
        rows = [interval_day(site, FIRST_DAY + timedelta(days=n)) for n in range(days)]
        yield details(number, minutes) + "".join(rows)


def write_file(path: Path, blocks: Iterator[str]) -> None:
    """One MDFF file: header, blocks, end."""
    with path.open("w", encoding="ascii", newline="") as out:
        out.write(HEADER)
        out.writelines(blocks)
        out.write(END)


def write_multiple(path: Path, source: Path, times: int, nmis: int) -> None:
    """A file ``times`` as large: the blocks of ``source`` again and again, under further NMIs."""
    body = source.read_bytes()[len(HEADER) : -len(END)]
    with path.open("wb") as out:
        out.write(HEADER.encode())
        for turn in range(times):
            shift = turn * nmis
            out.write(
                re.sub(rb"SASMPL(\d{4})", lambda m: nmi(int(m[1]) + shift).encode(), body)  # noqa: B023
            )
        out.write(END.encode())


def write_halves(source: Path, halves: list[Path]) -> None:
    """The same blocks in two files, the first half of the NMIs and the second."""
    body = source.read_bytes()[len(HEADER) : -len(END)]
    cut = body.index(f"200,{nmi(250)}".encode())
    for path, part in zip(halves, (body[:cut], body[cut:]), strict=True):
        path.write_bytes(HEADER.encode() + part + END.encode())


def write_zip(archive: Path, single: Path, members: int) -> None:
    """Many small files in one zip, three of them bad, and one file with the same good days."""
    blocks = list(records(range(members - 3), 1, 30, seed=4))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for number, block in enumerate(blocks):
            out.writestr(f"NEM12#{number:06d}#BENCHMDP#BENCHRET.csv", HEADER + block + END)
        out.writestr("bad/not-a-meter-file.csv", "date,kWh\r\n2026-03-01,1.5\r\n")
        out.writestr("bad/nem14.csv", HEADER.replace("NEM12", "NEM14") + blocks[0] + END)
        out.writestr("bad/binary.csv", bytes(range(256)) * 4)
    write_file(single, iter(blocks))


def write_one_stream(path: Path, rows: int) -> None:
    """One 200 and ``rows`` 300s: some 9,000 days, re-issued again and again under new stamps.

    A single stream has no million days since 1998, so what a sender could send is versions:
    each pass over the days carries a later UpdateDateTime.
    """
    days = 9_000
    last = date.today() - timedelta(days=2)  # noqa: DTZ011
    names = [f"{last - timedelta(days=days - 1 - n):%Y%m%d}" for n in range(days)]
    site = Site(random.Random(5), 30)
    values = [site.day() for _ in range(997)]
    with path.open("w", encoding="ascii", newline="") as out:
        out.write(f"100,NEM12,{last + timedelta(days=1):%Y%m%d}0800,BENCHMDP,BENCHRET\r\n")
        out.write(details(1, 30))
        for start in range(0, rows, days):
            turn = start // days
            stamp = f"{last:%Y%m%d}{turn // 60:02d}{turn % 60:02d}00"
            out.writelines(
                f"300,{names[n]},{values[(start + n) % 997]},A,,,{stamp},\r\n"
                for n in range(min(days, rows - start))
            )
        out.write(END)


def make(folder: Path, *, quick: bool) -> dict[str, dict[str, int | str]]:
    """Write every file and say what is in it: path, bytes, readings, days."""
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, dict[str, int | str]] = {}

    def note(name: str, path: Path, days: int, minutes: int) -> None:
        facts[name] = {
            "path": str(path),
            "bytes": path.stat().st_size,
            "days": days,
            "readings": days * 1440 // minutes,
        }

    paths = {name: folder / f"{name}.csv" for name in ("tiny", "A", "B", "B10", "C")}
    write_file(paths["tiny"], records(range(3), 2, 5, seed=0))
    note("tiny", paths["tiny"], 6, 5)
    write_file(paths["A"], records(range(50), 50, 5, seed=1))
    note("A", paths["A"], 2_500, 5)
    write_file(paths["B"], records(range(500), 50, 5, seed=2))
    note("B", paths["B"], 25_000, 5)
    write_multiple(paths["B10"], paths["B"], 10, 500)
    note("B10", paths["B10"], 250_000, 5)
    write_halves(paths["B"], [folder / "B-1.csv", folder / "B-2.csv"])
    write_file(paths["C"], records(range(20_000), 1, 30, seed=3))
    note("C", paths["C"], 20_000, 30)

    members = 1_000 if quick else 10_000
    write_zip(folder / "members.zip", folder / "same-days.csv", members)
    note("zip", folder / "members.zip", members - 3, 30)
    note("one file", folder / "same-days.csv", members - 3, 30)

    rows = 100_000 if quick else 1_000_000
    write_one_stream(folder / "stream.csv", rows)
    note("one stream", folder / "stream.csv", rows, 30)
    return facts


if __name__ == "__main__":
    print(json.dumps(make(Path(sys.argv[1]), quick="--quick" in sys.argv)))
