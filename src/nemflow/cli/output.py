"""What every command prints, decided in one place: table, JSON or CSV.

Why: each command answers with rows; whether a person or a program reads them is the same
question everywhere.

Promises: on a terminal a coloured table that fits it; elsewhere a plain one with every column
whole and no colour codes; ``--json`` gives exact numbers and ISO times; ``--csv`` is safe to open
in a spreadsheet (a text cell that a spreadsheet would run as a formula gets a leading ``'``);
control characters in data never reach a terminal.

Look next: :mod:`nemflow.cli.grid` for tables, :mod:`nemflow.cli.wording` for numbers and times
as people read them.
"""

from __future__ import annotations

import csv
import io
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.cli.grid import Column, plain_table, terminal_table
from nemflow.cli.wording import decimals
from nemflow.errors import UsageError
from nemflow.plain import to_json

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel="Output")
]
CsvOption = Annotated[
    bool,
    typer.Option(
        "--csv", help="Print CSV, safe to open in a spreadsheet.", rich_help_panel="Output"
    ),
]

__all__ = [
    "Column",
    "CsvOption",
    "JsonOption",
    "Output",
    "printable",
    "spreadsheet_safe",
    "to_json",
]

Rows = Iterable[Mapping[str, Any]]
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\0", "\r", "\n")


class Output:
    """Where and how a command prints. Made once per command by ``Output.choose``."""

    def __init__(self, form: str) -> None:
        self.form = form  #: table, json or csv

    @classmethod
    def choose(cls, *, as_json: bool, as_csv: bool) -> Output:
        """The form asked for. Raises UsageError when both were."""
        if as_json and as_csv:
            raise UsageError("--json and --csv exclude each other.", hint="Give one of them.")
        return cls("json" if as_json else "csv" if as_csv else "table")

    @property
    def for_people(self) -> bool:
        """True when a table is printed, so that titles, hints and charts belong beside it."""
        return self.form == "table"

    def say(self, text: str = "", style: str = "") -> None:
        """A line for people; left out of JSON and CSV."""
        if not self.for_people:
            return
        if on_terminal():
            from rich.text import Text

            screen = console()
            for line in printable(text).split("\n"):
                screen.print(Text(_folded(line, screen.width), style=style), soft_wrap=True)
        else:
            write(printable(text) + "\n")

    def command(self, before: str, command: str, style: str = "dim") -> None:
        """A command to type, for people; never folded, so that it can be copied."""
        if not self.for_people:
            return
        text = printable(before + command)
        if on_terminal():
            from rich.text import Text

            console().print(Text(text, style=style), soft_wrap=True)
        else:
            write(text + "\n")

    def draw(self, picture: Any) -> None:
        """A rich renderable (a chart) for people; colours only on a terminal."""
        if self.for_people:
            console().print(picture)

    def rows(
        self,
        columns: Sequence[Column],
        rows: Rows | pl.DataFrame,
        *,
        title: str = "",
        empty: str = "Nothing.",
        at_most: int | None = None,
    ) -> None:
        """Print rows in the form asked for.

        Args:
            columns: which keys, in which order.
            rows: mappings, or a polars frame.
            title: a heading of the table.
            empty: what to say to people instead of an empty table.
            at_most: on a terminal, so many rows and a line saying how many more there are.
        """
        each = _each(rows)
        if self.form == "json":
            _write_json_rows(columns, each)
        elif self.form == "csv":
            _write_csv(columns, each)
        else:
            self._table(columns, list(each), title, empty, at_most)

    def document(self, answer: Any) -> None:
        """One JSON document; only for the JSON form."""
        write(to_json(answer, indent=2) + "\n")

    def _table(
        self,
        columns: Sequence[Column],
        rows: list[Mapping[str, Any]],
        title: str,
        empty: str,
        at_most: int | None,
    ) -> None:
        if not rows:
            self.say(empty)
            return
        shown = [column for column in columns if not column.machine_only]
        terminal = on_terminal()
        kept = rows[:at_most] if terminal and at_most else rows
        cells = _transposed([_cells(column, kept) for column in shown])
        if title:
            self.say(title, style="bold")
        if terminal:
            screen = console()
            screen.print(terminal_table(shown, cells, screen.width))
        else:
            write(plain_table(shown, cells))
        if len(kept) < len(rows):
            self.say(
                f"… and {len(rows) - len(kept):,} more rows; --csv or --json gives them all.", "dim"
            )


def _cells(column: Column, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One column as texts; decimals all with as many digits as the longest of them needs."""
    values = [row.get(column.key) for row in rows]
    places = decimals(values)
    return [
        f"{value:,.{places}f}" if isinstance(value, Decimal) else printable(column.show(value))
        for value in values
    ]


def _transposed(columns: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(row) for row in zip(*columns, strict=True)]


def on_terminal() -> bool:
    """Whether a person looks at stdout."""
    return sys.stdout.isatty()


def console() -> Console:
    """A rich console on stdout: as wide as the terminal, 80 columns without one, no markup."""
    from rich.console import Console

    terminal = on_terminal()
    return Console(
        file=sys.stdout,
        width=None if terminal else 80,
        no_color=None if terminal else True,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=False,
    )


def _folded(line: str, width: int) -> str:
    """A long line folded at blanks, the rest two columns further in than its beginning."""
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def write(text: str) -> None:
    """Text as it is, on stdout."""
    sys.stdout.write(text)


def printable(text: str) -> str:
    """The text without control characters, so that data cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def spreadsheet_safe(value: Any) -> Any:
    """A text that a spreadsheet would take as a formula, with a leading ``'``; others as is.

    A lone CR becomes LF: readers end the line at it, and the rest would be a cell of its own.
    """
    if not isinstance(value, str):
        return value
    if value.startswith(_FORMULA_STARTS):
        value = "'" + value
    return value.replace("\r\n", "\n").replace("\r", "\n")


def _each(rows: Rows | pl.DataFrame) -> Iterator[Mapping[str, Any]]:
    """Row by row, whatever was given."""
    if hasattr(rows, "iter_rows"):
        yield from rows.iter_rows(named=True)
    else:
        yield from rows


def _write_json_rows(columns: Sequence[Column], rows: Iterator[Mapping[str, Any]]) -> None:
    """A JSON array, written row by row."""
    keys = [column.key for column in columns]
    write("[")
    separator = "\n"
    for row in rows:
        write(separator + "  " + to_json({key: row.get(key) for key in keys}))
        separator = ",\n"
    write("]\n" if separator == "\n" else "\n]\n")


def _write_csv(columns: Sequence[Column], rows: Iterator[Mapping[str, Any]]) -> None:
    """CSV with a heading of keys; lists joined by blanks; nothing a spreadsheet would run."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    for row in rows:
        writer.writerow([_csv_cell(row.get(column.key)) for column in columns])
        if buffer.tell() > 1 << 16:
            write(buffer.getvalue())
            buffer.seek(0)
            buffer.truncate()
    write(buffer.getvalue())


def _csv_cell(value: Any) -> Any:
    """A value as a CSV cell: exact decimals, ISO times, text that no spreadsheet runs."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return format(value, "f")
        case date():
            return value.isoformat()
        case list() | tuple():
            return spreadsheet_safe(" ".join(_list_item(item) for item in value))
        case _:
            return spreadsheet_safe(value)


def _list_item(item: Any) -> str:
    """One item of a list in a CSV cell; a struct by its values, e.g. a gap as ``from..to``."""
    if isinstance(item, Mapping):
        return "..".join("" if part is None else str(part) for part in item.values())
    return "" if item is None else str(_csv_cell(item))
