"""What people and programs follow: outcomes of deliveries, and problems.

Promises: what is asked is up to date: outcomes that are missing are written first, so that a store
that is only used from the command line tells the same as one behind a service.

Look next: ``outcomes.py`` and ``problems.py``, which answer; docs/problems.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from nemflow.errors import UsageError
from nemflow.store import history, outcomes, problems, snapshot

if TYPE_CHECKING:
    import polars as pl

    from nemflow.store.backends import Backend


class Following:
    """The part of ``Store`` about what became of files and what is wrong."""

    backend: Backend

    def collect_outcomes(self) -> int:
        """Write the outcomes that are missing, and count the problems they met; how many.

        Cheap when there is nothing to do. Whoever runs beside the service calls it every second.
        """
        done = 0
        while some := outcomes.collect(self.backend):
            done += some
        return done

    def outcomes(
        self,
        since: int | None = None,
        *,
        state: str | Sequence[str] | None = None,
        sender: str | None = None,
        limit: int = 1000,
    ) -> pl.DataFrame:
        """Final states that deliveries have reached, oldest first, in an order that stays.

        Args:
            since: behind this number (``seq``); None: the last ``limit`` of them.
            state: only these states.
            sender: only from this sender.
            limit: at most so many.

        Columns: seq Int64 (ask again with the last one), at, delivery Int64, state, name, sender
        (or the name of the key), channel, size Int64, dry_run Boolean, duplicate_of Int64,
        days_read, days_stored, days_unchanged, days_rejected, reads_read, reads_stored,
        reads_unchanged, reads_rejected Int64 (members included), error.

        Raises:
            UsageError: there is no outcome of that number yet.
        """
        self.collect_outcomes()
        states = history.states_of(state)
        if since is None:
            return self.backend.look(
                lambda conn: outcomes.newest(
                    conn, self.backend, limit, states=states, sender=sender
                )
            )
        return self.backend.look(
            lambda conn: outcomes.behind(
                conn, self.backend, since, limit=limit, states=states, sender=sender
            )
        )

    def last_outcome(self) -> int:
        """The number of the newest outcome; 0: there is none yet."""
        self.collect_outcomes()
        return self.backend.look(outcomes.last)

    def snapshot(self, *, failures: int = 10) -> dict[str, Any]:
        """What goes on now, as plain values; for ``nemflow top`` and the like.

        Keys: at, outcome (the newest one's number), rates (files, failed, days, bytes of the last
        ``seconds``), waiting, working, retrying, bytes, lanes (lane, files, bytes, oldest_seconds),
        workers (worker, delivery, name, sender, lane, state, attempt, size, percent, days, seconds,
        lease_seconds; up to 100), failures (the last so many, newest first, as ``outcomes``),
        problems (the newest open ones, as ``problems``), open_problems (by kind).
        """
        self.collect_outcomes()
        return self.backend.look(lambda conn: snapshot.taken(conn, self.backend, failures))

    def problems(
        self,
        *,
        open_only: bool = True,
        sender: str | None = None,
        limit: int | None = 100,
        before: int | None = None,
    ) -> pl.DataFrame:
        """What is wrong, newest first: one row per sender and rule, or per failing part.

        Args:
            open_only: False: also what is closed.
            sender: only of this sender.
            limit: at most so many; None: all.
            before: only those with a smaller number: the next page.

        Columns: problem Int64 (its number), kind (file|dead|system), state (open|closed), sender
        (empty: unknown, or a part of ours), rule (rule id, error code, part), what (in words),
        message (what was said the last time), times Int64 (deliveries that met it; of a part: how
        often it was seen), first_at, last_at, who (sender|us: who must act), todo (what to do
        next), first_delivery, last_delivery Int64, last_name, last_file Int64, closed_at,
        closed_by (null: by itself), closed_delivery Int64 (the good file that closed it), note.
        """
        self.collect_outcomes()
        return self.backend.look(
            lambda conn: problems.listed(
                conn, self.backend, open_only=open_only, sender=sender, limit=limit, before=before
            )
        )

    def open_problems(self) -> dict[str, int]:
        """How many problems are open, by kind (file, dead, system). Cheap; for metrics."""
        return self.backend.look(problems.counted)

    def close_problems(
        self, which: int | Sequence[int], *, note: str, by: str | None = None
    ) -> int:
        """Close problems: a person has seen to them. Audited; returns how many were closed.

        Raises:
            NotFound: there is no such problem.
            UsageError: it is closed already, or the note is empty; then none is closed.
        """
        if not note.strip():
            raise UsageError("A note is needed: what was done?", hint='Add --note "..."')
        wanted = [which] if isinstance(which, int) else list(which)
        noted: list[sa.Select[Any]] = []

        def work(conn: sa.Connection) -> None:
            noted[:] = [problems.close(conn, self.backend, wanted, who=by, note=note.strip())]

        self.backend.transact(
            work, happened=lambda conn: conn.execute(noted[0]).first() is not None
        )
        return len(set(wanted))

    def part_fails(
        self,
        part: str,
        message: str,
        *,
        hint: str = "",
        since: datetime | None = None,
        times: int = 1,
    ) -> None:
        """Say that a part of the system (store, queue, spool, outbox, folder, ...) fails."""
        self.backend.transact(
            lambda conn: problems.failing(
                conn, self.backend, part, message=message, hint=hint, since=since, times=times
            )
        )

    def part_works(self, part: str) -> bool:
        """Say that a part works; whether its problem was open. Cheap when none was."""
        if not self.backend.look(lambda conn: problems.is_open(conn, part)):
            return False
        return self.backend.transact(lambda conn: problems.working(conn, self.backend, part))
