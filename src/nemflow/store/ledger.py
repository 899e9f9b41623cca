"""The ledger: deliveries, files and loads. One row per arrival, one per text, one per attempt.

Why: it knows for ever what was delivered and what became of it; recognition, undo and the account
of every day rest on it.

Promises: a file is recognised by the SHA-256 of its text and never forgotten; a load becomes
visible by one short transaction, and only for who still holds its lease; what became visible or
hidden has a commit number, drawn last.

Look next: ``days.py`` for what a load appends, ``history.py`` for questions to the ledger.
"""

from __future__ import annotations

import enum
import functools
import importlib.metadata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from nemflow.errors import StoreBusy
from nemflow.store.backends.codec import STAMP
from nemflow.store.tables import (
    DAY_TABLES,
    LOAD_TABLES,
    MARKET_OFFSET,
    audit,
    delivery,
    file,
    load,
    load_event,
)

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

LEASE = timedelta(minutes=2)  #: an open load that shows no progress for so long counts as dead
_AT_ONCE = 500  #: values in one IN (...)


class Seen(enum.Enum):
    """What the ledger knows of a text."""

    NEVER = "never"
    LOADED = "loaded"  #: a load of it stands: what comes now is a duplicate
    FAILED = "failed"  #: rejected, or its load died: load it again
    UNDONE = "undone"  #: taken back: load it again


@dataclass(frozen=True, slots=True)
class Known:
    """A file the ledger has seen before."""

    file: int
    seen: Seen
    delivery: int | None  #: whose load counts
    name: str  #: under which that delivery came


#: State of a file -> what that means when it comes again.
_SEEN = {
    "loaded": Seen.LOADED,
    "partly_loaded": Seen.LOADED,
    "undone": Seen.UNDONE,
}


def recognise(conn: sa.Connection, hashes: Iterable[str]) -> dict[str, Known]:
    """What is known of these texts, by SHA-256; those never seen are left out."""
    wanted = list(hashes)
    found: dict[str, Known] = {}
    question = (
        sa.select(file.c.sha256, file.c.id, file.c.state, file.c.delivery, delivery.c.name)
        .outerjoin(delivery, delivery.c.id == file.c.delivery)
        .where(file.c.sha256.in_(sa.bindparam("hashes", expanding=True)))
    )
    for start in range(0, len(wanted), _AT_ONCE):
        rows = conn.execute(question, {"hashes": wanted[start : start + _AT_ONCE]})
        for sha256, number, state, last, name in rows:
            found[sha256] = Known(number, _SEEN.get(state, Seen.FAILED), last, name or "")
    return found


# -- deliveries and loads begin ---------------------------------------------------------------

#: What a new delivery is described by; missing columns are null.
ARRIVAL: dict[str, Any] = {
    "parent": pl.Int64,
    "name": pl.String,
    "channel": pl.String,
    "sender": pl.String,
    "profile": pl.String,
    "sha256": pl.String,
    "size": pl.Int64,
    "file": pl.Int64,
    "duplicate_of": pl.Int64,
    "state": pl.String,
    "error": pl.String,
    "received_at": STAMP,
    "finished_at": STAMP,
}


def deliver(
    conn: sa.Connection, backend: Backend, arrivals: pl.DataFrame, *, token: str
) -> pl.Series:
    """Write delivery rows (columns of ``ARRIVAL``); returns their numbers in order.

    Those that are still ``loading`` are leased to who holds ``token``.
    """
    first = backend.reserve(conn, delivery, arrivals.height)
    working = pl.col("state") == "loading"
    until = pl.lit(datetime.now(MARKET_OFFSET) + LEASE).cast(STAMP)
    numbered = arrivals.with_columns(
        _numbers(first, arrivals.height),
        attempts=pl.lit(1),
        lease_token=pl.when(working).then(pl.lit(token)),
        lease_until=pl.when(working).then(until),
    )
    backend.append(conn, delivery, numbered)
    return numbered["id"]


