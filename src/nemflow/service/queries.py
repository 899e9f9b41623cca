"""Questions over HTTP: deliveries, files, findings, quarantine, NMIs, readings, changes.

Why: what the command line prints, programs must be able to ask for.

Promises: each route is one call of ``nemflow.store.Store``; lists come newest first in pages, and
``next`` (a ``Link`` header outside JSON) leads to the next page; the columns are those of the
store's methods.

Look next: ``forms.py`` for JSON, CSV, Parquet and Arrow; ``acts.py`` for what changes something.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from fastapi.responses import Response

from nemflow.errors import UsageError
from nemflow.service import forms, lookups
from nemflow.service.auth import needs
from nemflow.service.context import Context
from nemflow.service.problems import documented
from nemflow.store.store import Resolution
from nemflow.store.tables import MARKET_OFFSET

router = APIRouter(prefix="/v1", dependencies=[Depends(needs("read"))], tags=["questions"])

MOST = 2**63 - 1
Number = Annotated[int, InPath(ge=1, le=MOST)]
Which = Annotated[
    str, InPath(max_length=64, description="Its number, or the beginning of its SHA-256.")
]
Nmi = Annotated[str, InPath(max_length=10, pattern="^[0-9A-Za-z]{1,10}$")]
Limit = Annotated[int, Query(ge=1, le=100_000, description="Rows of a page.")]
Before = Annotated[
    int | None, Query(ge=1, le=MOST, description="``next`` of the page before this one.")
]
Suffix = Annotated[list[str] | None, Query(description="Only these streams.")]
Many = Annotated[list[str] | None, Query(description="Only in these states.")]
Moment = Annotated[
    str | None,
    Query(description="2025-03-05, 2025-03-05T14:30 (market time), or with an offset."),
]
Known = Annotated[
    str | None, Query(description="As of this moment or commit number; never changes later.")
]


def context_of(request: Request) -> Context:
    """What the routes may use."""
    found: Context = request.app.state.context
    return found


Given = Annotated[Context, Depends(context_of)]


@router.get("/deliveries", responses=forms.ROWS | documented(406))
def deliveries(
    request: Request,
    given: Given,
    *,
    state: Many = None,
    parent: Annotated[int | None, Query(ge=1, le=MOST)] = None,
    sender: Annotated[str | None, Query(max_length=200)] = None,
    channel: Annotated[str | None, Query(max_length=20)] = None,
    cursor: Before = None,
    limit: Limit = 100,
) -> Response:
    """Arrivals, newest first."""
    limit = min(limit, given.limits.page)
    rows = given.store.deliveries(
        state, parent=parent, sender=sender, channel=channel, limit=limit + 1, before=cursor
    )
    onward = rows["delivery"][limit - 1] if rows.height > limit else None
    return forms.answered(request, "deliveries", rows.head(limit), {"next": onward})


@router.get("/deliveries/{delivery}/timeline", responses=forms.ROWS | documented(404, 406))
def timeline(request: Request, given: Given, delivery: Number) -> Response:
    """A delivery's way, step by step, with times and outcomes."""
    return forms.answered(request, "steps", given.store.timeline(delivery))


@router.get("/backlog", responses=documented())
def backlog(given: Given) -> Response:
    """What was accepted and is not done, by lane, and how fast it becomes less."""
    return forms.document(asdict(given.store.backlog()))


@router.get("/files", responses=forms.ROWS | documented(404, 406))
def files(
    request: Request,
    given: Given,
    *,
    state: Many = None,
    nmi: Annotated[str | None, Query(max_length=10)] = None,
    cursor: Before = None,
    limit: Limit = 100,
) -> Response:
    """Every meter data text ever seen, newest first."""
    limit = min(limit, given.limits.page)
    rows = given.store.files(state, nmi=_upper(nmi), limit=limit + 1, before=cursor)
    onward = rows["file"][limit - 1] if rows.height > limit else None
    return forms.answered(request, "files", rows.head(limit), {"next": onward})


@router.get("/files/{which}", responses=documented(404))
def file(given: Given, which: Which) -> Response:
    """One file: header, counts, and every load, undo and redo of it."""
    found = forms.row_of(given.store.file(which))
    return forms.document(found | {"loads": given.store.loads(which).to_dicts()})


@router.get("/files/{which}/findings", responses=forms.ROWS | documented(404, 406))
def findings(request: Request, given: Given, which: Which) -> Response:
    """What is wrong with a file, in line order."""
    return forms.answered(request, "findings", given.store.findings(which))


@router.get("/quarantine", responses=forms.ROWS | documented(404, 406))
def quarantine(
    request: Request,
    given: Given,
    *,
    file: Annotated[str | None, Query(max_length=64)] = None,
    rule: Annotated[str | None, Query(max_length=10)] = None,
    resolved: Annotated[bool, Query(description="Also what has found its way in.")] = False,
) -> Response:
    """Rejected records with their reasons and raw text."""
    rows = given.store.quarantine(open_only=not resolved, file=file, rule=_upper(rule))
    return forms.answered(request, "quarantine", rows)


@router.get("/nmis", responses=forms.ROWS | documented(406))
def nmis(request: Request, given: Given) -> Response:
    """Every NMI with current data."""
    return forms.answered(request, "nmis", given.store.nmis())


