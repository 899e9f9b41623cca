"""A folder waits in time, so that uploads find room; a sweep by hand too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nemflow
from nemflow.cli import app
from nemflow.intake.accepting import AcceptLimits
from nemflow.intake.spool import Spool, SpoolLimits
from nemflow.pipeline.crowding import crowded, lately
from nemflow.store.dispatch import Backlog


@pytest.mark.parametrize(
    ("files", "size", "waits"), [(4, 40, False), (5, 40, True), (4, 50, True), (0, 0, False)]
)
def test_it_waits_when_half_of_what_may_wait_does(
    tmp_path: Path, files: int, size: int, waits: bool
) -> None:
    """By files or by bytes, whichever comes first."""
    spool = Spool(tmp_path, SpoolLimits(free_bytes=1))
    limits = AcceptLimits(waiting_files=10, waiting_bytes=100)
    backlog = Backlog(files, size, 0, 0.0, {}, 0.0, 0.0)
    assert (crowded(spool, lambda: backlog, limits) is not None) == waits


def test_it_waits_while_the_spool_is_full(tmp_path: Path) -> None:
    """Whatever waits."""
    spool = Spool(tmp_path, SpoolLimits(free_bytes=1 << 60))
    assert "bytes left" in str(crowded(spool, lambda: pytest.fail("asked"), AcceptLimits()))


def test_what_was_taken_since_counts_though_the_ledger_is_not_asked_again() -> None:
    """A hundred thousand files ask it once a second, not a hundred thousand times."""
    asked, taken = [], [0]

    def backlog() -> Backlog:
        asked.append(1)
        return Backlog(3, 0, 0, 0.0, {}, 0.0, 0.0)

    known = lately(backlog, taken=lambda: taken[0])
    assert known().files == 3
    taken[0] = 7
    assert known().files == 10
    assert len(asked) == 1


def test_a_sweep_by_hand_leaves_room_for_uploads_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is named, the exit code is not 0, and sweeping again goes on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEMFLOW_SERVICE_WAITING_FILES", "4")
    (tmp_path / "in").mkdir()
    for n in range(5):
        path = tmp_path / "in" / f"{n}.csv"
        path.write_bytes(nemflow.generate(days=1, seed=n))
        os.utime(path, (1e9, 1e9))
    swept = CliRunner().invoke(app, ["sweep", "in"])
    assert swept.exit_code == 3, swept.output
    assert "2 files" in swept.output
    assert "Sweep again" in swept.output
