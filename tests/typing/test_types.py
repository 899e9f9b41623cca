"""The types at the public door are right for users: right use passes, misuse is found.

Why: types are part of the interface, so they are tested like behaviour. mypy reads api.py and
misuse.py next to this file with strict settings. Takes some seconds, more the first time.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]


@pytest.fixture(scope="module")
def complaints() -> dict[str, dict[int, str]]:
    """What mypy says, by file name and line."""
    options = ["--no-error-summary", "--no-pretty", "--show-error-codes"]
    files = [str(HERE / "api.py"), str(HERE / "misuse.py")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found: dict[str, dict[int, str]] = {}
    for line in done.stdout.splitlines():
        if match := re.match(r"(.+?):(\d+): error: (.*)", line):
            found.setdefault(Path(match[1]).name, {})[int(match[2])] = match[3]
    return found


def test_the_api_has_the_types_its_users_rely_on(complaints: dict[str, dict[int, str]]) -> None:
    """Every use in api.py is allowed, and gives the type it states."""
    assert complaints.get("api.py", {}) == {}


def test_misuse_is_found_by_a_type_checker(complaints: dict[str, dict[int, str]]) -> None:
    """Exactly the lines of misuse.py that are marked wrong are errors."""
    lines = (HERE / "misuse.py").read_text(encoding="utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert set(complaints.get("misuse.py", {})) == wrong


def test_no_error_hides_in_the_package_itself(complaints: dict[str, dict[int, str]]) -> None:
    """Only misuse.py has errors; what it imports has none."""
    assert set(complaints) <= {"misuse.py"}
