"""The code lists hold what the format says, in shapes that vectorised code can use."""

from __future__ import annotations

import re
from datetime import date, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemflow.mdff import codes

NOT_LISTED = {56, 57, 59, 63, 66}


def test_quality_flags_carry_method_and_reason_as_the_format_says() -> None:
    """A and V stand alone, E S F have a method, S and F need a reason, V forbids one."""
    flags = codes.QUALITY_FLAGS
    assert set(flags) == set("AESFVN")
    assert {f.letter for f in flags.values() if f.has_method} == set("ESF")
    assert {f.letter for f in flags.values() if f.reason == "required"} == set("SF")
    assert {f.letter for f in flags.values() if f.reason == "forbidden"} == {"V"}
    assert flags["V"].records == ("300",)
    assert "250" not in flags["E"].records
    assert flags["N"].withdrawn == date(2021, 10, 1)


def test_quality_ranks_actual_above_final_above_substitute_above_estimate() -> None:
    """A > F > S > E > N; V has no rank."""
    flags = codes.QUALITY_FLAGS
    assert sorted("AFSEN", key=lambda letter: -flags[letter].rank) == list("AFSEN")
    assert flags["V"].rank < 0


def test_methods_are_those_of_the_digest() -> None:
    """11 to 25, 51 to 59, 61 to 69 and 71 to 75, none more."""
    wanted = [*range(11, 26), *range(51, 60), *range(61, 70), *range(71, 76)]
    assert list(codes.METHOD_FLAGS) == [str(n) for n in wanted]


@pytest.mark.parametrize("number", [52, 56, 57, 58, 59, 61, 62, 63, 68, 51])
def test_methods_for_both_estimates_and_substitutes(number: int) -> None:
    """These go with E, S and F."""
    assert {f"{flag}{number}" for flag in "ESF"} <= codes.QUALITY_METHODS


def test_methods_for_one_kind_only() -> None:
    """65 and 75 are for estimates alone; the 1x, 2x and the rest for substitutes alone."""
    estimates_only = {m.number for m in codes.METHOD_FLAGS.values() if not m.substitute}
    assert estimates_only == {"65", "75"}
    for pair in ("E11", "E25", "E54", "E64", "E66", "S65", "F75"):
        assert pair not in codes.QUALITY_METHODS
    assert {"A", "V", "N", "S14", "F54", "E65"} <= codes.QUALITY_METHODS
    assert "S99" not in codes.QUALITY_METHODS


def test_installation_types_follow_the_first_digit_of_the_method() -> None:
    """1x and 2x are for types 1 to 4, 5x for 5, 6x for 6, 7x for 7."""
    wanted = {"1": "1-4", "2": "1-4", "5": "5", "6": "6", "7": "7"}
    for method in codes.METHOD_FLAGS.values():
        assert method.installations == wanted[method.number[0]]
        assert method.estimate or method.substitute


def test_what_rests_on_one_source_is_marked() -> None:
    """Method numbers that one library alone knows are marked as not verified."""
    marked = {m.number for m in codes.METHOD_FLAGS.values() if not m.verified}
    assert marked == {"16", "20", "21", "22", "23", "24", "25", "59", "69"}
    assert codes.METHOD_FLAGS["16"].obsolete_since


def test_the_reason_lists_do_not_overlap_and_leave_out_what_was_merged() -> None:
    """80 current codes (10 of them of 2024), 25 obsolete, and five numbers in neither list."""
    assert codes.CURRENT_REASONS | codes.OBSOLETE_REASONS == codes.KNOWN_REASONS
    assert not codes.CURRENT_REASONS & codes.OBSOLETE_REASONS
    assert set(range(110)) - codes.KNOWN_REASONS == NOT_LISTED
    assert max(codes.KNOWN_REASONS) == 109
    assert len(codes.OBSOLETE_REASONS) == 25


def test_meter_events_are_current_reasons() -> None:
    """61, 79 and 89 go with A on a 400."""
    assert {61, 79, 89} == codes.METER_EVENT_REASONS <= codes.CURRENT_REASONS


@pytest.mark.parametrize(
    ("code", "on", "title"),
    [
        (79, None, "Power Outage Alarm"),
        (5, None, "Blank screen"),
        (5, date(2014, 5, 14), "Meter/equipment changed"),
        (5, date(2014, 5, 15), "Blank screen"),
        (61, date(2010, 1, 1), "Meter box damaged/faulty"),
        (61, date(2025, 3, 5), "Equipment tampered"),
        (4, date(2010, 1, 1), "Dangerous dog"),
        (4, date(2025, 3, 5), "Dangerous dog"),
        (104, date(2025, 3, 5), "Transposed Channel"),
        (104, None, "Transposed Channel"),
        (57, None, None),
        (110, date(2025, 3, 5), None),
        (-1, None, None),
    ],
)
def test_a_title_depends_on_the_date(code: int, on: date | None, title: str | None) -> None:
    """Numbers were given new meanings; the title is the one of the file's time."""
    assert codes.reason_title(code, on) == title


