"""Files come in: ``POST /v1/deliveries`` (a form) and ``PUT /v1/deliveries/{name}`` (the bytes).

Why: this is the moment after which the sender forgets the file.

Promises: 202 with a Location, or 200, only after the bytes are flushed under their name and the
ledger row is committed; 200 tells the outcome when there is one already (the same bytes stand, or
``?wait=`` saw the end); an upload that was cut off, refused or found wrong leaves nothing; nothing
is parsed here.

Look next: ``bodies.py`` for the bytes, ``intake.py`` for room, ``nemflow.pipeline.receiving``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response

from nemflow.errors import NemflowError, NotFound, UsageError
from nemflow.events import SCENE, Hook, Scene, UploadRefused, tell
from nemflow.pipeline.receiving import Receipt, receive
from nemflow.pipeline.reporting import report_of
from nemflow.pipeline.reprocessing import original_of
from nemflow.service import forms
from nemflow.service.auth import Caller, needs
from nemflow.service.bodies import Body, Digest, Gone, Parts, Refusal, named, parts_of
from nemflow.service.context import Context
from nemflow.service.intake import Intake
from nemflow.service.problems import Problem, answer, documented, noticed
from nemflow.service.queries import Given, Number
from nemflow.store.work import ARCHIVED, FINAL, SPOOLED, WORKING

router = APIRouter(prefix="/v1", tags=["uploads"])
Uploader = Annotated[Caller, Depends(needs("upload"))]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "array", "items": _BINARY["schema"]}},
    }
}
_RECEIPT = {"content": {forms.JSON: {"schema": {"type": "object"}}}}
_TAKEN: dict[int | str, dict[str, Any]] = {
    200: {"description": "Its outcome is known: a duplicate, or waited for.", **_RECEIPT},
    202: {
        "description": "Accepted: safe, and to be loaded. Location says where to ask.",
        **_RECEIPT,
    },
}
_REPORT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The report.",
        "content": {
            forms.JSON: {"schema": {"type": "object"}},
            forms.CSV: {"schema": {"type": "string"}},
        },
    }
}
_ORIGINAL: dict[int | str, dict[str, Any]] = {
    200: {"description": "Its bytes.", "content": {"application/octet-stream": _BINARY}}
}
_ANSWERS = _TAKEN | documented(408, 409, 413, 507)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the sender says beside the bytes."""

    wait: Annotated[float, Query(ge=0, description="Seconds to wait for the outcome.")] = 0.0
    profile: Annotated[
        Literal["portal", "b2b"] | None, Query(description="Rule profile; default by what it is.")
    ] = None
    priority: Annotated[Literal["urgent", "normal", "bulk"], Query(description="Lane.")] = "normal"
    dry_run: Annotated[bool, Query(description="Tell what would happen; store nothing.")] = False
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=200, description="The same key again: the same answer."),
    ] = None


Said = Annotated[Wishes, Depends()]


@router.post(
    "/deliveries",
    status_code=202,
    responses=_ANSWERS,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": _FORM}}},
)
async def post(request: Request, given: Given, by: Uploader, said: Said) -> Response:
    """One or many files as a form: texts, archives, messages."""
    return await _answered(
        request, given, lambda body: _taken(request, given, by, said, body, name=None)
    )


@router.put(
    "/deliveries/{name}",
    status_code=202,
    responses=_ANSWERS,
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}
    },
)
async def put(
    request: Request,
    given: Given,
    by: Uploader,
    said: Said,
    *,
    name: Annotated[str, InPath(min_length=1, max_length=255)],
) -> Response:
    """One file as it is; a Content-Digest (sha-256) is checked."""
    return await _answered(
        request, given, lambda body: _taken(request, given, by, said, body, name=name)
    )


Follower = Annotated[Caller, Depends(needs("read", "upload"))]


