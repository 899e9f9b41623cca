"""Dead files: what could not be worked on, why, and trying it again.

Why: after an outage hundreds of files are dead for one reason, through no fault of theirs; when
the reason is gone they must all be tried again, and none be forgotten.

Promises: files are grouped by their reason; before many are tried again they are listed.

Look next: ``nemflow.service.bulk``; ``nemflow dead`` does the same at a terminal.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from nemflow.cli import wording
from nemflow.console import frame, leafing, parts
from nemflow.console.files import name_of
from nemflow.console.parts import Html

_MOST: Final = 200
_REASON: Final = 200  #: as long as the API lets a reason be


@frame.page("/dead", "Dead files", nav="Dead files", key="d")
async def dead(view: frame.View) -> None:
    """What is dead, grouped by reason."""
    words = view.query.get("error", "").strip()[:_REASON]
    operate = view.may("operate")
    frame.heading("Dead files")
    frame.show(
        leafing.filters("/console/dead", [leafing.field("error", "Reason", words, search=True)])
    )
    await frame.live(
        view,
        "dead",
        4,
        lambda: view.context.store.dead(limit=_MOST),
        lambda found: _list(found, words, operate),
    )


def _list(found: pl.DataFrame, words: str, operate: bool) -> Html:
    rows = [
        row
        for row in found.iter_rows(named=True)
        if words.lower() in str(row["error"] or "").lower()
    ]
    if not rows:
        empty = parts.nothing(
            "No file is dead." if not words else "No dead file has this reason.",
            "Nothing to do. A file is dead when it could not be worked on, after all attempts."
            if not words
            else parts.link("/console/dead", "Show all dead files"),
        )
        return Html(f'<div class="card">{empty}</div>')
    columns = (
        parts.Column("delivery", "No.", lambda row: str(row["delivery"]), right=True, minor=True),
        parts.Column("name", "File", name_of, main=True),
        parts.Column("error", "Why", wide=True),
        parts.Column("sender", "Sender"),
        parts.Column("attempts", "Attempts", right=True),
        parts.Column("kept", "Original", lambda row: row["kept"] or "not kept"),
        parts.Column("finished_at", "Dead since", lambda row: parts.stamp(row["finished_at"])),
        parts.Column("act", "Act", lambda row: _again(row, operate)),
    )
    table = parts.table(
        columns, rows, caption="Dead files, newest first", empty=Html(""),
        select=_pick if operate else None,
    )  # fmt: skip
    bulk = (
        '<div class="bulk"><span id="bulk-count" class="muted">None chosen</span><button '
        'type="button" class="button small" data-bulk="retry" disabled>Retry …</button></div>'
        if operate
        else ""
    )
    more = "" if found.height < _MOST else f'<p class="muted">The newest {_MOST} are shown.</p>'
    why = _reasons(rows, operate)
    return Html(f'<div class="stack">{why}<div class="card">{bulk}{table}{more}</div></div>')


def _reasons(rows: list[dict[str, Any]], operate: bool) -> Html:
    """Each reason with how many have it, and the button for all of them."""
    counts = Counter(str(row["error"] or "no reason was noted") for row in rows)

    def again(row: Mapping[str, Any]) -> Html:
        if not operate:
            return Html("")
        body = json.dumps({"state": ["dead"], "error": row["error"][:_REASON]})
        return Html(
            '<button type="button" class="button small" data-many="/v1/deliveries/retry" '
            f'data-body="{parts.text(body)}">Retry all {row["files"]}</button>'
        )

    listed = [{"error": error, "files": files} for error, files in counts.most_common()]
    table = parts.table(
        (
            parts.Column("error", "Reason", wide=True, main=True),
            parts.Column("files", "Files", right=True),
            parts.Column("act", "Act", again),
        ),
        listed,
        caption="Reasons",
        empty=Html(""),
    )
    said = '<p class="muted">Mend the reason first; then all attempts are made anew.</p>'
    return parts.panel(f"Why: {wording.count(len(counts), 'reason')}", Html(f"{table}{said}"))


def _again(row: Mapping[str, Any], operate: bool) -> Html:
    if not operate or row["kept"] != "spooled":
        return Html("")
    words = f"#{row['delivery']} {row['name']} is queued again, with all its attempts."
    return parts.act("Retry", f"/v1/deliveries/{row['delivery']}/retry", words, kind="small")


def _pick(row: Mapping[str, Any]) -> tuple[int, str, Mapping[str, Any]]:
    data = {"state": row["state"], "kept": row["kept"] or "", "name": row["name"]}
    return row["delivery"], row["name"], data
