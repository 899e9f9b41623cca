"""The 41 known deviations, one by one, under both profiles.

Why: each was seen in the field (or feared by those who looked); what nemflow does of it is
promised in the catalogue, so every promise has its look-alike here, with invented data. A case
gives the exact rules found with their severity and, for each 300 or 250, whether it is read and
accepted.
Next: src/nemflow/mdff/rulebook/deviations.py for the promises in words.
"""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime

import polars as pl
import pytest

import nemflow
from nemflow.mdff.meterdata import MeterData
from nemflow.mdff.reader import Parser, Text
from nemflow.mdff.rules import DEVIATIONS

NOW = datetime(2025, 10, 10, tzinfo=UTC)
HEAD = "100,NEM12,202503060215,MDPEXMPL,RETEXMPL"
HEAD13 = "100,NEM13,202504050215,MDPEXMPL,RETEXMPL"
STREAM = "200,SASMPL0123,E1,1,E1,N1,EX0000123,kWh,30,"
OTHER = STREAM.replace("0123", "0124", 1)
REST = "A,,,20250306011500,"


def day(first: str = "0.5", rest: str = REST, *, date: str = "20250305", count: int = 48) -> str:
    """A 300 whose first value and whose fields after the values may be odd."""
    return ",".join(["300", date, first, *["0.25"] * (count - 1), rest])


def period(quantity: str = "100", *, suffix: str = "11", direction: str = "E", previous: str = "A",
           previous_at: str = "20250101000001", current: str = "A",
           current_at: str = "20250401000001", next_read: str = "20250701",
           update: str = "20250402010000") -> str:  # fmt: skip
    """A 250."""
    reason = "45" if previous[0] == "S" else ""
    return (
        f"250,SASMPL0123,{suffix},1,{suffix},{suffix},EX0000123,{direction},000100,{previous_at},"
        f"{previous},{reason},,000200,{current_at},{current},,,{quantity},kWh,{next_read},"
        f"{update},"
    )


def file(*lines: str, head: str = HEAD, end: str = "900", eol: str = "\r\n") -> bytes:
    """A file of these lines between a header and a 900, either left out when empty."""
    return "".join(f"{line}{eol}" for line in (head, *lines, end) if line).encode()


def stream(**changed: str) -> bytes:
    """A file with one right day under a 200, right but for the fields named."""
    names = ["nmi", "configuration", "register", "suffix", "mdm", "serial", "uom", "length", "next"]
    fields = dict(zip(names, STREAM.split(",")[1:], strict=True)) | changed
    return file(",".join(["200", *fields.values()]), day())


RIGHT = file(STREAM, day())
PADDED = "".join(
    f"{line}{',' * (54 - line.count(','))}\r\n" for line in (HEAD, STREAM, day(), "900")
).encode()
VARIED = day(rest="V,,,20250306011500,")
N_DAY = file(STREAM, day("0", "N,,,20200306011500,", date="20200305"),
             head=HEAD.replace("2025", "2020"))  # fmt: skip
ORDER = "500,N,SO1,{},001234.5"

