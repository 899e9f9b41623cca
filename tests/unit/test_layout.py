"""The eight records are written down rightly, in patterns that Python and polars read alike."""

from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemflow.mdff import layout
from nemflow.mdff.layout import RECORDS

FIELDS = [(r.indicator, f) for r in RECORDS.values() for f in r.fields]
PATTERNS = sorted({field.pattern for _, field in FIELDS} | {layout.REASON})


def matches(pattern: str, text: str) -> bool:
    """True when Python matches the whole text."""
    return re.fullmatch(pattern, text, re.ASCII) is not None


def test_records_have_the_right_number_of_fields() -> None:
    """5, 10, 7 + N, 6, 5, 23, 5 and 1."""
    widths = {name: record.width(48) for name, record in RECORDS.items()}
    assert widths == {
        "100": 5, "200": 10, "300": 55, "400": 6, "500": 5, "250": 23, "550": 5, "900": 1
    }  # fmt: skip
    assert [RECORDS["300"].width(n) for n in (48, 96, 288)] == [55, 103, 295]


def test_the_250_names_its_23_fields_in_order() -> None:
    """Names as the format gives them."""
    assert RECORDS["250"].names() == (
        "RecordIndicator", "NMI", "NMIConfiguration", "RegisterID", "NMISuffix",
        "MDMDataStreamIdentifier", "MeterSerialNumber", "DirectionIndicator",
        "PreviousRegisterRead", "PreviousRegisterReadDateTime", "PreviousQualityMethod",
        "PreviousReasonCode", "PreviousReasonDescription", "CurrentRegisterRead",
        "CurrentRegisterReadDateTime", "CurrentQualityMethod", "CurrentReasonCode",
        "CurrentReasonDescription", "Quantity", "UOM", "NextScheduledReadDate", "UpdateDateTime",
        "MSATSLoadDateTime",
    )  # fmt: skip


def test_a_300_names_each_interval() -> None:
    """IntervalValue1 is the third field, the quality stands after the last value."""
    names = RECORDS["300"].names(288)
    assert names[2] == "IntervalValue1"
    assert names[289:291] == ("IntervalValue288", "QualityMethod")
    assert names[-1] == "MSATSLoadDateTime"


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.indicator)
def test_a_record_begins_with_its_own_indicator(record: layout.Record) -> None:
    """The first field is mandatory and matches nothing but the record's number."""
    first = record.fields[0]
    assert first.requirement == "M"
    assert matches(first.pattern, record.indicator)
    assert sum(matches(first.pattern, other) for other in RECORDS) == 1
    assert len(set(record.names(3))) == record.width(3)


@pytest.mark.parametrize(("indicator", "field"), FIELDS)
def test_every_field_is_described(indicator: str, field: layout.Field) -> None:
    """A type, a requirement of the known letters, and a length where the format has one."""
    assert set(field.requirement.split("/")) <= set(layout.REQUIREMENTS)
    assert field.type
    given_length = re.search(r"\((\d+)\)", field.type)
    assert field.max_length == (int(given_length[1]) if given_length else None)
    assert field.pattern.startswith("^")
    assert field.pattern.endswith("$")
    assert not matches(field.pattern, ""), "an empty field is no filled field"
    assert not matches(field.pattern, ","), "no field may hold a comma"


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("0159 .-+eE,AVESFnNkWh\t\n\0²１é", max_size=12), min_size=1, max_size=20))
def test_patterns_mean_the_same_in_python_and_polars(pattern: str, texts: list[str]) -> None:
    """Whatever the text, both engines agree, so that a check may use either."""
    in_polars = pl.Series(texts, dtype=pl.String).str.contains(pattern).to_list()
    assert in_polars == [matches(pattern, text) for text in texts]


@pytest.mark.parametrize("text", ["0", "18", "18.", ".362", "0.125", "123456789012345.1234567",
                                  "0.22700000000001", "000.10"])  # fmt: skip
def test_plain_decimals_are_numbers(text: str) -> None:
    """Also without a leading zero, and with as many decimals as a sender likes."""
    assert matches(layout.NUMBER, text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "-1", "+5", "1e3", "1E-3", "1e999999", "nan", "NaN", "inf", "1_0", " 1", "1 ", "1\n",
     "0x1", "１２", "1.2.3", "1234567890123456", "1,2", "\x001"],
)  # fmt: skip
def test_what_looks_like_a_number_but_is_not_is_refused(text: str) -> None:
    """Signs, exponents, words, blanks, digits of other scripts, too many digits."""
    assert not matches(layout.NUMBER, text)


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (layout.DATE8, "20250305", "2025-03-05"),
        (layout.DATE8, "20250305", "2.02503E+7"),
        (layout.DATETIME12, "202503060215", "20250306021500"),
        (layout.DATETIME14, "20250306011500", "200312200000001"),
        (layout.QUALITY_300, "V", "N"),
        (layout.QUALITY_300, "S14", "S1"),
        (layout.QUALITY_300, "A", "A14"),
        (layout.QUALITY_300, "E52", "e52"),
        (layout.QUALITY_400, "F17", "V"),
        (layout.QUALITY_PREVIOUS, "S62", "E62"),
        (layout.INTERVAL_LENGTH, "5", "05"),
        (layout.INTERVAL_LENGTH, "30", "60"),
        (layout.INTERVAL_NUMBER, "288", "0"),
        (layout.INTERVAL_NUMBER, "0001", "00001"),
        (layout.REGISTER_READ, "000021.2", "1234 kWh"),
        (layout.REGISTER_READ, "0", "."),
        (layout.REASON, "109", "1000"),
        (layout.SUFFIX, "E1", "E0"),
        (layout.TRANS_CODE, "N", "X"),
        (layout.PARTICIPANT, "MDPEXMPL", "MDP EXMPL"),
    ],
)
def test_patterns_take_the_right_and_leave_the_wrong(pattern: str, right: str, wrong: str) -> None:
    """One good and one bad spelling for each kind of field."""
    assert matches(pattern, right)
    assert not matches(pattern, wrong)
