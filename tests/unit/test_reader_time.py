"""Every interval lies where it belongs: market time, both ends, any length, streams by time.

Why: half-hour-shifted rows and streams lined up by position are the old sins of readers.
Next: docs/library.md on time.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

import nemflow
from nemflow.mdff.meterdata import MARKET, MeterData
from nemflow.mdff.reader import Parser, Text

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEAD = "100,NEM12,202503060215,MDPEXMPL,RETEXMPL"


def stream(suffix: str = "E1", minutes: int = 30, nmi: str = "SASMPL0123") -> str:
    """A 200."""
    return f"200,{nmi},B1E1,1,{suffix},N1,EX0000123,kWh,{minutes},"


def day(when: str, minutes: int = 30, first: int = 1, stamp: str = "20250306011500") -> str:
    """A 300 with the values first, first + 1, ..."""
    values = ",".join(str(first + n) for n in range(1440 // minutes))
    return f"300,{when},{values},A,,,{stamp},"


def feed(*lines: str) -> MeterData:
    """Read a file of these lines."""
    text = "".join(f"{line}\r\n" for line in (HEAD, *lines, "900")).encode()
    return Parser(now=NOW).feed([Text("x.csv", text)])


def at(*parts: int) -> datetime:
    """A moment in UTC, given in market time."""
    return datetime(*parts, tzinfo=UTC) - timedelta(hours=10)


@pytest.mark.parametrize("minutes", [5, 15, 30])
def test_both_ends_of_every_interval_are_given_in_market_time(minutes: int):
    """A day of 1440 minutes from midnight to midnight, UTC+10, without a gap."""
    readings = feed(stream(minutes=minutes), day("20250305", minutes)).readings()
    assert readings.schema["interval_start"] == pl.Datetime("us", MARKET)
    assert readings.schema["interval_end"] == pl.Datetime("us", MARKET)
    starts, ends = readings["interval_start"], readings["interval_end"]
    assert starts.dt.convert_time_zone("UTC")[0] == at(2025, 3, 5)
    assert ends.dt.convert_time_zone("UTC")[-1] == at(2025, 3, 6)
    assert starts.len() == 1440 // minutes
    assert (ends - starts).unique().to_list() == [timedelta(minutes=minutes)]
    assert (starts[1:] == ends[:-1]).all()
    assert readings["value"].to_list() == [float(n + 1) for n in range(1440 // minutes)]


@pytest.mark.parametrize("when", [date(2025, 4, 6), date(2025, 10, 5), date(2024, 2, 29)])
def test_no_day_is_longer_or_shorter(when: date):
    """On the days on which other clocks change, and on a leap day."""
    readings = feed(stream(), day(f"{when:%Y%m%d}")).readings()
    assert readings.height == 48
    offsets = (
        readings["interval_start"].dt.base_utc_offset() + readings["interval_start"].dt.dst_offset()
    )
    assert offsets.unique().to_list() == [timedelta(hours=10)]
    assert readings["interval_start"].dt.date().unique().to_list() == [when]


def test_several_lengths_in_one_file_each_have_their_own_times():
    """5, 15 and 30 minutes side by side; readings in file order."""
    lines = [
        line
        for suffix, minutes in (("E1", 30), ("B1", 5), ("E2", 15))
        for line in (stream(suffix, minutes), day("20250305", minutes))
    ]
    data = feed(*lines)
    assert data.days["interval_minutes"].to_list() == [30, 5, 15]
    readings = data.readings()
    assert readings["suffix"].unique(maintain_order=True).to_list() == ["E1", "B1", "E2"]
    lengths = (readings["interval_end"] - readings["interval_start"]).dt.total_minutes()
    assert readings.group_by("suffix", maintain_order=True).len()["len"].to_list() == [48, 288, 96]
    assert lengths.to_list() == [30] * 48 + [5] * 288 + [15] * 96


def test_wide_form_lines_streams_up_by_time():
    """Streams that start on different days, or have other lengths, meet by time only."""
    data = feed(
        stream("E1"), day("20250304"), day("20250305", first=101),
        stream("B1"), day("20250305", first=201), day("20250306", first=301),
    )  # fmt: skip
    wide = data.readings(wide=True)
    assert wide.columns == [
        "nmi", "interval_start", "interval_end", "B1", "B1_quality", "E1", "E1_quality",
    ]  # fmt: skip
    assert wide.height == 3 * 48
    assert wide["E1"].to_list() == [*map(float, range(1, 49)), *map(float, range(101, 149)),
                                    *[None] * 48]  # fmt: skip
    assert wide["B1"].to_list() == [*[None] * 48, *map(float, range(201, 249)),
                                    *map(float, range(301, 349))]  # fmt: skip
    assert wide["B1_quality"].null_count() == 48
    mixed = feed(stream("E1"), day("20250305"), stream("B1", 5), day("20250305", 5))
    assert mixed.readings(wide=True).height == 48 + 288


def test_wide_form_of_one_stream_and_of_several_nmis():
    """Columns are named after the suffix; each NMI has its own rows."""
    one = feed(stream(), day("20250305")).readings(wide=True)
    assert one.columns == ["nmi", "interval_start", "interval_end", "E1", "E1_quality"]
    two = feed(stream(), day("20250305"), stream(nmi="SASMPL0124"), day("20250305", first=9))
    wide = two.readings(wide=True, exact=True)
    assert wide.group_by("nmi", maintain_order=True).len().rows() == [
        ("SASMPL0123", 48), ("SASMPL0124", 48),
    ]  # fmt: skip
    assert isinstance(wide.schema["E1"], pl.Decimal)


def test_wide_form_has_room_for_one_value_only():
    """Two versions of a day: the error names stream and time, and what to do."""
    data = feed(stream(), day("20250305"), day("20250305", stamp="20250306020000"))
    with pytest.raises(nemflow.UsageError, match=r"SASMPL0123 E1 .* 2025-03-05 00:00") as error:
        data.readings(wide=True)
    assert "long form" in str(error.value)
    assert data.readings().height == 96


def test_wide_form_of_nothing_is_empty():
    """No days: the key columns, no rows."""
    assert feed().readings(wide=True).columns == ["nmi", "interval_start", "interval_end"]
    assert feed().readings().is_empty()


def test_a_version_is_the_rows_stamp_or_else_the_files_time():
    """UpdateDateTime; without one, or with one in the future, the header's DateTime, marked."""
    data = feed(
        stream(),
        day("20250303"),
        day("20250304", stamp=""),
        day("20250305", stamp="20991231235959"),
    )
    versions = data.days["version_at"].dt.convert_time_zone("UTC").to_list()
    assert versions == [at(2025, 3, 6, 1, 15), at(2025, 3, 6, 2, 15), at(2025, 3, 6, 2, 15)]
    assert data.days["version_derived"].to_list() == [False, True, True]
    assert data.days["update_at"].dt.year().to_list() == [2025, None, 2099]


def test_a_file_from_the_future_gives_no_version():
    """A header DateTime more than a day ahead would win for ever, so it counts as unknown."""
    head = HEAD.replace("2025", "2099", 1)
    text = "".join(f"{line}\r\n" for line in (head, stream(), day("20250305", stamp=""))).encode()
    data = Parser(now=NOW).feed([Text("x", text)])
    assert data.days.select("version_at", "file_at", "version_derived").rows() == [
        (None, None, True)
    ]
    assert data.headers["file_at"].to_list() == [None]


def test_what_lies_in_the_future_depends_on_now():
    """``now`` decides, in market time: a day is not over before it has begun in the market."""
    text = b"".join(f"{line}\r\n".encode() for line in (HEAD, stream(), day("20250305"), "900"))
    late = datetime(2025, 3, 4, 14, 0, tzinfo=UTC)  # midnight in the market
    for now, rules in ((late, []), (late - timedelta(seconds=1), ["I002"])):
        data = Parser(now=now).feed([Text("x", text)])
        assert data.days["rejected_by"].to_list() == [rules]
    with pytest.raises(nemflow.UsageError, match="offset"):
        Parser(now=datetime(2025, 3, 5))  # noqa: DTZ001 - that is the point
