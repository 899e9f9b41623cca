"""Who is let in: signing in with an API key, the session, and pages of other origins.

Why: the console shows how people live and can undo what a retailer bills; and a browser, unlike a
program, sends its cookies along with whatever page asks it to.

Promises: without keys only loopback is answered, under a loopback name; with keys every page,
every websocket and every request of a page needs a session, which holds the number of a key and
not the key, is signed with a stored secret, ends after twelve hours, and ends within ten seconds
when the key is revoked, on open pages too. What changes something, and every websocket, must come
from a page of this very origin. Cookies are not readable by scripts and not sent from other sites'
pages; no page of somebody else can frame ours.

Look next: ``nemflow.service.auth`` for what a scope allows: it is asked for every act.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import secrets
import time
from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from nemflow.errors import NemflowError, SystemFault
from nemflow.service.auth import LOCAL, LOOPBACK, Caller
from nemflow.service.problems import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from nemflow.service.context import Context

ROOT: Final = "/console"
SIGN_IN: Final = f"{ROOT}/sign-in"
SIGN_OUT: Final = f"{ROOT}/sign-out"
COOKIE: Final = "nemflow_session"
SESSION_SECONDS: Final = 12 * 3600
_BELIEVED_SECONDS: Final = 3.0
_MOST_FORM_BYTES: Final = 4096
_READING: Final = ("GET", "HEAD", "OPTIONS")
#: What the sign-in page needs, and holds nothing of anybody.
_OPEN: Final = (f"{ROOT}/_nicegui/", f"{ROOT}/own/")


def secret_in(path: Path | None) -> bytes:
    """The secret that signs sessions, from its file; made, readable by us only, when not there.

    Raises:
        SystemFault: it can be neither read nor written.
    """
    if path is None:
        return secrets.token_bytes(32)
    try:
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(secrets.token_bytes(32))
        except FileExistsError:
            pass
        found = path.read_bytes()
    except OSError as error:
        raise SystemFault(
            f"The console's secret cannot be kept in {path.name}: {error.strerror or error}.",
            hint="Check the spool's folder and its permissions.",
        ) from error
    if len(found) < 32:
        raise SystemFault(
            f"{path.name} holds no secret.", hint="Remove it; a new one is made at the next start."
        )
    return found


class Sessions:
    """Who a signed cookie stands for, asked again every few seconds."""

    def __init__(self, context: Context, secret: bytes) -> None:
        self._context = context
        self._secret = secret
        self._believed: dict[int, tuple[float, Caller | None]] = {}

    async def caller(self, cookie: str) -> Caller | None:
        """Whose session it is; None: nobody's, it has ended, or its key is good no more.

        Raises:
            StoreError: nobody can say.
        """
        number, until, signature = _parts(cookie)
        right = hmac.compare_digest(signature, self._signature(number, until))
        if not right or until < time.time():
            return None
        now = time.monotonic()
        known = self._believed.get(number)
        if known is None or known[0] < now:
            key = await run_in_threadpool(self._context.store.live_key, number)
            found = None if key is None else Caller(key.name, key.sender, key.scopes, key.name)
            known = now + _BELIEVED_SECONDS, found
            self._believed[number] = known
        return known[1]

    async def still(self, caller: Caller, cookie: str) -> bool:
        """Whether who was let in would be let in again: for what is shown without being asked for.

        Raises:
            StoreError: nobody can say.
        """
        if caller.key is None:
            return not await run_in_threadpool(self._context.store.has_keys)
        return await self.caller(cookie) is not None

    def begun(self, number: int) -> str:
        """The cookie of a new session of the key of this number."""
        until = int(time.time()) + SESSION_SECONDS
        return f"{number}.{until}.{self._signature(number, until)}"

    def _signature(self, number: int, until: int) -> str:
        said = f"console session {number} {until}".encode()
        return hmac.new(self._secret, said, hashlib.sha256).hexdigest()


class Gate:
    """The middleware in front of the console, and of /v1 when a page asks it.

    It leaves the caller in ``request.state.signed_in``, and for answers without end in
    ``request.state.still`` whom to ask whether the session still holds.
    """

    def __init__(self, app: ASGIApp, *, context: Context, sessions: Sessions) -> None:
        self._app = app
        self._context = context
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, send to sign in, or refuse."""
        path = scope.get("path", "")
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif path == "/" and scope["type"] == "http":
            await RedirectResponse(f"{ROOT}/", 307)(scope, receive, send)
        elif path == ROOT or path.startswith(f"{ROOT}/"):
            await self._console(scope, receive, send)
        else:
            if path.startswith("/v1/") and b"authorization" not in dict(scope["headers"]):
                await self._vouch(scope)
            await self._app(scope, receive, send)

    async def _vouch(self, scope: Scope) -> None:
        """A request of one of our pages: it counts as the session's."""
        if COOKIE not in Headers(scope=scope).get("cookie", ""):
            return
        if _of_this_origin(scope, strictly=scope["method"] not in _READING):
            cookie = Request(scope).cookies.get(COOKIE, "")
            caller = await self._sessions.caller(cookie)
            if caller is not None:
                state = scope.setdefault("state", {})
                state["signed_in"] = caller
                state["still"] = functools.partial(self._sessions.still, caller, cookie)

    async def _console(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] == "websocket":
            allowed = _of_this_origin(scope, strictly=True)
            if not allowed or await self._caller(scope) is None:
                await receive()
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        answer: Response | None = None
        if path == ROOT:
            answer = RedirectResponse(f"{ROOT}/", 307)
        elif path == SIGN_IN:
            answer = await self._sign_in(Request(scope, receive))
        elif path == SIGN_OUT:
            answer = _signed_out(Request(scope))
        elif not path.startswith(_OPEN):
            strictly = scope["method"] not in _READING
            if not _of_this_origin(scope, strictly=strictly):
                answer = PlainTextResponse("Not from a page of another origin.", 403)
            else:
                answer = await self._let_in(scope)
        await (answer or self._app)(scope, receive, _unframed(send))

    async def _let_in(self, scope: Scope) -> Response | None:
        """None: go on, the caller is known; else what is answered instead."""
        try:
            caller = await self._caller(scope)
        except Problem as problem:
            return _words(problem.detail, problem.hint, 403)
        except NemflowError as error:
            return _words(error.message, error.hint, 503)
        if caller is not None:
            scope.setdefault("state", {})["signed_in"] = caller
            return None
        if "/_nicegui_ws/" in scope["path"]:
            return PlainTextResponse("Sign in first.", 401)
        query = scope.get("query_string", b"").decode("latin-1")
        onward = quote(scope["path"] + (f"?{query}" if query else ""), safe="")
        return RedirectResponse(f"{SIGN_IN}?next={onward}", 303)

    async def _caller(self, scope: Scope) -> Caller | None:
        """Who asks; None: nobody is signed in. Raises Problem E-ORIGIN, NemflowError."""
        request = _AnyRequest(scope)
        caller = await self._sessions.caller(request.cookies.get(COOKIE, ""))
        if caller is not None:
            return caller
        try:
            await run_in_threadpool(self._context.keyring.caller, None)
        except Problem:
            return None
        host = urlsplit("//" + request.headers.get("host", "")).hostname or ""
        if host not in LOOPBACK:
            raise Problem(
                "E-ORIGIN",
                "Without API keys the console answers under a loopback name only.",
                hint="Make a key (nemflow keys add NAME), or open http://127.0.0.1.",
            )
        return LOCAL

    # -- signing in -------------------------------------------------------------------------

    async def _sign_in(self, request: Request) -> Response:
        """The form, or what becomes of it."""
        onward = _onward(request.query_params.get("next", ""))
        if request.method != "POST":
            return HTMLResponse(_form(onward), headers=_NO_STORE)
        if not _of_this_origin(request.scope, strictly=True):
            return PlainTextResponse("Not from a page of another origin.", 403)
        try:
            key = await run_in_threadpool(self._context.store.check_key, await _given(request))
        except NemflowError as error:
            return HTMLResponse(_form(onward, f"{error.message} {error.hint}"), 503)
        if key is None or not {"read", "admin"} & key.scopes:
            said = "This API key is not known, has expired or was revoked."
            if key is not None:
                said = f"The key {key.name} may not look at the console: it lacks the scope read."
            status = 401 if key is None else 403
            return HTMLResponse(_form(onward, said), status, headers=_NO_STORE)
        answer = RedirectResponse(onward, 303)
        answer.set_cookie(
            COOKIE,
            self._sessions.begun(key.id),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer


def _unframed(send: Send) -> Send:
    """Answers that no page of somebody else may frame, and that say nothing of where one was."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = "frame-ancestors 'none'; object-src 'none'"
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "same-origin"
        await send(message)

    return sent


async def _given(request: Request) -> str:
    """The key of the form; more bytes than a key has are none."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_FORM_BYTES:
            return ""
    return parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0].strip()


