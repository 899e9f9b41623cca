"""What is due, how much waits, and what people do about it: cancel, retry.

Why: a broker may forget everything; what must be worked on is found here again. One sender's ten
thousand files must not keep another's one waiting, and nothing may be taken in faster than it is
worked off for long.

Promises: whatever is not final and held by nobody is due sooner or later; of each sender and lane
only so many are told to the broker at a time; an act of a person is audited.

Look next: ``work.py`` for the worker's side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from nemflow.errors import NotFound, UsageError
from nemflow.events import SCENE, Scene, new_trace
from nemflow.store import timeline, work
from nemflow.store.leases import batches, holder_of
from nemflow.store.ledger import note
from nemflow.store.tables import delivery, delivery_step, idempotency

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

DRAIN_SECONDS: Final = 300.0  #: over so long the drain rate is taken
_SHORTEST = 10.0  #: and over so long at least
# Written out, not bound: an engine must see that its partial index covers it.
_SPOOLED = delivery.c.kept == sa.literal_column("'spooled'")
#: The original of such a delivery is of no more use.
_DONE_WITH = ("loaded", "duplicate")
#: Nobody is done with it.
OPEN = (*work.WAITING, *work.WORKING)
_NOT_DONE = (*OPEN, *(state for state in work.FINAL if state not in _DONE_WITH))
_RETRIED = ("dead", "rejected", "cancelled")


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that the broker is to be told of."""

    delivery: int
    lane: str
    sender: str | None


