"""Bytes to lines: encodings, marks, line ends, blanks, padding, limits.

Why: everything a text editor hides differs between senders, and a finding without its true line
number is worth little. Next: test_reader_properties.py for any mixture of these.
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from nemflow.mdff.meterdata import MeterData
from nemflow.mdff.reader import Parser, Text

NOW = datetime(2025, 10, 10, tzinfo=UTC)
LINES = [
    "100,NEM12,202503060215,MDPEXMPL,RETEXMPL",
    "200,SASMPL0123,E1,1,E1,N1,EX0000123,kWh,30,",
    "300,20250304," + "0.5," * 48 + "A,,,20250306011500,",
    "300,20250305," + "0.5," * 48 + "A,,,20250306011500,",
    "900",
]
TEXT = "".join(f"{line}\r\n" for line in LINES).encode()


def feed(raw: bytes, profile: str = "b2b") -> MeterData:
    """Read one text."""
    return Parser(profile=profile, now=NOW).feed([Text("x.csv", raw)])


def said(data: MeterData) -> list[tuple[str, str]]:
    """Rule and message of each finding."""
    return data.findings.select("rule", "message").rows()


ENDS = {
    "LF": ("\n",) * 5,
    "CR": ("\r",) * 5,
    "LF and CRLF": ("\r\n", "\n", "\r\n", "\n", "\r\n"),
    "CR and CRLF": ("\r\n", "\r", "\r\n", "\r", "\r\n"),
    "CR and LF": ("\r", "\n", "\r", "\n", "\n"),
    "none at the end": ("\r\n",) * 4 + ("",),
    "CR at the end": ("\r\n",) * 4 + ("\r",),
}


@pytest.mark.parametrize("name", ENDS)
def test_lines_end_in_many_ways(name: str):
    """LF, CR, mixtures, no last end: the same days on the same lines, warned of once each way."""
    ends = ENDS[name]
    raw = "".join(line + end for line, end in zip(LINES, ends, strict=True)).encode()
    data = feed(raw)
    assert data.frame_days["line"].to_list() == [3, 4]
    assert data.days["values"].to_list() == feed(TEXT).days["values"].to_list()
    counts = {"LF": sum(e == "\n" for e in ends), "CR": sum(e == "\r" for e in ends)}
    wanted = [
        ("F014", f"{count} lines end with {end} alone; CRLF expected")
        for end, count in counts.items()
        if count
    ]
    if not ends[-1]:
        wanted.append(("F014", "the last line has no line end; CRLF expected"))
    assert said(data) == wanted
    assert data.findings["severity"].unique().to_list() == ["W"]


def test_line_ends_of_one_file_say_nothing_of_another():
    """A file of CRs beside a right one: only the first is warned of."""
    texts = [Text("cr", TEXT.replace(b"\r\n", b"\r")), Text("right", TEXT), Text("u", TEXT[:-2])]
    data = Parser(now=NOW).feed(texts)
    assert data.findings["source"].to_list() == ["cr", "u"]
    assert data.frame_days["line"].to_list() == [3, 4] * 3


def test_a_byte_order_mark_is_skipped():
    """Also in the middle of two files that were put together."""
    data = feed(b"\xef\xbb\xbf" + TEXT)
    assert said(data) == [("F012", "the file starts with a byte order mark; it is skipped")]
    joined = feed(TEXT + b"\xef\xbb\xbf" + TEXT.replace(b"0123,", b"0124,"), "portal")
    assert joined.headers["block"].to_list() == [1, 2]
    assert joined.frame_days["nmi"].unique(maintain_order=True).to_list() == [
        "SASMPL0123", "SASMPL0124",
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\xfe\xff"])
def test_utf_16_is_refused_and_says_so(data: bytes):
    """Not guessed at: the whole file would be zero bytes to the reader."""
    [error] = feed(data + TEXT.decode().encode("utf-16-le")).refused
    assert "UTF-16" in str(error)
    assert error.rule == "F001"


def test_binary_is_refused_and_takes_nothing_with_it():
    """Beside it a good file is read."""
    texts = [Text("bin", bytes(range(256)) * 10 + b"\0" * 500), Text("good", TEXT)]
    data = Parser(now=NOW).feed(texts)
    assert [(error.source, error.rule) for error in data.refused] == [("bin", "F001")]
    assert data.frame_days["source"].to_list() == ["good", "good"]
    assert data.findings["source"].to_list() == ["bin"]


def test_a_single_zero_byte_is_a_fault_of_its_field_only():
    """It reaches no number, and no other line."""
    data = feed(TEXT.replace(b"300,20250304,0.5", b"300,20250304,0.\x005"))
    assert data.frame_days["rejected_by"].to_list() == [["I004"], []]


def test_windows_1252_is_read_line_by_line():
    """A line that is not UTF-8 is taken for Windows-1252; its UTF-8 neighbours stay right."""
    utf8 = LINES[2].replace("A,,,", "S14,0,Zähler,")
    ansi = LINES[3].replace("A,,,", "S14,0,Zähler “x”,")
    raw = b"\r\n".join([*(line.encode() for line in (*LINES[:2], utf8)), ansi.encode("cp1252"),
                        b"900", b""])  # fmt: skip
    data = feed(raw)
    assert data.frame_days["reason_text"].to_list() == ["Zähler", "Zähler “x”"]
    assert said(data) == [
        ("F012", "bytes beyond ASCII that are not UTF-8, first on line 4; lines that are not UTF-8 "
                 "are read as Windows-1252"),
    ]  # fmt: skip


def test_characters_that_other_tools_take_for_line_ends_are_none():
    """U+2028, U+0085, form feed and the like stay inside their field."""
    text = "a\u2028b\u0085c\x1cd\x0be"
    data = feed(TEXT.replace(b"A,,,", f"S14,0,{text},".encode()))
    assert data.frame_days["reason_text"].to_list() == [text, text]
    assert data.frame_days["line"].to_list() == [3, 4]


def test_blank_lines_are_skipped_and_counted():
    """Line numbers stay those of an editor; the first blank line is named."""
    raw = b"\r\n" + TEXT.replace(b"300,20250305", b"  \t \r\n,,,\r\n300,20250305") + b"\r\n"
    data = feed(raw)
    assert data.frame_days["line"].to_list() == [4, 7]
    assert said(data) == [("F013", "line 1 is blank, and 3 more; blank lines are not allowed")]


def test_padding_and_blanks_round_an_indicator_do_not_hide_a_record():
    """Spaces and quotes round the indicator; commas after the last field."""
    raw = TEXT.replace(b"\r\n", b",,,\r\n").replace(b"200,", b' "200" ,').replace(b"900,", b" 900,")
    data = feed(raw, "portal")
    assert data.frame_days.height == 2
    assert set(data.findings["rule"]) == {"F015", "F016", "F017"}


def test_a_line_of_64_kib_is_the_limit():
    """At the limit a line is judged like any other; above it the file is refused (F001)."""
    for extra, rules in ((0, {"I011"}), (1, {"F001"})):
        long = LINES[3] + "x" * (64 * 1024 - len(LINES[3]) + extra)
        data = feed(TEXT.replace(LINES[3].encode(), long.encode()), "portal")
        assert set(data.findings["rule"]) == rules
        assert data.findings["line"].to_list() == [4]
        assert data.frame_days["line"].to_list() == ([3, 4] if extra == 0 else [3])
        rejected = [list(rules)] if extra else [[], []]
        assert data.frame_days["rejected_by"].to_list() == rejected


def test_a_hostile_line_does_not_fill_the_memory():
    """In pieces, the rest of an endless line is passed over, and the next record is read."""

    class Endless:
        """A header, a line of 64 MiB, then a day, never more than asked for."""

        def __init__(self) -> None:
            head, day = TEXT.split(b"300,", 1)
            self.parts = [head, *[b"x" * 2**20] * 64, b"\r\n300," + day]

        def read(self, size: int) -> bytes:
            """The next part."""
            return self.parts.pop(0) if self.parts else b""

    import tracemalloc

    tracemalloc.start()
    parts = list(Parser(now=NOW).chunks(Text("x", Endless()), 2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    data = MeterData.concat(parts)
    assert data.findings.select("rule", "line").rows() == [("F001", 3)]
    assert data.frame_days["line"].to_list() == [4, 5]
    assert peak < 20 * 2**20


def test_lines_within_an_envelope_are_numbered_by_the_file():
    """``first_line`` counts; line ends in XML are LF and not worth a word."""
    from nemflow.mdff.asexml import Envelope

    text = Text("m.xml", TEXT.replace(b"\r\n", b"\n"), envelope=Envelope(), first_line=12)
    data = Parser(now=NOW).feed([text])
    assert data.frame_days["line"].to_list() == [14, 15]
    assert data.headers["line"].to_list() == [12]
    assert data.findings.is_empty()


@pytest.mark.parametrize("raw", [b"", b"\r\n", b" \n,,\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(raw: bytes):
    """Whatever emptiness is made of."""
    [error] = feed(raw).refused
    assert error.rule == "F018"
    assert "empty" in str(error)


def test_a_file_of_a_single_record_is_read_as_far_as_it_goes():
    """No record alone makes the reader fail."""
    for line in (*LINES, "400,1,48,A,,", "500,N,,,", "550,N,,N,", "250,SASMPL0123"):
        data = feed(f"{line}\r\n".encode(), "portal")
        assert not data.refused
        assert data.frame_days.is_empty()
        assert "F018" not in set(data.findings["rule"])
        assert data.quarantine.height == (1 if line[:3] in ("300", "250") else 0)
        assert data.findings.filter(pl.col("line") == 1).height > 0
