"""What the writer promises about text, archives and files on disk."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from nemflow.errors import UsageError
from nemflow.mdff.generate import generate
from nemflow.mdff.meterdata import FRAME_DAYS, HEADERS, MARKET, MeterData
from nemflow.mdff.reader import Parser, Text
from nemflow.mdff.writer import decimal_text, to_text, write


def read(*texts: bytes) -> MeterData:
    """Read texts as sources a.csv, b.csv, ..."""
    names = (f"{letter}.csv" for letter in "abcdefgh")
    return Parser().feed([Text(name, text) for name, text in zip(names, texts, strict=False)])


def market(*parts: int) -> pl.Series:
    """Give one instant of market time."""
    return pl.Series([datetime(*parts)]).dt.replace_time_zone(MARKET)  # noqa: DTZ001


def one_day(**changed: object) -> MeterData:
    """Give MeterData of a single 30-minute day, some columns changed."""
    fields = {
        "source": "x.csv",
        "line": 3,
        "block": 1,
        "nmi": "SASMPL0001",
        "nmi_configuration": "E1",
        "register_id": "1",
        "suffix": "E1",
        "mdm_stream": "N1",
        "meter_serial": "EX1",
        "uom": "kWh",
        "interval_minutes": 30,
        "day": date(2025, 3, 5),
        "values": [500] * 48,
        "quality_method": "A",
        "spans": [],
        "rejected_by": [],
        **changed,
    }
    schema = dict(FRAME_DAYS)
    if any(abs(value or 0) >= 2**63 for value in fields["values"]):
        schema["values"] = pl.List(pl.Int128)
    days = pl.DataFrame([fields], schema=schema)
    header = {"source": "x.csv", "block": 1, "version_header": "NEM12"}
    return replace(
        MeterData.empty(), headers=pl.DataFrame([header], schema=HEADERS), frame_days=days, scale=3
    )


def lines(data: MeterData) -> list[str]:
    """Give the records written."""
    text = to_text(data).decode("ascii")
    assert text.endswith("900\r\n")
    return text.split("\r\n")[:-1]


@pytest.mark.parametrize(
    ("number", "scale", "text"),
    [
        (0, 3, "0"),
        (500, 3, "0.5"),
        (1, 3, "0.001"),
        (1000, 3, "1"),
        (123456, 3, "123.456"),
        (-500, 3, "-0.5"),
        (-5000, 3, "-5"),
        (7, 0, "7"),
        (100, 0, "100"),
        (-(2**63), 3, "-9223372036854775.808"),
        (10**30 + 1, 23, "10000000.00000000000000000000001"),
        (None, 3, None),
    ],
)
def test_decimals_are_the_shortest_exact_ones(number: int | None, scale: int, text: str | None):
    """Whole numbers in, text out, with no float between."""
    dtype = pl.Int128 if abs(number or 0) > 2**63 else pl.Int64
    assert decimal_text(pl.Series([number, number], dtype=dtype), scale).to_list() == [text, text]


def test_looked_up_and_formatted_decimals_are_the_same():
    """The table for frequent small values and the general way agree."""
    small = pl.int_range(5000, dtype=pl.Int64, eager=True)
    mixed = pl.concat([small, pl.Series([-1, 10**15])])
    assert decimal_text(small, 3).to_list() == decimal_text(mixed, 3)[:-2].to_list()
    assert [str(Decimal(i).scaleb(-3).normalize()) for i in range(1, 100)] == decimal_text(
        small, 3
    )[1:100].to_list()


def test_null_is_an_empty_cell_and_never_zero():
    """Missing values, stamps, texts and codes leave their commas."""
    values = [None, 0, *[500] * 46]
    data = one_day(values=values, register_id=None, mdm_stream=None, meter_serial=None)
    assert lines(data) == [
        "100,NEM12,,,",
        "200,SASMPL0001,E1,,E1,,,kWh,30,",
        "300,20250305,,0," + "0.5," * 46 + "A,,,,",
        "900",
    ]
    assert "300,20250305," + "," * 48 + "A,,,," in lines(one_day(values=[None] * 48))


def test_values_beyond_64_bits_are_written_exactly():
    """Numbers of up to 38 digits keep every digit."""
    assert "300,20250305,12345678901234567890.123," in to_text(
        one_day(values=[12345678901234567890123] * 48)
    ).decode("ascii")


def test_free_text_is_made_fit_for_a_field():
    """Commas and control characters become spaces, accents go, the rest a question mark."""
    text = " Zähler, defekt\r\nüber ½ µ東 "
    assert lines(one_day(reason_code=0, reason_text=text))[2].endswith(
        "A,0,Zahler  defekt  uber 1?2 ??,,"
    )


def test_400s_follow_their_300():
    """Spans become 400 records with flag and method joined."""
    spans = [
        {"start": 1, "end": 30, "quality": "A"},
        {
            "start": 31,
            "end": 48,
            "quality": "S",
            "method": "18",
            "reason_code": 0,
            "reason_text": "x",
        },
    ]
    written = lines(one_day(quality_method="V", spans=spans))
    assert written[3:] == ["400,1,30,A,,", "400,31,48,S18,0,x", "900"]


def test_a_new_200_stands_where_any_of_its_fields_changes_and_only_there():
    """Equal consecutive 200s are collapsed; a changed field opens a new one."""
    day = one_day()
    fields = {
        "nmi": pl.lit("SASMPL0002"),
        "nmi_configuration": pl.lit("E1B1"),
        "register_id": pl.lit("2"),
        "suffix": pl.lit("B1"),
        "mdm_stream": pl.lit(None, pl.String),
        "meter_serial": pl.lit("EX2"),
        "uom": pl.lit("Wh"),
        "interval_minutes": pl.lit(15, pl.UInt16),
        "next_scheduled_read": pl.lit(date(2025, 6, 1)),
    }
    for name, other in fields.items():
        frame = day.frame_days
        frames = [frame, frame, frame.with_columns(other.alias(name)), frame]
        written = lines(replace(day, frame_days=pl.concat(frames)))
        kinds = [line[:3] for line in written]
        assert kinds == ["100", "200", "300", "300", "200", "300", "200", "300", "900"], name


def test_a_days_500s_come_after_its_400s_in_their_order():
    """Reading puts events apart; writing puts them back under their day."""
    text = generate(days=3, estimated=1.0, service_orders=True)
    more = text.replace(b"\r\n900", b"\r\n500,S,SO1,,\r\n500,N,,,\r\n900")
    assert to_text(read(more)) == more


def test_several_files_become_several_blocks():
    """Each source keeps its own 100...900; NEM12 comes before NEM13."""
    interval, registers = generate(days=2), generate(kind="NEM13")
    other = generate(nmis=["SASMPL0777"], interval=5, streams=("E1",))
    assert to_text(read(interval, other)) == interval + other
    assert to_text(read(registers, interval)) == interval + registers


def test_a_file_without_data_stays_a_file():
    """An empty 100...900 among others is kept in its place, also at the end."""
    empty = b"100,NEM12,202503060215,MDPEXMPL,RETEXMPL\r\n900\r\n"
    other = generate(days=1)
    for texts in ((empty,), (empty, other), (other, empty), (empty, empty, other, empty)):
        assert to_text(read(*texts)) == b"".join(texts)


def test_only_what_a_load_takes_can_be_asked_for():
    """accepted_only leaves out rejected days with their 500s, and keeps the rest."""
    right = generate(days=2, service_orders=True)
    wrong = generate(days=2, service_orders=True, break_it=["I005", "B001"])
    accepted = to_text(read(wrong), accepted_only=True)
    assert b"-0.227" in to_text(read(wrong))
    assert b"-0.227" not in accepted
    assert accepted.startswith(right[:-5])


def test_there_must_be_something_to_write(tmp_path: Path):
    """Nothing read, nothing written, and no file left behind."""
    with pytest.raises(UsageError):
        to_text(MeterData.empty())
    with pytest.raises(UsageError):
        write(MeterData.empty(), tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())


# --- targets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.csv", "x.TXT", "x", "NEM12#1.2#A#B", "x.nem12"])
def test_a_path_gets_text(tmp_path: Path, name: str):
    """Names that end in .csv, .txt, nothing or after a # get text."""
    text = generate()
    write(read(text), tmp_path / name)
    assert (tmp_path / name).read_bytes() == text
    write(read(text), str(tmp_path / name))  # again, over the old one
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_zip_has_a_member_for_each_source_and_kind(tmp_path: Path):
    """Members are named after their sources, without a folder, each name once."""
    texts = [generate(days=1), generate(kind="NEM13"), generate(nmis=["SASMPL0777"], days=1)]
    data = Parser().feed(
        [
            Text("box.zip/in/day.txt", texts[0]),
            Text("reads.csv", texts[1]),
            Text("other/day.csv", texts[2]),
        ]
    )
    write(data, tmp_path / "out.ZIP")
    with zipfile.ZipFile(tmp_path / "out.ZIP") as box:
        found = {name: box.read(name) for name in box.namelist()}
    assert found == {"day.csv": texts[0], "day-nem12.csv": texts[2], "reads.csv": texts[1]}


