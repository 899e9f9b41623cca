"""Every request has an id, a trace and a line.

Why: a sender says "my upload of 3 a.m."; its X-Request-ID finds every line and span of it, to the
rows in the store.

Promises: the id a caller sends is taken when it is plain (64 letters, digits, ``.``, ``_``, ``-``
at most), else a new one is made; it is in the answer, and on its lines, also when the answer is a
fault of ours. A caller's traceparent is gone on with. What is told names the route's pattern, never
the address, which may hold an NMI.

Look next: ``nemflow.events.SCENE``; ``watching.py``.
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from nemflow.events import SCENE, RequestAnswered, Scene, new_trace, tell, trace_of
from nemflow.service.problems import answer
from nemflow.store.tables import MARKET_OFFSET

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from nemflow.service.context import Context

_PLAIN = re.compile(r"[0-9A-Za-z._-]{1,64}")
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


class Asking:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it, and tell of it when it is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = datetime.now(MARKET_OFFSET)
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request = given if _PLAIN.fullmatch(given) else secrets.token_hex(8)
        parent = headers.get("traceparent")
        trace = str(new_trace(parent))
        scene = Scene(request, trace)
        status, begun = 500, False  # when nothing is answered

        async def named(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                MutableHeaders(scope=message)["X-Request-ID"] = request
            await send(message)

        before = SCENE.set(scene)
        try:
            await self._app(scope, receive, named)
        except Exception as error:
            if begun:  # half an answer cannot be made another: the connection is closed
                raise
            await answer(error)(scope, receive, named)
        finally:
            SCENE.reset(before)
            route = getattr(scope.get("route"), "path", None) or "other"
            answered = RequestAnswered(
                request,
                trace,
                parent if trace_of(parent) else None,
                scene.who,
                scope["method"] if scope["method"] in _METHODS else "other",
                route,
                status,
                began,
                datetime.now(MARKET_OFFSET),
            )
            tell(self._context.hook, answered)
