"""The list of commands, and the program's beginning and end.

Why: one place says which commands exist and in which order people see them.

Promises: ``main`` ends the process with one of the exit codes of :mod:`nemflow.cli.faults`;
commands are listed by what people want to do.

Look next: the module of a command's group; ``docs/cli.md`` is generated from here.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nemflow._version import __version__
from nemflow.cli import (
    delivery,
    demo,
    doctor,
    exporting,
    faults,
    following,
    ledger,
    loading,
    lookup,
    make,
    query,
    repair,
    review,
    serving,
    simulating,
    submitting,
    sweeping,
    upkeep,
)
from nemflow.cli.checking import check
from nemflow.cli.config import config
from nemflow.cli.convert import convert
from nemflow.cli.keys import keys
from nemflow.cli.options import ENVIRONMENT
from nemflow.cli.problems import problems
from nemflow.cli.reprocess import reprocess
from nemflow.cli.show import show
from nemflow.cli.tail import tail
from nemflow.cli.top import top
from nemflow.cli.webhooks import webhooks
from nemflow.cli.worker import worker

_HELP_WIDTH = 100


class CommandList(TyperGroup):
    """The commands under headings; every error of a command goes through ``faults.mapped``."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        with faults.mapped():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of each heading, in the order they were added."""
        headings: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                heading = getattr(command, "rich_help_panel", None) or "Commands"
                headings.setdefault(heading, []).append((name, command.get_short_help_str(80)))
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


app = typer.Typer(
    name="nemflow",
    cls=CommandList,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _HELP_WIDTH},
    help="From metering file to trusted reading: NEM12 and NEM13 in, versioned interval data out.",
    epilog="Exit codes: 0 fine, 1 problems found in the data, 2 wrong usage, "
    "3 our fault or the system's.  First steps: nemflow demo",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"nemflow {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings file; default ./nemflow.toml.", metavar="FILE"),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment", help="dev, staging, production: its overlay.", metavar="NAME"
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Keep the settings file and the environment that were named for the command that follows."""
    ctx.obj = config
    ctx.meta[ENVIRONMENT] = environment


_COMMANDS: dict[str, list[Callable[..., None]]] = {
    "Look at files": [check, show, convert, make.generate],
    "Keep them": [loading.load, ledger.deliveries, ledger.files, ledger.file],
    "Ask for readings": [query.nmis, query.readings, query.versions, query.coverage],
    "Hand them on": [exporting.export, following.consumers, following.changes, following.feed],
    "Put things right": [
        repair.quarantine,
        repair.replay,
        repair.undo,
        repair.redo,
        reprocess,
        review.review,
    ],
    "Run the service": [
        serving.serve,
        worker,
        submitting.submit,
        sweeping.sweep,
        simulating.simulate,
        delivery.delivery,
        delivery.dead,
        delivery.verify,
        top,
        tail,
    ],
    "Learn more": [lookup.explain, lookup.nmi, doctor.doctor, demo.demo],
}
for _heading, _commands in _COMMANDS.items():
    for _command in _commands:
        app.command(rich_help_panel=_heading)(_command)
app.add_typer(keys, rich_help_panel="Run the service")
app.add_typer(problems, rich_help_panel="Run the service")
app.add_typer(webhooks, rich_help_panel="Run the service")
app.add_typer(config, rich_help_panel="Learn more")
app.add_typer(upkeep.db, rich_help_panel="Put things right")


def main() -> None:
    """Run the command line of this process and end it with the right exit code."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(faults.TERMINATED))
    code = faults.FAULT
    try:
        with faults.mapped():
            app(prog_name="nemflow")
    except (SystemExit, typer.Exit) as end:
        code = _code_of(end)
    sys.exit(_flushed(code))


def _code_of(end: SystemExit | typer.Exit) -> int:
    """The exit code an ending asks for."""
    code = end.exit_code if isinstance(end, typer.Exit) else end.code
    return code if isinstance(code, int) else faults.FINE if code is None else faults.FAULT


def _flushed(code: int) -> int:
    """Write out what is buffered; a reader that went away, or a full disk, shows only here."""
    try:
        with faults.mapped():
            sys.stdout.flush()
    except typer.Exit as end:
        faults.leave_pipe_quietly()
        return code or end.exit_code
    return code
