"""Shared by the tests: a new store per test (on every engine), and tiny hand-made files.

A second engine joins the contract suite by one more entry in ``ENGINES``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nemflow.store import Store, open_store


def _sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder}/store.db"


#: engine -> where a new store of it lies, given an empty folder.
ENGINES: dict[str, Callable[[Path], str]] = {"sqlite": _sqlite_url}


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded store without data, to be copied: cheaper than making one."""
    path = tmp_path_factory.mktemp("template") / "store.db"
    open_store(str(path)).close()
    return path


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path, empty_store: Path) -> Iterator[Store]:
    """A new, empty store."""
    folder = tmp_path / "db"
    folder.mkdir()
    if request.param == "sqlite":
        shutil.copy(empty_store, folder / "store.db")
    with open_store(ENGINES[request.param](folder)) as opened:
        yield opened


@dataclass(frozen=True)
class Day:
    """One 300 to be written: all intervals have the same value unless ``values`` is given."""

    nmi: str = "SASMPL0001"
    day: str = "20250301"
    value: str = "1"
    update: str = "20250302010000"
    suffix: str = "E1"
    minutes: int = 30
    quality: str = "A"
    reason: str = ""
    uom: str = "kWh"
    events: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The 200 and 300, and what follows it."""
        count = 1440 // self.minutes
        values = ",".join(self.values or (self.value,) * count)
        return [
            f"200,{self.nmi},{self.suffix},1,{self.suffix},N1,METER1,{self.uom},{self.minutes},",
            f"300,{self.day},{values},{self.quality},{self.reason},,{self.update},",
            *self.events,
        ]


def nem12(*days: Day, file_at: str = "202503020430", sender: str = "MDPA") -> bytes:
    """A small NEM12 file."""
    lines = [f"100,NEM12,{file_at},{sender},RETAILER"]
    for day in days:
        lines += day.lines()
    return "".join(f"{line}\r\n" for line in [*lines, "900"]).encode()


def nem13(*rows: str, file_at: str = "202503020430", sender: str = "MDPA") -> bytes:
    """A small NEM13 file of ready-made 250 and 550 lines."""
    lines = [f"100,NEM13,{file_at},{sender},RETAILER", *rows, "900"]
    return "".join(f"{line}\r\n" for line in lines).encode()


@pytest.fixture(name="a_day")
def day_maker() -> type[Day]:
    """The maker of one day."""
    return Day


@pytest.fixture(name="nem12")
def nem12_maker() -> Callable[..., bytes]:
    """The maker of small NEM12 files."""
    return nem12


@pytest.fixture(name="nem13")
def nem13_maker() -> Callable[..., bytes]:
    """The maker of small NEM13 files."""
    return nem13


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Write a file below the test's folder; returns its path."""

    def write(name: str, data: bytes) -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return write
