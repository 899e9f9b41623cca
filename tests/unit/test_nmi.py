"""An NMI is taken apart rightly, and a wrong one is never accepted or cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemflow.errors import DataError, UsageError
from nemflow.mdff import nmi

# The published list of the NMI Procedure (30), then three of the range kept for examples.
VECTORS = """
2001985732 8  2001985733 6  3075621875 8  3075621876 6  4316854005 9  4316854006 7
6305888444 6  6350888444 2  7001888333 8  7102000001 7  NAAAMYS582 6  NBBBX11110 0
NBBBX11111 8  NCCC519495 5  NGGG000055 4  QAAAVZZZZZ 3  QCDWW00010 2  SMVEW00085 8
VAAA000065 7  VAAA000066 5  VAAA000067 2  VAAASTY576 8  VCCCX00009 1  VEEEX00009 1
VKTS786150 2  VKTS867150 5  VKTS871650 7  VKTS876105 7  VKTS876150 3  VKTS876510 8
SASMPL0123 1  SASMPL0001 2  SASMPL0777 2
"""
CHECK_DIGITS = [(text, int(digit)) for text, digit in re.findall(r"(\w{10}) (\d)", VECTORS)]

# Digit sums from the right-most character to the left, worked by hand.
DIGIT_SUMS = {
    "2001985732": [1, 6, 2, 8, 4, 12, 17, 12, 15, 5],
    "QAAAVZZZZZ": [9, 9, 9, 9, 9, 14, 4, 11, 4, 9],
    "3075621875": [7, 10, 4, 13, 1, 9, 7, 10, 15, 6],
    "4316854005": [7, 12, 15, 7, 7, 11, 9, 13, 3, 7],
    "6305888444": [5, 7, 5, 11, 4, 11, 7, 12, 3, 9],
    "7001888333": [3, 6, 3, 11, 4, 11, 17, 12, 15, 10],
    "NBBBX11110": [15, 13, 17, 13, 17, 16, 6, 12, 6, 15],
    "QCDWW00010": [15, 13, 15, 12, 15, 15, 12, 14, 8, 9],
    "VKTS786150": [15, 8, 17, 9, 4, 10, 13, 12, 6, 14],
}

DIGITS = "0123456789"
nmis = st.text("0123456789ABCDEFGHJKLMNPQRSTUVWXYZ", min_size=10, max_size=10)


@pytest.mark.parametrize(("text", "digit"), CHECK_DIGITS)
def test_published_check_digits(text: str, digit: int) -> None:
    """Every vector of the published list, with and without its check digit."""
    assert nmi.checksum(text) == digit
    assert nmi.parse(text).check == "not given"
    with_digit = nmi.parse(f"{text}{digit}")
    assert (with_digit.nmi, with_digit.check, with_digit.check_digit) == (text, "verified", digit)


@pytest.mark.parametrize(("text", "sums"), DIGIT_SUMS.items())
def test_worked_digit_sums(text: str, sums: list[int]) -> None:
    """The check digit is the distance of the hand-worked sum to the next multiple of ten."""
    assert nmi.checksum(text) == -sum(sums) % 10


@pytest.mark.parametrize(("text", "digit"), CHECK_DIGITS)
def test_a_wrong_check_digit_is_an_error_and_nothing_is_cut(text: str, digit: int) -> None:
    """All nine wrong digits are refused; the message names the right one."""
    for wrong in set(range(10)) - {digit}:
        with pytest.raises(DataError, match=rf"check digit of {text} is {digit}"):
            nmi.parse(f"{text}{wrong}")
        shown = nmi.parse(f"{text}{wrong}", strict=False)
        assert (shown.check, shown.given) == ("wrong", str(wrong))


@given(nmis)
def test_a_check_digit_is_one_digit_and_verifies_itself(text: str) -> None:
    """What checksum gives, parse accepts; parse never changes the ten characters."""
    digit = nmi.checksum(text)
    assert digit in range(10)
    parsed = nmi.parse(f"{text}{digit}")
    assert (parsed.nmi, parsed.check) == (text, "verified")


@given(st.text("0123456789", min_size=10, max_size=10), st.integers(0, 9), st.sampled_from(DIGITS))
def test_a_wrong_digit_is_caught_save_for_three_swaps(text: str, place: int, other: str) -> None:
    """The published sum cannot tell 0 from 4 and 1 from 5 in one place, 0 from 9 in the next."""
    changed = text[:place] + other + text[place + 1 :]
    doubled = place % 2 == 1  # counted from the left
    blind = {"0", "4"}, {"1", "5"}
    missed = {text[place], other} in blind if doubled else {text[place], other} == {"0", "9"}
    same = nmi.checksum(changed) == nmi.checksum(text)
    assert same == (missed or other == text[place])


@given(nmis)
def test_lower_case_and_spaces_are_mended(text: str) -> None:
    """A copied NMI is the same NMI."""
    assert nmi.parse(f"  {text.lower()} ") == nmi.parse(text)


@given(st.text(max_size=13))
def test_any_text_is_an_nmi_or_a_data_error(text: str) -> None:
    """Nothing else escapes, and what is accepted is ten allowed characters of the text."""
    try:
        parsed = nmi.parse(text)
    except DataError:
        return
    assert nmi.is_nmi(parsed.nmi)
    assert text.strip().upper().startswith(parsed.nmi)
    assert len(text.strip()) in (10, 11)


@pytest.mark.parametrize(
    "text",
    ["", "200198573", "200198573200", "NMI1201006", "20019857O2", "２００１９８５７３２", "C123",
     "2001 985732", "2001985732X"[:10] + "é", "2001985732\n8"],
)  # fmt: skip
def test_what_is_no_nmi_is_refused(text: str) -> None:
    """Too short, too long, I or O, full-width digits, a space inside."""
    with pytest.raises(DataError):
        nmi.parse(text)


@pytest.mark.parametrize("text", ["", "123", "12345678901", "２００１９８５７３２"])
def test_a_check_digit_needs_ten_ascii_characters(text: str) -> None:
    """Anything else is the caller's mistake."""
    with pytest.raises(UsageError):
        nmi.checksum(text)


