"""The attacks of ``make chaos`` in their short form: real processes on a real PostgreSQL.

A failing one prints its seed; ``NEMFLOW_TEST_SEED`` repeats it. What each attack does, and why it
would notice, is in docs/testing.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos import contests, crashes, months, outages
from chaos.model import new_seed
from chaos.report import Attack
from chaos.servers import private_server


@pytest.fixture
def rng() -> random.Random:
    """Randomness whose seed is shown when the test fails."""
    seed = new_seed()
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    return random.Random(seed)  # noqa: S311 - a shuffle


ATTACKS: dict[str, Callable[[str, Path, random.Random], Attack]] = {
    "eight loaders on the same NMI-days in all orders never deadlock": lambda db, at, rng: (
        contests.deadlock_hunt(db, at, rng, files=32)
    ),
    "the hunt can fail: unsorted upserts of the same files do deadlock": lambda db, at, rng: (
        contests.deadlock_control(db, at, rng, files=32)
    ),
    "an original and its correction released together end at the correction": (
        lambda db, at, rng: contests.races(db, at, rng, rounds=10)
    ),
    "three versions released together end at the newest": lambda db, at, rng: contests.races(
        db, at, rng, rounds=6, versions=3
    ),
    "one text loaded twelve times at once is one load and eleven duplicates": (
        lambda db, at, rng: contests.same_text(db, at, rng, loaders=12)
    ),
    "ten loaders that need the same new months make each once": lambda db, at, rng: (
        months.partition_storm(db, at, rng, months=8)
    ),
    "the storm can fail: PARTITION OF does": lambda db, at, rng: months.partition_control(
        db, at, rng, months=8
    ),
    "killed at every failpoint and at random, nothing is partial, lost or double": (
        lambda db, at, rng: crashes.crash_hunt(db, at, rng, kills=15, engine="PostgreSQL")
    ),
    "a loader that was taken for dead and wakes up does not publish": lambda db, at, rng: (
        crashes.sleepers(db, at, rng, rounds=2)
    ),
    "connections ended in mid-load lose nothing": lambda db, at, rng: outages.terminations(
        db, at, rng, times=5
    ),
}


@pytest.mark.parametrize("promise", ATTACKS)
def test_under_attack(promise: str, database: str, tmp_path: Path, rng: random.Random) -> None:
    """What the name says."""
    attack = ATTACKS[promise](database, tmp_path, rng)
    assert attack.wrong == []
    assert sum(attack.counts.values()) > 0


def test_a_server_that_crashes_and_comes_back_loses_nothing(
    tmp_path: Path, rng: random.Random
) -> None:
    """PostgreSQL is stopped as by a power cut in mid-load, twice, and started again."""
    with private_server() as server:
        if server is None:
            pytest.skip("no PostgreSQL programs to run a private server with")
        attack = outages.restarts(server, tmp_path, rng, times=2)
    assert attack.wrong == []
    assert attack.counts["crashes of the server"] == 2
