"""``/livez``, ``/readyz`` and ``/metrics``: alive, able to take work, and how much waits.

Why: a load balancer must take away a process whose store is gone, and not kill it for that.

Promises: ``/livez`` depends on nothing; ``/readyz`` answers 503 and names each part that cannot
work; neither needs a key, waits for long, or tells anything about data. ``/metrics``, in
Prometheus' text format, needs the scope read; its numbers come from the ledger, so every process
tells the same.

Look next: ``nemflow doctor`` for people.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from nemflow._version import __version__
from nemflow.errors import NemflowError
from nemflow.service.auth import needs
from nemflow.service.context import Context
from nemflow.service.problems import documented

router = APIRouter(tags=["health"])
measured = APIRouter(tags=["health"])  #: apart, because it can be switched off
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


@measured.get(
    "/metrics",
    response_class=PlainTextResponse,
    dependencies=[Depends(needs("read"))],
    responses=documented(),
)
def metrics(request: Request) -> PlainTextResponse:
    """What waits, how long, how fast it becomes less, and what lies in the spool."""
    context: Context = request.app.state.context
    waiting = context.store.backlog()
    told: list[tuple[str, str, list[tuple[str, float]]]] = [
        (
            "backlog_files",
            "Deliveries accepted and not done, by lane.",
            [(f'{{lane="{lane}"}}', each.files) for lane, each in waiting.lanes.items()],
        ),
        (
            "backlog_bytes",
            "Their bytes, by lane.",
            [(f'{{lane="{lane}"}}', each.bytes) for lane, each in waiting.lanes.items()],
        ),
        ("backlog_working", "Of these, being worked on.", [("", waiting.working)]),
        ("backlog_oldest_seconds", "Age of the oldest that waits.", [("", waiting.oldest_seconds)]),
        ("drained_per_second", "Deliveries done per second.", [("", waiting.drained_per_second)]),
    ]
    if context.intake is not None:
        used = context.intake.spool.usage(max_age=10)
        told += [
            ("spool_files", "Originals in the spool.", [("", used.files)]),
            ("spool_bytes", "Their bytes.", [("", used.bytes)]),
            ("spool_free_bytes", "Free bytes of its disk.", [("", used.free_bytes)]),
        ]
    lines = []
    for name, help_text, values in told:
        lines += [f"# HELP nemflow_{name} {help_text}", f"# TYPE nemflow_{name} gauge"]
        lines += [f"nemflow_{name}{labels} {value}" for labels, value in values]
    return PlainTextResponse("\n".join(lines) + "\n")


def _store(context: Context) -> None:
    context.store.seq_at()
