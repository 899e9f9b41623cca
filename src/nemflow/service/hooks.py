"""Sends messages to webhooks: signed, tried again, one sender at a time.

Why: a program should not have to ask every minute what has become of a file.

Promises: signed as Standard Webhooks say (``webhook-id``, ``webhook-timestamp``,
``webhook-signature``); only http and https, only to hosts that are allowed (where none are named,
to no link-local address, whatever name leads there), no redirect followed, one attempt takes no
longer than its time-out in all, two KiB of an answer are read; 2xx is delivered, 410 switches the
webhook off, everything else is tried again later with a pause that grows and is not the same for
all, until the message is dead. However many processes run this, a webhook is held by one at a
time, by a lease in the store; a killed one leaves everything waiting.

Look next: ``nemflow.store.webhooks`` for what is told; docs/webhooks.md.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
from standardwebhooks import Webhook

from nemflow._version import __version__
from nemflow.errors import NemflowError, NotFound, UsageError
from nemflow.jobs.pace import Calling
from nemflow.pipeline.loading import new_token
from nemflow.store import hookmessages, webhooks
from nemflow.store.hookmessages import Message
from nemflow.store.webhooks import Hook

if TYPE_CHECKING:
    from nemflow.store import Store

T = TypeVar("T")
log = logging.getLogger(__name__)
EVERY_SECONDS: Final = 1.0
_AT_ONCE: Final = 20  #: messages of a webhook in one go
_HOOKS_AT_ONCE: Final = 8
_READ_BYTES: Final = 2048
_MOST_PAUSE: Final = 60.0  #: of a webhook that does not answer
_EXPIRE_SECONDS: Final = 3600.0
_GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt."""

    status: int | None  #: None: no answer
    text: str  #: the beginning of it, or the error
    retry_after: float = 0.0  #: as the receiver asks, in seconds
    mend: str | None = None  #: nothing was sent; what we must do first

    @property
    def good(self) -> bool:
        """The receiver has it."""
        return self.status is not None and 200 <= self.status < 300


def checked_url(url: str, hosts: str | None = None) -> str:
    """The URL, when messages may be sent there. Raises UsageError.

    ``hosts``: setting ``webhooks.hosts``; None: any host but link-local addresses, where clouds
    keep their secrets.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or "\\" in url:
        raise UsageError(
            f"{url!r} is no address a webhook can have.", hint="For example https://host/path"
        )
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise UsageError(
            "A webhook's address has no user, password or fragment.",
            hint="Messages are signed; a token may be in the path.",
        )
    allowed = _named(hosts)
    if allowed and not any(
        host == each or (each.startswith(".") and host.endswith(each)) for each in allowed
    ):
        raise UsageError(
            f"Webhooks may not name the host {host}.", hint="Allowed ones: webhooks.hosts."
        )
    if not allowed and (address := _literal(host)) is not None:
        _must_be_allowed(address)
    return url


def _named(hosts: str | None) -> list[str]:
    """The hosts that ``webhooks.hosts`` names; none: all are allowed."""
    return [each.strip().lower() for each in (hosts or "").split(",") if each.strip()]


def _must_be_allowed(address: str) -> None:
    """See that messages may go to this address. Raises UsageError."""
    found = ipaddress.ip_address(address)
    mapped = getattr(found, "ipv4_mapped", None)
    if (mapped or found).is_link_local:
        raise UsageError(
            f"Webhooks may not lead to the link-local address {mapped or found}.",
            hint="Name its host in webhooks.hosts if it is really meant.",
        )


def _literal(host: str) -> str | None:
    """The address a host is by itself, in all the ways connections take it; None: a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))  # 2852039166, 0xa9fea9fe, 169.254.43518
    except OSError:
        return None