def test_the_new_codes_are_in_force_since_29_september_2024() -> None:
    """100 to 109 came with version 2.6; obsolete codes end before May 2022."""
    for code in range(100, 110):
        assert codes.REASONS[code][0].valid_from == date(2024, 9, 29)
    for code in codes.OBSOLETE_REASONS:
        assert codes.REASONS[code][-1].valid_until == date(2022, 4, 30)
    assert date(2022, 5, 1) == codes.REASONS_REVISED


def test_meanings_of_a_code_follow_each_other_without_gap() -> None:
    """Each meaning begins the day after the one before it ended."""
    for meanings in codes.REASONS.values():
        for before, after in pairwise(meanings):
            assert before.valid_until is not None
            assert after.valid_from == before.valid_until + timedelta(days=1)
            assert before.title != after.title


@given(st.integers(-5, 200), st.dates(date(1998, 1, 1), date(2040, 1, 1)))
def test_every_known_code_has_a_title_on_every_date(code: int, on: date) -> None:
    """A number of either list is never without words; any other always is."""
    assert (codes.reason_title(code, on) is not None) == (code in codes.KNOWN_REASONS)


def test_trans_codes() -> None:
    """Nine codes, and T as history."""
    assert "".join(codes.TRANS_CODES) == "ACDEGNORST"
    assert [c for c, t in codes.TRANS_CODES.items() if t.obsolete] == ["T"]


def test_the_unit_list_is_the_formats() -> None:
    """23 units; mega has 7 decimals, kilo 4, base 1, the power factor 3."""
    assert len(codes.UNITS) == 23
    wanted = {1_000_000: 7, 1_000: 4, 1: 1}
    for name, unit in codes.UNITS.items():
        assert unit.name == name
        assert unit.base in codes.UNITS
        assert codes.UNIT_DECIMALS[name] == (3 if name == "pf" else wanted[unit.scale])
        assert codes.UNITS[unit.base].group == unit.group


def test_only_energy_is_added_up() -> None:
    """Watt-, var- and volt-ampere-hours are; volts, amps, power and power factor never."""
    summable = {name for name, unit in codes.UNITS.items() if unit.summable}
    assert summable == {f"{k}{e}" for k in ("", "k", "M") for e in ("Wh", "VArh", "VAh")}
    assert summable == codes.ENERGY_UNITS
    for name in ("V", "kV", "A", "kA", "pf", "kW", "kVAr", "kVA"):
        assert not codes.UNITS[name].summable


@given(st.sampled_from(sorted(codes.UNITS)), st.data())
def test_a_unit_is_known_in_any_case_and_keeps_its_meaning(name: str, data) -> None:
    """Every mix of cases, with spaces around, is the same unit."""
    cases = data.draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    text = "".join(c.upper() if up else c.lower() for c, up in zip(name, cases, strict=True))
    assert codes.canonical_unit(f" {text} ") is codes.UNITS[name]


@pytest.mark.parametrize("text", ["", "  ", "kW/h", "kilowatthours", "kWhh", "MVARHS", "ｋＷｈ"])
def test_what_is_no_unit_is_none(text: str) -> None:
    """A unit is never guessed; full-width letters are no unit."""
    assert codes.canonical_unit(text) is None


def test_unit_tables_work_in_a_vectorised_look_up() -> None:
    """The plain tables do in polars what the functions do one by one."""
    frame = pl.DataFrame({"uom": ["KWH", "kvarh", "Wh", "litre", None]})
    canon = pl.col("uom").str.to_uppercase().replace_strict(codes.UNIT_CANON, default=None)
    assert frame.select(canon).to_series().to_list() == ["kWh", "kVArh", "Wh", None, None]


