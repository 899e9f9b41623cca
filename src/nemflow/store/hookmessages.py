"""Messages to webhooks: what there is to tell, what is due, and what became of it.

How: each webhook has two cursors, into the outcomes of deliveries and into the order of commits.
``make_messages`` turns what lies behind them into messages and moves the cursors, in one
transaction: killed at any moment, nothing is left out, and nothing is made twice. Messages lie in
the store until they are delivered.

Promises: at least once, in the order of outcomes or commits at the first attempt; a message keeps
its ``webhook-id`` through all attempts, so a receiver can tell a repetition. Payloads hold ids and
counts, no readings, no text of a file, no error text.

Look next: ``nemflow.service.hooks``, which sends; docs/webhooks.md.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import sqlalchemy as sa

from nemflow.errors import NotFound
from nemflow.store import known, outcomes, takes
from nemflow.store.tables import webhook, webhook_message
from nemflow.store.timeline import moment
from nemflow.store.webhooks import CHANGES, DEAD, FINAL, REJECTED, TEST, row

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

AT_ONCE: Final = 500
_NMIS: Final = 100  #: so many changed NMIs are named, all are counted
_ANSWER: Final = 500  #: characters of an answer that are kept
_Made = tuple[str, Mapping[str, Any]]  #: event, data
_OF_STATE: Final = {"rejected": REJECTED, "dead": DEAD}


@dataclass(frozen=True, slots=True)
class Message:
    """One message that is due."""

    id: int
    webhook: int
    message: str  #: webhook-id
    event: str
    payload: str
    attempts: int  #: made before


def make_messages(backend: Backend, number: int) -> bool:
    """Turn what lies behind a webhook's cursors into messages; whether to call it again at once.

    That is: when as many outcomes lay there as are taken in one go. What happens meanwhile waits
    for the next time, else there would be no end under steady load. What there is to tell is found
    out as a reader; then it is written and the cursors are moved, unless somebody else has moved
    them meanwhile.
    """
    columns = webhook.c
    question = sa.select(webhook).where(columns.id == number, columns.removed_at.is_(None))

    def find(conn: sa.Connection) -> tuple[Any, int, int, list[_Made], bool] | None:
        found = conn.execute(question).first()
        return None if found is None else (found, *_to_tell(conn, backend, found))

    told = backend.look(find)
    if told is None:
        return False
    before, outcome_seq, change_seq, made, more = told
    if (outcome_seq, change_seq) == (before.outcome_seq, before.change_seq):
        return False

    def write(conn: sa.Connection) -> None:
        now = row(conn, number)
        if (now.outcome_seq, now.change_seq) == (before.outcome_seq, before.change_seq):
            _write(conn, backend, number, made, backend.now(conn))
            moved = {"outcome_seq": outcome_seq, "change_seq": change_seq}
            conn.execute(sa.update(webhook).where(columns.id == number).values(**moved))

    backend.transact(write)
    return more


def _to_tell(
    conn: sa.Connection, backend: Backend, found: Any
) -> tuple[int, int, list[_Made], bool]:
    """Where the cursors will stand, the messages up to there, and whether more may lie behind."""
    events = frozenset(found.events.split())
    made: list[_Made] = []
    rows = outcomes.behind(conn, backend, found.outcome_seq, limit=AT_ONCE)
    for each in rows.iter_rows(named=True):
        event = _OF_STATE.get(each["state"], FINAL)
        event = event if event in events else FINAL
        if event in events and found.sender in (None, each["sender"]):
            made.append((event, _of_outcome(each)))
    more = rows.height == AT_ONCE
    outcome_seq = found.outcome_seq if rows.is_empty() else int(rows["seq"][-1])
    if CHANGES not in events:
        return outcome_seq, found.change_seq, made, more
    newest = known.last_seq(conn)
    if newest > found.change_seq:
        try:
            changed = takes.changed(conn, backend, found.consumer, since=found.change_seq)
        except NotFound:  # the consumer has not taken anything yet
            changed = pl.DataFrame()
        if not changed.is_empty():
            told = _of_changes(found.consumer, found.change_seq, newest, changed)
            made.append((CHANGES, told))
    return outcome_seq, newest, made, more


def test_message(conn: sa.Connection, backend: Backend, number: int) -> int:
    """Make a message that says nothing; its number. Raises NotFound."""
    row(conn, number)
    (made,) = _write(conn, backend, number, [(TEST, {"webhook": number})], backend.now(conn))
    return made


def _write(
    conn: sa.Connection,
    backend: Backend,
    number: int,
    made: Sequence[_Made],
    now: datetime,
) -> range:
    if not made:
        return range(0)
    first = backend.reserve(conn, webhook_message, len(made))
    conn.execute(
        sa.insert(webhook_message),
        [
            {
                "id": first + place, "webhook": number, "event": event, "state": "waiting",
                "message": f"msg_{secrets.token_hex(12)}", "attempts": 0, "next_try_at": now,
                "created_at": now,
                "payload": json.dumps(
                    {"type": event, "timestamp": now.isoformat(), "data": data},
                    separators=(",", ":"), ensure_ascii=False,
                ),
            }
            for place, (event, data) in enumerate(made)
        ],
    )  # fmt: skip
    return range(first, first + len(made))


def _of_outcome(each: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "delivery", "state", "name", "sender", "channel", "size", "dry_run", "duplicate_of",
        *outcomes.COUNTS,
    )  # fmt: skip
    about = {name: each[name] for name in names}
    return {"outcome": each["seq"], "at": each["at"].isoformat(), **about}


def _of_changes(consumer: str, since: int, until: int, rows: pl.DataFrame) -> dict[str, Any]:
    nmis = rows["nmi"].unique(maintain_order=True)
    return {
        "consumer": consumer, "since": since, "seq": until, "days": rows.height,
        "nmi_count": nmis.len(), "nmis": nmis.head(_NMIS).to_list(),
    }  # fmt: skip


# -- what became of it ------------------------------------------------------------------------


def due(conn: sa.Connection, backend: Backend, number: int, limit: int) -> list[Message]:
    """Messages to send now, in the order in which they were made; none while it is paused."""
    now, columns = backend.now(conn), webhook_message.c
    pause = conn.execute(sa.select(webhook.c.pause_until).where(webhook.c.id == number)).scalar()
    until = moment(pause)
    if until is not None and until > now:
        return []
    rows = conn.execute(
        sa.select(
            columns.id,
            columns.webhook,
            columns.message,
            columns.event,
            columns.payload,
            columns.attempts,
        )
        .where(
            columns.webhook == number,
            columns.state == sa.literal_column("'waiting'"),
            columns.next_try_at <= now,
        )
        .order_by(columns.id)
        .limit(limit)
    )
    return [Message(*found) for found in rows]


def one(conn: sa.Connection, number: int) -> Message:
    """A message by its number. Raises NotFound."""
    columns = webhook_message.c
    found = conn.execute(
        sa.select(
            columns.id,
            columns.webhook,
            columns.message,
            columns.event,
            columns.payload,
            columns.attempts,
        ).where(columns.id == number)
    ).first()
    if found is None:
        raise NotFound(f"There is no message {number}.")
    return Message(*found)


def tried(
    conn: sa.Connection,
    backend: Backend,
    message: Message,
    *,
    state: str,
    status: int | None,
    answer: str,
    again_in: float | None = None,
    pause: float = 0.0,
) -> None:
    """Write down what came of an attempt.

    Args:
        conn: a writing connection.
        backend: the engine, whose clock counts.
        message: what was sent.
        state: delivered; waiting: it is tried again; dead: it is not.
        status: the HTTP status; None: no answer.
        answer: its beginning, or the error.
        again_in: seconds until the next attempt.
        pause: so many seconds nothing at all is sent to this webhook.
    """
    now, columns = backend.now(conn), webhook_message.c
    conn.execute(
        sa.update(webhook_message)
        .where(columns.id == message.id)
        .values(
            state=state,
            attempts=columns.attempts + 1,
            last_try_at=now,
            next_try_at=None if again_in is None else now + timedelta(seconds=again_in),
            last_status=status,
            last_answer=answer[:_ANSWER].replace("\0", ""),
        )
    )
    good = state == "delivered"
    said: dict[str, Any] = {
        "failures": 0 if good else webhook.c.failures + 1,
        "pause_until": None if good else now + timedelta(seconds=pause),
    }
    conn.execute(sa.update(webhook).where(webhook.c.id == message.webhook).values(**said))


def expire(conn: sa.Connection, backend: Backend, days: float) -> int:
    """Remove messages that were delivered longer ago than this; how many."""
    columns = webhook_message.c
    old = backend.now(conn) - timedelta(days=days)
    gone = sa.delete(webhook_message).where(columns.state == "delivered", columns.created_at < old)
    return conn.execute(gone).rowcount


def listed(
    conn: sa.Connection,
    backend: Backend,
    number: int,
    *,
    state: str | None,
    limit: int | None,
    before: int | None,
) -> pl.DataFrame:
    """What a webhook was told, newest first; see ``Store.webhook_messages``."""
    columns = webhook_message.c
    question = (
        sa.select(
            columns.id.label("number"), columns.message, columns.event, columns.state,
            columns.attempts, columns.last_status, columns.last_answer, columns.created_at,
            columns.last_try_at, columns.next_try_at, columns.payload,
        )
        .where(columns.webhook == number)
        .order_by(columns.id.desc())
        .limit(limit)
    )  # fmt: skip
    if state is not None:
        question = question.where(columns.state == state)
    if before is not None:
        question = question.where(columns.id < before)
    return backend.fetch(conn, question)
