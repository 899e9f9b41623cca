"""Leases: who works on an open load, and what happens when they are gone.

Why: a process can be killed at any moment. What it left must not be seen, must not be published
by it later, and must not stay for ever.

Promises: only who holds the lease may append and publish; a load whose lease ran out, by the
store's own clock, or whose process is known to be gone, is cleared whole.

Look next: ``ledger.py``, which opens and publishes loads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from nemflow import failpoints
from nemflow.errors import StoreTaken
from nemflow.store import timeline
from nemflow.store.tables import (
    DAY_TABLES,
    LOAD_TABLES,
    MARKET_OFFSET,
    delivery,
    file,
    load,
    review_event,
)

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

LEASE = timedelta(minutes=2)  #: an open load that shows no progress for so long counts as dead
AT_ONCE = 500  #: values in one IN (...)


def holder_of(token: str | None) -> str:
    """Host and process of a lease token, as people are told; empty: nobody has it."""
    place, colon, rest = (token or "").partition(":")
    return place.partition("/")[0] + colon + rest.partition(":")[0]


class PiecesLost(StoreTaken):
    """A crash of the server took back pieces of an open load that it had not yet on disk."""


def hold(
    conn: sa.Connection, backend: Backend, load_id: int, token: str, since: datetime | None
) -> datetime:
    """Make sure a load is still open and ours, and renew the lease on all that is ours.

    Args:
        conn: a writing connection.
        backend: the engine, whose clock counts.
        load_id: the load.
        token: the lease token of its run.
        since: what the last ``hold`` of this load returned; None: this is the first.

    Returns:
        When the lease runs out.

    Raises:
        StoreTaken: somebody cleared it because it seemed dead.
        PiecesLost: it is ours, but its last piece is gone: the server crashed before the disk had
            it. The load may begin again.
    """
    until = backend.now(conn) + LEASE
    conn.execute(  # first, as everywhere: a delivery is locked before its loads
        sa.update(delivery).where(delivery.c.lease_token == token).values(lease_until=until)
    )
    ours = load.c.id == load_id, load.c.state == "open", load.c.lease_token == token
    as_left = () if since is None else (load.c.lease_until == since,)
    held = conn.execute(sa.update(load).where(*ours, *as_left).values(lease_until=until)).rowcount
    if held != 1:
        if conn.execute(sa.select(load.c.id).where(*ours)).first() is not None:
            raise PiecesLost(
                "The server crashed and lost the last piece of this load.",
                hint="Nothing of it is visible; load again.",
            )
        raise StoreTaken(
            "This load was taken for dead and cleared by another process.",
            hint="Nothing of it is visible; load again.",
        )
    return until


def leases(conn: sa.Connection, backend: Backend) -> dict[str, float]:
    """Who works on something, by lease token: seconds until it runs out, less than 0 after."""
    now = backend.now(conn)
    found: dict[str, float] = {}
    for table in (load, delivery):
        rows = conn.execute(
            sa.select(table.c.lease_token, sa.func.max(table.c.lease_until))
            .where(table.c.lease_token.is_not(None))
            .group_by(table.c.lease_token)
        )
        for token, until in rows:
            at = datetime.fromisoformat(until) if isinstance(until, str) else until
            left = (at - now).total_seconds()
            found[token] = max(left, found.get(token, left))
    return found


def renew(conn: sa.Connection, backend: Backend, token: str) -> None:
    """Renew the lease on the deliveries that a run still works on."""
    conn.execute(
        sa.update(delivery)
        .where(delivery.c.lease_token == token)
        .values(lease_until=backend.now(conn) + LEASE)
    )


def worked_on(conn: sa.Connection, token: str) -> list[tuple[int, int]]:
    """The deliveries of the service that a lease holds: number, and in which attempt."""
    rows = conn.execute(
        sa.select(delivery.c.id, delivery.c.attempts)
        .where(
            delivery.c.lease_token == token,
            delivery.c.kept == "spooled",
            delivery.c.parent.is_(None),
            delivery.c.state.in_(["inspecting", "loading"]),
        )
        .order_by(delivery.c.id)
    )
    return [(row.id, row.attempts) for row in rows]


def clear(conn: sa.Connection, token: str, *, why: str, state: str) -> tuple[list[int], int]:
    """Remove every row of the open loads under a lease, and close its deliveries.

    A delivery whose original lies in the spool is not closed: it is queued again, the attempt
    counted, and what that attempt had begun of its members is cancelled.

    Returns:
        The loads cleared, and how many deliveries were closed with ``state`` and ``why``.
    """
    held = delivery.c.lease_token == token
    conn.execute(sa.select(delivery.c.id).where(held).order_by(delivery.c.id).with_for_update())
    loads = clear_loads(conn, token)
    now = datetime.now(MARKET_OFFSET)
    free = {"lease_token": None, "lease_until": None}
    spooled = sa.and_(
        held,
        delivery.c.kept == "spooled",
        delivery.c.parent.is_(None),
        delivery.c.state.in_(["inspecting", "loading"]),
    )
    lost = conn.execute(
        sa.select(delivery.c.id, delivery.c.attempts, delivery.c.state_at).where(spooled)
    ).all()
    tops = [row.id for row in lost]
    mine = sa.and_(held, delivery.c.state == "loading")
    if tops:
        conn.execute(
            sa.update(delivery)
            .where(mine, delivery.c.parent.in_(tops))
            .values(state="cancelled", error=why, finished_at=now, **free)
        )
        conn.execute(
            sa.update(delivery)
            .where(spooled)
            .values(state="queued", state_at=now, sent_at=None, error=why, **free)
        )
    for row in lost:
        timeline.step(
            conn, row.id, "lost", attempt=row.attempts, ended_at=now, outcome="worker gone",
            began_at=timeline.moment(row.state_at) or now,
            detail={"holder": holder_of(token), "error": why},
        )  # fmt: skip
    left = conn.execute(
        sa.update(delivery).where(mine).values(state=state, error=why, finished_at=now, **free)
    ).rowcount
    return loads, left


def clear_loads(conn: sa.Connection, token: str) -> list[int]:
    """Remove every row of the open loads under a lease; they are dead. Returns them."""
    loads = list(
        conn.execute(
            sa.select(load.c.id)
            .where(load.c.state == "open", load.c.lease_token == token)
            .order_by(load.c.id)
            .with_for_update()
        ).scalars()
    )
    closed = {
        "lease_token": None,
        "lease_until": None,
        "finished_at": datetime.now(MARKET_OFFSET),
    }
    for some in batches(loads):
        for table in LOAD_TABLES:
            conn.execute(sa.delete(table).where(table.c.load.in_(some)))
            failpoints.reach("mid-clear")
        conn.execute(sa.update(load).where(load.c.id.in_(some)).values(state="dead", **closed))
        conn.execute(
            sa.update(file)
            .where(file.c.load.in_(some), file.c.state == "loading")
            .values(state="dead")
        )
    return loads


def withdraw(conn: sa.Connection, load_id: int, *, everything: bool = False) -> None:
    """Remove every day, register read and service event of an open load, and what they led to.

    ``everything``: its quarantine and findings too, so that it can begin again.
    """
    for table in LOAD_TABLES if everything else (*DAY_TABLES, review_event):
        conn.execute(sa.delete(table).where(table.c.load == load_id))


def forfeit(
    conn: sa.Connection, load_id: int, delivery_id: int | None, *, duplicate_of: int | None
) -> None:
    """Clear an open load whose file was published by another one first; it is a duplicate."""
    for table in LOAD_TABLES:
        conn.execute(sa.delete(table).where(table.c.load == load_id))
    closed = {
        "lease_token": None,
        "lease_until": None,
        "finished_at": datetime.now(MARKET_OFFSET),
    }
    conn.execute(sa.update(load).where(load.c.id == load_id).values(state="dead", **closed))
    conn.execute(
        sa.update(delivery)
        .where(delivery.c.id == delivery_id)
        .values(state="duplicate", duplicate_of=duplicate_of, **closed)
    )


def batches(ids: Collection[int]) -> Iterable[list[int]]:
    """Ids in order, so many at a time as one statement takes."""
    every = sorted(ids)
    for start in range(0, len(every), AT_ONCE):
        yield every[start : start + AT_ONCE]
