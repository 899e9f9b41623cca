"""``consumers``, ``changes`` and ``feed``: what downstream systems hold, and what they must redo.

Why: a bill made from readings that were corrected afterwards must be found.

Promises: ``changes`` lists the days whose current content differs from what was taken, and no
others; ``feed`` tells every commit and day once, in commit order.

Look next: :class:`nemflow.store.downstream.Downstream`; docs/consumers.md.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.cli import wording
from nemflow.cli.options import DbOption, a_commit_or_instant, again, open_to_read
from nemflow.cli.output import Column, CsvOption, JsonOption, Output, write
from nemflow.errors import UsageError
from nemflow.plain import to_json

if TYPE_CHECKING:
    import polars as pl

    from nemflow.store import Store

NmiFilter = Annotated[
    list[str] | None,
    typer.Option("--nmi", help="Only this NMI; may be repeated.", metavar="NMI"),
]
ON_SCREEN = 60


def _every(value: Any) -> str:
    return "every" if value is None else wording.cell(value)


_SIDES = (
    Column("before_total", "before", right=True),
    Column("after_total", "after", right=True, style="bold"),
    Column("before_quality", "was", optional=True),
    Column("after_quality", "quality", optional=True),
    Column("before_uom", machine_only=True),
    Column("after_uom", machine_only=True),
    Column("uom", "unit"),
    Column("before_missing", machine_only=True),
    Column("after_missing", machine_only=True),
    Column("before_version_at", machine_only=True),
    Column("after_version_at", machine_only=True),
    Column("before_file", machine_only=True),
    Column("after_file", machine_only=True),
    Column("before_hash", machine_only=True),
    Column("after_hash", machine_only=True),
)
_CHANGES = (
    Column("nmi", "NMI", style="bold"),
    Column("suffix"),
    Column("day"),
    Column("kind"),
    *_SIDES,
    Column("take", machine_only=True),
    Column("taken_seq", machine_only=True),
    Column("changed_seq", "commit", right=True, show=wording.plain, optional=True),
)
_FEED = (
    Column("seq", "commit", right=True, show=wording.plain),
    Column("at", machine_only=True),
    Column("event", optional=True),
    Column("nmi", "NMI", style="bold"),
    Column("suffix"),
    Column("day"),
    Column("kind"),
    *_SIDES,
    Column("cursor", machine_only=True),
)
_TAKES = (
    Column("consumer", style="bold"),
    Column("take", right=True, show=wording.plain),
    Column("at", "taken", show=wording.stamp),
    Column("seq", "as of commit", right=True, show=wording.plain),
    Column("how"),
    Column("nmis", "NMIs", right=True, show=_every),
    Column("nmi", "NMI", optional=True),
    Column("suffix", optional=True),
    Column("first_day", "from"),
    Column("last_day", "to"),
)


def _with_unit(rows: pl.DataFrame) -> pl.DataFrame:
    """One unit to show: that of now, or of before where nothing is current."""
    import polars as pl

    return rows.with_columns(uom=pl.coalesce("after_uom", "before_uom"))


def consumers(
    ctx: typer.Context,
    consumer: Annotated[
        str | None, typer.Argument(help="Only this consumer.", metavar="[NAME]")
    ] = None,
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List who took which readings and when, newest first."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        rows = store.consumers(consumer)
    out.rows(
        _TAKES,
        rows,
        empty=f"Nobody took anything under a name: {again('readings NMI --as NAME', db)}",
        at_most=ON_SCREEN,
    )


def changes(
    ctx: typer.Context,
    *,
    consumer: Annotated[
        str | None,
        typer.Option("--consumer", help="Compare with what this consumer took.", metavar="NAME"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="Only what was touched after this commit number or time; without --consumer: "
            "compare with what was known then.",
            metavar="WHEN",
        ),
    ] = None,
    nmi: NmiFilter = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List the days that are no longer what a consumer took, before and after."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        rows = store.changes(
            consumer,
            since=a_commit_or_instant(since, "--since"),
            nmi=[each.upper() for each in nmi] if nmi else None,
        )
    rows = _with_unit(rows)
    taken = f"since {consumer} took it" if consumer else "since then"
    out.rows(_CHANGES, rows, empty=f"Nothing has changed {taken}.", at_most=ON_SCREEN)
    if not rows.is_empty():
        out.say(f"{wording.count(rows.height, 'day')} changed {taken}.")


def feed(
    ctx: typer.Context,
    *,
    since: Annotated[
        str,
        typer.Option("--since", help="Behind this commit number or cursor.", metavar="PLACE"),
    ] = "0",
    limit: Annotated[
        int, typer.Option("--limit", help="At most so many rows (a page, with --follow).", min=1)
    ] = 1000,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on for ever: one line each, JSON with --json.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", help="Seconds between looks, with --follow.", min=0.05)
    ] = 1.0,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Tell what each commit did to each day, in commit order."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    if follow and out.form == "csv":
        raise UsageError("--follow prints lines.", hint="Use --json, or leave out --csv.")
    with open_to_read(ctx, db) as store:
        if follow:
            _follow(store, since, limit, every, as_json=as_json)
        rows = _with_unit(store.feed(since, limit=limit))
    out.rows(_FEED, rows, empty=f"Nothing happened since {since}.", at_most=ON_SCREEN)
    if rows.height == limit:
        place = rows["cursor"][-1]
        out.command("More: ", again(f"feed --since {place}", db))


def _follow(store: Store, since: str, limit: int, every: float, *, as_json: bool) -> None:
    """Print rows as they come, for ever."""
    while True:
        rows = _with_unit(store.feed(since, limit=limit))
        _print_lines(rows, as_json=as_json)
        if not rows.is_empty():
            since = rows["cursor"][-1]
        if rows.height < limit:
            time.sleep(every)


def _print_lines(rows: pl.DataFrame, *, as_json: bool) -> None:
    """One line per row, written out at once."""
    for row in rows.iter_rows(named=True):
        if as_json:
            write(to_json({column.key: row[column.key] for column in _FEED}) + "\n")
            continue
        before, after = (wording.cell(row[f"{side}_total"]) or "-" for side in ("before", "after"))
        write(
            f"{row['seq']} {wording.stamp(row['at'])}  {row['nmi']} {row['suffix']} {row['day']}  "
            f"{row['kind']}: {before} -> {after} {row['uom']}\n"
        )
    sys.stdout.flush()
