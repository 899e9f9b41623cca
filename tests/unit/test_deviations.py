"""Every deviation is treated as its row in the catalogue says, under both profiles.

Each case is a small file that leaves the specification in one way. What is expected is written
``accepted findings``: how many days or register reads a load would take, then each rule that is
reported with its severity.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

import nemflow
from nemflow.errors import FileRefused
from nemflow.mdff.rules import DEVIATIONS

R100 = "100,NEM12,{at},MDPEXMPL,RETEXMPL\r\n"
R200 = "200,SASMPL0123,{conf},{register},E1,{stream},{serial},{uom},{length},{next_read}\r\n"
R300 = "300,{day},{values},{quality},{update},{msats}\r\n"
R250 = (
    "250,SASMPL0123,11,1,11,11,EX0000123,{direction},000100,{before},A,,,000200,{now},{quality},"
    ",,{quantity},kWh,20250701,{update},\r\n"
)


def nem12(**given: str) -> str:
    """A right file of one 30-minute day, with single fields or whole parts replaced."""
    count = int(given.pop("count", "48"))
    first = given.pop("first", "0.227")
    fields = {
        "at": "202503060215", "conf": "E1", "register": "1", "stream": "N1",
        "serial": "EX0000123", "uom": "kWh", "length": "30", "next_read": "", "day": "20250305",
        "quality": "A,,", "update": "20250306011500", "msats": "",
        "values": ",".join([first] + ["0.1"] * (count - 1)),
        "head": R100, "stream_row": R200, "day_row": R300, "events": "", "end": "900\r\n",
    } | given  # fmt: skip
    whole = "".join(fields[part] for part in ("head", "stream_row", "day_row", "events", "end"))
    return whole.format_map(fields)


def nem13(**given: str) -> str:
    """A right file of one register read, with single fields replaced."""
    fields = {
        "direction": "E", "before": "20250101000001", "now": "20250401000001", "quality": "A",
        "quantity": "100", "update": "20250402010000",
    } | given  # fmt: skip
    head = R100.replace("NEM12", "NEM13").format(at="202504060215")
    return head + R250.format_map(fields) + "900\r\n"


def line(number: int, **given: str) -> str:
    """One line of a file."""
    return nem12(**given).splitlines(keepends=True)[number]


VALUES = "0.1," * 48
# deviation | what is odd about it | the file | under portal | under b2b
CASES = [
    ("D01", "no 100", nem12(head=""), "1 F002W", "0 F002F"),
    ("D02", "no 900", nem12(end=""), "1 F006W", "0 F006F"),
    ("D02", "cut off", nem12(end="300,20250306,0.1,0."),
     "1 F006W F014W I001D", "0 F006F F014W I001D"),
    ("D03", "two blocks", nem12() + nem12(day="20250304"), "2 F006W", "0 F006F"),
    ("D03", "two 100s", line(0) + nem12(), "1 F005W", "0 F005F"),
    ("D03", "blank line first", "\r\n" + nem12(), "1 F013W", "1 F013W"),
    ("D04", "200 after the 900", nem12() + nem12(head="", day="20250304"), "2 F006W", "0 F006F"),
    ("D05", "blank lines", nem12(end="\r\n  \r\n900\r\n"), "1 F013W", "1 F013W"),
    ("D06", "LF", nem12().replace("\r", ""), "1 F014W", "1 F014W"),
    ("D06", "no last line end", nem12(end="900"), "1 F014W", "1 F014W"),
    ("D07", "byte order mark", "\ufeff" + nem12(), "1 F012W", "1 F012W"),
    ("D08", "9 fields", nem12(stream_row=R200.replace(",{next_read}", "")), "1 N010W", "0 N010D"),
    ("D09", "no MSATS stamp", nem12(day_row=R300.replace(",{msats}", "")), "1 I010W", "0 I010D"),
    ("D09", "no tail", nem12(day_row=f"300,20250305,{VALUES}A\r\n"),
     "1 I008W I010W", "0 I008W I010D"),
    ("D10", "padded", nem12(head=R100.replace("\r", ",,,,\r")), "1 F015W", "1 F015W"),
    ("D11", "commas on the 900", nem12(end="900,,,\r\n"), "1 F015W", "1 F015W"),
    ("D12", "12-digit stamp", nem12(update="202503060115"), "1 I008W", "1 I008W"),
    ("D13", "day", nem12(day="2.02503E+7"), "0 I016D", "0 I016D"),
    ("D13", "update", nem12(update="2.02503E+13"), "0 I016D", "0 I016D"),
    ("D13", "header", nem12(at="2.02503E+11"), "1 F007W", "0 F007F"),
    ("D13", "MSATS stamp", nem12(msats="2.02503E+13"), "1 I011W", "1 I011W"),
    ("D13", "next read", nem12(next_read="2.02503E+7"), "1 N014W", "1 N014W"),
    ("D13", "register read", nem13(before="2.02501E+13"), "0 A008D", "0 A008D"),
    ("D14", "day", nem12(day="2025-03-05"), "1 I015W", "0 I015D"),
    ("D14", "update", nem12(update="2025-03-06T01:15:00+10:00"), "1 I008W", "1 I008W"),
    ("D14", "header", nem12(at="20250306021500"), "1 F007W", "0 F007F"),
    ("D15", "no date", nem12(at=""), "1 F007W", "0 F007F"),
    ("D15", "no sender", nem12(head=R100.replace("MDPEXMPL", "")), "1 F007W", "0 F007F"),
    ("D16", "40 values", nem12(count="40"), "0 I001D", "0 I001D"),
    ("D17", "no value", nem12(day_row="300,20250305,V,,,20250306011500,\r\n"),
     "0 I001D", "0 I001D"),
    ("D18", "empty value", nem12(first=""), "0 I004D", "0 I004D"),
    ("D19", "15 minutes, 48 values", nem12(length="15"), "0 I001D", "0 I001D"),
    ("D20", "05", nem12(length="05", count="288"), "1 N016W", "1 N016W"),
    ("D20", "60", nem12(length="60", count="24"), "0 N007D", "0 N007D"),
    ("D21", "three lines", nem12(day_row=f"300,20250305,\r\n{VALUES}\r\nA,,,20250306011500,\r\n"),
     "0 I012D", "0 I012D"),
    ("D22", "minus 100", nem13(direction="I", quantity="-100"), "1 A004W", "0 A004D"),
    ("D23", "KWH", nem12(uom="KWH"), "1", "1"),
    ("D23", "no unit", nem12(uom=""), "0 N005D", "0 N005D"),
    ("D24", "stream E1", nem12(stream="E1"), "1", "1"),
    ("D24", "no stream", nem12(stream=""), "1", "1 N008W"),
    ("D25", "no configuration", nem12(conf=""), "1 N003W", "0 N003D"),
    ("D25", "without the suffix", nem12(conf="E2"), "1 N003W", "0 N003D N009W"),
    ("D26", "no register", nem12(register=""), "1", "1 N008W"),
    ("D26", "long serial", nem12(serial="EX00001234567"), "1 N013W", "1 N013W"),
    ("D27", ".362", nem12(first=".362"), "1", "1"),
    ("D27", "18", nem12(first="18"), "1", "1"),
    ("D27", "14 decimals", nem12(first="0.22700000000001"), "1 I006W", "1 I006W"),
    ("D28", "next read in 2005", nem12(next_read="20050101"), "1", "1"),
    ("D29", "400 under A", nem12(events="400,1,48,A,,\r\n"), "1 Q009W", "1 Q009W"),
    ("D29", "gap under A", nem12(events="400,1,40,A,,\r\n"), "1 Q008W Q009W", "1 Q008W Q009W"),
    ("D29", "V in a 400", nem12(quality="V,,", events="400,1,48,V,,\r\n"), "0 Q001D", "0 Q001D"),
    ("D29", "T in a 400", nem12(quality="V,,", events="400,1,48,T,,\r\n"), "0 Q001D", "0 Q001D"),
    ("D29", "N in a 400", nem12(quality="V,,", events="400,1,48,N,,\r\n"), "1 Q010W", "1 Q010W"),
    ("D30", "space before the day", nem12(day=" 20250305"), "1 F017W", "1 F017W"),
    ("D31", "15 digits", nem12(update="200312200000001"), "1 I008W", "1 I008W"),
    ("D32", "equal rows", nem12(events=line(2)), "2 I009W", "2 I009W"),
    ("D32", "other values", nem12(events=line(2, first="9")), "0 I009D", "0 I009D"),
    ("D32", "later stamp", nem12(events=line(2, update="20250306020000")), "2", "2"),
    ("D34", "right check digit", nem12().replace("0123,E1", "01231,E1"), "1 N011W", "1 N011W"),
    ("D34", "wrong check digit", nem12().replace("0123,E1", "01239,E1"), "0 N012D", "0 N012D"),
    ("D36", "B", nem13(direction="B"), "1 A006W", "0 A006D"),
    ("D37", "A and A,79", nem12(quality="V,,", events="400,1,40,A,,\r\n400,41,48,A,79,\r\n"),
     "1", "1"),
    ("D39", "E64", nem13(quality="E64", now="20250701000000"), "1 Q003W", "1 Q003W"),
    ("D40", "quoted NMI", nem12().replace("SASMPL0123", '"SASMPL0123"'), "1 F016W", "0 F016D"),
    ("D41", "day", nem12(day="05/03/2025"), "0 I002D", "0 I002D"),
    ("D41", "update", nem12(update="06/03/2025 01:15"), "1 I008W", "1 I008W"),
    ("D41", "header", nem12(at="06/03/2025 02:15"), "1 F007W", "0 F007F"),
    ("D41", "MSATS stamp", nem12(msats="06/03/2025"), "1 I011W", "1 I011W"),
    ("D41", "next read", nem12(next_read="01/05/2025"), "1 N014W", "1 N014W"),
    ("D41", "register read", nem13(now="01/04/2025"), "0 A008D", "0 A008D"),
]  # fmt: skip
#: Tested further down, because a file's name, a zip or a refusal is what matters.
APART = {"D33", "D35", "D38"}


def outcome(data: nemflow.MeterData) -> str:
    """What a load would take, and what is reported."""
    taken = sum(
        frame["rejected_by"].list.len().eq(0).sum() for frame in (data.days, data.register_reads)
    )
    found = data.findings.select("rule", "severity").unique().sort("rule").rows()
    return " ".join([str(taken), *(rule + letter for rule, letter in found)])


@pytest.mark.parametrize(
    ("text", "portal", "b2b"),
    [case[2:] for case in CASES],
    ids=[f"{case[0]} {case[1]}" for case in CASES],
)
def test_a_deviation_is_treated_as_the_catalogue_says(text: str, portal: str, b2b: str) -> None:
    """What is taken and what is reported, under each profile."""
    raw = text.encode()
    assert outcome(nemflow.read(raw, profile="portal")) == portal
    assert outcome(nemflow.read(raw, profile="b2b")) == b2b


def test_a_right_file_has_no_finding() -> None:
    """Whatever a case reports comes from its deviation alone."""
    for profile in ("portal", "b2b"):
        assert outcome(nemflow.read(nem12().encode(), profile=profile)) == "1"
        assert outcome(nemflow.read(nem13().encode(), profile=profile)) == "1"


def test_every_deviation_has_a_case() -> None:
    """D01 to D41."""
    assert {case[0] for case in CASES} | APART == set(DEVIATIONS)


@pytest.mark.parametrize("deviation", sorted(set(DEVIATIONS) - APART))
def test_the_rules_a_deviation_names_are_really_reported(deviation: str) -> None:
    """No rule is named in vain, and a legal deviation is reported by none."""
    seen = {
        word[:4]
        for case in CASES
        if case[0] == deviation
        for outcome_text in case[3:]
        for word in outcome_text.split()[1:]
    }
    named = set(DEVIATIONS[deviation].rules) - {"A010"}  # as I009, but for register reads
    assert named <= seen
    assert named or not seen


def test_each_member_of_a_zip_is_a_file_of_its_own(tmp_path: Path) -> None:
    """D33: two members, one in a zip of its own, under names that say something else."""
    inner, outer = io.BytesIO(), tmp_path / "NEM12#2503060215000001#MDPEXMPL#OTHERRET.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("nem12#x#OTHERMDP#RETEXMPL.csv", nem12(day="20250304"))
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("day.V01", nem12())
        archive.writestr("more.zip", inner.getvalue())
    data = nemflow.read(outer, profile="b2b")
    assert data.days.height == 2
    assert data.days["source"].n_unique() == 2
    assert outcome(data) == "2 F019W"


def test_a_file_name_in_lower_case_is_legal(tmp_path: Path) -> None:
    """D35."""
    path = tmp_path / "nem12#2503060215000001#mdpexmpl#retexmpl.csv"
    path.write_text(nem12(), encoding="ascii", newline="")
    assert outcome(nemflow.read(path, profile="b2b")) == "1"


@pytest.mark.parametrize(
    "text",
    [
        "NMI,METER SERIAL NUMBER,CON/GEN,DATE,ESTIMATED?,00:00 - 00:30\nX,1,C,1/1/25,No,0.1\n",
        "Usage Type,Amount Used,From (date/time),To (date/time)\nx,1,2,3\n",
    ],
)
def test_another_csv_is_refused_with_a_guess(text: str) -> None:
    """D38: under both profiles, by rule F018."""
    for profile in ("portal", "b2b"):
        with pytest.raises(FileRefused) as caught:
            nemflow.read(text.encode(), profile=profile)
        assert caught.value.rule == "F018"
        assert caught.value.hint
