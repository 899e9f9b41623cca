"""Receive: from bytes in the landing area to a delivery that will not be lost.

Why: whoever is answered forgets the file; from then on it is ours.

Promises: the original is on the disk, under its name, before the ledger has a row of it, and both
are there before ``receive`` returns. Killed in between, the sender was not answered and nobody
misses what is left (``sweep_spool`` removes it). It never opens or parses what it takes.

Bytes that are loaded already are a ``duplicate`` at once, and are not kept again (but for aseXML,
which is answered each time). Receiving and
removing an original of the same bytes wait for each other, so none is removed that was just
accepted once more.

Look next: ``delivering.py``, which loads it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from nemflow import events, failpoints
from nemflow.errors import UsageError
from nemflow.store import once, resumed, timeline, work
from nemflow.store.leases import AT_ONCE
from nemflow.store.tables import MARKET_OFFSET

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nemflow.events import Hook
    from nemflow.intake.spool import Landing, Spool
    from nemflow.store import Store

LANES = ("urgent", "normal", "bulk")
#: For so long a file in the spool that no delivery knows is taken for one still being received.
SPARE_SECONDS = 3600.0
#: Before the idempotency key of a dry run; no header has a line break, so no other key begins so.
_TRIED_OUT = "dry run\n"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the sender is answered."""

    delivery: int
    state: str  #: received; duplicate, or where an earlier upload with the same key has come to
    sha256: str  #: of the bytes as they came
    duplicate_of: int | None = None  #: the delivery that brought the same bytes before
    repeated: bool = False  #: this very upload was answered before (idempotency key)


def receive(
    store: Store,
    spool: Spool,
    landing: Landing,
    *,
    name: str,
    channel: str,
    sender: str | None = None,
    api_key: str | None = None,
    profile: str | None = None,
    lane: str = "normal",
    dry_run: bool = False,
    idempotency_key: str | None = None,
    trace: str | None = None,
    request: str | None = None,
    hook: Hook | None = None,
) -> Receipt:
    """Accept the bytes in ``landing``: keep them, then write their delivery.

    Args:
        store: whose ledger it goes to.
        spool: where it is kept.
        landing: all its bytes; the caller closes it.
        name: what the sender calls it; told in reports, never used as a path.
        channel: how it came: http, folder, batch.
        sender: who sent it, if that is known; None: as its envelope or header says.
        api_key: name of the key it was sent with.
        profile: rule profile, portal or b2b; None: by what it is.
        lane: urgent, normal or bulk.
        dry_run: it is only tried out.
        idempotency_key: what the sender calls this upload; the same one again, with the same key
            and the same bytes, gets the same delivery. A dry run and the real upload are two.
        trace: W3C traceparent of what brought it, kept with the delivery; None: a new one.
        request: X-Request-ID of the request that brought it, kept too.
        hook: called with events.DeliveryReceived, and DeliveryFinished for a duplicate.

    Returns:
        The receipt: from here on it will be loaded, whatever is killed.

    Raises:
        UsageError: no such lane or profile; the same idempotency key came with other bytes.
        TooLarge, SpoolFull, SpoolFault: it cannot be kept.
        StoreError: the ledger cannot be written; the sender is to try again.
    """
    if lane not in LANES:
        raise UsageError(f"There is no lane {lane!r}.", hint=f"Lanes: {', '.join(LANES)}.")
    if profile not in (None, "portal", "b2b"):
        raise UsageError(f"There is no rule profile {profile!r}.", hint="Profiles: portal, b2b.")
    began = datetime.now(MARKET_OFFSET)
    landing.sync()  # the slow part, before anybody waits for it
    arrival = work.Arrival(
        name=name,
        channel=channel,
        sha256=landing.sha256,
        size=landing.size,
        sender=sender,
        api_key=api_key,
        profile=profile,
        lane=lane,
        dry_run=dry_run,
        received_at=datetime.now(MARKET_OFFSET),
        trace=trace or str(events.new_trace()),
        request=request,
    )
    taken: list[Receipt] = []
    key = idempotency_key
    if key is not None and dry_run:
        key = _TRIED_OUT + key

    def transaction(conn: sa.Connection) -> Receipt:
        taken.clear()
        taken.append(_receive(conn, store, landing, arrival, key=key, began=began))
        return taken[0]

    def happened(conn: sa.Connection) -> bool:
        if not taken or taken[0].repeated:
            return bool(taken)
        return conn.execute(work.arrived(taken[0].delivery, arrival)).first() is not None

    try:
        receipt = store.backend.transact(transaction, happened=happened)
        failpoints.reach("delivery-received")
    except _CameFirst as other:  # the same upload, at the same moment
        first = other.first
        return store.backend.look(lambda conn: _answered(conn, first, arrival.sha256))
    if not receipt.repeated:
        _told(hook, receipt, arrival, began)
    return receipt