@dataclass(frozen=True, slots=True)
class Lane:
    """What waits in one lane."""

    files: int
    bytes: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What was accepted and is not done."""

    files: int  #: waiting or being worked on
    bytes: int
    working: int  #: of these, being worked on
    oldest_seconds: float  #: age of the oldest that waits; 0: none does
    lanes: Mapping[str, Lane]  #: those that wait or are worked on, by lane
    drained_per_second: float  #: files finished per second of late; 0: none
    bytes_per_second: float  #: bytes of them


def due_now(
    backend: Backend, *, limit: int = 1000, per_sender: int = 10, resend_after: float = 30.0
) -> list[Due]:
    """What the broker must be told of now; it counts as told from here on.

    That is what waits, and what a worker held whose lease ran out. Of each sender and lane at most
    ``per_sender`` are with the broker; who has few comes before who has many. What was told and not
    claimed is told again after ``resend_after`` seconds.

    With many waiting, finding out takes a while (measured: 0.15 s for 100,000), so it is done as a
    reader; only what is found is written, in a short transaction.

    Args:
        backend: the engine, whose clock counts; not within a transaction.
        limit: at most so many.
        per_sender: so many of each sender and lane.
        resend_after: in seconds.
    """
    places = backend.look(
        lambda conn: _next(
            conn, backend, limit=limit, per_sender=per_sender, resend_after=resend_after
        )
    )
    if not places:
        return []
    return backend.transact(lambda conn: _tell(conn, backend, places, resend_after))


def _next(
    conn: sa.Connection, backend: Backend, *, limit: int, per_sender: int, resend_after: float
) -> dict[int, int]:
    """Deliveries to be told of, and which place each has among those of its sender and lane."""
    now, columns = backend.now(conn), delivery.c
    told_first = sa.case((columns.sent_at.is_(None), 1), else_=0)
    place = sa.func.row_number().over(
        partition_by=(sa.func.coalesce(columns.sender, columns.api_key, ""), columns.lane),
        order_by=(told_first, columns.id),
    )
    waits = (
        sa.select(columns.id, columns.sent_at, place.label("place")).where(*_free(now)).subquery()
    )
    cutoff = now - timedelta(seconds=resend_after)
    rows = conn.execute(
        sa.select(waits.c.id, waits.c.place)
        .where(
            waits.c.place <= per_sender,
            sa.or_(waits.c.sent_at.is_(None), waits.c.sent_at < cutoff),
        )
        .order_by(waits.c.place, waits.c.id)
        .limit(limit)
    )
    return {row.id: row.place for row in rows}


def _tell(
    conn: sa.Connection, backend: Backend, places: Mapping[int, int], resend_after: float
) -> list[Due]:
    """Mark them as told; another dispatcher may be at it, so each is for one of us."""
    now, columns = backend.now(conn), delivery.c
    cutoff = now - timedelta(seconds=resend_after)
    untold = sa.or_(columns.sent_at.is_(None), columns.sent_at < cutoff)
    found: list[Due] = []
    for some in batches(places):
        rows = conn.execute(
            sa.select(columns.id, columns.lane, columns.sender)
            .where(columns.id.in_(some), untold, *_free(now))
            .order_by(columns.id)
            .with_for_update(skip_locked=True)
        ).all()
        found += [Due(row.id, row.lane, row.sender) for row in rows]
        mine = [row.id for row in rows]
        conn.execute(sa.update(delivery).where(columns.id.in_(mine)).values(sent_at=now))
    return sorted(found, key=lambda each: (places[each.delivery], each.delivery))


def backlog(conn: sa.Connection, backend: Backend, *, over: float = DRAIN_SECONDS) -> Backlog:
    """What was accepted and is not done, and how fast it becomes less.

    ``over``: the rates are those of the last so many seconds, or less when work began later.
    """
    now = backend.now(conn)
    columns = delivery.c
    waits = sa.case((columns.state.in_(work.WAITING), 1), else_=0)
    since = sa.case((columns.state.in_(work.WAITING), columns.received_at), else_=None)
    rows = conn.execute(
        sa.select(
            columns.lane,
            sa.func.count().label("files"),
            sa.func.coalesce(sa.func.sum(columns.size), 0).label("bytes"),
            sa.func.sum(waits).label("waiting"),
            sa.func.min(since).label("oldest"),
        )
        .where(_SPOOLED, columns.parent.is_(None), columns.state.in_(work.WAITING + work.WORKING))
        .group_by(columns.lane)
    ).all()
    lanes = {row.lane: Lane(row.files, int(row.bytes), _age(row.oldest, now)) for row in rows}
    done = conn.execute(
        sa.select(
            sa.func.count().label("files"),
            sa.func.coalesce(sa.func.sum(columns.size), 0).label("bytes"),
            sa.func.min(columns.finished_at).label("first"),
        ).where(
            columns.kept.is_not(None),
            columns.parent.is_(None),
            columns.finished_at > now - timedelta(seconds=over),
        )
    ).one()
    span = min(over, max(_SHORTEST, _age(done.first, now)))
    return Backlog(
        files=sum(lane.files for lane in lanes.values()),
        bytes=sum(lane.bytes for lane in lanes.values()),
        working=sum(row.files - int(row.waiting) for row in rows),
        oldest_seconds=max((lane.oldest_seconds for lane in lanes.values()), default=0.0),
        lanes=lanes,
        drained_per_second=done.files / span,
        bytes_per_second=int(done.bytes) / span,
    )


# -- what goes wrong, and what is left over ---------------------------------------------------


def wedged(conn: sa.Connection, backend: Backend, seconds: float) -> list[int]:
    """Deliveries that are held, and in one state for longer than this, whatever their lease."""
    columns = delivery.c
    late = backend.now(conn) - timedelta(seconds=seconds)
    question = sa.select(columns.id).where(
        _SPOOLED, columns.parent.is_(None), columns.state.in_(work.WORKING), columns.state_at < late
    )
    return list(conn.execute(question.order_by(columns.id)).scalars())


def take_away(conn: sa.Connection, backend: Backend, number: int, why: str) -> bool:
    """Take a held delivery from its worker and queue it again; False: nobody holds it.

    The attempt stays counted. Whatever that worker does for it from now on is refused.
    """
    row = work.locked(conn, number)
    if row is None or row.state not in work.WORKING:
        return False
    now = backend.now(conn)
    work.take_away(conn, row, why)
    work.put(conn, number, state="queued", now=now, error=why)
    timeline.step(
        conn, number, "taken away", attempt=row.attempts, began_at=now, ended_at=now,
        outcome="queued", detail={"why": why, "holder": holder_of(row.lease_token)},
    )  # fmt: skip
    return True


def leftovers(conn: sa.Connection, limit: int = 1000) -> list[tuple[int, str]]:
    """Deliveries that are done, and whose original lies in the spool still: number and SHA-256.

    A worker was killed between the publishing and the settling.
    """
    columns = delivery.c
    rows = conn.execute(
        sa.select(columns.id, columns.sha256)
        .where(_SPOOLED, columns.parent.is_(None), columns.state.in_(_DONE_WITH))
        .where(columns.lease_token.is_(None))
        .order_by(columns.id)
        .limit(limit)
    )
    return [(row.id, row.sha256) for row in rows]


def still_needed(
    conn: sa.Connection, sha256: str, *, besides: int, by: Sequence[str] = _NOT_DONE
) -> bool:
    """Whether another delivery of the same bytes, in one of these states, needs the original."""
    columns = delivery.c
    question = sa.select(columns.id).where(
        columns.sha256 == sha256,
        _SPOOLED,
        columns.parent.is_(None),
        columns.id != besides,
        columns.state.in_(by),
    )
    return conn.execute(question.limit(1)).first() is not None


def expire(
    conn: sa.Connection, backend: Backend, *, details: timedelta, keys: timedelta, limit: int = 5000
) -> int:
    """Remove details that nobody asks for any more; returns how many rows.

    Args:
        conn: a writing connection.
        backend: the engine, whose clock counts.
        details: the timeline of what was taken in whole longer ago than this.
        keys: idempotency keys older than this.
        limit: at most so many deliveries at a time.
    """
    now, columns = backend.now(conn), delivery.c
    gone = conn.execute(sa.delete(idempotency).where(idempotency.c.at < now - keys)).rowcount
    timelines = sa.select(delivery_step.c.delivery).where(delivery_step.c.delivery == columns.id)
    old = conn.execute(
        sa.select(columns.id)
        .where(
            columns.kept.is_not(None),
            columns.finished_at < now - details,
            columns.state.in_(_DONE_WITH),
            timelines.exists(),
        )
        .order_by(columns.id)
        .limit(limit)
    ).scalars()
    for some in batches(list(old)):
        told = sa.delete(delivery_step).where(delivery_step.c.delivery.in_(some))
        gone += conn.execute(told).rowcount
        conn.execute(sa.update(delivery).where(columns.id.in_(some)).values(progress=None))
    return gone


# -- acts of people ---------------------------------------------------------------------------


def cancel(
    conn: sa.Connection, backend: Backend, numbers: Sequence[int], who: str | None
) -> sa.Select[Any]:
    """Stop deliveries that are not done; a worker that has one learns of it and stops.

    Returns:
        A question that has an answer when, and only when, this act was saved.

    Raises:
        NotFound: there is no such delivery.
        UsageError: one of them is done, or came by ``nemflow load``; then none is cancelled.
    """
    now = backend.now(conn)
    for number in sorted(set(numbers)):
        row = _must_be(conn, number)
        if row.state not in work.WAITING + work.WORKING:
            raise UsageError(
                f"Delivery {number} is {_said(row.state)} already.",
                hint=f"To take back what it brought: nemflow undo {number}",
            )
        why = "Cancelled" + (f" by {who}." if who else ".")
        work.take_away(conn, row, why)
        work.put(
            conn, number, state="cancelled", now=now, error=why, finished_at=now, next_try_at=None
        )
        _act(conn, "cancel", row, now=now, who=who)
    return _noted(conn, backend, "cancel", numbers, who)


def retry(
    conn: sa.Connection,
    backend: Backend,
    numbers: Sequence[int],
    who: str | None,
    profile: str | None = None,
) -> sa.Select[Any]:
    """Queue dead, rejected or cancelled deliveries again, with all their attempts.

    ``profile``: the rule profile to read them under from now on; None: as before.

    What is done from here on is a trace of its own, that of the request we are in if there is one.

    Returns:
        A question that has an answer when, and only when, this act was saved.

    Raises:
        NotFound: there is no such delivery.
        UsageError: one of them is in another state, or its original is not there any more; then
            none is queued.
    """
    now, scene = backend.now(conn), SCENE.get() or Scene()
    for number in sorted(set(numbers)):
        row = _must_be(conn, number)
        if row.state not in _RETRIED:
            raise UsageError(
                f"Delivery {number} is {_said(row.state)}; only what is dead, rejected or "
                "cancelled is tried again.",
                hint=f"See its way: nemflow delivery {number}",
            )
        if row.kept != work.SPOOLED:
            raise UsageError(
                f"The original of delivery {number} is {row.kept}.", hint="Deliver it again."
            )
        work.put(
            conn, number, state="queued", now=now, attempts=0, next_try_at=None, finished_at=None,
            error=None, trace=str(new_trace(scene.trace)), request=scene.request,
            profile=profile or row.profile,
        )  # fmt: skip
        _act(conn, "retry", row, now=now, who=who, profile=profile)
    return _noted(conn, backend, "retry", numbers, who, profile=profile)


def _must_be(conn: sa.Connection, number: int) -> Any:
    """The locked row of a delivery that came through the service."""
    row = work.locked(conn, number)
    if row is None:
        raise NotFound(f"There is no delivery {number}.", hint="List them with: nemflow deliveries")
    if row.parent is not None:
        raise UsageError(
            f"Delivery {number} came inside delivery {row.parent}.", hint=f"Name {row.parent}."
        )
    if row.kept is None:
        raise UsageError(
            f"Delivery {number} did not come through the service; nobody has kept its original.",
            hint="Load it again: nemflow load PATH",
        )
    return row


def _act(
    conn: sa.Connection,
    name: str,
    row: Any,
    *,
    now: datetime,
    who: str | None,
    profile: str | None = None,
) -> None:
    said = {} if profile is None else {"profile": profile}
    timeline.step(
        conn, row.id, name, attempt=row.attempts, began_at=now, ended_at=now,
        outcome="ok", detail={"was": row.state, "who": who, **said},
    )  # fmt: skip


def _noted(
    conn: sa.Connection,
    backend: Backend,
    act: str,
    numbers: Sequence[int],
    who: str | None,
    *,
    profile: str | None = None,
) -> sa.Select[Any]:
    every = sorted(set(numbers))
    told = every if profile is None else {"deliveries": every, "profile": profile}
    named = f"delivery {every[0]}" if len(every) == 1 else f"{len(every)} deliveries"
    return note(conn, backend, act=act, target=named, who=who, detail=json.dumps(told))


def _said(state: str) -> str:
    return state.replace("_", " ")


def _free(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """As ``work`` sees it: nobody holds it, and its time has come."""
    columns = delivery.c
    ran_out = sa.or_(columns.lease_until.is_(None), columns.lease_until < now)
    waited = sa.or_(columns.next_try_at.is_(None), columns.next_try_at <= now)
    return (
        _SPOOLED,
        columns.parent.is_(None),
        columns.state.in_(work.WAITING + work.WORKING),
        sa.or_(
            columns.state.in_(("received", "queued")),
            sa.and_(columns.state == "waiting_retry", waited),
            sa.and_(columns.state.in_(work.WORKING), ran_out),
        ),
    )


def _age(at: Any, now: datetime) -> float:
    """Seconds since a moment as the engine has it; 0: none."""
    moment = timeline.moment(at)
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())
