"""What is measured of nemflow: the calls the manual shows, nothing special."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
import stopwatch

import nemflow


def intervals(days: pl.DataFrame) -> int:
    """How many readings a frame of days holds."""
    return int(days["values"].list.len().sum())


def read(path: str) -> nemflow.MeterData:
    return nemflow.read(path)


def count_read(data: nemflow.MeterData) -> int:
    return intervals(data.frame_days)


def days(path: str) -> pl.DataFrame:
    return nemflow.read(path).days


def readings(path: str) -> pl.DataFrame:
    return nemflow.read(path).readings()


def scan(path: str) -> int:
    return sum(intervals(chunk.frame_days) for chunk in nemflow.scan(path))


def load(path: str):
    """Load into a fresh SQLite store, file to published."""
    from nemflow.pipeline import load as load_paths
    from nemflow.store import open_store

    with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
        store = open_store(f"sqlite:///{folder}/bench.db")
        summary = load_paths(store, [path])
        store.close()
    return summary


def count_days(summary) -> int:
    """Days, not readings: the summary accounts for days."""
    return summary.days.stored


def generate(_path: str) -> bytes:
    return nemflow.generate(nmis=40, days=60, interval=5, streams=["E1"], seed=1)


def count_generated(text: bytes) -> int:
    return text.count(b"\n300,") * 288


if __name__ == "__main__":
    stopwatch.main(
        {
            "read": (read, count_read),
            "days": (days, intervals),
            "readings": (readings, len),
            "scan": (scan, int),
            "load": (load, count_days),
            "generate": (generate, count_generated),
        }
    )