def test_equal_content_gives_an_equal_archive():
    """No clock and no path is in a zip."""
    first, second = io.BytesIO(), io.BytesIO()
    for out in (first, second):
        write(read(generate(nmis=30, days=200, streams=("E1",))), out, archive=True)
    assert first.getvalue() == second.getvalue()
    assert zipfile.is_zipfile(first)


def test_an_open_file_gets_text():
    """A binary file object is written to and left open."""
    out = io.BytesIO()
    write(read(generate()), out)
    assert out.getvalue() == generate()
    assert not out.closed


def test_targets_that_cannot_be_written_are_usage_errors(tmp_path: Path):
    """A missing folder, a folder, an unknown ending, a thing that is no file."""
    data = read(generate())
    (tmp_path / "folder.csv").mkdir()
    for target in ("missing/x.csv", "folder.csv", "x.parquet"):
        with pytest.raises(UsageError):
            write(data, tmp_path / target)
    with pytest.raises(UsageError):
        write(data, 7)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """When writing fails half way the old file stays and no draft is left."""
    target = tmp_path / "x.csv"
    target.write_bytes(b"old")
    calls = iter([b"half", None])

    def broken_pieces(*_: object, **__: object):
        yield ("x", "NEM12"), next(calls)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nemflow.mdff.writer._pieces", broken_pieces)
    with pytest.raises(Exception, match="No space left") as failure:
        write(read(generate()), target)
    assert type(failure.value).__name__ == "SystemFault"
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_long_files_are_written_in_steps_that_do_not_show(monkeypatch: pytest.MonkeyPatch):
    """Whatever the step, the text is the same: 100s, 200s and 900s stay in their places."""
    texts = [
        generate(nmis=3, days=4, service_orders=True),
        generate(days=1),
        b"100,NEM12,,,\r\n900\r\n",
        generate(kind="NEM13", nmis=4),
    ]
    data = read(*texts)
    for step in (1, 2, 3, 8, 24, 25):
        monkeypatch.setattr("nemflow.mdff.writer.ROWS_AT_ONCE", {"NEM12": step, "NEM13": step})
        assert to_text(data) == b"".join(texts), step
