"""``nemflow review`` lists what a person should look at, and closes it with a note."""

from __future__ import annotations

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from nemflow import settings
from nemflow.cli import app
from nemflow.store import review


def run(*args: object, code: int = 0) -> str:
    """What a command prints; the exit code must be as said."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def loaded(tmp_path, monkeypatch, nem12, a_day):
    """A store with two final substitutes that were revised; what the second load printed."""
    monkeypatch.chdir(tmp_path)
    days = ("20250301", "20250302")
    for name, changed in (("a.csv", {"quality": "F14", "reason": "76"}),
                          ("b.csv", {"value": "2", "update": "20250305010000"})):  # fmt: skip
        (tmp_path / name).write_bytes(nem12(*(a_day(day=day, **changed) for day in days)))
    run("load", "a.csv")
    return run("load", "b.csv")


def test_a_load_says_how_many_and_where_to_look(loaded):
    """In words, and per file in JSON and CSV; the dry run too."""
    assert "2 to review: 2 final revised." in loaded
    assert "What to look at: nemflow review --open" in loaded
    listed = run("review", "--nmi", "sasmpl0001", "--since", "2025-01-01")
    assert "2025-03-02            F       A" in listed
    assert "Side by side: nemflow versions SASMPL0001 --day 2025-03-02" in listed
    assert run("undo", 2).startswith("Undone: delivery 2.")
    answer = json.loads(run("load", "b.csv", "--dry-run", "--json"))
    assert answer["reviews"] == {"final_revised": 2}


def test_rows_for_programs_have_every_column(loaded):
    """``--json`` and ``--csv``."""
    rows = json.loads(run("review", "--kind", "final-revised", "--json"))
    assert [row["day"] for row in rows] == ["2025-03-02", "2025-03-01"]
    assert {row["state"] for row in rows} == {"open"}
    told = list(csv.DictReader(io.StringIO(run("review", "--csv", "--limit", 1))))
    assert [row["review"] for row in told] == ["2"]
    assert set(rows[0]) == set(told[0])


def test_one_is_closed_with_a_note_and_only_so(loaded):
    """Numbers and ranges; without a note, or twice, it is wrong usage."""
    assert "note is needed" in run("review", "--done", "1", code=2)
    assert "--done" in run("review", "--note", "seen", code=2)
    assert "no range" in run("review", "--done", "2-1", "--note", "seen", code=2)
    assert "no number" in run("review", "--done", "x", "--note", "seen", code=2)
    assert "no review event 9" in run("review", "--done", "9", "--note", "seen", code=1)
    assert run("review", "--done", "1-2", "--note", "seen") == "Closed: 2 review events.\n"
    assert run("review", "--open") == "Nothing to look at.\n"
    assert "seen" in run("review")
    assert "closed already" in run("review", "--done", "1", "--note", "again", code=2)
    assert "no kind" in run("review", "--kind", "odd", code=2)


def test_how_old_a_day_must_be_is_a_setting(loaded, monkeypatch, tmp_path, nem12, a_day):
    """``review_after_days``; the settings' default is the store's."""
    assert settings.REVIEW_AFTER_DAYS == review.AFTER_DAYS
    late = a_day(value="3", quality="S14", reason="76", update="20250306010000")
    (tmp_path / "c.csv").write_bytes(nem12(late))
    monkeypatch.setenv("NEMFLOW_REVIEW_AFTER_DAYS", "100000")
    assert json.loads(run("load", "c.csv", "--json", "--dry-run"))["reviews"] == {}
    monkeypatch.setenv("NEMFLOW_REVIEW_AFTER_DAYS", "1")
    answer = json.loads(run("load", "c.csv", "--json"))
    assert answer["reviews"] == {"actual_to_substitute": 1}
