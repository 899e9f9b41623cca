"""``tail``: what became of files, line by line, as it happens.

Why: for people who live in a shell, and for scripts that read lines.

Promises: each final state of a delivery is one line, in an order that never changes; with the
number of the last line (``--since``) it goes on without losing or repeating one, also when the
service or the store was away in between.

Look next: :meth:`nemflow.store.Store.outcomes`; docs/problems.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Annotated, Any

import typer

from nemflow.cli import wording
from nemflow.cli.asking import ServerOption, Service
from nemflow.cli.options import DbOption, open_to_read
from nemflow.cli.output import JsonOption, on_terminal, printable, to_json, write
from nemflow.errors import StoreError, SystemFault, UsageError

#: Asks behind a number (None: the last ones), at most so many; rows, and where to ask next.
Ask = Callable[[int | None, int], tuple[list[dict[str, Any]], int]]
_PAGE = 1000
_LONGEST_PAUSE = 10.0
_STYLES = {
    "loaded": "green", "duplicate": "dim", "partly_loaded": "yellow", "rejected": "red",
    "dead": "bold red", "cancelled": "dim", "undone": "yellow",
}  # fmt: skip


def tail(
    ctx: typer.Context,
    *,
    count: Annotated[
        int, typer.Option("-n", "--lines", help="The last so many.", min=0, metavar="N")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on as it happens, until stopped.")
    ] = False,
    since: Annotated[
        int | None,
        typer.Option("--since", help="Everything behind this number.", min=0, metavar="SEQ"),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="Only this final state; may be repeated."),
    ] = None,
    sender: Annotated[
        str | None, typer.Option("--sender", help="Only of this sender.", metavar="ID")
    ] = None,
    every: Annotated[
        float, typer.Option("--every", help="Seconds between looks, with -f.", min=0.05)
    ] = 1.0,
    server: ServerOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what became of files, one line each; with -f as it happens. --json: JSON lines."""
    if server is not None and db is not None:
        raise UsageError("--server and --db exclude each other.", hint="Give one of them.")
    states = [text.strip().lower().replace("-", "_") for text in state or ()] or None
    with ExitStack() as opened:
        if server is not None:
            ask = _of_service(opened.enter_context(Service(server)), states, sender)
        else:
            ask = _of_store(opened.enter_context(open_to_read(ctx, db)), states, sender)
        place = _begun(ask, since, count, as_json=as_json)
        if follow:
            _follow(ask, place, every, as_json=as_json)


def _of_store(store: Any, states: Sequence[str] | None, sender: str | None) -> Ask:
    def ask(since: int | None, limit: int) -> tuple[list[dict[str, Any]], int]:
        end = store.last_outcome()  # before the question: up to here nothing is missing in it
        rows = [] if limit == 0 else store.outcomes(
            since, state=states, sender=sender, limit=limit
        ).to_dicts()  # fmt: skip
        return rows, _onward(rows, since, limit, end)

    return ask


def _of_service(service: Service, states: Sequence[str] | None, sender: str | None) -> Ask:
    def ask(since: int | None, limit: int) -> tuple[list[dict[str, Any]], int]:
        told = service.ask(
            "/v1/outcomes", cursor=since, limit=max(1, limit), state=states, sender=sender
        )
        rows = told["outcomes"] if limit else []
        for row in rows:
            row["at"] = datetime.fromisoformat(row["at"])
        return rows, int(told["next"])

    return ask


def _onward(rows: Sequence[Mapping[str, Any]], since: int | None, limit: int, end: int) -> int:
    """Behind which number to ask next: a filter may hide the newest."""
    last = int(rows[-1]["seq"]) if rows else since or 0
    return max(end, last) if len(rows) < limit or since is None else last


def _begun(ask: Ask, since: int | None, count: int, *, as_json: bool) -> int:
    """Print what is there; where to go on."""
    if since is None:
        rows, place = ask(None, count)
        _print(rows, as_json=as_json)
        return place
    while True:
        rows, place = ask(since, _PAGE)
        _print(rows, as_json=as_json)
        since = place
        if len(rows) < _PAGE:
            return place


def _follow(ask: Ask, place: int, every: float, *, as_json: bool) -> None:
    """Print what comes, until stopped; what is away is waited for."""
    pause, away = every, False
    try:
        while True:
            try:
                rows, onward = ask(place, _PAGE)
            except (SystemFault, StoreError) as error:
                if not away:
                    _aside(f"{error} Waiting ...")
                away, pause = True, min(_LONGEST_PAUSE, pause * 2)
                time.sleep(pause)
                continue
            if away:
                _aside("It is back.")
            away, pause = False, every
            _print(rows, as_json=as_json)
            place = onward
            if len(rows) < _PAGE:
                time.sleep(every)
    except KeyboardInterrupt:
        _aside(f"\nGo on from here with --since {place}")


def _aside(text: str) -> None:
    """Something about the stream, not in it."""
    typer.echo(text, err=True)


def _print(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """One line each, written out at once."""
    if not rows:
        return
    coloured = on_terminal() and not as_json
    for row in rows:
        if as_json:
            write(to_json(row) + "\n")
            continue
        state = row["state"].replace("_", " ").ljust(13)
        if coloured:
            from nemflow.cli.output import console

            state = _styled(console(), state, _STYLES.get(row["state"], ""))
        write(f"{row['seq']:>6} {wording.stamp(row['at'])}  {state} {printable(_rest(row))}\n")
    sys.stdout.flush()


def _rest(row: Mapping[str, Any]) -> str:
    """Number, name, whose, counts, why."""
    parts = [f"{row['delivery']} {row['name']}"]
    if row["sender"]:
        parts.append(f"({row['sender']})")
    if row["dry_run"]:
        parts.append("dry run")
    for of, noun in (("days", "day"), ("reads", "read")):
        if row[f"{of}_read"]:
            told = [
                f"{row[f'{of}_{part}']:,} {part}"
                for part in ("stored", "unchanged", "rejected")
                if row[f"{of}_{part}"]
            ]
            parts.append(f"{wording.count(row[f'{of}_read'], noun)}: {', '.join(told)}")
    if row["duplicate_of"]:
        parts.append(f"of delivery {row['duplicate_of']}")
    if row["error"]:
        parts.append(str(row["error"]).replace("\n", " "))
    return "  ".join(parts)


def _styled(screen: Any, text: str, style: str) -> str:
    from rich.text import Text

    with screen.capture() as captured:
        screen.print(Text(text, style=style), end="")
    return str(captured.get())
