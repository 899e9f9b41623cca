"""Findings and quarantined records as people read them: by rule, with the line and field marked.

Why: a broken column makes ten thousand findings and one problem; and "field 37 of line 15" is
found by nobody who has to count commas.

Promises: every finding is counted; what is marked is the field the finding names, or the value it
names when that occurs once, else nothing; a record is edited as the text it came as.

Look next: ``delivery.py``, and ``nemflow.mdff.layout`` for the fields of a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from nemflow.cli import wording
from nemflow.console import parts
from nemflow.console.parts import Html, text
from nemflow.mdff.layout import RECORDS
from nemflow.mdff.rules import RULES

_FEW: Final = 5
_MOST: Final = 50
_AROUND: Final = 60  #: characters shown on each side of a marked field
_INTERVAL: Final = re.compile(r"IntervalValue(\d+)")
_SEVERITIES: Final = {
    "F": ("bad", "✕", "file refused"),
    "D": ("bad", "✕", "kept out"),
    "W": ("warn", "!", "warning"),
}


def by_rule(findings: Sequence[Mapping[str, Any]], whole: Mapping[tuple[Any, Any], str]) -> Html:
    """Findings, a paragraph per rule, worst first.

    Args:
        findings: as of a report: source, line, field, value, rule, severity, message, todo, raw.
        whole: (source, line) -> the whole line, where it is known; else the finding's beginning.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in findings:
        groups.setdefault((str(each["severity"]), str(each["rule"])), []).append(each)
    ordered = sorted(groups.items(), key=lambda item: ("FDW".find(item[0][0]), item[0][1]))
    several = len({each["source"] for each in findings}) > 1
    return Html("".join(_rule(rule, rows, whole, several) for (_, rule), rows in ordered))


def _rule(
    rule: str,
    rows: Sequence[Mapping[str, Any]],
    whole: Mapping[tuple[Any, Any], str],
    several: bool,
) -> str:
    known = RULES.get(rule)
    kind, icon, word = _SEVERITIES.get(str(rows[0]["severity"]), ("off", "·", ""))
    shown = "".join(_place(row, whole, several) for row in rows[:_FEW])
    rest = rows[_FEW:_MOST]
    if rest:
        hidden = "".join(_place(row, whole, several) for row in rest)
        left = len(rows) - _MOST
        more = f"<p>… and {left:,} more: see the report.</p>" if left > 0 else ""
        shown += f"<details><summary>{len(rows) - _FEW:,} more</summary>{hidden}{more}</details>"
    todos = list(dict.fromkeys(str(row["todo"]) for row in rows if row["todo"]))
    todo = "".join(f'<p class="todo"><b>What to do:</b> {text(each)}</p>' for each in todos[:3])
    return (
        f'<div class="rule"><h3>{parts.mark(kind, icon, word)} {text(rule)} '
        f"{text(known.title if known else '')} "
        f'<span class="muted">{wording.count(len(rows), "place")}</span></h3>{todo}{shown}</div>'
    )


def _place(row: Mapping[str, Any], whole: Mapping[tuple[Any, Any], str], several: bool) -> str:
    where = [str(row["source"])] if several else []
    if row["line"] is not None:
        where.append(f"line {row['line']}")
    if row["field"]:
        where.append(str(row["field"]))
    line = whole.get((row["source"], row["line"])) or row["raw"]
    quoted = f"<pre>{marked(line, row['field'], row['value'])}</pre>" if line else ""
    return (
        f"<div class=place><p><b>{text(', '.join(where) or 'whole file')}</b>: "
        f"{text(row['message'])}</p>{quoted}</div>"
    )


def marked(line: str, field: str | None, value: str | None) -> Html:
    """A line with its offending field marked; of a long one what is around it."""
    fields = line.split(",")
    place = _place_of(fields, field, value)
    if place is None:
        short = line if len(line) <= 3 * _AROUND else f"{line[: 3 * _AROUND]}…"
        return Html(escape(short))
    before, after = ",".join(fields[:place]), ",".join(fields[place + 1 :])
    if before:
        before = (f"…{before[-_AROUND:]}" if len(before) > _AROUND else before) + ","
    if after:
        after = "," + (f"{after[:_AROUND]}…" if len(after) > _AROUND else after)
    bad = fields[place][: 2 * _AROUND] or "empty"
    return Html(f"{escape(before)}<mark>{escape(bad)}</mark>{escape(after)}")


