"""``load``: put files into the store and give an account of every day.

Why: the one command that changes what is known.

Promises: ``--dry-run`` gives the same account and every finding, and writes nothing; Ctrl-C leaves
nothing half loaded; exit 1 when anything was rejected, 3 when a loading process was killed.

Look next: :func:`nemflow.pipeline.load`; ``summary.py`` and ``findings.py`` for what is printed.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemflow.cli import faults
from nemflow.cli.location import sqlite_path
from nemflow.cli.options import DbOption, ProfileOption, again, all_there, settings
from nemflow.cli.output import CsvOption, JsonOption, Output

if TYPE_CHECKING:
    from nemflow.pipeline.outcome import LoadSummary


def load(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(help="Files, folders or archives.", metavar="PATH")
    ],
    *,
    profile: ProfileOption = None,
    db: DbOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="The same report; nothing is written.")
    ] = False,
    sender: Annotated[
        str | None, typer.Option("--sender", help="Who sent it, for the ledger.", metavar="NAME")
    ] = None,
    jobs: Annotated[
        str | None,
        typer.Option(
            "--jobs", help="How many processes load at the same time; or auto.", metavar="N"
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List every file and finding.")] = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Load files, folders and archives into the store."""
    from nemflow import pipeline
    from nemflow.cli.progress import progress_bar
    from nemflow.store import open_store

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    chosen = settings(ctx, db=db, profile=profile, **{"load.jobs": jobs})
    sizes = chosen.sizes
    all_there(paths)
    with ExitStack() as opened:
        is_new = (path := sqlite_path(chosen.db)) is not None and not path.exists()
        store = (
            None
            if dry_run and is_new
            else opened.enter_context(open_store(chosen.db, pool=chosen.pool))
        )
        progress = opened.enter_context(progress_bar("Loading"))
        summary = pipeline.load(
            store,
            paths,
            profile=chosen.profile,
            dry_run=dry_run,
            progress=progress,
            limits=chosen.limits,
            value_limits=chosen.value_limits,
            participant=chosen.participant,
            sender=sender,
            review_after=chosen.review_after,
            jobs=sizes.jobs,
            batch_bytes=sizes.batch_bytes,
            chunk_bytes=sizes.chunk_bytes,
            xml_limits=chosen.xml_limits,
        )
    report(out, summary, every=every, db=db)
    if summary.died:
        raise typer.Exit(faults.FAULT)
    if not summary.ok:
        raise typer.Exit(faults.PROBLEMS)


def report(out: Output, summary: LoadSummary, *, every: bool, db: str | None) -> None:
    """Print the account and, to people, the findings and where to go next."""
    from nemflow.cli.findings import print_findings, warnings_in_words
    from nemflow.cli.summary import print_summary

    if out.form == "json":
        out.document(summary.to_dict())
        return
    if summary.dry_run:
        out.say("Dry run: nothing was written.", "bold")
    print_summary(out, summary, every=every)
    if every or summary.dry_run:
        print_findings(out, summary.findings, every=every)
    else:
        print_findings(out, summary.findings.filter(summary.findings["severity"] != "W"))
        if words := warnings_in_words(summary.findings):
            out.say()
            out.say(f"Warnings: {words}; --all shows them.", "cyan")
    if summary.dry_run:
        return
    if not summary.ok or summary.reviews:
        out.say()
    if not summary.ok:
        out.command("What was kept out: ", again("quarantine", db))
    if summary.reviews:
        out.command("What to look at: ", again("review --open", db))
