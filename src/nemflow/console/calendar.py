"""The year of a stream as twelve small calendars, or as a table.

Why: a gap, a run of estimates or a meter that stopped is seen in a year's picture in a second, and
in a table of 365 rows not at all.

Promises: energy is said by the depth of a cell and by the length of the line below its day,
quality by a letter and a pattern; every cell says all of it in words; a day that is not there is
shown as a gap, never as zero.

Look next: ``nmi.py``, which asks; ``static/pages.css``.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from nemflow.cli import wording
from nemflow.console import parts, placetime
from nemflow.console.parts import Html

#: What a cell may tell first.
LAYERS: Final = {"energy": "Energy", "quality": "Quality"}
_DEPTHS: Final = 5
_DAYS: Final = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")


def amount(row: Mapping[str, Any]) -> str:
    """A day's total or mean with its unit; ``no value`` when there is none."""
    if row["value"] is None:
        return "no value"
    value = f"{wording.decimal(row['value'])} {row['uom']}"
    return value if row["how"] == "sum" else f"{value} on average"


def flaws(row: Mapping[str, Any]) -> str:
    """What is not actual about a day, in words."""
    said = [wording.QUALITY_WORDS.get(row["quality"], row["quality"])]
    if row["missing"]:
        said.append(f"{row['missing']} of {row['intervals']} intervals missing")
    for name, word in (("estimated_share", "estimated"), ("substituted_share", "substituted")):
        if 0 < row[name] < 1:
            said.append(f"{wording.share(row[name])} {word}")
    return ", ".join(said)


@dataclass(frozen=True, slots=True)
class Year:
    """What a calendar shows."""

    rows: Sequence[Mapping[str, Any]]  #: days of one stream as rolled up, with ``day``
    year: int
    layer: str  #: of ``LAYERS``
    zone: str | None  #: of the days; None: market time
    selected: date  #: the day that is shown below
    address: Callable[[date], str]  #: where a day's cell leads to
    span: tuple[date, date] | None  #: the days of the year between the stream's first and last


def picture(shown: Year) -> Html:
    """Twelve calendars."""
    known = {row["day"]: row for row in shown.rows}
    if not known or shown.span is None:
        return parts.nothing(f"No intervals in {shown.year}.", "Choose another year above.")
    values = [abs(row["value"]) for row in shown.rows if row["value"] is not None]
    most = max(values, default=Decimal(0))
    first_day, last_day = shown.span
    stop = shown.selected if shown.selected in known else min(known)
    months = ""
    for month in range(1, 13):
        first = date(shown.year, month, 1)
        days = [first + timedelta(n) for n in range(calendar.monthrange(shown.year, month)[1])]
        cells = "<i></i>" * first.weekday()
        for day in days:
            if first_day <= day <= last_day:
                cells += _cell(shown, day, known.get(day), most, is_stop=day == stop)
            else:
                cells += f'<span class="day out">{day.day}</span>'
        heads = "".join(f"<b>{name}</b>" for name in _DAYS)
        there = [known[day] for day in days if day in known]
        months += (
            f'<section class="month" aria-label="{first:%B %Y}"><h3>{first:%b} '
            f'<span class="muted">{_sum(there)}</span></h3>'
            f'<div class="week" aria-hidden="true">{heads}</div><div class="week">{cells}</div>'
            "</section>"
        )
    key = _legend(shown.layer, most, shown.rows)
    return Html(f'<div class="year {shown.layer}" data-roam>{months}</div>{key}')


def _sum(rows: Sequence[Mapping[str, Any]]) -> str:
    values = [row["value"] for row in rows if row["value"] is not None]
    if not values:
        return ""
    if rows[0]["how"] != "sum":
        return f"{wording.decimal(round(sum(values) / len(values), 1))} {rows[0]['uom']}"
    return f"{sum(values):,.0f} {rows[0]['uom']}"


