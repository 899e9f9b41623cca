"""``convert``: meter files as CSV, Parquet, Arrow, JSON lines, SQL or canonical NEM12.

Why: most tools do not read NEM12; and a crooked file can be written straight again.

Promises: bounded memory whatever the size; the output appears whole or not at all; rejected days
are left out and counted unless asked for; a CSV is safe to open in a spreadsheet.

Look next: ``tables.py`` (CSV, Parquet, Arrow, JSON lines), ``sql_text.py``, ``nem12_text.py``.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nemflow.cli import wording
from nemflow.cli.options import ProfileOption, settings
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.cli.target import whole_file
from nemflow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nemflow.mdff.meterdata import MeterData


class Form(StrEnum):
    """What to write."""

    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"
    JSONL = "jsonl"
    SQL = "sql"
    NEM12 = "nem12"
    ZIP = "zip"


class SqlShape(StrEnum):
    """Which table the INSERTs fill."""

    SIMPLE = "simple"
    NEMFLOW = "nemflow"


_OTHER_ENDINGS: Final = {
    ".feather": Form.ARROW,
    ".ipc": Form.ARROW,
    ".ndjson": Form.JSONL,
    ".nem13": Form.NEM12,
}
_WRITTEN = (
    Column("path", "file"),
    Column("size", right=True, show=wording.size),
    Column("rows", right=True),
    Column("days", right=True),
    Column("register_reads", "register reads", right=True),
    Column("left_out", "left out", right=True),
    Column("repeated", machine_only=True),
)


def convert(
    ctx: typer.Context,
    inputs: Annotated[list[Path], typer.Argument(help="Files or archives.", metavar="IN")],
    *,
    target: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="Where to: .csv .parquet .arrow .jsonl .sql .nem12 .zip",
            metavar="OUT",
            show_default=False,
        ),
    ],
    to: Annotated[
        Form | None, typer.Option("--to", help="The form, when OUT's ending does not say it.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Values as decimals, not floats (tables only).")
    ] = False,
    include_rejected: Annotated[
        bool, typer.Option("--include-rejected", help="Keep days that a load would reject.")
    ] = False,
    sql_shape: Annotated[
        SqlShape,
        typer.Option(
            "--sql-shape",
            help="simple: meter_readings(nmi, timestamp, consumption), the E streams of an NMI "
            "added up in kWh, timestamp = start of the interval, newest version of each day; "
            "nemflow: one row per reading, all columns.",
        ),
    ] = SqlShape.SIMPLE,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Convert files to CSV, Parquet, Arrow, JSON lines, SQL or NEM12."""
    from nemflow.cli.conversion import Tally
    from nemflow.cli.reading import chunks

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    form = to or _form_of(target)
    tally = Tally(include_rejected=include_rejected)
    data = tally.kept(chunks(inputs, settings(ctx, profile=profile), "Converting"))
    with whole_file(target) as draft:
        tally.rows = _write(form, sql_shape, data, draft, exact=exact, missed=tally.missed)
    if form is Form.SQL:
        tally.missed["reads"] = tally.reads
    out.rows(_WRITTEN, [_row(target, tally)])
    for line in tally.remarks():
        out.say(line, "yellow")


def _form_of(target: Path) -> Form:
    """The form by the name's ending. Raises UsageError."""
    ending = target.suffix.lower()
    if ending in _OTHER_ENDINGS:
        return _OTHER_ENDINGS[ending]
    try:
        return Form(ending.removeprefix("."))
    except ValueError:
        raise UsageError(
            f"Cannot tell from {target.name!r} what to write.",
            hint=f"Say it with --to: {', '.join(form.value for form in Form)}.",
        ) from None


def _write(
    form: Form,
    shape: SqlShape,
    data: Iterator[MeterData],
    draft: Path,
    *,
    exact: bool,
    missed: Counter[str],
) -> int:
    """Write all chunks in the form asked for; returns how many rows."""
    if form in (Form.NEM12, Form.ZIP):
        from nemflow.cli.nem12_text import write_nem12

        return write_nem12(data, draft, archive=form is Form.ZIP)
    if form is Form.SQL:
        from nemflow.cli import sql_text

        write = sql_text.write_simple if shape is SqlShape.SIMPLE else sql_text.write_nemflow
        return write(data, draft)
    from nemflow.cli.tables import write_table

    return write_table(form.value, data, draft, exact=exact, missed=missed)


def _row(target: Path, tally: Any) -> dict[str, Any]:
    """The summary as a row."""
    return {
        "path": str(target),
        "size": target.stat().st_size,
        "rows": tally.rows,
        "days": tally.days,
        "register_reads": tally.reads,
        "left_out": tally.left_out,
        "repeated": tally.repeated,
    }
