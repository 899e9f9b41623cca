"""Charts for a terminal: within 80 columns, honest about what is missing, never colour alone."""

from __future__ import annotations

import sys
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemflow.cli import charts

YEAR = {date(2024, 6, 1) + timedelta(days=n): float(n % 50) for n in range(365)}


@pytest.fixture(autouse=True)
def unicode_terminal(monkeypatch) -> None:
    """Block characters can be shown."""
    monkeypatch.setattr(charts, "_unicode", lambda: True)


def lines(picture: object) -> list[str]:
    """The picture without colour."""
    return str(picture).splitlines()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.none() | st.floats(0, 1e6), min_size=48, max_size=48))
def test_a_profile_fits_80_columns(values: list[float | None]) -> None:
    """Whatever the values, no line is longer than a terminal, and nothing fails."""
    drawn = lines(charts.profile(values, title="E1", unit="kWh"))
    assert max(map(len, drawn)) <= charts.WIDTH


def test_a_profile_is_high_where_the_value_is_high() -> None:
    """A peak at 18 h stands above the mark 18 and nowhere else."""
    values = [0.1] * 36 + [2.0] + [0.1] * 11
    drawn = lines(charts.profile(values, title="E1", unit="kWh"))
    top, axis = drawn[1], drawn[-1]
    peak = next(i for i, c in enumerate(top) if c in "█▌▐▄▟▙")
    assert abs(peak - axis.index("18")) <= 2
    assert top.strip("0123456789.┤│ ") != ""


def test_a_gap_in_a_profile_stays_a_gap() -> None:
    """Intervals without any value are not drawn, least of all as zero or as a line across."""
    values: list[float | None] = [1.0] * 16 + [None] * 16 + [1.0] * 16
    body = lines(charts.profile(values, title="E1", unit="kWh"))[1:-2]
    for line in body:
        assert line[30:50].strip() == ""


def test_a_calendar_of_a_year_fits_80_columns() -> None:
    """Two calendar years are two bands."""
    drawn = lines(charts.calendar(YEAR, title="E1", unit="kWh per day"))
    assert max(map(len, drawn)) <= charts.WIDTH
    assert [line[:4] for line in drawn if line[:2] == "20"] == ["2024", "2025"]


def test_a_calendar_marks_missing_days_and_days_without_values() -> None:
    """A day that is not there and a day without a total look unlike any total, zero included."""
    first = date(2025, 3, 3)
    days: dict[date, float | None] = {
        first: 0.0,
        first + timedelta(days=1): None,
        first + timedelta(days=3): 5.0,
    }
    drawn = lines(charts.calendar(days, title="E1", unit="kWh per day"))
    cells = [line[6:8].strip() for line in drawn[2:6]]
    assert cells[1:3] == ["?", "·"]
    assert cells[0] not in ("", "?", "·")
    assert cells[3] == "██"


def test_shades_carry_the_meaning_without_colour() -> None:
    """Four different characters for four quarters of the days, named in the legend."""
    drawn = str(charts.calendar(YEAR, title="E1", unit="kWh per day"))
    assert all(shade in drawn for shade in "░▒▓█")
    assert "up to" in drawn.splitlines()[-1]


def test_one_odd_day_does_not_wash_out_the_others() -> None:
    """With one day a hundred times the rest, the rest still have different shades."""
    days = dict(YEAR) | {date(2025, 1, 1): 5000.0}
    drawn = "".join(lines(charts.calendar(days, title="", unit="kWh"))[1:-1])
    assert min(drawn.count(shade) for shade in "░▒▓") > 50


@settings(deadline=None)
@given(
    st.dictionaries(
        st.dates(date(2023, 1, 1), date(2025, 12, 31)), st.none() | st.floats(-1e9, 1e9), min_size=1
    )
)
def test_any_days_can_be_drawn(days: dict[date, float | None]) -> None:
    """A single day, all days equal, no totals at all: always a picture of at most 80 columns."""
    drawn = lines(charts.calendar(days, title="x", unit="kWh"))
    assert max(map(len, drawn[1:-1])) <= charts.WIDTH


def test_without_unicode_everything_is_ascii(monkeypatch) -> None:
    """A terminal that knows only ASCII gets ASCII."""
    monkeypatch.setattr(charts, "_unicode", lambda: False)
    text = str(charts.profile([1.0, 2.0] * 24, title="E1", unit="kWh"))
    text += str(charts.calendar(YEAR, title="E1", unit="kWh"))
    assert text.isascii()


def test_what_a_terminal_can_show_is_asked_of_stdout(monkeypatch) -> None:
    """The encoding of stdout decides."""
    monkeypatch.undo()
    assert isinstance(charts._unicode(), bool)
    monkeypatch.setattr(sys, "stdout", type("Out", (), {"encoding": "cp1252"})())
    assert charts._unicode() is False
