"""Keys of the service: made, shown once, checked, revoked.

Why: a key stands for a sender; whoever reads the store's tables or a backup must not be able to use
one.

Promises: of a key's secret, 256 random bits, only a salted SHA-256 is kept (a slow hash protects
guessable secrets; nobody guesses this one, and it is checked at every request); checking takes as
long for a wrong secret as for a right one. Two live keys may share a name, so that one can be
replaced while the other still works. Making and revoking is audited.

Look next: ``nemflow keys``; ``nemflow.service.auth`` for who asks.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from nemflow.errors import NotFound, UsageError
from nemflow.store.ledger import note
from nemflow.store.tables import api_key
from nemflow.store.timeline import moment

if TYPE_CHECKING:
    import polars as pl

    from nemflow.store.backends import Backend

SCOPES: Final = ("upload", "read", "operate", "admin")
LIVE_AT_ONCE: Final = 2  #: keys of one name
_PREFIX: Final = "nemflow"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SECRET = re.compile(rf"{_PREFIX}_([0-9]{{1,12}})_([A-Za-z0-9_-]{{43}})")


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is good now."""

    id: int
    name: str
    sender: str | None  #: what it sends counts as sent by; None: as the file says
    scopes: frozenset[str]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made, with its secret: show it once, keep it nowhere."""

    key: Key
    secret: str
    made: sa.Select[tuple[int]]  #: has an answer when, and only when, the key was saved


def checked(name: str, scopes: Collection[str]) -> tuple[str, ...]:
    """The scopes in order. Raises UsageError for a name or scope that cannot be."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a key.",
            hint="Use letters, digits, dots, dashes and @, at most 64.",
        )
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        said = f"There is no scope {unknown[0]!r}." if unknown else "A key needs a scope."
        raise UsageError(said, hint=f"Scopes: {', '.join(SCOPES)}.")
    return tuple(scope for scope in SCOPES if scope in scopes)


def make(
    conn: sa.Connection,
    backend: Backend,
    name: str,
    scopes: Collection[str],
    *,
    sender: str | None = None,
    expires_at: datetime | None = None,
    who: str | None = None,
) -> NewKey:
    """Make a key.

    Args:
        conn: a writing connection.
        backend: the engine, whose clock counts.
        name: whose it is.
        scopes: of ``SCOPES``; ``admin`` may everything.
        sender: what it sends counts as sent by; None: as the file says.
        expires_at: from when on it is refused; None: never.
        who: makes it.

    Raises:
        UsageError: no such name or scope, a time that is over, or two live keys of this name.
    """
    ordered, now = checked(name, scopes), backend.now(conn)
    if expires_at is not None and expires_at <= now:
        raise UsageError("The key would have expired already.", hint="Give a later time.")
    if conn.dialect.name == "postgresql":  # nobody else makes one of this name meanwhile
        lock = int.from_bytes(hashlib.sha256(f"key {name}".encode()).digest()[:8], signed=True)
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
    live = conn.execute(
        sa.select(sa.func.count()).where(api_key.c.name == name, *_live(now))
    ).scalar_one()
    if live >= LIVE_AT_ONCE:
        raise UsageError(
            f"{name} has {live} live keys.", hint="Revoke one first: nemflow keys revoke ID"
        )
    number = backend.reserve(conn, api_key, 1)
    secret, salt = secrets.token_urlsafe(32), secrets.token_hex(16)
    conn.execute(
        sa.insert(api_key).values(
            id=number,
            name=name,
            sender=sender,
            scopes=" ".join(ordered),
            hash=_hashed(salt, secret),
            salt=salt,
            created_at=now,
            expires_at=expires_at,
        )
    )
    about = json.dumps({"name": name, "scopes": ordered})
    note(conn, backend, act="key made", target=f"key {number}", who=who, detail=about)
    saved = sa.select(api_key.c.id).where(api_key.c.id == number, api_key.c.salt == salt)
    key = Key(number, name, sender, frozenset(ordered), expires_at)
    return NewKey(key, f"{_PREFIX}_{number}_{secret}", saved)


def check(conn: sa.Connection, backend: Backend, secret: str) -> Key | None:
    """The key with this secret; None: unknown, expired or revoked."""
    parts = _SECRET.fullmatch(secret)
    number = int(parts[1]) if parts else -1
    row = conn.execute(sa.select(api_key).where(api_key.c.id == number)).first()
    salt, kept = ("", "") if row is None else (row.salt, row.hash)
    right = hmac.compare_digest(_hashed(salt, parts[2] if parts else ""), kept)
    if row is None or not right or row.revoked_at is not None:
        return None
    expires_at = moment(row.expires_at)
    if expires_at is not None and expires_at <= backend.now(conn):
        return None
    return Key(row.id, row.name, row.sender, frozenset(row.scopes.split()), expires_at)


def live(conn: sa.Connection, backend: Backend, number: int) -> Key | None:
    """The key of this number while it is good; None: unknown, expired or revoked."""
    columns = api_key.c
    row = conn.execute(
        sa.select(columns.id, columns.name, columns.sender, columns.scopes, columns.expires_at)
        .where(columns.id == number, *_live(backend.now(conn)))
    ).first()  # fmt: skip
    if row is None:
        return None
    scopes = frozenset(row.scopes.split())
    return Key(row.id, row.name, row.sender, scopes, moment(row.expires_at))


def revoke(
    conn: sa.Connection, backend: Backend, number: int, who: str | None
) -> sa.Select[tuple[int]]:
    """Take a key back. Audited.

    Returns:
        A question that has an answer when, and only when, it was saved.

    Raises:
        NotFound: there is no such key.
        UsageError: it is revoked already.
    """
    row = conn.execute(
        sa.select(api_key.c.name, api_key.c.revoked_at)
        .where(api_key.c.id == number)
        .with_for_update()
    ).first()
    if row is None:
        raise NotFound(f"There is no key {number}.", hint="List them with: nemflow keys list")
    if row.revoked_at is not None:
        raise UsageError(f"Key {number} is revoked already.", hint="See: nemflow keys list")
    now = backend.now(conn)
    conn.execute(sa.update(api_key).where(api_key.c.id == number).values(revoked_at=now))
    about = json.dumps({"name": row.name})
    note(conn, backend, act="key revoked", target=f"key {number}", who=who, detail=about)
    return sa.select(api_key.c.id).where(api_key.c.id == number, api_key.c.revoked_at.is_not(None))


def listed(conn: sa.Connection, backend: Backend) -> pl.DataFrame:
    """Every key ever made, newest first, without its secret; see ``Store.keys``."""
    now = backend.now(conn)
    columns = api_key.c
    state = sa.case(
        (columns.revoked_at.is_not(None), "revoked"),
        (columns.expires_at <= now, "expired"),
        else_="live",
    )
    return backend.fetch(
        conn,
        sa.select(
            columns.id.label("key"), columns.name, state.label("state"), columns.sender,
            columns.scopes, columns.created_at, columns.expires_at, columns.revoked_at,
        ).order_by(columns.id.desc()),
    )  # fmt: skip


def any_live(conn: sa.Connection, backend: Backend) -> bool:
    """Whether anybody has a key that is good now."""
    question = sa.select(api_key.c.id).where(*_live(backend.now(conn))).limit(1)
    return conn.execute(question).first() is not None


def _live(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    columns = api_key.c
    not_over = sa.or_(columns.expires_at.is_(None), columns.expires_at > now)
    return columns.revoked_at.is_(None), not_over


def _hashed(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode()).hexdigest()
