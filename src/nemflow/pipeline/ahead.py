"""Looking ahead: what is in deliveries that wait, before it is their turn to be loaded.

Why: while ten thousand files wait, people want to see whose days are among them; without this each
would be looked into only when its own attempt begins.

Promises: a few files, for less than a second, after each attempt, so that loading goes on; nothing
is loaded or refused here, no attempt is used up, and what cannot be looked into is left for its own
attempt to tell. A worker that is killed meanwhile leaves no more behind than an attempt would.

Look next: ``inspecting.py``, which looks; ``nemflow.jobs.attempt``, which calls this.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from nemflow import failpoints
from nemflow.errors import NemflowError
from nemflow.events import About, StepFinished, tell
from nemflow.pipeline.inspecting import in_short, look_into
from nemflow.pipeline.loading import new_token
from nemflow.store import ahead, timeline, work
from nemflow.store.tables import MARKET_OFFSET

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nemflow.events import Hook
    from nemflow.intake.spool import Spool
    from nemflow.pipeline.delivering import Delivering
    from nemflow.store import Store
    from nemflow.store.resumed import Row

log = logging.getLogger(__name__)
_AT_ONCE: Final = 8
_SECONDS: Final = 0.5  #: no further file is begun after so long
_MOST_BYTES: Final = 32 << 20  #: unpacked; what is larger is looked into by its own attempt


def look_ahead(
    store: Store,
    spool: Spool,
    how: Delivering,
    *,
    hook: Hook | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Look into a few of the deliveries that wait; returns into how many.

    What is found is in the ledger afterwards (``inspected``, and a step on the timeline), and the
    delivery is ``queued``. ``hook`` is called with each ``events.StepFinished``; ``stopped`` is
    asked before each file.

    Raises:
        StoreError: the ledger cannot be reached; what is held is free when its lease has run out.
    """
    if not store.backend.look(ahead.any_unseen):
        return 0
    token = new_token()
    rows = store.backend.transact(
        lambda conn: ahead.take(conn, store.backend, token, how.lease_seconds, most=_AT_ONCE)
    )
    failpoints.reach("ahead-taken")
    until, seen = time.monotonic() + _SECONDS, 0
    for row in rows:
        found: Mapping[str, Any] | None = None
        began = datetime.now(MARKET_OFFSET)
        if time.monotonic() < until and not stopped():
            found = _seen(spool, row, how)
        ended = datetime.now(MARKET_OFFSET)
        if _let_go(store, row, token, (began, ended), found):
            tell(hook, StepFinished(About(row.id), "inspect", 0, began, ended, "ok"))
            seen += 1
    return seen


def _seen(spool: Spool, row: Row, how: Delivering) -> Mapping[str, Any] | None:
    """What is in it; None when that cannot be told, or not soon."""
    try:
        found = look_into(spool.path(row.sha256), row.name, how, most_bytes=_MOST_BYTES)
    except (NemflowError, OSError) as error:
        log.debug("Delivery %s is left for its attempt: %s", row.id, error)
        return None
    return None if found["partial"] else found


def _let_go(
    store: Store,
    row: Row,
    token: str,
    when: tuple[datetime, datetime],
    found: Mapping[str, Any] | None,
) -> bool:
    """Have it wait again, with what was found; False: that was nothing, or is not ours to tell."""

    def write(conn: sa.Connection) -> bool:
        told = found is not None and work.describe(conn, row.id, token, found)
        held = work.hand_back(conn, store.backend, row.id, token)
        if not (told and held and found is not None):
            return False
        timeline.step(
            conn, row.id, "inspect", attempt=0, began_at=when[0], ended_at=when[1],
            detail=in_short(found),
        )  # fmt: skip
        return True

    return store.backend.transact(write)
