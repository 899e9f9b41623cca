"""``export``: readings of many NMIs from the store, as Parquet, Arrow, CSV or JSON lines.

Why: billing, settlement and data lakes take whole months of whole networks.

Promises: all of it is as of one commit; bounded memory whatever the size; the file appears whole
or not at all, and only then counts as taken by the consumer named with ``--as``.

Look next: :meth:`nemflow.store.Store.export`; ``tables.py`` writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemflow.cli import wording
from nemflow.cli.options import (
    DbOption,
    a_commit_or_instant,
    a_day_or_instant,
    again,
    open_to_read,
)
from nemflow.cli.output import Column, CsvOption, JsonOption, Output, printable
from nemflow.cli.query import AsOption, FromOption, KnownOption, SuffixOption, ToOption
from nemflow.cli.target import whole_file
from nemflow.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from nemflow.store.downstream import Export


class Table(StrEnum):
    """What to write."""

    PARQUET = "parquet"
    ARROW = "arrow"
    CSV = "csv"
    JSONL = "jsonl"


_ENDINGS = {
    ".parquet": Table.PARQUET,
    ".arrow": Table.ARROW,
    ".feather": Table.ARROW,
    ".ipc": Table.ARROW,
    ".csv": Table.CSV,
    ".jsonl": Table.JSONL,
    ".ndjson": Table.JSONL,
}
_WRITTEN = (
    Column("path", "file"),
    Column("size", right=True, show=wording.size),
    Column("rows", right=True),
    Column("days", right=True),
    Column("nmis", "NMIs", right=True),
    Column("seq", "as of commit", right=True, show=wording.plain),
    Column("consumer", "taken by", optional=True),
    Column("take", machine_only=True),
)


def export(
    ctx: typer.Context,
    *,
    target: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="Where to: .parquet .arrow .csv .jsonl",
            metavar="OUT",
            show_default=False,
        ),
    ],
    start: FromOption = None,
    end: ToOption = None,
    nmi: Annotated[
        list[str] | None,
        typer.Option("--nmi", help="Only this NMI; may be repeated.", metavar="NMI"),
    ] = None,
    suffix: SuffixOption = None,
    as_known_on: KnownOption = None,
    consumer: AsOption = None,
    form: Annotated[
        Table | None, typer.Option("--form", help="The form, when OUT's ending does not say it.")
    ] = None,
    floats: Annotated[
        bool, typer.Option("--float", help="Values as floats, not exact decimals.")
    ] = False,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Write the readings of all NMIs, or some, to one file, all as of one commit."""
    from nemflow.cli.tables import write_frames

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    chosen = form or _form_of(target)
    with open_to_read(ctx, db) as store:
        found = store.export(
            a_day_or_instant(start, "--from"),
            a_day_or_instant(end, "--to"),
            nmi=[each.upper() for each in nmi] if nmi else None,
            suffix=[each.upper() for each in suffix] if suffix else None,
            as_known_on=a_commit_or_instant(as_known_on, "--as-known-on"),
            consumer=consumer,
        )
        with whole_file(target) as draft, _watched(found) as frames:
            rows = write_frames(chosen.value, frames, draft, floats=floats)
        take = found.taken()
    row = {
        "path": str(target),
        "size": target.stat().st_size,
        "rows": rows,
        "days": found.done.days,
        "nmis": found.done.nmis,
        "seq": found.seq,
        "consumer": consumer,
        "take": take,
    }
    out.rows(_WRITTEN, [row])
    if not rows:
        out.say("No readings in this span: the file has its columns and no rows.", "yellow")
    if consumer is not None:
        out.command("What changes from here on: ", again(f"changes --consumer {consumer}", db))


def _form_of(target: Path) -> Table:
    """The form by the name's ending. Raises UsageError."""
    found = _ENDINGS.get(target.suffix.lower())
    if found is None:
        raise UsageError(
            f"Cannot tell from {target.name!r} what to write.",
            hint=f"Say it with --form: {', '.join(each.value for each in Table)}.",
        )
    return found


@contextmanager
def _watched(found: Export) -> Iterator[Iterator[pl.DataFrame]]:
    """The pieces, with a progress bar on stderr when a person looks at it."""
    if not sys.stderr.isatty():
        yield iter(found)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("Exporting {task.fields[at]}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[rows]:,} rows", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True, markup=False, highlight=False),
        transient=True,
    )

    def pieces(task: object) -> Iterator[pl.DataFrame]:
        for frame in found:
            at = "" if frame.is_empty() else printable(str(frame["nmi"][-1]))
            yield frame
            bar.update(
                task,  # type: ignore[arg-type]
                completed=found.done.claims,
                rows=found.done.rows,
                at=at,
            )

    with bar:
        yield pieces(bar.add_task("", total=found.claims, rows=0, at=""))
