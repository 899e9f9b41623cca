"""``config show`` and ``config check``: what is set, where it comes from, what it means.

Why: with a file, overlays, variables, secret files and options, only the program itself can say
what holds.

Promises: every setting is a row; passwords and keys are masked in every form of output, so that
it may be pasted into a ticket; nothing is opened, made or changed.

Look next: :mod:`nemflow.settings`; docs/settings.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.cli.location import without_password
from nemflow.cli.options import settings
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.errors import UsageError

if TYPE_CHECKING:
    from nemflow.settings import Setting, Settings

config = typer.Typer(
    name="config",
    help="Show what is set, where it comes from and what it means.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_HIDDEN = "***"
_SHOWN = (
    Column("key", style="bold"),
    Column("shown", "value", gives_way="fold"),
    Column("origin", "from", gives_way="fold"),
    Column("meaning", gives_way="fold", optional=True),
)
_TOLD = (
    Column("key"),
    Column("value"),
    Column("origin"),
    Column("default"),
    Column("variable"),
    Column("meaning"),
)
_CHECKED = (Column("file"), Column("environment"), Column("set"))


@config.callback()
def look_at() -> None:
    """Show what is set, where it comes from and what it means."""


@config.command()
def show(
    ctx: typer.Context,
    key: Annotated[
        str | None, typer.Argument(help="A setting, or a table as pool.", metavar="KEY")
    ] = None,
    *,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only what differs from the defaults.")
    ] = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Print every value, where it came from and what it means; passwords and keys masked."""
    from nemflow.settings import catalogue

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    chosen = settings(ctx)
    wanted = _wanted(key, catalogue())
    rows = [row_of(each, chosen) for each in wanted if not changed or each.key in chosen.origin]
    out.rows(_SHOWN if out.for_people else _TOLD, rows, empty="Everything is as it comes.")
    if key is None:
        out.say(f"Settings file: {chosen.file or 'none'}. All of them: docs/settings.md.", "dim")


@config.command()
def check(ctx: typer.Context, *, as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """Read every source and say what is wrong; exit 2 then. Opens nothing."""
    from nemflow.app import delivering_of

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    chosen = settings(ctx)
    delivering_of(chosen)
    if not out.for_people:
        file = None if chosen.file is None else str(chosen.file)
        row = {"file": file, "environment": chosen.environment, "set": len(chosen.origin)}
        out.rows(_CHECKED, [row])
        return
    out.say(
        f"The settings are right: {len(chosen.origin)} set, file {chosen.file or 'none'}, "
        f"environment {chosen.environment or 'none'}.",
        "green",
    )


def _wanted(key: str | None, known: tuple[Setting, ...]) -> list[Setting]:
    """The settings asked for: all, one, or a table. Raises UsageError."""
    if key is None:
        return list(known)
    table = key.rstrip(".") + "."
    found = [each for each in known if each.key == key or each.key.startswith(table)]
    if not found:
        names = [each.key for each in known] + sorted({x.key.partition(".")[0] for x in known})
        near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else "All of them: nemflow config show"
        raise UsageError(f"There is no setting {key}.", hint=hint)
    return found


def row_of(setting: Setting, chosen: Settings) -> dict[str, Any]:
    """One setting: its value as data and as people write it, and where it came from."""
    origin = chosen.origin.get(setting.key)
    value = setting.usual if origin is None else _masked(setting, _value(setting.key, chosen))
    return {
        "key": setting.key,
        "value": value,
        "shown": setting.default if origin is None else _as_written(setting, value),
        "origin": origin or "default",
        "default": setting.default,
        "variable": setting.env,
        "meaning": setting.what,
    }


def _value(key: str, chosen: Settings) -> Any:
    """What was set."""
    if key.startswith("limits."):
        return getattr(chosen.limits, key.removeprefix("limits."))
    if key == "value_limits":
        return {f"{suffix} {unit}": most for (suffix, unit), most in chosen.value_limits.items()}
    if key == "review_after_days":
        return chosen.review_after
    return chosen.tables[key] if key in chosen.tables else getattr(chosen, key)


def _masked(setting: Setting, value: Any) -> Any:
    """The value without what is nobody else's business."""
    if setting.secret:
        return _HIDDEN
    return without_password(value) if isinstance(value, str) else value


def _as_written(setting: Setting, value: Any) -> str:
    """As it would stand in the file, without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        parts = (f"{name} = {_plain(most)}" for name, most in value.items())
        return ", ".join(parts)
    if isinstance(value, int) and setting.key.endswith("bytes"):
        from nemflow.settings.words import size

        return size(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plain(number: object) -> str:
    return format(number, "f") if isinstance(number, Decimal) else str(number)
