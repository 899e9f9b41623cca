"""The public door, used the way users use it; mypy must find every type below to be so.

Never run, only type-checked (see test_types.py), with the settings a strict user has.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import assert_type

import polars as pl

import nemflow

# Read: a path, a name, bytes, a binary file, or a list of them.
data = nemflow.read("day.csv")
assert_type(data, nemflow.MeterData)
assert_type(nemflow.read(Path("day.csv"), profile="b2b"), nemflow.MeterData)
assert_type(nemflow.read(b"100,NEM12"), nemflow.MeterData)
assert_type(nemflow.read(io.BytesIO(b"100,NEM12")), nemflow.MeterData)
assert_type(nemflow.read(["a.csv", "b.zip"], exact=True), nemflow.MeterData)
assert_type(nemflow.read([Path("a.csv"), Path("b.zip")]), nemflow.MeterData)

# MeterData: frames.
assert_type(data.days, pl.DataFrame)
assert_type(data.readings(), pl.DataFrame)
assert_type(data.readings(exact=True, wide=True), pl.DataFrame)
assert_type(data.register_reads, pl.DataFrame)
assert_type(data.service_events, pl.DataFrame)
assert_type(data.findings, pl.DataFrame)
assert_type(data.headers, pl.DataFrame)
assert_type(data.accepted, nemflow.MeterData)
assert_type(nemflow.MeterData.concat([data, data]), nemflow.MeterData)

# Scan: chunk by chunk.
chunks = nemflow.scan("day.csv", chunk_bytes=1_000_000, profile="portal")
assert_type(chunks, Iterator[nemflow.MeterData])
total = sum(chunk.readings().height for chunk in nemflow.scan(Path("day.csv")))
assert_type(total, int)

# Check: a report.
report = nemflow.check("day.csv", profile="b2b")
assert_type(report, nemflow.Report)
assert_type(report.findings, pl.DataFrame)

# Generate and write.
text = nemflow.generate(nmis=3, days=2, start=date(2025, 3, 1), interval=[5, 30], seed=1)
assert_type(text, bytes)
assert_type(nemflow.generate(corrections_of=text, break_it=["I001"]), bytes)
nemflow.write(data, "out.csv")
nemflow.write(data, Path("out.zip"))
nemflow.write(data, io.BytesIO())

# Errors: facts on them, typed.
try:
    nemflow.read("day.csv")
except nemflow.FileRefused as refused:
    assert_type(refused.rule, str)
    assert_type(refused.line, int | None)
    assert_type(refused.source, str)
except nemflow.NemflowError as error:
    assert_type(error.transient, bool)
    assert_type(error.message, str)
    assert_type(error.exit_code, int)

assert_type(nemflow.__version__, str)
