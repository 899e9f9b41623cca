"""NMIs: find one by its beginning, see what streams it has.

Look next: ``nmi.py`` for one of them; ``Store.nmis_from``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import polars as pl

from nemflow.cli import wording
from nemflow.console import frame, parts
from nemflow.console.parts import Html
from nemflow.errors import DataError
from nemflow.mdff import nmi as nmi_of
from nemflow.mdff.codes import parse_suffix

_PAGE: Final = 30
_LONGEST: Final = 11


@frame.page("/nmis", "NMIs", nav="NMIs", key="n")
async def nmis(view: frame.View) -> None:
    """The list, in order, from a beginning."""
    words = view.query.get("q", "").strip().upper()[:_LONGEST]
    after = view.query.get("after", "").strip().upper()[:10]
    beginning, wrong = _beginning(words)
    frame.heading("NMIs")
    frame.show(_search(words, wrong))
    await frame.live(
        view,
        ("nmis", beginning, after),
        10,
        lambda: view.context.store.nmis_from(beginning, after=after, limit=_PAGE + 1),
        lambda found: _list(*found, words=words, after=after),
    )


def _beginning(words: str) -> tuple[str, str]:
    """What an NMI must begin with, and what is wrong with what was asked for."""
    if len(words) < _LONGEST:
        return words, ""
    try:
        return nmi_of.parse(words).nmi, ""
    except DataError as error:
        return words[:10], f"{error.message} {error.hint}"


def _search(words: str, wrong: str) -> Html:
    said = str(parts.alert("warn", wrong)) if wrong else ""
    return Html(
        '<form class="filters card" method="get" role="search"><div><label for="search">NMI, or '
        f'how it begins</label><input id="search" name="q" value="{parts.text(words)}" '
        'maxlength="11" autocomplete="off" spellcheck="false" aria-describedby="search-help"></div>'
        '<button class="button primary" type="submit">Find</button>'
        '<p id="search-help" class="muted">With or without its check digit.</p></form>' + said
    )


def _list(page: list[str], streams: pl.DataFrame, *, words: str, after: str) -> Html:
    shown = page[:_PAGE]
    by_nmi: dict[str, list[Mapping[str, Any]]] = {}
    for row in streams.iter_rows(named=True):
        by_nmi.setdefault(row["nmi"], []).append(row)
    rows = [_row(each, by_nmi.get(each, [])) for each in shown]
    columns = (
        parts.Column(
            "nmi", "NMI", lambda r: parts.link(f"/console/nmis/{r['nmi']}", r["nmi"]), main=True
        ),
        parts.Column("streams", "Streams", wide=True),
        parts.Column("first", "First day"),
        parts.Column("last", "Last day"),
        parts.Column("days", "Stream-days", right=True),
        parts.Column("network", "Network (a hint)", minor=True),
    )
    empty = (
        parts.nothing(f"No NMI begins with {words}.", parts.link("/console/nmis", "Show all NMIs"))
        if words
        else parts.nothing("No NMIs yet.", parts.link("/console/files", "Load a file first"))
    )
    body = parts.table(columns, rows, caption="NMIs in order", empty=empty)
    links = ""
    if after:
        links += f'<a class="button" href="/console/nmis?{_query(words, "")}">First</a>'
    if len(page) > _PAGE:
        onward = _query(words, shown[-1])
        links += f'<a class="button" rel="next" href="/console/nmis?{onward}">Next</a>'
    pages = f'<nav class="pages" aria-label="Pages">{links}</nav>' if links else ""
    return Html(f'<div class="card">{body}{pages}</div>')


def _row(each: str, streams: list[Mapping[str, Any]]) -> dict[str, Any]:
    network = nmi_of.allocation(each)
    return {
        "nmi": each,
        "streams": ", ".join(row["suffix"] for row in streams) or "register reads, or undone",
        "first": str(min((row["first_day"] for row in streams), default="")),
        "last": str(max((row["last_day"] for row in streams), default="")),
        "days": wording.cell(sum(row["days"] for row in streams)),
        "network": f"{network.name}{', ' + network.region if network.region else ''}"
        if network
        else "",
    }


def _query(words: str, after: str) -> str:
    given = [(name, value) for name, value in (("q", words), ("after", after)) if value]
    return str(parts.text(urlencode(given)))


def meaning(suffix: str) -> str:
    """A stream in plain words, as ``solar or other generation fed into the grid``."""
    known = parse_suffix(suffix)
    if known is None:
        return "not a data stream of the NMI Procedure"
    return (
        f"{known.kind.meaning}, {'meter element' if suffix[0].isalpha() else 'meter'} {suffix[1]}"
    )
