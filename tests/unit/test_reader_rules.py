"""Each rule says where, what, how bad and what to do: golden findings, one by one.

Why: a finding is what a person gets to see of the reader's judgement; its line, field, value and
sentence are as much a promise as its rule id. Each case is a whole small file that breaks one
rule, in the forms in which it can be broken.
Next: test_deviations.py for the deviations seen in the field.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import cache

import polars as pl
import pytest

from nemflow.mdff.asexml import Envelope
from nemflow.mdff.generate import UNBREAKABLE
from nemflow.mdff.meterdata import MeterData
from nemflow.mdff.reader import Parser, Text
from nemflow.mdff.rules import PROFILES, RULES, severity

NOW = datetime(2025, 10, 10, tzinfo=UTC)
HEAD = "100,NEM12,202503060215,MDPEXMPL,RETEXMPL"
HEAD13 = "100,NEM13,202504050215,MDPEXMPL,RETEXMPL"
STREAM = "200,SASMPL0123,E1,1,E1,N1,EX0000123,kWh,30,"
REST = "A,,,20250306011500,"
#: Records without the one they belong to: there is no day or read to keep out.
ORPHANS = {"a 400 without a 300", "a 500 without a 300", "a 550 without a 250"}


def day(first: str = "0.5", rest: str = REST, *, date: str = "20250305", count: int = 48) -> str:
    """A 300 whose first value and whose fields after the values may be odd."""
    return ",".join(["300", date, first, *["0.25"] * (count - 1), rest])


def read_of(**changed: str) -> str:
    """A 250, right but for the fields named."""
    fields = {
        "nmi": "SASMPL0123", "configuration": "11", "register": "1", "suffix": "11",
        "stream": "11", "serial": "EX0000123", "direction": "E", "previous": "000100",
        "previous_at": "20250101000001", "previous_quality": "A", "previous_reason": "",
        "previous_text": "", "current": "000200", "current_at": "20250401000001",
        "current_quality": "A", "current_reason": "", "current_text": "", "quantity": "100",
        "uom": "kWh", "next_read": "20250701", "update": "20250402010000", "msats": "",
    }  # fmt: skip
    assert set(changed) <= set(fields)
    return ",".join(["250", *(fields | changed).values()])


def later(**changed: str) -> str:
    """The period after ``read_of()``."""
    after = {"previous": "000200", "previous_at": "20250401000001", "current": "000310",
             "current_at": "20250701000001", "quantity": "110"}  # fmt: skip
    return read_of(**after | changed)


def file(*lines: str, head: str = HEAD, end: str = "900", eol: str = "\r\n") -> bytes:
    """A file of these lines between a header and a 900, either left out when empty."""
    return "".join(f"{line}{eol}" for line in (head, *lines, end) if line).encode()


def one(text: str) -> bytes:
    """A file with one right day whose 300 is ``text``."""
    return file(STREAM, text)


def stream(**changed: str) -> bytes:
    """A file with one right day under a 200, right but for the fields named."""
    names = ["nmi", "configuration", "register", "suffix", "mdm", "serial", "uom", "length", "next"]
    fields = dict(zip(names, STREAM.split(",")[1:], strict=True)) | changed
    return file(",".join(["200", *fields.values()]), day())


def varied(*events: str, rest: str = "V,,,20250306011500,") -> bytes:
    """A file with one day and these 400s."""
    return file(STREAM, day(rest=rest), *events)


def reads(*lines: str) -> bytes:
    """A NEM13 file of these lines."""
    return file(*lines, head=HEAD13)


TWIN = day("0.75")
#: Rule -> its cases: name, file, and what the finding says: line, record, field, value, message.
Case = tuple[str, str, bytes, tuple[int | None, str | None, str | None, str | None, str]]
CASES: list[Case] = [
    ("F001", "long line",
     file(STREAM, day(), "5" * 70_000),
     (4, None, None, None, "the line has more than the 65536 bytes that any record may have")),
    ("F001", "long 300",
     file(STREAM, day(), day(date="20250306") + "x" * 70_000),
     (4, None, None, None, "the line has more than the 65536 bytes that any record may have")),
    ("F002", "a 200 first",
     file(STREAM, day(), head=""),
     (1, "200", "RecordIndicator", "200",
      "the first record is not a 100 header; the sender is not known")),
    ("F002", "a 900 only",
     file(head=""),
     (1, "900", "RecordIndicator", "900",
      "the first record is not a 100 header; the sender is not known")),
    ("F003", "NEM14",
     file(STREAM, day(), head=HEAD.replace("NEM12", "NEM14")),
     (1, "100", "VersionHeader", "NEM14", "NEM12 or NEM13 expected")),
    ("F003", "empty",
     file(STREAM, day(), head=HEAD.replace("NEM12", "")),
     (1, "100", "VersionHeader", "", "NEM12 or NEM13 expected")),
    ("F004", "250 in NEM12",
     file(STREAM, day(), read_of(), read_of()),
     (4, "250", "RecordIndicator", "250",
      "a 250 record in a NEM12 block; the two are never mixed")),
    ("F004", "200 in NEM13",
     reads(read_of(), STREAM, day()),
     (3, "200", "RecordIndicator", "200",
      "a 200 record in a NEM13 block; the two are never mixed")),
    ("F004", "header of the other kind",
     file(STREAM, day(), head=HEAD13),
     (2, "200", "RecordIndicator", "200",
      "a 200 record in a NEM13 block; the two are never mixed")),
    ("F005", "second 100",
     file(STREAM, day(), HEAD, STREAM.replace("0123", "0124"), day()),
     (4, "100", "RecordIndicator", "100", "a second 100 before the 900 of the first")),
    ("F006", "no 900",
     file(STREAM, day(), end=""),
     (3, "300", "RecordIndicator", "300", "the file ends without a 900 record; it may be cut off")),
    ("F006", "a 200 after the 900",
     file(STREAM, day(), "900", STREAM.replace("0123", "0124"), day()),
     (5, "200", "RecordIndicator", "200",
      "data after the 900 record; a file is one 100...900 block")),
    ("F006", "a 900 after the 900",
     file(STREAM, day(), "900"),
     (5, "900", "RecordIndicator", "900",
      "data after the 900 record; a file is one 100...900 block")),
    ("F007", "30 February",
     file(STREAM, day(), head=HEAD.replace("0306", "0230")),
     (1, "100", "DateTime", "202502300215", "not a date-time CCYYMMDDhhmm")),
    ("F007", "14 digits",
     file(STREAM, day(), head=HEAD.replace("0215", "021500")),
     (1, "100", "DateTime", "20250306021500",
      "12 digits CCYYMMDDhhmm expected; read all the same")),
    ("F007", "ISO",
     file(STREAM, day(), head=HEAD.replace("202503060215", "2025-03-06 02:15")),
     (1, "100", "DateTime", "2025-03-06 02:15",
      "12 digits CCYYMMDDhhmm expected; read all the same")),
    ("F007", "in the future",
     file(STREAM, day(), head=HEAD.replace("2025", "2035")),
     (1, "100", "DateTime", "203503060215", "more than a day in the future, so not trusted")),
    ("F007", "no sender",
     file(STREAM, day(), head=HEAD.replace("MDPEXMPL", "")),
     (1, "100", "FromParticipant", "", "empty, or longer than 10 characters")),
    ("F007", "too long a receiver",
     file(STREAM, day(), head=HEAD.replace("RETEXMPL", "RETEXMPL123")),
     (1, "100", "ToParticipant", "RETEXMPL123", "empty, or longer than 10 characters")),
    ("F009", "a heading",
     file(STREAM, day(), "Total,12.25,kWh"),
     (4, None, "RecordIndicator", "Total",
      "the line does not start with a known record indicator (100, 200, 300, 400, 500, "
      "250, 550 or 900)")),
    ("F009", "a heading before the 100",
     file(STREAM, day(), head="Meter data of my house\r\n" + HEAD),
     (1, None, "RecordIndicator", "Meter data of my hou",
      "the line does not start with a known record indicator (100, 200, 300, 400, 500, "
      "250, 550 or 900)")),
    ("F010", "a 300 without a 200",
     file(day(date="20250304"), STREAM, day()),
     (2, "300", "RecordIndicator", "300", "a 300 without an open 200 before it")),
    ("F010", "a 400 after a 500",
     varied("400,1,20,A,,", "500,N,,20250305102030,001234.5", "400,21,48,S14,76,"),
     (6, "400", "RecordIndicator", "400", "a 400 after a 500 of its day")),
    ("F010", "a 400 without a 300",
     file(STREAM, "400,1,48,A,,", day()),
     (3, "400", "RecordIndicator", "400", "a 400 without a 300 directly before it")),
    ("F010", "a 500 without a 300",
     file("500,N,,,", STREAM, day()),
     (2, "500", "RecordIndicator", "500", "a 500 without a 300 before it")),
    ("F010", "a 550 without a 250",
     reads("550,N,,N,", read_of()),
     (2, "550", "RecordIndicator", "550", "a 550 without a 250 before it")),
    ("F011", "nothing between",
     file(),
     (2, "900", "RecordIndicator", "900", "no data before this 900")),
    ("F012", "byte order mark",
     b"\xef\xbb\xbf" + one(day()),
     (None, None, None, None, "the file starts with a byte order mark; it is skipped")),
    ("F012", "UTF-8",
     one(day(rest="S14,0,Zähler defekt,20250306011500,")),
     (None, None, None, None, "characters beyond ASCII; the format is 7-bit text")),
    ("F013", "blank lines",
     file(STREAM, "", " ,, ", day()) .replace(b"N1,EX0000123,kWh,30,\r\n",
     b"N1,EX0000123,kWh,30,\r\n\r\n"),
     (None, None, None, None, "line 3 is blank, and 1 more; blank lines are not allowed")),
    ("F014", "LF",
     file(STREAM, day(), eol="\n"),
     (None, None, None, None, "4 lines end with LF alone; CRLF expected")),
    ("F014", "no last line end",
     one(day()).removesuffix(b"\r\n"),
     (None, None, None, None, "the last line has no line end; CRLF expected")),
    ("F015", "padded 100",
     file(STREAM, day(), head=HEAD + ",,,"),
     (1, "100", None, None, "empty fields after the last one: 3")),
    ("F015", "padded 200",
     file(STREAM + ",,", day()),
     (2, "200", None, None, "empty fields after the last one: 2")),
    ("F015", "padded 300",
     one(day() + ","),
     (3, "300", None, None, "empty fields after the last one: 1")),
    ("F015", "padded 400",
     varied("400,1,20,A,,,,", "400,21,48,S14,76,"),
     (4, "400", None, None, "empty fields after the last one: 2")),
    ("F015", "padded 500",
     varied("400,1,48,A,,", "500,N,,20250305102030,001234.5,"),
     (5, "500", None, None, "empty fields after the last one: 1")),
    ("F015", "padded 900",
     file(STREAM, day(), end="900,,"),
     (4, "900", "RecordIndicator", "900,,", "the 900 stands alone on its line")),
    ("F015", "padded 250",
     reads(read_of() + ",,"),
     (2, "250", None, None, "empty fields after the last one: 2")),
    ("F016", "a quoted NMI",
     stream(nmi='"SASMPL0123"'),
     (2, "200", None, None, "quoted fields; the format has no quoting")),
    ("F016", "a quoted description",
     one(day(rest='S14,0,"meter, broken",20250306011500,')),
     (3, "300", None, None, "quoted fields; the format has no quoting")),
    ("F016", "a stray quote",
     one(day(rest='S14,0,a 5" pipe,20250306011500,')),
     (3, "300", None, None, "quoted fields; the format has no quoting")),
    ("F017", "blank in a 200",
     stream(serial=" EX0000123"),
     (2, "200", None, None, "blanks round a field")),
    ("F017", "blank in a 300",
     one(day(rest="A,,, 20250306011500,")),
     (3, "300", None, None, "blanks round a field")),
    ("F017", "lower-case suffix",
     stream(suffix="e1"),
     (2, "200", "NMISuffix", "e1", "in lower case")),
    ("F017", "lower-case quality",
     one(day(rest="a,,,20250306011500,")),
     (3, "300", "QualityMethod", "a", "in lower case; read as upper case")),
    ("F017", "lower-case header",
     file(STREAM, day(), head=HEAD.replace("NEM12", "nem12")),
     (1, "100", "VersionHeader", "nem12", "in lower case")),
    ("F018", "a portal table",
     file("SASMPL0123,EX1,Consumption,05/03/2025,No,0.1",
     head="NMI,METER SERIAL NUMBER,CON/GEN,DATE,ESTIMATED?,00:00 - 00:30", end=""),
     (None, None, None, "NMI,METER SERIAL NUMBER,CON/GEN,DATE,ESTIMATED?,00:00 - 00:30",
      "the first record is not 100, 200 or 250; this looks like a Jemena or AusNet "
      "portal table (one row per day, not NEM12). Ask the sender or the portal for the "
      "NEM12 (detailed) format")),
    ("F018", "empty",
     b"",
     (None, None, None, None, "the file is empty")),
    ("N001", "a forbidden letter",
     stream(nmi="SISMPL0123"),
     (2, "200", "NMI", "SISMPL0123",
      "not an NMI: 10 digits and capital letters without I and O expected")),
    ("N001", "too short",
     stream(nmi="C123"),
     (2, "200", "NMI", "C123",
      "not an NMI: 10 digits and capital letters without I and O expected")),
    ("N001", "full-width digits",
     stream(nmi="SASMPL012３"),
     (2, "200", "NMI", "SASMPL012３",
      "not an NMI: 10 digits and capital letters without I and O expected")),
    ("N001", "in a 250",
     reads(read_of(nmi="SISMPL0123")),
     (2, "250", "NMI", "SISMPL0123",
      "not an NMI: 10 digits and capital letters without I and O expected")),
    ("N003", "empty",
     stream(configuration=""),
     (2, "200", "NMIConfiguration", "", "not a list of two-character suffixes")),
    ("N003", "lacks the suffix",
     stream(configuration="E2"),
     (2, "200", "NMIConfiguration", "E2", "the configuration does not hold the suffix E1")),
    ("N003", "odd length",
     stream(configuration="E1B"),
     (2, "200", "NMIConfiguration", "E1B", "not a list of two-character suffixes")),
    ("N003", "in a 250",
     reads(read_of(configuration="41")),
     (2, "250", "NMIConfiguration", "41", "the configuration does not hold the suffix 11")),
    ("N004", "a digit first",
     stream(configuration="11", suffix="11"),
     (2, "200", "NMISuffix", "11", "not a suffix of the NMI procedure")),
    ("N004", "I1",
     stream(configuration="E1", suffix="I1"),
     (2, "200", "NMISuffix", "I1", "not a suffix of the NMI procedure")),
    ("N004", "a letter first in a 250",
     reads(read_of(configuration="E1", suffix="E1")),
     (2, "250", "NMISuffix", "E1", "not a suffix of the NMI procedure")),
    ("N005", "kW/h",
     stream(uom="kW/h"),
     (2, "200", "UOM", "kW/h", "not a unit of the format (kWh, kVArh, ... see the unit list)")),
    ("N005", "empty",
     stream(uom=""),
     (2, "200", "UOM", "", "not a unit of the format (kWh, kVArh, ... see the unit list)")),
    ("N005", "in a 250",
     reads(read_of(uom="furlongs")),
     (2, "250", "UOM", "furlongs", "not a unit of the format (kWh, kVArh, ... see the unit list)")),
    ("N006", "kWh on Q1",
     stream(configuration="Q1", suffix="Q1"),
     (2, "200", "UOM", "kWh", "the unit does not fit a stream Q1")),
    ("N006", "kVArh on E1",
     stream(uom="kVArh"),
     (2, "200", "UOM", "kVArh", "the unit does not fit a stream E1")),
    ("N007", "60",
     file(STREAM.replace(",30,", ",60,"), day(count=24)),
     (2, "200", "IntervalLength", "60", "5, 15 or 30 expected")),
    ("N007", "not a number",
     file(STREAM.replace(",30,", ",half,")),
     (2, "200", "IntervalLength", "half", "5, 15 or 30 expected")),
    ("N008", "no serial",
     stream(serial=""),
     (2, "200", "RegisterID", None,
      "RegisterID, MDMDataStreamIdentifier or MeterSerialNumber is empty")),
    ("N008", "in a 250",
     reads(read_of(register="")),
     (2, "250", "RegisterID", None,
      "RegisterID, MDMDataStreamIdentifier or MeterSerialNumber is empty")),
    ("N009", "B1 missing",
     stream(configuration="B1E1"),
     (3, None, "NMISuffix", "SASMPL0123 2025-03-05",
      "the configuration also lists B1, which the file does not give for this day")),
    ("N010", "9 fields",
     file(STREAM.removesuffix(","), day()),
     (2, "200", None, "9", "9 fields, 10 expected; the missing ones are taken as empty")),
    ("N010", "11 fields",
     file(STREAM + ",x", day()),
     (2, "200", None, "11", "11 fields, 10 expected")),
    ("N011", "right check digit",
     stream(nmi="20019857328"),
     (2, "200", "NMI", "20019857328",
      "11 characters, the last is the right check digit; cut to 10")),
    ("N011", "lower case",
     stream(nmi="sasmpl0123"),
     (2, "200", "NMI", "sasmpl0123", "the NMI is in lower case; read as upper case")),
    ("N012", "wrong check digit",
     stream(nmi="20019857329"),
     (2, "200", "NMI", "20019857329",
      "11 characters, and the last is not the check digit of the first ten")),
    ("N013", "serial",
     stream(serial="EX-0000123456"),
     (2, "200", "MeterSerialNumber", "EX-0000123456", "longer than the 12 characters allowed")),
    ("N013", "register read",
     reads(read_of(previous="0000000000000100", current="200")),
     (2, "250", "PreviousRegisterRead", "0000000000000100",
      "longer than the 15 characters allowed")),
    ("N014", "31 April",
     stream(next="20250431"),
     (2, "200", "NextScheduledReadDate", "20250431", "not a date CCYYMMDD")),
    ("N014", "in a 250",
     reads(read_of(next_read="1/07/2025")),
     (2, "250", "NextScheduledReadDate", "1/07/2025", "not a date CCYYMMDD")),
    ("N015", "at the end",
     file(STREAM, day(), STREAM),
     (4, "200", "RecordIndicator", "200", "no 300 follows this 200")),
    ("N015", "two 200s",
     file(STREAM, STREAM, day()),
     (2, "200", "RecordIndicator", "200", "no 300 follows this 200")),
    ("N016", "05",
     file(STREAM.replace(",30,", ",05,"), day(count=288)),
     (2, "200", "IntervalLength", "05", "written with a leading zero")),
    ("I001", "47 values",
     one(day(count=47)),
     (3, "300", None, "47", "47 values, 48 expected for 30-minute data")),
    ("I001", "49 values",
     one(day(count=49)),
     (3, "300", None, "49", "49 values, 48 expected for 30-minute data")),
    ("I001", "96 values",
     one(day(count=96)),
     (3, "300", None, "96",
      "96 values, 48 expected for 30-minute data; the row is complete for 15-minute "
      "data, so the 200 may be wrong")),
    ("I001", "46 values and a short text",
     one(day(rest="A,,X,20250306011500,", count=46)),
     (3, "300", None, "46", "46 values, 48 expected for 30-minute data")),
    ("I001", "too many fields",
     one(day() + ",x"),
     (3, "300", None, "56", "56 fields, 55 expected")),
    ("I001", "no values",
     one("300,20250305,V,,,20250306011500,"),
     (3, "300", None, "0", "0 values, 48 expected for 30-minute data")),
    ("I001", "nothing but the date",
     one("300,20250305"),
     (3, "300", None, "0", "0 values, 48 expected for 30-minute data")),
    ("I002", "no such day",
     one(day(date="20250229")),
     (3, "300", "IntervalDate", "20250229", "not a date CCYYMMDD of the calendar")),
    ("I002", "year 0",
     one(day(date="00000101")),
     (3, "300", "IntervalDate", "00000101", "not a date CCYYMMDD of the calendar")),
    ("I002", "the day after tomorrow",
     one(day(date="20251012")),
     (3, "300", "IntervalDate", "20251012", "actual data of a day that has not been yet")),
    ("I002", "before 1998",
     one(day(date="19971231")),
     (3, "300", "IntervalDate", "19971231",
      "before 1998, when there was no interval data in this market")),
    ("I002", "day, month, year",
     one(day(date="05/03/2025")),
     (3, "300", "IntervalDate", "05/03/2025", "not a date CCYYMMDD of the calendar")),
    ("I002", "seven digits",
     one(day(date="2024111")),
     (3, "300", "IntervalDate", "2024111", "not a date CCYYMMDD of the calendar")),
    ("I003", "earlier",
     file(STREAM, day(), day(date="20250304")),
     (4, "300", "IntervalDate", "20250304", "earlier than the day before it in the same 200")),
    ("I004", "exponent",
     one(day("1.2E-1")),
     (3, "300", "IntervalValue1", "1.2E-1", "not a plain decimal number")),
    ("I004", "nan",
     one(day("nan")),
     (3, "300", "IntervalValue1", "nan", "not a plain decimal number")),
    ("I004", "missing",
     one(day("")),
     (3, "300", "IntervalValue1", "", "the value is missing; it is kept as null, never 0")),
    ("I004", "several missing",
     one(day(",,0.1", count=46)),
     (3, "300", "IntervalValue1", "",
      "the value is missing (2 values of this record); it is kept as null, never 0")),
    ("I004", "several texts",
     one(day("x,y,z", count=46)),
     (3, "300", "IntervalValue1", "x", "not a plain decimal number (3 values of this record)")),
    ("I005", "negative",
     one(day("-0.227")),
     (3, "300", "IntervalValue1", "-0.227", "the value is negative")),
    ("I005", "several",
     one(day("-0.227,-.5", count=47)),
     (3, "300", "IntervalValue1", "-0.227", "the value is negative (2 values of this record)")),
    ("I006", "five decimals in kWh",
     one(day("0.22701")),
     (3, "300", "IntervalValue1", "0.22701", "more decimals than the 4 that kWh allows")),
    ("I006", "two decimals in Wh",
     file(STREAM.replace("kWh", "Wh"), day("1.25").replace("0.25", "1")),
     (3, "300", "IntervalValue1", "1.25", "more decimals than the 1 that Wh allows")),
    ("I006", "in a 250",
     reads(read_of(quantity="100.00001")),
     (2, "250", "Quantity", "100.00001", "more decimals than the 4 that kWh allows")),
    ("I007", "above the limit",
     one(day("1000.1")),
     (3, "300", "IntervalValue1", "1000.1", "above the limit of 1000 kWh set for this stream")),
    ("I008", "missing",
     one(day(rest="A,,,,")),
     (3, "300", "UpdateDateTime", "", "missing; the file's DateTime stands in as the version")),
    ("I008", "15 digits",
     one(day(rest="A,,,200312200000001,")),
     (3, "300", "UpdateDateTime", "200312200000001",
      "not a stamp CCYYMMDDhhmmss; the file's DateTime stands in as the version")),
    ("I008", "12 digits",
     one(day(rest="A,,,202503060115,")),
     (3, "300", "UpdateDateTime", "202503060115",
      "14 digits CCYYMMDDhhmmss expected; read all the same")),
    ("I008", "in the future",
     one(day(rest="A,,,20350306011500,")),
     (3, "300", "UpdateDateTime", "20350306011500",
      "more than a day in the future, so not trusted; the file's DateTime stands in")),
    ("I008", "in a 250",
     reads(read_of(update="")),
     (2, "250", "UpdateDateTime", "", "missing; the file's DateTime stands in as the version")),
    ("I009", "other content",
     file(STREAM, day(), TWIN),
     (4, "300", None, "SASMPL0123 E1 2025-03-05",
      "this day stands twice in the file with one UpdateDateTime and different content;"
      " nobody can say which is right")),
    ("I009", "equal content",
     file(STREAM, day(), day("0.500")),
     (4, "300", None, "SASMPL0123 E1 2025-03-05",
      "the same day with the same content stands on line 3; counted once")),
    ("I010", "no last comma",
     one(day().removesuffix(",")),
     (3, "300", None, "54",
      ("54 fields, 55 expected: values and quality are there, fields after " "them are missing"))),
    ("I010", "nothing after the quality",
     one(day(rest="A")),
     (3, "300", None, "51",
      ("51 fields, 55 expected: values and quality are there, fields after " "them are missing"))),
    ("I011", "10 digits",
     one(day(rest="A,,,20250306011500,2025030601")),
     (3, "300", "MSATSLoadDateTime", "2025030601", "not a stamp CCYYMMDDhhmmss")),
    ("I012", "three lines",
     file(STREAM, "300,20250305,", "0.25," * 24, "0.25," * 24 + REST),
     (3, "300", None, "0",
      "the record is broken over several lines: 0 values on this one, 48 expected")),
    ("I013", "after the file",
     one(day(rest="A,,,20250307011500,")),
     (3, "300", "UpdateDateTime", "20250307011500", "later than the file's own DateTime")),
    ("I013", "loaded before it was made",
     one(day(rest="A,,,20250306011500,20250306011400")),
     (3, "300", "MSATSLoadDateTime", "20250306011400", "earlier than the UpdateDateTime")),
    ("I014", "16 digits before the point",
     one(day("1234567890123456")),
     (3, "300", "IntervalValue1", "1234567890123456", "more digits than can be kept exactly")),
    ("I014", "24 digits after the point",
     one(day("0.123456789012345678901234")),
     (3, "300", "IntervalValue1", "0.123456789012345678901234",
      "more digits than can be kept exactly")),
    ("I014", "in a 250",
     reads(read_of(quantity="1234567890123456")),
     (2, "250", "Quantity", "1234567890123456", "more digits than can be kept exactly")),
    ("I015", "ISO",
     one(day(date="2025-03-05")),
     (3, "300", "IntervalDate", "2025-03-05", "written as an ISO date; CCYYMMDD expected")),
    ("I016", "stamp",
     one(day(rest="A,,,2.02503E+13,")),
     (3, "300", "UpdateDateTime", "2.02503E+13",
      "a spreadsheet has shortened the stamp; its digits are lost")),
    ("I016", "date",
     one(day(date="2.02503E+07")),
     (3, "300", "IntervalDate", "2.02503E+07",
      "a spreadsheet has shortened the date; its digits are lost")),
    ("Q001", "unknown flag",
     one(day(rest="T,,,20250306011500,")),
     (3, "300", "QualityMethod", "T",
      "one flag letter, and two digits of method for E, S and F, expected")),
    ("Q001", "empty",
     one(day(rest=",,,20250306011500,")),
     (3, "300", "QualityMethod", "",
      "one flag letter, and two digits of method for E, S and F, expected")),
    ("Q001", "S without a method",
     one(day(rest="S,76,,20250306011500,")),
     (3, "300", "QualityMethod", "S",
      "one flag letter, and two digits of method for E, S and F, expected")),
    ("Q001", "A with a method",
     one(day(rest="A14,,,20250306011500,")),
     (3, "300", "QualityMethod", "A14",
      "one flag letter, and two digits of method for E, S and F, expected")),
    ("Q001", "V in a 400",
     varied("400,1,20,A,,", "400,21,48,V,,"),
     (5, "400", "QualityMethod", "V", "the flag is not allowed in this record (V never is)")),
    ("Q001", "in a 250",
     reads(read_of(current_quality="X")),
     (2, "250", "CurrentQualityMethod", "X",
      "one flag letter, and two digits of method for E, S and F, expected")),
    ("Q002", "S99",
     one(day(rest="S99,76,,20250306011500,")),
     (3, "300", "QualityMethod", "S99", "the method number is not known")),
    ("Q002", "in a 400",
     varied("400,1,20,A,,", "400,21,48,S99,76,"),
     (5, "400", "QualityMethod", "S99", "the method number is not known")),
    ("Q003", "E14",
     one(day(rest="E14,,,20250306011500,")),
     (3, "300", "QualityMethod", "E14", "this method is not expected with this flag")),
    ("Q004", "S without a reason",
     one(day(rest="S14,,,20250306011500,")),
     (3, "300", "ReasonCode", "", "a substitute needs a reason code")),
    ("Q004", "in a 400",
     varied("400,1,20,A,,", "400,21,48,F14,,"),
     (5, "400", "ReasonCode", "", "a substitute needs a reason code")),
    ("Q004", "in a 250",
     reads(read_of(previous_quality="S62")),
     (2, "250", "PreviousReasonCode", "", "a substitute needs a reason code")),
    ("Q005", "no text",
     one(day(rest="F14,0,,20250306011500,")),
     (3, "300", "ReasonDescription", None, "reason 0 needs a description")),
    ("Q006", "V with a reason",
     varied("400,1,48,S14,76,", rest="V,76,,20250306011500,"),
     (3, "300", "ReasonCode", "76", "V has no reason of its own; the 400 records carry it")),
    ("Q007", "unknown",
     one(day(rest="S14,57,,20250306011500,")),
     (3, "300", "ReasonCode", "57", "the reason code is not known")),
    ("Q007", "obsolete",
     one(day(rest="S14,4,,20250306011500,")),
     (3, "300", "ReasonCode", "4", "the reason code is obsolete for data of this date")),
    ("Q007", "not a number",
     one(day(rest="S14,7x,,20250306011500,")),
     (3, "300", "ReasonCode", "7x", "the reason code is not known")),
    ("Q008", "gap",
     varied("400,1,30,A,,", "400,33,48,S14,76,"),
     (5, "400", "StartInterval", "33", "intervals 31 to 32 are not covered by any 400")),
    ("Q008", "gap at the start",
     varied("400,2,48,A,,"),
     (4, "400", "StartInterval", "2", "intervals 1 to 1 are not covered by any 400")),
    ("Q008", "gap at the end",
     varied("400,1,47,A,,"),
     (4, "400", "EndInterval", "47", "intervals 48 to 48 are not covered by any 400")),
    ("Q008", "overlap",
     varied("400,1,30,A,,", "400,30,48,S14,76,"),
     (5, "400", "StartInterval", "30", "intervals 30 to 48 overlap the 400 before")),
    ("Q008", "beyond the day",
     varied("400,1,49,A,,"),
     (4, "400", "StartInterval", "1-49", "the range must lie within intervals 1 to 48")),
    ("Q008", "empty range",
     varied("400,,,F56,45,"),
     (4, "400", "StartInterval", "-", "the range must lie within intervals 1 to 48")),
    ("Q008", "swapped",
     varied("400,48,1,A,,"),
     (4, "400", "StartInterval", "48-1", "the range must lie within intervals 1 to 48")),
    ("Q008", "order",
     varied("400,31,48,S14,76,", "400,1,30,A,,"),
     (5, "400", "EndInterval", "30", "intervals 31 to 48 are not covered by any 400")),
    ("Q009", "V without 400s",
     varied(),
     (3, "300", "QualityMethod", "V", "V says that quality varies, but no 400 says how")),
    ("Q009", "400s without V",
     varied("400,1,48,A,,", rest="A,,,20250306011500,"),
     (3, "300", "QualityMethod", "A", "400 records under a 300 that is not V")),
    ("Q010", "on a 300",
     one(day(rest="N,,,20250306011500,")),
     (3, "300", "QualityMethod", "N", "the flag N was withdrawn on 1 October 2021")),
    ("Q010", "on a 400",
     varied("400,1,20,A,,", "400,21,48,N,,"),
     (5, "400", "QualityMethod", "N", "the flag N was withdrawn on 1 October 2021")),
    ("Q011", "79 without 400s",
     one(day(rest="A,79,,20250306011500,")),
     (3, "300", "ReasonCode", "79", "A with this reason needs 400 records")),
    ("Q012", "4 fields",
     varied("400,1,20,A,,", "400,21,48,A"),
     (5, "400", None, "4", "4 fields, 6 expected")),
    ("Q012", "7 fields",
     varied("400,1,20,A,,", "400,21,48,A,,,x"),
     (5, "400", None, "7", "7 fields, 6 expected")),
    ("B001", "unknown",
     file(STREAM, day(), "500,X,,20250305102030,001234.5"),
     (4, "500", "TransCode", "X", "not a TransCode of the format")),
    ("B001", "550 previous",
     reads(read_of(), "550,X,,N,"),
     (3, "550", "PreviousTransCode", "X", "not a TransCode of the format")),
    ("B001", "550 current",
     reads(read_of(), "550,N,,X,"),
     (3, "550", "CurrentTransCode", "X", "not a TransCode of the format")),
    ("B002", "time",
     file(STREAM, day(), "500,N,,20250305 1020,001234.5"),
     (4, "500", "ReadDateTime", "20250305 1020", "not a stamp CCYYMMDDhhmmss")),
    ("B002", "read",
     file(STREAM, day(), "500,N,,20250305102030,1234 kWh"),
     (4, "500", "IndexRead", "1234 kWh", "not a register read of digits and one point")),
    ("B003", "3 fields",
     file(STREAM, day(), "500,N,"),
     (4, "500", None, "3", "3 fields, 5 expected")),
    ("A001", "22 fields",
     reads(read_of().removesuffix(",")),
     (2, "250", None, "22", "22 fields, 23 expected")),
    ("A001", "14 fields",
     reads(read_of().rsplit(",", 9)[0]),
     (2, "250", None, "14", "14 fields, 23 expected")),
    ("A001", "24 fields",
     reads(read_of() + ",x"),
     (2, "250", None, "24", "24 fields, 23 expected")),
    ("A002", "swapped",
     reads(read_of(previous_at="20250401000001", current_at="20250101000001")),
     (2, "250", "PreviousRegisterReadDateTime", "20250401000001",
      "the previous read is later than the current one")),
    ("A003", "previous E",
     reads(read_of(previous_quality="E64")),
     (2, "250", "PreviousQualityMethod", "E64", "the previous read may not be E or V")),
    ("A003", "previous V",
     reads(read_of(previous_quality="V")),
     (2, "250", "PreviousQualityMethod", "V", "the previous read may not be E or V")),
    ("A003", "current V",
     reads(read_of(current_quality="V")),
     (2, "250", "CurrentQualityMethod", "V", "the current read may not be V")),
    ("A004", "negative",
     reads(read_of(quantity="-100")),
     (2, "250", "Quantity", "-100", "the quantity is negative")),
    ("A004", "missing",
     reads(read_of(quantity="")),
     (2, "250", "Quantity", "", "missing or not a plain decimal number")),
    ("A004", "exponent",
     reads(read_of(quantity="1e2")),
     (2, "250", "Quantity", "1e2", "missing or not a plain decimal number")),
    ("A005", "another multiplier",
     reads(read_of(), later(), later(previous="000310", previous_at="20250701000001",
     current="000410", current_at="20251001000001", quantity="7000")),
     (4, "250", "Quantity", "7000",
      "does not follow from the two reads by this register's usual multiplier")),
    ("A005", "a quantity of nothing",
     reads(read_of(current="000100")),
     (2, "250", "Quantity", "100", "a quantity although both reads are the same")),
    ("A006", "B",
     reads(read_of(direction="B")),
     (2, "250", "DirectionIndicator", "B", "E (from the grid) or I (into the grid) expected")),
    ("A007", "time of an estimate",
     reads(read_of(current_at="20250701101500", current_quality="E65")),
     (2, "250", "CurrentRegisterReadDateTime", "20250701101500",
      "an estimate has the time 000000")),
    ("A007", "before the next read",
     reads(read_of(current_at="20250630000000", current_quality="E65")),
     (2, "250", "CurrentRegisterReadDateTime", "20250630000000",
      "an estimate lies on or after the next scheduled read")),
    ("A008", "8 digits",
     reads(read_of(previous_at="20250101")),
     (2, "250", "PreviousRegisterReadDateTime", "20250101", "not a stamp CCYYMMDDhhmmss")),
    ("A008", "current",
     reads(read_of(current_at="")),
     (2, "250", "CurrentRegisterReadDateTime", "", "not a stamp CCYYMMDDhhmmss")),
    ("A009", "re-issued",
     reads(read_of(), later(previous="000190", quantity="120")),
     (3, "250", "PreviousRegisterRead", "000190", "the period before ended with 000200")),
    ("A010", "other content",
     reads(read_of(), read_of(current="000300", quantity="200")),
     (3, "250", None, "SASMPL0123",
      "this period stands twice in the file with one stamp and different content")),
    ("A010", "equal content",
     reads(read_of(), read_of(quantity="100.0")),
     (3, "250", None, "SASMPL0123",
      "this period stands twice in the file with the same content; counted once")),
    ("A011", "letters",
     reads(read_of(previous="0001OO", quantity="100")),
     (2, "250", "PreviousRegisterRead", "0001OO", "not a register read of digits and one point")),
    ("A011", "current",
     reads(read_of(current="2OO")),
     (2, "250", "CurrentRegisterRead", "2OO", "not a register read of digits and one point")),
]  # fmt: skip


def found_in(raw: bytes, profile: str, **options: object) -> MeterData:
    """Read one file."""
    parser = Parser(profile=profile, now=NOW, **options)
    return parser.feed([Text("x.csv", raw)])


@cache
def case_read(raw: bytes, profile: str) -> MeterData:
    """Read a case once for all that is asked of it, with a limit so that I007 can be met."""
    return found_in(raw, profile, value_limits={("E1", "kWh"): Decimal(1000)})


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("rule", "raw", "said"),
    [pytest.param(r, raw, said, id=f"{r} {n}") for r, n, raw, said in CASES],
)
def test_a_finding_says_where_what_and_what_to_do(
    rule: str, raw: bytes, said: tuple[object, ...], profile: str
):
    """Line, record, field, value, message, to do and raw line of the rule's (last) finding."""
    findings = case_read(raw, profile).findings
    mine = findings.filter(pl.col("rule") == rule)
    if severity(rule, profile) == "-":
        assert mine.is_empty()
        return
    row = mine.row(-1, named=True)
    assert tuple(row[name] for name in ("line", "record", "field", "value", "message")) == said
    assert row["source"] == "x.csv"
    assert row["todo"] == RULES[rule].todo
    lines = raw.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    if row["line"] is None or rule == "N009":
        assert row["raw"] is None
    elif rule != "F001":
        assert row["raw"] == lines[row["line"] - 1]


