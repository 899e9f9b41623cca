"""Webhooks: who is told of what happens, and with which secret.

Promises: acts are audited; who sends holds a webhook by a lease, one at a time.

Secrets: with a key (setting ``webhooks.key``) a webhook's secret is derived from it and a salt, and
is nowhere in the store. Without one it lies in the store as it is: whoever reads the tables or a
backup could sign.

Look next: ``hookmessages.py`` for what there is to tell; ``nemflow.service.hooks``, which sends;
docs/webhooks.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from nemflow.errors import NotFound, UsageError
from nemflow.store import known, outcomes, takes
from nemflow.store.ledger import note
from nemflow.store.tables import webhook, webhook_message

if TYPE_CHECKING:
    import polars as pl

    from nemflow.store.backends import Backend

FINAL: Final = "file.final"
REJECTED: Final = "file.rejected"
DEAD: Final = "file.dead"
CHANGES: Final = "consumer.changes"
TEST: Final = "webhook.test"
EVENTS: Final = (FINAL, REJECTED, DEAD, CHANGES)  #: what a webhook may ask for


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook, with what is needed to sign for it."""

    id: int
    url: str
    events: frozenset[str]
    salt: str | None
    secret: str | None
    failures: int

    def signing(self, key: str | None) -> str:
        """Its secret, ``whsec_...``. Raises UsageError when it needs a key and there is none."""
        if self.secret is not None:
            return self.secret
        if key is None or self.salt is None:
            raise UsageError(
                f"The secret of webhook {self.id} is derived from webhooks.key, which is not set.",
                hint="Set NEMFLOW_WEBHOOKS_KEY or NEMFLOW_WEBHOOKS_KEY_FILE as it was.",
            )
        return derived(key, self.salt)


