"""Changes per consumer: days that are no longer what billing, or whoever, took.

Why: a bill made from readings that were corrected afterwards must be found before the customer
finds it.

Promises: the list is ``nemflow changes --consumer NAME``: days whose current content differs from
what was taken last, and no others.

Look next: ``Store.changes``; docs/consumers.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import polars as pl

from nemflow.cli import wording
from nemflow.console import frame, leafing, parts
from nemflow.console.parts import Html
from nemflow.console.profile import signed

_MOST: Final = 200
_TAKES: Final = 20
_KINDS: Final = {
    "new": ("busy", "+", "new"),
    "revised": ("warn", "≠", "revised"),
    "withdrawn": ("bad", "−", "withdrawn"),
}


@frame.page("/changes", "Changes", nav="Changes", key="c")
async def changes(view: frame.View) -> None:
    """Who took what; of one of them, what has changed since."""
    store = view.context.store
    name = view.query.get("consumer", "").strip()[:100]
    nmi = view.query.get("nmi", "").strip().upper()[:10]
    frame.heading("Changes per consumer")
    takes = await view.shared.get("takes", 5, store.consumers)
    names = takes["consumer"].unique(maintain_order=True).to_list()
    if not names:
        frame.show(
            Html(
                '<div class="card">'
                + parts.nothing(
                    "Nobody has taken readings under a name yet.",
                    "A consumer names itself when it reads: nemflow readings NMI --as billing, or "
                    "?consumer=billing over HTTP. From then on its changes are listed here.",
                )
                + "</div>"
            )
        )
        return
    among = {"": "choose"} | {each: each for each in names}
    frame.show(
        leafing.filters(
            "/console/changes",
            [
                leafing.choice("consumer", "Consumer", among, name),
                leafing.field("nmi", "NMI", nmi, search=True),
            ],
        )
    )
    if name:
        await frame.live(
            view,
            ("changes", name, nmi),
            10,
            lambda: store.changes(name, nmi=nmi or None),
            lambda found: _list(found, name, nmi),
        )
    chosen = takes.filter(pl.col("consumer") == name) if name else takes
    frame.show(_takes(chosen))


def _list(found: pl.DataFrame, name: str, nmi: str) -> Html:
    rows = found.head(_MOST).to_dicts()
    columns = (
        parts.Column("day", "Day", _day, main=True),
        parts.Column("nmi", "NMI"),
        parts.Column("suffix", "Stream"),
        parts.Column("kind", "What", lambda row: parts.mark(*_KINDS[row["kind"]])),
        parts.Column("before", "Taken", lambda row: _total(row, "before"), right=True),
        parts.Column("after", "Now", lambda row: _total(row, "after"), right=True),
        parts.Column("by", "Difference", _by, right=True),
        parts.Column("quality", "Quality", _quality, minor=True),
    )
    empty = parts.nothing(
        f"Nothing {name} took has changed.", "Nothing to do: what it took is what counts."
    )
    table = parts.table(columns, rows, caption=f"Days that changed for {name}", empty=empty)
    query = {"consumer": name} | ({"nmi": nmi} if nmi else {})
    get = (
        f'<a class="button small" href="/v1/changes?{parts.text(urlencode(query))}" '
        f'data-get="text/csv" download="changes-{parts.text(name)}.csv">All as CSV</a>'
    )
    more = found.height - len(rows)
    note = f'<p class="muted">… and {more:,} more; the CSV has all.</p>' if more else ""
    title = f"{name}: {wording.count(found.height, 'day')} changed"
    return parts.panel(title, Html(f"{table}{note}"), more=Html(get), anchor="changed")


def _day(row: Mapping[str, Any]) -> Html:
    day = row["day"]
    query = urlencode({"stream": row["suffix"], "year": day.year, "day": day})
    return parts.link(f"/console/nmis/{row['nmi']}?{query}#versions", day)


def _total(row: Mapping[str, Any], side: str) -> str:
    total = row[f"{side}_total"]
    return "nothing" if total is None else f"{wording.decimal(total)} {row[f'{side}_uom']}"


def _by(row: Mapping[str, Any]) -> str:
    before, after = row["before_total"], row["after_total"]
    alike = None not in (before, after) and row["before_uom"] == row["after_uom"]
    return signed(after - before) if alike else ""


def _quality(row: Mapping[str, Any]) -> str:
    before, after = (
        wording.QUALITY_WORDS.get(row[f"{side}_quality"], "") for side in ("before", "after")
    )
    return after if before == after else f"{before or 'nothing'} → {after or 'nothing'}"


def _takes(found: pl.DataFrame) -> Html:
    columns = (
        parts.Column("consumer", "Consumer", _name, main=True),
        parts.Column("at", "When", lambda row: parts.stamp(row["at"])),
        parts.Column("how", "How"),
        parts.Column("what", "Of", _what),
        parts.Column("first_day", "From", lambda row: row["first_day"] or "the beginning"),
        parts.Column("last_day", "To", lambda row: row["last_day"] or "without end"),
        parts.Column("seq", "As of commit", lambda row: str(row["seq"]), right=True, minor=True),
    )
    rows = found.head(_TAKES).to_dicts()
    table = parts.table(columns, rows, caption="Who took what, newest first",
                        empty=parts.nothing("This name has taken nothing."))  # fmt: skip
    more = found.height - len(rows)
    note = f'<p class="muted">… and {more:,} more: nemflow consumers.</p>' if more > 0 else ""
    return parts.panel("Who took what", Html(f"{table}{note}"), anchor="takes")


def _name(row: Mapping[str, Any]) -> Html:
    query = urlencode({"consumer": row["consumer"]})
    return parts.link(f"/console/changes?{query}", row["consumer"])


def _what(row: Mapping[str, Any]) -> str:
    if row["nmis"] is None:
        return "every NMI"
    one = row["nmi"] if row["nmis"] == 1 else wording.count(row["nmis"], "NMI")
    return f"{one} {row['suffix'] or ''}".strip()
