"""One module decides what is printed: table, JSON or CSV, for people or for programs."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemflow.cli import output, wording
from nemflow.cli.output import Column, Output
from nemflow.errors import UsageError

MARKET = timezone(timedelta(hours=10))
COLUMNS = (Column("name"), Column("n", "count", right=True), Column("hidden", machine_only=True))


def printed(capsys: pytest.CaptureFixture[str], form: str, rows: list[dict]) -> str:
    """What is printed of the rows in a form."""
    Output(form).rows(COLUMNS, rows)
    return capsys.readouterr().out


def test_json_and_csv_exclude_each_other() -> None:
    """Asking for both is wrong usage, not a guess."""
    with pytest.raises(UsageError):
        Output.choose(as_json=True, as_csv=True)


def test_a_table_in_a_pipe_is_plain_and_whole(capsys) -> None:
    """Without a terminal: no colour codes, nothing cut, machine columns left out."""
    text = printed(capsys, "table", [{"name": "x" * 200, "n": 1234567, "hidden": "h"}])
    assert "\x1b" not in text
    assert "x" * 200 in text
    assert "1,234,567" in text
    assert "hidden" not in text


def test_an_empty_table_says_so(capsys) -> None:
    """No rows is a sentence for people, an empty array or a heading for programs."""
    assert printed(capsys, "table", []) == "Nothing.\n"
    assert json.loads(printed(capsys, "json", [])) == []
    assert printed(capsys, "csv", []) == "name,n,hidden\n"


def test_json_keeps_decimals_exact_and_times_with_offset(capsys) -> None:
    """A decimal is a number literal with all its digits; a time is ISO with its offset."""
    at = datetime(2025, 3, 5, 0, 30, tzinfo=MARKET)
    value = Decimal("12345678901234567890.123456789")
    text = printed(capsys, "json", [{"name": at, "n": value, "hidden": date(2025, 3, 5)}])
    assert "12345678901234567890.123456789" in text
    row = json.loads(text, parse_float=Decimal)[0]
    assert row == {"name": "2025-03-05T00:30:00+10:00", "n": value, "hidden": "2025-03-05"}


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.decimals(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_says_what_was_meant(value: object) -> None:
    """Any nesting of plain values and decimals comes back as it was."""

    def plain(thing: object) -> object:
        match thing:
            case Decimal():
                return Decimal(format(thing, "f"))
            case list():
                return [plain(each) for each in thing]
            case dict():
                return {key: plain(each) for key, each in thing.items()}
        return thing

    back = json.loads(output.to_json(value), parse_float=Decimal)
    assert back == plain(value)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\0", "\r", "\n"])
def test_csv_text_cannot_become_a_formula(capsys, start: str) -> None:
    """A text cell that a spreadsheet would run gets a leading quote."""
    text = printed(capsys, "csv", [{"name": f"{start}cmd|' /C calc'!A0"}])
    cell = next(csv.DictReader(io.StringIO(text, newline="")))["name"]
    assert cell.startswith("'")
    assert cell[1:] == f"{start}cmd|' /C calc'!A0".replace("\r", "\n")


def test_csv_numbers_are_left_alone(capsys) -> None:
    """A negative number is a number, not a text that begins with a minus."""
    text = printed(capsys, "csv", [{"name": Decimal("-1.50"), "n": -3, "hidden": None}])
    assert text.splitlines()[1] == "-1.50,-3,"


@given(st.text())
def test_no_text_can_start_a_formula(text: str) -> None:
    """Whatever the text, the cell does not begin with a character that starts a formula."""
    safe = output.spreadsheet_safe(text)
    assert not safe.startswith(("=", "+", "-", "@", "\t", "\0", "\r", "\n"))
    assert "\r" not in safe
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    assert safe in (plain, "'" + plain)


def test_data_cannot_steer_the_terminal(capsys) -> None:
    """Escape sequences and other control characters in data are not printed as such."""
    text = printed(capsys, "table", [{"name": "\x1b[2Jgone\x07\x9b", "n": 1}])
    assert not any(ord(c) < 32 and c != "\n" for c in text)
    assert "\x9b" not in text


def test_markup_in_data_is_only_text(capsys, monkeypatch) -> None:
    """On a terminal too, ``[red]`` in a file name is shown, not obeyed."""
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(capsys, "table", [{"name": "[red]x[/red] [/]", "n": 1}])
    assert "[red]x[/red] [/]" in text


def test_decimals_stand_under_each_other(capsys) -> None:
    """A column of decimals has one number of digits: as many as needed, none cut."""
    rows = [{"n": Decimal(text)} for text in ("0.3000", "12.3450", "7")]
    Output("table").rows([Column("n", right=True)], rows)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[2:] == ["0.300", "12.345", "7.000"]


def test_a_long_table_is_cut_on_a_terminal_only(capsys, monkeypatch) -> None:
    """A person sees the first rows and how many more there are; a pipe gets all."""
    rows = [{"name": f"row{n}", "n": n} for n in range(100)]
    Output("table").rows(COLUMNS, rows, at_most=10)
    assert "row99" in capsys.readouterr().out
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    Output("table").rows(COLUMNS, rows, at_most=10)
    text = capsys.readouterr().out
    assert "row9" in text
    assert "row10" not in text
    assert "90 more rows" in text


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0, "0%"),
        (1, "100%"),
        (0.5, "50%"),
        (0.0251, "2.5%"),
        (0.0004, "<0.1%"),
        (0.9996, ">99.9%"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_all(share: float, words: str) -> None:
    """One estimated interval in a year is not 0 %, one missing is not 100 %."""
    assert wording.share(share) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ""),
        (True, "yes"),
        (1234, "1,234"),
        (Decimal("1234.500"), "1,234.5"),
        (Decimal("0.000"), "0"),
        (Decimal(100), "100"),
        (date(2025, 3, 5), "2025-03-05"),
        (datetime(2025, 3, 5, 0, 30, tzinfo=MARKET), "2025-03-05 00:30:00"),
        (datetime(2025, 3, 5, 0, 30, 5, tzinfo=MARKET), "2025-03-05 00:30:05"),
        ([5, 30], "5, 30"),
        ({"start": date(2025, 3, 5), "end": date(2025, 3, 7)}, "2025-03-05 to 2025-03-07"),
    ],
)
def test_values_as_people_read_them(value: object, words: str) -> None:
    """Every kind of value has one way to be shown."""
    assert wording.cell(value) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (5 * 10**12, "5,000.0 GB"),
    ],
)
def test_sizes(number: int, words: str) -> None:
    """Sizes have a unit that fits."""
    assert wording.size(number) == words
