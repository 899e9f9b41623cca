"""The rule catalogue is complete, says what the digest says, and explains itself."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemflow.errors import NotFound, UsageError
from nemflow.mdff.rules import (
    DEVIATIONS,
    PROFILES,
    RULES,
    SERIES,
    SEVERITIES,
    Rule,
    explain,
    rule,
    severity,
)

# Severities under b2b and portal: the table of the digest, then the ids added since.
ROW = r"(\w{4}) (\S) (\S)"
WANTED = """
F001 F F  F002 F W  F003 F F  F004 F F  F005 F W  F006 F W  F007 F W  F008 F -  F009 F W
F010 F D  F011 W W
F012 W W  F013 W W  F014 W W  F015 W W  F016 D W  F017 W W  F018 F F  F019 W W  F020 W W
N001 D W  N002 D W  N003 D W  N004 D D  N005 D D  N006 W W  N007 D D  N008 W -  N009 W -
N010 D W  N011 W W  N012 D D  N013 W W  N014 W W  N015 W W  N016 W W
I001 D D  I002 D D  I003 W W  I004 D D  I005 D D  I006 W W  I007 W W  I008 W W  I009 D D
I010 D W  I011 W W  I012 D D  I013 W W  I014 D D  I015 D W  I016 D D
Q001 D D  Q002 D W  Q003 W W  Q004 W W  Q005 W W  Q006 W W  Q007 W W  Q008 D D  Q009 D D
Q010 W W  Q011 W W  Q012 D W
B001 W W  B002 W W  B003 W W
A001 D D  A002 D D  A003 D D  A004 D W  A005 W W  A006 D W  A007 W W
A008 D D  A009 W W  A010 D D  A011 W W
"""
SEVERITY_OF = {rule_id: (b2b, portal) for rule_id, b2b, portal in re.findall(ROW, WANTED)}

every_rule = pytest.mark.parametrize("one", RULES.values(), ids=lambda each: each.id)


def test_every_rule_of_the_digest_is_there_and_no_other() -> None:
    """Each id of the digest and of the additions is in the catalogue, under its own key."""
    assert list(RULES) == list(SEVERITY_OF)
    assert all(key == each.id for key, each in RULES.items())


@pytest.mark.parametrize(("rule_id", "wanted"), SEVERITY_OF.items())
def test_severities_are_those_of_the_digest(rule_id: str, wanted: tuple[str, str]) -> None:
    """Both profiles give the severity that was agreed for the rule."""
    assert tuple(severity(rule_id, profile) for profile in PROFILES) == wanted


@pytest.mark.parametrize(
    ("rule_id", "variant", "wanted"),
    [
        ("Q009", "not_v", ("W", "W")),
        ("Q008", "fillable", ("W", "W")),
        ("I009", "same_content", ("W", "W")),
        ("I009", "versions", ("-", "-")),
        ("A010", "same_content", ("W", "W")),
        ("A004", "missing", ("D", "D")),
        ("N001", "empty", ("D", "D")),
    ],
)
def test_a_rule_may_be_milder_or_harder_in_a_named_case(
    rule_id: str, variant: str, wanted: tuple[str, str]
) -> None:
    """Where the digest gives two severities for one rule, the named case has its own."""
    assert tuple(severity(rule_id, profile, variant) for profile in PROFILES) == wanted


def test_the_catalogue_is_sorted_by_series_then_number() -> None:
    """Series stand in their fixed order; numbers run from 001 without a hole."""
    order = [(list(SERIES).index(each[0]), int(each[1:])) for each in RULES]
    assert order == sorted(order)
    for series in SERIES:
        numbers = [int(each[1:]) for each in RULES if each[0] == series]
        assert numbers == list(range(1, len(numbers) + 1))


@every_rule
def test_words_can_be_quoted_in_a_message(one: Rule) -> None:
    """``expected`` fits after "expected", ``todo`` is whole sentences, titles are short."""
    assert len(one.title) <= 56
    assert one.title[0].isupper() or one.title[0].isdigit()
    assert not one.title.endswith(".")
    assert not one.expected.endswith(".")
    assert not re.match(r"(The|A|An|One|All|At|Each|No) [a-z]", one.expected)
    assert one.todo[0].isupper()
    assert one.todo.endswith(".")
    for text in (one.title, one.expected, one.todo):
        assert text == text.strip()
        assert "  " not in text
        assert "\n" not in text
    assert one.example.strip()
    assert one.spec


@every_rule
def test_severities_and_records_are_of_the_known_words(one: Rule) -> None:
    """Only F, D, W and - are severities, and only the eight records, or the file, are named."""
    known = set(SEVERITIES)
    assert {one.b2b, one.portal} <= known
    for variant in one.variants:
        assert {variant.b2b, variant.portal} <= known
    assert set(one.record.split(", ")) <= {
        "file", "100", "200", "300", "400", "500", "250", "550", "900"
    }  # fmt: skip


@every_rule
def test_portal_is_never_stricter_than_b2b(one: Rule) -> None:
    """What a portal download is refused for, a market file is refused for too."""
    order = "-WDF"
    for each in (one, *one.variants):
        assert order.index(each.portal) <= order.index(each.b2b)


@pytest.mark.parametrize("rule_id", ["Q001", "Q002", "Q003", "Q004", "Q005", "Q007"])
def test_quality_rules_hold_for_300_400_and_250_alike(rule_id: str) -> None:
    """A quality is a quality, wherever it stands."""
    assert RULES[rule_id].record == "300, 400, 250"


@pytest.mark.parametrize(
    ("rule_id", "need"), [("F008", "participant"), ("N002", "our own NMIs"), ("I007", "limits")]
)
def test_rules_that_need_to_know_something_say_so(rule_id: str, need: str) -> None:
    """Who we are and what is plausible stands in no file; without it these rules are silent."""
    assert need in RULES[rule_id].needs
    assert f"Needs: {RULES[rule_id].needs}" in explain(rule_id)
    assert [each.id for each in RULES.values() if each.needs] == ["F008", "N002", "I007"]


@every_rule
def test_examples_hold_invented_data_only(one: Rule) -> None:
    """Every NMI in an example is of the range kept for examples (or is the mistake shown)."""
    for nmi in re.findall(r"^(?:200|250),\"?([A-Z0-9]+)\"?,", one.example, re.MULTILINE):
        assert nmi.startswith("SASMPL") or one.id == "N001"


def test_deviations_are_complete_and_rules_and_deviations_name_each_other() -> None:
    """D01 to D41; a rule lists a deviation exactly when the deviation lists the rule."""
    assert list(DEVIATIONS) == [f"D{n:02}" for n in range(1, 42)]
    from_rules = {(each.id, d) for each in RULES.values() for d in each.deviations}
    from_deviations = {(r, each.id) for each in DEVIATIONS.values() for r in each.rules}
    assert from_rules == from_deviations


@pytest.mark.parametrize("one", DEVIATIONS.values(), ids=lambda each: each.id)
def test_a_deviation_without_a_rule_is_legal(one) -> None:
    """What no rule reports must be legal under both profiles, in words too."""
    assert one.what
    assert one.b2b
    if not one.rules:
        assert one.portal.startswith("legal")
        assert one.b2b == "as under portal"


@every_rule
def test_explain_says_everything(one: Rule) -> None:
    """The explanation holds each part of the rule, and the severities in words."""
    text = explain(one.id)
    for part in (one.id, one.title, one.expected, one.todo, one.spec, one.record):
        assert part in text
    for line in one.example.splitlines():
        assert line in text
    for letter in {one.b2b, one.portal}:
        assert SEVERITIES[letter] in text
    for deviation in one.deviations:
        assert DEVIATIONS[deviation].what in text
    for variant in one.variants:
        assert variant.when in text


def test_explain_takes_any_case() -> None:
    """People type ids in lower case."""
    assert explain(" i001 ") == explain("I001")


@pytest.mark.parametrize(
    ("typed", "near"),
    [("I01", "I001"), ("Q01O", "Q010"), ("F0012", "F012"), ("E001", "I001"), ("q9", "Q009")],
)
def test_an_unknown_rule_is_not_found_and_near_ones_are_named(typed: str, near: str) -> None:
    """A slip of the finger costs one look at the message."""
    with pytest.raises(NotFound) as caught:
        explain(typed)
    assert typed in caught.value.message
    assert near in caught.value.hint


@given(st.text(max_size=12))
def test_any_text_is_a_rule_or_not_found(text: str) -> None:
    """No text makes the look-up fail in another way, and a miss always has a next step."""
    if text.strip().upper() in RULES:
        assert rule(text).id == text.strip().upper()
    else:
        with pytest.raises(NotFound) as caught:
            rule(text)
        assert caught.value.hint


def test_unknown_profile_and_variant_are_usage_errors() -> None:
    """A misspelt profile is never read as the tolerant one."""
    with pytest.raises(UsageError, match="b2b and portal"):
        severity("I001", "strict")
    with pytest.raises(UsageError, match="no variant"):
        severity("I001", "b2b", "nonsense")
