"""Each rule can be broken alone, and the check names just that rule."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import nemflow
from nemflow.mdff.generate import BREAKABLE, generate, generate_message
from nemflow.mdff.reader import Parser, Text
from nemflow.mdff.rules import severity

NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: Rules that are only checked when a setting asks for it.
NEED_SETTINGS = {"I007"}
#: Rules after which no day of the file can be read.
UNREADABLE = {"F001", "F003", "F011", "F018"}

CASES = [
    pytest.param(kind, rule, profile, id=f"{rule}-{kind}-{profile}")
    for rule, kinds in BREAKABLE.items()
    for kind in kinds
    for profile in ("b2b", "portal")
]


@pytest.mark.parametrize(("kind", "rule", "profile"), CASES)
def test_a_broken_rule_is_found_and_no_other(kind: str, rule: str, profile: str):
    """The check of a file broken on purpose reports that rule, with its severity, and it alone."""
    text = generate(kind=kind, days=2, break_it=[rule])
    found = nemflow.check(text, profile, now=NOW).findings
    names = set(found["rule"])
    expected = {rule} if severity(rule, profile) != "-" and rule not in NEED_SETTINGS else set()
    assert names == expected
    severities = set(found.filter(pl.col("rule") == rule)["severity"])
    assert severities == ({severity(rule, profile)} if expected else set())


@pytest.mark.parametrize("kind", ["NEM12", "NEM13"])
@pytest.mark.parametrize("profile", ["b2b", "portal"])
@pytest.mark.parametrize("options", [{}, {"substituted": 0.3, "service_orders": True}])
def test_an_unbroken_file_has_no_findings(kind: str, profile: str, options: dict[str, object]):
    """What generate makes is right under both profiles."""
    extra = {"estimated": 0.3, "interval": (5, 15, 30)} if kind == "NEM12" else {}
    streams = ("E1", "B1", "E2", "Q1", "K1") if kind == "NEM12" else ("11", "41")
    text = generate(kind=kind, nmis=6, days=100, streams=streams, **options, **extra)
    assert nemflow.check(text, profile, now=NOW).findings.is_empty()


@pytest.mark.parametrize("kind", ["NEM12", "NEM13"])
def test_many_rules_can_be_broken_at_once(kind: str):
    """Every rule that adds records is found in one file, and the right days are all read."""
    whole = {"F001", "F002", "F003", "F006", "F007", "F011", "F014", "F018", "F004"}
    rules = [rule for rule, kinds in BREAKABLE.items() if kind in kinds and rule not in whole]
    right, wrong = (
        Parser(profile="b2b", now=NOW).feed([Text("x", generate(kind=kind, days=2, break_it=ids))])
        for ids in ([], rules)
    )
    assert set(rules) - NEED_SETTINGS <= set(wrong.findings["rule"])
    columns = ["nmi", "suffix", "day", "values"] if kind == "NEM12" else ["nmi", "quantity"]
    name = "days" if kind == "NEM12" else "register_reads"
    before = getattr(right, name).select(columns)
    after = getattr(wrong, name).select(columns).filter(pl.col("nmi") == "SASMPL0001")
    digits = {"values": pl.List(pl.Decimal(38, 14)), "quantity": pl.Decimal(38, 14)}
    digits = {column: dtype for column, dtype in digits.items() if column in columns}
    assert_frame_equal(before.cast(digits), after.cast(digits))


@pytest.mark.parametrize("rule", sorted(set(BREAKABLE) - UNREADABLE))
def test_a_broken_record_does_not_hide_the_others(rule: str):
    """The file's right days are read whatever else is in it."""
    for kind in BREAKABLE[rule]:
        data = nemflow.read(generate(kind=kind, days=2, break_it=[rule]), now=NOW)
        frame = data.frame_days if kind == "NEM12" else data.register_reads
        assert frame.filter(pl.col("nmi") == "SASMPL0001").height == (4 if kind == "NEM12" else 2)


def test_an_implausible_value_is_found_once_a_limit_is_set():
    """I007 needs a limit; then it names the value."""
    text = generate(days=1, break_it=["I007"])
    parser = Parser(now=NOW, value_limits={("E1", "kWh"): Decimal(1000)})
    assert set(parser.feed([Text("x", text)]).findings["rule"]) == {"I007"}


@pytest.mark.parametrize("rule", ["F008", "F020"])
def test_an_envelope_can_be_broken(rule: str):
    """What the text cannot break, the message around it can."""
    right = generate_message(generate(days=1), record_count=True)
    wrong = generate_message(generate(days=1), break_it=[rule])
    assert nemflow.check(right, "b2b", now=NOW).findings.is_empty()
    assert set(nemflow.check(wrong, "b2b", now=NOW).findings["rule"]) == {rule}
