"""What holds of every text, right or wrong: promises of the reader, tried on many.

Why: deviations nobody thought of arrive every day; what may never happen (a crash, a day that
vanishes without a word, another answer from a file in pieces) has to hold for those too.
Next: test_reader_rules.py and test_deviations.py for what is found, one by one.
"""

from __future__ import annotations

import io
import itertools
from contextlib import suppress
from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import nemflow
from nemflow.errors import NemflowError
from nemflow.mdff.generate import BREAKABLE
from nemflow.mdff.meterdata import MeterData
from nemflow.mdff.reader import Parser, Text

NOW = datetime(2026, 1, 1, tzinfo=UTC)
START = date(2025, 3, 4)

bounded = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

#: Files with a little of everything, as lists of lines.
BASES: list[list[str]] = [
    text.decode().split("\r\n")[:-1]
    for text in (
        nemflow.generate(days=3, start=START, substituted=0.7, service_orders=True, seed=1),
        nemflow.generate(nmis=2, days=2, start=START, interval=[30, 15], estimated=0.9, seed=2),
        nemflow.generate(days=400, kind="NEM13", streams=("11", "41"), service_orders=True),
    )
]
NASTY = [
    "", " ", ",", '"', '""', "'", "\0", "nan", "inf", "-", "-1", "+5", "1_0", "1e999999", ".", "5.",
    ".362", "123456789012345.12345678901234567890123", "1234567890123456",
    "0.1234567890123456789012345",
    "\uff11", "\u00e9", "\u2028", "\ufeff", "100", "200", "250", "300", "400", "500", "550", "900",
    "A", "V", "N", "S14", "E52", "a", "20250230", "99991231", "99991230235959", "00000101",
    "20250306021560", "20991231235959", "2.02503E+13", "2025-03-05", "5/03/2025", "0", "48", "49",
    "288", "65535", "99999", "5", "05", "1", "60", "1440", "7", "kWh", "furlongs", "NEM13",
    "x" * 300,
]  # fmt: skip
JUNK = ["", "   ", ",,,,", "900", "900,,", "hello", "100,NEM12,202503060215,A,B", "300,20250305,",
        "400,1,48,A,,", "500,N,,,", "200,SASMPL0009,E1,1,E1,N1,X,kWh,30,", "550,N,,N,"]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A generated file with lines deleted, doubled, moved, added, and fields replaced."""
    lines = list(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(0, 5))):
        here = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["delete", "double", "move", "junk", "field", "field", "twin"])):
            case "delete" if len(lines) > 1:
                del lines[here]
            case "double":
                lines.insert(draw(st.integers(0, len(lines))), lines[here])
            case "move":
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(here))
            case "junk":
                lines.insert(here, draw(st.sampled_from(JUNK)))
            case "twin":
                lines.insert(here + 1, lines[here].replace("0", "1", 1))
            case _:
                cells = lines[here].split(",")
                cells[draw(st.integers(0, len(cells) - 1))] = draw(st.sampled_from(NASTY))
                lines[here] = ",".join(cells)
    ends = draw(st.sampled_from([["\r\n"], ["\n"], ["\r"], ["\r\n", "\n"], ["\r\n", "\r"]]))
    whole = "".join(line + end for line, end in zip(lines, itertools.cycle(ends), strict=False))
    raw = whole.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig"])))
    if draw(st.booleans()):
        raw = raw.rstrip(b"\r\n")
    return raw


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A mutated file with single bytes changed."""
    raw = bytearray(draw(mutated()))
    for _ in range(draw(st.integers(0, 4))):
        if raw:
            raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


def feed(raw: bytes, profile: str = "portal") -> MeterData:
    """Read one text whole."""
    return Parser(profile=profile, now=NOW).feed([Text("x.csv", raw)])


def pieces(raw: bytes, chunk_bytes: int, profile: str = "portal") -> list[MeterData]:
    """Read one text in pieces."""
    parser = Parser(profile=profile, now=NOW)
    return list(parser.chunks(Text("x.csv", io.BytesIO(raw)), chunk_bytes))


def used(data: MeterData) -> None:
    """Ask for everything a MeterData can give, and take it all out of polars."""
    for frame in (data.days, data.readings(), data.readings(exact=True), data.register_reads,
                  data.service_events, data.findings, data.quarantine, data.headers):  # fmt: skip
        frame.rows()
    assert repr(data)


# ---------------------------------------------------------------- nothing else is raised


