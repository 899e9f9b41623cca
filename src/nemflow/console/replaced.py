"""The days of a delivery beside those that stood before.

Why: a correction is looked at for what it changes, not for what it holds.

Promises: what changed comes first; a day leads to its versions; what is not shown is said.

Look next: ``delivery.py``, whose part this is; ``nemflow.store.replaced`` for the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from nemflow.cli import wording
from nemflow.console import parts
from nemflow.console.parts import Column, Html

if TYPE_CHECKING:
    import polars as pl

DAYS: Final = 400  #: so many are compared
_SHOWN_DAYS: Final = 60
_OPEN_DAYS: Final = 12  #: so few are shown without asking
#: What a delivery's days are beside those that stood before: kind, icon, words.
CHANGES: Final[Mapping[str, tuple[str, str, str]]] = {
    "new": ("good", "+", "new"),
    "changed": ("warn", "≠", "changed"),
    "same": ("off", "=", "same"),
    "older": ("off", "↓", "older than what stood"),
}


def panel(days: pl.DataFrame) -> Html:
    """How many days are new, changed, the same; and each, beside what stood before."""
    counts = dict(days["change"].value_counts().iter_rows())
    if days.is_empty():
        return Html("")
    chips = "".join(
        f"<span>{parts.mark(*CHANGES[name])} {counts[name]:,}</span>"
        for name in CHANGES
        if counts.get(name)
    )
    order = {"changed": 0, "older": 1, "new": 2, "same": 3}
    rows = sorted(days.to_dicts(), key=lambda row: order[row["change"]])
    columns = [
        Column("day", "Day", _day_link, main=True),
        Column("nmi", "NMI"),
        Column("suffix", "Stream"),
        Column("change", "Change", lambda row: parts.mark(*CHANGES[row["change"]])),
        Column("before_total", "Total before", right=True),
        Column("total", "In this file", right=True),
        Column("difference", "Difference", _difference, right=True),
        Column("before", "What stood before", _before),
        Column("current", "Counts now", lambda row: "yes" if row["current"] else "no"),
    ]
    listed = parts.table(
        columns,
        rows[:_SHOWN_DAYS],
        caption="The days of this delivery beside what stood before",
        empty=Html(""),
    )
    cut = f"The first {days.height:,} days. " if days.height >= DAYS else ""
    rest = f"<p class=muted>{cut}{min(len(rows), _SHOWN_DAYS):,} of {len(rows):,} shown.</p>"
    if len(rows) <= _SHOWN_DAYS:
        rest = ""
    told = "open" if len(rows) <= _OPEN_DAYS else ""
    listed = Html(
        f"<details {told}><summary>{wording.count(len(rows), 'day')}, one by one</summary>"
        f"{listed}{rest}</details>"
    )
    return parts.panel("What it changed", Html(f'<div class="legend">{chips}</div>{listed}'))


def _day_link(row: Mapping[str, Any]) -> Html:
    """To the day among its versions."""
    where = f"/console/nmis/{row['nmi']}?stream={row['suffix']}&day={row['day']}#versions"
    return parts.link(where, str(row["day"]))


def _difference(row: Mapping[str, Any]) -> str:
    if row["before_total"] is None or row["total"] is None:
        return ""
    by = row["total"] - row["before_total"]
    return "0" if not by else f"{'+' if by > 0 else '−'}{wording.decimal(abs(by))}"


def _before(row: Mapping[str, Any]) -> Any:
    if row["before_delivery"] is None:
        return "nothing"
    return parts.link(f"/console/deliveries/{row['before_delivery']}", row["before_source"])
