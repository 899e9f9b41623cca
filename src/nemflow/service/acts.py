"""What changes something: undo, redo, replay.

Why: a wrong file must go and a mended record come in, also when nobody sits at a terminal.

Promises: each route is one verb of ``nemflow.pipeline``; who did it is in the audit; what its
state does not allow is refused with 409 and changes nothing.

Look next: ``queries.py`` to see what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from nemflow import pipeline
from nemflow.errors import UsageError
from nemflow.pipeline import Change
from nemflow.service import forms
from nemflow.service.auth import Caller, needs
from nemflow.service.context import Context
from nemflow.service.problems import Problem, documented
from nemflow.service.queries import Given, Number, Which

router = APIRouter(prefix="/v1", tags=["acts"])
Operator = Annotated[Caller, Depends(needs("operate"))]


class Replay(BaseModel):
    """Which quarantined records to read again."""

    model_config = ConfigDict(extra="forbid")

    file: str | None = Field(None, pattern="^[0-9A-Za-z]{1,64}$", description="Only of this file.")
    rule: str | None = Field(
        None, pattern="^[A-Za-z][0-9]{3}$", description="Only what this rule rejected."
    )
    profile: str = Field("portal", pattern="^(portal|b2b)$")
    edits: dict[int, Annotated[str, Field(max_length=1_000_000, pattern=r"^[^\x00]*$")]] | None = (
        Field(None, max_length=1000, description="Corrected text by quarantine id.")
    )
    dry_run: bool = Field(default=False, description="The same account; nothing is written.")


@router.post("/deliveries/{delivery}/undo", responses=documented(404, 409))
def undo_delivery(given: Given, by: Operator, delivery: Number) -> Response:
    """Take a delivery's days back; the versions before are current again."""
    return _changed(
        lambda: pipeline.undo(
            given.store, delivery, by=by.name, hook=given.hook, review_after=given.review_after
        )
    )


@router.post("/deliveries/{delivery}/redo", responses=documented(404, 409))
def redo_delivery(given: Given, by: Operator, delivery: Number) -> Response:
    """Put back what undo took."""
    return _changed(
        lambda: pipeline.redo(
            given.store, delivery, by=by.name, hook=given.hook, review_after=given.review_after
        )
    )


@router.post("/deliveries/{delivery}/retry", responses=documented(404, 409))
def retry_delivery(
    given: Given,
    by: Operator,
    delivery: Number,
    *,
    profile: Annotated[
        Literal["portal", "b2b"] | None,
        Query(description="To read it under from now on; default: as before."),
    ] = None,
) -> Response:
    """Queue a dead, rejected or cancelled delivery again, with all its attempts."""
    return _worked(
        given, lambda: given.store.retry(delivery, profile=profile, by=by.name), delivery
    )


@router.post("/deliveries/{delivery}/cancel", responses=documented(404, 409))
def cancel_delivery(given: Given, by: Operator, delivery: Number) -> Response:
    """Stop a delivery that is not done; whoever works on it learns of it and stops."""
    return _worked(given, lambda: given.store.cancel(delivery, by=by.name), delivery)


@router.post("/files/{which}/replay", responses=documented(404))
def replay_file(given: Given, by: Operator, which: Which, wanted: Replay | None = None) -> Response:
    """Read a file's quarantined records again."""
    return replay(given, by, (wanted or Replay()).model_copy(update={"file": which}))  # type: ignore[call-arg]


@router.post("/replay", responses=documented(404))
def replay(given: Given, by: Operator, wanted: Replay) -> Response:
    """Read quarantined records again after a fix; what passes now is loaded."""
    summary = pipeline.replay(
        given.store,
        wanted.file,
        rule=wanted.rule.upper() if wanted.rule else None,
        profile=wanted.profile,
        edits=wanted.edits,
        dry_run=wanted.dry_run,
        participant=given.participant,
        by=by.name,
        hook=given.hook,
        review_after=given.review_after,
    )
    return forms.document(summary.to_dict())


def _changed(change: Callable[[], Change]) -> Response:
    try:
        return forms.document(change().to_dict())
    except UsageError as error:
        raise Problem("E-STATE", error.message, error.hint) from error


def _worked(given: Context, act: Callable[[], int], delivery: int) -> Response:
    """The delivery after an act on it."""
    try:
        act()
    except UsageError as error:
        raise Problem("E-STATE", error.message, error.hint) from error
    if given.intake is not None:
        given.intake.nudge()
    return forms.document(forms.row_of(given.store.delivery(delivery)))
