"""Webhooks over HTTP: made, tested, switched, removed; what each was told.

Promises: a secret is answered once, when the webhook is made; making, changing and testing needs
the scope admin, looking the scope operate (an address may hold a token).

Look next: ``hooks.py``, which sends; docs/webhooks.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from nemflow.errors import UsageError
from nemflow.service import forms
from nemflow.service.acts import Operator
from nemflow.service.auth import Caller, needs
from nemflow.service.hooks import checked_url
from nemflow.service.problems import Problem, documented
from nemflow.service.queries import Before, Given, Limit, Number

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
Admin = Annotated[Caller, Depends(needs("admin"))]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class NewWebhook(BaseModel):
    """Whom to tell, and of what."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(min_length=8, max_length=2000, pattern=r"^[^\x00]*$")
    events: list[Literal["file.final", "file.rejected", "file.dead", "consumer.changes"]] = Field(
        default=["file.final"], min_length=1, max_length=4
    )
    sender: Name | None = Field(None, description="Only of this sender's files.")
    consumer: Name | None = Field(None, description="Whose changed days to tell of.")


class Again(BaseModel):
    """Which dead messages are sent again."""

    model_config = ConfigDict(extra="forbid")

    messages: list[Annotated[int, Field(ge=1, le=2**63 - 1)]] | None = Field(
        None, max_length=10_000, description="Their numbers; without: all that are dead."
    )


@router.get("", responses=forms.ROWS | documented(406))
def webhooks(request: Request, given: Given, by: Operator) -> Response:
    """Who is told of what, and how many messages wait, were delivered or are dead."""
    return forms.answered(request, "webhooks", given.store.webhooks())


@router.post("", status_code=201, responses=documented())
def add_webhook(given: Given, by: Admin, wanted: NewWebhook) -> Response:
    """Make a webhook; the answer has its secret, which is never told again."""
    checked_url(wanted.url, given.hook_hosts)
    number, secret = given.store.add_webhook(
        wanted.url, wanted.events, sender=wanted.sender, consumer=wanted.consumer,
        key=given.hook_key, by=by.name,
    )  # fmt: skip
    told = {"webhook": number, "url": wanted.url, "events": wanted.events, "secret": secret}
    return forms.document(told, 201)


@router.delete("/{webhook}", status_code=204, responses=documented(404))
def remove_webhook(given: Given, by: Admin, webhook: Number) -> Response:
    """Remove a webhook for good."""
    given.store.change_webhook(webhook, "remove", by=by.name)
    return Response(status_code=204)


@router.post("/{webhook}/enable", responses=documented(404))
def enable_webhook(given: Given, by: Admin, webhook: Number) -> Response:
    """Send again: what waits, and what has happened meanwhile."""
    given.store.change_webhook(webhook, "enable", by=by.name)
    return forms.document({"webhook": webhook, "state": "on"})


@router.post("/{webhook}/disable", responses=documented(404))
def disable_webhook(given: Given, by: Admin, webhook: Number) -> Response:
    """Send nothing until it is enabled again; nothing is lost meanwhile."""
    given.store.change_webhook(webhook, "disable", by=by.name)
    return forms.document({"webhook": webhook, "state": "disabled"})


@router.post("/{webhook}/test", status_code=202, responses=documented(404))
def test_webhook(given: Given, by: Admin, webhook: Number) -> Response:
    """Have a message sent that says nothing; the list of messages tells what came of it."""
    made = given.store.test_webhook(webhook)
    return forms.document({"webhook": webhook, "number": made, "state": "waiting"}, 202)


@router.post("/{webhook}/retry", responses=documented(404, 409))
def retry_webhook(given: Given, by: Operator, webhook: Number, which: Again) -> Response:
    """Send dead messages again, with all their attempts."""
    try:
        done = given.store.retry_webhook(webhook, which.messages, by=by.name)
    except UsageError as error:
        raise Problem("E-STATE", error.message, error.hint) from error
    return forms.document({"webhook": webhook, "messages": done})


@router.get("/{webhook}/messages", responses=forms.ROWS | documented(404, 406))
def webhook_messages(
    request: Request,
    given: Given,
    by: Operator,
    webhook: Number,
    *,
    state: Annotated[Literal["waiting", "delivered", "dead"] | None, Query()] = None,
    cursor: Before = None,
    limit: Limit = 100,
) -> Response:
    """What a webhook was told, newest first: attempts, last answer, next try."""
    limit = min(limit, given.limits.page)
    rows = given.store.webhook_messages(webhook, state=state, limit=limit + 1, before=cursor)
    onward = rows["number"][limit - 1] if rows.height > limit else None
    return forms.answered(request, "messages", rows.head(limit), {"next": onward})
