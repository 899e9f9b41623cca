"""The overview's first line: green only when files that wait are being loaded."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

pytest.importorskip("nicegui", reason="the extra console is not installed")

from nemflow.console.overview import Now, _standing
from nemflow.store.dispatch import Backlog

NOTHING = Backlog(0, 0, 0, 0.0, {}, 0.0, 0.0)
PROBLEMS = pl.DataFrame(schema={"who": pl.String})


def first_line(backlog: Backlog) -> str:
    """What the overview shows of a backlog, when all else is well."""
    return str(_standing(Now(backlog, {"store": None}, PROBLEMS, 0, "", None), operates=True))


@pytest.mark.parametrize(
    ("backlog", "said"),
    [
        (NOTHING, "Nothing needs you"),
        (replace(NOTHING, files=3, oldest_seconds=20.0), "Nothing needs you"),
        (replace(NOTHING, files=3, working=1, oldest_seconds=300.0), "Nothing needs you"),
        (replace(NOTHING, files=3, oldest_seconds=61.0), "Nothing is being loaded"),
        (replace(NOTHING, files=3, working=1, oldest_seconds=901.0), "start more workers"),
    ],
)
def test_files_that_nobody_loads_are_said_first(backlog: Backlog, said: str) -> None:
    """Waiting for a minute with nobody at work, or for a quarter of an hour: somebody must act."""
    assert said in first_line(backlog)
    assert ("Nothing needs you" in first_line(backlog)) == (said == "Nothing needs you")


def test_no_time_for_the_rest_is_promised_while_nobody_works() -> None:
    """What was done a few minutes ago says nothing about what is to come."""
    backlog = replace(NOTHING, files=30, drained_per_second=1.0, oldest_seconds=5.0)
    assert "for the rest" not in first_line(backlog)
    assert "30 s for the rest" in first_line(replace(backlog, working=1))