def begin(
    conn: sa.Connection, backend: Backend, texts: pl.DataFrame, *, token: str, now: datetime
) -> pl.DataFrame:
    """Open one load per text.

    Args:
        conn: a writing connection.
        backend: the engine.
        texts: delivery, name, sha256, size, profile, ``file`` (its number when known, else null).
        token: the lease: who holds it may append and publish.
        now: the ledger's clock.

    Returns:
        ``texts`` with ``file`` filled in and ``load``.
    """
    first_load = backend.reserve(conn, load, texts.height)
    texts = texts.with_columns(_numbers(first_load, texts.height).alias("load"))
    new = texts.filter(pl.col("file").is_null())
    old = texts.filter(pl.col("file").is_not_null())
    first_file = backend.reserve(conn, file, new.height)
    new = new.with_columns(_numbers(first_file, new.height).alias("file"))
    stamp = pl.lit(now).cast(STAMP)
    backend.append(
        conn,
        file,
        new.select(
            "sha256",
            "name",
            "size",
            "load",
            "delivery",
            id="file",
            state=pl.lit("loading"),
            first_seen_at=stamp,
        ),
    )
    texts = pl.concat([new, old]).sort("load") if old.height else new
    backend.append(
        conn,
        load,
        texts.select(
            "file",
            "delivery",
            "profile",
            id="load",
            base="load",
            kind=pl.lit("load"),
            state=pl.lit("open"),
            lease_token=pl.lit(token),
            lease_until=pl.lit(now + LEASE).cast(STAMP),
            parser_version=pl.lit(_version()),
            started_at=stamp,
        ),
    )
    backend.update(conn, delivery, texts.select("file", id="delivery", state=pl.lit("loading")))
    return texts


def begin_replay(
    conn: sa.Connection,
    backend: Backend,
    *,
    file_id: int,
    base: int,
    delivery_id: int,
    profile: str,
    token: str,
    now: datetime,
) -> int:
    """Open a load that takes quarantined records of a file in."""
    number = backend.reserve(conn, load, 1)
    conn.execute(
        sa.insert(load).values(
            id=number,
            file=file_id,
            delivery=delivery_id,
            base=base,
            kind="replay",
            state="open",
            lease_token=token,
            lease_until=now + LEASE,
            parser_version=_version(),
            profile=profile,
            started_at=now,
        )
    )
    return number


def hold(conn: sa.Connection, loads: Collection[int], token: str) -> None:
    """Make sure the loads are still open and ours, and renew the lease on all that is ours.

    Raises:
        StoreBusy: somebody took them away because they seemed dead.
    """
    held = 0
    now = datetime.now(MARKET_OFFSET)
    for some in _batches(loads):
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


# -- loads end --------------------------------------------------------------------------------

COUNTS = [f"{of}_{part}" for of in ("days", "reads")
          for part in ("read", "stored", "unchanged", "rejected")]  # fmt: skip
_HEADER = [
    "version_header",
    "from_participant",
    "to_participant",
    "file_at",
    "message_id",
    "transaction_id",
    "sender",
    "receiver",
]


def finish(conn: sa.Connection, backend: Backend, results: pl.DataFrame) -> tuple[int, datetime]:
    """Settle loads: publish what was taken in, close what was rejected. The last thing to do.

    Args:
        conn: a writing connection that holds the loads (``begin`` or ``hold`` in this
            transaction).
        backend: the engine.
        results: one row per load: file, load, delivery, state (loaded, partly_loaded,
            rejected), error, COUNTS, header columns, findings, nmis, first_day, last_day.

    Returns:
        The commit number and its time; number 0 when nothing became visible.
    """
    now = datetime.now(MARKET_OFFSET)
    stamp = pl.lit(now).cast(STAMP)
    visible = pl.col("state") != "rejected"
    backend.update(
        conn,
        load,
        results.select(
            *COUNTS,
            id="load",
            state=pl.when(visible).then(pl.lit("published")).otherwise(pl.lit("rejected")),
            lease_token=pl.lit(None, pl.String),
            lease_until=pl.lit(None, STAMP),
            finished_at=stamp,
        ),
    )
    backend.update(
        conn,
        file,
        results.select(
            "state",
            "load",
            "delivery",
            *COUNTS,
            *_HEADER,
            "findings",
            "nmis",
            "first_day",
            "last_day",
            id="file",
            loaded_at=pl.when(visible).then(stamp),
        ),
    )
    backend.update(
        conn,
        delivery,
        results.select(
            "state",
            "error",
            id="delivery",
            finished_at=stamp,
            lease_token=pl.lit(None, pl.String),
            lease_until=pl.lit(None, STAMP),
        ),
    )
    published = results.filter(visible)["load"].to_list()
    return record(conn, backend, "published", published) if published else (0, now)


