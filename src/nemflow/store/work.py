"""A delivery as work: how it is received, claimed, kept alive, settled.

Why: the ledger decides who works on what; a broker's message only says "look at delivery 7".

Promises: one worker at a time holds a delivery, by a token and a lease that runs out by the store's
own clock; an attempt is counted before its work begins; who has lost the lease can settle nothing;
a delivery whose attempts are used up is dead. Everything here may be done twice, as after a COMMIT
whose answer was lost: a second time with the same token changes nothing.

Conventions: functions that write want a connection of ``Backend.transact`` or ``writing``. A row of
``delivery`` is locked before loads and files are. The delivery itself is claimed, not its members,
which are closed with the attempt that made them.

Look next: ``dispatch.py`` for what is due and for acts of people; ``leases.py`` for open loads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from nemflow.errors import StoreTaken
from nemflow.store import leases, timeline
from nemflow.store.tables import MARKET_OFFSET, delivery

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

WAITING: Final = ("received", "queued", "waiting_retry")  #: nobody has it
WORKING: Final = ("inspecting", "loading")  #: somebody holds it
#: Where a delivery's way ends.
FINAL: Final = (
    "loaded", "partly_loaded", "duplicate", "rejected", "dead", "cancelled", "undone",
)  # fmt: skip
SPOOLED: Final = "spooled"  #: its original lies in the spool
ARCHIVED: Final = "archived"  #: its original lies in the archive
MAX_ATTEMPTS: Final = 5
POISON: Final = "Q-POISON"  #: code of a delivery whose attempts are used up
AUTO: Final = "auto"  #: the rule profile is chosen by what the delivery is


@dataclass(frozen=True, slots=True)
class Arrival:
    """What has arrived, its bytes safe in the spool."""

    name: str  #: as the sender calls it
    channel: str  #: http, folder, batch
    sha256: str  #: of the bytes as delivered
    size: int  #: bytes
    sender: str | None = None
    api_key: str | None = None  #: name of the key
    profile: str | None = None  #: rule profile; None: by what it is
    lane: str = "normal"  #: urgent, normal, bulk
    dry_run: bool = False
    received_at: datetime = field(default_factory=lambda: datetime.now(MARKET_OFFSET))
    trace: str | None = None  #: W3C traceparent of what brought it
    request: str | None = None  #: X-Request-ID of the request that brought it


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed delivery: what a worker must know."""

    delivery: int
    name: str
    channel: str
    sender: str | None
    api_key: str | None
    profile: str | None  #: None: by what it is
    sha256: str  #: of the original; its place in the spool
    size: int
    lane: str
    dry_run: bool
    attempt: int  #: 1: the first
    inspected: Mapping[str, Any] | None  #: what an earlier attempt found out
    received_at: datetime
    trace: str | None = None  #: as of its arrival, or of the last retry
    request: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of an attempt to claim a delivery."""

    work: Work | None  #: what is to be done; None: nothing
    lost: int | None = None  #: the attempt whose lease had run out
    dead: Work | None = None  #: its attempts are used up: it is dead from here on


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier delivery of the same bytes whose load stands."""

    delivery: int
    state: str
    name: str


# -- it arrives -------------------------------------------------------------------------------


def receive(conn: sa.Connection, backend: Backend, arrival: Arrival) -> int:
    """Write the row of what has arrived, ``received``; returns its number.

    A COMMIT without an answer is found out with ``arrived``.
    """
    number = backend.reserve(conn, delivery, 1)
    conn.execute(
        sa.insert(delivery).values(
            id=number,
            name=arrival.name,
            channel=arrival.channel,
            sender=arrival.sender,
            api_key=arrival.api_key,
            profile=arrival.profile or AUTO,
            sha256=arrival.sha256,
            size=arrival.size,
            state="received",
            lane=arrival.lane,
            attempts=0,
            received_at=arrival.received_at,
            kept=SPOOLED,
            dry_run=arrival.dry_run,
            trace=arrival.trace,
            request=arrival.request,
            state_at=backend.now(conn),
        )
    )
    return number


def arrived(number: int, arrival: Arrival) -> sa.Select[Any]:
    """A question that has an answer when, and only when, ``receive`` gave this number and saved."""
    columns = delivery.c
    return sa.select(columns.id).where(
        columns.id == number,
        columns.sha256 == arrival.sha256,
        columns.name == arrival.name,
        columns.received_at == arrival.received_at,
    )


def known_raw(conn: sa.Connection, sha256: str) -> Earlier | None:
    """The newest delivery of these very bytes that was taken in and stands; None: none."""
    columns = delivery.c
    row = conn.execute(
        sa.select(columns.id, columns.state, columns.name)
        .where(
            columns.sha256 == sha256,
            columns.parent.is_(None),
            columns.dry_run == sa.false(),
            columns.state.in_(["loaded", "partly_loaded"]),
        )
        .order_by(columns.id.desc())
        .limit(1)
    ).first()
    return None if row is None else Earlier(row.id, row.state, row.name)


# -- it is worked on --------------------------------------------------------------------------


