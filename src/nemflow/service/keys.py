"""API keys over HTTP: list, make, rotate, revoke.

Why: who runs many services does not sit at each machine's terminal.

Promises: only ``admin`` may; a secret is in the answer that makes it and nowhere else, and that
answer is not to be stored on the way; each act is in the audit.

Look next: ``nemflow.store.keys``; ``nemflow keys`` does the same at a terminal.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from nemflow.errors import NotFound, UsageError
from nemflow.service import forms
from nemflow.service.auth import Caller, needs
from nemflow.service.problems import Problem, documented
from nemflow.service.queries import Given, Number, instant

router = APIRouter(prefix="/v1/keys", tags=["keys"])
Admin = Annotated[Caller, Depends(needs("admin"))]
_PLAIN = r"^[^\x00]*$"
_MADE: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "Made; its secret is shown this once.",
        "content": {forms.JSON: {"schema": {"type": "object"}}},
    }
}


class Wanted(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=64, pattern=_PLAIN, description="Whose it is.")
    scopes: list[Annotated[str, Field(max_length=20)]] = Field(
        default=["upload", "read"], min_length=1, max_length=8
    )
    sender: str | None = Field(
        None, max_length=100, pattern=_PLAIN, description="What it sends counts as sent by."
    )
    expires: str | None = Field(
        None, max_length=40, description="From when on it is refused; default: never."
    )


class Rotation(BaseModel):
    """How a key is replaced."""

    model_config = ConfigDict(extra="forbid")

    expires: str | None = Field(None, max_length=40, description="Of the new one; default: never.")
    revoke: bool = Field(default=False, description="Revoke the old one at once.")


@router.get("", responses=forms.ROWS | documented(406))
def listed(request: Request, given: Given, by: Admin) -> Response:
    """Every key ever made, newest first, without secrets."""
    return forms.answered(request, "keys", given.store.keys())


@router.post("", status_code=201, responses=_MADE | documented())
def make(given: Given, by: Admin, wanted: Wanted) -> Response:
    """Make a key. From the first one on keys are needed, on loopback too."""
    return _made(
        given,
        by,
        name=wanted.name,
        scopes=wanted.scopes,
        sender=wanted.sender,
        expires=wanted.expires,
    )


@router.post("/{number}/rotate", status_code=201, responses=_MADE | documented(404, 409))
def rotate(given: Given, by: Admin, number: Number, how: Rotation | None = None) -> Response:
    """Make a second key like this one; both are good until the old one is revoked."""
    wanted, old = how or Rotation(expires=None), _live(given, number)
    answer = _made(
        given,
        by,
        name=old["name"],
        scopes=old["scopes"].split(),
        sender=old["sender"],
        expires=wanted.expires,
    )
    if wanted.revoke:
        given.store.revoke_key(number, by=by.name)
    return answer


@router.post("/{number}/revoke", responses=documented(404, 409))
def revoke(given: Given, by: Admin, number: Number) -> Response:
    """Take a key back; it is refused within ten seconds."""
    try:
        given.store.revoke_key(number, by=by.name)
    except UsageError as error:
        raise Problem("E-STATE", error.message, error.hint) from error
    return forms.document({"key": number, "state": "revoked"})


def _live(given: Given, number: int) -> dict[str, Any]:
    rows = given.store.keys()
    found = rows.filter(rows["key"] == number)
    if found.is_empty():
        raise NotFound(f"There is no key {number}.", hint="List them with: nemflow keys list")
    row = found.row(0, named=True)
    if row["state"] != "live":
        raise Problem("E-STATE", f"Key {number} is {row['state']}.", hint="Make a new one.")
    return row


def _made(
    given: Given,
    by: Caller,
    *,
    name: str,
    scopes: list[str],
    sender: str | None,
    expires: str | None,
) -> Response:
    key, secret = given.store.make_key(
        name,
        scopes,
        sender=sender,
        expires_at=None if expires is None else instant(expires, "expires"),
        by=by.name,
    )
    told = {
        "key": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "sender": key.sender,
        "expires_at": key.expires_at,
        "secret": secret,
    }
    return forms.document(told, 201, **{"Cache-Control": "no-store"})
