"""The application: every route, every error, in one place.

Why: one function makes what uvicorn runs and what the tests ask.

Promises: ``create`` opens nothing and starts nothing; all it uses is in the context it is given.

Look next: ``queries.py``, ``acts.py``, ``uploads.py``, ``stream.py``, ``health.py``; ``/docs`` of a
running service.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nemflow._version import __version__
from nemflow.errors import StoreAway
from nemflow.service import (
    acts,
    bulk,
    health,
    keys,
    noticed,
    problems,
    queries,
    reprocess,
    stream,
    uploads,
    watching,
    webhooks,
)
from nemflow.service.asking import Asking
from nemflow.service.bodies import Refusal
from nemflow.service.context import Context

if TYPE_CHECKING:
    from nemflow.jobs.breaker import Breaker

_log = logging.getLogger("nemflow.service")
_LOOK_SECONDS = 0.5  #: so often a request that waits looks whether the store is away
_ABOUT = """NEM12 and NEM13 files in, versioned interval data out.

Send `Authorization: Bearer <key>` unless the service runs on loopback without keys. Times are
market time, UTC+10 all year. Every error is a problem document (RFC 9457) with a stable `code`.
"""


def create(context: Context) -> FastAPI:
    """The application over a context.

    ``app.state.stopping`` (a ``threading.Event``) ends event streams and turns /readyz red: set it
    before the server is told to stop.
    """
    app = FastAPI(
        title="nemflow",
        version=__version__,
        description=_ABOUT,
        docs_url="/docs" if "docs" in context.features else None,
        openapi_url="/openapi.json" if "docs" in context.features else None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.state.context = context
    app.state.stopping = threading.Event()
    if "metrics" in context.features:
        app.include_router(health.measured)
    for part in (health, queries, acts, bulk, reprocess, keys, noticed, stream, uploads):
        app.include_router(part.router)
    app.include_router(webhooks.router)
    problems.install(app)
    app.add_middleware(_StoreAway, context=context)
    app.add_middleware(_NoZeroBytes)
    app.add_middleware(Asking, context=context)
    context.metrics.ask(watching.of_service(context))
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with problem documents and the key."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        parts = found.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = problems.SCHEMA
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}, {}]
        app.openapi_schema = found
    return app.openapi_schema


class _StoreAway:
    """While the store is away, refuses at once what needs it; one request now and then may try."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context
        self._left: set[asyncio.Future[None]] = set()  #: given up, and not over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or go on and learn from the answer."""
        breaker = self._context.breakers.get("store")
        if breaker is None or scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        wait = breaker.refuses()
        if wait:
            away = StoreAway("The store is away.", hint="Send it again after Retry-After.")
            told = problems.answer(away, retry_after=wait)
            await Refusal(told)(scope, receive, send)
            return

        async def heard(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 202):
                streams = any(b"event-stream" in value for _, value in message["headers"])
                if not streams:  # which begins before it has asked anything
                    breaker.worked()
            await send(message)

        await self._unless_away(scope, receive, heard, send, breaker)

    async def _unless_away(
        self, scope: Scope, receive: Receive, heard: Send, send: Send, breaker: Breaker
    ) -> None:
        """Answer, unless the store falls silent meanwhile: nobody waits for it as long as it likes.

        What was asked goes on in its thread; an upload that is taken in after all is the same when
        it is sent again.
        """
        begun = refused = False

        async def said(message: Message) -> None:
            nonlocal begun
            if not refused:
                begun = True
                await heard(message)

        answering = asyncio.ensure_future(self._app(scope, receive, said))
        try:
            while not answering.done():
                await asyncio.wait({answering}, timeout=_LOOK_SECONDS)
                if not answering.done() and not begun and breaker.open and breaker.retry_after > 0:
                    refused = True
                    self._left.add(answering)
                    answering.add_done_callback(self._ended)
                    away = StoreAway(
                        "The store does not answer.", hint="Send it again after Retry-After."
                    )
                    told = problems.answer(away, retry_after=breaker.retry_after)
                    await Refusal(told)(scope, receive, send)
                    return
        except asyncio.CancelledError:
            answering.cancel()
            raise
        await answering

    def _ended(self, answering: asyncio.Future[None]) -> None:
        self._left.discard(answering)
        if not answering.cancelled() and answering.exception() is not None:
            _log.info("A request that was given up ended with %r.", answering.exception())


class _NoZeroBytes:
    """Refuses addresses with a zero byte: no name has one, and no database takes it as text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at path and query; everything else goes on."""
        if scope["type"] == "http" and (
            "\0" in scope["path"] or b"%00" in scope.get("query_string", b"")
        ):
            refused = problems.Problem("E-REQUEST", "There is a zero byte in the address.")
            await problems.answer(refused)(scope, receive, send)
            return
        await self._app(scope, receive, send)
