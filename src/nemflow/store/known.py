"""A moment as a commit number, for ever.

Why: "as known on 14:30" must be the same tomorrow. A commit gets its time a moment before it can
be seen; whoever asks about that very moment could miss it now and meet it later. (Deciding by a
transaction's ``now()`` is worse: it is the time of its beginning. A test shows both.)

Promises: the number given for a moment is final. A moment up to the last visible commit is
settled, because times rise with numbers and visible numbers have no gap. For a later one the
clock is moved on to it, in a transaction of an instant: that waits for whoever has drawn a number
and not yet committed, and gives everybody after it a later time. (To lock the row is not enough: a
waiting UPDATE has read the time already, and reads it again only when the row was changed.) A
moment that is not over has no final answer and is refused.

Look next: ``ledger.record``, which draws the number; ``days.visible``, which uses it.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from nemflow.errors import UsageError
from nemflow.store.tables import MARKET_OFFSET, clock, load_event

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

#: How far the caller's clock may be ahead of the store's before its "now" counts as the future.
PATIENCE = timedelta(seconds=2)


def last_seq(conn: sa.Connection) -> int:
    """The number of the last commit this connection sees."""
    return int(conn.execute(sa.select(clock.c.seq)).scalar_one())


def mark(conn: sa.Connection) -> str:
    """A text for the last commit: never the same for two, also of two stores."""
    last = sa.select(clock.c.seq).scalar_subquery()
    rows = conn.execute(
        sa.select(load_event.c.seq, load_event.c.at, load_event.c.load, load_event.c.kind)
        .where(load_event.c.seq == last)
        .order_by(load_event.c.load)
        .limit(1)
    ).first()
    return "" if rows is None else " ".join(str(each) for each in rows)


def seq_of(backend: Backend, when: datetime | int) -> int:
    """The commit number that a moment or number means, for ever.

    Args:
        backend: the engine.
        when: a moment (naive: market time), or a commit number, which is checked.

    Raises:
        UsageError: the moment is not over, or there is no such commit yet.
    """
    if isinstance(when, datetime):
        return _seq_at(backend, when)
    with backend.reading() as conn:
        newest = last_seq(conn)
    if not 0 <= when <= newest:
        raise UsageError(
            f"There is no commit {when} yet; the last one is {newest}.",
            hint="Give a number up to that, or a time.",
        )
    return when


def _seq_at(backend: Backend, when: datetime) -> int:
    when = when if when.tzinfo is not None else when.replace(tzinfo=MARKET_OFFSET)
    with backend.reading() as conn:
        if when <= _instant(conn.execute(sa.select(clock.c.at)).scalar_one()):
            return _newest(conn, when)
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while True:
        with backend.writing(durable=False) as conn:
            if when < backend.now(conn):
                conn.execute(sa.update(clock).where(clock.c.at < when).values(at=when))
                return _newest(conn, when)
        if time.monotonic() > deadline or when > datetime.now(MARKET_OFFSET) + PATIENCE:
            raise UsageError(
                f"{when.isoformat()} is not over yet, so what is known on it may still change.",
                hint="Ask without it for what is known now.",
            )
        time.sleep(0.05)


def _newest(conn: sa.Connection, when: datetime) -> int:
    """The last commit at or before ``when``."""
    found = conn.execute(
        sa.select(sa.func.max(load_event.c.seq)).where(load_event.c.at <= when)
    ).scalar()
    return int(found or 0)


def _instant(value: datetime | str) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)
