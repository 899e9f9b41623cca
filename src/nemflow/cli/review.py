"""``review``: what a person should look at, and closing it when it was looked at.

Why: the winner of a day is always decided; whether the decision was right is for people.

Promises: what is shown comes from the store's review events; closing one needs a note and is
audited; nothing is deleted.

Look next: docs/review.md; :meth:`nemflow.store.Store.reviews`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.cli import wording
from nemflow.cli.options import DbOption, a_day_or_instant, again, numbers, open_to_read, who
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = (
    Column("review", "id", right=True, show=wording.plain, style="bold"),
    Column("kind", show=lambda text: text.replace("_", " "), style="yellow"),
    Column("state"),
    Column("nmi", "NMI"),
    Column("suffix"),
    Column("day"),
    Column("register_id", "register", optional=True),
    Column("before", gives_way="fold"),
    Column("after", gives_way="fold"),
    Column("why", gives_way="fold"),
    Column("seq", "commit", right=True, show=wording.plain),
    Column("source", "from", gives_way="front"),
    Column("note", optional=True, gives_way="fold"),
    *(
        Column(name, machine_only=True)
        for name in (
            "at", "meter_serial", "period_at", "version_at", "content_hash", "other_hash", "cause",
            "line", "file", "delivery", "load", "other_load", "done_at", "done_by",
        )
    ),
)  # fmt: skip
_CLOSED = (Column("review", "id", right=True, show=wording.plain), Column("note"))
#: Where to look next, by kind.
_NEXT = {
    "chain_broken": "see the register reads of the NMI",
    "period_overlap": "see the register reads of the NMI",
}


def review(
    ctx: typer.Context,
    *,
    nmi: Annotated[str | None, typer.Option("--nmi", help="Only of this NMI.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Only this kind, e.g. conflict; may be repeated."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Only from this day or time on.", metavar="WHEN"),
    ] = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only what is open.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="At most so many; 0: all.", min=0)] = 200,
    done: Annotated[
        list[str] | None,
        typer.Option(
            "--done", help="Close: 7, or 7-12; may be repeated. Needs --note.", metavar="ID"
        ),
    ] = None,
    note: Annotated[
        str | None, typer.Option("--note", help="What was found, or done.", metavar="TEXT")
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List what a person should look at, newest first; close it with --done."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    if done:
        _close(ctx, out, numbers(done, "--done"), note, db=db)
        return
    if note is not None:
        raise UsageError("--note says nothing without --done.", hint="Add --done ID.")
    with open_to_read(ctx, db) as store:
        rows = store.reviews(
            nmi=None if nmi is None else nmi.upper(),
            kind=[_kind(text) for text in kind] if kind else None,
            since=a_day_or_instant(since, "--since"),
            open_only=open_only,
            limit=limit or None,
        )
    out.rows(_COLUMNS, rows, empty="Nothing to look at.")
    _hints(out, rows, db)


def _hints(out: Output, rows: pl.DataFrame, db: str | None) -> None:
    """Where to look next, for the first that is open."""
    waiting = rows.filter(rows["state"] == "open")
    if waiting.is_empty():
        return
    first: dict[str, Any] = waiting.row(0, named=True)
    if first["kind"] not in _NEXT and first["day"] is not None and first["period_at"] is None:
        side_by_side = f"versions {first['nmi']} --day {first['day']}"
        out.command("Side by side: ", again(side_by_side, db))
    out.command("When looked at: ", again(f'review --done {first["review"]} --note "..."', db))


def _close(
    ctx: typer.Context, out: Output, which: Sequence[int], note: str | None, *, db: str | None
) -> None:
    if note is None:
        raise UsageError("A note is needed: what was found?", hint='Add --note "..."')
    with open_to_read(ctx, db) as store:
        closed = store.close_reviews(which, note=note, by=who())
    if not out.for_people:
        out.rows(_CLOSED, [{"review": number, "note": note} for number in which])
        return
    out.say(f"Closed: {wording.count(closed, 'review event')}.")


def _kind(text: str) -> str:
    return text.strip().lower().replace("-", "_").replace(" ", "_")
