"""Undo and redo: what a delivery or a file brought leaves the readings, and comes back.

Promises: day rows stay as they are; an event is appended per load, under one commit number; the
file's account after a redo is what its loads say, replays included.

Look next: ``days.py`` decides the winners anew on read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from nemflow.errors import NotFound, UsageError
from nemflow.store import history, ledger, review, review_events, review_reversal
from nemflow.store.leases import batches
from nemflow.store.tables import day_claim, delivery, file, load, register_read, review_event

if TYPE_CHECKING:
    from nemflow.store.backends import Backend


@dataclass(frozen=True, slots=True)
class Reversal:
    """What an undo or redo touched."""

    deliveries: tuple[int, ...]
    files: tuple[int, ...]
    loads: tuple[int, ...]
    days: int
    reads: int
    seq: int
    at: datetime
    reviews: dict[str, int]  #: kind -> review events it left


def undo(
    conn: sa.Connection,
    backend: Backend,
    which: int | str,
    *,
    review_after: int = review.AFTER_DAYS,
) -> Reversal:
    """Take back every load that stands of a delivery or file; see ``nemflow.pipeline.undo``."""
    asked = _deliveries(conn, which)
    loads = _loads(conn, asked, "published")
    if not loads:
        raise UsageError(*_why_not(conn, which, asked))
    before = review_reversal.look(conn, backend, [number for number, *_ in loads])
    _set_state(conn, before.loads, "undone")
    for base, file_id, delivery_id in sorted({(b, f, d) for _, b, f, d in loads}):
        _say(conn, delivery, delivery_id, "undone")
        conn.execute(
            sa.update(file).where(file.c.id == file_id, file.c.load == base).values(state="undone")
        )
    return _recorded(conn, backend, "undone", loads, before, review_after=review_after)


def redo(
    conn: sa.Connection,
    backend: Backend,
    which: int | str,
    *,
    review_after: int = review.AFTER_DAYS,
) -> Reversal:
    """Put back every undone load of a delivery or file; see ``nemflow.pipeline.redo``."""
    asked = _deliveries(conn, which)
    loads = _loads(conn, asked, "undone")
    if not loads:
        raise UsageError(
            f"Nothing of {_named(which)} is undone.", hint="See: nemflow deliveries --state undone"
        )
    _refuse_if_loaded_since(conn, loads)
    before = review_reversal.look(conn, backend, [number for number, *_ in loads])
    _set_state(conn, before.loads, "published")
    for base, file_id, delivery_id in sorted({(b, f, d) for _, b, f, d in loads}):
        state = ledger.recount(conn, file_id, base, delivery_id)
        _say(conn, delivery, delivery_id, state)
    return _recorded(conn, backend, "redone", loads, before, review_after=review_after)


_Load = tuple[int, int, int, int]  # load, base, file, delivery


def _deliveries(conn: sa.Connection, which: int | str) -> list[int]:
    """The deliveries meant: a number with its members, or those whose load speaks for a file."""
    text = str(which)
    if isinstance(which, int) or (text.isdigit() and len(text) < 12):
        number = int(text)
        found = conn.execute(
            sa.select(delivery.c.id)
            .where(sa.or_(delivery.c.id == number, delivery.c.parent == number))
            .order_by(delivery.c.id)
        ).scalars()
        numbers = list(found)
        if numbers:
            return numbers
        if isinstance(which, int) or len(text) < 6:
            raise NotFound(
                f"There is no delivery {text}.", hint="List them with: nemflow deliveries"
            )
    file_id = history.file_id(conn, which)
    speaks = conn.execute(sa.select(file.c.delivery).where(file.c.id == file_id)).scalar()
    return [] if speaks is None else [int(speaks)]


def _loads(conn: sa.Connection, asked: Collection[int], state: str) -> list[_Load]:
    """Loads of these deliveries in a state, replays with them, in order."""
    found: list[_Load] = []
    for some in batches(asked):
        rows = conn.execute(
            sa.select(load.c.id, load.c.base, load.c.file, load.c.delivery).where(
                load.c.delivery.in_(some), load.c.state == state
            )
        )
        found.extend((row[0], row[1], row[2], row[3]) for row in rows)
    return sorted(found)


def _set_state(conn: sa.Connection, loads: Collection[int], state: str) -> None:
    for some in batches(loads):
        conn.execute(sa.update(load).where(load.c.id.in_(some)).values(state=state))


def _say(conn: sa.Connection, table: sa.Table, number: int, state: str) -> None:
    conn.execute(sa.update(table).where(table.c.id == number).values(state=state))


def _recorded(
    conn: sa.Connection,
    backend: Backend,
    kind: str,
    loads: list[_Load],
    before: review_reversal.Before,
    *,
    review_after: int,
) -> Reversal:
    """Close the containers, count, and draw the commit number last."""
    found = review_reversal.found(conn, backend, before, cause=kind, after_days=review_after)
    first = backend.reserve(conn, review_event, found.height) if found.height else None
    numbers = [number for number, *_ in loads]
    deliveries = sorted({row[3] for row in loads})
    days = reads = 0
    parents: set[int] = set()
    for some in batches(numbers):
        days += _count(conn, day_claim, some)
        reads += _count(conn, register_read, some)
    for some in batches(deliveries):
        parents |= set(
            conn.execute(
                sa.select(delivery.c.parent)
                .where(delivery.c.id.in_(some), delivery.c.parent.is_not(None))
                .distinct()
            ).scalars()
        )
    if parents:
        ledger.settle_containers(conn, backend, parents)
    seq, at = ledger.record(conn, backend, kind, numbers)
    review_events.append(conn, backend, found, seq=seq, cause=kind, first=first)
    return Reversal(
        tuple(deliveries),
        tuple(sorted({row[2] for row in loads})),
        tuple(numbers),
        days,
        reads,
        seq,
        at,
        dict(Counter(found["kind"])),
    )


def _count(conn: sa.Connection, table: sa.Table, loads: list[int]) -> int:
    question = sa.select(sa.func.count()).select_from(table).where(table.c.load.in_(loads))
    return int(conn.execute(question).scalar_one())


def _refuse_if_loaded_since(conn: sa.Connection, loads: list[_Load]) -> None:
    """A file that was loaded again after the undo already stands."""
    for _, base, file_id, _ in loads:
        state, current, speaks = conn.execute(
            sa.select(file.c.state, file.c.load, file.c.delivery).where(file.c.id == file_id)
        ).one()
        if current != base and state in ("loaded", "partly_loaded"):
            raise UsageError(
                f"File {file_id} was loaded again since, by delivery {speaks}; it stands already.",
                hint=f"Undo delivery {speaks} first.",
            )


def _why_not(conn: sa.Connection, which: int | str, asked: Collection[int]) -> tuple[str]:
    """Why there is nothing to undo, in a sentence that names the next step."""
    said = f"Nothing of {_named(which)} stands, so there is nothing to undo."
    if len(asked) == 1:
        row = conn.execute(
            sa.select(delivery.c.state, delivery.c.duplicate_of).where(
                delivery.c.id == next(iter(asked))
            )
        ).one()
        if row.state == "duplicate":
            said = (
                f"{_named(which).capitalize()} is a duplicate of delivery {row.duplicate_of} and "
                f"brought nothing itself. To take the file back: nemflow undo {row.duplicate_of}"
            )
        elif row.state == "undone":
            said = f"{_named(which).capitalize()} is undone already."
        elif row.state == "rejected":
            said = f"{_named(which).capitalize()} was rejected; nothing of it was taken in."
    return (said,)


def _named(which: int | str) -> str:
    text = str(which)
    return f"delivery {text}" if text.isdigit() and len(text) < 12 else f"file {text}"
