"""Filters that are the address, and the links to the next page of a list.

Why: a list that somebody has narrowed down must be sendable to a colleague.

Promises: what is empty is not in the address; a page leads on by the number of its last row, so
that what arrives meanwhile shifts nothing.

Look next: ``parts.py`` for the tables themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from nemflow.console import parts
from nemflow.console.parts import Html


def number(text: str) -> int | None:
    """A row's number out of the address; None: none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None


def field(name: str, title: str, value: str, *, search: bool = False, kind: str = "text") -> str:
    """A text to filter by; ``search``: the key ``/`` leads to it."""
    mark = "search" if search else f"by-{name}"
    return (
        f'<div><label for="{mark}">{parts.text(title)}</label><input id="{mark}" name="{name}" '
        f'type="{kind}" value="{parts.text(value)}" autocomplete="off" spellcheck="false"></div>'
    )


def choice(name: str, title: str, among: Mapping[str, str], value: str) -> str:
    """One of several to filter by: value -> words."""
    options = "".join(
        f'<option value="{parts.text(each)}"{" selected" if each == value else ""}>'
        f"{parts.text(words)}</option>"
        for each, words in among.items()
    )
    return (
        f'<div><label for="by-{name}">{parts.text(title)}</label>'
        f'<select id="by-{name}" name="{name}">{options}</select></div>'
    )


def filters(path: str, each: Sequence[str]) -> Html:
    """The form of a list's filters."""
    return Html(
        f'<form class="filters card" method="get" action="{path}" role="search" '
        f'aria-label="Filter the list">{"".join(each)}<div class="acts"><button class="button" '
        f'type="submit">Filter</button><a class="button" href="{path}">Clear</a></div></form>'
    )


def pages(path: str, chosen: Mapping[str, str], **onward: int | None) -> Html:
    """The link to the next page; nothing when there is none."""
    further = {name: str(value) for name, value in onward.items() if value is not None}
    if not further:
        return Html("")
    query = urlencode({name: value for name, value in chosen.items() if value} | further)
    return Html(
        f'<nav class="pages" aria-label="Pages"><a class="button" rel="next" '
        f'href="{path}?{parts.text(query)}">Next page</a></nav>'
    )
