"""A delivery's timeline: what was done with it, when, and how that ended.

Why: "what happened to my file?" is answered by a list of short lines, also after five attempts.

Promises: a line is written in the transaction that does what it says; every attempt that fails has
one, however it fails.

Look next: ``work.py``, which writes most of them; docs/deliveries.md for the steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nemflow.store.tables import delivery_step


def step(
    conn: sa.Connection,
    number: int,
    name: str,
    *,
    attempt: int,
    began_at: datetime,
    ended_at: datetime,
    outcome: str = "ok",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write a line of the delivery's timeline: a step that is over.

    Args:
        conn: a writing connection.
        number: the delivery.
        name: receive, inspect, check, load, publish, settle, ...; short.
        attempt: in which attempt; 0: before the first.
        began_at: when it began.
        ended_at: when it ended.
        outcome: ``ok``, the state it led to, or the code of the error.
        detail: plain values.
    """
    conn.execute(
        sa.insert(delivery_step).values(
            delivery=number,
            step=name,
            attempt=attempt,
            began_at=began_at,
            ended_at=ended_at,
            outcome=outcome,
            detail=None if detail is None else json.dumps(detail, default=str),
        )
    )


def attempt_ended(conn: sa.Connection, row: Any, now: datetime, to: str, **detail: str) -> None:
    """Say on the timeline what an attempt that failed has led to: ``waiting_retry`` or ``dead``."""
    step(
        conn, row.id, "attempt", attempt=row.attempts, began_at=moment(row.state_at) or now,
        ended_at=now, outcome=to, detail=detail,
    )  # fmt: skip


def moment(value: Any) -> datetime | None:
    """An instant as the engine gives it; null is None."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    assert found is None or isinstance(found, datetime)  # noqa: S101 - for the type checker
    return found
