"""Pictures for a terminal: the average day as a curve, the calendar as a heat map.

Why: whether a meter is a house with solar or a shop with a fridge is seen at one glance.

Promises: at most as wide as asked (80 columns by default); never colour alone: height and shade
carry the meaning, so they read the same in black and white; missing is drawn as missing, not as
zero; plain ASCII where the terminal cannot show more.

Look next: ``show.py`` and ``readings.py`` collect the numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Final

from rich.text import Text

WIDTH: Final = 80
#: Columns for weeks beside the names of the weekdays.
_MOST_WEEKS: Final = WIDTH - 6
_SHADES: Final = "░▒▓█"
_ASCII_SHADES: Final = ".:*#"
_GREENS: Final = ("#9be9a8", "#40c463", "#30a14e", "#216e39")
_WEEKDAYS: Final = ("Mon", "", "Wed", "", "Fri", "", "Sun")
_MONTHS: Final = [
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
]


def profile(
    values: Sequence[float | None], *, title: str, unit: str, width: int = WIDTH, height: int = 13
) -> Text:
    """The day from 00 to 24 h as a filled curve.

    Args:
        values: one mean per interval of the day, from midnight, in ``unit`` per interval; None
            where there is none.
        title: what is drawn.
        unit: of the scale, e.g. ``kWh per 30 min``.
        width: columns to use.
        height: lines to use, scale included.
    """
    import plotext

    heights = [float(value) for value in values if value is not None]
    figure = plotext.figure
    figure.clear()
    plotext.terminal.limit(False, False)
    figure.plot_size(width - 2, height)
    for hours, run in _runs(values):
        curve = figure.signal(hours, run, marker="hd" if _unicode() else "*").lines()
        figure.draw(curve.fillx())
    figure.axes(False, axis="x", side="upper")
    figure.axes(False, axis="y", side="right")
    top = max(heights, default=0.0) or 1.0
    low = min(0.0, min(heights, default=0.0))
    figure.ruler("y").lim(low, top).alignment(lim="edge")
    figure.ruler("x").lim(0, 24)
    marks = list(range(0, 25, 3))
    figure.ruler("x").ticks(marks, [f"{hour:02d}" for hour in marks])
    drawn: str = figure.build().string(colorless=True)
    picture = Text(f"{title} ({unit})\n", style="bold")
    picture.append(drawn.rstrip("\n") if _unicode() else _ascii_frame(drawn.rstrip("\n")), "cyan")
    return picture


def calendar(days: Mapping[date, float | None], *, title: str, unit: str) -> Text:
    """Every day as a block, weeks as columns, one band per year; darker is more.

    The four shades hold a quarter of the days each, so that one odd day does not wash out the
    others; the legend says up to which total each shade goes.

    Args:
        days: day -> total, in ``unit``; None: the day is there but has no total.
        title: what is drawn.
        unit: of the totals, e.g. ``kWh per day``.
    """
    steps = _quarters([float(total) for total in days.values() if total is not None])
    picture = Text(f"{title} ({unit})\n", style="bold")
    bands = list(_bands(min(days), max(days)))
    cell = 2 if all(_weeks(*band) * 2 <= _MOST_WEEKS for band in bands) else 1
    for first, last in bands:
        _band(picture, days, (first, last), steps, cell)
    _legend(picture, steps, any(total is None for total in days.values()))
    return picture


def _runs(values: Sequence[float | None]) -> Iterator[tuple[list[float], list[float]]]:
    """Stretches without a gap, as steps: hours from midnight and values, both ends of each."""
    step = 24 / max(len(values), 1)
    hours: list[float] = []
    run: list[float] = []
    for number, value in enumerate([*values, None]):
        if value is not None:
            hours += [number * step, (number + 1) * step]
            run += [float(value)] * 2
        elif run:
            yield hours, run
            hours, run = [], []


def _bands(first: date, last: date) -> Iterator[tuple[date, date]]:
    """The span cut at new year, so that each band fits 80 columns."""
    while first <= last:
        end = min(last, date(first.year, 12, 31))
        yield first, end
        first = end + timedelta(days=1)


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _weeks(first: date, last: date) -> int:
    """How many calendar weeks the span touches."""
    return (last - _monday(first)).days // 7 + 1


def _band(
    picture: Text,
    days: Mapping[date, float | None],
    span: tuple[date, date],
    steps: Sequence[float],
    cell: int,
) -> None:
    """One year (or less): a line of month names and seven lines of weekdays."""
    first, last = span
    picture.append(f"{first.year}  {_month_line(first, last, cell)}\n", "dim")
    for weekday in range(7):
        picture.append(f"{_WEEKDAYS[weekday]:<6}", "dim")
        for week in range(_weeks(first, last)):
            day = _monday(first) + timedelta(days=7 * week + weekday)
            if not first <= day <= last:
                picture.append(" " * cell)
            elif day not in days:
                picture.append(("·" if _unicode() else "-").ljust(cell), "dim")
            else:
                picture.append(*_shade(days[day], steps, cell))
        picture.append("\n")


def _month_line(first: date, last: date, cell: int) -> str:
    """Month names above the week in which each month begins, where there is room."""
    line = ""
    months = [first, *(date(first.year, m, 1) for m in range(first.month + 1, last.month + 1))]
    for begin in months:
        column = (_weeks(first, begin) - 1) * cell
        late = len(line) - column  # a month may be named up to two weeks late
        if late <= 2 * cell and max(len(line), column) + 3 <= _MOST_WEEKS:
            line = line.ljust(column) + _MONTHS[begin.month - 1] + " "
    return line.rstrip()


def _quarters(totals: list[float]) -> list[float]:
    """The totals up to which each shade goes; fewer than four when there are few totals."""
    ranked = sorted(totals)
    if not ranked:
        return []
    bounds = [ranked[min(len(ranked) * n // 4, len(ranked) - 1)] for n in (1, 2, 3)]
    return sorted({*bounds, ranked[-1]})


def _shades(steps: Sequence[float]) -> list[tuple[str, str]]:
    """Character and colour of each step, the last one always the darkest."""
    shades = _SHADES if _unicode() else _ASCII_SHADES
    return list(zip(shades, _GREENS, strict=True))[4 - len(steps) :]


def _shade(total: float | None, steps: Sequence[float], cell: int) -> tuple[str, str]:
    """The block and the colour of one day."""
    if total is None:
        return "?".ljust(cell), "dim"
    level = next(number for number, step in enumerate(steps) if total <= step)
    shade, colour = _shades(steps)[level]
    return shade * cell, colour


def _legend(picture: Text, steps: Sequence[float], some_empty: bool) -> None:
    """What the shades mean."""
    picture.append("      ")
    if steps:
        picture.append("up to  ", "dim")
    for step, (shade, colour) in zip(steps, _shades(steps), strict=True):
        picture.append(shade * 2, colour)
        picture.append(f" {step:,.4g}  ")
    picture.append("·" if _unicode() else "-", "dim")
    picture.append(" no data")
    if some_empty:
        picture.append("  ? without values")


def _unicode() -> bool:
    """Whether stdout can show block characters."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    return encoding.replace("-", "").startswith("utf")


def _ascii_frame(drawn: str) -> str:
    """The chart's frame in ASCII."""
    return drawn.translate(str.maketrans("┤│└┬─┼", "||++-+"))
