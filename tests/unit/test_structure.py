"""The plan of the house holds: who may import whom, what a module owes its reader.

Why: a design that nobody checks is a wish. The arrows below are the ones of the design
("The rooms"); they are read from the source text, so an import hidden inside a function or
behind ``importlib`` counts like any other.
Next: CONTRIBUTING.md says what to do when a new room or a new arrow is really needed.
"""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import nemflow
import nemflow.errors

REPO = Path(__file__).resolve().parents[2]
SOURCE = REPO / "src" / "nemflow"

# psycopg, numpy and stamina belong to the postgres extra; that the core does without them is
# shown by tests/acceptance/test_wheel.py.
# simulating is a client of the service: it makes files and asks over HTTP, and knows no store,
# so that what it proves is what any client would see.
# room | rooms it may import | packages it may use beside the standard library; with a "?": extras
# and heavy ones, which may be imported only where they are used, never at the top of a module
ARROWS = """
door | errors library mdff intake |
_version |  |
errors |  |
failpoints |  |
events | errors |
plain |  | polars?
mdff | errors | polars pandas? pyarrow?
intake | errors failpoints | watchfiles?
store | errors events failpoints mdff | polars sqlalchemy alembic psycopg numpy stamina
library | errors mdff intake | polars
pipeline | errors events failpoints mdff intake store library plain | polars sqlalchemy
jobs | errors events failpoints mdff intake store pipeline | dramatiq redis pika pybreaker \
sqlalchemy croniter
simulating | errors mdff | polars httpx?
telemetry | errors events | prometheus_client opentelemetry structlog
settings | errors mdff intake store pipeline jobs |
service | * | fastapi starlette pydantic uvicorn polars python_multipart limits \
httpx standardwebhooks
console | * | fastapi starlette nicegui polars
app | * | polars
cli | * | typer click rich polars plotext sqlalchemy httpx
"""

# These may know everything; nothing below may know them.
ENTRY_POINTS = {"app", "cli", "service", "console"}
FOR_ENTRY_POINTS_ONLY = {"settings", "telemetry", "app", "cli", "service", "console"}

# Errors that reading, writing and loading never raise, so they are not at the front door.
OF_THE_SERVICE = {"BrokerAway", "SpoolFault", "SpoolFull", "TooLarge"}

# Modules that are longer than a person likes to read at once, and why that is right.
LONG_MODULES: dict[str, str] = {}
MAX_LINES = 500

PLACEHOLDER_NAMES = re.compile(
    r"(^|_)(utils?|helpers?|managers?|misc|common)(_|\.|$)|Manager|Helper|Utils?$"
)


class Room(NamedTuple):
    """What one room may know."""

    rooms: frozenset[str]
    packages: frozenset[str]


def read_arrows(text: str) -> dict[str, Room]:
    """The table above as data; ``*`` stands for every room that is not an entry point's own."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    names = {row[0] for row in rows}
    return {
        name: Room(
            frozenset(names - {name} if rooms == "*" else rooms.split()),
            frozenset(packages.split()),
        )
        for name, rooms, packages in rows
    }


HOUSE = read_arrows(ARROWS)


def module_name(path: Path) -> str:
    """``src/nemflow/mdff/reader.py`` -> ``nemflow.mdff.reader``; a package is its own name."""
    parts = list(path.relative_to(SOURCE.parent).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """``nemflow.mdff.reader`` -> ``mdff``; ``nemflow`` itself is the door."""
    return module.split(".")[1] if "." in module else "door"


class Import(NamedTuple):
    """One import: what, where, and whether only when needed (or only for type checkers)."""

    target: str
    line: int
    lazy: bool


def imported_modules(source: str, module: str, *, is_package: bool) -> set[Import]:
    """Every module a source text imports: at any depth, relative or by name.

    ``from nemflow import mdff`` counts as ``nemflow.mdff``; ``import_module("x.y")`` and
    ``__import__("x.y")`` with a literal count too.
    """
    found: set[Import] = set()

    def add(target: str, node: ast.AST) -> None:
        found.add(Import(target, node.lineno, lazy=node.col_offset > 0))  # type: ignore[attr-defined]

    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                for name in names:
                    add(name.name, node)
            case ast.ImportFrom(module=target, names=names, level=level):
                base = module.split(".")
                if level:
                    base = base[: len(base) - level + (1 if is_package else 0)]
                    target = ".".join([*base, target] if target else base)
                assert target is not None
                if target == "nemflow":
                    for name in names:
                        inside = SOURCE / name.name
                        is_room = inside.is_dir() or inside.with_suffix(".py").exists()
                        add(f"nemflow.{name.name}" if is_room else target, node)
                else:
                    add(target, node)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str() as target), *_],
            ):
                add(target, node)
    return found


def broken_arrows(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What a source text imports against the plan; empty when it keeps to it."""
    room = room_of(module)
    if room not in HOUSE:
        return [f"{module}: {room!r} is not a room of the plan; add it to ARROWS with its reason"]
    may = HOUSE[room]
    complaints = []
    for target, line, lazy in sorted(imported_modules(source, module, is_package=is_package)):
        top = target.partition(".")[0]
        if top == "nemflow":
            other = room_of(target)
            if other in {room, "_version"}:
                continue
            if other not in may.rooms:
                complaints.append(f"{module}:{line}: {room} may not import {target}")
        elif (
            top not in sys.stdlib_module_names
            and top not in may.packages
            and not (lazy and f"{top}?" in may.packages)
        ):
            complaints.append(f"{module}:{line}: {room} may not use {target}")
    return complaints


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(SOURCE.rglob("*.py"))


