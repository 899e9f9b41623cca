"""Reprocess a file: see what reading its original again would change, then do it.

Why: new rules, another profile or a mended program may take in what was refused, or the reverse;
whoever decides must see it first.

Promises: asking changes nothing; doing is one transaction, and answers like an upload. What is
compared in a request is bounded; a larger original is compared at a terminal.

Look next: ``nemflow.pipeline.reprocessing``; ``nemflow reprocess`` does the same at a terminal.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from nemflow.errors import TooLarge
from nemflow.pipeline.delivering import Delivering
from nemflow.pipeline.reprocessing import Source, compare, reprocess, source_of
from nemflow.service import forms
from nemflow.service.acts import Operator
from nemflow.service.auth import needs
from nemflow.service.context import Context
from nemflow.service.problems import Problem, documented
from nemflow.service.queries import Given, Which

router = APIRouter(prefix="/v1", tags=["acts"])
#: A larger original is not compared in a request.
COMPARED_BYTES: Final = 64 << 20
Profile = Annotated[
    Literal["portal", "b2b"] | None, Query(description="To read it under; default: as before.")
]
_TAKEN: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "With dry_run: what would change.",
        "content": {forms.JSON: {"schema": {"type": "object"}}},
    },
    202: {
        "description": "Taken back, and to be loaded again. Location says where to ask.",
        "content": {forms.JSON: {"schema": {"type": "object"}}},
    },
}


@router.get(
    "/files/{which}/reprocess",
    responses=forms.ROWS | documented(404, 406, 413),
    dependencies=[Depends(needs("read"))],
)
def see(
    request: Request,
    given: Given,
    which: Which,
    *,
    profile: Profile = None,
    same: Annotated[bool, Query(description="Also the days that stay as they are.")] = False,
) -> Response:
    """What reading the original again would change, day by day: changed, gained, lost."""
    source = _source(given, which)
    found = _compared(given, source, profile)
    rows = found.rows if same else found.rows.filter(found.rows["change"] != "same")
    return forms.answered(request, "changes", rows, found.to_dict())


@router.post("/files/{which}/reprocess", status_code=202, responses=_TAKEN | documented(404, 413))
def do(
    given: Given,
    by: Operator,
    which: Which,
    *,
    profile: Profile = None,
    dry_run: Annotated[bool, Query(description="Tell what would change; do nothing.")] = False,
) -> Response:
    """Take the delivery's days back and load its original again, under today's rules."""
    source = _source(given, which)
    if dry_run:
        found = _compared(given, source, profile)
        rows = found.rows.filter(found.rows["change"] != "same")
        return forms.document({"changes": rows.to_dicts(), **found.to_dict()})
    intake = given.intake
    if intake is None:
        raise Problem("E-ROUTE", "This service takes no uploads.")
    receipt = reprocess(given.store, intake.spool, source, profile=profile, by=by.name)
    intake.nudge()
    told = {
        "delivery": receipt.delivery,
        "state": receipt.state,
        "undone": source.delivery,
        "href": f"/v1/deliveries/{receipt.delivery}",
    }
    return forms.document(told, 202, Location=f"/v1/deliveries/{receipt.delivery}")


def _source(given: Context, which: str) -> Source:
    spool = None if given.intake is None else given.intake.spool
    how = given.how or Delivering()
    return source_of(given.store, which, spool, how.archive, file=True)


def _compared(given: Context, source: Source, profile: str | None) -> Any:
    if source.size > COMPARED_BYTES:
        raise TooLarge(
            f"The original has {source.size:,} bytes, more than are compared in a request.",
            hint=f"At a terminal: nemflow reprocess {source.delivery}",
        )
    return compare(given.store, source, given.how or Delivering(), profile=profile)
