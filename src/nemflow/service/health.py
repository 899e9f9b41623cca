"""``/livez``, ``/readyz`` and ``/metrics``: alive, able to take work, and how much waits.

Why: a load balancer must take away a process whose store is gone, and not kill it for that.

Promises: ``/livez`` depends on nothing; ``/readyz`` answers 503 and names each part that cannot
work; neither needs a key, waits for long, or tells anything about data, and what is known to be
away is not asked again and again. ``/metrics``, in
Prometheus' text format, needs the scope read; see ``watching.py`` for what is asked.

Look next: ``nemflow doctor`` for people.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from nemflow._version import __version__
from nemflow.errors import BrokerAway, NemflowError, SpoolFault, StoreAway
from nemflow.intake.spool import LANDING, Spool
from nemflow.service.auth import needs
from nemflow.service.context import Context
from nemflow.service.problems import documented

router = APIRouter(tags=["health"])
measured = APIRouter(tags=["health"])  #: apart, because it can be switched off
#: What a part is said to be while its breaker is open.
_AWAY = {"store": StoreAway, "queue": BrokerAway}
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
    parts = checked(request.app.state.context)
    stopping = request.app.state.stopping.is_set()
    ready = all(said == "ready" for said in parts.values()) and not stopping
    status = "stopping" if stopping else "ready" if ready else "not ready"
    return JSONResponse({"status": status, "parts": parts}, 200 if ready else 503)


def checked(context: Context) -> dict[str, str]:
    """Each part with ``ready``, or the code of what keeps it from working."""
    found = standing(context).items()
    return {name: "ready" if error is None else error.code for name, error in found}


def standing(context: Context) -> dict[str, NemflowError | None]:
    """Each part (store, queue, spool ...) and why it cannot work now; None: it can."""
    checks: dict[str, Callable[[], object]] = {
        "store": lambda: _answers(context),
        **context.ready,
    }
    parts: dict[str, NemflowError | None] = {}
    for name, check in checks.items():
        breaker = context.breakers.get(name)
        if breaker is not None and breaker.refuses():
            parts[name] = _AWAY[name]("It does not answer; it is left alone for a while.")
            continue
        try:
            with nullcontext() if breaker is None else breaker.guarding():
                check()
            parts[name] = None
        except NemflowError as error:
            parts[name] = error
    return parts


@measured.get(
    "/metrics",
    response_class=PlainTextResponse,
    dependencies=[Depends(needs("read"))],
    responses=documented(),
)
def metrics(request: Request) -> PlainTextResponse:
    """What waits, what happened, how long it took, what lies in the spool, what is away."""
    context: Context = request.app.state.context
    return PlainTextResponse(context.metrics.text())


def check_spool(spool: Spool) -> None:
    """See that it can be read and written, and has room; a share may be gone.

    Raises:
        SpoolFull: there is no room.
        SpoolFault: it is not there, or may not be used.
    """
    landing = spool.root / LANDING
    if not os.access(landing, os.R_OK | os.W_OK | os.X_OK):
        raise SpoolFault(
            f"{landing} is not there, or may not be used.",
            hint="Is the spool's disk mounted? What was accepted waits there.",
        )
    spool.check_room(0)


def _answers(context: Context) -> None:
    context.store.seq_at()


def counters(context: Context) -> list[tuple[str, str, str, list[tuple[str, float]]]]:
    """What this process knows without asking the store, for /metrics.

    Each is its name, its type (gauge or counter), what it means, and its values by label.
    """
    told: list[tuple[str, str, str, list[tuple[str, float]]]] = [
        (
            "breaker_open",
            "gauge",
            "1: the part is away, and is left alone for a while.",
            [(f'{{part="{name}"}}', float(each.open)) for name, each in context.breakers.items()],
        )
    ]
    if context.rate is not None:
        told += [
            (
                "rate_refused_total",
                "counter",
                "Requests refused because their key asked too often.",
                [("", context.rate.refused)],
            ),
            (
                "rate_uncounted_total",
                "counter",
                "Requests let through because Redis did not count them.",
                [("", context.rate.uncounted)],
            ),
        ]
    if context.side is not None:
        told += [
            (
                "redis_failures_total",
                "counter",
                "Times Redis did not answer, beside the queue.",
                [("", context.side.failures)],
            ),
            (
                "lookups_recalled_total",
                "counter",
                "Questions about an NMI that Redis answered.",
                [("", context.recalled)],
            ),
        ]
    return told
