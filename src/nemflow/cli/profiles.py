"""What is in a file, added up chunk by chunk: streams, totals, the average day, the calendar.

Why: ``show`` looks at files of any size, so it adds up while it reads and keeps only the sums;
``readings --chart`` draws the same pictures from the store.

Promises: totals are exact sums of decimals; only energy units are summed, everything else is
averaged; memory grows with the number of streams, not with the number of days, except the
calendars of the few streams that are drawn.

Look next: ``charts.py`` draws, ``show.py`` prints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl

from nemflow.cli import charts
from nemflow.cli.output import Output

if TYPE_CHECKING:
    from nemflow.mdff.meterdata import MeterData

Key = tuple[str, str]


@dataclass
class Stream:
    """One NMI and suffix, added up."""

    nmi: str
    suffix: str
    uom: str = ""
    days: int = 0
    rejected: int = 0
    first: date | None = None
    last: date | None = None
    minutes: set[int] = field(default_factory=set)
    intervals: int = 0
    missing: int = 0
    total: Decimal = Decimal(0)
    quality: Counter[str] = field(default_factory=Counter)

    @property
    def is_energy(self) -> bool:
        """Whether its values may be summed."""
        return sums(self.uom)

    @property
    def mean(self) -> Decimal | None:
        """The mean of what is there."""
        there = self.intervals - self.missing
        return self.total / there if there else None


class Survey:
    """Every stream of what was read so far, and the pictures of a few of them."""

    def __init__(self, *, drawn: int, nmi: str | None = None, suffix: str | None = None) -> None:
        """``drawn``: how many streams get pictures; ``nmi`` and ``suffix`` choose them."""
        self.streams: dict[Key, Stream] = {}
        self.pictures: dict[Key, Picture] = {}
        self._drawn = drawn
        self._nmi = nmi
        self._suffix = suffix

    def add(self, data: MeterData) -> None:
        """Add a chunk."""
        if data.frame_days.is_empty():
            return
        rejected = pl.col("rejected_by").list.len() > 0
        by_stream = data.frame_days.group_by("nmi", "suffix", maintain_order=True).agg(
            pl.len().alias("days"),
            rejected.sum().alias("rejected"),
            pl.col("day").min().alias("first"),
            pl.col("day").max().alias("last"),
            pl.col("interval_minutes").unique(),
            pl.col("uom").first(),
        )
        for row in by_stream.iter_rows(named=True):
            stream = self._stream(row)
            stream.days += row["days"]
            stream.rejected += row["rejected"]
            stream.first = min(filter(None, (stream.first, row["first"])))
            stream.last = max(filter(None, (stream.last, row["last"])))
            stream.minutes |= set(row["interval_minutes"])
        for row in data.twins.group_by("nmi", "suffix").len().iter_rows(named=True):
            self._stream(row).rejected += row["len"]
        readings = data.readings(exact=True)
        by_quality = readings.group_by("nmi", "suffix", "quality").agg(
            pl.len().alias("intervals"),
            pl.col("value").null_count().alias("missing"),
            pl.col("value").sum().alias("total"),
        )
        for row in by_quality.iter_rows(named=True):
            stream = self._stream(row)
            stream.intervals += row["intervals"]
            stream.missing += row["missing"]
            stream.total += row["total"] or 0
            stream.quality[row["quality"] or "?"] += row["intervals"]
        self._picture(readings)

    def _stream(self, row: Mapping[str, Any]) -> Stream:
        """The stream of a row, new or known."""
        key = (row["nmi"] or "?", row["suffix"] or "?")
        if key not in self.streams:
            self.streams[key] = Stream(*key)
        stream = self.streams[key]
        stream.uom = stream.uom or row.get("uom") or ""
        return stream

    def _picture(self, readings: pl.DataFrame) -> None:
        """Add to the pictures of the streams that are drawn."""
        for key in self.streams:
            chosen = self._nmi in (None, key[0]) and self._suffix in (None, key[1])
            if chosen and key not in self.pictures and len(self.pictures) < self._drawn:
                self.pictures[key] = Picture(self.streams[key].uom)
        for (nmi, suffix), picture in self.pictures.items():
            picture.add(readings.filter(pl.col("nmi") == nmi, pl.col("suffix") == suffix))


class Picture:
    """The average day and the days of one stream."""

    def __init__(self, uom: str) -> None:
        self.uom = uom
        self._slots: dict[int, dict[int, tuple[float, int]]] = {}
        self._days: dict[date, tuple[float, int] | None] = {}

    def add(self, readings: pl.DataFrame) -> None:
        """Add readings: interval_start, interval_end, value."""
        if readings.is_empty():
            return
        start = pl.col("interval_start")
        frame = readings.select(
            start.dt.date().alias("day"),
            (start.dt.hour().cast(pl.Int32) * 60 + start.dt.minute()).alias("minute"),
            (pl.col("interval_end") - start).dt.total_minutes().alias("length"),
            pl.col("value").cast(pl.Float64),
        )
        added = (pl.col("value").sum().alias("sum"), pl.col("value").count().alias("n"))
        for length, minute, total, n in frame.group_by("length", "minute").agg(added).iter_rows():
            before = self._slots.setdefault(length, {}).get(minute, (0.0, 0))
            self._slots[length][minute] = (before[0] + total, before[1] + n)
        for day, total, n in frame.group_by("day").agg(added).iter_rows():
            before = self._days.get(day) or (0.0, 0)
            self._days[day] = (before[0] + total, before[1] + n)

    def average_day(self) -> tuple[int, list[float | None]]:
        """The commonest interval length and the mean of each interval from midnight on."""
        length = max(self._slots, key=lambda each: sum(n for _, n in self._slots[each].values()))
        slots = self._slots[length]
        pairs = (slots.get(minute, (0.0, 0)) for minute in range(0, 24 * 60, length))
        return length, [total / n if n else None for total, n in pairs]

    def calendar(self) -> dict[date, float | None]:
        """Each day's sum (energy) or mean (all else)."""
        days: dict[date, float | None] = {}
        for day, pair in self._days.items():
            total, n = pair or (0.0, 0)
            days[day] = None if n == 0 else total if sums(self.uom) else total / n
        return days

    def draw(self, out: Output, name: str) -> None:
        """Print both charts."""
        if not self._days:
            return
        length, values = self.average_day()
        if any(value is not None for value in values):
            unit = f"{self.uom} per {length} min" if sums(self.uom) else self.uom
            days = list(self._days)
            title = f"{name}: {days[0] if len(days) == 1 else 'the average day'}"
            out.draw(charts.profile(values, title=title, unit=unit))
            out.say()
        if len(self._days) > 1:
            unit = f"{self.uom} per day" if sums(self.uom) else f"{self.uom}, mean of the day"
            out.draw(charts.calendar(self.calendar(), title=f"{name}: day by day", unit=unit))
        out.say()


def draw_readings(out: Output, readings: pl.DataFrame) -> None:
    """Both charts for each stream of readings from the store."""
    if readings.is_empty():
        out.say("No readings in this span.")
        return
    for (nmi, suffix), rows in readings.group_by("nmi", "suffix", maintain_order=True):
        picture = Picture(rows["uom"][0] or "")
        picture.add(rows)
        picture.draw(out, f"{nmi} {suffix}")


def sums(uom: str) -> bool:
    """Whether values of this unit are energy, which alone may be summed."""
    return uom.lower().endswith("h")
