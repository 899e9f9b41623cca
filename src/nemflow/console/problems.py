"""Problems: one per sender and rule, or per failing part, until it is over.

Why: forty files that fail for one reason are one thing to mend, and one sender to write to.

Promises: the words are those of ``nemflow problems``; closing by hand needs a note and is audited.

Look next: ``Store.problems``; docs/problems.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from nemflow.cli import wording
from nemflow.console import frame, leafing, parts
from nemflow.console.parts import Html

_PAGE: Final = 50
_KINDS: Final = {
    "system": ("bad", "✕", "a part of ours"),
    "dead": ("bad", "✝", "dead files"),
    "file": ("warn", "!", "files"),
}
_WHO: Final = {"us": "we must act", "sender": "its sender must act"}


@frame.page("/problems", "Problems", nav="Problems", key="p")
async def problems(view: frame.View) -> None:
    """What is wrong, newest first."""
    every = view.query.get("state") == "all"
    sender = view.query.get("sender", "").strip()[:200]
    before = leafing.number(view.query.get("before", ""))
    frame.heading("Problems")
    frame.show(
        leafing.filters(
            "/console/problems",
            [
                leafing.choice("state", "State", {"": "open", "all": "open and closed"},
                               "all" if every else ""),
                leafing.field("sender", "Sender", sender, search=True),
            ],
        )
    )  # fmt: skip
    operate = view.may("operate")
    await frame.live(
        view,
        ("problems", every, sender, before),
        5,
        lambda: view.context.store.problems(
            open_only=not every, sender=sender or None, limit=_PAGE + 1, before=before
        ),
        lambda found: _list(found, {"state": "all" if every else "", "sender": sender}, operate),
    )


def _list(found: pl.DataFrame, chosen: Mapping[str, str], operate: bool) -> Html:
    rows = found.head(_PAGE).to_dicts()
    if not rows:
        narrowed = any(chosen.values())
        empty = parts.nothing(
            "No problem is like that." if narrowed else "No problem is open.",
            parts.link("/console/problems", "Show what is open")
            if narrowed
            else "Nothing to do. A problem appears here when files of a sender fail by a rule, "
            "when a file is dead, or when a part of the system does not work.",
        )
        return Html(f'<div class="card">{empty}</div>')
    said = "".join(_problem(row, operate) for row in rows)
    onward = rows[-1]["problem"] if found.height > _PAGE else None
    pages = leafing.pages("/console/problems", chosen, before=onward)
    return Html(f'<div class="stack">{said}</div>{pages}')


def _problem(row: Mapping[str, Any], operate: bool) -> str:
    number, still = row["problem"], row["state"] == "open"
    kind = _KINDS.get(row["kind"], ("warn", "!", row["kind"]))
    chips = parts.mark(*kind) if still else parts.mark("off", "✓", "closed")
    close = Html("")
    if operate and still:
        said = f"{row['what']}. What comes again afterwards is a new problem."
        close = parts.act("Close", f"/v1/problems/{number}/close", said, kind="small", note=True)
    last = ""
    if row["last_delivery"] is not None:
        last = parts.link(f"/console/deliveries/{row['last_delivery']}", row["last_name"] or "file")
    mend = ""
    if row["kind"] == "dead" and still:
        mend = f" {parts.link('/console/dead', 'See the dead files')}."
    facts = parts.facts(
        [
            ("Sender", row["sender"]),
            ("Rule or part", row["rule"]),
            ("Met", wording.count(row["times"], "time")),
            ("First seen", parts.stamp(row["first_at"])),
            ("Last seen", parts.stamp(row["last_at"])),
            ("Last file", last),
            ("Closed", parts.stamp(row["closed_at"])),
            ("Closed by", _closed_by(row)),
            ("Note", row["note"]),
        ]
    )
    body = (
        f'<div class="sum">{chips}<span>{_WHO.get(row["who"], row["who"])}</span></div>'
        f"<p>{parts.text(row['message'])}</p>"
        f'<p class="todo"><b>What to do:</b> {parts.text(row["todo"])}{mend}</p>{facts}'
    )
    return parts.panel(
        f"{number}: {row['what']}", Html(body), more=close, anchor=f"problem-{number}"
    )


def _closed_by(row: Mapping[str, Any]) -> Any:
    if row["closed_at"] is None or row["closed_by"]:
        return row["closed_by"]
    if row["closed_delivery"] is None:
        return "by itself"
    return parts.link(f"/console/deliveries/{row['closed_delivery']}", "a good file")