def test_every_rule_has_its_golden_finding():
    """No rule of the catalogue is left out, but those that need an envelope, a name or a list."""
    assert {rule for rule, *_ in CASES} == set(RULES) - set(UNBREAKABLE)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_right_file_has_no_findings(profile: str):
    """The file from which the cases differ breaks nothing."""
    for raw in (one(day()), varied("400,1,20,A,,", "400,21,48,S14,76,"), reads(read_of(), later())):
        assert found_in(raw, profile).findings.is_empty()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("rule", "raw"),
    [pytest.param(r, raw, id=f"{r} {n}") for r, n, raw, _ in CASES if n not in ORPHANS],
)
def test_severity_decides_what_is_kept_out(rule: str, raw: bytes, profile: str):
    """F keeps every record out, D its own, W none; the record is in quarantine with the rule."""
    data = case_read(raw, profile)
    mine = data.findings.filter(pl.col("rule") == rule)
    rejecting = {
        each
        for frame in (data.frame_days, data.register_reads)
        for rules in frame["rejected_by"]
        for each in rules
    } | {each for rules in data.quarantine["rules"] for each in rules}
    kept_out = {"F", "D"} & set(mine["severity"])
    if data.refused or (data.frame_days.is_empty() and data.register_reads.is_empty()):
        return
    assert (rule in rejecting) == bool(kept_out)
    if "F" in kept_out:
        assert data.accepted.frame_days.is_empty()
        assert data.accepted.register_reads.is_empty()


