"""Options that several commands share, and the settings and store behind them.

Why: ``--db`` and ``--profile`` mean the same everywhere.

Promises: what the command line does not say comes from the environment, then ``nemflow.toml``.

Look next: :mod:`nemflow.settings`.
"""

from __future__ import annotations

import getpass
import shlex
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.errors import UsageError

if TYPE_CHECKING:
    from nemflow.settings import Settings
    from nemflow.store import Store

DbOption = Annotated[
    str | None,
    typer.Option("--db", help="The store: an SQLite file or a URL.", metavar="URL"),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile", help="Rule profile: portal (tolerant) or b2b (strict).", metavar="NAME"
    ),
]
#: So many ids one option may name: a slip of the finger does no more.
_MOST = 100_000
#: Where ``--environment`` is kept for the command that follows.
ENVIRONMENT = "nemflow.environment"
MARKET_OFFSET = timezone(timedelta(hours=10))


def settings(ctx: typer.Context, **given: Any) -> Settings:
    """The settings of this run; ``given`` are the command's own options by setting key."""
    from nemflow.settings import load_settings

    config = ctx.find_root().obj
    given["environment"] = ctx.meta.get(ENVIRONMENT)
    return load_settings(config=config if isinstance(config, Path) else None, given=given)


def open_to_read(ctx: typer.Context, db: str | None) -> Store:
    """The store, which must be there. Raises StoreUnreachable when it is not."""
    from nemflow.store import open_store

    chosen = settings(ctx, db=db)
    return open_store(chosen.db, create=False, pool=chosen.pool)


def again(command: str, db: str | None) -> str:
    """A command to type next, with the same ``--db`` that this one was given."""
    return f"nemflow {command}" + (f" --db {shlex.quote(db)}" if db else "")


def all_there(paths: Sequence[Path]) -> None:
    """Raise UsageError for the first path that is not there, before anything is done."""
    for path in paths:
        if not path.exists():
            raise UsageError(f"There is no file or folder {path}.", hint="Check the path.")


def a_day(text: str | None, option: str) -> date | None:
    """``2025-03-05``, ``20250305`` or ``2025-03`` (its first day). Raises UsageError."""
    if text is None:
        return None
    for layout in ("%Y-%m-%d", "%Y%m%d", "%Y-%m"):
        try:
            return datetime.strptime(text, layout).date()  # noqa: DTZ007  a plain day
        except ValueError:
            continue
    raise UsageError(f"{option}: {text!r} is no day.", hint="Write it as 2025-03-05.")


def a_day_or_instant(text: str | None, option: str) -> date | datetime | None:
    """A day, or an instant as ``2025-03-05T14:30``; without an offset it is market time."""
    if text is not None and len(text) > len("2025-03-05"):
        return an_instant(text, option)
    return a_day(text, option)


def an_instant(text: str, option: str) -> datetime:
    """``2025-03-05T14:30`` (market time) or with an offset. Raises UsageError."""
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{option}: {text!r} is no time.", hint="Write it as 2025-03-05T14:30."
        ) from None
    if instant.tzinfo is None:
        return instant.replace(tzinfo=MARKET_OFFSET)
    return instant.astimezone(MARKET_OFFSET)


def a_commit_or_instant(text: str | None, option: str) -> datetime | int | None:
    """A commit number, or a time. Raises UsageError."""
    if text is None:
        return None
    return int(text) if text.isascii() and text.isdigit() else an_instant(text, option)


def numbers(texts: Sequence[str], option: str) -> list[int]:
    """``7`` and ``7-12`` as numbers, in order. Raises UsageError."""
    found: set[int] = set()
    for text in texts:
        first, dash, last = text.partition("-")
        parts = [first, last] if dash else [first, first]
        if not all(part.isascii() and part.isdigit() and len(part) < 16 for part in parts):
            raise UsageError(f"{option} {text!r} is no number.", hint="Write 7, or 7-12.")
        low, high = (int(part) for part in parts)
        if high < low or high - low >= _MOST:
            raise UsageError(f"{option} {text!r} is no range.", hint="Write 7, or 7-12.")
        found.update(range(low, high + 1))
    return sorted(found)


def who() -> str | None:
    """The person at the keyboard, as far as the system knows; for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return None
