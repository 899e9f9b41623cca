"""Numbers, times, sizes and codes as people read them.

Why: the same day, count or quality flag looks the same in every table and sentence.

Promises: instants are shown in market time (UTC+10 all year) without repeating the offset;
counts have thousands separators; nothing is rounded but shares and sizes.

Look next: :mod:`nemflow.cli.output` prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

QUALITY_WORDS: Final = {
    "A": "actual",
    "E": "estimate",
    "S": "substitute",
    "F": "final substitute",
    "N": "no data",
}
SEVERITY_WORDS: Final = {"F": "file refused", "D": "kept out", "W": "warning"}


def cell(value: Any) -> str:
    """Any value as a table cell; nothing there is an empty cell."""
    for kind, words in _CELLS:
        if isinstance(value, kind):
            return words(value)
    return "" if value is None else str(value)


def plain(value: Any) -> str:
    """A number that is a name (an id, a year): no thousands separator."""
    return "" if value is None else str(value)


def stamp(value: datetime | None) -> str:
    """``2025-03-06 02:15:09``."""
    return "" if value is None else value.strftime("%Y-%m-%d %H:%M:%S")


def minute(value: datetime | None) -> str:
    """``2025-03-06 02:15``."""
    return "" if value is None else value.strftime("%Y-%m-%d %H:%M")


def clock(value: datetime | None) -> str:
    """``02:15``."""
    return "" if value is None else value.strftime("%H:%M")


def day(value: datetime | None) -> str:
    """``2025-03-06``."""
    return "" if value is None else value.strftime("%Y-%m-%d")


def month(value: datetime | None) -> str:
    """``2025-03``."""
    return "" if value is None else value.strftime("%Y-%m")


def decimal(value: Decimal | None) -> str:
    """All digits, thousands separated, without zeros at the end."""
    if value is None:
        return ""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def decimals(values: Iterable[Any]) -> int | None:
    """How many decimals the decimals among the values need; None when there are none."""
    needed = [
        max(0, -int(value.normalize().as_tuple().exponent))
        for value in values
        if isinstance(value, Decimal) and value.is_finite()
    ]
    return max(needed, default=None)


def share(value: float | None) -> str:
    """``2.5%``; what is not nothing is never shown as 0, what is not all never as 100."""
    if value is None:
        return ""
    if 0 < value < 0.001:
        return "<0.1%"
    if 0.999 < value < 1:
        return ">99.9%"
    return f"{value:.1%}".replace(".0%", "%")


def size(value: int | None) -> str:
    """``12.3 kB``, ``4.0 MB``."""
    if value is None:
        return ""
    if value < 1000:
        return f"{value} B"
    amount = float(value)
    unit = "B"
    for unit in ("kB", "MB", "GB"):  # noqa: B007 - the last one tried is the one to show
        amount /= 1000
        if amount < 1000:
            break
    return f"{amount:,.1f} {unit}"


def short_hash(value: str | None) -> str:
    """The first 12 characters, enough to name it."""
    return "" if value is None else value[:12]


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 day``, ``1,204 days``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def mixture(counts: Mapping[str, int], *, words: bool = False) -> str:
    """Quality flags by share: ``A 97.1%, S 2.9%``, or ``actual 97.1%, substitute 2.9%``."""
    whole = sum(counts.values())
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    named = QUALITY_WORDS if words else {}
    return ", ".join(f"{named.get(flag, flag)} {share(n / whole)}" for flag, n in ranked if n)


def _items(value: Any) -> str:
    return ", ".join(cell(part) for part in value)


def _span(value: Mapping[str, Any]) -> str:
    return " to ".join(cell(part) for part in value.values())


#: Kind of value -> its cell; the first that fits (a bool is an int, a datetime a date).
_CELLS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...]] = (
    (bool, lambda value: "yes" if value else "no"),
    (int, lambda value: f"{value:,}"),
    (datetime, stamp),
    (date, date.isoformat),
    (Decimal, decimal),
    (float, lambda value: f"{value:,.10g}"),
    (Mapping, _span),
    ((list, tuple), _items),
)
