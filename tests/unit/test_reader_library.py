"""read, scan and check: any source, one bad file among good ones, bounded memory, honest counts.

Why: people hand in what they have; what cannot be read must not hide what can.
Next: test_archive.py for containers, test_reader_properties.py for texts in pieces.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

import nemflow
from nemflow.mdff.generate import generate, generate_message
from nemflow.mdff.meterdata import MeterData

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = generate(nmis=2, days=3, seed=1)
OTHER = generate(nmis=["SASMPL0777"], days=2, seed=2)
FOREIGN = b"Date,Time,Usage\n05/03/2025,00:30,0.1\n"
COLUMNS = ["nmi", "suffix", "day", "values", "content_hash", "rejected_by"]


def zipped(**members: bytes) -> bytes:
    """A zip of these members; ``__`` in a name stands for a point."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return out.getvalue()


def days(data: MeterData) -> list[tuple[object, ...]]:
    """What was read, whatever it is called."""
    return data.days.select(COLUMNS).rows()


WANTED = days(nemflow.read(TEXT, now=NOW))


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (TEXT, "<bytes>"),
        (zipped(a__csv=TEXT), "<bytes>/a.csv"),
        (zipped(in__zip=zipped(a__V01=TEXT)), "<bytes>/in.zip/a.V01"),
        (gzip.compress(TEXT), None),
        (generate_message(TEXT), "<bytes>"),
    ],
    ids=["text", "zip", "zip in zip", "gzip", "aseXML"],
)
def test_content_is_told_apart_by_itself(data: bytes, source: str | None, tmp_path: Path):
    """Bytes, a path, a string, a file object: each form gives the same days."""
    path = tmp_path / "delivery.bin"
    path.write_bytes(data)
    with path.open("rb") as handle:
        for given in (data, path, str(path), io.BytesIO(data), handle, [data]):
            assert days(nemflow.read(given, now=NOW)) == WANTED
    named = nemflow.read(data, now=NOW).headers["source"].unique().to_list()
    if source:
        assert named == [source]


def test_a_source_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In days, findings and errors alike: the path as typed, and the member within."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a.csv").write_bytes(TEXT.replace(b"\r\n", b"\n"))
    Path("in/b.csv").write_bytes(FOREIGN)
    data = nemflow.read("in", now=NOW)
    assert data.frame_days["source"].unique().to_list() == ["in/a.csv"]
    assert set(data.findings["source"]) == {"in/a.csv", "in/b.csv"}
    assert [error.source for error in data.refused] == ["in/b.csv"]
    assert nemflow.read(Path("in/a.csv")).headers["source"].to_list() == ["in/a.csv"]


def test_several_sources_are_read_together(tmp_path: Path):
    """A list and a folder; bytes without a name are told apart by a number."""
    (tmp_path / "a.csv").write_bytes(TEXT)
    (tmp_path / "b.zip").write_bytes(zipped(c__csv=OTHER))
    both = nemflow.read(tmp_path, now=NOW)
    listed = nemflow.read([TEXT, OTHER], now=NOW)
    assert days(both) == days(listed) == [*WANTED, *days(nemflow.read(OTHER, now=NOW))]
    assert listed.frame_days["source"].unique(maintain_order=True).to_list() == [
        "<bytes>", "<bytes> (2)",
    ]  # fmt: skip


BAD = {
    "not MDFF": FOREIGN,
    "empty": b"",
    "binary": bytes(range(256)) * 8 + b"\0" * 400,
    "a broken zip": zipped(a__csv=TEXT)[:-30],
    "a broken message": generate_message(TEXT)[:-30],
    "a foreign container": b"7z\xbc\xaf\x27\x1c" + b"\0" * 40,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("bad_first", [True, False])
def test_one_bad_member_does_not_hide_the_good_ones(name: str, bad_first: bool):
    """Read, scan and check give the good file's days and tell of the bad one."""
    contents = (BAD[name], TEXT) if bad_first else (TEXT, BAD[name])
    archive = zipped(**dict(zip(("a__csv", "b__csv"), contents, strict=True)))
    bad = f"<bytes>/{'a' if bad_first else 'b'}.csv"
    read = nemflow.read(archive, now=NOW)
    scanned = MeterData.concat(nemflow.scan(archive, now=NOW))
    report = nemflow.check(archive, now=NOW)
    for data in (read, scanned):
        assert days(data) == WANTED
        assert [error.source.startswith(bad) for error in data.refused] == [True]
        told = data.findings.filter(pl.col("severity") == "F")
        assert told["source"].str.starts_with(bad).all()
        assert told.height == 1
    assert (report.days_read, report.days_rejected) == (len(WANTED), 0)
    assert [str(error) for error in report.refused] == [str(error) for error in read.refused]
    assert not report.ok


@pytest.mark.parametrize("name", BAD)
def test_nothing_readable_is_an_error_and_check_only_says_so(name: str):
    """Read and scan raise FileRefused; check never raises for content."""
    for source in (BAD[name], zipped(a__csv=BAD[name], b__csv=BAD[name])):
        with pytest.raises(nemflow.FileRefused):
            nemflow.read(source)
        with pytest.raises(nemflow.FileRefused):
            list(nemflow.scan(source))
        report = nemflow.check(source)
        assert report.refused
        assert (report.days_read, report.ok) == (0, False)
        assert set(report.findings["severity"]) >= {"F"}


def test_wrong_calls_are_usage_errors(tmp_path: Path):
    """A path that leads nowhere, a profile nobody knows, a chunk of nothing."""
    for call in (nemflow.read, nemflow.check, lambda path: list(nemflow.scan(path))):
        with pytest.raises(nemflow.UsageError):
            call(tmp_path / "nowhere.csv")
    with pytest.raises(nemflow.UsageError, match="profile"):
        nemflow.read(TEXT, profile="strict")
    with pytest.raises(nemflow.UsageError, match="chunk_bytes"):
        list(nemflow.scan(TEXT, chunk_bytes=0))


@pytest.mark.parametrize("chunk_bytes", [1, 700, 5_000, 10**9])
def test_scan_reads_what_read_reads(chunk_bytes: int, tmp_path: Path):
    """For a file, an archive and a folder, in pieces of any size."""
    (tmp_path / "a.csv").write_bytes(TEXT)
    (tmp_path / "b.zip").write_bytes(zipped(c__csv=OTHER, d__csv=FOREIGN))
    read = nemflow.read(tmp_path, now=NOW)
    scanned = MeterData.concat(nemflow.scan(tmp_path, chunk_bytes=chunk_bytes, now=NOW))
    assert days(scanned) == days(read)
    assert scanned.findings.sort("source").rows() == read.findings.sort("source").rows()


def test_a_scan_can_be_left_at_any_time(tmp_path: Path):
    """No file stays open (an open one would warn, and warnings are errors here)."""
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT)
    packed = tmp_path / "b.zip"
    packed.write_bytes(zipped(a__csv=TEXT, b__csv=TEXT))
    for source in (path, packed, tmp_path):
        parts = nemflow.scan(source, chunk_bytes=500, now=NOW)
        next(parts)
        next(parts)
        del parts