def _place_of(fields: Sequence[str], field: str | None, value: str | None) -> int | None:
    """Which of the fields is meant; None: cannot be said."""
    place = None
    if field and (found := _INTERVAL.fullmatch(field)):
        place = int(found[1]) + 1
    elif field:
        place = _named(fields, field)
    if place is None and value and fields.count(value) == 1:
        place = fields.index(value)
    return place if place is not None and place < len(fields) else None


def _named(fields: Sequence[str], field: str) -> int | None:
    record = RECORDS.get(fields[0].strip())
    if record is None:
        return None
    names = [each.name for each in record.fields]
    if field not in names:
        return None
    place = names.index(field)
    repeats = next((n for n, each in enumerate(record.fields) if each.repeats), None)
    if repeats is not None and place > repeats:  # what follows the values is counted from the end
        return len(fields) - (len(names) - place)
    return place


def whole_lines(records: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, Any], str]:
    """(source, line) -> text, of the quarantine's records and the lines below each."""
    found: dict[tuple[Any, Any], str] = {}
    for record in records:
        for below, line in enumerate(str(record["raw"]).splitlines()):
            found[(record["source"], record["line"] + below)] = line
    return found


# -- the quarantine: mend a record and read it again ----------------------------------------------

_HOW: Final = (
    '<div class="acts"><button type="button" class="button" data-how="try">Try</button>'
    '<button type="button" class="button primary" data-how="do">Replay</button></div>'
    '<output aria-live="polite"></output>'
)


def editor(record: Mapping[str, Any], profile: str, *, operates: bool) -> Html:
    """One quarantined record: why it is there, its text, and, who may, to mend and replay it."""
    number = record["quarantine"]
    names = [record["nmi"], record["suffix"], record["day"]]
    about = ", ".join(str(each) for each in names if each is not None)
    rules = ", ".join(record["rules"])
    head = (
        f"<h3>Line {record['line']}{f': {text(about)}' if about else ''} "
        f'<span class="muted">{text(rules)}</span></h3>'
    )
    above = "".join(f"<div>{escape(each)}</div>" for each in str(record["context"]).splitlines())
    stood = f"<details><summary>What it stood under</summary><pre>{above}</pre></details>"
    if not operates:
        return Html(f'<div class="rule">{head}{stood}<pre>{escape(record["raw"])}</pre></div>')
    return Html(
        f'<div class="rule" data-replay data-record="{number}">{head}{stood}'
        f'<label for="raw-{number}">Text of the record</label>'
        f'<textarea id="raw-{number}" rows="4" spellcheck="false" wrap="soft">'
        f"{escape(record['raw'])}</textarea>{_profiles(f'p-{number}', profile)}{_HOW}</div>"
    )


def replay_all(file: int, count: int, profile: str) -> Html:
    """Read every open record of a file again as it is, under a profile."""
    return Html(
        f'<div class="rule" data-replay data-file="{file}"><h3>All '
        f"{wording.count(count, 'record')} as they are</h3><p class=muted>After a rule, a limit or "
        f"the profile was mended; the text stays.</p>{_profiles(f'all-{file}', profile)}{_HOW}"
        "</div>"
    )


def replay_some(what: str, file: str, rule: str) -> Html:
    """Read every open record of a file, of a rule, or of both again; ``what``: them in words."""
    chosen = (("file", file), ("rule", rule))
    data = "".join(f' data-{name}="{escape(value)}"' for name, value in chosen if value)
    return Html(
        f"<div data-replay{data}><p>Every open record of {text(what)}, as it is: after a rule, a "
        f"limit or the profile was mended.</p>{_profiles('p-some', 'portal')}{_HOW}</div>"
    )


def _profiles(name: str, chosen: str) -> str:
    options = "".join(
        f"<option{' selected' if each == chosen else ''}>{each}</option>"
        for each in ("portal", "b2b")
    )
    return (
        f'<p class="field"><label for="{name}">Profile</label> '
        f'<select id="{name}">{options}</select></p>'
    )