class _AnyRequest(Request):
    """Headers and cookies of a websocket's first request too."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope if scope["type"] == "http" else {**scope, "type": "http"})


def _of_this_origin(scope: Scope, *, strictly: bool) -> bool:
    """Whether a page of this origin asks; ``strictly``: it must say so, else it must not differ."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host", "")
    return not strictly


def _parts(text: str) -> tuple[int, int, str]:
    """Number of the key, end in seconds since 1970, signature; what is broken never fits."""
    number, _, rest = text.partition(".")
    until, _, signature = rest.partition(".")
    good = all(each.isascii() and each.isdigit() and len(each) < 13 for each in (number, until))
    return (int(number), int(until), signature) if good and signature.isascii() else (0, 0, "")


def _onward(path: str) -> str:
    """Where to after signing in: a page of the console, nothing else."""
    return path if path.startswith(f"{ROOT}/") and "\\" not in path else f"{ROOT}/"


def _signed_out(request: Request) -> Response:
    if request.method != "POST" or not _of_this_origin(request.scope, strictly=True):
        return RedirectResponse(f"{ROOT}/", 303)
    answer = RedirectResponse(SIGN_IN, 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return answer


_NO_STORE: Final = {"Cache-Control": "no-store"}


def _form(onward: str, wrong: str = "") -> str:
    said = f'<p class="alert bad" role="alert"><b>Not signed in.</b> {escape(wrong)}</p>'
    return _plain_page(
        "Sign in",
        f"""{said if wrong else ""}
<form method="post" action="{SIGN_IN}?next={quote(onward, safe="")}" class="sign-in">
<label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus
 spellcheck="false" aria-describedby="key-help">
<button class="button primary" type="submit">Sign in</button>
<p id="key-help" class="muted">Whoever runs the service makes one:
<code>nemflow keys add NAME --scope read</code>. With <code>read</code> you may look, with
<code>operate</code> also retry, cancel, undo and replay, with <code>upload</code> send files.</p>
</form>""",
    )


def _words(detail: str, hint: str, status: int) -> Response:
    page = _plain_page("Not now", f"<p>{escape(detail)}</p><p>{escape(hint)}</p>")
    return HTMLResponse(page, status, headers=_NO_STORE)


def _plain_page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en-GB"><head><meta charset="utf-8"><title>{escape(title)} · nemflow</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="{ROOT}/own/console.css"><script src="{ROOT}/own/theme.js"></script>
</head><body class="plain"><main class="card narrow"><p class="brand">nemflow</p>
<h1>{escape(title)}</h1>{body}</main></body></html>"""
