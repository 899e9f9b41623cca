"""``keys add``, ``list``, ``rotate``, ``revoke``: who may use the service.

Why: a key stands for a sender or a program; it must be replaced without a pause and taken back at
once.

Promises: a key's secret is printed once, when it is made, and is nowhere else; every act is
audited.

Look next: :mod:`nemflow.store.keys`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nemflow.cli import wording
from nemflow.cli.options import DbOption, an_instant, open_to_read, settings, who
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.errors import NotFound

if TYPE_CHECKING:
    from nemflow.store.keys import Key

keys = typer.Typer(
    name="keys", help="Say who may use the service.", no_args_is_help=True, rich_markup_mode=None
)
_KEYS = (
    Column("key", "id", right=True, show=wording.plain, style="bold"),
    Column("name"),
    Column("state"),
    Column("scopes"),
    Column("sender", optional=True),
    Column("created_at", "made", show=wording.minute),
    Column("expires_at", "expires", show=wording.minute),
    Column("revoked_at", "revoked", show=wording.minute, optional=True),
)
_MADE = (
    Column("key", "id", right=True, show=wording.plain),
    Column("name"),
    Column("scopes"),
    Column("sender", optional=True),
    Column("expires_at", "expires", show=wording.minute, optional=True),
    Column("secret"),
)
_REVOKED = (Column("key", "id", right=True, show=wording.plain),)


@keys.callback()
def look_after() -> None:
    """Say who may use the service."""


@keys.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose it is: a program, a provider.")],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="upload, read, operate or admin; may be repeated."),
    ] = None,
    sender: Annotated[
        str | None,
        typer.Option("--sender", help="What it sends counts as sent by.", metavar="ID"),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", help="From when on it is refused.", metavar="WHEN"),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Make a key and print its secret, once."""
    from nemflow.store import open_store

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    chosen = settings(ctx, db=db)
    with open_store(chosen.db, pool=chosen.pool) as store:  # keys may come before the first file
        key, secret = store.make_key(
            name,
            scope or ["upload", "read"],
            sender=sender,
            expires_at=None if expires is None else an_instant(expires, "--expires"),
            by=who(),
        )
    _shown(out, key, secret)


@keys.command()
def rotate(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="The key's number.", metavar="ID")],
    *,
    expires: Annotated[
        str | None,
        typer.Option("--expires", help="From when on the new one is refused.", metavar="WHEN"),
    ] = None,
    revoke_old: Annotated[
        bool, typer.Option("--revoke", help="Take the old one back at once.")
    ] = False,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Make a second key like one that is live; both are good until the old one is revoked."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        old = store.live_key(number)
        if old is None:
            raise NotFound(f"There is no live key {number}.", hint="See: nemflow keys list")
        key, secret = store.make_key(
            old.name,
            sorted(old.scopes),
            sender=old.sender,
            expires_at=None if expires is None else an_instant(expires, "--expires"),
            by=who(),
        )
        if revoke_old:
            store.revoke_key(number, by=who())
    _shown(out, key, secret)
    if not revoke_old:
        out.say(f"When it is in use everywhere: nemflow keys revoke {number}", "dim")


@keys.command(name="list")
def listed(
    ctx: typer.Context,
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List every key ever made, newest first, without secrets."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        rows = store.keys()
    out.rows(_KEYS, rows, empty="No keys. Make one: nemflow keys add NAME")


@keys.command()
def revoke(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="The key's number.", metavar="ID")],
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Take a key back; the service refuses it within seconds."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        store.revoke_key(number, by=who())
    if not out.for_people:
        out.rows(_REVOKED, [{"key": number}])
        return
    out.say(f"Revoked: key {number}.")


def _shown(out: Output, key: Key, secret: str) -> None:
    """A new key, and its secret for the only time."""
    row = {
        "key": key.id,
        "name": key.name,
        "scopes": " ".join(sorted(key.scopes)),
        "sender": key.sender,
        "expires_at": key.expires_at,
        "secret": secret,
    }
    if not out.for_people:
        out.rows(_MADE, [row])
        return
    out.say(f"Key {key.id} for {key.name}: {row['scopes']}.")
    out.command("", secret, "bold")
    out.say("It is shown this once. Send it as: Authorization: Bearer ...", "dim")
