"""The list of commands, their help, their errors and their lightness."""

from __future__ import annotations

import errno
import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from nemflow import __version__, errors
from nemflow.cli import app, faults

EXPECTED = {
    "changes", "check", "config", "consumers", "convert", "coverage", "db", "dead", "deliveries",
    "delivery", "demo", "doctor", "explain", "export", "feed", "file", "files", "generate", "keys",
    "load", "nmi", "nmis", "quarantine", "readings", "redo", "replay", "review", "serve", "show",
    "simulate", "submit", "undo", "verify", "versions", "worker", "problems", "reprocess", "sweep",
    "tail", "top", "webhooks",
}  # fmt: skip
ROOT = typer.main.get_command(app)


def run(*args: str) -> object:
    """Run the command line in this process."""
    return CliRunner().invoke(app, list(args))


def leaves(group=ROOT, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    """Every command, those inside groups too."""
    found = []
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found += leaves(command, (*path, name))
        else:
            found.append(((*path, name), command))
    return found


COMMANDS = leaves()
NAMES = [" ".join(path) for path, _ in COMMANDS]


def test_every_promised_command_is_there() -> None:
    """The list of the manual and the list of the program are the same."""
    assert set(ROOT.commands) == EXPECTED


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=NAMES)
def test_every_command_and_option_has_help(path, command) -> None:
    """A sentence for the command, a sentence for each argument and option."""
    assert len(command.help) > 15
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{path} {parameter.name}"
    done = run(*path, "--help")
    assert done.exit_code == 0
    assert command.help.splitlines()[0][:40] in done.output


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=NAMES)
def test_every_command_gives_json_and_csv(path, command) -> None:
    """A program can read every answer; the tour is for people, and a service answers by HTTP.

    What is followed as it happens is no table: JSON lines.
    """
    options = {option for parameter in command.params for option in parameter.opts}
    wanted = {"--json"} if path in {("top",), ("tail",)} else {"--json", "--csv"}
    assert path in {("demo",), ("serve",), ("worker",)} or wanted <= options


def test_the_version() -> None:
    """``--version`` prints name and version."""
    assert run("--version").output == f"nemflow {__version__}\n"


