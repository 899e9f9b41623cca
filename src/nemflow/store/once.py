"""What may be done only once, however many ask for it at the same moment.

Why: a client that got no answer sends its upload again; several schedulers wake at the same hour.

Promises: of all who ask for the same, one is told "you"; the others learn who came first. Both rest
on a unique index, so neither Redis nor a lock is needed.

Look next: ``work.py`` for what the upload leads to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from nemflow.store.tables import idempotency, sweep_run

if TYPE_CHECKING:
    from nemflow.store.backends import Backend


@dataclass(frozen=True, slots=True)
class Remembered:
    """An upload that named itself, and the delivery it led to."""

    sha256: str
    delivery: int


def remembered(conn: sa.Connection, api_key: str | None, key: str) -> Remembered | None:
    """What an idempotency key led to; None: nothing yet. ``api_key``: the name of the key."""
    columns = idempotency.c
    row = conn.execute(
        sa.select(columns.sha256, columns.delivery).where(
            columns.api_key == (api_key or ""), columns.key == key
        )
    ).first()
    return None if row is None else Remembered(row.sha256, row.delivery)


def remember(
    conn: sa.Connection,
    backend: Backend,
    api_key: str | None,
    key: str,
    *,
    sha256: str,
    delivery: int,
) -> Remembered:
    """Keep what an idempotency key leads to, unless it has led to something else before.

    Call it in the transaction that received the delivery. Who asks at the same moment waits until
    that transaction has ended.

    Returns:
        What the key leads to: this delivery, or the one that came first; then undo this one.
    """
    first = _insert(
        conn,
        idempotency,
        api_key=api_key or "",
        key=key,
        sha256=sha256,
        delivery=delivery,
        at=backend.now(conn),
    )
    found = Remembered(sha256, delivery) if first else remembered(conn, api_key, key)
    assert found is not None  # noqa: S101 - it was there a moment ago
    return found


def take_slot(conn: sa.Connection, backend: Backend, name: str, slot: str) -> datetime | None:
    """When this run of a sweep became ours: the first who asks for its slot gets it; None: not."""
    at = backend.now(conn)
    return at if _insert(conn, sweep_run, name=name, slot=slot, at=at) else None


def slot_taken(name: str, slot: str, at: datetime) -> sa.Select[Any]:
    """A question that has an answer when, and only when, ``take_slot`` gave this and saved."""
    columns = sweep_run.c
    return sa.select(columns.at).where(columns.name == name, columns.slot == slot, columns.at == at)


def _insert(conn: sa.Connection, table: sa.Table, **values: Any) -> bool:
    """Insert a row unless it is there; whether it was ours."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(**values).on_conflict_do_nothing()
    return conn.execute(statement.returning(table.c.at)).first() is not None