@router.get("/deliveries/{delivery}", responses=documented(404))
def delivery(given: Given, by: Follower, delivery: Number) -> Response:
    """One arrival: its state, attempts and counts. A key that may only upload sees its own."""
    row = _own(given, by, delivery)
    if given.side is not None and row["state"] in WORKING:
        row["progress"] = given.side.progress(delivery) or row["progress"]
    return forms.document(row)


@router.get("/deliveries/{delivery}/report", responses=_REPORT | documented(404, 406))
def report(request: Request, given: Given, by: Follower, delivery: Number) -> Response:
    """What the sender is told of it, as JSON or CSV: each file, line, rule, and what to mend."""
    form = forms.chosen(request, (forms.JSON, forms.CSV))
    _own(given, by, delivery)
    found = report_of(given.store, delivery)
    text = found.json() if form == forms.JSON else found.csv()
    return Response(text, media_type=form, headers={"Vary": "Accept"})


@router.get(
    "/deliveries/{delivery}/original",
    response_class=FileResponse,
    responses=_ORIGINAL | documented(404),
    dependencies=[Depends(needs("read"))],
)
def original(given: Given, delivery: Number) -> Response:
    """The bytes as they were delivered, as long as they lie in the spool or the archive."""
    row = forms.row_of(given.store.delivery(delivery))
    intake, archive = given.intake, None if given.how is None else given.how.archive
    kept = row["kept"] in (SPOOLED, ARCHIVED)  # of a member only its whole delivery is
    spool = None if intake is None else intake.spool
    path = original_of(row["sha256"], spool, archive) if kept else None
    if path is None:
        raise NotFound(
            f"The original of delivery {delivery} is neither in the spool nor in the archive.",
            hint="It is deleted, archived or kept after loading, see spool.keep_after.",
        )
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=named(row["name"]),
        headers={"X-Content-Type-Options": "nosniff"},
    )


def _own(given: Context, by: Caller, delivery: int) -> dict[str, Any]:
    """The delivery's row, when this caller may see it."""
    row = forms.row_of(given.store.delivery(delivery))
    if not by.may("read") and row["api_key"] != by.key:
        raise Problem("E-SCOPE", f"The key {by.name} did not bring delivery {delivery}.")
    return row


async def _answered(
    request: Request, given: Context, work: Callable[[Body], Awaitable[Response]]
) -> Response:
    """The answer, or a refusal that reaches a sender who still sends."""
    body = Body(request, given.limits)
    try:
        return await work(body)
    except Gone:
        return Response(status_code=400)  # nobody reads it
    except Exception as caught:  # noqa: BLE001  told as a problem document, faults are logged
        error, more = caught, {}
        if isinstance(caught, _InPart):
            error = caught.why
            more = {"accepted": [_receipt(name, receipt) for name, receipt in caught.accepted]}
        noticed(request, error)
        intake = given.intake
        room = None if intake is None else await run_in_threadpool(intake.room_after, error)
        told = answer(error, retry_after=room, more=more)
        scene = SCENE.get() or Scene()
        code = error.code if isinstance(error, Problem | NemflowError) else "E-INTERNAL"
        refused = UploadRefused(code, scene.request, scene.trace, scene.who)
        tell(given.hook, refused)
        return told if body.ended else Refusal(told)


class _InPart(Exception):
    """A file of a form could not be accepted; those before it were."""

    def __init__(self, why: Exception, accepted: list[tuple[str, Receipt]]) -> None:
        super().__init__()
        self.why, self.accepted = why, accepted