def _told(hook: Hook | None, receipt: Receipt, arrival: work.Arrival, began: datetime) -> None:
    """Tell the hook of what has arrived, and of its end when that is known at once."""
    ended = datetime.now(MARKET_OFFSET)
    about = events.About(
        receipt.delivery,
        *(arrival.trace, arrival.request, arrival.api_key),
        *(arrival.channel, arrival.sender, arrival.lane),
    )
    size, state = arrival.size, receipt.state
    events.tell(hook, events.DeliveryReceived(about, state, size, began, ended))
    if state == "duplicate":
        seconds = (ended - began).total_seconds()
        events.tell(hook, events.DeliveryFinished(about, state, "", size, 0, seconds))


class _CameFirst(Exception):
    """Another upload with the same idempotency key was faster: rolls this one back."""

    def __init__(self, first: once.Remembered) -> None:
        super().__init__()
        self.first = first


def _receive(
    conn: sa.Connection,
    store: Store,
    landing: Landing,
    arrival: work.Arrival,
    *,
    key: str | None,
    began: datetime,
) -> Receipt:
    """One transaction: nobody else receives or removes the same bytes until it ends."""
    backend, sha256 = store.backend, arrival.sha256
    backend.guard(conn, [sha256])
    if key is not None:
        before = once.remembered(conn, arrival.api_key, key)
        if before is not None:
            return _answered(conn, before, sha256)
    earlier = None if arrival.dry_run else work.known_raw(conn, sha256)
    if earlier is None or not resumed.is_repeated_by(conn, earlier.delivery):
        earlier = None
        landing.keep()
    number = work.receive(conn, backend, arrival)
    state, now = "received", backend.now(conn)
    if earlier is not None:
        state = "duplicate"
        work.put(
            conn, number, state=state, now=now, finished_at=now, kept="deleted",
            duplicate_of=earlier.delivery, file=resumed.row_of(conn, earlier.delivery).file,
        )  # fmt: skip
    timeline.step(
        conn, number, "receive", attempt=0, began_at=began, ended_at=datetime.now(MARKET_OFFSET),
        outcome="ok" if earlier is None else state, detail={"bytes": arrival.size},
    )  # fmt: skip
    if key is not None:
        first = once.remember(conn, backend, arrival.api_key, key, sha256=sha256, delivery=number)
        if first.delivery != number:
            raise _CameFirst(first)
    return Receipt(number, state, sha256, None if earlier is None else earlier.delivery)


def receive_in(
    conn: sa.Connection, store: Store, landing: Landing, arrival: work.Arrival
) -> Receipt:
    """Accept an arrival within a transaction of the caller's, which holds the guard of its bytes.

    ``landing`` is synced already; a COMMIT without an answer is found out with ``work.arrived``.
    """
    began = datetime.now(MARKET_OFFSET)
    return _receive(conn, store, landing, arrival, key=None, began=began)


def _answered(conn: sa.Connection, before: once.Remembered, sha256: str) -> Receipt:
    """The receipt of an upload that came before, as it stands now. Raises UsageError."""
    if before.sha256 != sha256:
        raise UsageError(
            f"The idempotency key was used for other bytes (delivery {before.delivery}).",
            hint="Give every upload its own key; repeat one only with the same bytes.",
        )
    row = resumed.row_of(conn, before.delivery)
    return Receipt(row.id, row.state, sha256, row.duplicate_of, repeated=True)


def sweep_spool(store: Store, spool: Spool, *, older_than: float = SPARE_SECONDS) -> int:
    """Remove what nobody was answered for: left by uploads that were killed; returns how many.

    Those are unfinished files, and originals of which no delivery says that they are in the spool,
    once they have lain there for ``older_than`` seconds. Only these cost a writing transaction:
    whoever sends jobs meanwhile waits for no other.
    """
    gone, backend = spool.tidy(), store.backend
    originals = spool.originals(older_than=older_than)
    while some := list(islice(originals, AT_ONCE)):
        known = backend.look(functools.partial(resumed.spooled, hashes=some))
        for sha256 in some:
            if sha256 not in known:
                gone += backend.transact(functools.partial(_sweep, store, spool, sha256))
    return gone


def _sweep(store: Store, spool: Spool, sha256: str, conn: sa.Connection) -> bool:
    store.backend.guard(conn, [sha256])
    return not resumed.is_spooled(conn, sha256) and spool.delete(sha256)