# ---------------------------------------------------------------- what no text can break alone


ENVELOPE = Envelope(sender="MDPEXMPL", receiver="RETEXMPL", kind="NEM12", record_count=4)


@pytest.mark.parametrize(
    ("envelope", "rule", "field", "message"),
    [
        (Envelope(receiver="OTHER"), "F008", "ToParticipant",
         "the header says RETEXMPL, the envelope OTHER"),
        (Envelope(sender="OTHER"), "F008", "FromParticipant",
         "the header says MDPEXMPL, the envelope OTHER"),
        (Envelope(kind="NEM13"), "F008", "VersionHeader",
         "the envelope announces NEM13, the header says NEM12"),
        (Envelope(record_count=5), "F020", None,
         "the envelope announces 5 records, the payload has 4"),
    ],
)  # fmt: skip
def test_header_and_envelope_agree(envelope: Envelope, rule: str, field: str, message: str):
    """F008 and F020 compare the payload with the aseXML message around it, under b2b."""
    parser = Parser(profile="b2b", now=NOW)
    findings = parser.feed([Text("m.xml", one(day()), envelope=envelope)]).findings
    assert findings.select("rule", "severity", "field", "message").rows() == [
        (rule, severity(rule, "b2b"), field, message)
    ]
    assert parser.feed([Text("m.xml", one(day()), envelope=ENVELOPE)]).findings.is_empty()


