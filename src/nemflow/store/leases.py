"""Leases: who works on an open load, and what happens when they are gone.

Why: a process can be killed at any moment. What it left must not be seen, must not be published
by it later, and must not stay for ever.

Promises: only who holds the lease may append and publish; a load whose lease ran out, or whose
process is known to be gone, is cleared whole.

Look next: ``ledger.py``, which opens and publishes loads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

import sqlalchemy as sa

from nemflow import failpoints
from nemflow.errors import StoreBusy
from nemflow.store.tables import DAY_TABLES, LOAD_TABLES, MARKET_OFFSET, delivery, file, load

LEASE = timedelta(minutes=2)  #: an open load that shows no progress for so long counts as dead
AT_ONCE = 500  #: values in one IN (...)


def hold(conn: sa.Connection, loads: Collection[int], token: str) -> None:
    """Make sure the loads are still open and ours, and renew the lease on all that is ours.

    Raises:
        StoreBusy: somebody took them away because they seemed dead.
    """
    held = 0
    now = datetime.now(MARKET_OFFSET)
    for some in batches(loads):
        held += conn.execute(
            sa.update(load)
            .where(load.c.id.in_(some), load.c.state == "open", load.c.lease_token == token)
            .values(lease_until=now + LEASE)
        ).rowcount
    if held != len(loads):
        raise StoreBusy(
            "This load was taken for dead and cleared by another process.",
            hint="Nothing of it is visible; load again.",
        )
    conn.execute(
        sa.update(delivery).where(delivery.c.lease_token == token).values(lease_until=now + LEASE)
    )


def leases(conn: sa.Connection) -> dict[str, float]:
    """Who works on something, by lease token: seconds until it runs out, less than 0 after."""
    now = datetime.now(MARKET_OFFSET)
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


def renew(conn: sa.Connection, token: str) -> None:
    """Renew the lease on the deliveries that a run still works on."""
    conn.execute(
        sa.update(delivery)
        .where(delivery.c.lease_token == token)
        .values(lease_until=datetime.now(MARKET_OFFSET) + LEASE)
    )


def clear(conn: sa.Connection, token: str, *, why: str, state: str) -> tuple[list[int], int]:
    """Remove every row of the open loads under a lease, and close its deliveries.

    Returns:
        The loads cleared, and how many deliveries were closed with ``state`` and ``why``.
    """
    now = datetime.now(MARKET_OFFSET)
    loads = list(
        conn.execute(
            sa.select(load.c.id).where(load.c.state == "open", load.c.lease_token == token)
        ).scalars()
    )
    closed = {"lease_token": None, "lease_until": None, "finished_at": now}
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
    mine = sa.and_(delivery.c.lease_token == token, delivery.c.state == "loading")
    left = conn.execute(
        sa.update(delivery).where(mine).values(state=state, error=why, **closed)
    ).rowcount
    return loads, left


def withdraw(conn: sa.Connection, load_id: int) -> None:
    """Remove every day, register read and service event of an open load."""
    for table in DAY_TABLES:
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
