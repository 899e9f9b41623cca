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
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from nemflow import failpoints
from nemflow.store.backends.codec import STAMP
from nemflow.store.leases import AT_ONCE, LEASE, batches
from nemflow.store.resumed import write_deliveries
from nemflow.store.tables import (
    MARKET_OFFSET,
    audit,
    delivery,
    file,
    load,
    load_event,
)

if TYPE_CHECKING:
    from nemflow.store.backends import Backend


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
    for start in range(0, len(wanted), AT_ONCE):
        rows = conn.execute(question, {"hashes": wanted[start : start + AT_ONCE]})
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
    conn: sa.Connection,
    backend: Backend,
    arrivals: pl.DataFrame,
    *,
    token: str,
    there: Collection[int] = (),
) -> None:
    """Write delivery rows (columns of ``ARRIVAL``, and their numbers as ``id``).

    Those that are still ``loading`` are leased to who holds ``token``. Rows that are ``there``
    already, by number, are brought up to date.
    """
    working = pl.col("state") == "loading"
    until = pl.lit(backend.now(conn) + LEASE).cast(STAMP)
    leased = arrivals.with_columns(
        attempts=pl.lit(1),
        lease_token=pl.when(working).then(pl.lit(token)),
        lease_until=pl.when(working).then(until),
    )
    write_deliveries(conn, backend, leased, there)


def delivery_numbers(conn: sa.Connection, backend: Backend, count: int) -> range:
    """So many delivery numbers that nobody else gets."""
    first = backend.reserve(conn, delivery, count)
    return range(first, first + count)


def begin(
    conn: sa.Connection, backend: Backend, texts: pl.DataFrame, *, now: datetime
) -> pl.DataFrame:
    """Make each text a known file and give it a load number; ``write_open`` or ``finish`` follow.

    Args:
        conn: a writing connection.
        backend: the engine.
        texts: delivery, name, sha256, size, profile, ``file`` (its number when known, else null).
        now: the ledger's clock.

    Returns:
        ``texts`` with ``file`` filled in and ``load``, in the same order.
    """
    first_load = backend.reserve(conn, load, texts.height)
    texts = texts.with_columns(_numbers(first_load, texts.height).alias("load"))
    new = texts.filter(pl.col("file").is_null())
    if new.is_empty():
        return texts
    old = texts.filter(pl.col("file").is_not_null())
    first_file = backend.reserve(conn, file, new.height)
    new = new.with_columns(_numbers(first_file, new.height).alias("file"))
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
            first_seen_at=pl.lit(now).cast(STAMP),
        ),
    )
    return pl.concat([new, old]).sort("load") if old.height else new


def write_open(conn: sa.Connection, backend: Backend, texts: pl.DataFrame, *, token: str) -> None:
    """Write the loads that ``begin`` numbered as open, leased to who holds ``token``."""
    now = backend.now(conn)
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
            started_at=pl.lit(now).cast(STAMP),
        ),
    )
    backend.update(conn, delivery, texts.select("file", id="delivery", state=pl.lit("loading")))


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
            lease_until=backend.now(conn) + LEASE,
            parser_version=_version(),
            profile=profile,
            started_at=now,
        )
    )
    return number


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


def finish(
    conn: sa.Connection,
    backend: Backend,
    results: pl.DataFrame,
    *,
    arrivals: pl.DataFrame | None = None,
    there: Collection[int] = (),
) -> tuple[int, datetime]:
    """Settle loads: publish what was taken in, close what was rejected. The last thing to do.

    Args:
        conn: a writing connection that holds the loads (``begin`` or ``hold`` in this
            transaction).
        backend: the engine.
        results: one row per load: file, load, delivery, profile, state (loaded, partly_loaded,
            rejected), error, sent_by, COUNTS, header columns, findings, nmis, first_day, last_day.
        arrivals: their deliveries (columns of ``ARRIVAL``, and ``id``), when neither these nor
            the loads are written yet: a load that begins and ends in one transaction.
        there: of these, the numbers of those that are written after all.

    Returns:
        The commit number and its time; number 0 when nothing became visible.
    """
    now = datetime.now(MARKET_OFFSET)
    stamp = pl.lit(now).cast(STAMP)
    visible = pl.col("state") != "rejected"
    ended = results.select(
        *COUNTS,
        id="load",
        state=pl.when(visible).then(pl.lit("published")).otherwise(pl.lit("rejected")),
        finished_at=stamp,
    )
    verdicts = results.select(
        "state", "error", "file", id="delivery", sender="sent_by", finished_at=stamp
    )
    no_lease = {"lease_token": pl.lit(None, pl.String), "lease_until": pl.lit(None, STAMP)}
    if arrivals is None:
        backend.update(conn, load, ended.with_columns(**no_lease))
        backend.update(conn, delivery, verdicts.with_columns(**no_lease))
    else:
        begun = results.select(
            "file",
            "delivery",
            "profile",
            base="load",
            kind=pl.lit("load"),
            parser_version=pl.lit(_version()),
            started_at=arrivals["received_at"],
        )
        backend.append(conn, load, pl.concat([ended, begun], how="horizontal"))
        described = arrivals.drop("state", "error", "file", "sender", "finished_at", strict=False)
        described = described.with_columns(attempts=pl.lit(1))
        deliveries = described.join(verdicts, on="id", how="left", maintain_order="left")
        write_deliveries(conn, backend, deliveries, there)
    failpoints.reach("mid-publish")
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
    published = results.filter(visible)["load"].to_list()
    return record(conn, backend, "published", published) if published else (0, now)


