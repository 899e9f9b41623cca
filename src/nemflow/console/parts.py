"""What pages are made of: state chips, tables, facts, panels, charts; as HTML text.

Why: a page that is plain HTML is quick to make, quick to show, readable by a screen reader and the
same in every corner of the console.

Promises: whatever comes from a file, a sender or the ledger goes through ``text``; a state is
always said by an icon and a word, its colour only repeats it; a table names itself, its cells name
their column on a narrow screen, and an empty one says what to do next.

Conventions: a function ending in HTML returns ``Html``, a text that is safe to show; everything
else is escaped by ``text``. Instants are shown in market time, without repeating the offset.

Look next: ``frame.py``, which puts them on a page; ``static/console.css``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from html import escape
from typing import Any, Final

from nemflow.cli import wording
from nemflow.store.tables import MARKET_OFFSET


class Html(str):
    """A text that may be shown as HTML: everything in it that came from outside is escaped."""

    __slots__ = ()


#: state -> (kind, icon, word). Kinds: good, busy, wait, warn, bad, off.
STATES: Final[Mapping[str, tuple[str, str, str]]] = {
    "received": ("wait", "●", "received"),
    "queued": ("wait", "●", "queued"),
    "inspecting": ("busy", "◐", "inspecting"),
    "loading": ("busy", "◐", "loading"),
    "waiting_retry": ("warn", "↻", "waiting retry"),
    "loaded": ("good", "✓", "loaded"),
    "partly_loaded": ("warn", "!", "partly loaded"),
    "duplicate": ("off", "=", "duplicate"),
    "rejected": ("bad", "✕", "rejected"),
    "dead": ("bad", "✝", "dead"),
    "cancelled": ("off", "–", "cancelled"),
    "undone": ("off", "↶", "undone"),
}
#: What a state means, and who must act; as docs/store.md says it.
MEANS: Final[Mapping[str, str]] = {
    "received": "Accepted and safe; nobody works on it yet.",
    "queued": "Waiting for a worker.",
    "inspecting": "A worker looks at what is in it.",
    "loading": "A worker is loading it.",
    "waiting_retry": "An attempt failed in a way that may pass; it is tried again.",
    "loaded": "Everything in it is in the store.",
    "partly_loaded": "Some records were kept out; the rest is in the store.",
    "duplicate": "The same bytes, or the same files, are in the store already.",
    "rejected": "Nothing of it could be taken in; its sender must act.",
    "dead": "It could not be worked on; we must act.",
    "cancelled": "Somebody stopped it.",
    "undone": "It was taken back; what stood before counts again.",
}


def text(value: Any) -> Html:
    """Any value as people read it, escaped; ``Html`` stays as it is."""
    if isinstance(value, Html):
        return value
    return Html(escape(wording.cell(value)))


def chip(state: str, *, words: str = "") -> Html:
    """A state as an icon and a word."""
    kind, icon, word = STATES.get(state, ("off", "·", state.replace("_", " ")))
    return mark(kind, icon, words or word)


def mark(kind: str, icon: str, word: str) -> Html:
    """An icon and a word; ``kind`` is good, busy, wait, warn, bad or off."""
    return Html(
        f'<span class="chip {escape(kind)}"><span aria-hidden="true">{escape(icon)}</span>'
        f" {escape(word)}</span>"
    )


def link(href: str, words: Any, *, kind: str = "") -> Html:
    """A link within the console or to the API."""
    look = f' class="{escape(kind)}"' if kind else ""
    return Html(f'<a href="{escape(href)}"{look}>{text(words)}</a>')


def stamp(value: datetime | None) -> Html:
    """``2025-03-06 02:15:09`` in market time, machine-readable too."""
    if value is None:
        return Html("")
    at = value.astimezone(MARKET_OFFSET) if value.tzinfo else value
    shown = f"{at:%Y-%m-%d %H:%M:%S}"
    return Html(f'<time datetime="{at.isoformat()}" class="stamp">{shown}</time>')


def midnight(day: date) -> datetime:
    """The instant a day begins, in market time."""
    return datetime.combine(day, time(), MARKET_OFFSET)


def duration(seconds: float | None) -> str:
    """``0.42 s``, ``12 s``, ``3 min 5 s``, ``2 h 4 min``, ``3 d 2 h``."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str  #: key of the row
    title: str  #: its head, never empty
    show: Callable[[Mapping[str, Any]], Any] | None = None  #: row -> cell; None: the value
    right: bool = False  #: numbers
    main: bool = False  #: what the row is about: heads the card on a narrow screen
    wide: bool = False  #: may wrap
    minor: bool = False  #: left out on a narrow screen


def table(
    columns: Sequence[Column],
    rows: Iterable[Mapping[str, Any]],
    *,
    caption: str,
    empty: Html,
    select: Callable[[Mapping[str, Any]], tuple[int, str, Mapping[str, Any]] | None] | None = None,
) -> Html:
    """Rows as a table; cards on a narrow screen.

    Args:
        columns: what is shown.
        rows: values by column name; more may be in them.
        caption: what the table is, for who cannot see it.
        empty: what to show instead of an empty table; see ``nothing``.
        select: row -> id, how the row is called, and ``data-`` values for its checkbox, or None
            for a row that cannot be chosen; None: no row can.
    """
    listed = list(rows)
    if not listed:
        return empty
    heads = "".join(
        f'<th scope="col" role="columnheader"{" class=right" if each.right else ""}>'
        f"{text(each.title)}</th>"
        for each in columns
    )
    if select is not None:
        box = '<input type="checkbox" data-all aria-label="Choose all rows of this page">'
        heads = f'<th scope="col" role="columnheader" class="pick">{box}</th>{heads}'
    body = "".join(_row(columns, row, select) for row in listed)
    return Html(
        f'<div class="scroll"><table role="table"><caption class="unseen">{text(caption)}'
        f'</caption><thead role="rowgroup"><tr role="row">{heads}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div>'
    )


