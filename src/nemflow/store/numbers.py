"""What metrics ask of the ledger: how many in which state, who was last heard of.

Why: a counter of a process begins at nothing with each start; what is dead, and since when a
sender is silent, must be right after any restart.

Promises: cheap enough to be asked every few seconds: states come from an index, the rest looks at
28 days of arrivals, one row per sender and hour.

Look next: ``dispatch.backlog`` for what waits; ``nemflow.service.watching``, which asks.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from nemflow.store.tables import delivery
from nemflow.store.timeline import moment

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

DAYS: Final = 28
_GOOD = ("loaded", "partly_loaded", "duplicate")


@dataclass(frozen=True, slots=True)
class Heard:
    """When somebody was last heard of."""

    name: str
    last: float  #: Unix time of the last delivery that was taken in
    gap: float  #: longest time between two hours with deliveries, seconds; 0: not known yet


def by_state(conn: sa.Connection) -> dict[str, int]:
    """How many deliveries that came through the service are in each state; members not."""
    columns = delivery.c
    rows = conn.execute(
        sa.select(columns.state, sa.func.count())
        .where(columns.kept.is_not(None), columns.parent.is_(None))
        .group_by(columns.state)
    )
    return {str(state): int(count) for state, count in rows}


def heard(conn: sa.Connection, backend: Backend, of: str, *, most: int = 100) -> list[Heard]:
    """Who was heard of in the last 28 days: those silent for longer than usual, then the latest.

    Args:
        conn: a connection.
        backend: the engine, whose clock counts.
        of: ``sender`` or ``channel``.
        most: at most so many.
    """
    columns = delivery.c
    by = columns[of]
    hour: sa.ColumnElement[Any] = sa.func.substr(columns.finished_at, 1, 13)
    if conn.dialect.name == "postgresql":
        hour = sa.func.date_trunc("hour", columns.finished_at)
    rows = conn.execute(
        sa.select(by, sa.func.max(columns.finished_at))
        .where(
            columns.kept.is_not(None),
            columns.parent.is_(None),
            columns.finished_at > backend.now(conn) - timedelta(days=DAYS),
            columns.state.in_(_GOOD),
            by.is_not(None),
        )
        .group_by(by, hour)
    )
    times: dict[str, list[float]] = defaultdict(list)
    for name, at in rows:
        when = moment(at)
        if when is not None:
            times[str(name)].append(when.timestamp())
    found = [
        Heard(name, max(each), max((b - a for a, b in pairwise(sorted(each))), default=0.0))
        for name, each in times.items()
    ]
    now = backend.now(conn).timestamp()

    def order(each: Heard) -> tuple[bool, float, str]:
        late = each.gap > 0 and now - each.last > each.gap
        return not late, -each.last, each.name

    return sorted(found, key=order)[:most]
