"""``/livez`` and ``/readyz``: is the process alive, and can it take work now.

Why: a load balancer must take away a process whose store is gone, and not kill it for that.

Promises: ``/livez`` depends on nothing; ``/readyz`` answers 503 and names each part that cannot
work; neither needs a key, waits for long, or tells anything about data.

Look next: ``nemflow doctor`` for people.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from nemflow._version import __version__
from nemflow.errors import NemflowError
from nemflow.service.context import Context

router = APIRouter(tags=["health"])
_STATUS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Every part can work."},
    503: {"description": "A part cannot work; the answer names it."},
}


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process is alive."""
    return {"status": "alive", "version": __version__}


@router.get("/readyz", responses=_STATUS)
def readyz(request: Request) -> JSONResponse:
    """Whether store, queue and spool can work."""
    context: Context = request.app.state.context
    checks = {"store": lambda: _store(context), **context.ready}
    parts = {}
    for name, check in checks.items():
        try:
            check()
            parts[name] = "ready"
        except NemflowError as error:
            parts[name] = error.code
    stopping = request.app.state.stopping.is_set()
    ready = all(said == "ready" for said in parts.values()) and not stopping
    status = "stopping" if stopping else "ready" if ready else "not ready"
    return JSONResponse({"status": status, "parts": parts}, 200 if ready else 503)


def _store(context: Context) -> None:
    context.store.seq_at()
