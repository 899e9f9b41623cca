"""docs/cli-guide.md shows what the commands really print.

Run this file as a program to write the outputs anew after a change:
``python tests/acceptance/test_cli_guide.py``.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import tempfile
from pathlib import Path

from typer.testing import CliRunner

from nemflow.cli import app

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "cli-guide.md"
FENCE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def output_of(command: str, folder: Path) -> str:
    """What ``nemflow ...`` prints in the folder; it may find problems in data, nothing worse."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code in (0, 1), f"$ nemflow {command}\n{done.output}"
    return done.output


def written_anew(text: str, folder: Path) -> str:
    """The page with every console block run, from top to bottom."""

    def block(found: re.Match[str]) -> str:
        commands = re.findall(r"^\$ nemflow (.*)$", found[1], re.MULTILINE)
        shown = "".join(f"$ nemflow {each}\n{output_of(each, folder)}" for each in commands)
        tidy = "\n".join(line.rstrip() for line in shown.rstrip().splitlines())
        return f"```console\n{tidy}\n```"

    return FENCE.sub(block, text)


def test_the_guide_shows_what_the_commands_print(tmp_path: Path) -> None:
    """Typed in this order in an empty folder, each command prints what the page says."""
    text = GUIDE.read_text(encoding="utf-8")
    assert len(FENCE.findall(text)) >= 10
    assert written_anew(text, tmp_path) == text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        GUIDE.write_text(
            written_anew(GUIDE.read_text(encoding="utf-8"), Path(empty)), encoding="utf-8"
        )
