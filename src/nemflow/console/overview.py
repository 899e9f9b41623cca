"""The overview: what is wrong, why, and which button mends it.

Why: it is the page that is opened at 3 a.m.

Look next: ``nemflow.store`` for what is asked.
"""

from __future__ import annotations

from nemflow.console import frame, parts
from nemflow.console.parts import Html
from nemflow.store.dispatch import Backlog


@frame.page("/", "Overview", nav="Overview", key="o")
async def overview(view: frame.View) -> None:
    """What waits, what failed, and whether every part works."""
    frame.heading("Overview")
    await frame.live(view, "backlog", 2, view.context.store.backlog, _waiting)


def _waiting(found: Backlog) -> Html:
    return parts.tiles([("Waiting", found.files, "files")])
