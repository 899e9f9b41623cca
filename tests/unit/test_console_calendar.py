"""The gaps of a year: also those that reach over New Year, or fill a year."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

pytest.importorskip("nicegui", reason="the extra console is not installed")

from nemflow.console.calendar import gaps, span_in

KNOWN = date(2023, 12, 28), date(2026, 1, 10)


def rows(*days: date) -> list[dict[str, Any]]:
    """Whole days."""
    return [{"day": day, "missing": 0, "intervals": 48} for day in days]


def days(first: date, last: date) -> list[date]:
    """Every day from the first to the last."""
    return [first + timedelta(n) for n in range((last - first).days + 1)]


@pytest.mark.parametrize(
    ("there", "year", "missing"),
    [
        (
            days(date(2024, 1, 1), date(2024, 12, 20)),
            2024,
            (date(2024, 12, 21), date(2024, 12, 31)),
        ),
        (days(date(2025, 1, 10), date(2025, 12, 31)), 2025, (date(2025, 1, 1), date(2025, 1, 9))),
        ([], 2025, (date(2025, 1, 1), date(2025, 12, 31))),
        (days(date(2026, 1, 1), date(2026, 1, 9)), 2026, (date(2026, 1, 10), date(2026, 1, 10))),
    ],
)
def test_a_gap_at_the_edge_of_a_year_is_a_gap(
    there: list[date], year: int, missing: tuple[date, date]
) -> None:
    """What counts is the stream's first and last day, not the year's."""
    found = rows(*there)
    assert gaps(found, span_in(year, KNOWN, found)) == [missing]


def test_before_the_first_and_after_the_last_day_nothing_is_missing() -> None:
    """Nor in a year that the stream does not touch, nor where local days lie one beyond."""
    assert span_in(2020, KNOWN, []) is None
    assert gaps([], None) == []
    last = rows(*days(date(2026, 1, 1), date(2026, 1, 11)))
    assert span_in(2026, KNOWN, last) == (date(2026, 1, 1), date(2026, 1, 11))
    assert gaps(last, span_in(2026, KNOWN, last)) == []
