"""Webhooks, as people and programs manage them.

Promises: every act is audited; a secret is told when the webhook is made and never again.

Look next: ``webhooks.py``; ``nemflow.service.hooks``, which sends; docs/webhooks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from nemflow.store import hookmessages, outcomes, webhooks

if TYPE_CHECKING:
    import polars as pl

    from nemflow.store.backends import Backend


class Telling:
    """The part of ``Store`` about webhooks."""

    backend: Backend

    def webhooks(self) -> pl.DataFrame:
        """Every webhook that is there, without secrets.

        Columns: webhook Int64 (its number), state (on|disabled), url, events (joined by a space),
        sender, consumer, waiting, delivered, dead Int64 (messages), failures Int64 (attempts that
        failed in a row), pause_until, created_at, disabled_at, disabled_why.
        """
        return self.backend.look(lambda conn: webhooks.listed(conn, self.backend))

    def add_webhook(
        self,
        url: str,
        events: Collection[str],
        *,
        sender: str | None = None,
        consumer: str | None = None,
        key: str | None = None,
        by: str | None = None,
    ) -> tuple[int, str]:
        """Make a webhook that is told of what happens from now on; its number and its secret.

        Args:
            url: where; ``service.hooks.checked_url`` says which may be.
            events: of ``webhooks.EVENTS``.
            sender: only of this sender's files.
            consumer: whose changed days ``consumer.changes`` tells of.
            key: what the secret is derived from; None: the store keeps the secret.
            by: who makes it.

        Raises:
            UsageError: no such event, or ``consumer.changes`` without a consumer.
        """
        while outcomes.collect(self.backend):  # what has ended before is not told
            pass
        return self._saved(
            lambda conn: webhooks.add(
                conn, self.backend, url, events, sender=sender, consumer=consumer, key=key, who=by
            )
        )[:2]

    def change_webhook(self, number: int, act: str, *, by: str | None = None) -> None:
        """``disable``, ``enable`` or ``remove`` a webhook. Raises NotFound."""
        self._saved(lambda conn: (webhooks.change(conn, self.backend, number, act, who=by),))

    def webhook_messages(
        self,
        number: int,
        *,
        state: str | None = None,
        limit: int | None = 100,
        before: int | None = None,
    ) -> pl.DataFrame:
        """What a webhook was told, newest first.

        Columns: number Int64, message (webhook-id), event, state (waiting|delivered|dead),
        attempts Int64, last_status Int64 (HTTP), last_answer (its beginning, or the error),
        created_at, last_try_at, next_try_at, payload (JSON). Raises NotFound.
        """

        def look(conn: sa.Connection) -> pl.DataFrame:
            webhooks.must_be(conn, number)
            return hookmessages.listed(
                conn, self.backend, number, state=state, limit=limit, before=before
            )

        return self.backend.look(look)

    def retry_webhook(
        self, number: int, which: Sequence[int] | None = None, *, by: str | None = None
    ) -> int:
        """Send dead messages again, those named or all; how many.

        Raises:
            NotFound: there is no such webhook.
            UsageError: one of those named is not dead; then none is sent.
        """
        done, _ = self._saved(lambda conn: webhooks.again(conn, self.backend, number, which, by))
        return int(done)

    def test_webhook(self, number: int) -> int:
        """Make a message that says nothing, to be sent next; its number. Raises NotFound."""
        return self.backend.transact(
            lambda conn: hookmessages.test_message(conn, self.backend, number)
        )

    def _saved(self, act: Callable[[sa.Connection], tuple[Any, ...]]) -> tuple[Any, ...]:
        """Do an act whose last part is a question that has an answer when it was saved."""
        done: list[tuple[Any, ...]] = []

        def work(conn: sa.Connection) -> None:
            done[:] = [act(conn)]

        self.backend.transact(
            work, happened=lambda conn: conn.execute(done[0][-1]).first() is not None
        )
        return done[0]
