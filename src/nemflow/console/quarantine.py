"""The quarantine: records that were kept out, mended and read again.

Why: when one rule keeps out the records of forty files, the cause is one; and a record that is
mended by hand must be tried before it counts.

Promises: narrowed down by rule, file or NMI in the address; trying writes nothing; replaying is the
code of ``nemflow replay``, and is audited.

Look next: ``marking.editor``, a record's form; ``nemflow.pipeline.replaying``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nemflow.cli import wording
from nemflow.console import frame, leafing, marking, parts
from nemflow.console.parts import Html
from nemflow.errors import NotFound
from nemflow.mdff.rules import RULES
from nemflow.store import Store

_PAGE: Final = 30


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the address says."""

    rule: str
    file: str
    nmi: str
    after: int | None
    resolved: bool

    @property
    def chosen(self) -> dict[str, str]:
        return {
            "rule": self.rule, "file": self.file, "nmi": self.nmi,
            "state": "all" if self.resolved else "",
        }  # fmt: skip


@frame.page("/quarantine", "Quarantine", nav="Quarantine", key="q")
async def quarantine(view: frame.View) -> None:
    """The rules that keep records out, and the records."""
    said = {name: view.query.get(name, "").strip() for name in ("rule", "file", "nmi")}
    asked = _Asked(
        said["rule"].upper()[:10],
        said["file"].lower()[:64],
        said["nmi"].upper()[:10],
        leafing.number(view.query.get("after", "")),
        view.query.get("state") == "all",
    )
    store, operate = view.context.store, view.may("operate")
    frame.heading("Quarantine")
    rules = await view.shared.get("rules", 5, store.quarantine_rules)
    among = {"": "any rule"} | {each: f"{each} ({count:,})" for each, count in rules.items()}
    if asked.rule:
        among.setdefault(asked.rule, asked.rule)
    frame.show(
        leafing.filters(
            "/console/quarantine",
            [
                leafing.choice("rule", "Rule", among, asked.rule),
                leafing.field("file", "File: number or SHA-256", asked.file),
                leafing.field("nmi", "NMI", asked.nmi, search=True),
                leafing.choice("state", "State", {"": "open", "all": "open and closed"},
                               "all" if asked.resolved else ""),
            ],
        )
    )  # fmt: skip
    await frame.live(
        view,
        ("quarantine", asked),
        8,
        lambda: _rows(store, asked),
        lambda found: _list(*found, asked=asked, operate=operate),
    )


def _rows(store: Store, asked: _Asked) -> tuple[list[dict[str, Any]], dict[str, int]]:
    file: int | str | None = asked.file or None
    if asked.file.isdigit() and len(asked.file) < 6:
        file = int(asked.file)
    try:
        found = store.quarantine(
            open_only=not asked.resolved, file=file, rule=asked.rule or None,
            nmi=asked.nmi or None, limit=_PAGE + 1, after=asked.after,
        )  # fmt: skip
    except NotFound:
        return [], {}
    return found.to_dicts(), store.quarantine_rules()


def _list(
    rows: list[dict[str, Any]], rules: Mapping[str, int], *, asked: _Asked, operate: bool
) -> Html:
    shown = rows[:_PAGE]
    if not shown:
        narrowed = any(asked.chosen.values()) or asked.after
        empty = parts.nothing(
            "No record is like that." if narrowed else "The quarantine is empty.",
            parts.link("/console/quarantine", "Show what is open")
            if narrowed
            else "Nothing to do. A record is kept out when a rule of its file says so; the rest of "
            "the file is loaded.",
        )
        return Html(f'<div class="card">{empty}</div>')
    records = "".join(_record(row, operate) for row in shown)
    onward = shown[-1]["quarantine"] if len(rows) > _PAGE else None
    more = leafing.pages("/console/quarantine", asked.chosen, after=onward)
    body = parts.panel("Records", Html(f"{records}{more}"))
    return Html(f'<div class="stack">{_by_rule(rules, asked)}{_many(asked, operate)}{body}</div>')


def _by_rule(rules: Mapping[str, int], asked: _Asked) -> Html:
    """Rules with what they mean and how much they keep out."""
    if asked.rule:
        known = RULES.get(asked.rule)
        if known is None:
            return Html("")
        said = f'<p class="todo"><b>What to do:</b> {parts.text(known.todo)}</p>'
        return parts.panel(f"{asked.rule}: {known.title}", Html(said))
    rows = [
        {"rule": rule, "title": RULES[rule].title if rule in RULES else "", "records": count}
        for rule, count in rules.items()
    ]

    def name(row: Mapping[str, Any]) -> Html:
        return parts.link(f"/console/quarantine?rule={row['rule']}", row["rule"])

    table = parts.table(
        (
            parts.Column("rule", "Rule", name, main=True),
            parts.Column("title", "What is wrong", wide=True),
            parts.Column("records", "Records kept out", right=True),
        ),
        rows,
        caption="Rules that keep records out",
        empty=Html(""),
    )
    return parts.panel("By rule", table)


def _many(asked: _Asked, operate: bool) -> Html:
    """Replaying all that is narrowed down by file or rule; tried first."""
    if not operate or asked.nmi or not (asked.file or asked.rule):
        return Html("")
    what = " and ".join(
        f"{name} {value}" for name, value in (("file", asked.file), ("rule", asked.rule)) if value
    )
    return parts.panel("All of them", marking.replay_some(what, asked.file, asked.rule))


def _record(row: Mapping[str, Any], operate: bool) -> str:
    file = parts.link(f"/console/deliveries/{row['delivery']}", row["source"])
    at = parts.stamp(row["created_at"])
    tries = f", tried {wording.count(row['attempts'], 'time')}" if row["attempts"] else ""
    if not row["open"]:
        when = row["resolved_at"]
        words = f"taken in {when:%Y-%m-%d %H:%M}" if when else "its file was undone or loaded anew"
        tries += f", {parts.mark('off', '✓', words)}"
    form = marking.editor(row, "portal", operates=operate and row["open"])
    return f'<div class="record">{form}<p class="muted">{file}, {at}{tries}</p></div>'