def test_a_file_for_somebody_else_is_found():
    """F008 when the settings say who we are; the portal profile does not ask."""
    strict = found_in(one(day()), "b2b", participant="OTHERRET")
    assert strict.findings["message"].to_list() == ["the file is for RETEXMPL, we are OTHERRET"]
    assert strict.frame_days["rejected_by"].to_list() == [["F008"]]
    assert found_in(one(day()), "b2b", participant="retexmpl").findings.is_empty()
    assert found_in(one(day()), "portal", participant="OTHERRET").findings.is_empty()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_name_that_disagrees_with_the_content_is_found(profile: str):
    """F019, in any case of letters; a name of another form says nothing."""
    parser = Parser(profile=profile, now=NOW)
    wrong = Text("x", one(day()), name="nem13#1#MDPEXMPL#OTHER.csv")
    right = Text("x", one(day()), name="nem12#1#mdpexmpl#RETEXMPL.csv")
    other = Text("x", one(day()), name="SASMPL0123_20250305_DETAILED.csv")
    findings = parser.feed([wrong]).findings
    assert findings.select("rule", "severity", "message").rows() == [
        ("F019", "W", "name against header: nem13 against NEM12, OTHER against RETEXMPL")
    ]
    assert parser.feed([right, other]).findings.is_empty()
