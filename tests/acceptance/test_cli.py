"""The command line as people and scripts meet it: real processes, real files, real signals.

Exit codes: 0 fine, 1 problems found in the data, 2 wrong usage, 3 our fault or the system's,
130 stopped with Ctrl-C, 141 the reader of our pipe went away.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nemflow

CODE = "from nemflow.cli import main; main()"
#: The same program, only less patient with a locked store.
IMPATIENT = f"import nemflow.store.backends.sqlite as s; s.BUSY_SECONDS = 0.3; {CODE}"
#: The same program, that gets a real Ctrl-C after it has written rows a number of times.
STOPPED_AFTER = """
import os, signal
from nemflow.store.backends.sqlite import SqliteBackend
append, written = SqliteBackend.append, []
def append_and_stop(*args, **options):
    append(*args, **options)
    written.append(1)
    if len(written) == {step}:
        os.kill(os.getpid(), signal.SIGINT)
SqliteBackend.append = append_and_stop
{code}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and nothing set."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("NEMFLOW_")]:
        monkeypatch.delenv(name)
    return tmp_path


def start(*args: object, code: str = CODE, **options: Any) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        **{"stdout": pipe, "stderr": pipe, "start_new_session": True, **options},
    )


def run(*args: object, exit_code: int = 0, code: str = CODE, **options: Any) -> str:
    """Run the command to its end; its stdout, or its stderr when it should fail."""
    process = start(*args, code=code, **options)
    out, err = ((each or b"").decode() for each in process.communicate(timeout=120))
    assert process.returncode == exit_code, out + err
    assert "Traceback" not in out + err
    return out if exit_code in (0, 1) and out else err


def ask(*args: object, exit_code: int = 0) -> Any:
    """The answer as data."""
    return json.loads(run(*args, "--json", exit_code=exit_code))


def make(name: str, **options: Any) -> Path:
    """A generated file."""
    path = Path(name)
    path.write_bytes(nemflow.generate(**options))
    return path


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is true; fail when it does not become so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


# --- the whole program -------------------------------------------------------------------------


def test_load_check_and_read_back_in_processes_of_their_own() -> None:
    """The installed program does the main job; its answers are data."""
    make("a.csv", days=2, break_it=["I005"])
    run("check", "a.csv", exit_code=1)
    run("load", "a.csv", exit_code=1)
    rows = ask("readings", "SASMPL0001", "--resolution", "day")
    assert len(rows) == 4


# --- exit codes -------------------------------------------------------------------------------


def test_wrong_usage_is_2() -> None:
    """A missing file, an unknown option, profile or setting: one sentence, nothing done."""
    make("a.csv", days=1)
    for args in (
        ["load", "nowhere.csv"],
        ["convert", "nowhere.csv", "-o", "o.csv"],
        ["load", "a.csv", "--profile", "strict"],
        ["load", "a.csv", "--nothing"],
    ):
        assert run(*args, exit_code=2).strip()
    Path("nemflow.toml").write_text('dbb = "x.db"\n', encoding="utf-8")
    assert "Did you mean db?" in run("load", "a.csv", exit_code=2)
    assert sorted(path.name for path in Path().iterdir()) == ["a.csv", "nemflow.toml"]


def test_faults_of_the_system_are_3() -> None:
    """No store, no database, a wrong URL, no permission: what, and what next."""
    make("a.csv", days=1)
    assert "nemflow load" in run("nmis", exit_code=3)
    Path("text.db").write_text("not a database at all" * 100, encoding="utf-8")
    assert "--db" in run("nmis", "--db", "text.db", exit_code=3)
    assert "--db" in run("load", "a.csv", "--db", "oracle9://host/x", exit_code=3)
    assert "nowhere" in run("load", "a.csv", "--db", "nowhere/x.db", exit_code=3)
    assert not Path("nemflow.db").exists()


