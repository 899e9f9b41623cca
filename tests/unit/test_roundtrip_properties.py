"""Reading and writing are each other's inverse, for any generated file and many broken ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from nemflow.mdff.generate import BREAKABLE, generate
from nemflow.mdff.meterdata import MARKET, MeterData
from nemflow.mdff.reader import Parser, Text
from nemflow.mdff.writer import to_text

NOW = datetime(2031, 1, 1, tzinfo=UTC)
#: Where a record stood says nothing of its content; what kept a day out of a load may be a
#: flaw of the layout that writing heals.
PLACES = ["source", "line", "block", "parent_line", "rejected_by"]
#: Files without a readable day, and files whose text is not ASCII (which the writer is).
NOT_READ_BACK = {"F001", "F003", "F012", "F018"}

some = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking whole files takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)

suffixes = st.lists(
    st.sampled_from(["E1", "E2", "B1", "Q1", "K1", "T1", "G1", "V1", "A1"]),
    min_size=1,
    max_size=3,
    unique=True,
)
moments = st.datetimes(datetime(2005, 1, 1), datetime(2025, 12, 30))  # noqa: DTZ001
common = {
    "nmis": st.integers(1, 2),
    "days": st.integers(1, 3),
    "start": st.dates(date(1999, 1, 1), date(2025, 1, 1)),
    "seed": st.integers(0, 2**63),
    "substituted": st.sampled_from([0.0, 0.4, 1.0]),
    "service_orders": st.booleans(),
    "file_at": st.none() | moments,
    "update_at": st.none() | moments,
}
interval_files = st.fixed_dictionaries(
    common
    | {
        "interval": st.sampled_from([5, 15, 30, (5, 30), (30, 15, 5)]),
        "streams": suffixes,
        "decimals": st.integers(0, 4),
    }
)
register_files = st.fixed_dictionaries(
    common
    | {
        "kind": st.just("NEM13"),
        "days": st.integers(1, 700),
        "streams": st.sampled_from([("11",), ("11", "41"), ("71", "12")]),
    }
)
files = interval_files | register_files


def read(text: bytes, profile: str = "portal") -> MeterData:
    """Read one text."""
    return Parser(profile=profile, now=NOW).feed([Text("x.csv", text)])


def assert_same(one: MeterData, other: MeterData) -> None:
    """Insist on equal days, readings, reads and events, whatever lines they stood on."""
    exact = {"values": pl.List(pl.Decimal(38, 23)), "quantity": pl.Decimal(38, 23)}
    for name in ("days", "register_reads", "service_events"):
        frames = []
        for data in (one, other):
            frame = getattr(data, name)
            frame = frame.drop(column for column in PLACES if column in frame.columns)
            digits = {column: exact[column] for column in frame.columns if column in exact}
            frames.append(frame.cast(digits))
        assert_frame_equal(*frames)
    left, right = (data.readings().drop("source", "rejected_by") for data in (one, other))
    assert_frame_equal(left, right)


@some
@given(files)
def test_writing_what_was_read_from_a_generated_file_gives_the_same_bytes(
    options: dict[str, object],
):
    """Generated files are canonical, and canonical files survive unchanged."""
    text = generate(**options)
    assert to_text(read(text)) == text


@some
@given(interval_files | register_files, st.data())
def test_reading_what_was_written_gives_the_same_data(
    options: dict[str, object], data: st.DataObject
):
    """For broken files too: nothing that was read is lost or changed by writing it."""
    kind = str(options.get("kind", "NEM12"))
    rules = sorted(
        rule for rule, kinds in BREAKABLE.items() if kind in kinds and rule not in NOT_READ_BACK
    )
    broken = data.draw(st.lists(st.sampled_from(rules), max_size=6, unique=True))
    first = read(generate(**options, break_it=broken))
    assume(not first.headers.is_empty())
    written = to_text(first)
    second = read(written)
    assert_same(first, second)
    assert to_text(second) == written


ODDITIES = [b"", b" ", b"-1", b"0", b"1e5", b"A", b"V", b"N", b"S14", b" e52", b"20250101", b"61"]
ODDITIES += [b"202501010000", b"2025-01-01T01:02:03", b"00.10", b".5", b"6.", b"+1", b'"q"', b"KWH"]
ODDITIES += [b"1234567890123456", b"0.123456789012345678", b"300", b"900", b"E1", b"5", b"a" * 300]


@some
@given(files, st.lists(st.tuples(st.integers(0), st.integers(), st.sampled_from(ODDITIES))))
def test_whatever_stands_in_a_field_survives_writing(
    options: dict[str, object], changes: list[tuple[int, int, bytes]]
):
    """Fields overwritten at random: what can be read of it is read again after writing."""
    lines = generate(**options).split(b"\r\n")
    for line, place, odd in changes:
        fields = lines[line % len(lines)].split(b",")
        fields[place % len(fields)] = odd
        lines[line % len(lines)] = b",".join(fields)
    first = read(b"\r\n".join(lines))
    # A 500 under a 250, or a 550 under a 300, has no place in either kind of file.
    assume(not first.headers.is_empty() and "F004" not in first.findings["rule"])
    written = to_text(first)
    second = read(written)
    assert_same(first, second)
    assert to_text(second) == written


ODD_TEXTS = {
    "spaces, lower case, LF": lambda t: t.replace(b",A,", b", a ,").replace(b"\r\n", b"\n"),
    "padding": lambda t: t.replace(b"900\r\n", b"900,,,,\r\n").replace(b"kWh,30,", b"kWh,30,,,,"),
    "no header": lambda t: t.split(b"\r\n", 1)[1],
    "no end": lambda t: t[:-5],
    "a header with seconds": lambda t: t.replace(b"202501100430", b"20250110043021"),
    "no header time": lambda t: t.replace(b"202501100430", b""),
    "long decimals": lambda t: t.replace(b"0.1,", b"0.10000000000000,", 1),
    "no leading zero": lambda t: t.replace(b",0.", b",."),
    "stamps of 12 digits": lambda t: t.replace(b",20250110012137,", b",202501100121,"),
    "no stamps": lambda t: t.replace(b",20250110012137,", b",,"),
    "leading zeros": lambda t: t.replace(b",30,", b",030,").replace(b",76,", b",076,"),
    "lower units": lambda t: t.replace(b"kWh", b"KWH"),
    "two blocks": lambda t: t + t.replace(b"SASMPL0001", b"SASMPL0002"),
    "missing values": lambda t: t.replace(b",0,0,", b",,0,"),
    "negative values": lambda t: t.replace(b",0.", b",-0."),
    "quoted": lambda t: t.replace(b"SASMPL0001", b'"SASMPL0001"'),
    "unknown codes": lambda t: t.replace(b",N,", b",X,").replace(b",A,,,", b",A,57,odd,"),
}


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_odd_files_are_written_in_canonical_form_without_loss(name: str):
    """What is tolerated on reading is gone after writing; what was said is still there."""
    text = generate(
        days=9, start=date(2025, 1, 1), estimated=0.3, substituted=0.3, service_orders=True
    )
    odd = ODD_TEXTS[name](text)
    assert odd != text
    first = read(odd)
    written = to_text(first)
    assert_same(first, read(written))
    assert to_text(read(written)) == written


def test_needless_zeros_of_a_quantity_do_not_survive():
    """A Quantity of 561.000 is one of 561: the same content, written the short way."""
    text = generate(kind="NEM13", days=365)
    first = read(text.replace(b",kWh,", b".000,kWh,"))
    assert to_text(first) == text
    assert_same(first, read(text))


@some
@given(files, st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 1000))
def test_a_correction_is_a_later_version_of_the_same_days(
    options: dict[str, object], share: float, seed: int
):
    """Newer header; changed days are newer and differ, the others are as they were."""
    estimated = {"estimated": 0.0 if options["substituted"] else 0.7}
    text = generate(**options, **estimated)
    later_text = generate(corrections_of=text, corrected=share, seed=seed)
    before, after = read(text), read(later_text)
    assert later_text == to_text(after)
    assert set(after.findings["rule"]) <= set(before.findings["rule"])
    assert after.headers["file_at"][0] > before.headers["file_at"][0]
    days = [
        frame.select("nmi", "suffix", "day", "values", "version_at", "quality", "spans")
        for frame in (before.days, after.days)
    ]
    assert_frame_equal(*(frame.select("nmi", "suffix", "day") for frame in days))
    exact = pl.List(pl.Decimal(38, 4))
    same_values = days[0]["values"].cast(exact) == days[1]["values"].cast(exact)
    same_stamp = days[0]["version_at"] == days[1]["version_at"]
    assert same_values.to_list() == same_stamp.to_list()
    assert (days[0]["version_at"] <= days[1]["version_at"]).all()
    if share in (0.0, 1.0):
        assert set(same_stamp) <= {share == 0.0}
    flags = after.days.filter(~same_stamp)["spans"].explode(empty_as_null=False)
    assert not flags.len() or not set(flags.struct.field("quality")) & {"E", "S"}


def test_corrections_can_be_made_of_what_was_read_and_again():
    """MeterData will do as well as bytes, and a correction can be corrected."""
    text = generate(days=3, estimated=1.0)
    data = read(text)
    once = generate(corrections_of=data)
    assert once == generate(corrections_of=text)
    twice = generate(corrections_of=once, file_at=datetime(2025, 5, 1, 6))  # noqa: DTZ001
    assert twice.startswith(b"100,NEM12,202505010600,MDPEXMPL,RETEXMPL\r\n")
    versions = [read(each).days["version_at"].min() for each in (text, once, twice)]
    assert versions == sorted(set(versions))


def test_a_corrected_estimate_of_a_register_is_a_read():
    """NEM13: dial and Quantity move together, the date stays, the estimate is gone."""
    before = read(generate(kind="NEM13", nmis=4)).register_reads
    after = read(generate(corrections_of=generate(kind="NEM13", nmis=4))).register_reads
    tail = before["current_quality_method"] == "E65"
    for name in ("current_read", "quantity"):
        numbers: Sequence[pl.Series] = [frame[name].cast(pl.Int64) for frame in (before, after)]
        more = numbers[1] - numbers[0]
        assert (more.filter(tail) > 0).all()
        assert (more.filter(~tail) == 0).all()
    assert set(after["current_quality_method"]) == {"A"}
    spread = (after["current_at"] - before["current_at"]).filter(tail)
    assert spread.is_between(timedelta(hours=6), timedelta(hours=18)).all()
    assert after.schema["current_at"] == pl.Datetime("us", MARKET)
