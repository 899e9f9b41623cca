"""``reprocess``: read a delivery's original again; see what that would change, then do it.

Why: new rules, another profile or a mended program may take in what was refused, or the reverse.

Promises: without ``--apply`` nothing changes; with it, the days are taken back and the original is
received again in one transaction, and a running service, or the next one, loads it.

Look next: :mod:`nemflow.pipeline.reprocessing`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nemflow.cli import wording
from nemflow.cli.options import DbOption, ProfileOption, again, open_to_read, settings, who
from nemflow.cli.output import Column, CsvOption, JsonOption, Output

_CHANGES = (
    Column("change", style="bold"),
    Column("record", right=True, show=wording.plain, optional=True),
    Column("nmi", "NMI"),
    Column("suffix"),
    Column("day"),
    Column("register_id", "register", optional=True),
    Column("rules", optional=True, style="yellow"),
)


def reprocess(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="The delivery's number.", metavar="ID")],
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it: take its days back and load it again.")
    ] = False,
    profile: ProfileOption = None,
    spool: Annotated[
        Path | None, typer.Option("--spool", help="The folder of originals.", metavar="FOLDER")
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", help="Where loaded originals were put.", metavar="FOLDER"),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Read a delivery's original again under today's rules: what would change; then --apply."""
    from nemflow import app
    from nemflow.pipeline import reprocessing

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    given = {
        "spool.folder": None if spool is None else str(spool),
        "spool.archive": None if archive is None else str(archive),
    }
    chosen = settings(ctx, db=db, **given)
    how, place = app.delivering_of(chosen), app.spool_of(chosen)
    with open_to_read(ctx, db) as store:
        source = reprocessing.source_of(store, number, place, how.archive)
        if apply:
            told = reprocessing.reprocess(store, place, source, profile=profile, by=who())
            if out.for_people:
                out.say(f"Delivery {source.delivery} is taken back; {told.delivery} is its next.")
                out.command("Follow it: ", again(f"delivery {told.delivery}", db))
            else:
                out.document({"delivery": told.delivery, "undone": source.delivery})
            return
        found = reprocessing.compare(store, source, how, profile=profile)
    rows = found.rows.filter(found.rows["change"] != "same")
    if out.form == "json":
        out.document(found.to_dict() | {"changes": rows.to_dicts()})
        return
    out.rows(_CHANGES, rows, empty="Nothing would change.")
    for error in found.errors:
        out.say(error, "red")
    counts = ", ".join(f"{count:,} {name}" for name, count in found.counts.items())
    out.say(f"Delivery {source.delivery} ({source.name}): {counts}.")
    if not rows.is_empty():
        words = f"reprocess {number} --apply" + (f" --profile {profile}" if profile else "")
        out.command("Do it: ", again(words, db))
