"""Files: send them, find them, act on many at a time.

Why: what arrived this night must be found by name, sender or state, and put right together.

Promises: the filters are the address, so a list can be sent to a colleague; pages go by cursor and
do not shift; before an act on many it is said what will happen to which; uploads go straight to
``PUT /v1/deliveries/{name}`` and are followed to their final state.

Look next: ``delivery.py`` for one of them; ``static/console.js`` for uploads and acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

import polars as pl

from nemflow.cli import wording
from nemflow.console import frame, parts
from nemflow.console.parts import Html
from nemflow.store.tables import MARKET_OFFSET

_PAGE: Final = 50
_CHANNELS: Final = ("http", "folder", "batch", "cli")
_LANES: Final = ("urgent", "normal", "bulk")


@frame.page("/files", "Files", nav="Files", key="f")
async def files(view: frame.View) -> None:
    """The list, the uploads above it."""
    states = [state for state in view.many.get("state", []) if state in parts.STATES]
    sender, channel, lane, words, day = (
        view.query.get(name, "").strip()[:100] for name in ("sender", "channel", "lane", "q", "day")
    )
    cursor = view.query.get("cursor", "")
    before = int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 18 else None
    since = _day(day)

    def ask() -> pl.DataFrame:
        return view.context.store.search(
            states or None,
            sender=sender or None,
            channel=channel or None,
            lane=lane or None,
            words=words or None,
            since=since,
            until=None if since is None else since + timedelta(days=1),
            before=before,
            limit=_PAGE + 1,
        )

    frame.heading("Files")
    if view.may("upload") and "uploads" in view.context.features:
        frame.show(_UPLOAD)
    chosen = {"q": words, "sender": sender, "channel": channel, "lane": lane, "day": day}
    frame.show(_filters(states, chosen))
    if view.may("operate"):
        frame.show(_BULK)
    key = ("files", *states, *chosen.values(), before)
    address = [("state", state) for state in states]
    address += [(name, value) for name, value in chosen.items() if value]
    operate = view.may("operate")
    await frame.live(view, key, 3, ask, lambda found: _list(found, address, before, operate))


def _day(text: str) -> datetime | None:
    """The beginning of a day, market time; None: no day."""
    try:
        return datetime.fromisoformat(text[:10]).replace(tzinfo=MARKET_OFFSET)
    except ValueError:
        return None


def _list(
    found: pl.DataFrame, address: list[tuple[str, str]], before: int | None, operate: bool
) -> Html:
    rows = found.head(_PAGE).to_dicts()
    columns = (
        parts.Column("delivery", "No.", lambda row: str(row["delivery"]), right=True, minor=True),
        parts.Column("name", "File", name_of, main=True),
        parts.Column("state", "State", lambda row: parts.chip(row["state"])),
        parts.Column("sender", "Sender"),
        parts.Column("channel", "Way in", minor=True),
        parts.Column("lane", "Lane", minor=True),
        parts.Column("stored", "Stored", _stored, right=True),
        parts.Column("out", "Kept out", _kept_out, right=True),
        parts.Column("size", "Size", lambda row: wording.size(row["size"]), right=True, minor=True),
        parts.Column("received_at", "Received", lambda row: parts.stamp(row["received_at"])),
    )
    empty = (
        parts.nothing("No file is like that.", parts.link("/console/files", "Show all files"))
        if address or before
        else parts.nothing("No files yet.", "Drop some above, or type: nemflow submit FILE --wait")
    )
    body = parts.table(
        columns, rows, caption="Files, newest first", empty=empty,
        select=_pick if operate else None,
    )  # fmt: skip
    links = ""
    if before is not None:
        links += f'<a class="button" href="/console/files?{_query(address)}">Newest</a>'
    if found.height > _PAGE:
        onward = [*address, ("cursor", str(rows[-1]["delivery"]))]
        links += f'<a class="button" rel="next" href="/console/files?{_query(onward)}">Older</a>'
    pages = f'<nav class="pages" aria-label="Pages">{links}</nav>' if links else ""
    return Html(f'<div class="card">{body}{pages}</div>')


def _query(pairs: list[tuple[str, str]]) -> str:
    return parts.text(urlencode(pairs))


def _stored(row: Mapping[str, Any]) -> int:
    """Days and register reads."""
    return int(row["days_stored"] + row["reads_stored"])


def _kept_out(row: Mapping[str, Any]) -> Any:
    return (row["days_rejected"] + row["reads_rejected"]) or ""


def _pick(row: Mapping[str, Any]) -> tuple[int, str, Mapping[str, Any]]:
    data = {
        "state": row["state"],
        "kept": row["kept"] or "",
        "name": row["name"],
        "days": parts.Html(str(row["days_stored"] + row["days_unchanged"])),
    }
    return row["delivery"], row["name"], data


def name_of(row: Mapping[str, Any]) -> Html:
    """A delivery's name as a link to its page; how many were inside."""
    inside = row.get("members") or 0
    more = f' <span class="muted">{wording.count(inside, "file")} inside</span>' if inside else ""
    dry = ' <span class="muted">(dry run)</span>' if row.get("dry_run") else ""
    to = parts.link(f"/console/deliveries/{row['delivery']}", row["name"])
    return Html(f"{to}{more}{dry}")