#: What is said of a record: a(ccepted), r(ejected) but read, l(ost: not placed, in quarantine).
#: Deviation, case, file, rules under portal, fate under portal, rules under b2b, fate under b2b.
CASES: list[tuple[str, str, bytes, str, str, str, str]] = [
    ("D01", "no 100", file(STREAM, day(), head=""), "F002W", "a", "F002F", "r"),
    ("D01", "no 100, no 900", file(STREAM, day(), head="", end=""), "F002W F006W", "a",
     "F002F F006F", "r"),
    ("D01", "NEM13", file(period(), head=""), "F002W", "a", "F002F", "r"),
    ("D02", "no 900", file(STREAM, day(), end=""), "F006W", "a", "F006F", "r"),
    ("D02", "cut off", file(STREAM, day(), day(date="20250306"))[:-60], "F006W F014W I001D", "al",
     "F006F F014W I001D", "rl"),
    ("D03", "two blocks", RIGHT + file(OTHER, day()), "F006W", "aa", "F006F", "rr"),
    ("D03", "two 900s", RIGHT + b"900\r\n", "F006W", "a", "F006F", "r"),
    ("D03", "no 900 between", file(STREAM, day(), end="") + file(OTHER, day()), "F005W", "aa",
     "F005F", "rr"),
    ("D03", "two 100s", file(HEAD, STREAM, day()), "F005W", "a", "F005F", "r"),
    ("D03", "blank first line", b"\r\n" + RIGHT, "F013W", "a", "F013W", "a"),
    ("D04", "a 200 after the 900", file(STREAM, day(), "900", OTHER, day()), "F006W", "aa",
     "F006F", "rr"),
    ("D05", "blank lines", file(STREAM, "  ", day(), "\t"), "F013W", "a", "F013W", "a"),
    ("D06", "LF", file(STREAM, day(), eol="\n"), "F014W", "a", "F014W", "a"),
    ("D06", "CR", file(STREAM, day(), eol="\r"), "F014W", "a", "F014W", "a"),
    ("D06", "no last line end", RIGHT.rstrip(), "F014W", "a", "F014W", "a"),
    ("D07", "byte order mark", b"\xef\xbb\xbf" + RIGHT, "F012W", "a", "F012W", "a"),
    ("D08", "9 fields", file(STREAM.removesuffix(","), day()), "N010W", "a", "N010D", "r"),
    ("D09", "no MSATSLoadDateTime", file(STREAM, day().removesuffix(",")), "I010W", "a",
     "I010D", "r"),
    ("D09", "nothing after the quality", file(STREAM, day(rest="A")), "I010W I008W", "a",
     "I010D I008W", "r"),
    ("D10", "padded to the widest row", PADDED, "F015W", "a", "F015W", "a"),
    ("D11", "900 with commas", file(STREAM, day(), end="900,,,,"), "F015W", "a", "F015W", "a"),
    ("D12", "12 digits", file(STREAM, day(rest="A,,,202503060115,")), "I008W", "a", "I008W", "a"),
    ("D13", "IntervalDate", file(STREAM, day(date="2.02503E+07")), "I016D", "l", "I016D", "l"),
    ("D13", "UpdateDateTime", file(STREAM, day(rest="A,,,2.02503E+13,")), "I016D", "r",
     "I016D", "r"),
    ("D13", "header", file(STREAM, day(), head=HEAD.replace("202503060215", "2.02503E+11")),
     "F007W", "a", "F007F", "r"),
    ("D13", "MSATSLoadDateTime", file(STREAM, day(rest=REST + "2.02503E+13")), "I011W", "a",
     "I011W", "a"),
    ("D13", "NextScheduledReadDate", stream(next="2.02503E+7"), "N014W", "a", "N014W", "a"),
    ("D13", "register read", file(period(previous_at="2.0250E+13"), head=HEAD13), "A008D", "r",
     "A008D", "r"),
    ("D14", "IntervalDate", file(STREAM, day(date="2025-03-05")), "I015W", "a", "I015D", "r"),
    ("D14", "UpdateDateTime", file(STREAM, day(rest="A,,,2025-03-06T01:15:00+10:00,")), "I008W",
     "a", "I008W", "a"),
    ("D14", "MSATSLoadDateTime", file(STREAM, day(rest=REST + "2025-03-06T02:15:00")), "I011W",
     "a", "I011W", "a"),
    ("D14", "NextScheduledReadDate", stream(next="2025-06-01"), "N014W", "a", "N014W", "a"),
    ("D14", "register read", file(period(previous_at="2025-01-01T00:00:01"), head=HEAD13),
     "A008W", "a", "A008W", "a"),
    ("D14", "current register read", file(period(current_at="2025-04-01 00:00:01"), head=HEAD13),
     "A008W", "a", "A008W", "a"),
    ("D14", "register read, another zone",
     file(period(current_at="2025-04-01T00:00:01+11:00"), head=HEAD13), "A008D", "r", "A008D",
     "r"),
    ("D14", "register read, UpdateDateTime",
     file(period(update="2025-04-02T01:00:00+10:00"), head=HEAD13), "I008W", "a", "I008W", "a"),
    ("D14", "register read, next read", file(period(next_read="2025-07-01"), head=HEAD13), "N014W",
     "a", "N014W", "a"),
    ("D14", "ReadDateTime", file(STREAM, day(), ORDER.format("2025-03-05T10:20:30")), "B002W", "a",
     "B002W", "a"),
    ("D14", "header with seconds", file(STREAM, day(), head=HEAD.replace("0215", "021509")),
     "F007W", "a", "F007F", "r"),
    ("D15", "nobody to nobody", file(STREAM, day(), head="100,NEM12,,,"), "F007W", "a",
     "F007F", "r"),
    ("D16", "fewer values", file(STREAM, day(count=40)), "I001D", "l", "I001D", "l"),
    ("D17", "no values", file(STREAM, "300,20250305,V,,,20250306011500,"), "I001D", "l",
     "I001D", "l"),
    ("D18", "empty cells", file(STREAM, day("")), "I004D", "r", "I004D", "r"),
    ("D19", "15 against 288", file(STREAM.replace(",30,", ",15,"), day(count=288)), "I001D", "l",
     "I001D", "l"),
    ("D20", "05", file(STREAM.replace(",30,", ",05,"), day(count=288)), "N016W", "a", "N016W", "a"),
    ("D20", "60", file(STREAM.replace(",30,", ",60,"), day(count=24)), "N007D", "r", "N007D", "r"),
    ("D20", "10", file(STREAM.replace(",30,", ",10,"), day(count=144)), "N007D", "r", "N007D", "r"),
    ("D20", "1", file(STREAM.replace(",30,", ",1,"), day(count=1440)), "N007D", "r", "N007D", "r"),
    ("D20", "7", file(STREAM.replace(",30,", ",7,"), day(), day(date="20250306")), "N007D", "ll",
     "N007D", "ll"),
    ("D21", "three lines", file(STREAM, "300,20250305,", "0.25," * 24, "0.25," * 24 + REST,
                                day(date="20250306")), "I012D", "la", "I012D", "la"),
    ("D22", "negative I", file(period("-1490", suffix="41", direction="I"), head=HEAD13), "A004W",
     "a", "A004D", "r"),
    ("D23", "other case", stream(uom="KWH"), "", "a", "", "a"),
    ("D23", "empty on volts", stream(configuration="V1", suffix="V1", uom=""), "N005D", "r",
     "N005D", "r"),
    ("D24", "MDM id is the suffix", stream(mdm="E1"), "", "a", "", "a"),
    ("D24", "MDM id empty", stream(mdm=""), "", "a", "N008W", "a"),
    ("D24", "MDM id empty on reactive",
     stream(configuration="Q1", suffix="Q1", mdm="", uom="kVArh"), "", "a", "", "a"),
    ("D25", "configuration empty", stream(configuration=""), "N003W", "a", "N003D", "r"),
    ("D25", "without the suffix", stream(configuration="E2"), "N003W", "a", "N003D N009W", "r"),
    ("D26", "register empty", stream(register=""), "", "a", "N008W", "a"),
    ("D26", "register is the suffix", stream(register="E1"), "", "a", "", "a"),
    ("D26", "long serial", stream(serial="EX-0000123456"), "N013W", "a", "N013W", "a"),
    ("D27", ".362 and 18", file(STREAM, day(".362,18", count=47)), "", "a", "", "a"),
    ("D27", "14 decimals", file(STREAM, day("0.12345678901234")), "I006W", "a", "I006W", "a"),
    ("D28", "next read long past", stream(next="19990101"), "", "a", "", "a"),
    ("D29", "400s under A", file(STREAM, day(), "400,1,20,A,,", "400,21,48,E52,,"), "Q009W", "a",
     "Q009W", "a"),
    ("D29", "gap under A", file(STREAM, day(), "400,1,40,A,,"), "Q008W Q009W", "a",
     "Q008W Q009W", "a"),
    ("D29", "N in a 400", file(STREAM, VARIED, "400,1,48,N,,"), "Q010W", "a", "Q010W", "a"),
    ("D29", "V in a 400", file(STREAM, VARIED, "400,1,20,A,,", "400,21,48,V,,"), "Q001D", "r",
     "Q001D", "r"),
    ("D29", "flag T", file(STREAM, VARIED, "400,1,48,T,,"), "Q001D", "r", "Q001D", "r"),
    ("D29", "N before October 2021", N_DAY, "", "a", "", "a"),
    ("D29", "N since", file(STREAM, day(rest="N,,,20250306011500,")), "Q010W", "a", "Q010W", "a"),
    ("D30", "spaces", file(STREAM, day(rest="A,,, 20250306011500,")), "F017W", "a", "F017W", "a"),
    ("D30", "space before the date", file(STREAM, day(date=" 20250305")), "F017W", "a", "F017W",
     "a"),
    ("D31", "15 digits", file(STREAM, day(rest="A,,,200312200000001,")), "I008W", "a",
     "I008W", "a"),
    ("D32", "equal rows", file(STREAM, day(), day()), "I009W", "aa", "I009W", "aa"),
    ("D32", "equal stamps", file(STREAM, day(), day("0.75")), "I009D", "rr", "I009D", "rr"),
    ("D32", "two versions", file(STREAM, day(), day("0.75", "A,,,20250306020000,")), "", "aa",
     "", "aa"),
    ("D32", "equal periods", file(period(), period(), head=HEAD13), "A010W", "aa", "A010W", "aa"),
    ("D34", "right check digit", stream(nmi="20019857328"), "N011W", "a", "N011W", "a"),
    ("D34", "wrong check digit", stream(nmi="20019857321"), "N012D", "r", "N012D", "r"),
    ("D36", "B", file(period(direction="B"), head=HEAD13), "A006W", "a", "A006D", "r"),
    ("D36", "N", file(period(direction="N"), head=HEAD13), "A006W", "a", "A006D", "r"),
    ("D37", "A and A, 79", file(STREAM, VARIED, "400,1,20,A,,", "400,21,48,A,79,"), "", "a",
     "", "a"),
    ("D39", "E64", file(period(current="E64", current_at="20250701000000"), head=HEAD13), "Q003W",
     "a", "Q003W", "a"),
    ("D39", "S52", file(period(previous="S52"), head=HEAD13), "", "a", "", "a"),
    ("D40", "quotes", stream(nmi='"SASMPL0123"', serial='"EX0000123"'), "F016W", "a", "F016D", "r"),
    ("D40", "quotes round everything",
     "".join('"' + line.replace(",", '","') + '"\r\n' for line in (HEAD, STREAM, day(), "900"))
     .encode(), "F016W", "a", "F016D", "r"),
    ("D41", "IntervalDate", file(STREAM, day(date="05/03/2025")), "I002D", "l", "I002D", "l"),
    ("D41", "header", file(STREAM, day(), head=HEAD.replace("202503060215", "06/03/2025 02:15")),
     "F007W", "a", "F007F", "r"),
    ("D41", "UpdateDateTime", file(STREAM, day(rest="A,,,6/03/2025 1:15,")), "I008D", "r",
     "I008D", "r"),
    ("D41", "UpdateDateTime of a register read", file(period(update="02/04/2025"), head=HEAD13),
     "I008D", "r", "I008D", "r"),
    ("D41", "MSATSLoadDateTime", file(STREAM, day(rest=REST + "06/03/2025")), "I011W", "a",
     "I011W", "a"),
    ("D41", "NextScheduledReadDate", stream(next="01/05/2025"), "N014W", "a", "N014W", "a"),
    ("D41", "register read", file(period(current_at="01/04/2025"), head=HEAD13), "A008D", "r",
     "A008D", "r"),
]  # fmt: skip
#: Deviations that are about names and containers, or refused as a whole; tested below.
BELOW = {"D33", "D35", "D38"}


