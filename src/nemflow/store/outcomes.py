"""Outcomes: every final state a delivery reaches, once each, in one order that never changes.

Why: whoever follows what becomes of files (problems, webhooks, ``nemflow tail``) must be able to
go on from a number, and miss nothing and meet nothing twice. ``finished_at`` cannot serve: a row
with an earlier time may become visible later.

How: a delivery whose final state is not among the outcomes yet is found by a partial index
(``UNTOLD``). ``collect`` writes its outcome, counts the problems it met and marks it, all in one
transaction; killed at any moment, the next call does it, once. Any process may call it: an
advisory lock makes them wait for each other, so numbers are in the order of commits.

Promises: one outcome for each final state reached: a delivery that was rejected, tried again and
loaded has two, one that is undone has one more. Members of archives have none of their own; their
counts are in their archive's.

Locks: the collectors' lock first, then rows of ``delivery``, never waited for (a row that somebody
holds ends the batch before it), then problems. Nobody who holds a row of ``delivery`` asks for the
collectors' lock, so there can be no deadlock with workers.

Look next: ``problems.py``, which is told each batch; docs/problems.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from nemflow.errors import UsageError
from nemflow.store.tables import MARKET_OFFSET, UNTOLD, delivery, file, load, outcome

if TYPE_CHECKING:
    import polars as pl

    from nemflow.store.backends import Backend

AT_ONCE: Final = 500
_LOCK: Final = (0x6E656D66 << 8) + 5  #: an advisory lock: "nemf" in ASCII, then 5
#: SQLite would rather look through all that have no parent, so it is told which index is meant;
#: with a plus before it, ``parent`` tempts it no more.
_IDS: Final = {
    dialect: sa.text(
        f"SELECT id FROM delivery {hint} WHERE {UNTOLD} ORDER BY finished_at, id LIMIT :count"  # noqa: S608
    )
    for dialect, hint in (("postgresql", ""), ("sqlite", "INDEXED BY delivery_untold"))
}
_UNTOLD: Final[sa.ColumnElement[bool]] = sa.literal_column(f"(+{UNTOLD})", sa.Boolean)
COUNTS: Final = tuple(
    f"{of}_{part}"
    for of in ("days", "reads")
    for part in ("read", "stored", "unchanged", "rejected")
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A delivery has reached a final state."""

    seq: int
    delivery: int
    name: str
    state: str
    sender: str  #: or the name of its key; empty: unknown
    error: str | None
    dry_run: bool
    spooled: bool  #: it came through the service, so it can be tried again
    at: datetime
    #: It has come to its end now; False: what was at its end was replayed, undone or redone.
    ended: bool = True


def alone(conn: sa.Connection) -> None:
    """Until the transaction ends, nobody else writes outcomes or problems."""
    if conn.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def sender_of(row: Any) -> Any:
    """Whose a delivery is, as SQL: the sender, else the key it was sent with, else empty."""
    return sa.func.coalesce(row.c.sender, row.c.api_key, "")


def collect(backend: Backend, *, limit: int = AT_ONCE) -> int:
    """Write the outcomes that are missing, at most ``limit``; how many. Call it until 0."""
    if not backend.look(lambda conn: _ids(conn, 1)):
        return 0
    return backend.transact(lambda conn: _collected(conn, backend, limit))


def _collected(conn: sa.Connection, backend: Backend, limit: int) -> int:
    from nemflow.store import problems

    alone(conn)
    rows = _rows(conn, limit)
    if not rows:
        return 0
    last = conn.execute(sa.select(sa.func.max(outcome.c.seq))).scalar() or 0
    now = backend.now(conn)
    found = [
        Outcome(
            last + place, row.id, row.name, row.state, row.whose, row.error, bool(row.dry_run),
            row.kept is not None, _moment(row.finished_at) if ended else now, ended,
        )
        for place, row in enumerate(rows, 1)
        for ended in [row.told_at != row.finished_at]
    ]  # fmt: skip
    counts = _counts(conn, [each.delivery for each in found])
    nothing = dict.fromkeys(COUNTS, 0)
    conn.execute(
        sa.insert(outcome),
        [
            {
                "seq": each.seq, "delivery": each.delivery, "state": each.state,
                "sender": each.sender or None, "error": each.error, "at": each.at, "told_at": now,
            } | counts.get(each.delivery, nothing)
            for each in found
        ],
    )  # fmt: skip
    problems.count(conn, backend, found)
    conn.execute(
        sa.update(delivery)
        .where(delivery.c.id.in_([each.delivery for each in found]))
        .values(told_at=delivery.c.finished_at, told_state=delivery.c.state)
    )
    return len(found)


