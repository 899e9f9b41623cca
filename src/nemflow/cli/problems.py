"""``problems`` and ``problems close``: what is wrong, since when, how often, who must act.

Why: a person on call must see five things to do, not three hundred rejected files.

Promises: what is shown comes from the store and is up to date; closing needs a note and is
audited; all or none of those named are closed.

Look next: :meth:`nemflow.store.Store.problems`; docs/problems.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from nemflow.cli import wording
from nemflow.cli.options import DbOption, again, numbers, open_to_read, who
from nemflow.cli.output import Column, CsvOption, JsonOption, Output

problems = typer.Typer(
    name="problems",
    help="List what is wrong, since when, how often, and who must act; close it when done.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
_MACHINE = (
    "kind", "first_delivery", "last_delivery", "last_name", "last_file", "closed_by",
    "closed_delivery",
)  # fmt: skip
_PROBLEMS = (
    Column("problem", "id", right=True, show=wording.plain, style="bold"),
    Column("state", optional=True),
    Column("sender", gives_way="fold"),
    Column("rule", style="yellow"),
    Column("what", gives_way="fold"),
    Column("message", machine_only=True),
    Column("times", right=True),
    Column("first_at", "since", show=wording.minute),
    Column("last_at", "last", show=wording.minute),
    Column("who", "must act"),
    Column("todo", machine_only=True),
    Column("closed_at", "closed", show=wording.minute, optional=True),
    Column("note", optional=True, gives_way="fold"),
    *(Column(name, machine_only=True) for name in _MACHINE),
)
_CLOSED = (Column("problem", "id", right=True, show=wording.plain), Column("note"))
_OF_CLOSED = {"state", "closed_at", "note"}
_HINTS = 5  #: so many problems are told what to do about


@problems.callback()
def listed(
    ctx: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", help="Also what is closed.")] = False,
    sender: Annotated[
        str | None, typer.Option("--sender", help="Only of this sender.", metavar="ID")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many; 0: all.", min=0)] = 100,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List what is wrong, since when, how often, and who must act; close it when done."""
    if ctx.invoked_subcommand is not None:
        return
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        rows = store.problems(open_only=not every, sender=sender, limit=limit or None)
    if out.for_people:
        shown = [each for each in _PROBLEMS if every or each.key not in _OF_CLOSED]
        out.rows(shown, _whose(rows.to_dicts()), empty="No open problems.")
    else:
        out.rows(_PROBLEMS, rows)
    opened = [row for row in rows.to_dicts() if row["closed_at"] is None]
    for row in opened[:_HINTS]:
        out.say()
        out.say(f"{row['problem']} {row['rule']}: {_last(row)}")
        out.say(f"  What to do: {row['todo']}")
    if opened:
        out.say()
        first = opened[0]["problem"]
        out.command("When it is seen to: ", again(f'problems close {first} --note "..."', db))


@problems.command()
def close(
    ctx: typer.Context,
    which: Annotated[list[str], typer.Argument(help="7, or 7-12.", metavar="ID...")],
    *,
    note: Annotated[str, typer.Option("--note", help="What was found, or done.", metavar="TEXT")],
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Close problems that were seen to; what comes again is a new problem."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    wanted = numbers(which, "ID")
    with open_to_read(ctx, db) as store:
        closed = store.close_problems(wanted, note=note, by=who())
    if not out.for_people:
        out.rows(_CLOSED, [{"problem": number, "note": note} for number in wanted])
        return
    out.say(f"Closed: {wording.count(closed, 'problem')}.")


def _whose(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For people: an empty sender in words."""
    nobody = {"system": "(the system)"}
    return [row | {"sender": row["sender"] or nobody.get(row["kind"], "(unknown)")} for row in rows]


def _last(row: Mapping[str, Any]) -> str:
    """Where it was met last, and what was said."""
    where = ""
    if row["last_delivery"] is not None:
        where = f"delivery {row['last_delivery']}, {row['last_name']}: "
    return f"{where}{row['message'] or row['what']}"
