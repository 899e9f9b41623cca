"""Real files from public projects are read as two independent readers read them.

Why: generated files only hold what we thought of; these hold what senders really emit.
The samples stay where they are and are never copied: the folder is named by the environment
variable ``NEMFLOW_SAMPLES``, or lies beside the repository as ``../shared/samples``. Without it
these tests are skipped and say so. docs/samples.md lists what nemflow says of each file.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import nemflow

SAMPLES = Path(
    os.environ.get("NEMFLOW_SAMPLES") or Path(__file__).resolve().parents[3] / "shared" / "samples"
)
HERE = (SAMPLES / "manifest.csv").is_file()

pytestmark = pytest.mark.skipif(
    not HERE, reason="no sample files: set NEMFLOW_SAMPLES to the folder with manifest.csv"
)


def load_expected() -> dict[str, dict[str, Any]]:
    """``expected.json``: path -> what two public readers agree on, per NMI and suffix."""
    if not HERE:
        return {"none": {}}
    text = (SAMPLES / "expected.json").read_text(encoding="utf-8")
    files: dict[str, dict[str, Any]] = json.loads(text)["files"]
    return files


def load_manifest() -> list[str]:
    """``manifest.csv``: the path of every sample."""
    if not HERE:
        return ["none"]
    with (SAMPLES / "manifest.csv").open(encoding="utf-8", newline="") as handle:
        return [row["path"] for row in csv.DictReader(handle)]


EXPECTED = load_expected()
MANIFEST = load_manifest()


def said_by(data: nemflow.MeterData) -> dict[str, dict[str, Any]]:
    """MeterData in the shape of ``expected.json``: one entry per NMI and suffix.

    Interval data count intervals; register reads count periods and sum their quantities.
    """
    key = [pl.col("nmi").str.to_uppercase(), pl.col("suffix").str.to_uppercase()]
    flag = pl.col("quality").fill_null("") + pl.col("method").fill_null("")
    intervals = data.readings().select(
        *key,
        start=pl.col("interval_start").dt.replace_time_zone(None),
        end=pl.col("interval_end").dt.replace_time_zone(None),
        value=pl.col("value"),
        flag=flag,
    )
    periods = data.register_reads.select(
        *key,
        start=pl.col("previous_at").dt.replace_time_zone(None),
        end=pl.col("current_at").dt.replace_time_zone(None),
        value=pl.col("quantity").cast(pl.Float64),
        flag=pl.col("current_quality_method"),
    )
    said = {}
    for (nmi, suffix), rows in pl.concat([intervals, periods]).group_by(["nmi", "suffix"]):
        counts = rows["flag"].value_counts()
        said[f"{nmi}|{suffix}"] = {
            "first": str(rows["start"].min()),
            "last": str(rows["end"].max()),
            "nulls": rows["value"].null_count(),
            "quality": dict(sorted(counts.iter_rows())),
            "readings": rows.height,
            "total": rows["value"].sum(),
        }
    return said


@cache
def attempt(path: str, profile: str) -> nemflow.MeterData | nemflow.FileRefused:
    """What reading gives: data, or the refusal. Any other exception fails the test."""
    try:
        return nemflow.read(SAMPLES / path, profile=profile)
    except nemflow.FileRefused as refused:
        return refused


@pytest.mark.parametrize("path", sorted(EXPECTED))
def test_every_agreed_file_is_read_the_same_way(path: str) -> None:
    """Readings, totals, nulls, first and last time and quality counts agree per stream."""
    expected = EXPECTED[path]["streams"]
    data = attempt(path, "portal")
    assert isinstance(data, nemflow.MeterData), data
    got = said_by(data)
    assert sorted(got) == sorted(expected)
    for stream, wanted in expected.items():
        # The readers round their float sums to six decimals or so; nothing else may differ.
        wanted["total"] = pytest.approx(wanted["total"], rel=1e-9, abs=1e-5)
        assert got[stream] == wanted, stream


@pytest.mark.parametrize("path", MANIFEST)
def test_every_sample_is_read_or_refused_with_a_reason(path: str) -> None:
    """No sample raises anything but FileRefused, and what is left out is explained."""
    for profile in ("portal", "b2b"):
        data = attempt(path, profile)
        if isinstance(data, nemflow.FileRefused):
            assert data.rule
            assert data.message
            assert path not in EXPECTED, f"refused, though two readers read it: {data}"
            continue
        explained = set(data.findings["rule"].to_list())
        for frame in (data.days, data.register_reads):
            used = set(frame["rejected_by"].explode(empty_as_null=False).to_list())
            assert used <= explained, "a day is rejected by a rule that no finding names"
        if data.days.is_empty() and data.register_reads.is_empty():
            assert explained, "nothing was read and nothing says why"


@pytest.mark.parametrize("path", MANIFEST)
def test_chunked_reading_sees_the_same_days(path: str) -> None:
    """``scan`` in small chunks yields the days and register reads that ``read`` yields."""
    whole = attempt(path, "portal")
    if isinstance(whole, nemflow.FileRefused):
        with pytest.raises(nemflow.FileRefused):
            list(nemflow.scan(SAMPLES / path, chunk_bytes=4096))
        return
    chunks = list(nemflow.scan(SAMPLES / path, chunk_bytes=4096))
    together = nemflow.MeterData.concat(chunks)
    key = ["source", "nmi", "suffix", "day", "line"]
    assert together.days.select(*key, "content_hash").sort(key).rows() == (
        whole.days.select(*key, "content_hash").sort(key).rows()
    )
    assert together.register_reads.height == whole.register_reads.height


def test_the_page_of_the_samples_is_up_to_date() -> None:
    """docs/samples.md says what nemflow says today; mend it with bench/samples_table.py."""
    repo = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, repo / "bench" / "samples_table.py", "--check"],
        env={**os.environ, "NEMFLOW_SAMPLES": str(SAMPLES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
