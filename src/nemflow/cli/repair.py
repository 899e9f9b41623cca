"""``quarantine``, ``replay``, ``undo`` and ``redo``: put things right.

Why: a rejected day has a home, a reason and a way back; a wrong file can be taken out again.

Promises: nothing is deleted; undo then redo leaves everything as it was; after a replay the
counts of the file still balance.

Look next: :mod:`nemflow.pipeline`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemflow.cli import faults, wording
from nemflow.cli.ledger import a_number_or_hash
from nemflow.cli.options import DbOption, ProfileOption, again, open_to_read, settings
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.cli.summary import to_review
from nemflow.errors import UsageError

if TYPE_CHECKING:
    from nemflow.pipeline.outcome import Change

_QUARANTINE = (
    Column("quarantine", "id", right=True, show=wording.plain, style="bold"),
    Column("file", right=True, show=wording.plain),
    Column("source", gives_way="front"),
    Column("line", right=True, show=wording.plain),
    Column("record", right=True, show=wording.plain, optional=True),
    Column("nmi", "NMI"),
    Column("suffix"),
    Column("day"),
    Column("rules", style="yellow"),
    Column("attempts", machine_only=True),
    Column("open", machine_only=True),
    Column("resolved_by", machine_only=True),
    Column("resolved_at", machine_only=True),
    Column("created_at", machine_only=True),
    Column("context", machine_only=True),
    Column("raw", machine_only=True),
)
_CHANGE = (
    Column("kind"),
    Column("deliveries"),
    Column("files"),
    Column("days", right=True),
    Column("reads", right=True),
    Column("seq", right=True, show=wording.plain),
    Column("at"),
    Column("reviews", machine_only=True),
)
WhichArgument = Annotated[
    str,
    typer.Argument(
        help="A delivery's number, or the beginning of a file's SHA-256.", metavar="DELIVERY"
    ),
]


def quarantine(
    ctx: typer.Context,
    *,
    file: Annotated[
        str | None, typer.Option("--file", help="Only of this file.", metavar="ID")
    ] = None,
    rule: Annotated[
        str | None, typer.Option("--rule", help="Only what this rule rejected.", metavar="RULE")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also what has found its way in.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Print the stored lines too.")] = False,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List rejected days with their reasons and raw text."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        rows = store.quarantine(
            open_only=not every,
            file=None if file is None else a_number_or_hash(file),
            rule=rule.upper() if rule else None,
        )
    out.rows(_QUARANTINE, rows, empty="The quarantine is empty.")
    if raw:
        for row in rows.iter_rows(named=True):
            out.say(f"\n{row['quarantine']}:", "bold")
            out.say("\n".join(part for part in (row["context"], row["raw"]) if part))
    if not rows.is_empty():
        first = rows["rules"].explode().drop_nulls()
        if not first.is_empty():
            out.command("Why: ", f"nemflow explain {first[0]}")
        out.command("After a fix: ", f"{again('replay', db)} [--edit ID=corrected.txt]")


def replay(
    ctx: typer.Context,
    *,
    file: Annotated[
        str | None, typer.Option("--file", help="Only of this file.", metavar="ID")
    ] = None,
    rule: Annotated[
        str | None, typer.Option("--rule", help="Only what this rule rejected.", metavar="RULE")
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            "--edit",
            help="Corrected text of one record: ID=FILE; may be repeated.",
            metavar="ID=FILE",
        ),
    ] = None,
    profile: ProfileOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="The same report; nothing is written.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="List every file and finding.")] = False,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Read quarantined records again after a fix; what passes is loaded."""
    from nemflow import pipeline
    from nemflow.cli.loading import report

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    edits = dict(_edit(each) for each in edit) if edit else None
    chosen = settings(ctx, profile=profile)
    with open_to_read(ctx, db) as store:
        summary = pipeline.replay(
            store,
            None if file is None else a_number_or_hash(file),
            rule=rule.upper() if rule else None,
            profile=chosen.profile or "portal",
            edits=edits,
            dry_run=dry_run,
            value_limits=chosen.value_limits,
            participant=chosen.participant,
            review_after=chosen.review_after,
        )
    if not summary.files and out.for_people:
        out.say("There is nothing to replay.")
        return
    report(out, summary, every=every, db=db)
    if summary.days.rejected or summary.reads.rejected:
        raise typer.Exit(faults.PROBLEMS)


def undo(
    ctx: typer.Context,
    which: WhichArgument,
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Take a delivery's days back; the previous versions are current again."""
    from nemflow import pipeline

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        after = settings(ctx, db=db).review_after
        change = pipeline.undo(store, a_number_or_hash(which), review_after=after)
    _say(out, change, f"Undone: {_ids(change)}.")
    out.command("Back again with: ", again(f"redo {which}", db))


def redo(
    ctx: typer.Context,
    which: WhichArgument,
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Put back what undo took."""
    from nemflow import pipeline

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        after = settings(ctx, db=db).review_after
        change = pipeline.redo(store, a_number_or_hash(which), review_after=after)
    _say(out, change, f"Redone: {_ids(change)}.")


def _ids(change: Change) -> str:
    """``delivery 8``, or ``deliveries 8, 9, 10 and 20 more``."""
    few = ", ".join(str(each) for each in change.deliveries[:5])
    more = len(change.deliveries) - 5
    noun = "delivery" if len(change.deliveries) == 1 else "deliveries"
    return f"{noun} {few}" + (f" and {more:,} more" if more > 0 else "")


def _say(out: Output, change: Change, sentence: str) -> None:
    """What an undo or redo touched."""
    if not out.for_people:
        out.rows(_CHANGE, [change.to_dict()])
        return
    reads = f" and {wording.count(change.reads, 'register read')}" if change.reads else ""
    taken = "taken back" if change.kind == "undone" else "put back"
    out.say(f"{sentence} {wording.count(change.days, 'day')}{reads} {taken} (commit {change.seq}).")
    if change.reviews:
        out.say(f"{to_review(change.reviews)}.", "yellow")


def _edit(text: str) -> tuple[int, str]:
    """``12=fixed.txt`` as the quarantine id and the file's text."""
    number, found, name = text.partition("=")
    if not found or not number.strip().isdigit():
        raise UsageError(f"--edit {text!r} is wrong.", hint="Write it as --edit 12=fixed.txt.")
    return int(number), Path(name).read_text(encoding="utf-8").rstrip("\r\n")