def _rows(conn: sa.Connection, limit: int) -> list[Any]:
    """Rows to be told, locked, in order of their end; up to the first that somebody holds."""
    columns = delivery.c
    order = _ids(conn, limit)
    rows = conn.execute(
        sa.select(
            columns.id, columns.name, columns.state, columns.error, columns.dry_run, columns.kept,
            columns.finished_at, columns.told_at, sender_of(delivery).label("whose"),
        )
        .where(columns.id.in_(order), _UNTOLD)
        .with_for_update(skip_locked=True)
    )  # fmt: skip
    held = {row.id: row for row in rows}
    ours = []
    for number in order:
        if number not in held:
            break
        ours.append(held[number])
    return ours


def _ids(conn: sa.Connection, limit: int) -> list[int]:
    """Deliveries whose outcome is missing, in order of their end."""
    return list(conn.execute(_IDS[conn.dialect.name], {"count": limit}).scalars())


def _counts(conn: sa.Connection, numbers: Sequence[int]) -> dict[int, dict[str, int]]:
    """What each delivery and its members brought, as ``Store.deliveries`` counts it."""
    each = load.alias("each")
    newest = (
        sa.select(sa.func.max(each.c.id))
        .where(each.c.delivery == delivery.c.id, each.c.kind == "load")
        .scalar_subquery()
    )
    top = sa.func.coalesce(delivery.c.parent, delivery.c.id).label("top")
    speaks = file.c.delivery == delivery.c.id
    sums = [
        sa.func.coalesce(sa.func.sum(sa.case((speaks, file.c[name]), else_=load.c[name])), 0).label(
            name
        )
        for name in COUNTS
    ]
    rows = conn.execute(
        sa.select(top, *sums)
        .select_from(delivery)
        .join(load, load.c.id == newest)
        .outerjoin(file, file.c.id == delivery.c.file)
        .where(sa.or_(delivery.c.id.in_(numbers), delivery.c.parent.in_(numbers)))
        .group_by(top)
    )
    return {row.top: {name: int(row._mapping[name]) for name in COUNTS} for row in rows}


# -- who follows ------------------------------------------------------------------------------


def last(conn: sa.Connection) -> int:
    """The number of the newest outcome; 0: there is none."""
    return int(conn.execute(sa.select(sa.func.max(outcome.c.seq))).scalar() or 0)


def behind(
    conn: sa.Connection,
    backend: Backend,
    since: int,
    *,
    limit: int,
    states: Sequence[str] | None = None,
    sender: str | None = None,
) -> pl.DataFrame:
    """Outcomes behind a number, oldest first; see ``Store.outcomes``.

    Raises:
        UsageError: there is no outcome of that number yet.
    """
    newest = last(conn)
    if since > newest:
        raise UsageError(
            f"There is no outcome {since} yet; the last one is {newest}.",
            hint="Is this the store the number came from?",
        )
    question = _told().where(outcome.c.seq > since).order_by(outcome.c.seq).limit(limit)
    return backend.fetch(conn, _only(question, states, sender))


def newest(
    conn: sa.Connection,
    backend: Backend,
    count: int,
    *,
    states: Sequence[str] | None = None,
    sender: str | None = None,
    behind: int = 0,
) -> pl.DataFrame:
    """The last so many outcomes behind a number, oldest first; columns as ``behind``."""
    question = _only(_told(), states, sender).where(outcome.c.seq > behind)
    question = question.order_by(outcome.c.seq.desc()).limit(count)
    return backend.fetch(conn, question).sort("seq")


def _told() -> sa.Select[Any]:
    columns = outcome.c
    return sa.select(
        columns.seq, columns.at, columns.delivery, columns.state, delivery.c.name,
        columns.sender, delivery.c.channel, delivery.c.size, delivery.c.dry_run,
        delivery.c.duplicate_of, *(columns[name] for name in COUNTS), columns.error,
    ).join(delivery, delivery.c.id == columns.delivery)  # fmt: skip


def _only(
    question: sa.Select[Any], states: Sequence[str] | None, sender: str | None
) -> sa.Select[Any]:
    if states is not None:
        question = question.where(outcome.c.state.in_(list(states)))
    if sender is not None:
        question = question.where(outcome.c.sender == sender)
    return question


def _moment(value: Any) -> datetime:
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    assert isinstance(found, datetime)  # noqa: S101 - for the type checker
    return found.astimezone(MARKET_OFFSET)
