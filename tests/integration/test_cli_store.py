"""The store's commands, in this process: load, ask, correct, put right.

Real files, a real SQLite store; only the process is the test's own, so that many questions are
asked in a short time. What needs a process of its own is in tests/acceptance/test_cli.py.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nemflow
from nemflow.cli import app


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and nothing set."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("NEMFLOW_")]:
        monkeypatch.delenv(name)
    return tmp_path


def run(*args: object, exit_code: int = 0) -> str:
    """Run the command line in this process; all it prints."""
    done = CliRunner().invoke(app, [str(each) for each in args])
    assert done.exit_code == exit_code, done.output
    assert "Traceback" not in done.output
    return done.output


def ask(*args: object, exit_code: int = 0) -> Any:
    """The answer as data."""
    return json.loads(run(*args, "--json", exit_code=exit_code))


def make(name: str, **options: Any) -> Path:
    """A generated file."""
    path = Path(name)
    path.write_bytes(nemflow.generate(**options))
    return path


def test_load_and_read_back() -> None:
    """What a file says is what ``readings`` says, value by value, and the account balances."""
    make("a.csv", days=3, estimated=0.4)
    summary = ask("load", "a.csv")
    assert summary["days"] == {"read": 6, "stored": 6, "unchanged": 0, "rejected": 0}
    rows = ask("readings", "SASMPL0001", "--suffix", "B1")
    wanted = nemflow.read("a.csv", exact=True).readings().filter(suffix="B1")
    assert [Decimal(str(row["value"])) for row in rows] == wanted["value"].to_list()
    assert [row["quality"] for row in rows] == wanted["quality"].to_list()
    assert rows[0]["interval_end"] == "2025-03-29T00:30:00+10:00"


def test_every_question_has_a_table_json_and_csv() -> None:
    """All three forms of every question hold the same number of rows; no colours in a pipe."""
    make("a.csv", days=3, break_it=["I005"])
    run("load", "a.csv", exit_code=1)
    questions = [
        ["deliveries"],
        ["files"],
        ["nmis"],
        ["readings", "SASMPL0001", "--resolution", "day"],
        ["versions", "SASMPL0001", "--day", "2025-03-31"],
        ["coverage", "SASMPL0001"],
        ["quarantine"],
        ["doctor"],
        ["explain"],
    ]
    for question in questions:
        table = run(*question)
        rows = ask(*question)
        assert rows, question
        assert "\x1b" not in table, question
        assert len(list(csv.DictReader(io.StringIO(run(*question, "--csv"))))) == len(rows)
        assert len(table.splitlines()) > len(rows), question


def test_a_correction_wins_and_can_be_taken_back() -> None:
    """The newer version is current whichever came last; undo and redo move it out and in."""
    make("a.csv", days=1, streams=["E1"], estimated=1.0)
    Path("b.csv").write_bytes(nemflow.generate(corrections_of=Path("a.csv").read_bytes()))
    ask("load", "b.csv", "a.csv")

    def versions() -> list[tuple[str, str]]:
        rows = ask("versions", "SASMPL0001", "--day", "2025-03-31")
        return [(row["state"], row["source"]) for row in rows]

    both = [("current", "b.csv"), ("superseded", "a.csv")]
    assert versions() == both
    before = ask("readings", "SASMPL0001")
    (delivery,) = (row["delivery"] for row in ask("deliveries") if row["name"] == "b.csv")
    (change,) = ask("undo", delivery)
    assert change["kind"] == "undone"
    assert ("current", "a.csv") in versions()
    assert ask("readings", "SASMPL0001") != before
    ask("redo", delivery)
    assert versions() == both
    assert ask("readings", "SASMPL0001") == before
    seq = change["seq"]
    then = ask("readings", "SASMPL0001", "--as-known-on", seq)
    assert then != before
    assert ask("readings", "SASMPL0001", "--as-known-on", seq - 1) == before


def test_a_rejected_day_finds_its_way_in_after_an_edit() -> None:
    """Quarantine shows the raw text; replay with a corrected text loads it and counts balance."""
    text = nemflow.generate(days=2, streams=["E1"]).decode()
    wrong = text.replace("\r\n300,20250331,", "\r\n300,20250331,-", 1)
    Path("a.csv").write_text(wrong, encoding="ascii", newline="")
    run("load", "a.csv", exit_code=1)
    (row,) = ask("quarantine")
    assert row["rules"] == ["I005"]
    assert "\n" not in row["raw"].strip()
    Path("fixed.txt").write_text(row["raw"].replace(",-", ",", 1), encoding="ascii")
    summary = ask("replay", "--edit", f"{row['quarantine']}=fixed.txt")
    assert summary["days"] == {"read": 1, "stored": 1, "unchanged": 0, "rejected": 0}
    assert ask("quarantine") == []
    answer = ask("file", "1")
    assert answer["state"] == "loaded"
    assert (answer["days_read"], answer["days_stored"], answer["days_rejected"]) == (2, 2, 0)


def test_check_prints_the_findings_that_a_dry_run_prints() -> None:
    """Rule by rule and place by place the same; neither writes anything."""
    broken = ["F014", "I001", "I004", "I009", "Q004", "Q008", "N006"]
    make("a.csv", days=2, break_it=broken)
    make("b.csv", days=1, seed=3)
    Path("c.csv").write_text("NMI,DATE\n1,2\n", encoding="ascii")
    files = ["a.csv", "b.csv", "c.csv"]
    for profile in ("portal", "b2b"):
        checked = ask("check", *files, "--profile", profile, exit_code=1)
        dry = ask("load", *files, "--dry-run", "--profile", profile, exit_code=1)
        assert dry["dry_run"] is True
        found = [finding for each in checked["files"] for finding in each["findings"]]
        assert found == [finding for each in dry["files"] for finding in each["findings"]]
        assert set(broken) <= {finding["rule"] for finding in found}
        for finding in found:
            assert finding["source"]
            assert finding["severity"] in ("F", "D", "W")
            assert finding["message"]
            assert finding["todo"]

    def paragraphs(text: str) -> str:
        return text[text.index("\nF018") :].split("\n\n3 files", maxsplit=1)[0].strip()

    one = run("check", *files, "--all", exit_code=1)
    two = run("load", *files, "--all", "--dry-run", exit_code=1)
    assert paragraphs(one) == paragraphs(two)
    assert not list(Path().glob("*.db*"))


def test_what_load_finds_is_what_the_dry_run_foretold() -> None:
    """The account of a dry run and of the load after it are the same."""
    make("a.csv", days=2, break_it=["I001", "Q004"])
    make("b.csv", days=2)
    Path("copy.csv").write_bytes(Path("b.csv").read_bytes())
    files = ["a.csv", "b.csv", "copy.csv"]
    dry = ask("load", *files, "--dry-run", exit_code=1)
    real = ask("load", *files, exit_code=1)
    for one, two in zip(dry["files"], real["files"], strict=True):
        for key in ("source", "state", "days", "reads", "rules", "findings"):
            assert one[key] == two[key], key


def test_check_of_fine_files_is_fine() -> None:
    """No findings, or warnings alone: exit 0."""
    make("a.csv", days=1)
    assert ask("check", "a.csv")["ok"] is True
    make("b.csv", days=1, break_it=["F014"])
    answer = ask("check", "b.csv")
    assert answer["ok"] is True
    assert {finding["rule"] for finding in answer["files"][0]["findings"]} == {"F014"}


def test_what_is_set_reaches_the_rules() -> None:
    """Value limits (I007) and our own id (F008) come from the settings, for check and load."""
    make("a.csv", days=1, streams=["E1"])
    Path("nemflow.toml").write_text(
        'participant = "SOMEONE"\nvalue_limits = { "E1 kWh" = 0.1 }\n', encoding="utf-8"
    )
    answer = ask("check", "a.csv", "--profile", "b2b", exit_code=1)
    rules = {finding["rule"] for finding in answer["files"][0]["findings"]}
    assert {"F008", "I007"} <= rules
    run("load", "a.csv", "--profile", "b2b", exit_code=1)
    assert ask("files")[0]["state"] == "rejected"
    assert "I007" in run("show", "a.csv", "--charts", "0")


def test_many_findings_of_a_kind_are_one_paragraph() -> None:
    """Three places and a count; ``--all`` prints every place."""
    text = nemflow.generate(days=40, streams=["E1"]).decode()
    Path("a.csv").write_text(text.replace("\r\n300,", "\r\n300,x"), encoding="ascii", newline="")
    short = run("check", "a.csv", exit_code=1)
    assert "and 37 more; --all shows them" in short
    assert len(run("check", "a.csv", "--all", exit_code=1).splitlines()) > 40


def test_many_files_are_counted_and_bad_ones_named() -> None:
    """Of forty files only the bad one is listed; ``--all`` lists all."""
    Path("in").mkdir()
    for number in range(40):
        make(f"in/{number:02}.csv", days=1, seed=number, nmis=[f"SASMPL{number:04}"])
    make("in/bad.csv", days=1, break_it=["I001"])
    text = run("load", "in", exit_code=1)
    assert "40 files loaded whole" in text
    assert "in/bad.csv" in text
    assert "in/07.csv" not in text
    assert len(ask("load", "in", exit_code=0)["files"]) == 41
    assert "in/07.csv" in run("load", "in", "--all")


def test_charts_from_the_store() -> None:
    """``readings --chart`` draws the average day and the calendar."""
    make("a.csv", days=60)
    run("load", "a.csv")
    text = run("readings", "SASMPL0001", "--suffix", "E1", "--chart")
    assert "the average day (kWh per 30 min)" in text
    assert "day by day (kWh per day)" in text
    assert max(map(len, text.splitlines())) <= 80


def test_gaps_and_holes_are_said() -> None:
    """A missing day is named by ``coverage``; a month that lacks it says so."""
    make("a.csv", days=3, streams=["E1"])
    lines = Path("a.csv").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(b"300,20250330")]
    Path("a.csv").write_bytes(b"".join(kept))
    run("load", "a.csv")
    assert "no data on 2025-03-30" in run("coverage", "SASMPL0001")
    options = ["--from", "2025-03-29", "--to", "2025-03-31", "--resolution", "month"]
    assert "with holes" in run("readings", "SASMPL0001", *options)


def test_the_demo_works_and_so_does_what_it_says_to_try() -> None:
    """Every command it prints, in the tour and at its end, works as typed."""
    text = run("demo")
    for word in ("quarantine", "partly loaded", "duplicate", "superseded", "Undone", "Redone"):
        assert word in text
    after = text[text.index("Try next:") :].splitlines()[1:]
    commands = [shlex.split(line)[1:] for line in after if line.strip().startswith("nemflow ")]
    assert len(commands) >= 5
    for command in commands:
        run(*command, exit_code=1 if command[0] == "check" else 0)
    assert "was not made by the demo" not in run("demo")
    Path("mine").mkdir()
    Path("mine/precious.txt").write_text("x", encoding="utf-8")
    assert "not made by the demo" in run("demo", "--folder", "mine", exit_code=2)
    assert Path("mine/precious.txt").exists()


def test_problems_in_the_data_are_1() -> None:
    """What is not known, or not loaded whole, is 1."""
    make("a.csv", days=1, break_it=["I001"])
    run("load", "a.csv", exit_code=1)
    for args in (
        ["readings", "SASMPL0999"],
        ["versions", "SASMPL0001", "--day", "1999-01-01"],
        ["file", "99"],
        ["undo", "99"],
        ["explain", "Z999"],
    ):
        assert run(*args, exit_code=1).startswith("nemflow: "), args