class Caller:
    """Tells webhooks what there is to tell; ``run`` in a thread of its own."""

    def __init__(
        self,
        store: Store,
        calling: Calling | None = None,
        *,
        key: str | None = None,
        hosts: str | None = None,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        """``key`` and ``hosts``: settings ``webhooks.key`` and ``webhooks.hosts``."""
        self._store = store
        self._calling = calling or Calling()
        self._key = key
        self._hosts = hosts
        self._every = every_seconds
        self._token = new_token()
        self._tls = ssl.create_default_context()
        self._stopped = threading.Event()
        self._busy: dict[int, Future[int]] = {}

    def run(self) -> None:
        """Tell until ``stop``; errors are logged, and it goes on."""
        expired = time.monotonic()
        with ThreadPoolExecutor(_HOOKS_AT_ONCE, thread_name_prefix="webhook") as pool:
            while not self._stopped.is_set():
                self._look(pool)
                if time.monotonic() - expired >= _EXPIRE_SECONDS:
                    self._safely(self._expire, "Old messages are removed later")
                    expired = time.monotonic()
                self._stopped.wait(self._every)

    def stop(self) -> None:
        """Let ``run`` end when the attempts in hand are over. Returns at once."""
        self._stopped.set()

    def _look(self, pool: ThreadPoolExecutor) -> None:
        """Begin with every webhook that nobody is at."""
        self._busy = {each: future for each, future in self._busy.items() if not future.done()}
        backend = self._store.backend
        ready = self._safely(
            lambda: backend.look(lambda conn: webhooks.ready(conn, backend)),
            "Webhooks are told later",
        )
        for number in ready or ():
            if number not in self._busy:
                self._busy[number] = pool.submit(self._guarded, number)

    def _guarded(self, number: int) -> int:
        done = self._safely(lambda: self.tell(number), f"Webhook {number} is told later")
        return done or 0

    def _expire(self) -> int:
        backend, days = self._store.backend, self._calling.keep_days
        return self._in(lambda conn: hookmessages.expire(conn, backend, days))

    def tell(self, number: int) -> int:
        """Tell one webhook what there is to tell now; how many attempts were made.

        Raises:
            NemflowError: the store cannot be reached.
        """
        if self._hold(number) is None:
            return 0
        try:
            while hookmessages.make_messages(self._store.backend, number):
                if self._stopped.is_set() or self._hold(number) is None:
                    return 0
            return self._send_due(number)
        finally:
            self._in(lambda conn: webhooks.let_go(conn, number, self._token))

    def _send_due(self, number: int) -> int:
        backend, done = self._store.backend, 0
        waiting = backend.look(lambda conn: hookmessages.due(conn, backend, number, _AT_ONCE))
        for message in waiting:
            hook = None if self._stopped.is_set() else self._hold(number)
            if hook is None:
                break
            done += 1
            if not self.send(hook, message).good:
                break  # the others wait out the pause
        return done

    def _hold(self, number: int) -> Hook | None:
        """Hold the webhook for longer than one attempt takes."""
        backend, seconds = self._store.backend, 3.0 * self._calling.timeout_seconds + 30
        return self._in(lambda conn: webhooks.hold(conn, backend, number, self._token, seconds))

    def send_now(self, number: int, message: int) -> Answer:
        """Send one message now, whoever holds the webhook. Raises NotFound."""
        hook, found = self._in(
            lambda conn: (webhooks.hook_of(conn, number), hookmessages.one(conn, message))
        )
        return self.send(hook, found)

    def send(self, hook: Hook, message: Message) -> Answer:
        """Make one attempt and write down what came of it."""
        answer = self._answer(hook, message)
        backend = self._store.backend
        if answer.good:
            self._in(
                lambda conn: hookmessages.tried(
                    conn, backend, message, state="delivered", status=answer.status,
                    answer=answer.text,
                )
            )  # fmt: skip
            self._store.part_works(f"webhook {hook.id}")
            return answer
        made = message.attempts + 1
        last = made >= self._calling.attempts or answer.status == _GONE
        again_in = None if last else max(self._pause(made, 3.0), answer.retry_after)
        pause = min(_MOST_PAUSE, self._pause(hook.failures + 1, 2.0))
        log.warning("Webhook %s: attempt %s of %s failed: %s", hook.id, made, message.message,
                    answer.text)  # fmt: skip
        self._in(
            lambda conn: hookmessages.tried(
                conn, backend, message, state="dead" if last else "waiting", status=answer.status,
                answer=answer.text, again_in=again_in, pause=pause,
            )
        )  # fmt: skip
        if answer.status == _GONE:
            self._off(hook, "It answered 410 Gone.")
        if last:
            self._store.part_fails(
                f"webhook {hook.id}",
                f"A message was given up after {made} attempts: {answer.text}",
                hint=f"See nemflow webhooks messages {hook.id} --state dead; when the receiver "
                f"is mended: nemflow webhooks retry {hook.id}",
            )
        elif answer.mend is not None:
            self._store.part_fails(
                f"webhook {hook.id}", f"Nothing can be sent: {answer.text}", hint=answer.mend
            )
        return answer

    def _off(self, hook: Hook, why: str) -> None:
        backend = self._store.backend
        self._in(lambda conn: webhooks.change(conn, backend, hook.id, "disable", who=None, why=why))

    def _pause(self, attempt: int, factor: float) -> float:
        """Seconds: grows with each attempt, half of it by chance."""
        steps = min(attempt - 1, 30)
        most = min(self._calling.retry_most_seconds, self._calling.retry_seconds * factor**steps)
        return most * random.uniform(0.5, 1.0)  # noqa: S311 - only to spread them

    def _answer(self, hook: Hook, message: Message) -> Answer:
        try:
            checked_url(hook.url, self._hosts)
        except UsageError as error:
            return Answer(None, error.message)
        try:
            secret = hook.signing(self._key)
        except UsageError as error:
            return Answer(None, error.message, mend=error.hint)
        now = datetime.now(UTC)
        signature = Webhook(secret).sign(message.message, now, message.payload)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"nemflow/{__version__}",
            "webhook-id": message.message,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        return asyncio.run(self._post(hook.url, headers, message.payload.encode()))

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """One attempt, cut off at its time-out whatever the receiver does."""
        seconds = float(self._calling.timeout_seconds)
        anywhere = not _named(self._hosts)
        watched = {"trace": _connected} if anywhere else {}
        try:
            async with asyncio.timeout(seconds):
                if anywhere:
                    await _look_up(url)
                async with (
                    httpx.AsyncClient(
                        follow_redirects=False, trust_env=False, verify=self._tls, timeout=seconds
                    ) as client,
                    client.stream(
                        "POST", url, headers=headers, content=body, extensions=watched
                    ) as answer,
                ):
                    return await _answered(answer)
        except TimeoutError:
            return Answer(None, f"No answer within {seconds:.0f} s.")
        except UsageError as error:
            return Answer(None, error.message)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Answer(None, f"{type(error).__name__}: {error}")

    def _in(self, act: Callable[[Any], T]) -> T:
        return self._store.backend.transact(act)

    def _safely(self, act: Callable[[], T], otherwise: str) -> T | None:
        try:
            return act()
        except NotFound:
            return None  # removed meanwhile
        except NemflowError as error:
            log.warning("%s: %s", otherwise, error)
        except Exception:
            log.exception("%s.", otherwise)
        return None


async def _look_up(url: str) -> None:
    """See that none of the addresses a host has is refused. Raises UsageError."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    for *_, address in found:
        _must_be_allowed(str(address[0]))


async def _connected(event: str, info: dict[str, Any]) -> None:
    """See, before anything is sent, who was reached: a name may be looked up differently twice."""
    if event == "connection.connect_tcp.complete":
        stream = info["return_value"]
        reached = stream.get_extra_info("server_addr")
        try:
            if reached is None:
                raise ConnectionResetError("The connection was closed at once.")
            _must_be_allowed(str(reached[0]))
        except (UsageError, OSError):
            await stream.aclose()
            raise


async def _answered(answer: httpx.Response) -> Answer:
    """What the receiver says, no more than the beginning of it."""
    said = b""
    async for piece in answer.aiter_raw(_READ_BYTES):
        said += piece
        if len(said) >= _READ_BYTES:
            break
    text = said[:_READ_BYTES].decode("utf-8", "replace")
    return Answer(answer.status_code, text, _retry_after(answer))


def _retry_after(answer: httpx.Response) -> float:
    """As the receiver asks, at most an hour."""
    said = answer.headers.get("retry-after", "")
    return min(float(said), 3600.0) if said.isascii() and said.isdigit() else 0.0
