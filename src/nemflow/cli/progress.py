"""A progress bar on stderr, when a person looks at it.

Why: a large file takes a while; stdout stays clean for the answer.

Promises: nothing is printed when stderr is not a terminal; the bar is gone when the work ends.

Look next: :class:`nemflow.events.Progress`, which drives it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nemflow.cli.output import printable
from nemflow.cli.wording import size
from nemflow.events import Progress

_NAME_WIDTH = 28


@contextmanager
def progress_bar(
    doing: str, total_bytes: int | None = None
) -> Iterator[Callable[[Progress], None]]:
    """A bar for the block; call what it yields with each ``Progress``.

    Args:
        doing: what is being done, e.g. ``Loading``.
        total_bytes: the whole, when the records do not know it.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bar,
    )

    bar = Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[amount]}", markup=False),
        TextColumn("{task.fields[days]:,} days", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True, markup=False, highlight=False),
        transient=True,
    )
    with bar:
        task = bar.add_task(doing, total=total_bytes, days=0, amount="")

        def advance(now: Progress) -> None:
            bar.update(
                task,
                description=f"{doing} {_tail(now.source)}",
                completed=now.bytes_done,
                total=now.bytes_total if now.bytes_total is not None else total_bytes,
                days=now.days_done,
                amount=f"{size(now.bytes_done)} of {size(now.bytes_total)}"
                if now.bytes_total
                else "",
            )

        yield advance


@contextmanager
def count_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for the block; call what it yields with what is being done, how many, of how many.

    May be called from several threads.
    """
    if not sys.stderr.isatty():
        yield lambda _doing, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, markup=False, highlight=False),
        transient=True,
    )
    with bar:
        task = bar.add_task("")
        yield lambda doing, done, total: bar.update(
            task, description=doing, completed=done, total=total
        )


def _tail(source: str) -> str:
    """The end of a long name, which tells files apart."""
    text = printable(source)
    return text if len(text) <= _NAME_WIDTH else "…" + text[1 - _NAME_WIDTH :]
