"""Tables as text: whole in a pipe, fitted to the width of a terminal.

Why: a number that is cut is wrong; on a narrow terminal something else has to give way.

Promises: in a pipe every cell is whole, on one line; on a terminal columns marked ``optional`` are
left out first (the last one first), then names lose their beginning and sentences are folded at
words; every other cell is always whole.

Look next: :mod:`nemflow.cli.output`, which decides where a table goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from nemflow.cli.wording import cell

if TYPE_CHECKING:
    from rich.table import Table

_GAP: Final = 2
#: Columns that give way keep at least this width.
_LEAST: Final = 20


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an answer: its key in the data, and how the table shows it."""

    key: str
    title: str = ""  #: heading of the table; empty: the key with blanks
    right: bool = False  #: numbers
    style: str = ""  #: a rich style, on a terminal only
    show: Callable[[Any], str] = cell
    machine_only: bool = False  #: in JSON and CSV, not in the table
    optional: bool = False  #: left out on a narrow terminal
    gives_way: Literal["", "front", "fold"] = ""  #: too long: lose the front, or fold at words

    @property
    def heading(self) -> str:
        """The title, or the key with blanks for underscores."""
        return self.title or self.key.replace("_", " ")


Cells = list[list[str]]


def plain_table(columns: Sequence[Column], cells: Cells) -> str:
    """Columns padded with blanks, each as wide as its widest cell; nothing cut."""
    flat = [[text.replace("\n", " ") for text in row] for row in cells]
    widths = _natural(columns, flat)
    lines = [[column.heading for column in columns], ["-" * width for width in widths], *flat]
    return "".join(_line(columns, widths, line) + "\n" for line in lines)


def terminal_table(columns: Sequence[Column], cells: Cells, width: int) -> Table:
    """A rich table of at most ``width`` columns of a terminal."""
    from rich.table import Table
    from rich.text import Text

    kept = _fitting(columns, cells, width)
    columns = [columns[i] for i in kept]
    cells = [[row[i] for i in kept] for row in cells]
    widths = _squeezed(columns, cells, width)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold underline")
    for column, wide in zip(columns, widths, strict=True):
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            style=column.style,
            width=wide,
            overflow="fold",
        )
    for row in cells:
        table.add_row(
            *(
                Text(_tail(text, wide) if column.gives_way == "front" else text)
                for text, wide, column in zip(row, widths, columns, strict=True)
            )
        )
    return table


def _line(columns: Sequence[Column], widths: Sequence[int], texts: Sequence[str]) -> str:
    padded = [
        text.rjust(width) if column.right else text.ljust(width)
        for text, width, column in zip(texts, widths, columns, strict=True)
    ]
    return (" " * _GAP).join(padded).rstrip()


def _natural(columns: Sequence[Column], cells: Cells) -> list[int]:
    """How wide each column would like to be."""
    return [
        max(len(column.heading), *(len(row[i]) for row in cells))
        for i, column in enumerate(columns)
    ]


def _fitting(columns: Sequence[Column], cells: Cells, width: int) -> list[int]:
    """The numbers of the columns to show: optional ones go, last first, until the rest fits."""
    natural = _natural(columns, cells)
    least = [
        min(wide, _LEAST) if column.gives_way else wide
        for wide, column in zip(natural, columns, strict=True)
    ]
    kept = list(range(len(columns)))
    for number in reversed(range(len(columns))):
        if sum(least[i] for i in kept) + _GAP * (len(kept) - 1) <= width:
            break
        if columns[number].optional:
            kept.remove(number)
    return kept


def _squeezed(columns: Sequence[Column], cells: Cells, width: int) -> list[int]:
    """Final widths: what is too much is taken from the widest column that gives way."""
    widths = _natural(columns, cells)
    flexible = [i for i, column in enumerate(columns) if column.gives_way]
    too_much = sum(widths) + _GAP * (len(widths) - 1) - width
    while too_much > 0 and flexible:
        widest = max(flexible, key=lambda i: widths[i])
        if widths[widest] <= _LEAST // 2:
            break
        widths[widest] -= 1
        too_much -= 1
    return widths


def _tail(text: str, width: int) -> str:
    """The end of a long name, which is what tells files apart."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]
