"""What is measured of the two public readers, in the fastest way each documents.

Runs in an environment of its own (they need Python 3.12 or newer); never imports nemflow.
"""

from __future__ import annotations

import polars as pl
import stopwatch
from aemo_mdff_reader import parse_to_columns
from nemreader import NEMFile


def nemreader_objects(path: str):
    """``NEMFile.nem_data()``: its objects, the basis of everything else it offers."""
    return NEMFile(path).nem_data()


def count_objects(data) -> int:
    return sum(len(reads) for nmi in data.readings.values() for reads in nmi.values())


def nemreader_frame(path: str) -> pl.DataFrame:
    """``NEMFile.get_data_frame_long()``: a polars frame with times and quality."""
    return NEMFile(path).get_data_frame_long()


def mdff_columns(path: str):
    """``parse_to_columns``: lists per column, its documented fast path."""
    return parse_to_columns(path)


def mdff_frame(path: str) -> pl.DataFrame:
    """The same columns as a polars frame, so that both frames are of one kind."""
    return pl.DataFrame(parse_to_columns(path))


if __name__ == "__main__":
    stopwatch.main(
        {
            "nemreader-objects": (nemreader_objects, count_objects),
            "nemreader-frame": (nemreader_frame, len),
            "mdff-columns": (mdff_columns, lambda columns: len(columns["Value"])),
            "mdff-frame": (mdff_frame, len),
        }
    )