@pytest.mark.parametrize("args", [["--help"], ["load", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(args) -> None:
    """``--help`` answers at once: no data frames, no database, no terminal art are imported."""
    code = (
        "import sys\n"
        f"sys.argv = ['nemflow', *{args!r}]\n"
        "from nemflow.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'polars', 'sqlalchemy', 'alembic', 'rich', 'plotext', 'pandas', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert done.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["chek"], "Did you mean 'check'"),
        (["check"], "Missing argument"),
        (["explain", "--nothing"], "No such option"),
        (["readings", "X", "--resolution", "week"], "--resolution"),
        (["versions", "SASMPL0001"], "--day"),
        (["explain", "--json", "--csv"], "--json and --csv exclude each other"),
        (["nmis", "--db", "nowhere://x"], "nowhere"),
        (["--config", "nowhere.toml", "nmis"], "no settings file"),
        (["convert", "x.csv", "-o", "x.docx"], "--to"),
        (["versions", "SASMPL0001", "--day", "soon", "--db", "x.db"], "2025-03-05"),
        (["generate", "--json"], "-o"),
        (["generate", "--break", "F008"], ".xml"),
        (["generate", "--interval", "ten"], "--interval"),
    ],
)
def test_wrong_usage_says_what_is_right(args, said, tmp_path, monkeypatch) -> None:
    """A typing mistake costs one line: what is wrong, and what would be right."""
    monkeypatch.chdir(tmp_path)
    done = run(*args)
    assert done.exit_code in (2, 3)
    assert said in done.output
    assert "Traceback" not in done.output


CASES = [
    (errors.UsageError("Wrong.", hint="Do right."), 2, "nemflow: Wrong. Do right."),
    (errors.NotFound("No NMI.", hint="See nmis."), 1, "nemflow: No NMI. See nmis."),
    (
        errors.FileRefused("no MDFF", source="a.csv", rule="F018", hint="Ask."),
        1,
        "F018: a.csv: no MDFF Ask. More: nemflow explain F018",
    ),
    (errors.MissingExtra("to_arrow()", "arrow"), 3, "pip install 'nemflow[arrow]'"),
    (errors.StoreBusy("Locked.", hint="Again."), 3, "nemflow: Locked. Again."),
    (errors.StoreFull("Full.", hint="Room."), 3, "nemflow: Full. Room."),
    (errors.StoreUnreachable("Away.", hint="URL."), 3, "nemflow: Away. URL."),
    (
        errors.StoreOutdated("Old.", hint="nemflow db upgrade"),
        3,
        "nemflow: Old. nemflow db upgrade",
    ),
    (KeyboardInterrupt(), 130, "stopped; nothing half loaded"),
    (BrokenPipeError(), 141, ""),
    (OSError(errno.ENOSPC, "No space left on device", "x.db"), 3, "disk is full"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.csv"), 2, "x.csv"),
    (PermissionError(errno.EACCES, "Permission denied", "x.csv"), 3, "who may read"),
    (OSError(errno.EIO, "Input/output error"), 3, "Input/output error"),
    (MemoryError(), 3, "not enough memory"),
    (RecursionError("deep"), 3, "NEMFLOW_DEBUG=1"),
]


@pytest.mark.parametrize(("error", "code", "said"), CASES, ids=lambda case: type(case).__name__)
def test_every_error_has_one_sentence_and_one_exit_code(error, code, said, capsys) -> None:
    """Whatever happens, the person reads what and what next, and the script gets its code."""
    with pytest.raises(typer.Exit) as ended, faults.mapped():
        raise error
    assert ended.value.exit_code == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert printed.err.count("\n") <= 1


def test_every_error_of_the_tree_is_mapped() -> None:
    """A new class of error cannot be without an exit code."""
    tree = [errors.NemflowError]
    for each in tree:
        tree += each.__subclasses__()
    assert {each.exit_code for each in tree} == {1, 2, 3}


def test_debugging_shows_the_traceback(monkeypatch, capsys) -> None:
    """NEMFLOW_DEBUG=1 is for a report to us: the sentence and where it happened."""
    monkeypatch.setenv("NEMFLOW_DEBUG", "1")
    with pytest.raises(typer.Exit), faults.mapped():
        raise ZeroDivisionError
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "nemflow met a fault of its own" in printed


def test_explain_prints_what_the_catalogue_says() -> None:
    """A rule in full, in any case; all rules without an argument."""
    done = run("explain", "i001")
    assert done.exit_code == 0
    assert "I001" in done.output
    assert "What to do" in done.output
    rows = json.loads(run("explain", "--json").output)
    assert {"I001", "Q008", "A001"} <= {row["id"] for row in rows}
    assert all(row["expected"] and row["todo"] for row in rows)


def test_explain_of_an_unknown_rule_names_near_ones() -> None:
    """I0001 is not a rule; I001 may be meant."""
    done = run("explain", "I0001")
    assert done.exit_code == 1
    assert "I001" in done.output


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("2001985732", 0, "20019857328"),
        ("20019857328", 0, "as given"),
        ("20019857329", 1, "8, not 9"),
        ("nonsense", 1, "not an NMI"),
    ],
)
def test_nmi_checks_the_check_digit(text, code, said) -> None:
    """The check digit is computed, verified, or found wrong."""
    done = run("nmi", text)
    assert done.exit_code == code
    assert said in done.output


def test_nmi_as_json() -> None:
    """A program gets the parts."""
    (row,) = json.loads(run("nmi", "2001985732", "--json").output)
    assert row["nmi"] == "2001985732"
    assert row["check_digit"] == 8
    assert row["region"] == "SA"


def test_doctor_reports_and_changes_nothing(tmp_path, monkeypatch) -> None:
    """Without a store it says how to make one, and does not make one itself."""
    monkeypatch.chdir(tmp_path)
    done = run("doctor", "--json")
    assert done.exit_code == 0
    lines = {line["what"]: line for line in json.loads(done.output)}
    assert lines["store"]["status"] == "warn"
    assert "nemflow load" in lines["store"]["todo"]
    assert {"Python", "polars", "extra pandas", "extra postgres", "disk", "settings file"} <= set(
        lines
    )
    assert list(tmp_path.iterdir()) == []


def test_doctor_finds_what_is_wrong(tmp_path, monkeypatch) -> None:
    """A file that is no database, a wrong URL and a wrong setting: fail, exit 3, what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.db").write_text("this is no database" * 100, encoding="utf-8")
    for db in ("text.db", "nowhere://user:secret@host/x"):
        done = run("doctor", "--db", db, "--json")
        assert done.exit_code == 3, db
        line = next(each for each in json.loads(done.output) if each["what"] == "store")
        assert line["status"] == "fail"
        assert line["todo"]
        assert "secret" not in done.output
    (tmp_path / "nemflow.toml").write_text("profil = 1\n", encoding="utf-8")
    done = run("doctor")
    assert done.exit_code == 3
    assert "Did you mean profile?" in done.output