def finish_replay(
    conn: sa.Connection, backend: Backend, *, load_id: int, counts: Mapping[str, int]
) -> str:
    """Make a replay load ready to be published, and let its records change sides in the account.

    Args:
        conn: a writing connection.
        backend: the engine.
        load_id: the replay load, open and ours.
        counts: what it took in: COUNTS, nothing rejected.

    Returns:
        The file's state from now on. ``record`` the load after that, last.
    """
    now = datetime.now(MARKET_OFFSET)
    row = conn.execute(
        sa.select(load.c.file, load.c.delivery, load.c.base).where(load.c.id == load_id)
    ).one()
    conn.execute(
        sa.update(load)
        .where(load.c.id == load_id)
        .values(state="published", lease_token=None, lease_until=None, finished_at=now, **counts)
    )
    state = recount(conn, row.file, row.base, row.delivery)
    conn.execute(sa.update(file).where(file.c.id == row.file).values(loaded_at=now))
    conn.execute(
        sa.update(delivery).where(delivery.c.id == row.delivery).values(state=state, error=None)
    )
    parent = conn.execute(
        sa.select(delivery.c.parent).where(delivery.c.id == row.delivery)
    ).scalar()
    if parent is not None:
        settle_containers(conn, backend, [parent])
    return state


def close_replay(conn: sa.Connection, load_id: int) -> str:
    """End a replay load that took nothing in; returns the file's state, which stays."""
    conn.execute(
        sa.update(load)
        .where(load.c.id == load_id)
        .values(
            state="rejected",
            lease_token=None,
            lease_until=None,
            finished_at=datetime.now(MARKET_OFFSET),
        )
    )
    question = sa.select(file.c.state).join(load, load.c.file == file.c.id)
    return str(conn.execute(question.where(load.c.id == load_id)).scalar_one())


def loads_of_base(conn: sa.Connection, base: int) -> list[int]:
    """A load and its replays that stand."""
    return list(
        conn.execute(
            sa.select(load.c.id).where(load.c.base == base, load.c.state == "published")
        ).scalars()
    )


def rejected_of(conn: sa.Connection, file_id: int) -> int:
    """How many records of a file are in the quarantine."""
    left = file.c.days_rejected + file.c.reads_rejected
    return int(conn.execute(sa.select(left).where(file.c.id == file_id)).scalar_one())


def recount(conn: sa.Connection, file_id: int, base: int, delivery_id: int) -> str:
    """Make a base load and its standing replays the file's account; returns the file's state."""
    rows = conn.execute(
        sa.select(load).where(load.c.base == base, load.c.state.in_(["published", "rejected"]))
    ).mappings()
    counts = dict.fromkeys(COUNTS, 0)
    for row in rows:
        for of in ("days", "reads"):
            counts[f"{of}_stored"] += row[f"{of}_stored"]
            counts[f"{of}_unchanged"] += row[f"{of}_unchanged"]
            if row["id"] == base:
                counts[f"{of}_read"] += row[f"{of}_read"]
                counts[f"{of}_rejected"] += row[f"{of}_rejected"]
            else:
                counts[f"{of}_rejected"] -= row[f"{of}_stored"] + row[f"{of}_unchanged"]
    rejected = counts["days_rejected"] + counts["reads_rejected"]
    state = "loaded" if not rejected else "partly_loaded"
    if rejected and rejected == counts["days_read"] + counts["reads_read"]:
        state = "rejected"
    conn.execute(
        sa.update(file)
        .where(file.c.id == file_id)
        .values(**counts, state=state, load=base, delivery=delivery_id)
    )
    return state


def record(
    conn: sa.Connection, backend: Backend, kind: str, loads: Sequence[int]
) -> tuple[int, datetime]:
    """Write that loads became visible or hidden, under one new commit number."""
    failpoints.reach("before-tick")
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
    for some in batches(containers):
        rows = conn.execute(
            sa.select(delivery.c.parent, delivery.c.state)
            .where(delivery.c.parent.in_(some))
            .distinct()
        )
        for parent, state in rows:
            states[parent].add(state)
        conn.execute(
            sa.update(delivery)
            .where(delivery.c.id.in_(some), delivery.c.finished_at.is_(None))
            .values(finished_at=datetime.now(MARKET_OFFSET), lease_token=None, lease_until=None)
        )
    settled = {number: _together(found) for number, found in states.items()}
    frame = pl.DataFrame({"id": list(settled), "state": list(settled.values())})
    backend.update(conn, delivery, frame)
    return settled


def _together(states: set[str]) -> str:
    if states == {"duplicate"}:
        return "duplicate"
    if states <= {"rejected"}:
        return "rejected"
    if states <= {"loaded", "duplicate"}:
        return "loaded"
    return "undone" if states == {"undone"} else "partly_loaded"


# -- audit ------------------------------------------------------------------------------------


def note(
    conn: sa.Connection,
    backend: Backend,
    *,
    act: str,
    target: str,
    who: str | None,
    detail: str,
) -> sa.Select[Any]:
    """Write one act of a person or key. What became of it is in ``load_event``.

    Returns:
        A question that has an answer when, and only when, this act was saved.
    """
    number, at = backend.reserve(conn, audit, 1), datetime.now(MARKET_OFFSET)
    conn.execute(
        sa.insert(audit).values(id=number, at=at, who=who, act=act, target=target, detail=detail)
    )
    return sa.select(audit.c.id).where(audit.c.id == number, audit.c.at == at)


@functools.cache
def _version() -> str:
    return importlib.metadata.version("nemflow")


def _numbers(first: int, count: int) -> pl.Series:
    return pl.int_range(first, first + count, eager=True).alias("id")
