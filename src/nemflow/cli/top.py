"""``top``: a live view of the running service, for people who live in a shell.

Why: what waits, who works on what, what fails and what is wrong, on one screen.

Promises: fits the screen, at 80 by 24 as well, and follows its size; while the service or the
store is away the last view stays, with how old it is; on anything but a live terminal (a pipe,
``--once``, TERM=dumb) one view is printed as plain text. q or Ctrl-C ends it.

Look next: :meth:`nemflow.store.Store.snapshot`; :mod:`nemflow.cli.tail`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.cli import wording
from nemflow.cli.asking import ServerOption, Service
from nemflow.cli.options import DbOption, open_to_read
from nemflow.cli.output import JsonOption, console, on_terminal, printable, to_json, write
from nemflow.errors import NemflowError, StoreError, SystemFault, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Snapshot = Mapping[str, Any]
_FAILURES = 20
_LOOK_SECONDS = 0.1  #: so often keys and the screen's size are looked at
_PLAIN = (100, 60)  #: columns and lines of a view that is not on a terminal
_QUIT = {"q", "Q", "\x1b", "\x03", "\x04"}


def top(
    ctx: typer.Context,
    *,
    every: Annotated[float, typer.Option("--every", help="Seconds between looks.", min=0.2)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one view and end.")] = False,
    server: ServerOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what goes on, live: rates, lanes, workers, failures, problems; q ends it."""
    if server is not None and db is not None:
        raise UsageError("--server and --db exclude each other.", hint="Give one of them.")
    with ExitStack() as opened:
        if server is not None:
            service = opened.enter_context(Service(server))
            where = service.url
            ask: Callable[[], Snapshot] = lambda: service.ask("/v1/now")  # noqa: E731
        else:
            store = opened.enter_context(open_to_read(ctx, db))
            where = store.url
            ask = lambda: {**store.snapshot(failures=_FAILURES), "health": {"store": "ready"}}  # noqa: E731
        if as_json:
            write(to_json(ask(), indent=2) + "\n")
        elif once or not on_terminal() or os.environ.get("TERM") in (None, "", "dumb"):
            _print_once(ask(), where)
        else:
            _live(ask, where, every)


def _print_once(found: Snapshot, where: str) -> None:
    from rich.console import Console, Group

    width = console().width if on_terminal() else _PLAIN[0]
    screen = Console(
        file=sys.stdout, width=width, no_color=True, markup=False, highlight=False, emoji=False,
        color_system=None,
    )  # fmt: skip
    screen.print(Group(*view(found, where, width, _PLAIN[1], note="")))


def _live(ask: Callable[[], Snapshot], where: str, every: float) -> None:
    """Draw again and again until q; what is away is asked again."""
    from rich.console import Group
    from rich.live import Live

    screen = console()
    found: Snapshot | None = None
    seen = asked = -float("inf")
    note, drawn = "", (0, 0, "")
    with (
        _keys() as key,
        Live(console=screen, screen=True, auto_refresh=False, transient=True) as live,
    ):
        try:
            while key() not in _QUIT:
                now, fresh = time.monotonic(), False
                if now - asked >= every:
                    try:
                        found, seen, note, fresh = ask(), now, "", True
                    except (SystemFault, StoreError) as error:
                        note = _away(error, seen, now)
                    asked = time.monotonic()
                size = (*screen.size, note)
                if fresh or size != drawn:
                    parts = view(found, where, *screen.size, note=note)
                    live.update(Group(*parts), refresh=True)
                    drawn = size
                time.sleep(_LOOK_SECONDS)
        except KeyboardInterrupt:
            return


def _away(error: NemflowError, seen: float, now: float) -> str:
    """Why the view is old, and how old."""
    age = "" if seen < 0 else f" What you see is {now - seen:.0f} s old."
    return f"{error.message}{age}"


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """A function that tells the key that was pressed, or nothing; the terminal as before after."""
    try:
        import select
        import termios
        import tty

        before = termios.tcgetattr(sys.stdin)
    except (ImportError, OSError, ValueError):  # no such terminal, or stdin is something else
        yield lambda: ""
        return
    except Exception as error:
        if type(error).__name__ != "error":
            raise
        yield lambda: ""
        return

    def key() -> str:
        ready, _, _ = select.select([sys.stdin], [], [], 0)
        if not ready:
            return ""
        pressed = os.read(sys.stdin.fileno(), 32).decode("utf-8", "ignore")
        return pressed[:1] if len(pressed) == 1 or pressed[0] != "\x1b" else ""

    try:
        tty.setcbreak(sys.stdin)
        yield key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


# -- the view ---------------------------------------------------------------------------------


def view(
    found: Snapshot | None, where: str, width: int, height: int, *, note: str
) -> list[RenderableType]:
    """What goes on, in at most ``height`` lines of ``width``."""
    from rich.text import Text

    def line(text: str, style: str = "") -> Text:
        return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")

    if found is None:
        return [line(f"nemflow {where}", "bold"), line(note or "Asking ...", "yellow")]
    parts: list[RenderableType] = [_head(found, where, width)]
    parts += [line(text) for text in _sums(found)]
    if note:
        parts.append(line(note, "bold yellow"))
    lanes, workers = found["lanes"], found["workers"]
    problems, failures = found["problems"], found["failures"]
    left = height - len(parts) - 1
    left -= _cost(lanes)
    sizes = _shares(left, [len(workers), len(problems), len(failures)])
    if lanes:
        parts += [line(""), _lanes(lanes)]
    else:
        parts += [line(""), line("Nothing waits.", "green")]
        left -= 2
        sizes = _shares(left, [len(workers), len(problems), len(failures)])
    for title, rows, table, shown in (
        ("Workers", workers, _workers, sizes[0]),
        ("Problems", problems, _problems, sizes[1]),
        ("Failures", failures, _failures, sizes[2]),
    ):
        if rows and shown:
            more = len(rows) - shown
            parts += [
                line(""),
                line(f"{title}{f' (and {more} more)' if more > 0 else ''}", "bold"),
                table(rows[:shown], width),
            ]
    return parts