def test_a_check_digit_can_be_had_for_pseudo_nmis_with_forbidden_letters() -> None:
    """Old samples hold the letter I; the sum does not care."""
    assert nmi.checksum("NMI1201006") in range(10)
    assert not nmi.is_nmi("NMI1201006")


@pytest.mark.parametrize(
    ("text", "region", "participant"),
    [
        ("NGGG000055", "ACT", "ACTEWP"),
        ("7001888333", "ACT", "ACTEWP"),
        ("NAAAMYS582", "NSW", "CNRGYP"),
        ("4407000000", "NSW", "CNRGYP"),
        ("NCCC519495", "NSW", "ENERGYAP"),
        ("4103000000", "NSW", "ENERGYAP"),
        ("4316854005", "NSW", "INTEGP"),
        ("4608108999", "NSW", "TRANSGP"),
        ("4708109000", "NSW", "SNOWY"),
        ("NJJJNR1234", "NSW", "FEDAIRPORTS"),
        ("2500000000", "NT", "PWCLNSP"),
        ("2503000000", "NT", "PWCLNSP"),
        ("2501000000", "NT", ""),
        ("QAAAVZZZZZ", "QLD", "ERGONETP"),
        ("QGGG000001", "QLD", "ERGONETP"),
        ("3075621875", "QLD", "ERGONETP"),
        ("QB07000001", "QLD", "ENERGEXP"),
        ("3120000000", "QLD", "ENERGEXP"),
        ("QCDWW00010", "QLD", "PLINKP"),
        ("3202000000", "QLD", "PLINKP"),
        ("2001985732", "SA", "UMPLP"),
        ("SASMPL0123", "SA", "UMPLP"),
        ("SMVEW00085", "SA", "ETSATP"),
        ("2102000000", "SA", "ETSATP"),
        ("T000001234", "TAS", "AURORAP"),
        ("8590212345", "TAS", "AURORAP"),
        ("8000123456", "TAS", "AURORAP"),
        ("TABCW12345", "TAS", "TRANSEND"),
        ("VAAASTY576", "VIC", "CITIPP"),
        ("6305888444", "VIC", "EASTERN"),
        ("VCCCX00009", "VIC", "POWCP"),
        ("6001000000", "VIC", "SOLARISP"),
        ("VEEEX00009", "VIC", "UNITED"),
        ("6509001234", "VIC", "GPUPP"),
        ("VABCW12345", "VIC", "GPUPP"),
        ("8001000000", "WA", ""),
        ("8019999999", "WA", ""),
        ("8021000000", "WA", ""),
        ("7102000001", "", ""),
        ("8803000000", "", ""),
        ("5312345678", "VIC", ""),
    ],
)
def test_the_network_is_hinted_at_by_the_longest_prefix(
    text: str, region: str, participant: str
) -> None:
    """The published allocation, longest prefix first."""
    network = nmi.parse(text).network
    assert network is not None
    assert (network.region, network.participant) == (region, participant)
    assert nmi.parse(text).region == region


@pytest.mark.parametrize("text", ["CCCC123456", "6350888444", "VKTS786150", "30ABCDEFGH"])
def test_an_unallocated_nmi_is_still_an_nmi(text: str) -> None:
    """The list is a hint of 2017, never a test; digit ranges hold for digits only."""
    assert nmi.parse(text).network is None
    assert nmi.parse(text).region == ""


def test_gas_is_told_from_electricity() -> None:
    """52 to 57 are gas meters' numbers."""
    assert {nmi.parse(f"{n}00000000").network.kind for n in range(52, 58)} == {"gas"}


def test_w_in_fifth_place_marks_transmission() -> None:
    """A distributor's letter range leaves out W there; digits have no such mark."""
    assert nmi.parse("QCDWW00010").transmission
    assert nmi.parse("NCCCW12345").transmission
    assert nmi.parse("NCCCW12345").network is None
    assert not nmi.parse("NCCC519495").transmission


def test_the_sample_range_is_recognised() -> None:
    """SASMPL and four digits are kept for invented data."""
    assert nmi.parse("SASMPL0123").sample
    assert not nmi.parse("SASMPLA123").sample
    assert not nmi.parse("2001985732").sample


@given(st.text(max_size=12))
def test_the_pattern_and_the_function_agree(text: str) -> None:
    """The pattern for vectorised use means what the function says."""
    assert nmi.is_nmi(text) == bool(re.fullmatch(nmi.NMI_PATTERN, text, re.ASCII))