def feed(raw: bytes, profile: str) -> MeterData:
    """Read one text."""
    return Parser(profile=profile, now=NOW).feed([Text("x.csv", raw)])


def fates(data: MeterData) -> str:
    """What became of each 300 and 250, in the order of their lines."""
    records = pl.concat(
        frame.select("line", fate=pl.when(pl.col("rejected_by").list.len() > 0)
                     .then(pl.lit("r")).otherwise(pl.lit("a")))
        for frame in (data.frame_days, data.register_reads)
    )  # fmt: skip
    lost = data.quarantine.join(records, on="line", how="anti").select("line", fate=pl.lit("l"))
    return "".join(pl.concat([records, lost]).sort("line")["fate"])


@pytest.mark.parametrize("profile", ["portal", "b2b"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
def test_a_deviation_is_met_as_promised(case: tuple[str, ...], profile: str):
    """Exactly the rules named are found, and each record meets the fate named."""
    _, _, raw, portal, portal_fate, b2b, b2b_fate = case
    rules, fate = (portal, portal_fate) if profile == "portal" else (b2b, b2b_fate)
    data = feed(raw, profile)
    found = data.findings.select(pl.col("rule") + pl.col("severity")).to_series()
    assert set(found) == set(rules.split())
    assert fates(data) == fate


def test_every_deviation_has_its_case():
    """None of the 41 is left out."""
    assert {case[0] for case in CASES} | BELOW == set(DEVIATIONS)


@pytest.mark.parametrize("deviation", sorted(set(DEVIATIONS) - BELOW))
def test_the_rules_a_deviation_names_are_really_reported(deviation: str):
    """No rule is named in vain, and a legal deviation is reported by none."""
    cases = [case for case in CASES if case[0] == deviation]
    seen = {word[:4] for case in cases for word in f"{case[3]} {case[5]}".split()}
    assert set(DEVIATIONS[deviation].rules) <= seen
    assert DEVIATIONS[deviation].rules or not seen


@pytest.mark.parametrize("profile", ["portal", "b2b"])
def test_a_right_file_has_no_finding(profile: str):
    """Whatever a case reports comes from its deviation alone."""
    for right in (RIGHT, file(period(), head=HEAD13)):
        data = feed(right, profile)
        assert data.findings.is_empty()
        assert fates(data) == "a"


def test_what_is_read_of_a_tolerated_file_is_right():
    """Padding, quotes, a missing header or stamp leave values, days and versions as they were."""
    wanted = feed(RIGHT, "portal").readings().drop("version_at")
    names = ["no 100", "padded to the widest row", "quotes round everything", "LF", "CR",
             "9 fields", "nothing after the quality", "two 900s", "right check digit"]  # fmt: skip
    for name in names:
        raw = next(case[2] for case in CASES if case[1] == name)
        got = feed(raw, "portal").readings().drop("version_at")
        if name == "right check digit":
            got = got.with_columns(nmi=pl.lit("SASMPL0123"))
        assert got.equals(wanted), name


def test_a_stamp_of_twelve_digits_or_in_iso_form_is_the_same_moment():
    """D12 and D14: seconds 00; a zone other than +10:00 is not taken off (D14)."""
    stamps = {
        "202503060115": "2025-03-06 01:15:00",
        "2025-03-06T01:15:00": "2025-03-06 01:15:00",
        "2025-03-06 01:15": "2025-03-06 01:15:00",
        "2025-03-06T01:15:00.123+10:00": "2025-03-06 01:15:00",
        "2025-03-06T01:15:00+11:00": None,
        "2025-03-06T01:15:00Z": None,
        "20250306250000": None,
        "20250306011560": None,
    }
    for given, wanted in stamps.items():
        data = feed(file(STREAM, day(rest=f"A,,,{given},")), "portal")
        at = data.frame_days["update_at"].dt.replace_time_zone(None).dt.to_string("%F %T")
        assert at.to_list() == [wanted], given
        assert data.frame_days["version_derived"].to_list() == [wanted is None]


@pytest.mark.parametrize("profile", ["portal", "b2b"])
def test_members_are_files_of_their_own_whatever_their_names(profile: str, tmp_path):
    """D33 and D35: several members, a zip in a zip, lower-case and wrong names."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("nem12#1#MDPEXMPL#EASTENGY.csv", RIGHT)
    outer = tmp_path / "NEM12#9#MDPEXMPL#RETEXMPL.ZIP"
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("nem12#2#mdpexmpl#retexmpl.V01", file(OTHER, day()))
        archive.writestr("inner.zip", inner.getvalue())
    data = nemflow.read(outer, profile=profile, now=NOW)
    assert data.frame_days["nmi"].to_list() == ["SASMPL0124", "SASMPL0123"]
    assert data.findings.select("source", "rule", "severity").rows() == [
        (f"{outer}/inner.zip/nem12#1#MDPEXMPL#EASTENGY.csv", "F019", "W")
    ]


@pytest.mark.parametrize("profile", ["portal", "b2b"])
def test_a_file_name_in_lower_case_is_legal(profile: str, tmp_path):
    """D35: alone, without a word."""
    path = tmp_path / "nem12#2503060215000001#mdpexmpl#retexmpl.csv"
    path.write_bytes(RIGHT)
    data = nemflow.read(path, profile=profile, now=NOW)
    assert data.findings.is_empty()
    assert data.frame_days.height == 1


LOOK_ALIKES = {
    "NMI,METER SERIAL NUMBER,CON/GEN,DATE,ESTIMATED?,00:00 - 00:30\n"
    "SASMPL0123,EX1,Consumption,05/03/2025,No,0.1\n": "Jemena or AusNet",
    "Usage Type,Amount Used (kWh),From (date/time),To (date/time)\nPeak,0.2,x,y\n": "Origin",
    "datetime_utc,watt_hours,cost_dollars,is_peak\n2025-03-05 00:00:00,12,0.01,0\n": "Powerpal",
    "C,NEMP.WORLD,AGGREGATE,AEMO,PUBLIC,2025/03/05\nI,X,Y,1,A,B\nD,X,Y,1,2,3\n": "market data",
    '{"readings": []}\n': "JSON",
    "%PDF-1.7\n": "PDF",
    "Date,Time,Usage\n05/03/2025,00:30,0.1\n": "table with column titles",
    "hello world\n": "no meter data file",
}  # fmt: skip


@pytest.mark.parametrize("profile", ["portal", "b2b"])
@pytest.mark.parametrize("text", LOOK_ALIKES, ids=LOOK_ALIKES.get)
def test_what_is_no_mdff_is_refused_with_a_guess(text: str, profile: str):
    """D38: the error and the finding say what the file looks like and what to ask for."""
    with pytest.raises(nemflow.FileRefused, match=LOOK_ALIKES[text]) as refused:
        nemflow.read(text.encode(), profile=profile)
    assert refused.value.rule == "F018"
    assert "NEM12" in str(refused.value)
    report = nemflow.check(text.encode(), profile)
    assert set(report.findings["rule"]) - {"F014"} == {"F018"}
    assert not report.ok


def test_a_few_lines_before_the_header_are_passed_over():
    """A preamble is told of line by line (F009); the block begins at its 100."""
    data = feed(b"Meter data\r\nof my house\r\n" + RIGHT, "portal")
    assert data.findings.select("rule", "line").rows() == [("F009", 1), ("F009", 2)]
    assert data.headers.select("block", "line", "end_line").rows() == [(1, 3, 6)]
    assert data.frame_days.select("block", "line").rows() == [(1, 5)]
    far = b"x\r\n" * 20 + RIGHT
    assert [error.rule for error in feed(far, "portal").refused] == ["F018"]