async def _taken(
    request: Request,
    given: Context,
    by: Caller,
    said: Wishes,
    body: Body,
    *,
    name: str | None,
) -> Response:
    """Take the body in: nothing before all of it has come."""
    intake = given.intake
    if intake is None or "uploads" not in given.features:
        raise Problem("E-ROUTE", "This service takes no uploads.")
    with intake.place(), ExitStack() as opened:
        await run_in_threadpool(intake.check_room, _length(request))
        digest = Digest(request)
        parts = await run_in_threadpool(parts_of, request, intake.spool, given.limits, opened, name)
        async for piece in body:
            await run_in_threadpool(_feed, parts, digest, piece)
        receipts = await run_in_threadpool(
            _received, intake, parts, digest, by=by, said=said, hook=given.hook
        )
    intake.nudge()
    rows = await _waited(given, receipts, min(said.wait, given.limits.wait_seconds))
    done = all(row["state"] in FINAL for row in rows)
    headers = {"Location": f"/v1/deliveries/{rows[0]['delivery']}"} if len(rows) == 1 else {}
    told = rows[0] if name is not None else {"deliveries": rows}
    return forms.document(told, 200 if done else 202, **headers)


def _feed(parts: Parts, digest: Digest, piece: bytes) -> None:
    digest.feed(piece)
    parts.feed(piece)


def _received(
    intake: Intake, parts: Parts, digest: Digest, *, by: Caller, said: Wishes, hook: Hook | None
) -> list[tuple[str, Receipt]]:
    """Every file safe and in the ledger.

    Of several files each is accepted for itself: when a later one fails, the problem names those
    that were accepted (``accepted``), and sending all again only makes duplicates of them.
    """
    scene = SCENE.get() or Scene()
    parts.end()
    digest.end()
    receipts: list[tuple[str, Receipt]] = []
    for number, (name, landing) in enumerate(parts.files):
        key = said.idempotency_key
        if key is not None and number:
            key = f"{key}/{number + 1}"
        try:
            receipt = receive(
                intake.store,
                intake.spool,
                landing,
                name=name,
                channel="http",
                sender=by.sender,
                api_key=by.key,
                profile=said.profile,
                lane=said.priority,
                dry_run=said.dry_run,
                idempotency_key=key,
                trace=scene.trace,
                request=scene.request,
                hook=hook,
            )
        except Exception as error:
            why: Exception = error
            if isinstance(error, UsageError) and key is not None:
                why = Problem("E-IDEMPOTENCY", error.message, error.hint)
            if receipts:
                intake.nudge()
                why = _InPart(why, receipts)
            if why is error:
                raise
            raise why from error
        if receipt.state not in FINAL and not receipt.repeated:
            intake.accepted(landing.size)
        receipts.append((name, receipt))
    return receipts


async def _waited(
    given: Context, receipts: list[tuple[str, Receipt]], seconds: float
) -> list[dict[str, Any]]:
    """The rows of what was received; looked at again until all are final or the time is over."""
    if seconds <= 0 and all(receipt.state not in FINAL for _, receipt in receipts):
        return [_receipt(name, receipt) for name, receipt in receipts]
    until = time.monotonic() + seconds
    pause = 0.05
    while True:
        rows = await run_in_threadpool(_rows, given, receipts)
        left = until - time.monotonic()
        if left <= 0 or all(row["state"] in FINAL for row in rows):
            return rows
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, 1.0)


def _rows(given: Context, receipts: list[tuple[str, Receipt]]) -> list[dict[str, Any]]:
    """Each as it stands now; a duplicate with what became of the earlier one."""
    rows = []
    for name, receipt in receipts:
        row = _receipt(name, receipt) | forms.row_of(given.store.delivery(receipt.delivery))
        if row["duplicate_of"] is not None:
            row["earlier"] = forms.row_of(given.store.delivery(row["duplicate_of"]))
        rows.append(row)
    return rows


def _receipt(name: str, receipt: Receipt) -> dict[str, Any]:
    return {
        "delivery": receipt.delivery,
        "name": name,
        "state": receipt.state,
        "sha256": receipt.sha256,
        "duplicate_of": receipt.duplicate_of,
        "href": f"/v1/deliveries/{receipt.delivery}",
    }


def _length(request: Request) -> int:
    """What the request says of its size; 0: nothing."""
    given = request.headers.get("content-length", "")
    return int(given) if given.isascii() and given.isdigit() else 0
