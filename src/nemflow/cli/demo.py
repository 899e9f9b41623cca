"""``demo``: two minutes from an inbox of files to a trusted reading.

Why: seeing it work is the best documentation.

Promises: it works in a folder of its own and touches nothing else; every step is a command shown
as it is run, and works when typed again.

Look next: ``demo_deliveries.py`` makes the files; every other module here is a command.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from nemflow.cli.output import Output
from nemflow.errors import UsageError

_MARK: Final = ".nemflow-demo"


def demo(
    *,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where to work; made anew.", metavar="FOLDER")
    ] = Path("demo-out"),
) -> None:
    """Make believable deliveries, load them, and look at them (two minutes)."""
    from nemflow.cli import demo_deliveries as made

    out = Output("table")
    _fresh(folder)
    deliveries = folder / "deliveries"
    db = folder / "nemflow.db"
    store = ["--db", str(db)]

    with _step(out, 1, f"An inbox: the deliveries of a week, made in {deliveries}"):
        listing = made.make_deliveries(deliveries)
        width = max(len(name) for name, _ in listing)
        for name, what in listing:
            out.say(f"  {name:<{width}}  {what}")
    with _step(out, 2, "Load all of it. Every day is accounted for; one bad file stops nothing"):
        _run(out, "load", str(deliveries), *store)
    with _step(out, 3, "What was kept out has a home, a reason and a way back"):
        _run(out, "quarantine", *store)
        _run(out, "explain", "I004")
        number, text = _a_missing_value(db)
        mended = folder / "mended.txt"
        mended.write_text(text.replace(",,", ",0.2,", 1), encoding="utf-8")
        out.say(f"The sender tells us the missing value; the mended record is in {mended}:")
        _run(out, "replay", "--edit", f"{number}={mended}", *store)
    with _step(out, 4, "Read a year of a solar house back, and one of its days"):
        _run(out, "readings", made.HOUSE, *store, "--suffix", "E1", "--chart")
        day = ["--from", "2025-03-30", "--to", "2025-03-30"]
        _run(out, "readings", made.HOUSE, *store, "--suffix", "B1", *day, "--chart")
    with _step(out, 5, "A day that was estimated, then corrected; both versions are kept"):
        which = ["versions", made.CORRECTED, "--day", str(made.CORRECTED_DAY), *store]
        _run(out, *which, "--suffix", "E1")
        undone = _delivery_of(db, made.CORRECTION)
        out.say("Take the correction out: the estimate is current again ...")
        _run(out, "undo", undone, *store)
        _run(out, *which, "--suffix", "E1")
        out.say("... and put it back:")
        _run(out, "redo", undone, *store)
    out.say()
    out.say("Try next:", "bold green")
    for command in _next_steps(deliveries, store):
        out.command("  ", f"nemflow {shlex.join(command)}", "")


def _next_steps(deliveries: Path, store: list[str]) -> Iterator[list[str]]:
    """Commands that work as typed after the demo."""
    from nemflow.cli import demo_deliveries as made

    portal = str(deliveries / made.PORTAL)
    yield ["show", portal]
    yield ["check", str(deliveries / made.BROKEN)]
    yield ["coverage", made.HOUSE, *store]
    yield ["readings", made.HOUSE, "--resolution", "month", *store]
    yield ["deliveries", *store]
    yield ["convert", portal, "-o", str(deliveries.parent / "house.parquet")]


def _fresh(folder: Path) -> None:
    """An empty folder that is ours. Raises UsageError rather than empty someone else's."""
    if folder.exists() and not (folder / _MARK).is_file():
        if not folder.is_dir() or any(folder.iterdir()):
            raise UsageError(
                f"{folder} is there and was not made by the demo.",
                hint="Name another with --folder.",
            )
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).write_text("Made by nemflow demo; made anew each time.\n", encoding="utf-8")


@contextmanager
def _step(out: Output, number: int, title: str) -> Iterator[None]:
    out.say()
    out.say(f"{number}. {title}", "bold green")
    out.say()
    yield


def _run(out: Output, *command: str) -> None:
    """Show a command and run it, in this process; only our fault stops the tour."""
    from nemflow.cli.root import app

    out.command("$ ", f"nemflow {shlex.join(command)}", "bold")
    code = app(list(command), prog_name="nemflow", standalone_mode=False)
    if isinstance(code, int) and code > 1:
        raise typer.Exit(code)
    out.say()


def _a_missing_value(db: Path) -> tuple[int, str]:
    """The number and the text of the quarantined record that lacks a value."""
    from nemflow.store import open_store

    with open_store(str(db), create=False) as store:
        row = store.quarantine(rule="I004").row(0, named=True)
    return row["quarantine"], row["raw"]


def _delivery_of(db: Path, name: str) -> str:
    """The number of the delivery with this name."""
    from nemflow.store import open_store

    with open_store(str(db), create=False) as store:
        rows = store.deliveries(limit=None)
    found = rows.filter(rows["name"].str.contains(name, literal=True))
    return str(found["delivery"][0])
