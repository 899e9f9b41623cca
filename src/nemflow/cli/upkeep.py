"""``db upgrade``, ``db status``, ``db check``: look after the store itself.

Why: a store outlives the program that made it, and whoever runs it must see what is going on.

Promises: each step of an upgrade and the record that it ran are one transaction; what is already
there is not run again. ``status`` and ``check`` change nothing; ``check`` ends with 1 when a
promise is broken.

Look next: ``nemflow.store.migrations``, ``nemflow.store.status``, ``nemflow.store.invariants``.
"""

from __future__ import annotations

from typing import Annotated

import typer

from nemflow.cli import faults, wording
from nemflow.cli.options import DbOption, open_to_read, settings
from nemflow.cli.output import Column, CsvOption, JsonOption, Output

db = typer.Typer(
    name="db", help="Look after the store itself.", no_args_is_help=True, rich_markup_mode=None
)
_REVISIONS = (Column("revision"),)
_TABLES = (
    Column("table", style="bold"),
    Column("rows", "rows, about", right=True),
    Column("bytes", "size", right=True, show=wording.size),
    Column("partitions", right=True, optional=True),
    Column("first_month", "first", optional=True),
    Column("last_month", "last", optional=True),
)
_OPEN = (
    Column("load", right=True, show=wording.plain, style="bold"),
    Column("delivery", right=True, show=wording.plain),
    Column("name", gives_way="front"),
    Column("started_at", "since"),
    Column("holder", "by"),
    Column("seconds_left", "lease, s", right=True),
)
_PROMISES = (
    Column("held"),
    Column("promise", gives_way="fold"),
    Column("broken", right=True),
    Column("example", gives_way="fold"),
)


@db.callback()
def look_after() -> None:
    """Look after the store itself."""


@db.command()
def upgrade(
    ctx: typer.Context,
    *,
    url: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Bring the store's schema up to date with this program."""
    from nemflow.store import upgrade_store

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    chosen = settings(ctx, db=url)
    revisions = upgrade_store(chosen.db, pool=chosen.pool)
    out.rows(
        _REVISIONS,
        [{"revision": each} for each in revisions],
        empty="The store was up to date.",
    )


@db.command()
def status(
    ctx: typer.Context,
    *,
    url: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Say what the store is made of: schema, sizes, partitions, who works on it."""
    from nemflow.store.status import status_of

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    chosen = settings(ctx, db=url)
    found = status_of(chosen.db, chosen.pool)
    if out.form == "json":
        out.document(found.to_dict())
        return
    schema = f"schema {found.schema}"
    if found.schema != found.needed:
        schema += f", this program needs {found.needed}"
    out.say(f"{found.engine} {found.version}, {schema}", "bold")
    out.rows(_TABLES, found.tables)
    if not out.for_people:
        return
    total = sum(size for size in found.tables["bytes"] if size is not None)
    if total:
        out.say(f"{wording.size(total)} in all.")
    if found.open_loads.is_empty():
        out.say("Nobody is loading.")
    else:
        out.rows(_OPEN, found.open_loads, title="Open loads")
    late = found.leases.filter(found.leases["seconds_left"] < 0)
    for holder in late["holder"]:
        out.say(f"{holder} has gone; the next load clears what it left.", "yellow")


@db.command()
def check(
    ctx: typer.Context,
    *,
    deep: Annotated[
        bool, typer.Option("--deep", help="Hash every stored day again, not only a sample.")
    ] = False,
    url: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Check that the store keeps its promises; changes nothing."""
    from nemflow.store.invariants import checked

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, url) as store, store.backend.reading() as conn:
        found = checked(conn, deep=deep)
    rows = found.to_dicts()
    if out.for_people:
        rows = [row | {"held": "ok" if row["held"] else "BROKEN"} for row in rows]
    out.rows(_PROMISES, rows)
    broken = found.filter(~found["held"]).height
    if broken:
        out.say(f"{wording.count(broken, 'promise')} broken.", "red")
        raise typer.Exit(faults.PROBLEMS)
    out.say(f"All {found.height} promises held.", "green")
