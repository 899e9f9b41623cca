"""Who asks, and whether they may.

Why: loading and undoing change what a retailer bills; reading shows how people live.

Promises: secrets are checked by the store, which keeps hashes only; a key found good is believed
for ten seconds, so a revoked key stops within that time, on answers without end too, and the first
key that is made is needed within that time; without any key the service answers loopback callers
only, and neither web pages of other origins nor other host names (a page in a browser can reach
loopback too).

Look next: ``nemflow keys``; ``nemflow.store`` for how keys are kept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from nemflow.events import SCENE
from nemflow.service.problems import Problem

SCOPES = ("upload", "read", "operate", "admin")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})
_BELIEVED_SECONDS = 10.0
_MOST_BELIEVED = 10_000


class Key(Protocol):
    """An API key as the store knows it."""

    @property
    def name(self) -> str:
        """What it is called; who did something, in the audit."""

    @property
    def sender(self) -> str | None:
        """Whose files it brings."""

    @property
    def scopes(self) -> Collection[str]:
        """Of ``SCOPES``."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    name: str
    sender: str | None
    scopes: frozenset[str]
    key: str | None  #: the key's name; None: a local caller without one

    def may(self, *scopes: str) -> bool:
        """Whether any of these is allowed; ``admin`` may everything."""
        return "admin" in self.scopes or any(scope in self.scopes for scope in scopes)


LOCAL = Caller("local", None, frozenset(SCOPES), None)


class Keyring:
    """Tells callers by their keys.

    Args:
        check: a secret's key, or None when it is wrong, revoked or expired; asks the store.
        needed: whether a caller without a key is refused; False only on loopback.
        made: whether there are keys by now; then they are needed from here on, on loopback too.
    """

    def __init__(
        self,
        check: Callable[[str], Key | None],
        *,
        needed: bool,
        made: Callable[[], bool] | None = None,
    ) -> None:
        self._check = check
        self._made = made
        self._looked = time.monotonic()
        self.needed = needed
        self._believed: dict[bytes, tuple[float, Caller]] = {}

    def caller(self, secret: str | None) -> Caller:
        """Who has this secret. Raises ``Problem`` E-KEY when nobody has."""
        if secret is None:
            if self._needed():
                raise _refused("Give an API key: Authorization: Bearer <key>.")
            return LOCAL
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
        now = time.monotonic()
        known = self._believed.get(digest)
        if known is not None and known[0] > now:
            return known[1]
        key = self._check(secret)
        if key is None:
            self._believed.pop(digest, None)
            raise _refused("This API key is not known, has expired or was revoked.")
        found = Caller(key.name, key.sender, frozenset(key.scopes), key.name)
        if len(self._believed) >= _MOST_BELIEVED:
            self._believed.clear()
        self._believed[digest] = (now + _BELIEVED_SECONDS, found)
        return found

    def _needed(self) -> bool:
        """Looks every ten seconds whether the first key was made meanwhile."""
        now = time.monotonic()
        if not self.needed and self._made is not None and now - self._looked > _BELIEVED_SECONDS:
            self.needed, self._looked = self._made(), now
        return self.needed


def needs(*scopes: str) -> Callable[[Request], Caller]:
    """A dependency of a route: the caller, who must have one of these scopes, or ``admin``.

    Who is signed in at the console, and asks from its pages, is found in ``request.state`` by
    ``nemflow.console.gate``.
    """

    def caller(request: Request) -> Caller:
        keyring: Keyring = request.app.state.context.keyring
        signed_in: Caller | None = getattr(request.state, "signed_in", None)
        found = signed_in or keyring.caller(secret_of(request))
        scene = SCENE.get()
        if scene is not None:
            scene.who = found.key
        if found.key is None:
            local_only(request)
        elif request.app.state.context.rate is not None and not hasattr(request.state, "counted"):
            request.state.counted = True  # a route may ask for two scopes
            request.app.state.context.rate.check(found.key)
        if not found.may(*scopes):
            raise Problem(
                "E-SCOPE",
                f"The key {found.name} may not {' or '.join(scopes)}.",
                hint=f"Use one with the scope {scopes[0]}; see nemflow keys.",
            )
        return found

    return caller


async def still(request: Request, *scopes: str) -> bool:
    """Whether who was let in would be let in again: asked again and again by answers without end.

    Of a session ``nemflow.console.gate`` knows; it leaves ``request.state.still`` to be asked.

    Raises:
        StoreError: nobody can say.
    """
    session: Callable[[], Awaitable[bool]] | None = getattr(request.state, "still", None)
    if session is not None:
        return await session()
    keyring: Keyring = request.app.state.context.keyring
    try:
        caller = await run_in_threadpool(keyring.caller, secret_of(request))
    except Problem:
        return False
    return caller.may(*scopes)


def secret_of(request: Request) -> str | None:
    """The secret of the Authorization header. Raises ``Problem`` E-KEY for another scheme."""
    given = request.headers.get("authorization")
    if given is None:
        return None
    scheme, _, secret = given.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _refused("Only Authorization: Bearer <key> is understood.")
    return secret.strip()


def local_only(request: Request) -> None:
    """Refuse web pages of other origins and other host names: nobody proved who they are."""
    host = urlsplit("//" + request.headers.get("host", "")).hostname or ""
    origin = request.headers.get("origin")
    other_page = origin is not None and (urlsplit(origin).netloc != request.headers.get("host", ""))
    if host not in LOOPBACK or other_page:
        raise Problem(
            "E-ORIGIN",
            "Without API keys only local programs are answered.",
            hint="Add a key (nemflow keys add NAME) and send it, or use http://127.0.0.1.",
        )


def _refused(detail: str) -> Problem:
    return Problem(
        "E-KEY",
        detail,
        hint="Keys are made with: nemflow keys add NAME",
        headers={"WWW-Authenticate": 'Bearer realm="nemflow"'},
    )