def _filters(states: list[str], chosen: Mapping[str, str]) -> Html:
    single = states[0] if len(states) == 1 else ""
    several = f'<option value="" selected>{len(states)} states</option>' if len(states) > 1 else ""
    options = several + _options(parts.STATES, single, "any state")

    def box(name: str, title: str, kind: str = "text") -> str:
        mark = ' id="search"' if name == "q" else f' id="by-{name}"'
        label = "search" if name == "q" else f"by-{name}"
        return (
            f'<div><label for="{label}">{title}</label><input type="{kind}" name="{name}"{mark} '
            f'value="{parts.text(chosen[name])}"></div>'
        )

    def choice(name: str, title: str, words: str, among: tuple[str, ...]) -> str:
        return (
            f'<div><label for="by-{name}">{title}</label><select name="{name}" id="by-{name}">'
            f"{_options(among, chosen[name], words)}</select></div>"
        )

    return Html(
        '<form class="filters card" method="get" action="/console/files" role="search" '
        'aria-label="Filter the files">'
        + box("q", "Name, sender, number or SHA-256")
        + f'<div><label for="by-state">State</label><select name="state" id="by-state">{options}'
        "</select></div>"
        + box("sender", "Sender")
        + choice("channel", "Way in", "any way", _CHANNELS)
        + choice("lane", "Lane", "any lane", _LANES)
        + box("day", "Received on", "date")
        + '<div class="acts"><button class="button" type="submit">Filter</button>'
        '<a class="button" href="/console/files">Clear</a></div></form>'
    )


def _options(among: Any, chosen: str, words: str) -> str:
    said = f'<option value="">{words}</option>'
    for each in among:
        on = " selected" if each == chosen else ""
        said += f'<option value="{each}"{on}>{each.replace("_", " ")}</option>'
    return said


_BULK: Final = Html(
    '<div class="bulk"><span id="bulk-count" class="muted">None chosen</span>'
    '<button type="button" class="button small" data-bulk="retry" disabled>Retry …</button>'
    '<button type="button" class="button small" data-bulk="cancel" disabled>Cancel …</button>'
    '<button type="button" class="button small" data-bulk="undo" disabled>Undo …</button></div>'
)
_UPLOAD: Final = Html(
    '<section class="card" aria-labelledby="h-send"><div class="card-head"><h2 id="h-send">Send '
    'files</h2><div><label for="upload-lane" class="muted">Lane </label>'
    '<select id="upload-lane"><option>urgent</option><option selected>normal</option>'
    "<option>bulk</option></select></div></div>"
    '<div class="drop" id="drop"><span>Drop files here: NEM12, NEM13, gzip, zip, aseXML</span>'
    '<button type="button" class="button" data-choose-files>Choose files</button>'
    '<input type="file" id="upload-files" multiple hidden aria-label="Files to send"></div>'
    '<ul class="uploads" id="uploads" aria-live="polite" aria-label="Uploads"></ul></section>'
)
