"""Values are exactly what the file says: never rounded, never guessed, never shifted.

Why: money is reckoned from them; and the language underneath takes for a number much that is
none. Next: test_content.py and the round trips for what becomes of them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemflow.mdff.content import canonical
from nemflow.mdff.meterdata import MeterData
from nemflow.mdff.reader import Parser, Text

NOW = datetime(2025, 10, 10, tzinfo=UTC)
HEAD = "100,NEM12,202503060215,MDPEXMPL,RETEXMPL"
STREAM = "200,SASMPL0123,E1,1,E1,N1,EX0000123,kWh,30,"
REST = "A,,,20250306011500,"


def day(values: list[str], date: str = "20250305", rest: str = REST) -> str:
    """A 300 that starts with these values and goes on with 1."""
    return ",".join(["300", date, *values, *["1"] * (48 - len(values)), rest])


def feed(*lines: str) -> MeterData:
    """Read a file of these lines."""
    text = "".join(f"{line}\r\n" for line in (HEAD, *lines, "900")).encode()
    return Parser(now=NOW).feed([Text("x.csv", text)])


def first_values(data: MeterData, count: int) -> list[Decimal | None]:
    """The first values of the first day, as decimals."""
    return data.days["values"][0].to_list()[:count]


@pytest.mark.parametrize(
    "value",
    ["0", "0.0", "000.5", ".362", "5.", "18", "0.12345678901234", "123456789012345",
     "123456789012345.12345678901234567890123", "999999999999999.99999999999999999999999",
     "0.00000000000000000000001", "99999999999.9999999", "9999.99999999999999"],
)  # fmt: skip
def test_a_plain_number_is_kept_digit_by_digit(value: str):
    """From nothing before the point to 15 digits before and 23 after it."""
    data = feed(STREAM, day([value]))
    assert first_values(data, 2) == [Decimal(value), Decimal(1)]
    assert "I004" not in set(data.findings["rule"])
    exact = data.readings(exact=True)["value"].to_list()
    assert exact[0] == Decimal(value)
    assert data.frame_days["rejected_by"].to_list() == [[]]


@pytest.mark.parametrize(
    ("value", "rule"),
    [("nan", "I004"), ("NaN", "I004"), ("inf", "I004"), ("sNaN", "I004"), ("1e999999", "I004"),
     ("1.2E-1", "I004"), ("+5", "I004"), ("1_0", "I004"), ("\uff11\uff12", "I004"),
     ("\u0661", "I004"), ("\u00b2", "I004"), ("1\x005", "I004"), ("\x00", "I004"),
     ("0x1F", "I004"), ("1 000", "I004"), ("1.2.3", "I004"), (".", "I004"), ("-", "I004"),
     ("--1", "I004"), ("1'000", "I004"), ("0,5 kWh", "I001"), ("", "I004"), (" ", "I004"),
     ("1234567890123456", "I014"), ("0.123456789012345678901234", "I014")],
)  # fmt: skip
def test_what_is_no_plain_number_is_null_and_rejects_the_day(value: str, rule: str):
    """Never a guess, never 0; the other values of the day stay in their places."""
    data = feed(STREAM, day(["7.25", value, "8.5"]))
    assert rule in set(data.findings["rule"])
    assert rule in data.quarantine["rules"][0]
    if rule != "I001":
        assert first_values(data, 4) == [Decimal("7.25"), None, Decimal("8.5"), Decimal(1)]
        assert data.readings()["value"].to_list()[:3] == [7.25, None, 8.5]


def test_a_negative_value_is_read_as_it_is():
    """It is rejected (I005), but it is known what it was."""
    data = feed(STREAM, day(["-0.5", "-.25"]))
    assert first_values(data, 2) == [Decimal("-0.5"), Decimal("-0.25")]
    assert data.frame_days["rejected_by"].to_list() == [["I005"]]


def test_a_stray_quote_swallows_nothing():
    """An open quote in one line says nothing of the lines after it."""
    text = day(["1"], rest='S14,0,5" pipe,20250306011500,')
    data = feed(STREAM, text, day(["2"], "20250306"), day(["3"], "20250307"))
    assert data.frame_days["day"].len() == 3
    assert data.frame_days["reason_text"].to_list()[0] == '5" pipe'
    assert set(data.findings["rule"]) == {"F016"}


def test_days_of_different_precision_share_one_scale():
    """Every width of number in one file: each day keeps its own values, in file order."""
    values = ["0.5", "0.1234567", "0.12345678901234", "123456789012345.5",
              "0.12345678901234567890123", "3"]  # fmt: skip
    days = [day([value], f"2025030{n}") for n, value in enumerate(values, 1)]
    data = feed(STREAM, *days)
    assert [row[0] for row in data.days["values"].to_list()] == [Decimal(v) for v in values]
    assert data.scale == 23
    assert data.frame_days.schema["values"] == pl.List(pl.Int128)
    assert data.frame_days["line"].to_list() == [3, 4, 5, 6, 7, 8]
    assert data.readings()["value"].to_list()[0] == 0.5


def test_concatenation_brings_both_to_one_scale_without_rounding():
    """Int64 becomes Int128 where a finer scale asks for it."""
    coarse = feed(STREAM, day(["999999999999999.125"]))
    fine = feed(STREAM, day(["0.00000000000000000000001"]))
    assert coarse.frame_days.schema["values"] == pl.List(pl.Int64)
    both = MeterData.concat([coarse, fine])
    assert [row[0] for row in both.days["values"].to_list()] == [
        Decimal("999999999999999.125"), Decimal("0.00000000000000000000001"),
    ]  # fmt: skip


numbers = st.tuples(st.integers(0, 10**15 - 1), st.text("0123456789", max_size=23)).map(
    lambda parts: f"{parts[0]}.{parts[1]}".rstrip(".")
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.lists(numbers, min_size=1, max_size=4), min_size=1, max_size=4))
def test_any_numbers_come_back_exactly(days: list[list[str]]):
    """Whatever stands beside them; a float is the one nearest to the text, as Python reads it."""
    data = feed(STREAM, *(day(v, f"2025030{n}") for n, v in enumerate(days, 1)))
    got = [row[: len(v)] for row, v in zip(data.days["values"].to_list(), days, strict=True)]
    assert got == [[Decimal(value) for value in values] for values in days]
    floats = data.readings()["value"].to_list()
    for n, values in enumerate(days):
        assert floats[n * 48 : n * 48 + len(values)] == [float(value) for value in values]
    form = canonical(data)
    for ints, scale, values in zip(form["ints"], form["scale"], days, strict=True):
        kept = [Fraction(int(n), 10**scale) for n in ints.strip("[]").split(",")]
        assert kept[: len(values)] == [Fraction(value) for value in values]


# ---------------------------------------------------------------- the content and its hash


def hash_of(*lines: str, **parser: object) -> str:
    """The content hash of the last day."""
    return feed(*lines).days["content_hash"][-1]


RIGHT = [STREAM, day(["0.5", "0.25"])]


def test_the_hash_is_of_the_content_not_of_its_spelling():
    """Zeros, company, order, stamps and where it stood make no difference."""
    wanted = hash_of(*RIGHT)
    assert hash_of(STREAM, day(["0.500", ".25"])) == wanted
    assert hash_of(STREAM, day(["000.5", "0.2500000000000000000000"])) == wanted
    assert hash_of(STREAM, day(["0.12345678901234567890123"], "20250304"), RIGHT[1]) == wanted
    assert hash_of(STREAM, day(["123456789012345"], "20250304"), RIGHT[1]) == wanted
    assert (
        hash_of(STREAM, day(["0.5", "0.25"], rest="a,, ,20250307011500,20250307011501")) == wanted
    )
    assert hash_of(STREAM.replace("EX0000123", "EX9").replace("kWh", "KWH"), RIGHT[1]) == wanted
    text = "".join(f"{line}\r\n" for line in (HEAD, *RIGHT, "900")).encode()
    parser = Parser(now=NOW)
    chunk = next(parser.chunks(Text("x", text), 100))
    assert chunk.days.is_empty() or chunk.days["content_hash"][0] == wanted
    together = parser.feed([Text("y", text.replace(b"0.5,", b"0.0000001,")), Text("x", text)])
    assert together.days["content_hash"][1] == wanted


def test_a_day_of_zeros_is_the_same_at_every_scale():
    """Also where the scale is beyond what ten to its power fits into 64 bits."""
    zeros = day(["0"] * 48)
    fine = day(["0." + "0" * 23] * 48)
    assert hash_of(STREAM, zeros) == hash_of(STREAM, fine)
    assert canonical(feed(STREAM, fine))["missing"].to_list() == [0]


def test_the_hash_changes_with_everything_that_is_content():
    """Value, place, quality, method, reason, text, span, unit and interval length."""
    varied = "V,,,20250306011500,"
    spans = ["400,1,20,A,,", "400,21,48,S14,76,"]
    variants = [
        RIGHT,
        [STREAM, day(["0.5", "0.26"])],
        [STREAM, day(["0.25", "0.5"])],
        [STREAM, day(["0.5", ""])],
        [STREAM, day(["5", "2.5"] + ["10"] * 46)],
        [STREAM, day(["0.5", "0.25"], rest="S14,76,,20250306011500,")],
        [STREAM, day(["0.5", "0.25"], rest="S15,76,,20250306011500,")],
        [STREAM, day(["0.5", "0.25"], rest="F14,76,,20250306011500,")],
        [STREAM, day(["0.5", "0.25"], rest="S14,43,,20250306011500,")],
        [STREAM, day(["0.5", "0.25"], rest="S14,0,storm,20250306011500,")],
        [STREAM, day(["0.5", "0.25"], rest="S14,0,flood,20250306011500,")],
        [STREAM, day(["0.5", "0.25"], rest=varied), *spans],
        [STREAM, day(["0.5", "0.25"], rest=varied), "400,1,21,A,,", "400,22,48,S14,76,"],
        [STREAM, day(["0.5", "0.25"], rest=varied), spans[0], "400,21,48,S14,0,\u00e9 \\ x"],
        [STREAM.replace("kWh", "Wh"), RIGHT[1]],
        [STREAM.replace(",30,", ",15,"), "300,20250305," + "0.5," * 96 + REST],
        [STREAM.replace(",30,", ",5,"), "300,20250305," + "0.5," * 288 + REST],
    ]
    hashes = [hash_of(*lines) for lines in variants]
    assert len(set(hashes)) == len(variants)
    assert all(len(each) == 32 for each in hashes)


def test_the_hash_of_a_register_read_is_of_its_content():
    """Trailing zeros of a quantity make no difference, those of a whole number do."""
    period = ("250,SASMPL0123,11,1,11,11,EX1,E,000100,20250101000001,A,,,000200,20250401000001,"
              "A,,,{},kWh,20250701,20250402010000,")  # fmt: skip

    def hashed(*quantities: str) -> list[str]:
        head = HEAD.replace("NEM12", "NEM13")
        text = "\r\n".join([head, *(period.format(q) for q in quantities), "900", ""]).encode()
        return Parser(now=NOW).feed([Text("x", text)]).register_reads["content_hash"].to_list()

    [ten], [hundred] = hashed("10"), hashed("100")
    assert ten != hundred
    assert hashed("100.00", "10.000", "0.5") == [hundred, ten, *hashed("0.50")]


def _spelt(number: int, decimals: int) -> str:
    return f"{Decimal(number).scaleb(-decimals):.{decimals}f}"


@settings(max_examples=150, deadline=None)
@given(
    days=st.lists(
        st.tuples(
            st.integers(0, 4),  # decimals of every value of the day
            st.lists(st.integers(0, 10**14), min_size=2, max_size=5),
            st.integers(-2, 2),  # values too many, or too few
        ),
        min_size=1,
        max_size=12,
    )
)
def test_days_written_alike_are_read_like_all_others(days: list[tuple[int, list[int], int]]):
    """Values with one number of decimals take a quicker way: nothing shifts from day to day.

    Days with too many or too few values stand between them; they are findings, and the others
    are what they would be alone.
    """
    lines, expected = [], []
    for place, (decimals, numbers, off) in enumerate(days):
        cells = [_spelt(numbers[n % len(numbers)], decimals) for n in range(48 + off)]
        date = f"202501{place + 1:02d}"
        lines.append(",".join(["300", date, *cells, "A", "", "", "20250301011500", ""]))
        if off == 0:
            expected.append((date, [Decimal(cell) for cell in cells]))
    data = feed(STREAM, *lines)
    got = data.days.select(pl.col("day").dt.strftime("%Y%m%d"), "values").rows()
    assert got == expected
    broken = data.findings.filter(pl.col("rule") == "I001").height
    assert broken == sum(off != 0 for _, _, off in days)


def test_compact_readings_say_the_same():
    """Categorical texts are a matter of memory, not of content."""
    events = ["400,1,20,A,,", "400,21,48,S14,79,Meter fault"]
    data = feed(STREAM, day(["1.5"], rest="V,,,20250306011500,"), *events)
    plain, compact = data.readings(), data.readings(compact=True)
    assert compact.schema["nmi"] == pl.Categorical
    assert compact.cast({pl.Categorical: pl.String}).equals(plain)
