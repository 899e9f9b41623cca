"""``generate``, ``show`` and ``convert``: files in, answers and files out, no store."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import zipfile
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import nemflow
from nemflow.cli import app, output
from nemflow.cli.nem12_text import write_nem12
from nemflow.cli.sql_text import write_nemflow, write_simple
from nemflow.cli.tables import write_table


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: object, code: int = 0) -> str:
    """Run the command line in this process; its output."""
    done = CliRunner().invoke(app, [str(each) for each in args])
    assert done.exit_code == code, done.output
    return done.output


def make(name: str = "a.csv", **options: object) -> Path:
    """A generated file in the folder."""
    path = Path(name)
    path.write_bytes(nemflow.generate(**options))
    return path


def table(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    return list(csv.DictReader(io.StringIO(Path(name).read_text(encoding="utf-8"), newline="")))


# --- generate ---------------------------------------------------------------------------------


def test_generate_writes_what_the_library_makes() -> None:
    """The same options give the bytes of ``nemflow.generate``."""
    run("generate", "-o", "a.csv", "--nmis", 2, "--days", 3, "--streams", "e1,b1,q1", "--seed", 4)
    wanted = nemflow.generate(nmis=2, days=3, streams=["E1", "B1", "Q1"], seed=4)
    assert Path("a.csv").read_bytes() == wanted


def test_generate_without_a_target_prints_the_file() -> None:
    """A pipe gets the text itself."""
    done = CliRunner().invoke(app, ["generate", "--days", "1"])
    assert done.stdout_bytes == nemflow.generate(days=1)


def test_generate_zip_and_message() -> None:
    """The ending decides: a zip with one member, an aseXML message; both read back."""
    run("generate", "-o", "a.zip", "--days", 2)
    run("generate", "-o", "a.xml", "--days", 2)
    assert nemflow.read("a.zip").frame_days.height == nemflow.read("a.xml").frame_days.height == 4
    assert nemflow.read("a.xml").headers["message_id"][0]


def test_generate_a_correction() -> None:
    """A later version of the same days."""
    make(days=2, estimated=1.0)
    run("generate", "-o", "b.csv", "--corrections-of", "a.csv")
    first, later = nemflow.read("a.csv"), nemflow.read("b.csv")
    assert later.days["day"].to_list() == first.days["day"].to_list()
    assert later.days["version_at"].min() > first.days["version_at"].max()


def test_generate_broken_files() -> None:
    """The rules that were asked for are broken."""
    run("generate", "-o", "a.csv", "--break", "I001,q008")
    assert {"I001", "Q008"} <= set(nemflow.read("a.csv").findings["rule"])


def test_generate_says_what_it_wrote() -> None:
    """The path, its size and its kind, for programs too."""
    (row,) = json.loads(run("generate", "-o", "a.csv", "--kind", "nem13", "--json"))
    assert row == {
        "path": "a.csv",
        "size": Path("a.csv").stat().st_size,
        "kind": "NEM13",
        "broken_rules": [],
    }


# --- show -------------------------------------------------------------------------------------


def test_show_says_what_is_in_a_file_in_words() -> None:
    """Header, streams with their meaning, days, totals, quality mix, findings."""
    make(days=3, estimated=0.5)
    text = run("show", "a.csv")
    data = nemflow.read("a.csv", exact=True)
    total = data.readings().filter(pl.col("suffix") == "B1")["value"].sum()
    assert "from MDPEXMPL to RETEXMPL" in text
    assert "solar or other generation fed into the grid" in text
    assert "consumption taken from the grid" in text
    assert "3 days: 2025-03-29 to 2025-03-31, 30 min, 144 intervals" in text
    assert f"total {format(total.normalize(), 'f')} kWh" in text
    assert "actual" in text
    assert "estimate" in text
    assert "no findings" in text


def test_show_draws_the_average_day_and_the_calendar() -> None:
    """Two pictures per stream, as many streams as asked, at most 80 columns in a pipe."""
    make(days=40)
    text = run("show", "a.csv", "--charts", 1)
    assert "SASMPL0001 E1: the average day (kWh per 30 min)" in text
    assert "SASMPL0001 E1: day by day (kWh per day)" in text
    assert "SASMPL0001 B1: the average day" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "average day" not in run("show", "a.csv", "--charts", 0)


def test_show_as_json_has_exact_totals() -> None:
    """Streams with decimal totals, headers, findings."""
    make(days=3, break_it=["I004"])
    answer = json.loads(run("show", "a.csv", "--json"), parse_float=Decimal)
    sums = (
        nemflow.read("a.csv", exact=True)
        .readings()
        .group_by("nmi", "suffix")
        .agg(pl.col("value").sum(), pl.col("value").null_count().alias("missing"))
    )
    wanted = {(nmi, suffix): (total, n) for nmi, suffix, total, n in sums.iter_rows()}
    got = {(s["nmi"], s["suffix"]): (s["total"], s["missing"]) for s in answer["streams"]}
    assert got == wanted
    assert answer["findings"][0]["rule"] == "I004"
    assert answer["headers"][0]["version_header"] == "NEM12"


def test_show_never_sums_volts_nor_nothing() -> None:
    """Volts have a mean; a stream without any value has no total, not zero."""
    make("v.csv", days=1, streams=["V1"])
    text = run("show", "v.csv", "--charts", 0)
    assert "mean " in text
    assert "total" not in text
    empty = nemflow.generate(days=1, streams=["E1"]).decode()
    head, _, rest = empty.partition("\r\n300,")
    day, *values = rest.split(",")
    Path("e.csv").write_text(
        head + "\r\n300," + ",".join([day, *[""] * 48, *values[48:]]), encoding="ascii"
    )
    text = run("show", "e.csv")
    assert "no values" in text
    assert "total" not in text


def test_show_reads_nem13() -> None:
    """Register reads are listed with their reads as they stood on the dial."""
    make("r.csv", kind="NEM13", days=91)
    text = run("show", "r.csv")
    reads = nemflow.read("r.csv").register_reads
    assert "Register reads" in text
    assert reads["previous_read"][0] in text


def test_show_one_stream_only() -> None:
    """``--nmi`` and ``--suffix`` choose; what is not there is said."""
    make(days=2, nmis=3)
    rows = json.loads(run("show", "a.csv", "--nmi", "sasmpl0002", "--suffix", "b1", "--json"))
    assert [(s["nmi"], s["suffix"]) for s in rows["streams"]] == [("SASMPL0002", "B1")]
    assert "has no SASMPL0009" in run("show", "a.csv", "--nmi", "SASMPL0009", code=1)


def test_show_of_many_streams_is_a_table() -> None:
    """A paragraph each for a few streams, one line each for many."""
    make(days=1, nmis=10)
    lines = run("show", "a.csv", "--charts", 0).splitlines()
    assert sum(line.startswith("SASMPL") for line in lines) == 20


def test_show_sums_the_same_in_small_chunks(monkeypatch) -> None:
    """A file read in many pieces gives the answer of the file read at once."""
    make(days=120, nmis=2, estimated=0.2)
    whole = json.loads(run("show", "a.csv", "--json"))
    monkeypatch.setattr("nemflow.cli.reading._CHUNK_BYTES", 65_536)
    assert json.loads(run("show", "a.csv", "--json")) == whole


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "F018"), (b"NMI,DATE\n1,2\n", "F018"), (b"PK\x03\x04junk", "nemflow explain")],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(content, said) -> None:
    """No traceback, exit 1, and the rule to look up."""
    Path("x.csv").write_bytes(content)
    for command in (["show", "x.csv"], ["convert", "x.csv", "-o", "y.csv"]):
        text = run(*command, code=1)
        assert said in text
        assert "Traceback" not in text
    assert not Path("y.csv").exists()


# --- convert ----------------------------------------------------------------------------------


def test_convert_to_tables() -> None:
    """CSV, Parquet, Arrow and JSON lines hold the readings of the library."""
    make(days=3, nmis=2, estimated=0.3)
    wanted = nemflow.read("a.csv", exact=True).readings().drop("rejected_by")
    wanted = wanted.with_columns(pl.col("value").cast(pl.Float64))
    for name in ("o.csv", "o.parquet", "o.arrow", "o.jsonl"):
        run("convert", "a.csv", "-o", name)
    assert pl.read_parquet("o.parquet").drop("rejected_by").equals(wanted)
    assert pl.read_ipc("o.arrow").drop("rejected_by").equals(wanted)
    first = table("o.csv")[0]
    line = json.loads(Path("o.jsonl").read_text(encoding="utf-8").splitlines()[0])
    for row in (first, line):
        assert row["interval_start"] == "2025-03-29T00:00:00+10:00"
        assert row["interval_end"] == "2025-03-29T00:30:00+10:00"
        assert float(row["value"]) == wanted["value"][0]
    assert len(Path("o.csv").read_text(encoding="utf-8").splitlines()) == wanted.height + 1


def test_a_table_holds_one_kind_and_says_what_it_leaves() -> None:
    """Interval data and register reads do not mix; what is not written is counted and said."""
    make("a.csv", days=2)
    make("r.csv", kind="NEM13", days=91)
    reads = nemflow.read("r.csv").register_reads.height
    run("convert", "r.csv", "-o", "o.csv")
    assert table("o.csv")[0]["current_read"]
    said = f"{reads} register reads (NEM13) not written"
    assert said in run("convert", "a.csv", "r.csv", "-o", "o.sql")
    assert said in run("convert", "a.csv", "r.csv", "-o", "o.csv")
    said = "4 days of interval data not written"
    assert said in run("convert", "r.csv", "a.csv", "-o", "o.csv")


def test_convert_exact_keeps_decimals() -> None:
    """``--exact`` writes decimals; nothing passes through a float."""
    make(days=1)
    run("convert", "a.csv", "-o", "o.parquet", "--exact")
    wanted = nemflow.read("a.csv", exact=True).readings()["value"]
    assert pl.read_parquet("o.parquet")["value"].to_list() == wanted.to_list()


def test_convert_leaves_rejected_days_out_and_says_so() -> None:
    """By default only what a load would take; ``--include-rejected`` keeps everything."""
    make(days=2, streams=["E1"], break_it=["I005"])
    (row,) = json.loads(run("convert", "a.csv", "-o", "o.csv", "--json"))
    assert (row["days"], row["left_out"]) == (2, 1)
    assert "1 rejected day left out" in run("convert", "a.csv", "-o", "o.csv")
    (row,) = json.loads(run("convert", "a.csv", "-o", "o.csv", "--include-rejected", "--json"))
    assert (row["days"], row["left_out"]) == (3, 0)
    assert "I005" in Path("o.csv").read_text(encoding="utf-8")


def test_convert_with_nothing_to_keep_writes_nothing() -> None:
    """No empty file that looks like a result."""
    text = nemflow.generate(days=1, streams=["E1"]).replace(b",A,", b",X,")
    Path("a.csv").write_bytes(text)
    assert "nothing to write" in run("convert", "a.csv", "-o", "o.csv", code=1)
    assert not Path("o.csv").exists()


def test_convert_to_nem12_is_canonical() -> None:
    """A crooked file comes out straight; a straight one comes out as it was."""
    text = nemflow.generate(nmis=2, days=3, estimated=0.5, service_orders=True)
    crooked = b"\xef\xbb\xbf\n" + text.replace(b"\r\n", b"\n").replace(b"kWh", b"KWH")
    Path("crooked.csv").write_bytes(crooked)
    run("convert", "crooked.csv", "-o", "o.nem12")
    assert Path("o.nem12").read_bytes() == text
    run("convert", "o.nem12", "-o", "o.zip")
    with zipfile.ZipFile("o.zip") as box:
        assert [box.read(name) for name in box.namelist()] == [text]


@pytest.mark.parametrize(
    "options",
    [
        {"nmis": 2, "days": 150, "service_orders": True, "substituted": 0.1},
        {"kind": "NEM13", "days": 91 * 40, "nmis": 40, "service_orders": True},
    ],
    ids=["NEM12", "NEM13"],
)
def test_nem12_in_pieces_is_one_block_again(options, folder) -> None:
    """A large file read in pieces is written as the same bytes, each 200 once."""
    source = make(**options)
    chunks = list(nemflow.scan(source, chunk_bytes=65_536))
    assert len(chunks) > 1
    write_nem12(iter(chunks), folder / "out", archive=False)
    assert (folder / "out").read_bytes() == source.read_bytes()


def test_several_files_in_one_zip_keep_their_names(folder) -> None:
    """One member per source; equal names are told apart."""
    for name in ("x/a.csv", "y/a.csv", "b.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        make(name, seed=len(name), days=1)
    run("convert", "x/a.csv", "y/a.csv", "b.csv", "-o", "o.zip")
    with zipfile.ZipFile("o.zip") as box:
        assert sorted(box.namelist()) == ["a-2.csv", "a.csv", "b.csv"]
        assert box.read("a.csv") == Path("x/a.csv").read_bytes()
        assert box.read("a-2.csv") == Path("y/a.csv").read_bytes()


def test_tables_in_pieces_are_the_whole(folder) -> None:
    """Parquet put together from parts, with values of different decimals, loses nothing."""
    make("a.csv", days=60, decimals=1)
    make("b.csv", days=60, decimals=4, seed=9)
    whole = nemflow.read(["a.csv", "b.csv"], exact=True).readings()
    for form in ("parquet", "arrow", "csv"):
        chunks = nemflow.scan(["a.csv", "b.csv"], chunk_bytes=65_536)
        assert write_table(form, chunks, folder / form, exact=True) == whole.height
    assert pl.read_parquet(folder / "parquet")["value"].sum() == whole["value"].sum()
    assert pl.read_ipc(folder / "arrow")["value"].sum() == whole["value"].sum()
    assert (folder / "csv").read_bytes().count(b"\n") == whole.height + 1


def test_csv_from_a_hostile_file_runs_nothing() -> None:
    """Free text that a spreadsheet would take for a formula is quoted; numbers are not."""
    text = nemflow.generate(days=1, streams=["E1"])
    Path("a.csv").write_bytes(text.replace(b",A,,,", b",F14,0,=HYPERLINK(1),"))
    run("convert", "a.csv", "-o", "o.csv", "--include-rejected")
    for row in table("o.csv"):
        assert row["reason_text"] == "'=HYPERLINK(1)"
        assert not row["value"].startswith("'")


# --- convert to SQL -----------------------------------------------------------------------------


def database(sql: str, create: str) -> sqlite3.Connection:
    """An SQLite database with the INSERTs of a file run."""
    base = sqlite3.connect(":memory:")
    base.execute(create)
    base.executescript(Path(sql).read_text(encoding="utf-8"))
    return base


SIMPLE = (
    "CREATE TABLE meter_readings (nmi varchar(10) NOT NULL, timestamp timestamp NOT NULL,"
    " consumption numeric, UNIQUE (nmi, timestamp))"
)


def test_simple_sql_adds_up_the_consumption_streams() -> None:
    """E1 and E2 are added per NMI and start of the interval; feed-in and kVArh stay out."""
    make(days=2, nmis=2, streams=["E1", "E2", "B1", "Q1"])
    run("convert", "a.csv", "-o", "o.sql")
    base = database("o.sql", SIMPLE)
    readings = nemflow.read("a.csv", exact=True).readings()
    mine = readings.filter(pl.col("suffix").is_in(["E1", "E2"]))
    assert base.execute("SELECT count(*) FROM meter_readings").fetchone() == (mine.height // 2,)
    wanted = mine.group_by("nmi", "interval_start").agg(pl.col("value").sum())
    nmi, start, total = wanted.row(17)
    found = base.execute(
        "SELECT consumption FROM meter_readings WHERE nmi = ? AND timestamp = ?",
        (nmi, start.strftime("%Y-%m-%d %H:%M:%S")),
    ).fetchone()
    assert Decimal(str(found[0])) == total


def test_simple_sql_takes_the_newest_version_of_a_day() -> None:
    """A day and its correction in one conversion do not count twice, in any order."""
    make("a.csv", days=1, streams=["E1"], estimated=1.0)
    Path("b.csv").write_bytes(nemflow.generate(corrections_of=Path("a.csv").read_bytes()))
    right = nemflow.read("b.csv", exact=True).readings()["value"].to_list()
    for order in (("a.csv", "b.csv"), ("b.csv", "a.csv")):
        run("convert", *order, "-o", "o.sql")
        base = database("o.sql", SIMPLE)
        got = base.execute("SELECT consumption FROM meter_readings ORDER BY timestamp").fetchall()
        assert [Decimal(str(value)) for (value,) in got] == right


def test_simple_sql_of_streams_with_different_lengths_and_units() -> None:
    """5-minute Wh and half-hour kWh of one NMI meet at the half hour, in kWh."""
    one = nemflow.generate(days=1, streams=["E1"], interval=30).decode()
    two = nemflow.generate(days=1, streams=["E2"], interval=5).decode().replace("kWh", "Wh")
    Path("a.csv").write_text(one, encoding="ascii")
    Path("b.csv").write_text(two, encoding="ascii")
    run("convert", "a.csv", "b.csv", "-o", "o.sql")
    base = database("o.sql", SIMPLE)
    got = base.execute("SELECT consumption FROM meter_readings ORDER BY timestamp").fetchall()
    halves = nemflow.read("a.csv", exact=True).readings()["value"].to_list()
    fives = nemflow.read("b.csv", exact=True).readings()["value"].to_list()
    wanted = [half + sum(fives[6 * n : 6 * n + 6]) / 1000 for n, half in enumerate(halves)]
    assert [Decimal(str(value)) for (value,) in got] == wanted


def test_simple_sql_keeps_missing_as_null() -> None:
    """A missing value makes the interval NULL, never 0 and never the sum of the rest."""
    text = nemflow.generate(days=1, streams=["E1", "E2"]).decode()
    head, found, rest = text.partition("\r\n300,20250331,")
    Path("a.csv").write_text(head + found + "," + rest.split(",", 1)[1], encoding="ascii")
    run("convert", "a.csv", "-o", "o.sql", "--include-rejected")
    base = database("o.sql", SIMPLE)
    got = base.execute("SELECT consumption FROM meter_readings ORDER BY timestamp").fetchall()
    assert got[0] == (None,)
    assert None not in [value for (value,) in got[1:]]


def test_our_own_sql_shape_escapes_everything() -> None:
    """Quotes are doubled, a backslash cannot escape one, every column is there."""
    text = nemflow.generate(days=1, streams=["E1"])
    Path("a.csv").write_bytes(text.replace(b",A,,,", rb",F14,0,it's \'); DROP TABLE x; --,"))
    run("convert", "a.csv", "-o", "o.sql", "--sql-shape", "nemflow", "--include-rejected")
    columns = (
        "source, nmi, suffix, register_id, meter_serial, uom, interval_start, interval_end, value,"
        " quality, method, reason_code, reason_text, version_at"
    )
    base = database("o.sql", f"CREATE TABLE readings ({columns})")
    rows = base.execute("SELECT reason_text, interval_end FROM readings").fetchall()
    assert len(rows) == 48
    assert rows[0] == ("it's /'); DROP TABLE x; --", "2025-03-31 00:30:00")
    assert "\\" not in Path("o.sql").read_text(encoding="utf-8")


def test_sql_in_pieces_is_the_whole(folder) -> None:
    """Both shapes stream: many small chunks give the rows of the whole."""
    make(days=150, nmis=2)
    whole = nemflow.read("a.csv").readings()
    chunks = nemflow.scan("a.csv", chunk_bytes=65_536)
    assert write_nemflow(chunks, folder / "full.sql") == whole.height
    chunks = nemflow.scan("a.csv", chunk_bytes=65_536)
    assert write_simple(chunks, folder / "simple.sql") == whole.height // 2
    database("simple.sql", SIMPLE)


# --- files appear whole ----------------------------------------------------------------------


def test_a_failed_conversion_leaves_what_was_there(monkeypatch) -> None:
    """An error or Ctrl-C half way: no new file, no draft, the old file untouched."""
    make(days=2)
    Path("o.csv").write_text("mine", encoding="utf-8")

    def stop(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("nemflow.cli.tables._with_times_as_text", stop)
    assert "nothing half" in run("convert", "a.csv", "-o", "o.csv", code=130)
    assert Path("o.csv").read_text(encoding="utf-8") == "mine"
    assert sorted(path.name for path in Path().iterdir()) == ["a.csv", "o.csv"]


def test_a_target_that_cannot_be_is_said_before_reading() -> None:
    """A folder that is not there, or a folder as target: wrong usage."""
    make(days=1)
    assert "no folder" in run("convert", "a.csv", "-o", "nowhere/o.csv", code=2)
    Path("d.csv").mkdir()
    assert "is a folder" in run("convert", "a.csv", "-o", "d.csv", code=2)
    assert "no file" in run("convert", "missing.csv", "-o", "o.csv", code=2)


def test_the_summary_of_a_conversion_as_csv() -> None:
    """One row, for scripts."""
    make(days=1)
    (row,) = csv.DictReader(io.StringIO(run("convert", "a.csv", "-o", "o.csv", "--csv")))
    assert row["rows"] == "96"
    assert row["days"] == "2"


def test_show_on_a_terminal_is_coloured_and_fits(monkeypatch) -> None:
    """On a terminal of 80 columns nothing is wider."""
    make(days=10, nmis=6)
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    text = run("show", "a.csv", "--charts", 1)
    wide = [line for line in text.splitlines() if len(line) > 80]
    assert wide == []
