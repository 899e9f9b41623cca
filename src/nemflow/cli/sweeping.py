"""``sweep``: everything new in a folder becomes a delivery, now.

Why: the schedule's sweep, by hand: for the first time, after an outage, or for another folder.

Look next: :mod:`nemflow.pipeline.sweeping`; docs/folder.md.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from nemflow.cli import faults, wording
from nemflow.cli.options import DbOption, ProfileOption, settings
from nemflow.cli.output import Column, CsvOption, JsonOption, Output

_COUNTS = ("found", "known", "taken", "duplicates", "young", "refused", "left")
_COLUMNS = (
    Column("folder", gives_way="front"),
    *(Column(name, right=True, show=wording.plain) for name in _COUNTS),
    Column("held", optional=True),
)


def sweep(
    ctx: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(help="The folder; default sweep.path.", metavar="FOLDER")
    ] = None,
    *,
    recursive: Annotated[
        bool | None, typer.Option("--recursive/--flat", help="Folders in it as well, or not.")
    ] = None,
    move: Annotated[
        bool | None,
        typer.Option(
            "--move/--leave", help="Move files to taken, done, rejected in it, or leave them."
        ),
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option("--spool", help="The service's spool.", metavar="FOLDER"),
    ] = None,
    profile: ProfileOption = None,
    sender: Annotated[
        str | None,
        typer.Option("--sender", help="Who sent what lies at the top.", metavar="NAME"),
    ] = None,
    lane: Annotated[
        str | None,
        typer.Option("--lane", help="urgent, normal or bulk.", metavar="LANE"),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Hand everything new in a folder to the service's workers."""
    from nemflow import app
    from nemflow.cli.progress import count_bar
    from nemflow.pipeline import crowding
    from nemflow.pipeline.sweeping import Swept
    from nemflow.store import open_store

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    given: dict[str, Any] = {"db": db, "sweep.sender": sender, "sweep.lane": lane}
    given |= {"sweep.profile": profile, "spool.folder": None if spool is None else str(spool)}
    chosen = settings(ctx, **given)
    with open_store(chosen.db, pool=chosen.pool) as store, count_bar() as tell:
        taken = [0]

        def told(now: Swept) -> None:
            taken[0] = now.taken
            tell("Sweeping", now.taken + now.duplicates, now.found)

        files = app.spool_of(chosen)
        waiting = crowding.lately(store.backlog, taken=lambda: taken[0])
        work = app.sweep_of(
            chosen, store, files, root=folder, recursive=recursive, move=move, tell=told,
            crowded=lambda: crowding.crowded(files, waiting, chosen.accept_limits),
        )  # fmt: skip
        done = work()
    named = str(folder or chosen.text("sweep.path"))
    out.rows(_COLUMNS, [{"folder": named, **dataclasses.asdict(done)}])
    for problem in done.problems:
        out.say(problem, "red")
    if done.taken:
        out.say("The service or a worker loads them: nemflow serve, nemflow worker")
    if done.held is not None:
        out.say(f"{done.held} Sweep again when some of it is loaded: it goes on.", "yellow")
        raise typer.Exit(faults.FAULT)
    if done.refused:
        raise typer.Exit(faults.PROBLEMS)