def _cell(
    shown: Year, day: date, row: Mapping[str, Any] | None, most: Decimal, *, is_stop: bool
) -> str:
    """A day; ``row`` None: nothing was delivered. ``is_stop``: the Tab key leads here."""
    energy = shown.layer == "energy"
    share, letter, words, look = 0.0, "N", "gap: nothing was delivered", "q-N"
    if row is not None:
        if row["value"] is not None and most:
            share = float(abs(row["value"]) / most)
        letter = row["quality"]
        words, look = f"{amount(row)}, {flaws(row)}", f"q-{letter}"
        if energy and row["value"] is not None:
            look = f"h{min(_DEPTHS, int(share * _DEPTHS) + 1)}"
    if odd := placetime.long_day_words(day, shown.zone):
        words += f" ({odd})"
    mark = "" if energy and letter == "A" else f"<s>{parts.text(letter)}</s>"
    line = f'<u style="width:{share:.0%}"></u>' if energy and share else ""
    here = ' aria-current="date"' if day == shown.selected else ""
    said = parts.text(f"{day}: {words}")
    return (
        f'<a class="day {look}" href="{parts.text(shown.address(day))}" title="{said}" '
        f'aria-label="{said}" data-day="{day}" tabindex="{0 if is_stop else -1}"{here}>'
        f"{day.day}{mark}{line}</a>"
    )


def _legend(layer: str, most: Decimal, rows: Sequence[Mapping[str, Any]]) -> str:
    if layer == "energy":
        unit = rows[0]["uom"]
        items = "".join(
            f'<span><i class="day h{step}"></i> to {wording.decimal(round(most * step / 5, 1))} '
            f"{parts.text(unit)}</span>"
            for step in range(1, _DEPTHS + 1)
        )
        items += "<span>A letter: not all actual, the weakest quality of the day:</span>"
    else:
        items = "<span>The weakest quality of the day:</span>"
    found = {row["quality"] for row in rows}
    for flag, words in wording.QUALITY_WORDS.items():
        if flag in found and not (flag == "A" and layer == "energy"):
            items += f'<span><i class="day q-{flag}">{flag}</i> {words}</span>'
    return f'<p class="key muted">{items}</p>'


def table_of(
    rows: Sequence[Mapping[str, Any]], zone: str | None, address: Callable[[date], str]
) -> Html:
    """The same days as a table."""
    columns = (
        parts.Column("day", "Day", lambda r: parts.link(address(r["day"]), r["day"]), main=True),
        parts.Column("value", "Total", amount, right=True),
        parts.Column("quality", "Quality", flaws, wide=True),
        parts.Column("missing", "Missing intervals", right=True),
        parts.Column(
            "hours",
            "Hours",
            lambda r: f"{placetime.hours(r['day'], zone):g}",
            right=True,
            minor=True,
        ),
    )
    return parts.table(
        columns, rows, caption="Days of the year",
        empty=parts.nothing("No intervals in this year.", "Choose another year above."),
    )  # fmt: skip


def span_in(
    year: int, known: tuple[date, date], rows: Sequence[Mapping[str, Any]]
) -> tuple[date, date] | None:
    """The first and last day of a year that should be there; None: the stream has none in it.

    Between the stream's first and last day all should: also when there is none in the whole year.
    In local time the days that are there may lie one beyond.
    """
    days = [row["day"] for row in rows]
    first = min(max(known[0], date(year, 1, 1)), *days, date(year, 12, 31))
    last = max(min(known[1], date(year, 12, 31)), *days, date(year, 1, 1))
    touched = known[0] <= date(year, 12, 31) and known[1] >= date(year, 1, 1)
    return (first, last) if touched or days else None


def gaps(
    rows: Sequence[Mapping[str, Any]], span: tuple[date, date] | None
) -> list[tuple[date, date]]:
    """Runs of days of the span that have no value at all."""
    if span is None:
        return []
    there = {row["day"] for row in rows if row["missing"] < row["intervals"]}
    (day, last), found = span, list[tuple[date, date]]()
    while day <= last:
        if day not in there:
            if found and found[-1][1] == day - timedelta(days=1):
                found[-1] = found[-1][0], day
            else:
                found.append((day, day))
        day += timedelta(days=1)
    return found
