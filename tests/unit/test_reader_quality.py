"""The quality of every interval: 300 flags, 400 spans, methods, reasons, the withdrawn N.

Why: a bill depends on which intervals were measured; a reader that stops at the 300 is silently
wrong. Next: docs/library.md for how it is shown.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from nemflow.mdff.content import canonical
from nemflow.mdff.meterdata import MeterData
from nemflow.mdff.reader import Parser, Text

NOW = datetime(2025, 10, 10, tzinfo=UTC)
HEAD = "100,NEM12,202503060215,MDPEXMPL,RETEXMPL"
STREAM = "200,SASMPL0123,E1,1,E1,N1,EX0000123,kWh,30,"


def day(flag: str, reason: str = "", text: str = "", date: str = "20250305", value: str = "0.5"):
    """A 300 of equal values."""
    return ",".join(["300", date, *[value] * 48, flag, reason, text, "20250306011500", ""])


def feed(*lines: str) -> MeterData:
    """Read a file of these lines under one 200."""
    text = "".join(f"{line}\r\n" for line in (HEAD, STREAM, *lines, "900")).encode()
    return Parser(now=NOW).feed([Text("x.csv", text)])


def runs(data: MeterData) -> list[tuple[int, str, str | None, int | None, str | None]]:
    """Stretches of equal quality: how many intervals, flag, method, reason, text."""
    out: list[list[object]] = []
    columns = ("quality", "method", "reason_code", "reason_text")
    for row in data.readings().select(columns).rows():
        if out and tuple(out[-1][1:]) == row:
            out[-1][0] += 1
        else:
            out.append([1, *row])
    return [tuple(each) for each in out]


A, S = ("A", None, None, None), ("S", "14", 76, None)


@pytest.mark.parametrize(
    ("lines", "expected", "rules"),
    [
        ([day("A")], [(48, *A)], []),
        ([day("S14", "76")], [(48, *S)], []),
        ([day("E52", "77", "no access")], [(48, "E", "52", 77, "no access")], []),
        ([day("V"), "400,1,20,A,,", "400,21,48,S14,76,"], [(20, *A), (28, *S)], []),
        ([day("V"), "400,1,1,A,,", "400,2,2,S14,76,", "400,3,48,F16,0,agreed"],
         [(1, *A), (1, *S), (46, "F", "16", 0, "agreed")], []),
        # a gap has no known quality under V, and the 300's under another flag
        ([day("V"), "400,1,30,A,,", "400,33,48,S14,76,"],
         [(30, *A), (2, "V", None, None, None), (16, *S)], ["Q008"]),
        ([day("A"), "400,5,6,S14,76,"], [(4, *A), (2, *S), (42, *A)], ["Q008", "Q009"]),
        ([day("S14", "76"), "400,1,10,A,,"], [(10, *A), (38, *S)], ["Q008", "Q009"]),
        # where two overlap, the first keeps its intervals
        ([day("V"), "400,1,30,A,,", "400,20,48,S14,76,"], [(30, *A), (18, *S)], ["Q008"]),
        ([day("V"), "400,1,48,A,,", "400,20,30,S14,76,"], [(48, *A)], ["Q008"]),
        ([day("V"), "400,31,48,S14,76,", "400,1,30,A,,"], [(30, *A), (18, *S)], ["Q008"]),
        # ranges that cannot be are left out
        ([day("V"), "400,0,10,A,,", "400,11,48,S14,76,"],
         [(10, "V", None, None, None), (38, *S)], ["Q008"]),
        ([day("A"), "400,49,50,S14,76,"], [(48, *A)], ["Q008"]),
        ([day("V"), "400,1,20,A,,", "400,21,48,V,,"],
         [(20, *A), (28, "V", None, None, None)], ["Q001"]),
        # A stays A with a meter event; 400s explain it
        ([day("A"), "400,1,20,A,,", "400,21,48,A,79,"],
         [(20, *A), (28, "A", None, 79, None)], []),
        ([day("A", "61"), "400,1,48,A,61,tampered"], [(48, "A", None, 61, "tampered")], []),
        ([day("A", "89")], [(48, "A", None, 89, None)], ["Q011"]),
        ([day("V", "76"), "400,1,48,S14,76,"], [(48, *S)], ["Q006"]),
        ([day("A"), "400,1,20,A,,", "400,21,48,E52,,"], [(20, *A), (28, "E", "52", None, None)],
         ["Q009"]),
    ],
)  # fmt: skip
def test_each_interval_has_the_quality_in_force(
    lines: list[str], expected: list[tuple[object, ...]], rules: list[str]
):
    """The 400 that covers it, or else the 300; what is odd is found."""
    data = feed(*lines)
    assert runs(data) == expected
    assert sorted(set(data.findings["rule"])) == sorted(rules)
    assert data.readings()["value"].to_list() == [0.5] * 48


def test_the_300_keeps_its_own_words():
    """``days`` give the 300 as it stands; the 400s are in ``spans``."""
    data = feed(day("V"), "400,1,20,A,,", "400,21,48,S14,76,storm")
    row = data.days.row(0, named=True)
    assert (row["quality_method"], row["quality"], row["method"]) == ("V", "V", None)
    assert row["spans"] == [
        {"start": 1, "end": 20, "quality": "A", "method": None, "reason_code": None,
         "reason_text": None},
        {"start": 21, "end": 48, "quality": "S", "method": "14", "reason_code": 76,
         "reason_text": "storm"},
    ]  # fmt: skip


def test_spans_go_with_their_own_day():
    """Days with and without 400s next to each other, and a 400 never wanders."""
    data = feed(
        day("A", date="20250303"),
        day("V", date="20250304"), "400,1,1,S14,76,", "400,2,48,A,,",
        day("A", date="20250305"),
        day("V", date="20250306"), "400,1,47,A,,", "400,48,48,S14,76,",
    )  # fmt: skip
    assert runs(data) == [(48, *A), (1, *S), (47 + 48 + 47, *A), (1, *S)]


@pytest.mark.parametrize("value", ["0", "", "1.5"])
def test_the_withdrawn_flag_means_that_no_value_is_known(value: str):
    """N before October 2021 is accepted; the content is null whatever the cells hold."""
    data = feed(day("N", date="20200305", value=value))
    assert data.frame_days["rejected_by"].to_list() == [[]]
    assert set(data.findings["rule"]) <= {"Q010"}
    assert data.readings()["quality"].unique().to_list() == ["N"]
    form = canonical(data).row(0, named=True)
    assert (form["missing"], form["weakest"]) == (48, "N")


def test_some_withdrawn_intervals_leave_the_others_known():
    """N in a 400: those intervals count as missing, and no empty cell there is a fault."""
    cells = ["0.5"] * 20 + [""] * 28
    line = ",".join(["300", "20200305", *cells, "V", "", "", "20200306011500", ""])
    data = feed(line, "400,1,20,A,,", "400,21,48,N,,")
    assert data.frame_days["rejected_by"].to_list() == [[]]
    assert canonical(data)["missing"].to_list() == [28]
    elsewhere = feed(line, "400,1,19,A,,", "400,20,20,N,,", "400,21,48,A,,")
    assert elsewhere.frame_days["rejected_by"].to_list() == [["I004"]]


def test_the_weakest_quality_of_a_day_is_known():
    """A before F before S before E before N."""
    ranked = ["A,", "F16,76", "S14,76", "E52,"]
    for one, other in itertools.product(ranked, ranked):
        data = feed(day("V"), f"400,1,20,{one},", f"400,21,48,{other},")
        weakest = max(one, other, key=ranked.index)
        assert canonical(data)["weakest"].to_list() == [weakest[0]]
