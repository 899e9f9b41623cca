"""Every way a request can fail, as a problem document (RFC 9457) with a stable code.

Why: a program that sends files must tell "send it again later" from "never send this again"
without reading English.

Promises: every answer of status 400 and above is ``application/problem+json`` with ``type``,
``title``, ``status``, ``detail``, ``code`` and, where there is a next step, ``hint``; what may be
tried again carries ``Retry-After``; nothing of a fault of ours (paths, SQL, stack) is shown, only
its number in the log.

Look next: ``nemflow.errors`` for the tree below; ``docs/service.md`` lists the codes.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from nemflow import errors

MEDIA_TYPE = "application/problem+json"
_BASE = "urn:nemflow:problem:"
_log = logging.getLogger("nemflow.service")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem."""

    status: int
    title: str
    retry_after: int | None = None  #: seconds, when nobody knows better


#: Codes of the service itself.
KINDS: dict[str, Kind] = {
    "E-REQUEST": Kind(400, "The request cannot be understood"),
    "E-KEY": Kind(401, "An API key is needed"),
    "E-SCOPE": Kind(403, "The API key does not allow this"),
    "E-ORIGIN": Kind(403, "Not from a web page or under another host name"),
    "E-ROUTE": Kind(404, "There is no such page"),
    "E-METHOD": Kind(405, "The page does not take this method"),
    "E-FORM": Kind(406, "None of the forms asked for can be given"),
    "E-TOO-SLOW": Kind(408, "The body came too slowly"),
    "E-STATE": Kind(409, "Its state does not allow this"),
    "E-LENGTH": Kind(400, "The body ended early, or is not as its header says"),
    "E-TOO-LARGE": Kind(413, "The upload is too large"),
    "E-DIGEST": Kind(400, "The body does not match its Content-Digest"),
    "E-IDEMPOTENCY": Kind(409, "The Idempotency-Key was used for other content"),
    "E-BACKLOG": Kind(503, "Too much is waiting to be loaded", 30),
    "E-BUSY": Kind(503, "Too many uploads at the same time", 2),
    "E-RATE": Kind(429, "Too many requests", 1),
    "E-INTERNAL": Kind(500, "A fault of ours"),
}
#: How the errors of the rooms below are told; the nearest class counts.
STATUSES: dict[type[errors.NemflowError], Kind] = {
    errors.UsageError: Kind(422, "The request is wrong"),
    errors.NotFound: Kind(404, "There is no such thing"),
    errors.DataError: Kind(422, "The data is at fault"),
    errors.StoreBusy: Kind(503, "The store is busy", 2),
    errors.StoreAway: Kind(503, "The store is away", 10),
    errors.StoreUnreachable: Kind(503, "The store cannot be reached", 60),
    errors.StoreOutdated: Kind(503, "The store has another schema", 60),
    errors.StoreFull: Kind(507, "There is no room left", 60),
    errors.TooLarge: Kind(413, "The upload is too large"),
    errors.SpoolFull: Kind(507, "There is no room left", 60),
    errors.NemflowError: Kind(500, "A fault of ours"),
}
_BY_STATUS = {400: "E-REQUEST", 404: "E-ROUTE", 405: "E-METHOD", 413: "E-TOO-LARGE"}


@dataclass
class Problem(Exception):
    """A problem of the service itself: ``code`` is one of ``KINDS``."""

    code: str
    detail: str
    hint: str = ""
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)  #: further members of the document


def kind_of(error: errors.NemflowError) -> Kind:
    """How an error of a room below is told."""
    return next(STATUSES[each] for each in type(error).__mro__ if each in STATUSES)


def answer(
    error: Exception,
    *,
    retry_after: float | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """The problem document of any error.

    Args:
        error: any.
        retry_after: seconds, when somebody knows better.
        more: further members of the document.
    """
    match error:
        case Problem(code=code):
            kind = KINDS[code]
            retry = kind.retry_after if error.retry_after is None else error.retry_after
            return _document(
                code,
                kind,
                error.detail,
                error.hint,
                retry_after=retry,
                headers=dict(error.headers),
                more={**error.more, **(more or {})},
            )
        case errors.NemflowError():
            kind = kind_of(error)
            if kind.status == 500:
                return _fault(error, error.code, more)
            return _document(
                error.code,
                kind,
                error.message,
                error.hint,
                retry_after=retry_after or kind.retry_after,
                more=more,
            )
        case RequestValidationError():
            first = error.errors()[0]
            where = ".".join(str(part) for part in first.get("loc", ()))
            kind = STATUSES[errors.UsageError]
            return _document("E-USAGE", kind, f"{where}: {first.get('msg', 'is wrong')}.", "")
        case HTTPException():
            code = _BY_STATUS.get(error.status_code, "E-REQUEST")
            kind = Kind(error.status_code, KINDS[code].title)
            headers = dict(error.headers or {})
            return _document(code, kind, str(error.detail), "", headers=headers)
        case _:
            return _fault(error, "E-INTERNAL", more)


def install(app: FastAPI) -> None:
    """Every error of every route goes through ``answer``."""

    async def handle(request: Request, error: Exception) -> Response:
        noticed(request, error)
        return answer(error)

    for kind in (Problem, errors.NemflowError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handle)


def noticed(request: Request, error: Exception) -> None:
    """Have the store's breaker learn from an error of a request."""
    breaker = request.app.state.context.breakers.get("store")
    if breaker is None:
        return
    if isinstance(error, errors.StoreAway):
        breaker.failed(error)
    elif isinstance(error, errors.NotFound | errors.StoreBusy):  # the store has said so
        breaker.worked()


def documented(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: these statuses, as problem documents, in the OpenAPI."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    titles = {kind.status: kind.title for kind in (*KINDS.values(), *STATUSES.values())}
    usual = {400, 401, 403, 422, 429, 500, 503, *codes}
    return {code: {"description": titles[code], "content": content} for code in sorted(usual)}


#: The schema of a problem document, for the OpenAPI.
SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "hint": {"type": "string"},
        "accepted": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Of a form: the receipts of the files before the one at fault.",
        },
    },
}


def _fault(error: Exception, code: str, more: Mapping[str, Any] | None) -> Response:
    number = secrets.token_hex(4)
    _log.error("fault %s", number, exc_info=error)
    return _document(
        code,
        KINDS["E-INTERNAL"],
        f"Something went wrong on our side; it is in the log as {number}.",
        "Try again; if it stays, tell whoever runs the service the number.",
        more=more,
    )


def _document(
    code: str,
    kind: Kind,
    detail: str,
    hint: str,
    *,
    retry_after: float | None = None,
    headers: dict[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    body = {
        **(more or {}),
        "type": _BASE + code,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code,
    }
    if hint:
        body["hint"] = hint
    told = dict(headers or {})
    if retry_after is not None:
        told["Retry-After"] = str(max(1, math.ceil(retry_after)))
    return JSONResponse(body, kind.status, told, MEDIA_TYPE)