def claim(
    conn: sa.Connection,
    backend: Backend,
    number: int,
    token: str,
    seconds: float,
    *,
    max_attempts: int = MAX_ATTEMPTS,
) -> Work | None:
    """Take a delivery, when it is there to be taken; the first thing a worker does.

    Args:
        conn: a writing connection.
        backend: the engine, whose clock counts.
        number: the delivery.
        token: new for every attempt, see ``pipeline.loading.new_token``.
        seconds: how long the lease is.
        max_attempts: so many attempts may begin; at the next one the delivery is dead.

    Returns:
        What is to be done; None: nothing, it is not known, done, held, not due or dead. What an
        earlier attempt left open is cleared.
    """
    return take(conn, backend, number, token, seconds, most=max_attempts).work


def take(
    conn: sa.Connection, backend: Backend, number: int, token: str, seconds: float, *, most: int
) -> Taken:
    """``claim``, which says what it found on the way."""
    row = locked(conn, number)
    if row is None:
        return Taken(None)
    now = backend.now(conn)
    if row.lease_token == token and row.state in WORKING:
        return Taken(_work(row, row.attempts))
    if not _free(row, now):
        return Taken(None)
    lost = None
    if row.lease_token is not None:
        lost = row.attempts
        _close_attempt(conn, number, row.lease_token, "Its worker was lost.")
        timeline.step(
            conn, number, "lost", attempt=row.attempts, ended_at=now, outcome="lease ran out",
            began_at=timeline.moment(row.state_at) or now,
            detail={"holder": leases.holder_of(row.lease_token)},
        )  # fmt: skip
    if row.attempts >= most:
        why = f"{POISON}: {row.attempts} attempts were begun and none came to an end."
        why += f" The last error: {row.error}" if row.error else ""
        put(conn, number, state="dead", now=now, error=why, finished_at=now, next_try_at=None)
        timeline.step(
            conn, number, "claim", attempt=row.attempts, began_at=now, ended_at=now,
            outcome="dead", detail={"error": why},
        )  # fmt: skip
        return Taken(None, lost, _work(row, row.attempts))
    attempt = row.attempts + 1
    put(
        conn, number, state="loading" if row.inspected else "inspecting", now=now,
        lease_token=token, lease_until=now + timedelta(seconds=seconds),
        attempts=attempt, next_try_at=None, progress=None, finished_at=None,
    )  # fmt: skip
    return Taken(_work(row, attempt), lost)


def guard(conn: sa.Connection, number: int, token: str) -> None:
    """Make sure, until the transaction ends, that a delivery is still held under this token.

    Call it first in a transaction that writes for the delivery: a late worker's is refused.

    Raises:
        StoreTaken: somebody else has it, or it was cancelled.
    """
    row = locked(conn, number)
    if row is None or row.lease_token != token:
        raise StoreTaken(
            f"Delivery {number} was taken away from this worker.",
            hint="Stop working on it; nothing of this attempt is visible.",
        )


def progress(
    conn: sa.Connection,
    backend: Backend,
    number: int,
    token: str,
    *,
    state: str | None = None,
    progress: Mapping[str, Any] | None = None,
    seconds: float = leases.LEASE.total_seconds(),
) -> bool:
    """Renew the lease, and say how far the attempt is; False: the lease is lost, stop.

    Args:
        conn: a writing connection.
        backend: the engine, whose clock counts.
        number: the delivery.
        token: of the claim.
        state: ``inspecting`` or ``loading``, when it is another from now on.
        progress: plain values (bytes, days, percent); None: as it was.
        seconds: how long the lease is from now on.
    """
    now = backend.now(conn)
    said: dict[str, Any] = {"lease_until": now + timedelta(seconds=seconds)}
    if progress is not None:
        said["progress"] = json.dumps(progress)
    if state is not None:
        said |= {"state": state, "state_at": now}
    held = delivery.c.id == number, delivery.c.lease_token == token
    return conn.execute(sa.update(delivery).where(*held).values(**said)).rowcount == 1


def describe(conn: sa.Connection, number: int, token: str, found: Mapping[str, Any]) -> bool:
    """Keep what inspection found out, to be seen before loading; False: the lease is lost."""
    held = delivery.c.id == number, delivery.c.lease_token == token
    said = sa.update(delivery).where(*held).values(inspected=json.dumps(found, default=str))
    return conn.execute(said).rowcount == 1


# -- it ends ----------------------------------------------------------------------------------


