"""docs/laptop.md works as typed: a newcomer follows it line by line beside a running service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from borrowed import from_file

Service = from_file(Path(__file__).with_name("service_process.py")).Service
PAGE = Path(__file__).resolve().parents[2] / "docs" / "laptop.md"


def typed() -> list[tuple[str, str]]:
    """Every line after a ``$`` in the page's console blocks, with what the page shows below it."""
    blocks = re.findall(
        r"^```console\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    steps = []
    for block in blocks:
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, shown = step.partition("\n")
            steps.append((line, shown))
    return steps


def tidy(text: str) -> list[str]:
    """Lines without the blanks at their ends."""
    return [line.rstrip() for line in text.strip().splitlines()]


def test_the_page_for_a_laptop_works_as_typed(tmp_path: Path) -> None:
    """Each line ends well or with problems in the data, and prints what the page shows."""
    service = Service(tmp_path)
    service.start()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "HOME": str(tmp_path), "COLUMNS": "100"}
    steps = typed()
    assert len(steps) >= 10
    try:
        for line, shown in steps:
            asked = line.replace("http://127.0.0.1:8600", service.url)
            if asked.startswith("nemflow submit"):
                asked += f" --server {service.url}"
            done = subprocess.run(
                ["sh", "-c", asked],
                check=False,
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode in {0, 1}, f"$ {line}\n{done.stdout}{done.stderr}"
            assert "urn:nemflow:problem" not in done.stdout, f"$ {line}\n{done.stdout}"
            if shown:
                assert tidy(done.stdout) == tidy(shown), f"$ {line}"
        assert service.stop() == 0
    finally:
        if service.process.poll() is None:
            service.kill()
