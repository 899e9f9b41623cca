"""The examples in the README and the library guide run as printed, and print what they show.

Why: an example that no longer works costs a newcomer more trust than no example.
How: the ```python blocks of a page run from top to bottom in one namespace, in an empty folder,
as a reader would type them. A ```text block right below a python block is its output, to the
letter. In ```console blocks every ``$ nemflow ...`` line is run; it may find problems in data
(exit code 1), but it may not be wrong usage.
Next: docs/index.md must list every page of docs/.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

REPO = Path(__file__).resolve().parents[2]
_RUN = ("README.md", "docs/library.md", "docs/consumers.md", "docs/review.md")
PAGES = [page for page in _RUN if (REPO / page).exists()]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+?)(?:#[^)]*)?\)")


class Block(NamedTuple):
    """One fenced block: what it is, where, and what it should print."""

    kind: str
    line: int
    text: str
    output: str | None


def blocks_of(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, each python block with the text block right below it."""
    text = (REPO / page).read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    for here, after in zip_longest(found, found[1:]):
        is_output = (
            after is not None
            and after[1] == "text"
            and not text[here.end() : after.start()].strip()
        )
        line = text.count("\n", 0, here.start()) + 2
        yield Block(here[1], line, here[2], after[2] if after and is_output else None)


def tidy(text: str) -> str:
    """Text without the white space at line ends and around it."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to type in, with a terminal of ordinary width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_python_examples_run_and_print_what_the_page_shows(page: str, folder: Path) -> None:
    """Every python block runs; where the page shows output, it is this output."""
    names: dict[str, object] = {"__name__": "__example__"}
    ran = 0
    with pl.Config(set_tbl_width_chars=100):
        for block in blocks_of(page):
            if block.kind != "python":
                continue
            # As many blank lines as stand above it, so that a traceback names the page's line.
            code = compile("\n" * (block.line - 1) + block.text, page, "exec")
            out = io.StringIO()
            with redirect_stdout(out):
                exec(code, names)  # noqa: S102
            ran += 1
            if block.output is not None:
                assert tidy(out.getvalue()) == tidy(block.output), f"{page}:{block.line}"
    assert ran, f"{page} has no python example"


@pytest.mark.parametrize("page", PAGES)
def test_console_examples_are_right_usage(page: str, folder: Path) -> None:
    """Every ``$ nemflow`` line of a page is accepted by the command, one after the other."""
    nemflow = Path(sys.executable).with_name("nemflow")
    for block in blocks_of(page):
        if block.kind != "console":
            continue
        for line in re.findall(r"^\$ nemflow (.*)$", block.text, re.MULTILINE):
            done = subprocess.run(
                [nemflow, *shlex.split(line, comments=True)],
                capture_output=True,
                text=True,
                check=False,
                cwd=folder,
                env={**os.environ, "HOME": str(folder)},
                timeout=60,
            )
            assert done.returncode in {0, 1}, f"$ nemflow {line}\n{done.stdout}{done.stderr}"


def test_an_example_that_prints_something_else_is_caught(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first test can fail: output that differs from the page is named."""
    page = folder / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n", encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "REPO", folder)
    with pytest.raises(AssertionError, match=r"page\.md"):
        test_python_examples_run_and_print_what_the_page_shows("page.md", folder)


def pages_of_docs() -> list[Path]:
    """Every Markdown page a reader may open."""
    return [*sorted((REPO / "docs").rglob("*.md")), *sorted(REPO.glob("*.md"))]


@pytest.mark.parametrize("page", pages_of_docs(), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """No page links to a file that is not there."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target for target in LINK.findall(text) if "://" not in target]
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_the_map_of_the_docs_lists_every_page() -> None:
    """docs/index.md names each page of docs/, so that none is lost."""
    text = (REPO / "docs" / "index.md").read_text(encoding="utf-8")
    linked = {(REPO / "docs" / target).resolve() for target in LINK.findall(text)}
    pages = set((REPO / "docs").rglob("*.md")) - {REPO / "docs" / "index.md"}
    assert sorted(page.name for page in pages - linked) == []