def settle(
    conn: sa.Connection,
    backend: Backend,
    number: int,
    token: str,
    state: str,
    *,
    error: str | None = None,
    kept: str | None = None,
    sender: str | None = None,
    duplicate_of: int | None = None,
) -> bool:
    """Give a delivery its final state, and say what became of its original.

    A load that was published has set the state and given the lease back already; then only
    ``kept`` and ``error`` are said.

    Args:
        conn: a writing connection.
        backend: the engine, whose clock counts.
        number: the delivery.
        token: of the claim.
        state: one of ``FINAL``.
        error: one sentence; None: none.
        kept: spooled, deleted, archived; None: as it was.
        sender: who sent it, when nobody has said before.
        duplicate_of: the earlier delivery.

    Returns:
        False: the lease is lost; nothing was changed.
    """
    row = locked(conn, number)
    if row is None:
        return False
    said: dict[str, Any] = {} if kept is None else {"kept": kept}
    if row.lease_token is None and row.state == state:
        if said:
            conn.execute(sa.update(delivery).where(delivery.c.id == number).values(**said))
        return True
    if row.lease_token != token:
        return False
    _close_attempt(conn, number, token, error or "Its attempt ended.")
    now = backend.now(conn)
    if state == "dead":
        timeline.attempt_ended(conn, row, now, state, error=error or "")
    if row.sender is None and sender is not None:
        said["sender"] = sender
    if duplicate_of is not None:
        said["duplicate_of"] = duplicate_of
    put(conn, number, state=state, now=now, error=error, finished_at=now, **said)
    return True


def retry_later(
    conn: sa.Connection,
    backend: Backend,
    number: int,
    token: str,
    *,
    error: str,
    seconds: float,
    counted: bool = True,
) -> bool:
    """End an attempt that may succeed later; the next one is due in ``seconds``.

    ``counted``: it is one of those after which a delivery is dead. What it left open is cleared;
    its end is on the timeline. False: the lease is lost; nothing was changed.
    """
    now = backend.now(conn)
    row, again = locked(conn, number), now + timedelta(seconds=seconds)
    held = _let_go(
        conn, backend, number, token, state="waiting_retry", error=error, next_try_at=again,
        attempts=delivery.c.attempts - int(not counted),
    )  # fmt: skip
    if held and row is not None and row.lease_token == token:
        timeline.attempt_ended(
            conn, row, now, "waiting_retry", error=error, next_try_at=again.isoformat()
        )
    return held


def hand_back(conn: sa.Connection, backend: Backend, number: int, token: str) -> bool:
    """Give a delivery back unfinished, as when the worker is told to stop; not counted.

    What the attempt left open is cleared. False: the lease is lost; nothing was changed.
    """
    return _let_go(conn, backend, number, token, state="queued", attempts=delivery.c.attempts - 1)


def _let_go(
    conn: sa.Connection, backend: Backend, number: int, token: str, *, state: str, **said: Any
) -> bool:
    row = locked(conn, number)
    if row is None or row.lease_token != token:
        return row is not None and row.lease_token is None and row.state == state
    _close_attempt(conn, number, token, "Its attempt ended early; it is taken up again.")
    put(conn, number, state=state, now=backend.now(conn), **said)
    return True


# -- in common with dispatch.py ---------------------------------------------------------------


def locked(conn: sa.Connection, number: int) -> Any:
    """The delivery's row, ours alone until the transaction ends; None: there is none."""
    return conn.execute(
        sa.select(delivery).where(delivery.c.id == number).with_for_update()
    ).first()


def take_away(conn: sa.Connection, row: Any, why: str) -> None:
    """Clear what the holder of a locked row has left open, if there is one."""
    if row.lease_token is not None:
        _close_attempt(conn, row.id, row.lease_token, why)


def put(conn: sa.Connection, number: int, *, state: str, now: datetime, **said: Any) -> None:
    """Set the state of a locked row; nobody holds it any more, unless ``said`` names a lease."""
    values = {"lease_token": None, "lease_until": None, "sent_at": None} | said
    conn.execute(
        sa.update(delivery)
        .where(delivery.c.id == number)
        .values(state=state, state_at=now, **values)
    )


def _close_attempt(conn: sa.Connection, number: int, token: str, why: str) -> None:
    """Clear open loads under a token, and close the members that the attempt left unfinished."""
    leases.clear_loads(conn, token)
    members = sa.and_(
        delivery.c.parent == number,
        delivery.c.lease_token == token,
        delivery.c.state.in_(WORKING),
    )
    conn.execute(
        sa.update(delivery)
        .where(members)
        .values(
            state="cancelled", error=why, lease_token=None, lease_until=None,
            finished_at=datetime.now(MARKET_OFFSET),
        )
    )  # fmt: skip


def _free(row: Any, now: datetime) -> bool:
    """Whether a delivery may be taken now."""
    if row.kept != SPOOLED or row.parent is not None:
        return False
    if row.state == "waiting_retry":
        due = timeline.moment(row.next_try_at)
        return due is None or due <= now
    if row.state in WAITING:
        return True
    until = timeline.moment(row.lease_until)
    return row.state in WORKING and (until is None or until < now)


def _work(row: Any, attempt: int) -> Work:
    received = timeline.moment(row.received_at)
    assert received is not None  # noqa: S101 - for the type checker
    return Work(
        delivery=row.id,
        name=row.name,
        channel=row.channel,
        sender=row.sender,
        api_key=row.api_key,
        profile=None if row.profile == AUTO else row.profile,
        sha256=row.sha256,
        size=row.size,
        lane=row.lane,
        dry_run=bool(row.dry_run),
        attempt=attempt,
        inspected=None if row.inspected is None else json.loads(row.inspected),
        received_at=received,
        trace=row.trace,
        request=row.request,
    )