@bounded
@given(
    st.binary(max_size=400)
    | st.text(st.characters(codec="ascii"), max_size=400).map(str.encode)
    | st.lists(st.sampled_from(JUNK + NASTY), max_size=30).map(lambda x: "\n".join(x).encode())
    | damaged(),
    st.sampled_from(["portal", "b2b"]),
)  # fmt: skip
def test_nothing_but_nemflow_errors_is_raised(raw: bytes, profile: str):
    """Whatever the bytes: read, scan and check answer, or raise one of our errors."""
    with suppress(NemflowError):
        used(nemflow.read(raw, profile=profile, now=NOW))
    with suppress(NemflowError):
        for part in nemflow.scan(io.BytesIO(raw), profile=profile, now=NOW, chunk_bytes=300):
            used(part)
    report = nemflow.check(raw, profile, now=NOW)
    assert report.days_rejected <= report.days_read
    assert report.reads_rejected <= report.reads_read


# ---------------------------------------------------------------- nothing vanishes


def record_lines(raw: bytes, kind: bytes) -> set[int]:
    """The lines, as an editor counts them, that start with a record indicator."""
    plain = raw.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = enumerate(plain.split(b"\n"), 1)
    return {n for n, line in lines if line.split(b",")[0].strip(b" \t\"'\x0b\x0c") == kind}


@bounded
@given(mutated(), st.sampled_from(["portal", "b2b"]))
def test_every_record_is_read_or_accounted_for(raw: bytes, profile: str):
    """A 300 or 250 is a day or read, or in quarantine; rejected means in quarantine with rules."""
    data = feed(raw, profile)
    if data.refused:
        return
    for kind, frame in (("300", data.frame_days), ("250", data.register_reads)):
        quarantined = data.quarantine.filter(pl.col("record") == kind)
        left_out = set(quarantined["line"])
        rejected = frame.filter(pl.col("rejected_by").list.len() > 0)
        assert frame["line"].is_unique().all()
        assert quarantined["line"].is_unique().all()
        assert set(frame["line"]) | left_out == record_lines(raw, kind.encode())
        assert set(rejected["line"]) == left_out & set(frame["line"])
        assert (quarantined["rules"].list.len() > 0).all()
    explained = set(data.findings["rule"])
    for rules in (data.frame_days["rejected_by"], data.register_reads["rejected_by"],
                  data.quarantine["rules"]):  # fmt: skip
        assert set(rules.explode(empty_as_null=False)) <= explained
    severe = data.findings.filter(pl.col("severity") == "D")
    lines_of = set(data.frame_days["line"]) | set(data.register_reads["line"])
    rejected_lines = set(data.quarantine["line"])
    assert set(severe["line"].drop_nulls()) & lines_of <= rejected_lines
    lengths = data.frame_days.select(
        (pl.col("values").list.len() * pl.col("interval_minutes")).alias("minutes")
    )
    assert (lengths["minutes"] == 1440).all()
    assert data.readings().height == data.frame_days["values"].list.len().sum()


@bounded
@given(mutated(), st.sampled_from(["portal", "b2b"]))
def test_check_counts_what_a_load_would(raw: bytes, profile: str):
    """The counts of check are those of the quarantine, and all of a file that has an F finding."""
    data = feed(raw, profile)
    report = nemflow.check(raw, profile, now=NOW)
    kept = data.accepted
    lost = data.quarantine.group_by("record").len()
    lost_days = sum(n for record, n in lost.iter_rows() if record == "300")
    lost_reads = sum(n for record, n in lost.iter_rows() if record == "250")
    assert report.days_read == kept.frame_days.height + lost_days
    assert report.reads_read == kept.register_reads.height + lost_reads
    assert (report.days_rejected, report.reads_rejected) == (lost_days, lost_reads)
    if "F" in set(report.findings["severity"]):
        assert report.days_rejected == report.days_read


# ---------------------------------------------------------------- pieces are the whole

SAID = ["line", "rule", "severity", "field", "value", "message"]


