"""``export``, ``consumers``, ``changes`` and ``feed`` in this process, and their bad ends."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import nemflow
from nemflow.cli import app
from nemflow.store import open_store

NEMFLOW = Path(sys.executable).with_name("nemflow")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with one loaded file."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("NEMFLOW_")]:
        monkeypatch.delenv(name)
    Path("a.csv").write_bytes(nemflow.generate(days=2, nmis=2, streams=["E1"], seed=1))
    Path("b.csv").write_bytes(nemflow.generate(corrections_of=Path("a.csv").read_bytes()))
    run("load", "a.csv")
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


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv", "jsonl"])
def test_each_form_holds_what_the_store_says(ending: str) -> None:
    """Every row, every value to the last digit, whatever the form."""
    (row,) = ask("export", "-o", f"out.{ending}", "--suffix", "e1", "--as", "billing")
    assert (row["rows"], row["days"], row["nmis"], row["seq"]) == (192, 4, 2, 1)
    read = {
        "parquet": pl.read_parquet,
        "arrow": pl.read_ipc,
        "csv": lambda path: pl.read_csv(path, infer_schema=False),
        "jsonl": pl.read_ndjson,
    }[ending]
    found = read(f"out.{ending}")
    with open_store("nemflow.db") as store:
        wanted = pl.concat(store.export())
    assert found.columns == wanted.columns
    values = [Decimal(value) for value in found["value"].to_list()]
    assert values == wanted["value"].to_list()
    assert found["nmi"].to_list() == wanted["nmi"].to_list()
    (floats,) = ask("export", "-o", "floats.parquet", "--float", "--nmi", "sasmpl0001")
    assert floats["rows"] == 96
    assert pl.read_parquet("floats.parquet").schema["value"] == pl.Float64


def test_a_csv_is_safe_to_open_in_a_spreadsheet() -> None:
    """A reason text that would run as a formula gets a leading quote; in Parquet it stays."""
    text = Path("a.csv").read_text(encoding="ascii")
    lines = [
        ",".join([*line.split(",")[:50], "S14", "76", "=cmd()", "20300101000000", ""])
        if line.startswith("300,")
        else line
        for line in text.splitlines()
    ]
    Path("c.csv").write_text("\r\n".join(lines) + "\r\n", encoding="ascii", newline="")
    run("load", "c.csv", exit_code=1 if "rejected" in run("check", "c.csv") else 0)
    run("export", "-o", "out.csv")
    run("export", "-o", "out.parquet")
    with Path("out.csv").open(encoding="utf-8", newline="") as rows:
        assert {row["reason_text"] for row in csv.DictReader(rows)} == {"'=cmd()"}
    assert set(pl.read_parquet("out.parquet")["reason_text"]) == {"=cmd()"}


def test_what_changed_for_a_consumer_as_table_json_and_csv() -> None:
    """All three forms hold the same days; afterwards, read again, there are none."""
    run("readings", "SASMPL0001", "--as", "billing")
    assert "Nothing has changed" in run("changes", "--consumer", "billing")
    run("load", "b.csv")
    rows = ask("changes", "--consumer", "billing")
    assert [(row["nmi"], row["kind"]) for row in rows] == [("SASMPL0001", "revised")] * 2
    assert rows[0]["before_total"] != rows[0]["after_total"]
    assert rows[0]["uom"] == "kWh"
    table = run("changes", "--consumer", "billing")
    assert "2 days changed since billing took it." in table
    as_csv = list(csv.DictReader(io.StringIO(run("changes", "--consumer", "billing", "--csv"))))
    assert [row["day"] for row in as_csv] == [row["day"] for row in rows]
    assert len(ask("changes", "--since", 1)) == 4
    assert ask("changes", "--consumer", "billing", "--nmi", "SASMPL0002") == []
    assert ask("changes", "--consumer", "billing", "--since", 2) == []
    run("readings", "SASMPL0001", "--as", "billing")
    assert ask("changes", "--consumer", "billing") == []
    takes = ask("consumers")
    assert [(row["consumer"], row["seq"]) for row in takes] == [("billing", 2), ("billing", 1)]
    assert ask("consumers", "nobody") == []


def test_the_feed_page_by_page() -> None:
    """The command that is offered for more gives the next rows."""
    run("load", "b.csv")
    page = run("feed", "--limit", 3)
    place = page.split("--since ")[1].split()[0]
    rest = ask("feed", "--since", place)
    assert [row["seq"] for row in rest] == [1, 2, 2, 2, 2]
    assert [row["kind"] for row in rest] == ["new"] + ["revised"] * 4
    assert "Nothing happened" in run("feed", "--since", 2)


def test_wrong_usage_says_what_to_do() -> None:
    """Exit code 2, or 1 for a consumer that is not known; a sentence with the next step."""
    assert "--form" in run("export", "-o", "out.xyz", exit_code=2)
    assert "for whom" in run("changes", exit_code=2)
    assert "nemflow consumers" in run("changes", "--consumer", "x", exit_code=1)
    assert "no commit 7" in run("feed", "--since", 7, exit_code=2)
    assert "--json" in run("feed", "--follow", "--csv", exit_code=2)
    assert "no commit 9" in run("export", "-o", "a.csv", "--as-known-on", 9, exit_code=2)
    assert sorted(path.name for path in Path().glob("*.xyz")) == []


def test_following_tells_what_is_committed_meanwhile() -> None:
    """Lines come as commits do; Ctrl-C ends it with 130."""
    words = [NEMFLOW, "feed", "--follow", "--json", "--every", "0.05", "--since", "1"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(1.0)
        run("load", "b.csv")
        assert running.stdout is not None
        lines = [json.loads(running.stdout.readline()) for _ in range(4)]
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)
    assert [(line["seq"], line["kind"]) for line in lines] == [(2, "revised")] * 4
    assert running.returncode == 130


def test_a_stopped_export_leaves_no_file_and_no_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the first piece: the old file stands, the consumer took nothing."""
    from nemflow.store import export

    Path("out.parquet").write_bytes(b"old")
    real = export.pieces

    def stopped(*args: Any) -> Any:
        yield next(real(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "pieces", stopped)
    for ending in ("parquet", "csv"):
        run("export", "-o", f"out.{ending}", "--as", "billing", exit_code=130)
    assert Path("out.parquet").read_bytes() == b"old"
    assert sorted(path.name for path in Path().iterdir() if "out" in path.name) == ["out.parquet"]
    assert ask("consumers") == []