@pytest.mark.parametrize(
    ("suffix", "direction", "quantity", "role"),
    [
        ("A1", "generation", "active", "average"),
        ("B1", "generation", "active", "master"),
        ("C1", "generation", "active", "check"),
        ("D1", "consumption", "active", "average"),
        ("E1", "consumption", "active", "master"),
        ("e2", "consumption", "active", "master"),
        ("F1", "consumption", "active", "check"),
        ("N1", "net", "active", "net"),
        ("J1", "generation", "reactive", "average"),
        ("K1", "generation", "reactive", "master"),
        ("L1", "generation", "reactive", "check"),
        ("P1", "consumption", "reactive", "average"),
        ("Q1", "consumption", "reactive", "master"),
        ("R1", "consumption", "reactive", "check"),
        ("X1", "net", "reactive", "net"),
        ("S1", "n/a", "apparent", "average"),
        ("TA", "n/a", "apparent", "master"),
        ("UZ", "n/a", "apparent", "check"),
        ("G1", "n/a", "pf", "master"),
        ("H1", "n/a", "q", "master"),
        ("Y1", "n/a", "q", "check"),
        ("M1", "n/a", "par", "master"),
        ("W1", "n/a", "par", "check"),
        ("V1", "n/a", "volt_amp", "master"),
        ("Z1", "n/a", "volt_amp", "check"),
        ("11", "n/a", "n/a", "master"),
    ],
)
def test_a_suffix_says_direction_quantity_and_role(
    suffix: str, direction: str, quantity: str, role: str
) -> None:
    """Seen from the grid: E is consumption, B is feed-in, whatever a home portal calls export."""
    found = codes.parse_suffix(suffix)
    assert found is not None
    assert (found.direction, found.quantity, found.role) == (direction, quantity, role)


def test_suffixes_are_described_in_plain_words() -> None:
    """The words a person reads in a listing."""
    assert codes.describe_suffix("B1") == (
        "B1: solar or other generation fed into the grid, meter element 1"
    )
    assert codes.describe_suffix("e1").startswith("E1: consumption taken from the grid")
    assert codes.describe_suffix("41") == "41: first controlled load, meter 1"
    assert codes.describe_suffix("71").startswith("71: first data stream defined by the network")
    assert "not a data stream" in codes.describe_suffix("I1")


@given(st.text(max_size=3))
def test_patterns_and_tables_agree_on_what_a_suffix_is(text: str) -> None:
    """Whatever the text: it has a meaning exactly when one of the two patterns matches it."""
    upper = text.strip().upper()
    matches = any(
        re.fullmatch(pattern, upper, re.ASCII)
        for pattern in (codes.INTERVAL_SUFFIX, codes.ACCUMULATION_SUFFIX)
    )
    assert (codes.parse_suffix(text) is not None) == matches


def test_every_letter_of_the_pattern_has_a_kind() -> None:
    """24 letters, without I and O; 9 digits."""
    assert "".join(sorted(codes.INTERVAL_KINDS)) == "ABCDEFGHJKLMNPQRSTUVWXYZ"
    assert "".join(codes.ACCUMULATION_KINDS) == "123456789"


@pytest.mark.parametrize(
    ("text", "right"),
    [("E1", True), ("E1B1Q1", True), ("1141", True), ("E1B", False), ("", False), ("I1", False),
     ("E0", False), ("EO", False), ("e1", False)],
)  # fmt: skip
def test_nmi_configuration_is_a_string_of_suffixes(text: str, right: bool) -> None:
    """Even length, each pair a suffix."""
    assert bool(re.fullmatch(codes.NMI_CONFIGURATION, text, re.ASCII)) is right


def test_units_that_fit_a_suffix_are_groups_that_exist() -> None:
    """The table of rule N006 speaks of groups of units that there are."""
    groups = {unit.group for unit in codes.UNITS.values()}
    assert set().union(*codes.SUFFIX_UNIT_GROUP.values()) <= groups
    assert codes.SUFFIX_UNIT_GROUP["E"] == {"active energy"}
    assert codes.SUFFIX_UNIT_GROUP["Q"] == {"reactive energy"}
    assert codes.SUFFIX_UNIT_GROUP["T"] == {"apparent energy"}
    assert codes.SUFFIX_UNIT_GROUP["V"] == {"voltage", "current"}
    assert "1" not in codes.SUFFIX_UNIT_GROUP


def test_interval_lengths_fill_a_day() -> None:
    """5, 15 and 30 minutes, 288, 96 and 48 intervals; no other."""
    assert codes.INTERVAL_LENGTHS == {5: 288, 15: 96, 30: 48}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A", "A: actual"),
        ("s14", "S14: substitute, may still be replaced; method 14, retrospective like day"),
        ("E65", "E65: forward estimate; method 65, average daily load"),
        ("F99", "F99: final substitute, not replaced by actuals; method 99, unknown"),
        ("T", "T: not a quality"),
        ("", ": not a quality"),
    ],
)
def test_a_quality_in_words(text: str, words: str) -> None:
    """What a listing prints beside the three characters."""
    assert codes.describe_quality(text) == words