def written_modules() -> list[Path]:
    """Modules a person writes: all but the migration scripts, which alembic's template shapes."""
    return [path for path in modules() if "versions" not in path.parts]


def relative(path: Path) -> str:
    """A path as a person names it, from the top of the repository."""
    return path.relative_to(REPO).as_posix()


# --- arrows ---------------------------------------------------------------------------------


def test_every_module_imports_only_what_its_room_may_know() -> None:
    """Imports point one way: cli -> pipeline -> store, intake -> mdff; nothing points upwards."""
    complaints = [
        complaint
        for path in modules()
        for complaint in broken_arrows(
            path.read_text(encoding="utf-8"),
            module_name(path),
            is_package=path.name == "__init__.py",
        )
    ]
    assert complaints == []


def test_the_plan_has_no_circles_and_keeps_entry_points_on_top() -> None:
    """The table itself is sane: rooms form layers, and only entry points know settings."""
    below = {name: set(room.rooms) for name, room in HOUSE.items() if name not in ENTRY_POINTS}
    for name, rooms in below.items():
        assert not rooms & FOR_ENTRY_POINTS_ONLY, name
    done: set[str] = set()
    while ready := {name for name, rooms in below.items() if rooms <= done} - done:
        done |= ready
    assert done == set(below), f"a circle among {set(below) - done}"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("nemflow.mdff.reader", "import sqlalchemy"),
        ("nemflow.mdff.reader", "from nemflow.intake import archive"),
        ("nemflow.mdff.reader", "from nemflow import store"),
        ("nemflow.mdff.reader", "from ..store import days"),
        ("nemflow.mdff.reader", "from nemflow import read"),
        ("nemflow.mdff.reader", "def f():\n    from nemflow.library import read"),
        ("nemflow.mdff.reader", "import importlib\nimportlib.import_module('nemflow.cli')"),
        ("nemflow.mdff.reader", "if True:\n    import numpy as np"),
        ("nemflow.mdff.reader", "import pandas as pd"),
        ("nemflow.cli.load", "import pandas as pd"),
        ("nemflow.intake.archive", "import polars"),
        ("nemflow.intake.archive", "from nemflow.mdff import lines"),
        ("nemflow.intake.archive", "import nemflow.settings"),
        ("nemflow.store.days", "from nemflow.pipeline import load"),
        ("nemflow.store.days", "from nemflow.cli import main"),
        ("nemflow.store.days", "from nemflow.library import read"),
        ("nemflow.library", "from nemflow.store import open_store"),
        ("nemflow.pipeline.load", "from nemflow.settings import Settings"),
        ("nemflow.pipeline.load", "from nemflow.telemetry import log"),
        ("nemflow.pipeline.load", "import rich"),
        ("nemflow.errors", "from nemflow.events import FileFinished"),
        ("nemflow.parlour.sofa", "import json"),
    ],
)
def test_a_planted_violation_is_caught(module: str, line: str) -> None:
    """The test above can fail: each of these imports against the plan is named."""
    assert broken_arrows(line, module)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("nemflow.mdff.reader", "import polars as pl\nfrom nemflow.errors import FileRefused"),
        ("nemflow.mdff.reader", "from . import codes\nfrom .lines import split"),
        ("nemflow.mdff.reader", "from nemflow.mdff import rules\nimport re, json, hashlib"),
        ("nemflow.mdff.reader", "def f():\n    import pandas as pd"),
        ("nemflow.library", "from nemflow.intake.archive import members"),
        ("nemflow.pipeline.load", "from nemflow import _version, mdff"),
        (
            "nemflow.cli.load",
            "def f():\n    from nemflow.settings import Settings\n    import rich",
        ),
    ],
)
def test_an_honest_import_passes(module: str, line: str) -> None:
    """The test above does not cry wolf."""
    assert broken_arrows(line, module) == []


# --- the public door ------------------------------------------------------------------------


def test_the_door_lists_everything_once_and_sorted() -> None:
    """``nemflow.__all__`` is sorted, without doubles, and every name in it is there."""
    assert list(nemflow.__all__) == sorted(set(nemflow.__all__))
    assert [name for name in nemflow.__all__ if not hasattr(nemflow, name)] == []


