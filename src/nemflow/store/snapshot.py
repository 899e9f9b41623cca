"""A look at everything that goes on now: lanes, who works on what, rates, failures, problems.

Why: ``nemflow top`` asks this every second, and so may many.

Promises: a few indexed questions whatever the size of the store; ages and leases by the store's
own clock; plain values, ready for JSON.

Look next: ``Store.snapshot``; ``nemflow.cli.top``.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from nemflow.store import dispatch, leases, outcomes, problems, timeline, work
from nemflow.store.tables import delivery, outcome

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

RATE_SECONDS: Final = 60.0
FAILED: Final = ("rejected", "partly_loaded", "dead")
_BACK: Final = 5_000  #: among so many outcomes failures are looked for
_WORKING: Final = 100  #: so many deliveries in hand are listed


def taken(conn: sa.Connection, backend: Backend, failures: int) -> dict[str, Any]:
    """See ``Store.snapshot``."""
    now = backend.now(conn)
    waiting = dispatch.backlog(conn, backend)
    last = outcomes.last(conn)
    found = problems.listed(conn, backend, open_only=True, sender=None, limit=failures, before=None)
    failed = outcomes.newest(conn, backend, failures, states=FAILED, behind=last - _BACK)
    return {
        "at": now.isoformat(),
        "outcome": last,
        "rates": _rates(conn, now, last),
        "waiting": waiting.files - waiting.working,
        "working": waiting.working,
        "retrying": _retrying(conn),
        "bytes": waiting.bytes,
        "lanes": [
            {
                "lane": name, "files": lane.files, "bytes": lane.bytes,
                "oldest_seconds": round(lane.oldest_seconds, 1),
            }
            for name, lane in sorted(waiting.lanes.items(), key=_rank)
        ],
        "workers": _workers(conn, now),
        "failures": failed.reverse().to_dicts(),
        "problems": found.to_dicts(),
        "open_problems": problems.counted(conn),
    }  # fmt: skip


def _rank(item: tuple[str, Any]) -> int:
    order = ("urgent", "normal", "bulk")
    return order.index(item[0]) if item[0] in order else len(order)


def _rates(conn: sa.Connection, now: datetime, last: int) -> dict[str, float]:
    """What was done in the last minute; sums, so that a caller may divide as it likes."""
    columns = outcome.c
    first = _first_after(conn, now - timedelta(seconds=RATE_SECONDS), last)
    failed = sa.case((columns.state.in_(FAILED), 1), else_=0)
    row = conn.execute(
        sa.select(
            sa.func.count().label("files"),
            sa.func.coalesce(sa.func.sum(failed), 0).label("failed"),
            sa.func.coalesce(sa.func.sum(columns.days_read), 0).label("days"),
            sa.func.coalesce(sa.func.sum(delivery.c.size), 0).label("bytes"),
        )
        .join(delivery, delivery.c.id == columns.delivery)
        .where(columns.seq >= first)
    ).one()
    return {"seconds": RATE_SECONDS, **{name: int(row._mapping[name]) for name in row._fields}}


def _first_after(conn: sa.Connection, since: datetime, last: int) -> int:
    """The first outcome written after a moment, by halving: numbers and times grow together."""
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        at = timeline.moment(
            conn.execute(sa.select(outcome.c.told_at).where(outcome.c.seq == middle)).scalar()
        )
        if at is not None and at <= since:
            low = middle + 1
        else:
            high = middle
    return low


def _retrying(conn: sa.Connection) -> int:
    waits = delivery.c.state == "waiting_retry", delivery.c.parent.is_(None)
    return int(conn.execute(sa.select(sa.func.count()).where(*waits)).scalar_one())


def _workers(conn: sa.Connection, now: datetime) -> list[dict[str, Any]]:
    """What is in hand, the longest first."""
    columns = delivery.c
    rows = conn.execute(
        sa.select(
            columns.id, columns.name, columns.sender, columns.lane, columns.state, columns.size,
            columns.attempts, columns.progress, columns.lease_token, columns.lease_until,
            sa.func.coalesce(columns.state_at, columns.received_at).label("since"),
        )
        .where(columns.state.in_(work.WORKING), columns.parent.is_(None))
        .order_by(columns.id)
        .limit(_WORKING)
    )  # fmt: skip
    found = []
    for row in rows:
        said = json.loads(row.progress) if row.progress else {}
        until, since = timeline.moment(row.lease_until), timeline.moment(row.since)
        found.append(
            {
                "worker": leases.holder_of(row.lease_token),
                "delivery": row.id,
                "name": row.name,
                "sender": row.sender,
                "lane": row.lane,
                "state": row.state,
                "attempt": row.attempts,
                "size": row.size,
                "percent": said.get("percent"),
                "days": said.get("days"),
                "seconds": None if since is None else round((now - since).total_seconds(), 1),
                "lease_seconds": None if until is None else round((until - now).total_seconds(), 1),
            }
        )
    return sorted(found, key=lambda each: -(each["seconds"] or 0))