def test_exact_is_passed_on():
    """For read and scan: Decimal instead of Float64 unless readings() is told otherwise."""
    for data in (nemflow.read(TEXT, exact=True), next(nemflow.scan(TEXT, exact=True))):
        assert isinstance(data.readings().schema["value"], pl.Decimal)
        assert data.readings(exact=False).schema["value"] == pl.Float64


def test_limits_and_participant_reach_the_rules():
    """``value_limits`` (I007) and ``participant`` (F008), for read, scan and check."""
    options = {"profile": "b2b", "now": NOW, "participant": "SOMEBODY",
               "value_limits": {("*", "kWh"): Decimal(0)}}  # fmt: skip
    wanted = {"I007", "F008"}
    assert set(nemflow.read(TEXT, **options).findings["rule"]) == wanted
    assert set(MeterData.concat(nemflow.scan(TEXT, **options)).findings["rule"]) == wanted
    assert set(nemflow.check(TEXT, **options).findings["rule"]) == wanted


def test_a_late_fatal_finding_rejects_the_whole_file(monkeypatch: pytest.MonkeyPatch):
    """F006 under b2b is met with the last piece; check counts every day as rejected."""
    monkeypatch.setattr(nemflow.library, "CHUNK_BYTES", 600)
    cut = TEXT.removesuffix(b"900\r\n")
    report = nemflow.check([cut, OTHER], "b2b", now=NOW)
    assert (report.days_read, report.days_rejected) == (16, 12)
    assert nemflow.check([cut, OTHER], "portal", now=NOW).days_rejected == 0


def test_twins_in_different_pieces_are_counted_once(monkeypatch: pytest.MonkeyPatch):
    """Days and periods that a later piece takes back are rejected, and read once each."""
    lines = TEXT.split(b"\r\n")
    twin = lines[2].replace(b",0.", b",9.", 1)
    text = b"\r\n".join([*lines[:-2], lines[1], twin, twin, b"900", b""])
    whole = nemflow.check(text, now=NOW)
    monkeypatch.setattr(nemflow.library, "CHUNK_BYTES", 600)
    pieces = nemflow.check(text, now=NOW)
    for report in (whole, pieces):
        assert (report.days_read, report.days_rejected) == (14, 3)
    reads = generate(kind="NEM13", days=400).split(b"\r\n")
    twin = reads[1].replace(b",E,", b",I,", 1)
    text = b"\r\n".join([*reads[:-2], twin, b"900", b""])
    monkeypatch.undo()
    for size in (10**9, 300):
        monkeypatch.setattr(nemflow.library, "CHUNK_BYTES", size)
        report = nemflow.check(text, now=NOW)
        assert (report.reads_read, report.reads_rejected) == (len(reads) - 2, 2)
    taken = [part.twins for part in nemflow.scan(text, chunk_bytes=300, now=NOW)]
    assert pl.concat(taken).select("line", "record").rows() == [(2, "250")]


def test_counts_say_how_often_each_rule_was_met():
    """Worst first."""
    report = nemflow.check(generate(days=1, break_it=["I001", "I008", "F014"]), now=NOW)
    assert report.counts().rows() == [("I001", "D", 1), ("F014", "W", 1), ("I008", "W", 1)]
    assert "1 rejected" in repr(report)


def test_accepted_leaves_out_what_a_load_would():
    """Rejected days and reads are gone, the rest stays."""
    data = nemflow.read(generate(days=1, break_it=["I004"]), now=NOW)
    assert data.frame_days.height == data.accepted.frame_days.height + 1
    assert (data.accepted.frame_days["rejected_by"].list.len() == 0).all()
    assert "(1 rejected)" in repr(data)