def finish_replay(
    conn: sa.Connection, backend: Backend, *, load_id: int, counts: dict[str, int], now: datetime
) -> None:
    """Publish a replay load and let its records change sides in the file's account.

    ``counts`` are the replay load's own COUNTS, rejected left out: what it took in was counted
    rejected before.
    """
    row = conn.execute(sa.select(load.c.file, load.c.delivery).where(load.c.id == load_id)).one()
    conn.execute(
        sa.update(load)
        .where(load.c.id == load_id)
        .values(state="published", lease_token=None, lease_until=None, finished_at=now, **counts)
    )
    moved = {}
    for of in ("days", "reads"):
        stored, unchanged = counts[f"{of}_stored"], counts[f"{of}_unchanged"]
        moved[f"{of}_stored"] = file.c[f"{of}_stored"] + stored
        moved[f"{of}_unchanged"] = file.c[f"{of}_unchanged"] + unchanged
        moved[f"{of}_rejected"] = file.c[f"{of}_rejected"] - stored - unchanged
    conn.execute(sa.update(file).where(file.c.id == row.file).values(**moved, loaded_at=now))
    left = file.c.days_rejected + file.c.reads_rejected
    conn.execute(
        sa.update(file)
        .where(file.c.id == row.file)
        .values(state=sa.case((left == 0, "loaded"), else_="partly_loaded"))
    )
    state = sa.select(file.c.state).where(file.c.id == row.file).scalar_subquery()
    conn.execute(
        sa.update(delivery).where(delivery.c.id == row.delivery).values(state=state, error=None)
    )


def record(
    conn: sa.Connection, backend: Backend, kind: str, loads: Sequence[int]
) -> tuple[int, datetime]:
    """Write that loads became visible or hidden, under one new commit number."""
    seq, at = backend.tick(conn)
    backend.append(
        conn,
        load_event,
        pl.DataFrame({"load": loads}).select(
            "load",
            seq=pl.lit(seq),
            kind=pl.lit(kind),
            at=pl.lit(at).cast(STAMP),
        ),
    )
    return seq, at


def settle_containers(
    conn: sa.Connection, backend: Backend, containers: Collection[int]
) -> dict[int, str]:
    """Give containers the state their members add up to; returns it by number."""
    states: dict[int, set[str]] = {number: set() for number in containers}
    for some in _batches(containers):
        rows = conn.execute(
            sa.select(delivery.c.parent, delivery.c.state)
            .where(delivery.c.parent.in_(some))
            .distinct()
        )
        for parent, state in rows:
            states[parent].add(state)
    settled = {number: _together(found) for number, found in states.items()}
    now = pl.lit(datetime.now(MARKET_OFFSET)).cast(STAMP)
    backend.update(
        conn,
        delivery,
        pl.DataFrame({"id": list(settled), "state": list(settled.values())}).with_columns(
            finished_at=now,
            lease_token=pl.lit(None, pl.String),
            lease_until=pl.lit(None, STAMP),
        ),
    )
    return settled


def _together(states: set[str]) -> str:
    if states == {"duplicate"}:
        return "duplicate"
    if states <= {"rejected"}:
        return "rejected"
    if states <= {"loaded", "duplicate"}:
        return "loaded"
    return "undone" if states == {"undone"} else "partly_loaded"


# -- loads that died --------------------------------------------------------------------------


def leases(conn: sa.Connection) -> dict[str, bool]:
    """Who works on something, by lease token: whether that lease has run out."""
    now = datetime.now(MARKET_OFFSET)
    found: dict[str, bool] = {}
    for table in (load, delivery):
        rows = conn.execute(
            sa.select(table.c.lease_token, sa.func.max(table.c.lease_until) < now)
            .where(table.c.lease_token.is_not(None))
            .group_by(table.c.lease_token)
        )
        for token, is_over in rows:
            found[token] = found.get(token, True) and bool(is_over)
    return found


def clear(
    conn: sa.Connection, backend: Backend, token: str, *, why: str, state: str
) -> tuple[list[int], int]:
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
    for some in _batches(loads):
        for table in LOAD_TABLES:
            conn.execute(sa.delete(table).where(table.c.load.in_(some)))
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


# -- audit ------------------------------------------------------------------------------------


def note(
    conn: sa.Connection,
    backend: Backend,
    *,
    act: str,
    target: str,
    who: str | None,
    seq: int | None,
    detail: str,
) -> None:
    """Write one act of a person or key."""
    conn.execute(
        sa.insert(audit).values(
            id=backend.reserve(conn, audit, 1),
            at=datetime.now(MARKET_OFFSET),
            who=who,
            act=act,
            target=target,
            seq=seq,
            detail=detail,
        )
    )


@functools.cache
def _version() -> str:
    return importlib.metadata.version("nemflow")


def _numbers(first: int, count: int) -> pl.Series:
    return pl.int_range(first, first + count, eager=True).alias("id")


def _batches(ids: Collection[int]) -> Iterable[list[Any]]:
    every = sorted(ids)
    for start in range(0, len(every), _AT_ONCE):
        yield every[start : start + _AT_ONCE]
