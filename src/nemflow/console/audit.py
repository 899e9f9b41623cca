"""The audit: what people and keys did, newest first.

Look next: ``Store.audit``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from nemflow.console import frame, leafing, parts
from nemflow.console.parts import Html

_PAGE: Final = 50
_TARGET: Final = re.compile(r"delivery (\d+)")


@frame.page("/audit", "Audit", nav="Audit", key="a")
async def audit(view: frame.View) -> None:
    """Who did what to what, and when."""
    who, act = (view.query.get(name, "").strip()[:100] for name in ("who", "act"))
    before = leafing.number(view.query.get("before", ""))
    frame.heading("Audit")
    fields = [
        leafing.field("who", "Person or key", who, search=True),
        leafing.field("act", "Act, as undo", act),
    ]
    frame.show(leafing.filters("/console/audit", fields))
    await frame.live(
        view,
        ("audit", who, act, before),
        5,
        lambda: view.context.store.audit(
            who=who or None, act=act or None, limit=_PAGE + 1, before=before
        ),
        lambda found: _list(found, {"who": who, "act": act}),
    )


def _list(found: pl.DataFrame, chosen: Mapping[str, str]) -> Html:
    rows = found.head(_PAGE).to_dicts()
    columns = (
        parts.Column("at", "When", lambda row: parts.stamp(row["at"])),
        parts.Column("who", "Who", lambda row: row["who"] or "not known"),
        parts.Column("act", "Act", main=True),
        parts.Column("target", "To what", _target),
        parts.Column("detail", "Detail", _detail, wide=True),
    )
    empty = parts.nothing(
        "Nothing is like that." if any(chosen.values()) else "Nobody has done anything yet.",
        "Undo, redo, replay, retry, cancel, keys, webhooks and closed problems are noted here.",
    )
    table = parts.table(columns, rows, caption="Acts, newest first", empty=empty)
    onward = rows[-1]["audit"] if found.height > _PAGE else None
    pages = leafing.pages("/console/audit", chosen, before=onward)
    return Html(f'<div class="card">{table}{pages}</div>')


def _target(row: Mapping[str, Any]) -> Any:
    found = _TARGET.fullmatch(row["target"])
    return parts.link(f"/console/deliveries/{found[1]}", row["target"]) if found else row["target"]


def _detail(row: Mapping[str, Any]) -> str:
    try:
        known = json.loads(row["detail"] or "{}")
    except ValueError:
        return str(row["detail"])
    if not isinstance(known, dict):
        return str(known)[:300]
    said = (
        f"{name.replace('_', ' ')}: {_plain(value)}"
        for name, value in known.items()
        if value not in (None, [], "")
    )
    return "; ".join(said)[:300]


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
