"""``doctor``: is everything in place? One line each, with what to do.

Why: most questions about a program that does not work are answered by these lines.

Promises: it never fails itself, it reports; nothing is created or changed; exit 3 when a line
says fail.

Look next: :mod:`nemflow.settings`, :func:`nemflow.store.open_store`.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from nemflow._version import __version__
from nemflow.cli import faults, wording
from nemflow.cli.location import sqlite_path, without_password
from nemflow.cli.options import DbOption, settings
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.errors import NemflowError, StoreBusy, UsageError

if TYPE_CHECKING:
    from nemflow.settings import Settings

_LINES = (
    Column("status", style="bold"),
    Column("what"),
    Column("detail", gives_way="fold"),
    Column("todo", "what to do", gives_way="fold"),
)
_EXTRAS: Final = {
    "pandas": ("pandas", "to_pandas()"),
    "arrow": ("pyarrow", "to_arrow()"),
    "postgres": ("psycopg", "the PostgreSQL store"),
}
_LITTLE_SPACE: Final = 1_000_000_000
Line = dict[str, str]


def doctor(
    ctx: typer.Context,
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Check the set-up line by line and say what to do."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    lines = list(_lines(ctx, db))
    out.rows(_LINES, lines)
    if any(line["status"] == "fail" for line in lines):
        raise typer.Exit(faults.FAULT)
    out.say("Everything that is needed is in place.", "green")


def _lines(ctx: typer.Context, db: str | None) -> Iterator[Line]:
    """Every line of the report."""
    yield _line("ok", "nemflow", __version__)
    yield _python()
    yield from _packages()
    try:
        chosen = settings(ctx, db=db)
    except UsageError as error:
        yield _line("fail", "settings", error.message, error.hint)
        return
    where = str(chosen.file) if chosen.file else "none (defaults)"
    yield _line("ok", "settings file", where)
    for key, origin in sorted(chosen.origin.items()):
        if chosen.file is None or not origin.startswith(str(chosen.file)):
            yield _line("ok", f"setting {key}", f"from {origin}")
    yield from _memory(chosen)
    yield from _store(chosen)


def _python() -> Line:
    version = platform.python_version()
    return _line("ok", "Python", f"{version} on {platform.system()} {platform.machine()}")


def _packages() -> Iterator[Line]:
    """What the core needs, then the optional parts."""
    for name in ("polars", "sqlalchemy", "alembic"):
        try:
            yield _line("ok", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield _line("fail", name, "not installed", "Install it with: pip install nemflow")
    for extra, (module, purpose) in _EXTRAS.items():
        if util.find_spec(module) is not None:
            yield _line("ok", f"extra {extra}", metadata.version(module))
        else:
            install = f"Only for {purpose}: pip install 'nemflow[{extra}]'"
            yield _line("ok", f"extra {extra}", "not installed", install)


def _memory(chosen: Settings) -> Iterator[Line]:
    """What is free, the limit that counts, and how a large load would be divided."""
    from nemflow.pipeline.loading import plan_of

    memory, plan = plan_of(chosen.sizes, one_writer=sqlite_path(chosen.db) is not None)
    limit = f", limit {wording.size(memory.limit)}" if memory.limit is not None else ""
    free = f"{wording.size(memory.free)} free ({memory.source}{limit})"
    yield _line("ok", "memory", free)
    divided = (
        f"{wording.count(plan.jobs, 'process', 'processes')}, pieces of "
        f"{wording.size(plan.chunk_bytes)}, batches of {wording.size(plan.batch_bytes)}"
    )
    if plan.needed > memory.free // 2:
        todo = "That is more than half of what is free: make room, or set load.* lower."
        yield _line("warn", "a large load", divided, todo)
    else:
        yield _line("ok", "a large load", divided)


def _store(chosen: Settings) -> Iterator[Line]:
    """Whether the store can be reached, its schema, and the space around it."""
    from nemflow.store import open_store

    path = sqlite_path(chosen.db)
    shown = without_password(chosen.db)
    if path is not None and not path.exists():
        yield _line("warn", "store", f"{shown} is not there yet", "Make it with: nemflow load PATH")
    else:
        yield _tried(lambda: open_store(chosen.db, create=False).close(), "store", shown)
    if path is not None:
        yield _space(path)


def _tried(action: Callable[[], object], what: str, detail: str) -> Line:
    """Ok when the action works; else its error and the next step."""
    try:
        action()
    except NemflowError as error:
        status = "warn" if isinstance(error, StoreBusy) else "fail"
        return _line(status, what, error.message, error.hint)
    return _line("ok", what, f"{detail}, schema up to date")


def _space(path: Path) -> Line:
    """The room left on the store's disk."""
    folder = next((each for each in path.absolute().parents if each.is_dir()), Path())
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_SPACE:
        return _line("warn", "disk", f"{wording.size(free)} free", "Make room before a large load.")
    return _line("ok", "disk", f"{wording.size(free)} free")


def _line(status: str, what: str, detail: str, todo: str = "") -> Line:
    return {"status": status, "what": what, "detail": detail, "todo": todo}
