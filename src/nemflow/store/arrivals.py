"""What people ask about deliveries, and do with them; and the keys deliveries are sent with.

Promises: acts are audited, all or none of those named at once; whatever is shown comes from the
ledger.

Look next: ``history.py``, ``dispatch.py`` and ``keys.py``, which answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from nemflow.errors import UsageError
from nemflow.mdff.rules import PROFILES
from nemflow.store import dispatch, history
from nemflow.store import keys as key_store
from nemflow.store.keys import Key, NewKey
from nemflow.store.tables import MARKET_OFFSET

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from nemflow.store.backends import Backend


class Arrivals:
    """The part of ``Store`` about what arrives."""

    backend: Backend

    def deliveries(
        self,
        state: str | Sequence[str] | None = None,
        *,
        parent: int | None = None,
        sender: str | None = None,
        channel: str | None = None,
        limit: int | None = 100,
        before: int | None = None,
    ) -> pl.DataFrame:
        """Arrivals, newest first.

        Args:
            state: only these states (loaded, partly_loaded, duplicate, rejected, undone, ...).
            parent: only what was inside this delivery; None: all, containers and members.
            sender: only from this sender.
            channel: only what came this way: cli, http, folder, batch.
            limit: at most so many; None: all.
            before: only those with a smaller number: the next page.

        Columns: delivery Int64, parent Int64 (the archive it came in), name, channel, sender,
        profile, state, sha256 (of the raw bytes), size Int64, file Int64 (null: a container, or
        refused before it became a file), duplicate_of Int64 (the earlier delivery), members Int64
        (how many deliveries were inside), days_read, days_stored, days_unchanged, days_rejected,
        reads_read, reads_stored, reads_unchanged, reads_rejected Int64, received_at, finished_at,
        error String (one sentence).
        """
        with self.backend.reading() as conn:
            return history.deliveries(
                conn, self.backend, states=history.states_of(state), parent=parent, limit=limit,
                before=before, sender=sender, channel=channel,
            )  # fmt: skip

    def delivery(self, number: int) -> pl.DataFrame:
        """One arrival as one row of ``deliveries()``, plus how its work stands.

        Further columns: api_key, lane (urgent|normal|bulk), attempts Int64, next_try_at, progress
        String (JSON), state_at (since when it is in its state), kept (its original:
        spooled|deleted|archived; null: never in the spool), dry_run Boolean, inspected String
        (JSON: what is in it). Raises NotFound.
        """
        with self.backend.reading() as conn:
            return history.one_delivery(conn, self.backend, number)

    def search(
        self,
        state: str | Sequence[str] | None = None,
        *,
        sender: str | None = None,
        channel: str | None = None,
        lane: str | None = None,
        words: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> pl.DataFrame:
        """Arrivals that people look for, newest first; archives, not what was inside them.

        Args:
            state: only these states.
            sender: only from this sender.
            channel: only what came this way: cli, http, folder, batch.
            lane: urgent, normal or bulk.
            words: part of the name, sender or error in any case, the number, or the beginning of
                the SHA-256.
            since: received at this moment (aware) or later.
            until: received before this moment (aware).
            before: only those with a smaller number: the next page.
            limit: at most so many.

        Columns as ``deliveries``, and lane, attempts Int64, kept, dry_run Boolean.
        """
        with self.backend.reading() as conn:
            return history.searched(
                conn, self.backend, states=history.states_of(state), sender=sender,
                channel=channel, lane=lane, words=words, since=since, until=until, before=before,
                limit=limit,
            )  # fmt: skip

    def states(self) -> dict[str, int]:
        """How many arrivals are in which state; what was inside archives is not counted."""
        return self.backend.look(history.states)

    def states_by_time(self, since: datetime, seconds: int) -> pl.DataFrame:
        """What arrived since a moment (aware), by when, and the state it is in now.

        Columns: place Int64 (0: the first ``seconds`` after ``since``), state, files Int64.
        """
        with self.backend.reading() as conn:
            return history.states_by_time(conn, self.backend, since, seconds)

    def published_readings(self, since: datetime) -> pl.DataFrame:
        """How many readings each load published since a moment (aware) brought, in order.

        Interval values of days whose content was new, and register reads. A load of more than
        5,000 days is counted by the interval length of one of its days.
        Columns: at, load Int64, readings Int64.
        """
        with self.backend.reading() as conn:
            return history.published_readings(conn, self.backend, since)

    def standing(self, numbers: Sequence[int]) -> dict[int, tuple[str, int, str | None]]:
        """State, size in bytes and SHA-256 of these deliveries, by number; without unknown ones."""
        with self.backend.reading() as conn:
            return history.standing(conn, numbers)

    def timeline(self, number: int) -> pl.DataFrame:
        """A delivery's way, step by step, oldest first.

        Columns: step, attempt Int64 (0: before the first), began_at, ended_at, seconds Float64,
        outcome (ok, the state it led to, or the code of the error), detail String (JSON).
        Raises NotFound.
        """
        with self.backend.reading() as conn:
            return history.timeline(conn, self.backend, number)

    def dead(self, *, limit: int | None = 100) -> pl.DataFrame:
        """Deliveries that could not be worked on, newest first: we must act.

        Columns as ``deliveries``, and attempts Int64, kept.
        """
        with self.backend.reading() as conn:
            return history.dead(conn, self.backend, limit)

    def backlog(self) -> dispatch.Backlog:
        """What was accepted and is not done, and how fast it becomes less."""
        return self.backend.look(lambda conn: dispatch.backlog(conn, self.backend))

    def retry(
        self, which: int | Sequence[int], *, profile: str | None = None, by: str | None = None
    ) -> int:
        """Queue dead, rejected or cancelled deliveries again, with all their attempts; how many.

        ``profile``: the rule profile (portal, b2b) they are read under from now on; None: as
        before.

        Raises:
            NotFound: there is no such delivery.
            UsageError: one is in another state, or its original is gone; then none is queued. Or
                there is no such profile.
        """
        if profile not in (None, *PROFILES):
            raise UsageError(
                f"There is no rule profile {profile!r}.", hint=f"Profiles: {', '.join(PROFILES)}."
            )

        def act(
            conn: sa.Connection, backend: Backend, numbers: Sequence[int], who: str | None
        ) -> sa.Select[Any]:
            return dispatch.retry(conn, backend, numbers, who, profile)

        return self._act(act, which, by)

    def cancel(self, which: int | Sequence[int], *, by: str | None = None) -> int:
        """Stop deliveries that are not done; how many.

        Raises:
            NotFound: there is no such delivery.
            UsageError: one of them is done, or came by ``load``; then none is cancelled.
        """
        return self._act(dispatch.cancel, which, by)

    def _act(
        self,
        act: Callable[..., sa.Select[Any]],
        which: int | Sequence[int],
        by: str | None,
    ) -> int:
        numbers = [which] if isinstance(which, int) else list(which)
        noted: list[sa.Select[Any]] = []

        def work(conn: sa.Connection) -> None:
            noted[:] = [act(conn, self.backend, numbers, by)]

        if numbers:
            self.backend.transact(
                work, happened=lambda conn: conn.execute(noted[0]).first() is not None
            )
        return len(set(numbers))

    # -- keys of the service ------------------------------------------------------------------

    def keys(self) -> pl.DataFrame:
        """Every key ever made, newest first, without its secret.

        Columns: key Int64 (its number), name, state (live|expired|revoked), sender, scopes (joined
        by a space), created_at, expires_at, revoked_at.
        """
        with self.backend.reading() as conn:
            return key_store.listed(conn, self.backend)

    def make_key(
        self,
        name: str,
        scopes: Collection[str],
        *,
        sender: str | None = None,
        expires_at: datetime | None = None,
        by: str | None = None,
    ) -> tuple[Key, str]:
        """Make a key; the secret is told here and never again. Audited.

        Args:
            name: whose it is; two live keys may share one, to replace one by the other.
            scopes: of upload, read, operate, admin.
            sender: what it sends counts as sent by; None: as the file says.
            expires_at: from when on it is refused (naive: market time); None: never.
            by: who makes it.

        Raises:
            UsageError: no such name or scope, a time that is over, or two live keys of this name.
        """
        if expires_at is not None and expires_at.tzinfo is None:
            expires_at = expires_at.replace(tzinfo=MARKET_OFFSET)
        made: list[NewKey] = []

        def work(conn: sa.Connection) -> None:
            made[:] = [
                key_store.make(
                    conn, self.backend, name, scopes, sender=sender, expires_at=expires_at, who=by
                )
            ]

        self.backend.transact(
            work, happened=lambda conn: conn.execute(made[0].made).first() is not None
        )
        return made[0].key, made[0].secret

    def check_key(self, secret: str) -> Key | None:
        """The key with this secret; None: unknown, expired or revoked."""
        return self.backend.look(lambda conn: key_store.check(conn, self.backend, secret))

    def live_key(self, number: int) -> Key | None:
        """The key of this number while it is good; None: unknown, expired or revoked."""
        return self.backend.look(lambda conn: key_store.live(conn, self.backend, number))

    def has_keys(self) -> bool:
        """Whether anybody has a key that is good now."""
        return self.backend.look(lambda conn: key_store.any_live(conn, self.backend))

    def revoke_key(self, number: int, *, by: str | None = None) -> None:
        """Take a key back. Audited.

        Raises:
            NotFound: there is no such key.
            UsageError: it is revoked already.
        """
        asked: list[sa.Select[Any]] = []

        def work(conn: sa.Connection) -> None:
            asked[:] = [key_store.revoke(conn, self.backend, number, by)]

        self.backend.transact(
            work, happened=lambda conn: conn.execute(asked[0]).first() is not None
        )
