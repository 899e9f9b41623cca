"""What is wrong, and what became of files: problems and outcomes over HTTP.

Why: a console, a pager or a script must see the same list as ``nemflow problems``, and follow the
outcomes of files without missing one.

Promises: outcomes come in an order that never changes; asked again with ``next`` none is left out
and none comes twice.

Look next: ``nemflow.store.following``; docs/problems.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from nemflow.errors import UsageError
from nemflow.service import forms
from nemflow.service.acts import Operator
from nemflow.service.auth import needs
from nemflow.service.health import checked
from nemflow.service.problems import Problem, documented
from nemflow.service.queries import MOST, Before, Given, Limit, Many, Number

router = APIRouter(prefix="/v1", tags=["problems"])
Reader = [Depends(needs("read"))]
Sender = Annotated[str | None, Query(max_length=200, description="Only of this sender.")]


class Closing(BaseModel):
    """Why a problem is closed."""

    model_config = ConfigDict(extra="forbid")

    note: str = Field(
        min_length=1, max_length=2000, pattern=r"^[^\x00]*\S[^\x00]*$",
        description="What was found, or done.",
    )  # fmt: skip


@router.get("/problems", responses=forms.ROWS | documented(406), dependencies=Reader)
def problems(
    request: Request,
    given: Given,
    *,
    state: Literal["open", "all"] = "open",
    sender: Sender = None,
    cursor: Before = None,
    limit: Limit = 100,
) -> Response:
    """What is wrong, newest first: what, since when, how often, who must act, what to do."""
    limit = min(limit, given.limits.page)
    rows = given.store.problems(
        open_only=state == "open", sender=sender, limit=limit + 1, before=cursor
    )
    onward = rows["problem"][limit - 1] if rows.height > limit else None
    return forms.answered(request, "problems", rows.head(limit), {"next": onward})


@router.post("/problems/{problem}/close", responses=documented(404, 409))
def close_problem(given: Given, by: Operator, problem: Number, why: Closing) -> Response:
    """Close a problem that was seen to; what comes again is a new one."""
    try:
        given.store.close_problems(problem, note=why.note, by=by.name)
    except UsageError as error:
        raise Problem("E-STATE", error.message, error.hint) from error
    return forms.document({"problem": problem, "state": "closed", "note": why.note.strip()})


@router.get("/now", responses=documented(), dependencies=Reader)
def now(given: Given) -> Response:
    """What goes on now: rates, lanes, who works on what, last failures, open problems, health."""
    return forms.document({**given.store.snapshot(), "health": checked(given)})


@router.get("/outcomes", responses=forms.ROWS | documented(406), dependencies=Reader)
def outcomes(
    request: Request,
    given: Given,
    *,
    cursor: Annotated[
        int | None,
        Query(ge=0, le=MOST, description="Behind this outcome; default: the last ones."),
    ] = None,
    state: Many = None,
    sender: Sender = None,
    limit: Limit = 1000,
) -> Response:
    """What became of deliveries, oldest first, in an order that stays; ask again with ``next``."""
    limit = min(limit, 10 * given.limits.page)
    end = given.store.last_outcome()  # before the question: up to here nothing is missing in it
    rows = given.store.outcomes(cursor, state=state, sender=sender, limit=limit)
    onward = rows["seq"][-1] if rows.height else cursor or 0
    if rows.height < limit or cursor is None:  # a filter may hide the newest
        onward = max(end, onward)
    return forms.answered(request, "outcomes", rows, {"next": onward})
