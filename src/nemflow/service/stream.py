"""``/v1/events``: commits as they happen, as server-sent events.

Why: who follows the store should neither poll nor miss anything.

Promises: one event per commit, in commit order, none left out and none twice for who resumes with
the last id it saw (``Last-Event-ID``, as browsers do, or ``?since=``); the events come from the
ledger, so they are the same whichever process of the service answers; a silent stream is kept
open by a comment every 15 seconds; a reader that went away stops the work, and so does one whose
key or session is good no more, within the ten seconds of every other request.

Look next: ``Store.commits``; ``/v1/feed`` for every single day.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from nemflow.errors import StoreAway, StoreBusy, UsageError
from nemflow.plain import to_json
from nemflow.service.auth import needs, still
from nemflow.service.problems import documented
from nemflow.service.queries import MOST, Given
from nemflow.store import Store

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events, without end.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
router = APIRouter(prefix="/v1", dependencies=[Depends(needs("read"))], tags=["questions"])
_LOOK_SECONDS = 0.5
_BEAT_SECONDS = 15.0
_COMMITS = 500


@router.get("/events", response_class=StreamingResponse, responses=_STREAM | documented())
async def events(
    request: Request,
    given: Given,
    since: Annotated[
        int | None, Query(ge=0, le=MOST, description="Behind this commit; default: from now on.")
    ] = None,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """Each commit: event published, undone or redone; id is the commit number."""
    place = since
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        place = int(last_event_id)
        if place > MOST:
            raise UsageError(
                "Last-Event-ID is no commit number.",
                hint="Send the id of the last event as it was.",
            )
    if place is None:
        place = await run_in_threadpool(given.store.seq_at)
    return StreamingResponse(
        _told(request, given.store, place),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _told(request: Request, store: Store, place: int) -> AsyncIterator[str]:
    """Events behind ``place`` until the reader leaves or may read no more, or the service stops."""
    yield f": behind commit {place}\nretry: 2000\n\n"
    said = time.monotonic()
    while not await request.is_disconnected() and not request.app.state.stopping.is_set():
        try:
            if not await still(request, "read"):
                yield ": your key or session is good no more\n\n"
                return
            rows = await run_in_threadpool(store.commits, place, limit=_COMMITS)
        except (StoreAway, StoreBusy):
            rows = None  # nothing is lost: the next look goes on from the same place
        if rows is not None and not rows.is_empty():
            yield _events(rows)
            place, said = int(rows["seq"][-1]), time.monotonic()
            continue
        if time.monotonic() - said > _BEAT_SECONDS:
            yield ": still here\n\n"
            said = time.monotonic()
        await asyncio.sleep(_LOOK_SECONDS)


def _events(rows: pl.DataFrame) -> str:
    """One event per commit, with its loads."""
    parts = []
    for (seq,), loads in rows.group_by("seq", maintain_order=True):
        first = loads.row(0, named=True)
        data = {
            "seq": seq,
            "at": first["at"],
            "event": first["event"],
            "loads": loads.select("load", "file", "delivery", "days", "reads").to_dicts(),
        }
        parts.append(f"id: {seq}\nevent: {first['event']}\ndata: {to_json(data)}\n\n")
    return "".join(parts)