def assert_pieces_are_the_whole(raw: bytes, chunk_bytes: int, profile: str) -> None:
    """Compare a text read in pieces with the same text read at once, column by column."""
    whole, parts = feed(raw, profile), pieces(raw, chunk_bytes, profile)
    together = MeterData.concat(parts)
    assert bool(whole.refused) == bool(together.refused)
    if whole.refused:
        return
    assert set(together.findings.select(SAID).rows()) == set(whole.findings.select(SAID).rows())
    # a rule on the file as a whole cannot reject what was handed out before it was met
    fatal = whole.findings.filter(pl.col("severity") == "F")["rule"].to_list()
    taken_back = dict(zip(together.twins["line"], together.twins["record"], strict=True))
    digits = {"values": pl.List(pl.Decimal(38, 23)), "quantity": pl.Decimal(38, 23)}
    for name, twin in (("days", "I009"), ("register_reads", "A010")):
        frames = []
        for data in (whole, together):
            frame = getattr(data, name)
            also = pl.when(pl.col("line").is_in(list(taken_back))).then(pl.lit([twin])).otherwise(
                pl.lit([], pl.List(pl.String))
            )  # fmt: skip
            rules = pl.concat_list("rejected_by", also, pl.lit(fatal, pl.List(pl.String)))
            cast = {n: dtype for n, dtype in digits.items() if n in frame.columns}
            frames.append(
                frame.cast(cast).with_columns(rules.list.unique().list.sort().alias("rejected_by"))
            )
        known = frames[0].filter(pl.col("rejected_by").list.contains(twin))["line"]
        # a twin that was rejected before is not taken back again, so its rules lack the twin's
        frames[1] = frames[1].with_columns(
            pl.when(pl.col("line").is_in(known.implode()))
            .then(pl.concat_list("rejected_by", pl.lit([twin])).list.unique().list.sort())
            .otherwise("rejected_by")
            .alias("rejected_by")
        )
        assert set(taken_back) <= set(whole.quarantine["line"])
        assert frames[0].rows() == frames[1].rows()
    events = [data.service_events.rows() for data in (whole, together)]
    assert events[0] == events[1]
    heads = [data.headers.drop("end_line").rows() for data in (whole, together)]
    assert heads[0] == heads[1]
    if not fatal:
        lost = set(together.quarantine["line"]) | set(taken_back)
        assert lost == set(whole.quarantine["line"])


@bounded
@given(mutated(), st.integers(1, 3000), st.sampled_from(["portal", "b2b"]))
def test_a_text_in_pieces_is_the_text_as_a_whole(raw: bytes, chunk_bytes: int, profile: str):
    """Days, reads, events, headers and findings do not depend on where a text was cut."""
    assert_pieces_are_the_whole(raw, max(chunk_bytes, len(raw) // 8), profile)


@pytest.mark.parametrize("base", range(len(BASES)))
def test_a_cut_at_any_place_changes_nothing(base: int):
    """Pieces of every size around a day: the cut falls on every kind of place."""
    raw = "".join(f"{line}\r\n" for line in BASES[base]).encode()
    for chunk_bytes in range(1501, 1501 + len(BASES[base][2]), 101):
        assert_pieces_are_the_whole(raw, chunk_bytes, "b2b")


@pytest.mark.parametrize("kind", ["NEM12", "NEM13"])
@pytest.mark.parametrize("profile", ["portal", "b2b"])
def test_a_file_with_every_rule_broken_reads_the_same_in_pieces(kind: str, profile: str):
    """Every rule's finding survives the cuts, with its line and words."""
    whole = {"F001", "F003", "F011", "F018"}
    rules = [rule for rule, kinds in BREAKABLE.items() if kind in kinds and rule not in whole]
    raw = nemflow.generate(kind=kind, days=2, break_it=rules)
    for chunk_bytes in (1300, 7000):
        assert_pieces_are_the_whole(raw, chunk_bytes, profile)


# ---------------------------------------------------------------- many are each alone


@bounded
@given(st.lists(mutated(), min_size=2, max_size=4), st.sampled_from(["portal", "b2b"]))
def test_many_texts_at_once_are_each_alone(raws: list[bytes], profile: str):
    """What stands in one file says nothing of another."""
    names = [f"{n}.csv" for n in range(len(raws))]
    parser = Parser(profile=profile, now=NOW)
    texts = [Text(name, raw) for name, raw in zip(names, raws, strict=True)]
    together = parser.feed(texts)
    alone = MeterData.concat([parser.feed([text]) for text in texts])
    assert [str(error) for error in together.refused] == [str(error) for error in alone.refused]
    digits = {"values": pl.List(pl.Decimal(38, 23)), "quantity": pl.Decimal(38, 23)}
    for name in ("days", "register_reads", "service_events", "headers", "quarantine"):
        left, right = (
            frame.cast({n: dtype for n, dtype in digits.items() if n in frame.columns})
            for frame in (getattr(together, name), getattr(alone, name))
        )
        assert left.rows() == right.rows(), name
    said = [set(data.findings.select("source", *SAID, "raw").rows()) for data in (together, alone)]
    assert said[0] == said[1]
