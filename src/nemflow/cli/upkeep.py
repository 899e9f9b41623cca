"""``db upgrade``: bring a store of an older nemflow up to date.

Why: a store outlives the program that made it.

Promises: each step and the record that it ran are one transaction; what is already there is not
run again.

Look next: ``nemflow.store.migrations``.
"""

from __future__ import annotations

import typer

from nemflow.cli.options import DbOption, settings
from nemflow.cli.output import Column, CsvOption, JsonOption, Output

db = typer.Typer(
    name="db", help="Look after the store itself.", no_args_is_help=True, rich_markup_mode=None
)
_REVISIONS = (Column("revision"),)


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