def derived(key: str, salt: str) -> str:
    """The secret that a key and a salt give."""
    mac = hmac.new(key.encode(), f"webhook {salt}".encode(), hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(mac).decode()


# -- who is told ------------------------------------------------------------------------------


def add(
    conn: sa.Connection,
    backend: Backend,
    url: str,
    events: Collection[str],
    *,
    sender: str | None,
    consumer: str | None,
    key: str | None,
    who: str | None,
) -> tuple[int, str, sa.Select[Any]]:
    """Make a webhook; it is told of what happens from now on. Audited.

    Returns:
        Its number, its secret, and a question that has an answer when this was saved.

    Raises:
        UsageError: no such event, or consumer.changes without a consumer.
        NotFound: nobody of this name ever took anything.
    """
    unknown = sorted(set(events) - set(EVENTS))
    if unknown or not events:
        raise UsageError(
            f"There is no event {unknown[0]!r}." if unknown else "Of which events?",
            hint=f"Events: {', '.join(EVENTS)}.",
        )
    if (CHANGES in events) != (consumer is not None):
        raise UsageError(
            f"{CHANGES} and the consumer whose days are watched belong together.",
            hint=f"Give both: --event {CHANGES} --consumer NAME",
        )
    if consumer is not None:
        takes.checked_name(consumer)
    number = backend.reserve(conn, webhook, 1)
    salt = secrets.token_hex(16)
    kept = None if key is not None else _random_secret()
    conn.execute(
        sa.insert(webhook).values(
            id=number, url=url, events=" ".join(each for each in EVENTS if each in events),
            sender=sender, consumer=consumer, salt=salt, secret=kept,
            outcome_seq=outcomes.last(conn), change_seq=known.last_seq(conn), failures=0,
            created_at=backend.now(conn),
        )
    )  # fmt: skip
    about = json.dumps({"url": url, "events": sorted(events)})
    note(conn, backend, act="webhook made", target=f"webhook {number}", who=who, detail=about)
    saved = sa.select(webhook.c.id).where(webhook.c.id == number, webhook.c.salt == salt)
    return number, kept or derived(key or "", salt), saved


def _random_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def change(
    conn: sa.Connection, backend: Backend, number: int, act: str, *, who: str | None, why: str = ""
) -> sa.Select[Any]:
    """``disable``, ``enable`` or ``remove`` a webhook. Audited.

    Enabled again it is sent what is waiting, and everything that has happened meanwhile.

    Returns:
        A question that has an answer when, and only when, this act was saved.

    Raises:
        NotFound: there is no such webhook.
    """
    row(conn, number)
    now = backend.now(conn)
    ways: dict[str, dict[str, Any]] = {
        "disable": {"disabled_at": now, "disabled_why": why or "By hand."},
        "enable": {"disabled_at": None, "disabled_why": None, "failures": 0, "pause_until": None},
        "remove": {"removed_at": now},
    }
    conn.execute(sa.update(webhook).where(webhook.c.id == number).values(**ways[act]))
    return note(
        conn, backend, act=f"webhook {act}d", target=f"webhook {number}", who=who, detail=why
    )


def row(conn: sa.Connection, number: int) -> Any:
    """The locked row of a webhook that is there. Raises NotFound."""
    columns = webhook.c
    found = conn.execute(
        sa.select(webhook)
        .where(columns.id == number, columns.removed_at.is_(None))
        .with_for_update()
    ).first()
    if found is None:
        raise NotFound(f"There is no webhook {number}.", hint="List them: nemflow webhooks list")
    return found


def must_be(conn: sa.Connection, number: int) -> None:
    """Raise NotFound unless there is, or was, a webhook of this number."""
    if conn.execute(sa.select(webhook.c.id).where(webhook.c.id == number)).first() is None:
        raise NotFound(f"There is no webhook {number}.", hint="List them: nemflow webhooks list")


def listed(conn: sa.Connection, backend: Backend) -> pl.DataFrame:
    """Every webhook that is there; see ``Store.webhooks``."""
    columns = webhook.c

    def how_many(state: str) -> Any:
        mine = webhook_message.c.webhook == columns.id, webhook_message.c.state == state
        return sa.select(sa.func.count()).where(*mine).scalar_subquery().label(state)

    state = sa.case((columns.disabled_at.is_not(None), "disabled"), else_="on")
    return backend.fetch(
        conn,
        sa.select(
            columns.id.label("webhook"), state.label("state"), columns.url, columns.events,
            columns.sender, columns.consumer, how_many("waiting"), how_many("delivered"),
            how_many("dead"), columns.failures, columns.pause_until, columns.created_at,
            columns.disabled_at, columns.disabled_why,
        )
        .where(columns.removed_at.is_(None))
        .order_by(columns.id),
    )  # fmt: skip


def again(
    conn: sa.Connection,
    backend: Backend,
    number: int,
    which: Sequence[int] | None,
    who: str | None,
) -> tuple[int, sa.Select[Any]]:
    """Send dead messages again, with all their attempts; all of them with ``which`` None. Audited.

    Returns:
        How many, and a question that has an answer when, and only when, this act was saved.

    Raises:
        NotFound: there is no such webhook.
        UsageError: one of those named is not dead; then none is sent again.
    """
    row(conn, number)
    columns = webhook_message.c
    mine = [columns.webhook == number, columns.state == "dead"]
    if which is not None:
        mine.append(columns.id.in_(sorted(set(which))))
    done = conn.execute(
        sa.update(webhook_message)
        .where(*mine)
        .values(state="waiting", attempts=0, next_try_at=backend.now(conn))
    ).rowcount
    if which is not None and done != len(set(which)):
        raise UsageError(
            "Only dead messages of this webhook are sent again.",
            hint=f"See: nemflow webhooks messages {number} --state dead",
        )
    free = {"failures": 0, "pause_until": None}
    conn.execute(sa.update(webhook).where(webhook.c.id == number).values(**free))
    about = json.dumps({"messages": done})
    act = note(
        conn, backend, act="webhook retried", target=f"webhook {number}", who=who, detail=about
    )
    return done, act


# -- who sends ---------------------------------------------------------------------------------


def ready(conn: sa.Connection, backend: Backend) -> list[int]:
    """Webhooks that are on, not paused and held by nobody."""
    now, columns = backend.now(conn), webhook.c
    return list(
        conn.execute(
            sa.select(columns.id)
            .where(
                columns.removed_at.is_(None),
                columns.disabled_at.is_(None),
                sa.or_(columns.lease_until.is_(None), columns.lease_until < now),
            )
            .order_by(columns.id)
        ).scalars()
    )


def hold(
    conn: sa.Connection, backend: Backend, number: int, token: str, seconds: float
) -> Hook | None:
    """Take a webhook, or renew our hold on it, for so long; None: somebody else has it, or off."""
    now, columns = backend.now(conn), webhook.c
    free = sa.or_(
        columns.lease_until.is_(None), columns.lease_until < now, columns.lease_token == token
    )
    there = columns.removed_at.is_(None), columns.disabled_at.is_(None)
    held = conn.execute(
        sa.update(webhook)
        .where(columns.id == number, free, *there)
        .values(lease_token=token, lease_until=now + timedelta(seconds=seconds))
    ).rowcount
    return hook_of(conn, number) if held else None


def hook_of(conn: sa.Connection, number: int) -> Hook:
    """A webhook by its number. Raises NotFound."""
    found = row(conn, number)
    return Hook(
        found.id, found.url, frozenset(found.events.split()), found.salt, found.secret,
        found.failures,
    )  # fmt: skip


def let_go(conn: sa.Connection, number: int, token: str) -> None:
    """Give a webhook back."""
    held = webhook.c.id == number, webhook.c.lease_token == token
    conn.execute(sa.update(webhook).where(*held).values(lease_token=None, lease_until=None))
