"""Acts on many deliveries at once, looked at first; and what is dead.

Why: after an outage hundreds of deliveries are to be tried again, and nobody wants to name each,
or to hit one too many.

Promises: with ``dry_run`` nothing changes, and what would be acted on is listed; without, each is
acted on by itself, so one whose state has changed meanwhile is told of and holds back no other.
At most ``MOST`` at a time; ``more`` says that there are further ones. Nothing is chosen by an empty
request. Who did it is in the audit.

Look next: ``acts.py`` for one delivery; ``nemflow dead --retry`` does the same at a terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import polars as pl
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from nemflow import pipeline
from nemflow.errors import NemflowError, NotFound, StoreError, UsageError
from nemflow.mdff.meterdata import MARKET
from nemflow.service import forms
from nemflow.service.acts import Operator
from nemflow.service.auth import needs
from nemflow.service.context import Context
from nemflow.service.problems import documented
from nemflow.service.queries import MOST as BIGGEST
from nemflow.service.queries import Given, Limit, instant
from nemflow.store.work import WAITING, WORKING

router = APIRouter(prefix="/v1", tags=["acts"])
MOST: Final = 1000
_COLUMNS: Final = ("delivery", "name", "state", "sender", "channel", "received_at", "error")
#: What may be acted on.
_STATES: Final = {
    "retry": ("dead", "rejected", "cancelled"),
    "cancel": (*WAITING, *WORKING),
    "undo": ("loaded", "partly_loaded"),
}


class Chosen(BaseModel):
    """Which deliveries; all that is said must be true of each."""

    model_config = ConfigDict(extra="forbid")

    deliveries: list[Annotated[int, Field(ge=1, le=BIGGEST)]] | None = Field(
        None, min_length=1, max_length=MOST, description="These numbers."
    )
    state: list[Annotated[str, Field(max_length=20)]] | None = Field(
        None, min_length=1, max_length=10, description="In one of these states."
    )
    sender: str | None = Field(None, max_length=200)
    channel: str | None = Field(None, max_length=20)
    error: str | None = Field(
        None, min_length=1, max_length=200, description="Whose error has this text in it."
    )
    since: str | None = Field(None, max_length=40, description="Received at or after this time.")
    until: str | None = Field(None, max_length=40, description="Received before this time.")
    dry_run: bool = Field(default=False, description="List them; change nothing.")


@router.get("/dead", responses=forms.ROWS | documented(406), dependencies=[Depends(needs("read"))])
def dead(
    request: Request,
    given: Given,
    *,
    error: Annotated[
        str | None, Query(max_length=200, description="Whose error has this text in it.")
    ] = None,
    limit: Limit = 100,
) -> Response:
    """Deliveries that could not be worked on, newest first, with why: we must act."""
    limit = min(limit, given.limits.page)
    rows = given.store.dead(limit=None if error else limit)
    if error:
        rows = rows.filter(pl.col("error").str.contains(error, literal=True)).head(limit)
    return forms.answered(request, "dead", rows)


@router.post("/deliveries/retry", responses=documented(404))
def retry(given: Given, by: Operator, chosen: Chosen) -> Response:
    """Queue what is dead, rejected or cancelled again, with all its attempts."""
    return _acted(given, "retry", chosen, lambda number: given.store.retry(number, by=by.name))


@router.post("/deliveries/cancel", responses=documented(404))
def cancel(given: Given, by: Operator, chosen: Chosen) -> Response:
    """Stop what is not done."""
    return _acted(given, "cancel", chosen, lambda number: given.store.cancel(number, by=by.name))


@router.post("/deliveries/undo", responses=documented(404))
def undo(given: Given, by: Operator, chosen: Chosen) -> Response:
    """Take back what is loaded."""

    def act(number: int) -> object:
        return pipeline.undo(
            given.store, number, by=by.name, hook=given.hook, review_after=given.review_after
        )

    return _acted(given, "undo", chosen, act)


def _acted(given: Context, name: str, chosen: Chosen, act: Callable[[int], object]) -> Response:
    rows, more = _found(given, name, chosen)
    refused: list[dict[str, Any]] = []
    done: list[int] = []
    if not chosen.dry_run:
        for number in rows["delivery"].sort().to_list():
            try:
                act(number)
                done.append(number)
            except StoreError:
                raise  # what was done is done; the same request again does the rest
            except NemflowError as error:
                refused.append({"delivery": number, "code": error.code, "detail": error.message})
        if done and given.intake is not None:
            given.intake.nudge()
    told = {
        "act": name,
        "dry_run": chosen.dry_run,
        "found": rows.height,
        "more": more,
        "done": done,
        "refused": refused,
        "deliveries": rows.select(_COLUMNS).to_dicts(),
    }
    return forms.document(told)


def _found(given: Context, name: str, chosen: Chosen) -> tuple[pl.DataFrame, bool]:
    """The deliveries that are meant, newest first, and whether there are more.

    Raises:
        UsageError: nothing was said, or a state that the act is not for.
        NotFound: there is no delivery of a number.
    """
    said = chosen.model_dump(exclude={"dry_run"}, exclude_none=True)
    if not said:
        raise UsageError("Say which deliveries.", hint="By number, state, sender, error or time.")
    may = _STATES[name]
    wrong = sorted(set(chosen.state or ()) - set(may))
    if wrong:
        raise UsageError(f"{name} is not for {wrong[0]!r}.", hint=f"States: {', '.join(may)}.")
    states = list(chosen.state or may)
    if chosen.deliveries is not None:
        rows = _by_number(given, chosen.deliveries)
        rows = rows.filter(pl.col("state").is_in(states))
    else:
        rows = given.store.deliveries(
            states, sender=chosen.sender, channel=chosen.channel, limit=None
        )
    tests = [pl.col("parent").is_null()]
    if chosen.sender is not None:
        tests.append(pl.col("sender") == chosen.sender)
    if chosen.channel is not None:
        tests.append(pl.col("channel") == chosen.channel)
    if chosen.error is not None:
        tests.append(pl.col("error").str.contains(chosen.error, literal=True))
    if chosen.since is not None:
        tests.append(pl.col("received_at") >= _moment(chosen.since, "since"))
    if chosen.until is not None:
        tests.append(pl.col("received_at") < _moment(chosen.until, "until"))
    found = rows.filter(*tests)
    return found.head(MOST), found.height > MOST


def _by_number(given: Context, numbers: list[int]) -> pl.DataFrame:
    found = []
    for number in sorted(set(numbers), reverse=True):
        row = given.store.delivery(number)
        if row["parent"].item() is not None:
            raise NotFound(f"Delivery {number} came inside another.", hint="Name that one.")
        found.append(row.select("parent", *_COLUMNS))
    return pl.concat(found)


def _moment(text: str, name: str) -> pl.Expr:
    return pl.lit(instant(text, name)).dt.convert_time_zone(MARKET)
