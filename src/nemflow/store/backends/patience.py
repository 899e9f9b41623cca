"""Try a transaction again, and find out what became of a COMMIT that was never answered.

Why: servers are restarted, links are cut, and a cut in the middle of COMMIT leaves the client
without an answer: to give up would tell a lie as often as to try again would load twice.

Promises: a transaction is tried again whole, and only when that can help; before the next try the
session of the last one is gone from the server, so what it did is final and its locks are free;
what it did is read from the rows it would have written, never guessed. (PostgreSQL's own
``pg_xact_status`` is not asked: after a crash a number can belong to another transaction.)

Look next: ``faults_postgres.py`` for what counts as transient.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
import stamina

from nemflow.errors import StoreAway, StoreError, StoreTaken, StoreUnresolved

if TYPE_CHECKING:
    from nemflow.store.backends.pool import Pool

T = TypeVar("T")
Session = tuple[int, datetime]  #: a server process: its number, and when it began

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0
_KEY = "nemflow_session"
# Each retry is logged by stamina; without a handler Python would print it to the person's terminal.
logging.getLogger("stamina").addHandler(logging.NullHandler())


def patiently(action: Callable[[], T], pool: Pool) -> T:
    """Do it, again after a transient error, with growing pauses, as often as ``pool`` says."""
    for attempt in stamina.retry_context(
        on=_worth_another_try,
        attempts=pool.attempts,
        timeout=pool.retry_seconds,
        wait_initial=_FIRST_WAIT,
        wait_max=_LONGEST_WAIT,
        wait_jitter=_FIRST_WAIT,
    ):
        with attempt:
            return action()
    raise AssertionError  # pragma: no cover - the loop returns or raises


def _worth_another_try(error: Exception) -> bool:
    never = isinstance(error, StoreTaken | StoreUnresolved)
    return isinstance(error, StoreError) and error.transient and not never


def remember_session(connection: Any, record: Any) -> None:
    """Note of a new connection which server process it is; for the pool's ``connect`` event."""
    with connection.cursor() as cursor:
        cursor.execute(_WHO)
        record.info[_KEY] = cursor.fetchone()
    connection.rollback()


def session_of(conn: sa.Connection) -> Session:
    """The server process behind a connection."""
    session: Session = conn.info[_KEY]
    return session


def end(conn: sa.Connection, session: Session, pool: Pool) -> None:
    """Wait until a session whose link was cut is gone; the server may not have noticed yet.

    Raises:
        StoreAway: it is still there after ``pool.retry_seconds``.
    """
    until = time.monotonic() + pool.retry_seconds
    while conn.exec_driver_sql(_END, session).fetchall():
        conn.rollback()
        if time.monotonic() > until:
            raise StoreAway(
                f"The lost session {session[0]} does not end.",
                hint="Have the server's administrator end it.",
            )
        time.sleep(0.05)


_WHO = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_END = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s
"""