def _row(columns: Sequence[Column], row: Mapping[str, Any], select: Any) -> str:
    cells = ""
    picked = select(row) if select is not None else None
    if picked is not None:
        number, name, data = picked
        said = "".join(f' data-{key}="{text(str(value))}"' for key, value in data.items())
        cells = (
            f'<td role="cell" class="pick"><input type="checkbox" data-pick="{number}"{said} '
            f'aria-label="Choose {text(name)}"></td>'
        )
    elif select is not None:
        cells = '<td role="cell" class="pick"></td>'
    for each in columns:
        value = each.show(row) if each.show else row.get(each.name)
        looks = " ".join(
            name for name, on in (("right", each.right), ("main", each.main), ("wide", each.wide),
                ("minor", each.minor))
            if on
        )  # fmt: skip
        style = f' class="{looks}"' if looks else ""
        cells += f'<td role="cell" data-label="{text(each.title)}"{style}>{text(value)}</td>'
    return f'<tr role="row">{cells}</tr>'


def nothing(what: str, then: Any = "") -> Html:
    """An empty state: what is not there, and what to do next."""
    more = f"<p>{text(then)}</p>" if then else ""
    return Html(f'<div class="nothing"><p><b>{text(what)}</b></p>{more}</div>')


def panel(title: str, body: Html, *, more: Html = Html(""), anchor: str = "") -> Html:  # noqa: B008
    """A section with its heading; ``more`` stands beside the heading."""
    name = anchor or "".join(c if c.isalnum() else "-" for c in title.lower())
    return Html(
        f'<section class="card" aria-labelledby="h-{name}" id="{name}"><div class="card-head">'
        f'<h2 id="h-{name}">{text(title)}</h2>{more}</div>{body}</section>'
    )


def facts(pairs: Iterable[tuple[str, Any]]) -> Html:
    """Names and values; what has no value is left out."""
    said = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
        for name, value in pairs
        if value not in (None, "")
    )
    return Html(f'<dl class="facts">{said}</dl>')


def tiles(each: Iterable[tuple[str, Any, str]]) -> Html:
    """Large numbers: title, value, and a line below."""
    said = "".join(
        f'<div class="tile"><div class="tile-title">{text(title)}</div>'
        f'<div class="tile-value">{text(value)}</div><div class="muted">{text(below)}</div></div>'
        for title, value, below in each
    )
    return Html(f'<div class="tiles">{said}</div>')


def alert(kind: str, title: str, more: Any = "") -> Html:
    """A sentence that must be seen: ``kind`` is good, warn or bad."""
    icon = {"good": "✓", "warn": "!", "bad": "✕"}[kind]
    return Html(
        f'<div class="alert {kind}"><span aria-hidden="true">{icon}</span> '
        f"<b>{text(title)}</b> {text(more)}</div>"
    )


def act(
    words: str,
    address: str,
    confirm: str,
    *,
    kind: str = "",
    note: bool = False,
    look: str = "",
    follow: bool = False,
) -> Html:
    """A button that POSTs to an address of the API, after asking; the page is renewed after it.

    ``note``: a note must be given, which is sent as ``{"note": ...}``. ``look``: an address whose
    ``counts`` are told before. ``follow``: go to the page of the delivery that the API answers.
    """
    noted = (" data-note" if note else "") + (" data-follow" if follow else "")
    noted += f' data-look="{escape(look)}"' if look else ""
    return Html(
        f'<button type="button" class="button {kind}" data-act="{escape(address)}" '
        f'data-confirm="{escape(confirm)}"{noted}>{text(words)}</button>'
    )


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart."""

    label: str  #: below it, or "" for none
    said: str  #: what it is, in words
    parts: Sequence[tuple[str, float]]  #: (kind, value), from below


def bars(each: Sequence[Bar], *, title: str, unit: str = "") -> Html:
    """A bar chart as SVG, with its numbers as a table for who wants or needs them."""
    top = max((sum(v for _, v in bar.parts) for bar in each), default=0)
    if not top:
        return nothing("Nothing in this time.")
    wide, high = 1000, 150
    step = wide / len(each)
    drawn = labels = ""
    for place, bar in enumerate(each):
        y = float(high)
        shapes = ""
        for kind, value in bar.parts:
            tall = max(value / top * (high - 4), 2 if value else 0)
            y -= tall
            shapes += (
                f'<rect class="fill-{kind}" x="{place * step + step * 0.1:.1f}" y="{y:.1f}" '
                f'width="{step * 0.8:.1f}" height="{tall:.1f}"/>'
            )
        drawn += f"<g><title>{text(bar.said)}</title>{shapes}</g>"
        labels += f"<span>{text(bar.label)}</span>"
    rows = "".join(f"<li>{text(bar.said)}</li>" for bar in each if any(v for _, v in bar.parts))
    most = f"{top:,.0f}{' ' + unit if unit else ''}"
    return Html(
        f'<figure class="chart"><div class="chart-top">{text(most)}</div>'
        f'<svg viewBox="0 0 {wide} {high}" role="img" aria-label="{text(title)}" '
        f'preserveAspectRatio="none"><line x1="0" x2="{wide}" y1="{high}" y2="{high}"/>'
        f'{drawn}</svg><div class="axis" aria-hidden="true">{labels}</div>'
        f"<details><summary>In numbers</summary><ul>{rows}</ul></details>"
        "</figure>"
    )
