"""The settings: what holds, where it comes from, what it means. Read-only.

Why: with a file, overlays, variables and options nobody knows by heart what holds.

Promises: the same rows as ``nemflow config show``, passwords and keys masked before they come
here; nothing can be changed from a browser.

Look next: ``nemflow.cli.config``; docs/settings.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nemflow.cli import wording
from nemflow.console import frame, leafing, parts
from nemflow.console.parts import Html


@frame.page("/settings", "Settings", nav="Settings", key="s")
async def settings(view: frame.View) -> None:
    """Every setting, or those of a word."""
    words = view.query.get("q", "").strip()[:60]
    changed = view.query.get("only") == "changed"
    frame.heading("Settings")
    frame.show(
        leafing.filters(
            "/console/settings",
            [
                leafing.field("q", "Name or meaning", words, search=True),
                leafing.choice("only", "Which", {"": "all", "changed": "what differs from the "
                               "defaults"}, "changed" if changed else ""),
            ],
        )
    )  # fmt: skip
    rows = [
        row
        for row in view.settings
        if words.lower() in f"{row['key']} {row['meaning']}".lower()
        and (not changed or row["origin"] != "default")
    ]
    frame.show(_list(rows, known=bool(view.settings)))


def _list(rows: Sequence[Mapping[str, Any]], *, known: bool) -> Html:
    columns = (
        parts.Column("key", "Setting", lambda r: _code(r["key"]), main=True),
        parts.Column("shown", "Value", wide=True),
        parts.Column("origin", "From", wide=True),
        parts.Column("meaning", "What it means", wide=True),
        parts.Column("variable", "Variable", lambda r: _code(r["variable"]),
                     minor=True),
    )  # fmt: skip
    empty = (
        parts.nothing("No setting is like that.", parts.link("/console/settings", "Show all"))
        if known
        else parts.nothing("The settings are not known here.", "See: nemflow config show")
    )
    table = parts.table(columns, rows, caption="Settings", empty=empty)
    note = (
        '<p class="muted">Changed in the settings file or by a variable, then the service is '
        "started again. The same: <code>nemflow config show</code></p>"
    )
    title = wording.count(len(rows), "setting")
    return parts.panel(title, Html(f"{table}{note}"), anchor="all-settings")


def _code(text: str) -> Html:
    return Html(f"<code>{parts.text(text)}</code>")
