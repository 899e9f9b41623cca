"""What the console marks in a line, and that nothing from outside becomes part of a page."""

from __future__ import annotations

import asyncio
import re
import time

import pytest

pytest.importorskip("nicegui", reason="the extra console is not installed")

from nemflow.console import marking, parts
from nemflow.console.live import Shared

DAY = ["300", "20250331", *[f"0.{n}" for n in range(48)], "A", "", "", "20250401020000", ""]


def found(line: str, field: str | None, value: str | None) -> list[str]:
    """What is marked."""
    return re.findall(r"<mark>(.*?)</mark>", marking.marked(line, field, value))


def test_the_field_a_finding_names_is_marked_wherever_it_stands() -> None:
    """Before the values, among them, and behind them, also with a value missing."""
    line = ",".join(DAY)
    assert found(line, "IntervalDate", None) == ["20250331"]
    assert found(line, "IntervalValue37", None) == ["0.36"]
    assert found(line, "QualityMethod", None) == ["A"]
    assert found(line, "UpdateDateTime", None) == ["20250401020000"]
    short = ",".join(DAY[:2] + DAY[3:])
    assert found(short, "UpdateDateTime", None) == ["20250401020000"]
    assert found("200,NMI0000001,E1,1,E1,N1,M1,kWh,31,", "IntervalLength", None) == ["31"]


def test_a_value_is_marked_when_it_occurs_once_and_nothing_is_guessed() -> None:
    """An empty field is said to be empty; what cannot be placed is not marked."""
    assert found("300,20250331,x,2,2", None, "x") == ["x"]
    assert found("300,20250331,2,2", None, "2") == []
    assert found("300,20250331,,2", "IntervalValue1", None) == ["empty"]
    assert found("300,20250331", "IntervalValue99", None) == []
    assert found("999,what", "IntervalDate", None) == []


def test_text_of_files_is_never_part_of_the_page() -> None:
    """Tags in a name, a line, a message and a record stay text."""
    bad = "<img src=x onerror=alert(1)>"
    assert "<img" not in marking.marked(f"300,{bad}", None, bad)
    assert "<img" not in marking.marked(bad * 10, None, None)
    finding = dict.fromkeys(("source", "field", "value", "rule", "message", "todo", "raw"), bad)
    assert "<img" not in marking.by_rule([finding | {"line": 1, "severity": "D"}], {})
    record = {"quarantine": 1, "line": 1, "nmi": bad, "suffix": bad, "day": None, "rules": [bad],
              "raw": bad, "context": bad}  # fmt: skip
    for operates in (True, False):
        assert "<img" not in marking.editor(record, "portal", operates=operates)
    row = {"name": bad}
    listed = parts.table([parts.Column("name", bad)], [row], caption=bad, empty=parts.Html(""))
    assert "<img" not in listed
    assert "<img" not in parts.act(bad, bad, bad) + parts.link(bad, bad) + parts.chip(bad)


def test_who_asks_while_it_is_being_answered_gets_the_same_answer() -> None:
    """Ten askers, one question; after it is forgotten, asked anew; an error is not kept."""
    asked: list[int] = []

    def ask() -> int:
        time.sleep(0.05)
        asked.append(1)
        return len(asked)

    def fails() -> int:
        raise ValueError("once")

    async def all_of_it() -> None:
        shared = Shared()
        assert await asyncio.gather(*(shared.get("key", 60, ask) for _ in range(10))) == [1] * 10
        assert await shared.get("key", 60, ask) == 1
        shared.forget()
        assert await shared.get("key", 60, ask) == 2
        with pytest.raises(ValueError, match="once"):
            await shared.get("other", 60, fails)
        assert await shared.get("other", 60, ask) == 3

    asyncio.run(all_of_it())
