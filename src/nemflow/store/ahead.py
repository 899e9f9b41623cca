"""Deliveries that wait are held for a moment, to see what is in them before their turn comes.

Why: with ten thousand files waiting, people want to know whose days are among them.

Promises: only what was never attempted is taken, so what kills its worker is met alone from then
on; it is held like an attempt, by a token and a lease, and counted until it is let go.

Look next: ``nemflow.pipeline.ahead``, which looks; ``work.hand_back``, which lets go.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from nemflow.store.resumed import Row, row_of
from nemflow.store.tables import delivery
from nemflow.store.work import SPOOLED

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

_UNSEEN = (
    delivery.c.state == "received",
    delivery.c.inspected.is_(None),
    delivery.c.attempts == 0,
    delivery.c.parent.is_(None),
    delivery.c.kept == SPOOLED,
)


def any_unseen(conn: sa.Connection) -> bool:
    """Whether something waits that nobody has looked into."""
    return conn.execute(sa.select(delivery.c.id).where(*_UNSEEN).limit(1)).first() is not None


def take(
    conn: sa.Connection, backend: Backend, token: str, seconds: float, *, most: int
) -> list[Row]:
    """Hold the oldest deliveries that nobody has looked into, ``inspecting``, in order of arrival.

    Args:
        conn: a writing connection.
        backend: the engine, whose clock counts.
        token: new for every call, see ``pipeline.loading.new_token``.
        seconds: how long the lease is.
        most: so many at most; what another worker is taking is passed over.
    """
    question = sa.select(delivery.c.id).where(*_UNSEEN).order_by(delivery.c.id).limit(most)
    numbers = list(conn.execute(question.with_for_update(skip_locked=True)).scalars())
    if numbers:
        now = backend.now(conn)
        conn.execute(
            sa.update(delivery).where(delivery.c.id.in_(numbers)).values(
                state="inspecting", state_at=now, attempts=1, lease_token=token,
                lease_until=now + timedelta(seconds=seconds),
            )
        )  # fmt: skip
    return [row_of(conn, number) for number in numbers]
