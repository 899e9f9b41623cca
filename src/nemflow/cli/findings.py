"""Findings as people read them: one paragraph per rule, the first few places, what to do.

Why: a broken column makes ten thousand findings and one problem; ``check``, ``show``, ``load``
and ``load --dry-run`` must say the same of the same file.

Promises: every finding is counted; ``--all`` prints every place; JSON and CSV always hold every
finding with source, line, field, value, rule, severity, message and todo.

Look next: :mod:`nemflow.mdff.rules` for the words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nemflow.cli.output import Column, Output
from nemflow.cli.wording import SEVERITY_WORDS, count

if TYPE_CHECKING:
    import polars as pl

FEW = 3
_VALUE_WIDTH = 40
_STYLES = {"F": "bold red", "D": "bold yellow", "W": "cyan"}

COLUMNS = (
    Column("source", gives_way="front"),
    Column("line", right=True),
    Column("block", machine_only=True),
    Column("record"),
    Column("field"),
    Column("value"),
    Column("rule"),
    Column("severity"),
    Column("message", gives_way="fold"),
    Column("todo", machine_only=True),
    Column("raw", machine_only=True),
)


def print_findings(out: Output, findings: pl.DataFrame, *, every: bool = False) -> None:
    """For people: a paragraph per rule, worst first. Says nothing when there are none.

    Args:
        out: where to.
        findings: as ``MeterData.findings``.
        every: all places, not the first three of each rule.
    """
    sources = findings["source"].unique()
    if sources.len() == 1:
        out.say()
        out.say(f"In {sources[0]}:")
    for rows in _by_rule(findings):
        first = rows[0]
        severity = str(first["severity"])
        out.say()
        out.say(
            f"{first['rule']}  {_title(first['rule'])}  "
            f"({SEVERITY_WORDS.get(severity, severity)}, {count(len(rows), 'place')})",
            _STYLES.get(severity, ""),
        )
        shown = rows if every else rows[:FEW]
        todos = {row["todo"] for row in shown}
        for row in shown:
            place = _place(row, with_source=sources.len() > 1)
            out.say(f"  {place}: {row['message']}{_quoted(row)}")
            if len(todos) > 1:
                out.say(f"    -> {row['todo']}", "green")
        if len(shown) < len(rows):
            out.say(f"  … and {len(rows) - len(shown):,} more; --all shows them.", "dim")
        if len(todos) == 1:
            out.say(f"  -> {first['todo']}", "green")


def counts_by_severity(findings: pl.DataFrame) -> dict[str, int]:
    """How many findings of each severity, worst first: ``{"F": 1, "D": 3, "W": 12}``."""
    counted = dict(findings["severity"].value_counts().iter_rows())
    return {severity: counted[severity] for severity in "FDW" if counted.get(severity)}


def warnings_in_words(findings: pl.DataFrame) -> str:
    """The warnings by rule: ``F014 x31, I008 x210``; empty when there are none."""
    warnings = findings.filter(findings["severity"] == "W")["rule"].value_counts().sort("rule")
    return ", ".join(f"{rule} x{n:,}" for rule, n in warnings.iter_rows())


def in_words(findings: pl.DataFrame) -> str:
    """``1 that refuses a file, 3 that keep a day out, 12 warnings``."""
    words = {
        "F": ("finding that refuses a file", "findings that refuse a file"),
        "D": ("finding that keeps a day out", "findings that keep a day out"),
        "W": ("warning", "warnings"),
    }
    counted = counts_by_severity(findings)
    return ", ".join(count(n, *words[severity]) for severity, n in counted.items()) or "no findings"


def _by_rule(findings: pl.DataFrame) -> Iterator[Sequence[Mapping[str, Any]]]:
    """The findings of each rule and severity in order of place, worst severity first."""
    if findings.is_empty():
        return
    groups = findings.partition_by("severity", "rule", maintain_order=True)
    for group in sorted(groups, key=lambda g: ("FDW".find(g["severity"][0]), g["rule"][0])):
        yield group.to_dicts()


def _title(rule_id: str) -> str:
    from nemflow.mdff.rules import RULES

    known = RULES.get(rule_id)
    return known.title if known else ""


def _place(row: Mapping[str, Any], *, with_source: bool) -> str:
    """``day.csv, line 12, IntervalValue37``; a finding on the whole file has no line."""
    parts = [str(row["source"])] if with_source else []
    if row["line"] is not None:
        parts.append(f"line {row['line']}")
    if row["field"]:
        parts.append(str(row["field"]))
    return ", ".join(parts) or "whole file"


def _quoted(row: Mapping[str, Any]) -> str:
    """The value, shortened, unless the message holds it already."""
    value = row["value"]
    if not value or str(value) in str(row["message"]):
        return ""
    text = str(value)
    return f" (found {text[:_VALUE_WIDTH]!r}{'…' if len(text) > _VALUE_WIDTH else ''})"
