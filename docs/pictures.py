"""Make the terminal pictures of the docs anew: real output of real commands, as SVG.

Why: a picture that nobody can make again is soon untrue.
Promises: each picture is what the command prints today, on files made by seed.
Run it with ``python docs/pictures.py``; the pictures stand in ``docs/pictures/``.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

import nemflow

HERE = Path(__file__).parent
COLUMNS = 84

#: Rich's own template without its web font: a picture must not fetch anything.
TEMPLATE = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: 'DejaVu Sans Mono', Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: arial; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}"
  height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})"
  clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


def picture(name: str, words: list[str], folder: Path, lines: int | None = None) -> None:
    """Run ``nemflow WORDS`` and write what it prints as docs/pictures/NAME.svg."""
    forced = {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    environment = os.environ | forced
    run = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "nemflow.cli", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = run.stdout.splitlines()[:lines]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ nemflow {' '.join(words)}", style="bold"))
    console.print(Text.from_ansi("\n".join(said)))
    target = HERE / "pictures" / f"{name}.svg"
    target.parent.mkdir(exist_ok=True)
    svg = console.export_svg(title="nemflow", theme=MONOKAI, code_format=TEMPLATE, unique_id=name)
    target.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def main() -> None:
    """Make every picture."""
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        text = nemflow.generate(
            days=365, start=date(2025, 7, 1), streams=("E1", "B1"), seed=7, substituted=0.02
        )
        (folder / "solar-house.csv").write_bytes(text)
        broken = nemflow.generate(nmis=2, days=10, seed=3, break_it=["I001", "I004", "Q008"])
        (folder / "broken.csv").write_bytes(broken)
        picture("show", ["show", "solar-house.csv"], folder, lines=45)
        picture("check", ["check", "broken.csv"], folder)


if __name__ == "__main__":
    main()
