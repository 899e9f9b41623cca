"""A delivery that was in the ledger before its load began, and what earlier attempts left of it.

Why: what the service takes is answered with its number first and loaded later, perhaps in several
attempts; it stays one row with one number, and so does every member of an archive.

Promises: a member that was taken in by an earlier attempt is not touched again, every other one is
begun anew under its number.

Look next: ``nemflow.pipeline.delivering``; ``work.py`` for claims and retries.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from nemflow.errors import NotFound
from nemflow.store import work
from nemflow.store.backends.codec import STAMP
from nemflow.store.leases import LEASE, batches
from nemflow.store.tables import delivery, delivery_step, file

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

#: What was taken in: an attempt that comes later leaves it as it is.
STANDING = ("loaded", "partly_loaded", "duplicate", "undone")
#: How a load ends by itself.
TAKEN_IN = ("loaded", "partly_loaded", "duplicate", "rejected")
#: What has nothing more to give: its original may go.
DONE_WITH = ("loaded", "duplicate")


@dataclass(frozen=True, slots=True)
class Member:
    """What was inside a delivery, as an earlier attempt left it."""

    id: int  #: its delivery number
    name: str
    state: str
    sha256: str | None

    @property
    def stands(self) -> bool:
        """Whether there is nothing to do for it any more."""
        return self.state in STANDING


@dataclass(frozen=True, slots=True)
class Resumed:
    """A delivery whose load begins, or begins again."""

    delivery: int
    name: str
    members: Mapping[str, Member] = field(default_factory=dict)  #: by name

    @property
    def numbers(self) -> frozenset[int]:
        """The delivery rows that are there: they are updated, not written."""
        return frozenset((self.delivery, *(member.id for member in self.members.values())))


@dataclass(frozen=True, slots=True)
class Row:
    """What must be known of a delivery to load it."""

    id: int
    name: str
    channel: str
    sender: str | None
    profile: str
    sha256: str
    size: int
    file: int | None
    state: str
    lease_token: str | None
    attempts: int
    dry_run: bool
    kept: str | None
    inspected: str | None
    error: str | None
    parent: int | None
    duplicate_of: int | None
    received_at: Any


_ROW = [delivery.c[name] for name in Row.__slots__]


def row_of(conn: sa.Connection, number: int) -> Row:
    """The delivery of this number. Raises NotFound."""
    found = conn.execute(sa.select(*_ROW).where(delivery.c.id == number)).first()
    if found is None:
        raise NotFound(f"There is no delivery {number}.", hint="List them with: nemflow deliveries")
    return Row(**found._mapping)


def has_members(conn: sa.Connection, number: int) -> bool:
    """Whether an earlier attempt got as far as what is inside."""
    inside = sa.select(delivery.c.id).where(delivery.c.parent == number)
    return conn.execute(inside.limit(1)).first() is not None


def take_up(conn: sa.Connection, backend: Backend, row: Row, token: str) -> Resumed:
    """Begin an attempt: what is inside and does not stand is ``loading`` again, and ours.

    Raises:
        StoreTaken: the delivery is not leased to ``token``.
    """
    work.guard(conn, row.id, token)
    columns = delivery.c
    rows = conn.execute(
        sa.select(columns.id, columns.name, columns.state, columns.sha256)
        .where(columns.parent == row.id)
        .order_by(columns.id)
        .with_for_update()
    )
    members = {found.name: Member(*found) for found in rows}
    again = [member.id for member in members.values() if not member.stands]
    until = backend.now(conn) + LEASE
    for some in batches(again):
        conn.execute(
            sa.update(delivery)
            .where(columns.id.in_(some))
            .values(
                state="loading",
                error=None,
                finished_at=None,
                lease_token=token,
                lease_until=until,
                attempts=columns.attempts + 1,
            )
        )
    return Resumed(row.id, row.name, members)


#: What a delivery has from the moment it arrived, whatever becomes of it.
_AS_ARRIVED = ("parent", "name", "channel", "sha256", "size", "received_at", "attempts")


def write_deliveries(
    conn: sa.Connection, backend: Backend, rows: pl.DataFrame, there: Collection[int]
) -> None:
    """Write delivery rows; those that are ``there`` (by number) are brought up to date instead."""
    if not there:
        backend.append(conn, delivery, rows)
        return
    is_there = pl.col("id").is_in(list(there))
    old, new = rows.filter(is_there), rows.filter(~is_there)
    if not new.is_empty():
        backend.append(conn, delivery, new)
    if not old.is_empty():
        if "lease_token" not in old.columns:  # what is written without a lease has none any more
            old = old.with_columns(
                lease_token=pl.lit(None, pl.String), lease_until=pl.lit(None, STAMP)
            )
        backend.update(conn, delivery, old.drop(_AS_ARRIVED, strict=False).sort("id"))


def is_repeated_by(conn: sa.Connection, number: int) -> bool:
    """Whether the bytes of a loaded delivery, come again, need no look.

    Everything it brought stands still and none of it was rejected. An aseXML message is looked at
    again all the same, since it wants an answer.
    """
    columns = delivery.c
    itself = sa.and_(columns.id == number, columns.file.is_not(None))
    lost = (
        sa.select(columns.id)
        .outerjoin(file, file.c.id == columns.file)
        .where(sa.or_(columns.parent == number, itself))
        .where(sa.or_(file.c.id.is_(None), file.c.state != "loaded"))
    )
    if conn.execute(lost.limit(1)).first() is not None:
        return False
    said = row_of(conn, number).inspected
    return said is None or not json.loads(said).get("messages")


def is_spooled(conn: sa.Connection, sha256: str) -> bool:
    """Whether any delivery says that these bytes are in the spool. Ask under ``backend.guard``."""
    rows = sa.select(delivery.c.id).where(delivery.c.sha256 == sha256, delivery.c.kept == "spooled")
    return conn.execute(rows.limit(1)).first() is not None


def spooled(conn: sa.Connection, hashes: Collection[str]) -> set[str]:
    """Of which of these, at most ``AT_ONCE``, a delivery says that they are in the spool.

    A look, which binds nobody: before anything is removed, ask ``is_spooled``.
    """
    columns = delivery.c
    said = sa.select(columns.sha256).where(columns.sha256.in_(hashes), columns.kept == "spooled")
    return {row.sha256 for row in conn.execute(said)}


def has_step(conn: sa.Connection, number: int, step: Mapping[str, Any]) -> bool:
    """Whether this step (as for ``timeline.step``) is on the delivery's timeline."""
    columns = delivery_step.c
    same = sa.select(columns.delivery).where(
        columns.delivery == number,
        columns.step == step["name"],
        columns.attempt == step["attempt"],
        columns.began_at == step["began_at"],
    )
    return conn.execute(same.limit(1)).first() is not None