def test_the_door_is_complete() -> None:
    """What a user needs is at the door: the verbs, MeterData, and every error reading can raise.

    The store's own errors below StoreError are at the store's door, the service's where it is.
    """
    needed = {"read", "scan", "check", "write", "generate", "MeterData", "Report"}
    errors = {
        name
        for name, value in vars(nemflow.errors).items()
        if inspect.isclass(value)
        and issubclass(value, nemflow.errors.NemflowError)
        and (value is nemflow.errors.StoreError or not issubclass(value, nemflow.errors.StoreError))
    }
    assert (needed | errors) - set(nemflow.__all__) - OF_THE_SERVICE == set()
    public = {name for name in dir(nemflow) if not name.startswith("_")}
    assert public - set(nemflow.__all__) == set()
    assert nemflow.__version__


def test_the_library_guide_names_everything_at_the_door() -> None:
    """A public name that docs/library.md does not mention would never be found."""
    guide = (REPO / "docs" / "library.md").read_text(encoding="utf-8")
    assert [name for name in nemflow.__all__ if not re.search(rf"\b{name}\b", guide)] == []


@pytest.mark.parametrize("name", [n for n in getattr(nemflow, "__all__", []) if n[0] != "_"])
def test_every_object_at_the_door_is_documented(name: str) -> None:
    """Each public object says what it is; functions also name their arguments' types."""
    thing = getattr(nemflow, name)
    text = inspect.getdoc(thing) or ""
    assert len(text) >= 20, f"nemflow.{name} has no docstring to speak of"
    if inspect.isfunction(thing):
        signature = inspect.signature(thing)
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty, parameter


@pytest.mark.parametrize(
    ("door", "must_stay_away"),
    [
        ("nemflow", ("polars", "sqlalchemy", "alembic", "typer", "rich", "pandas", "pyarrow")),
        ("nemflow.cli", ("polars", "sqlalchemy", "alembic", "pandas", "pyarrow", "plotext")),
    ],
)
def test_importing_the_door_is_light(door: str, must_stay_away: tuple[str, ...]) -> None:
    """``import nemflow`` and the command's first breath load nothing heavy."""
    code = f"import sys, {door}; print(*[m for m in {must_stay_away!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# --- what a module owes its reader ----------------------------------------------------------


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_every_module_says_why_it_exists(path: Path) -> None:
    """A docstring of substance opens every module."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert "To be described" not in text
    assert len(text) >= (60 if path in written_modules() else 10), f"docstring: {text!r}"


@pytest.mark.parametrize("path", written_modules(), ids=relative)
def test_no_module_is_too_long_to_read(path: Path) -> None:
    """Up to 500 lines, unless LONG_MODULES says why one is longer."""
    lines = path.read_text(encoding="utf-8").count("\n")
    if relative(path) in LONG_MODULES:
        assert lines > MAX_LINES, "it is short again: take it off the list"
    else:
        assert lines <= MAX_LINES


def test_names_say_what_a_thing_is() -> None:
    """No module or class is called utils, helper, manager, misc or common."""
    vague = [relative(path) for path in modules() if PLACEHOLDER_NAMES.search(path.stem)]
    for path in modules():
        vague += [
            f"{relative(path)}: class {node.name}"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ClassDef) and PLACEHOLDER_NAMES.search(node.name)
        ]
    assert vague == []


# --- what must not be in the repository -------------------------------------------------------

# Written in pieces, so that this page does not find itself.
NOT_HERE = re.compile(
    "|".join(
        [
            r"(?<![\w.])/(?:work|root|home|Users)" + r"/[\w.]",
            r"file:" + r"///?[\w]",
            r"pythonhosted" + r"\.org",
            r"pypi" + r"\.org",
            r"extra-" + r"index-url|--index-" + r"url|--find-" + r"links",
            r"[A-Z]:\\" + r"Users\\",
        ]
    )
)


def tracked_files() -> list[Path]:
    """The files git tracks (and new ones it would); without git, the files of the tree."""
    if (REPO / ".git").exists() and shutil.which("git"):
        done = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPO,
            capture_output=True,
            check=True,
        )
        names = [name for name in done.stdout.decode().split("\0") if name]
        return [REPO / name for name in names if (REPO / name).is_file()]
    folders = ["src", "tests", "docs", "bench", "requirements"]
    return [path for folder in folders for path in (REPO / folder).rglob("*") if path.is_file()]


def test_no_file_names_a_machine_or_a_package_index() -> None:
    """Nothing we publish depends on where it was written or where packages came from."""
    complaints = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            if found := NOT_HERE.search(line):
                complaints.append(f"{relative(path)}:{number}: {found.group()}")
    assert complaints == []


@pytest.mark.parametrize(
    "line",
    ["see /" + "work/x", "https://pypi" + ".org/simple", "at /" + "home/me", "file:" + "///opt"],
)
def test_a_planted_machine_path_is_caught(line: str) -> None:
    """The test above can fail."""
    assert NOT_HERE.search(line)
