"""Failpoints: off unless asked for, and every one of them is somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemflow import failpoints

SOURCE = Path(failpoints.__file__).parent


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """No test leaves one behind."""
    yield
    failpoints.arm("")


def test_every_place_is_reached_somewhere_and_no_other() -> None:
    """What is listed is called in the code, and what is called is listed."""
    called = {
        place
        for path in SOURCE.rglob("*.py")
        for place in re.findall(r'failpoints\.reach\("([\w-]+)"\)', path.read_text("utf-8"))
    }
    assert called == set(failpoints.PLACES)


def test_every_place_is_in_the_docs_in_the_same_words() -> None:
    """docs/testing.md lists what there is, and nothing else."""
    page = (SOURCE.parents[1] / "docs" / "testing.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.+) \|$", page, re.MULTILINE))
    assert {place: said for place, said in rows.items() if "-" in place} == failpoints.PLACES


def test_nothing_happens_unless_asked_for() -> None:
    """Not armed, or armed for another place: reaching one is nothing."""
    failpoints.reach("mid-copy")
    failpoints.arm("mid-parse=kill")
    failpoints.reach("mid-copy")


def test_the_nth_time_and_only_then() -> None:
    """``@2`` waits at the second time, not the first, and not again."""
    failpoints.arm("mid-copy@2=sleep:0.2")
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        failpoints.reach("mid-copy")
        took.append(time.perf_counter() - begun)
    assert took[1] >= 0.2
    assert max(took[0], took[2]) < 0.1


@pytest.mark.parametrize("spec", ["nowhere=kill", "mid-copy=dance", "mid-copy@x=kill"])
def test_what_cannot_be_armed_is_refused(spec: str) -> None:
    """A misspelt place would be a test that cannot fail."""
    with pytest.raises(ValueError, match=r".+"):
        failpoints.arm(spec)


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_kill_is_kill_9() -> None:
    """Armed by the environment, the process ends at once, without a last word."""
    code = "import atexit; atexit.register(print, 'bye')\n"
    code += "from nemflow import failpoints\nfailpoints.reach('mid-copy'); print('alive')"
    environment = {"NEMFLOW_FAILPOINTS": "mid-copy=kill"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (-9, b"")