def _cost(lanes: Sequence[Any]) -> int:
    """Lines of the table of lanes: a blank, the heading, a line each."""
    return len(lanes) + 2 if lanes else 0


def _shares(left: int, wanted: Sequence[int]) -> list[int]:
    """How many rows each section gets of what is left, evenly; each costs three lines more."""
    given = [0] * len(wanted)
    left -= 3 * sum(1 for each in wanted if each)
    while left > 0 and any(got < want for got, want in zip(given, wanted, strict=True)):
        for place, want in enumerate(wanted):
            if given[place] < want and left > 0:
                given[place] += 1
                left -= 1
    return given


def _head(found: Snapshot, where: str, width: int) -> RenderableType:
    from rich.text import Text

    bad = {name: said for name, said in found.get("health", {}).items() if said != "ready"}
    told = ", ".join(f"{name}: {said}" for name, said in bad.items()) or "all parts work"
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append("nemflow ", style="bold")
    head.append(printable(where))
    head.append("  ")
    head.append(told, style="bold red" if bad else "green")
    at = found["at"]
    clock = (datetime.fromisoformat(at) if isinstance(at, str) else at).strftime("%H:%M:%S")
    head.truncate(max(20, width - 10), overflow="ellipsis")
    head.append(" " * max(1, width - head.cell_len - 8) + clock, style="dim")
    return head


def _sums(found: Snapshot) -> list[str]:
    rates, opened = found["rates"], found["open_problems"]
    minute = rates["seconds"] / 60
    told = [f"{count} {kind}" for kind, count in opened.items() if count]
    return [
        f"last minute: {wording.count(round(rates['files'] / minute), 'file')}, "
        f"{rates['failed']:,} with faults, {wording.count(rates['days'], 'day')}, "
        f"{wording.size(rates['bytes'])}",
        f"waiting {found['waiting']:,}  working {found['working']:,}  "
        f"tried again later {found['retrying']:,}  open problems: {', '.join(told) or 'none'}",
    ]


def _table(*columns: str, give: int) -> Table:
    """A table without lines; the column of number ``give`` takes what is left."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), expand=True, header_style="dim")
    for place, name in enumerate(columns):
        right = name.startswith(">")
        table.add_column(
            name.lstrip(">"),
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if place == give else None,
        )
    return table


def _cell(value: Any, longest: int = 0) -> str:
    """A value as a cell; too long: its end with an ellipsis before it."""
    text = printable("" if value is None else str(value)).replace("\n", " ")
    return f"…{text[-(longest - 1) :]}" if longest and len(text) > longest else text


def _age(seconds: float | None) -> str:
    """``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    if seconds is None:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _lanes(lanes: Sequence[Snapshot]) -> Table:
    table = _table("lane", ">files", ">size", ">oldest", "", give=4)
    for each in lanes:
        table.add_row(
            each["lane"], f"{each['files']:,}", wording.size(each["bytes"]),
            _age(each["oldest_seconds"]), "",
        )  # fmt: skip
    return table


def _workers(rows: Sequence[Snapshot], width: int) -> Table:
    wide = width >= 100
    names = ["worker", ">id", "file", "state", ">done", ">since", ">lease"]
    table = _table(*names, *(["sender", "lane"] if wide else []), give=2)
    for each in rows:
        percent = each["percent"]
        lease = each["lease_seconds"]
        cells = [
            _cell(each["worker"], 20), str(each["delivery"]), _cell(each["name"], width // 3),
            each["state"] + (f" ({each['attempt']})" if each["attempt"] > 1 else ""),
            "" if percent is None else f"{percent} %", _age(each["seconds"]),
            "over" if lease is not None and lease < 0 else _age(lease),
        ]  # fmt: skip
        table.add_row(*cells, *([_cell(each["sender"]), each["lane"]] if wide else []))
    return table


def _problems(rows: Sequence[Snapshot], width: int) -> Table:
    table = _table(">id", "who", "rule", "what", ">times", "last", "acts", give=3)
    for each in rows:
        whose = each["sender"] or ("system" if each["kind"] == "system" else "unknown")
        table.add_row(
            str(each["problem"]), _cell(whose, 16), each["rule"], _cell(each["what"]),
            f"{each['times']:,}", _when(each["last_at"]), each["who"],
        )  # fmt: skip
    return table


def _failures(rows: Sequence[Snapshot], width: int) -> Table:
    table = _table("at", ">id", "file", "state", "why", give=4)
    for each in rows:
        table.add_row(
            _when(each["at"]), str(each["delivery"]), _cell(each["name"], max(16, width // 4)),
            each["state"].replace("_", " "), _why(each),
        )  # fmt: skip
    return table


def _why(each: Snapshot) -> str:
    if each["error"]:
        return _cell(each["error"])
    kept = each["days_rejected"] + each["reads_rejected"]
    return f"{kept:,} of {each['days_read'] + each['reads_read']:,} kept out" if kept else ""


def _when(value: Any) -> str:
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return "" if found is None else found.strftime("%m-%d %H:%M")
