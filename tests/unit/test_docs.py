"""The docs say what the code says: generated pages are fresh, and everything public has a place."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from nemflow import errors
from nemflow.intake.folder import StillMoving
from nemflow.jobs.isolation import DIED
from nemflow.mdff import codes, layout, rules
from nemflow.service.problems import KINDS
from nemflow.store.work import FINAL, POISON, WAITING, WORKING

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """The program that writes the pages."""
    spec = importlib.util.spec_from_file_location("docs_build", DOCS / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> str:
    """A page as it lies in docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


def test_generated_pages_are_fresh(build: ModuleType) -> None:
    """`make docs` would change nothing."""
    assert build.stale_pages() == []


def test_a_stale_page_is_named_with_the_next_step(build, tmp_path, capsys) -> None:
    """The check ends with 1 and a sentence that names page and command, and writes nothing."""
    build.write_pages(tmp_path)
    assert build.main(["--check", "--into", str(tmp_path)]) == 0
    page = tmp_path / "rules.md"
    page.write_text(page.read_text(encoding="utf-8") + "by hand\n", encoding="utf-8")
    assert build.main(["--check", "--into", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "rules.md" in said
    assert "make docs" in said
    assert "codes.md" not in said
    assert page.read_text(encoding="utf-8").endswith("by hand\n")


def test_writing_mends_a_stale_page_and_a_missing_one(build, tmp_path, capsys) -> None:
    """After writing, the check is content; a second run writes nothing."""
    assert build.main(["--into", str(tmp_path)]) == 0
    (tmp_path / "codes.md").unlink()
    assert build.main(["--check", "--into", str(tmp_path)]) == 1
    assert build.main(["--into", str(tmp_path)]) == 0
    assert build.main(["--check", "--into", str(tmp_path)]) == 0
    assert build.write_pages(tmp_path) == []
    assert "codes.md" in capsys.readouterr().out


@pytest.mark.parametrize("rule_id", rules.RULES)
def test_every_rule_has_its_anchor(rule_id: str) -> None:
    """``rules.md#i001`` leads to the rule, with its words under it."""
    text = read("rules.md")
    assert text.count(f"\n### {rule_id}\n") == 1
    section = text.split(f"\n### {rule_id}\n")[1].split("\n### ")[0]
    rule = rules.RULES[rule_id]
    for part in (rule.title, rule.expected, rule.todo, rule.example):
        assert part in section


@pytest.mark.parametrize("deviation", rules.DEVIATIONS)
def test_every_deviation_has_its_anchor(deviation: str) -> None:
    """``deviations.md#d08`` leads to the deviation."""
    assert read("deviations.md").count(f"\n### {deviation}\n") == 1


def test_every_code_is_on_the_codes_page() -> None:
    """Flags, methods, reasons, transaction codes, units, suffixes and types, one row each."""
    text = read("codes.md")
    rows = [
        *codes.QUALITY_FLAGS, *codes.METHOD_FLAGS, *map(str, codes.REASONS), *codes.TRANS_CODES,
        *codes.UNITS, *codes.INTERVAL_KINDS, *codes.ACCUMULATION_KINDS, *codes.INSTALLATION_TYPES,
    ]  # fmt: skip
    missing = [row for row in rows if f"\n| {row} |" not in text]
    assert missing == []
    for meanings in codes.REASONS.values():
        assert all(f"| {meaning.title} |" in text for meaning in meanings)


def test_every_field_is_on_the_records_page() -> None:
    """Each record has a section with all its fields."""
    text = read("records.md")
    for record in layout.RECORDS.values():
        section = text.split(f"\n## {record.indicator}\n")[1].split("\n## ")[0]
        assert all(f"| {field.name}" in section for field in record.fields)


def test_links_between_pages_lead_somewhere(build: ModuleType) -> None:
    """Every link of a generated page names a page and a heading that exist."""
    anchors = {
        path.name: {
            re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        }
        for path in DOCS.glob("*.md")
    }
    pages = [name for name, write in build.PAGES if write() is not None]
    assert {"rules.md", "deviations.md", "codes.md", "records.md"} <= set(pages)
    for name in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", read(name)):
            page, _, anchor = target.partition("#")
            assert (page or name) in anchors, f"{name} links to {target}"
            assert not anchor or anchor in anchors[page or name], f"{name} links to {target}"


def test_tables_have_as_many_cells_in_each_row_as_in_the_head(build: ModuleType) -> None:
    """A bar inside a cell is escaped, so no row breaks its table."""
    for name, write in build.PAGES:
        width = None
        for line in (write() or "").splitlines():
            if not line.startswith("| "):
                width = None
                continue
            cells = len(re.findall(r"(?<!\\)\|", line))
            assert width in (None, cells), f"{name}: {line}"
            width = cells


def test_pages_name_no_hand(build: ModuleType) -> None:
    """Each generated page begins by saying that it is generated, and ends with one line end."""
    for _, write in build.PAGES:
        text = write()
        if text is not None:
            assert text.startswith("<!-- Written by docs/build.py")
            assert text.endswith("\n")
            assert not text.endswith("\n\n")


def test_every_state_of_a_delivery_has_a_row() -> None:
    """docs/store.md says of each what it means and who moves it on; and of no other."""
    section = read("store.md").split("## The way of a delivery")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE)
    assert sorted(state for state, _ in rows) == sorted([*WAITING, *WORKING, *FINAL])


def test_every_error_code_has_a_row() -> None:
    """docs/service.md has those of the library, of the service and of dead deliveries."""
    section = read("service.md").split("\n## Errors")[1]
    told = set(re.findall(r"`([EQ]-[A-Z-]+)`", section))
    ours = {
        each.code
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.NemflowError)
    }
    assert ours | set(KINDS) | {POISON, DIED, StillMoving.code} == told