def test_a_locked_store_is_3_and_nothing_is_loaded() -> None:
    """While another process writes, a load waits, then says so; afterwards it works."""
    make("a.csv", days=1)
    make("b.csv", days=1, seed=5, nmis=["SASMPL0002"])
    run("load", "a.csv")
    other = sqlite3.connect("nemflow.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    said = run("load", "b.csv", exit_code=3, code=IMPATIENT)
    assert "locked by another process" in said
    assert "try again" in said
    assert len(ask("nmis")) == 1
    other.execute("ROLLBACK")
    other.close()
    run("load", "b.csv")
    assert len(ask("nmis")) == 2


def test_another_schema_is_3_and_names_the_next_command() -> None:
    """A store of another release is not touched."""
    make("a.csv", days=1)
    run("load", "a.csv")
    with sqlite3.connect("nemflow.db") as base:
        base.execute("UPDATE alembic_version SET version_num = '9999'")
    base.close()
    assert "pip install --upgrade nemflow" in run("nmis", exit_code=3)
    assert "schema" in run("load", "a.csv", exit_code=3)


def test_a_missing_extra_is_3_and_names_it() -> None:
    """PostgreSQL without its driver: the sentence says what to install."""
    hidden = f"import sys; sys.modules['psycopg'] = None; {CODE}"
    said = run("nmis", "--db", "postgresql://host/x", exit_code=3, code=hidden)
    assert "--db" in said or "pip install" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_3() -> None:
    """Output that cannot be written is an error, not silence."""
    with Path("/dev/full").open("wb") as full:
        assert "disk is full" in run("explain", "--json", exit_code=3, stdout=full)


def test_an_inner_fault_is_3_without_a_traceback(monkeypatch) -> None:
    """Our own mistakes are one sentence too; NEMFLOW_DEBUG=1 shows the rest."""
    code = f"import nemflow.mdff.rules as r; r.explain = None; {CODE}"
    said = run("explain", "I001", exit_code=3, code=code)
    assert "NEMFLOW_DEBUG=1" in said
    monkeypatch.setenv("NEMFLOW_DEBUG", "1")
    process = start("explain", "I001", code=code)
    assert b"Traceback" in process.communicate()[1]


# --- signals and pipes ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that takes a while: about one and a half million readings."""
    path = tmp_path_factory.mktemp("large") / "large.csv"
    path.write_bytes(nemflow.generate(nmis=20, days=120, interval=5))
    return path


@pytest.mark.parametrize("step", [1, 2, 3])
def test_ctrl_c_during_a_load_leaves_nothing_half_loaded(step: int) -> None:
    """Stopped between two writes: 130, one sentence, nothing visible; then the load works."""
    make("first.csv", days=1)
    make("second.csv", days=3, nmis=["SASMPL0002", "SASMPL0003"], service_orders=True)
    run("load", "first.csv")
    before = ask("nmis")
    process = start("load", "second.csv", code=STOPPED_AFTER.format(step=step, code=CODE))
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, said
    assert said.strip() == "stopped; nothing half loaded"
    assert ask("nmis") == before
    assert [row["name"] for row in ask("deliveries") if row["state"] == "loaded"] == ["first.csv"]
    assert ask("load", "second.csv")["days"]["stored"] == 12
    assert len(ask("nmis")) == 3


def test_ctrl_c_during_a_conversion_leaves_no_output(large: Path, folder: Path) -> None:
    """No half file, no draft, no temporary folder; the same when told to end by the system."""
    for name, told, code in (
        ("o.csv", signal.SIGINT, 130),
        ("o.parquet", signal.SIGINT, 130),
        ("o.sql", signal.SIGINT, 130),
        ("o.nem12", signal.SIGTERM, 143),
    ):
        process = start("convert", large, "-o", name)
        wait_for(lambda: any(folder.iterdir()))
        process.send_signal(told)
        process.communicate(timeout=60)
        assert process.returncode == code
        assert list(folder.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error() -> None:
    """``nemflow readings … --csv | head -1``: the line, and silence."""
    make("a.csv", days=200)
    run("load", "a.csv")
    for form in (["--csv"], ["--json"], []):
        process = start("readings", "SASMPL0001", *form)
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(timeout=60) == 141


def test_a_terminal_gets_colours_and_a_progress_bar(large: Path) -> None:
    """On a terminal the table is coloured and the bar moves; the answer stays on stdout."""
    pty = pytest.importorskip("pty")
    parent, child = pty.openpty()
    process = start("check", large, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm"})
    os.close(child)
    seen = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(parent)
    assert process.wait(timeout=60) == 0
    for pipe in (process.stdout, process.stderr):
        assert pipe is None
    assert b"\x1b[" in seen
    assert b"Checking" in seen
    assert b"a load would take every day" in seen