@router.get("/nmis/{nmi}/readings", responses=forms.ROWS | documented(404, 406))
def readings(
    request: Request,
    given: Given,
    nmi: Nmi,
    *,
    start: Annotated[Moment, Query(alias="from")] = None,
    end: Annotated[Moment, Query(alias="to")] = None,
    suffix: Suffix = None,
    resolution: Resolution = "raw",
    quality: Annotated[str | None, Query(pattern="^[AFSENVafsenv]{1,7}$")] = None,
    as_known_on: Known = None,
    consumer: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Readings of one NMI; ``to`` is included; as delivered, or rolled up."""

    def ask() -> Response:
        rows = given.store.readings(
            nmi.upper(),
            day_or_instant(start, "from"),
            day_or_instant(end, "to"),
            suffix=_uppers(suffix),
            resolution=resolution,
            quality=quality,
            as_known_on=commit_or_instant(as_known_on, "as_known_on"),
            consumer=consumer,
        )
        return forms.answered(request, "readings", rows)

    return lookups.kept(request, given, ask)


@router.get("/nmis/{nmi}/versions", responses=forms.ROWS | documented(404, 406))
def versions(
    request: Request, given: Given, nmi: Nmi, day: date, suffix: Suffix = None
) -> Response:
    """Everything ever said about a day, the current version first."""

    def ask() -> Response:
        rows = given.store.versions(nmi.upper(), day, suffix=_uppers(suffix))
        return forms.answered(request, "versions", rows)

    return lookups.kept(request, given, ask)


@router.get("/nmis/{nmi}/coverage", responses=forms.ROWS | documented(404, 406))
def coverage(
    request: Request,
    given: Given,
    nmi: Nmi,
    *,
    start: Annotated[date | None, Query(alias="from")] = None,
    end: Annotated[date | None, Query(alias="to")] = None,
) -> Response:
    """Gaps and the share of estimates, per stream."""

    def ask() -> Response:
        return forms.answered(request, "coverage", given.store.coverage(nmi.upper(), start, end))

    return lookups.kept(request, given, ask)


@router.get("/nmis/{nmi}/register-reads", responses=forms.ROWS | documented(404, 406))
def register_reads(request: Request, given: Given, nmi: Nmi, history: bool = False) -> Response:
    """NEM13 consumption periods: the current ones, or all."""
    rows = given.store.register_reads(nmi.upper(), history=history)
    return forms.answered(request, "register_reads", rows)


@router.get("/changes", responses=forms.ROWS | documented(404, 406))
def changes(
    request: Request,
    given: Given,
    *,
    consumer: Annotated[str | None, Query(max_length=200)] = None,
    since: Known = None,
    nmi: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """Days whose current content differs from what a consumer took, or was known on ``since``."""
    rows = given.store.changes(consumer, since=commit_or_instant(since, "since"), nmi=_uppers(nmi))
    return forms.answered(request, "changes", rows)


@router.get("/feed", responses=forms.ROWS | documented(406))
def feed(
    request: Request,
    given: Given,
    *,
    cursor: Annotated[str, Query(max_length=80, description="Behind this commit or row.")] = "0",
    limit: Limit = 1000,
) -> Response:
    """What happened behind the cursor, in commit order; ask again with ``next``."""
    rows = given.store.feed(cursor, limit=min(limit, 10 * given.limits.page))
    onward = rows["cursor"][-1] if rows.height else cursor
    return forms.answered(request, "feed", rows, {"next": onward})


@router.get("/reviews", responses=forms.ROWS | documented(406))
def reviews(
    request: Request,
    given: Given,
    *,
    nmi: Annotated[str | None, Query(max_length=10)] = None,
    kind: Annotated[list[str] | None, Query()] = None,
    state: Literal["open", "all"] = "open",
    limit: Limit = 100,
) -> Response:
    """What a person should look at, newest first."""
    rows = given.store.reviews(
        nmi=_upper(nmi), kind=kind, open_only=state == "open", limit=min(limit, given.limits.page)
    )
    return forms.answered(request, "reviews", rows)


def day_or_instant(text: str | None, name: str) -> date | datetime | None:
    """``2025-03-05`` is a day; anything longer an instant. Raises UsageError."""
    if text is None:
        return None
    try:
        if len(text.strip()) <= len("2025-03-05"):
            return date.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"{name}: {text!r} is no day.", hint="Write it as 2025-03-05.") from None
    return instant(text, name)


def instant(text: str, name: str) -> datetime:
    """A time; without an offset it is market time. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text.strip())
        if found.tzinfo is None:
            return found.replace(tzinfo=MARKET_OFFSET)
        return found.astimezone(MARKET_OFFSET)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{name}: {text!r} is no time.", hint="Write it as 2025-03-05T14:30."
        ) from None


def commit_or_instant(text: str | None, name: str) -> datetime | int | None:
    """A commit number, or a time. Raises UsageError."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    return instant(text, name)


def _upper(text: str | None) -> str | None:
    return None if text is None else text.upper()


def _uppers(texts: list[str] | None) -> list[str] | None:
    return [each.upper() for each in texts] if texts else None
