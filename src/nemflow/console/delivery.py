"""One delivery: its way, its account, what is wrong with it, and mending it.

Why: "why was this file not loaded" must be answered on one page, to be sent to others.

Promises: counts add up visibly (read = stored + unchanged + rejected); a finding shows its line,
the field marked, and what to do; a quarantined record is edited, tried without writing, and
replayed by the same code as ``nemflow replay``; what a load replaced is shown day by day.

Look next: ``nemflow.pipeline.reporting``, ``nemflow.pipeline.replaying``; docs/deliveries.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from nemflow.cli import wording
from nemflow.console import frame, parts
from nemflow.console.files import name_of
from nemflow.console.parts import Html
from nemflow.errors import NotFound
from nemflow.mdff.layout import RECORDS
from nemflow.mdff.rules import RULES
from nemflow.pipeline.reporting import Report, report_of
from nemflow.store import Store
from nemflow.store.work import FINAL, SPOOLED

_FEW: Final = 3  #: places of a rule that are shown at once
_PLACES: Final = 20
_MEMBERS: Final = 200
_RECORDS: Final = 25  #: quarantined records that can be mended on the page
_DAYS: Final = 1000  #: days of a commit that are compared
_SHOWN_DAYS: Final = 100
_SEVERITIES: Final = {"F": ("bad", "✕"), "D": ("warn", "!"), "W": ("off", "i")}


@dataclass(frozen=True, slots=True)
class _Found:
    """Everything about a delivery."""

    row: Mapping[str, Any]
    way: Sequence[Mapping[str, Any]]
    report: Report
    file: Mapping[str, Any] | None


@frame.page("/deliveries/{number}", "File")
async def delivery(view: frame.View) -> None:
    """A delivery by its number."""
    text = view.path["number"]
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise NotFound(f"There is no delivery {text}.", hint="List them: Files.")
    number, store, operate = int(text), view.context.store, view.may("operate")

    def ask() -> _Found:
        return _found(store, number)

    first = await view.shared.get(("delivery", number), 1, ask)
    frame.heading(
        str(first.row["name"]),
        below=Html(f'<p class="muted">Delivery {number}{_parent(first.row)}</p>'),
    )
    await frame.live(view, ("delivery", number), 1.5, ask, lambda found: _top(found, operate))
    await frame.live(view, ("delivery", number), 1.5, ask, lambda found: _findings(found.report))
    if first.row["file"] is not None or not first.row["members"]:
        await frame.live(
            view,
            ("quarantine", number),
            2,
            lambda: _quarantined(store, number),
            lambda found: _quarantine(found, operate),
        )
        await frame.live(view, ("diff", number), 5, lambda: _replaced(store, number), _diff)
    await frame.live(view, ("delivery", number), 1.5, ask, _below)


def _found(store: Store, number: int) -> _Found:
    row = store.delivery(number).row(0, named=True)
    file = None if row["file"] is None else store.file(row["file"]).row(0, named=True)
    return _Found(row, store.timeline(number).to_dicts(), report_of(store, number), file)


def _parent(row: Mapping[str, Any]) -> str:
    if row["parent"] is None:
        return ""
    archive = parts.link(f"/console/deliveries/{row['parent']}", "its archive")
    return f", from {archive}"


# -- where it stands ------------------------------------------------------------------------------


def _top(found: _Found, operate: bool) -> Html:
    row = found.row
    number, state = row["delivery"], row["state"]
    said = f"<p>{parts.text(parts.MEANS.get(state, ''))}</p>"
    if row["error"]:
        kind = "bad" if state in ("dead", "rejected") else "warn"
        said += parts.alert(kind, "Why:", row["error"])
    if row["duplicate_of"] is not None:
        other = parts.link(f"/console/deliveries/{row['duplicate_of']}", row["duplicate_of"])
        said += f"<p>It is the same as delivery {other}.</p>"
    body = Html(
        f'<div class="stack"><div class="sum" role="status">{parts.chip(state)}'
        f"{_dry(row)}</div><div>{said}</div>{_account(found)}</div>"
    )
    return parts.panel("Where it stands", body, more=_acts(row, number, operate))


def _dry(row: Mapping[str, Any]) -> str:
    return parts.mark("off", "○", "dry run: nothing was stored") if row["dry_run"] else ""


def _acts(row: Mapping[str, Any], number: int, operate: bool) -> Html:
    state, address, name = row["state"], f"/v1/deliveries/{number}", row["name"]
    out: list[str] = []
    if operate and row["parent"] is None:
        if state in ("dead", "rejected", "cancelled") and row["kept"] == SPOOLED:
            said = f"{name} is queued again, with all its attempts."
            out.append(parts.act("Retry", f"{address}/retry", said, kind="primary"))
        if state not in FINAL:
            said = f"{name} is stopped; whoever works on it learns of it."
            out.append(parts.act("Cancel", f"{address}/cancel", said))
    if operate and not row["dry_run"]:
        days = row["days_stored"] + row["days_unchanged"]
        if state in ("loaded", "partly_loaded"):
            said = (
                f"{wording.count(days, 'day')} of {name} are taken back; what stood before them "
                "counts again. Redo puts them back."
            )
            out.append(parts.act("Undo", f"{address}/undo", said))
        if state == "undone":
            out.append(parts.act("Redo", f"{address}/redo", f"The days of {name} count again."))
    out.append(
        f'<a class="button" href="{address}/report" download="report-{number}.json">Report</a>'
    )
    if row["kept"] == SPOOLED:
        out.append(f'<a class="button" href="{address}/original" download>Original</a>')
    return Html(f'<div class="acts">{"".join(out)}</div>')


def _account(found: _Found) -> str:
    """Counts that visibly add up, of all texts in it."""
    said = ""
    for of, noun in (("days", "day"), ("reads", "register read")):
        sums = dict.fromkeys(("read", "stored", "unchanged", "rejected"), 0)
        for each in found.report.files:
            for name in sums:
                sums[name] += each[of].get(name) or 0
        if not sums["read"]:
            continue
        right = sums["read"] == sums["stored"] + sums["unchanged"] + sums["rejected"]
        nouns = noun if sums["read"] == 1 else f"{noun}s"
        sign = parts.mark("good", "✓", "adds up") if right else parts.mark("bad", "✕", "does not")
        said += (
            f'<div class="sum" data-account="{of}">'
            f"<span><b>{sums['read']:,}</b> {nouns} read</span>"
            f"<span>=</span><span><b>{sums['stored']:,}</b> stored</span><span>+</span>"
            f"<span><b>{sums['unchanged']:,}</b> unchanged</span><span>+</span>"
            f"<span><b>{sums['rejected']:,}</b> rejected</span>{sign}</div>"
        )
    return said


# -- below: timeline, header, members -------------------------------------------------------------


def _below(found: _Found) -> Html:
    return Html(f'<div class="stack">{_members(found)}{_timeline(found)}{_facts(found)}</div>')


def _timeline(found: _Found) -> Html:
    columns = (
        parts.Column("step", "Step", main=True),
        parts.Column("attempt", "Attempt", lambda r: str(r["attempt"] or ""), right=True),
        parts.Column("outcome", "Outcome", _outcome),
        parts.Column("seconds", "Took", lambda r: parts.duration(r["seconds"]), right=True),
        parts.Column("began_at", "Began", lambda r: parts.stamp(r["began_at"])),
        parts.Column("detail", "Detail", _detail, wide=True),
    )
    empty = parts.nothing("It has no timeline.", "It came by nemflow load, or its details are old.")
    body = parts.table(columns, found.way, caption="Its way, step by step", empty=empty)
    return parts.panel("Timeline", body)


def _outcome(row: Mapping[str, Any]) -> Html:
    outcome = str(row["outcome"] or "")
    if outcome == "ok":
        return parts.mark("good", "✓", "ok")
    if outcome in parts.STATES:
        return parts.chip(outcome)
    return parts.mark("bad", "✕", outcome) if outcome else Html("")


def _detail(row: Mapping[str, Any]) -> str:
    found = json.loads(row["detail"]) if row["detail"] else {}
    if not isinstance(found, dict):
        return str(found)[:200]
    plain = (
        f"{name.replace('_', ' ')}: {value}"
        for name, value in found.items()
        if value is not None and not isinstance(value, dict | list)
    )
    return ", ".join(plain)[:300]


def _facts(found: _Found) -> Html:
    row, file = found.row, found.file or {}
    inside = json.loads(row["inspected"]) if row["inspected"] else {}
    nmis = ", ".join(inside.get("nmis", [])[:5])
    count = inside.get("nmi_count") or file.get("nmis")
    days = f"{file['first_day']} to {file['last_day']}" if file.get("first_day") else ""
    sha = row["sha256"] or ""
    return parts.panel(
        "Header and origin",
        parts.facts(
            [
                ("Kind", file.get("version_header") or inside.get("kind")),
                ("From", file.get("from_participant") or file.get("sender")),
                ("To", file.get("to_participant") or file.get("receiver")),
                ("File DateTime", parts.stamp(file.get("file_at"))),
                ("NMIs", f"{count}{': ' + nmis if nmis else ''}" if count else ""),
                ("Days", days),
                ("Sender", row["sender"]),
                ("Way in", row["channel"]),
                ("API key", row["api_key"]),
                ("Lane", row["lane"]),
                ("Rule profile", row["profile"]),
                ("Size", wording.size(row["size"])),
                ("Original", row["kept"]),
                ("Received", parts.stamp(row["received_at"])),
                ("Finished", parts.stamp(row["finished_at"])),
                ("Next try", parts.stamp(row["next_try_at"])),
                ("Attempts", str(row["attempts"] or "")),
                ("File", str(row["file"] or "")),
                ("SHA-256", Html(f'<span class="mono">{parts.text(sha)}</span>') if sha else ""),
            ]
        ),
    )


def _members(found: _Found) -> str:
    if not found.row["members"]:
        return ""
    rows = [
        {**each, "name": each["source"], "rejected": _rejected(each)}
        for each in found.report.files[:_MEMBERS]
    ]
    columns = (
        parts.Column("name", "File", name_of, main=True),
        parts.Column("state", "State", lambda row: parts.chip(row["state"])),
        parts.Column("stored", "Days stored", lambda row: row["days"]["stored"], right=True),
        parts.Column("rejected", "Kept out", right=True),
        parts.Column("error", "Why", wide=True),
    )
    more = len(found.report.files) - len(rows)
    note = f'<p class="muted">… and {more:,} more; the report has all.</p>' if more > 0 else ""
    table = parts.table(columns, rows, caption="Files inside", empty=Html(""))
    return parts.panel(f"Files inside: {len(found.report.files):,}", Html(f"{table}{note}"))


def _rejected(each: Mapping[str, Any]) -> Any:
    return ((each["days"].get("rejected") or 0) + (each["reads"].get("rejected") or 0)) or ""


# -- findings -------------------------------------------------------------------------------------


def _findings(report: Report) -> Html:
    if not report.findings:
        empty = parts.nothing("Nothing was found wrong.")
        done = report.delivery["state"] in FINAL
        return parts.panel("Findings", empty if done else parts.nothing("Not checked yet."))
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in report.findings:
        groups.setdefault((str(each["severity"]), str(each["rule"])), []).append(each)
    ordered = sorted(groups.items(), key=lambda item: ("FDW".find(item[0][0]), item[0][1]))
    several = len(report.files) > 1
    body = "".join(_rule(*key, rows, several) for key, rows in ordered)
    more = "" if report.complete else "<p>Only the first are listed; the store has all.</p>"
    return parts.panel(
        "Findings",
        Html(body + more),
        more=Html(f'<span class="muted">{wording.count(len(report.findings), "finding")}</span>'),
    )


def _rule(severity: str, rule: str, rows: Sequence[Mapping[str, Any]], several: bool) -> str:
    known = RULES.get(rule)
    kind, icon = _SEVERITIES.get(severity, ("off", "·"))
    words = wording.SEVERITY_WORDS.get(severity, severity)
    first = "".join(_place(each, several) for each in rows[:_FEW])
    others = rows[_FEW:_PLACES]
    if others:
        left = len(rows) - _FEW
        rest = "".join(_place(each, several) for each in others)
        cut = "" if len(rows) <= _PLACES else "<p>The report has all of them.</p>"
        first += f"<details><summary>{left:,} more</summary>{rest}{cut}</details>"
    todos = list(dict.fromkeys(str(each["todo"]) for each in rows if each["todo"]))[:2]
    todo = "".join(f'<p class="todo"><b>What to do:</b> {parts.text(each)}</p>' for each in todos)
    return (
        f'<div class="rule"><h3>{parts.text(rule)}: {parts.text(known.title if known else "")}'
        f"</h3><p>{parts.mark(kind, icon, words)} "
        f'<span class="muted">{wording.count(len(rows), "place")}</span></p>{todo}{first}</div>'
    )


def _place(each: Mapping[str, Any], several: bool) -> str:
    where = [str(each["source"])] if several else []
    if each["line"] is not None:
        where.append(f"line {each['line']}")
    if each["nmi"]:
        where.append(" ".join(str(each[n]) for n in ("nmi", "suffix", "day") if each[n]))
    if each["field"]:
        where.append(str(each["field"]))
    raw = f"<pre>{marked(str(each['raw']), str(each['field'] or ''))}</pre>" if each["raw"] else ""
    place = parts.text(", ".join(where) or "whole file")
    return f'<p><span class="muted">{place}:</span> {parts.text(each["message"])}</p>{raw}'


def marked(raw: str, field: str) -> str:
    """The lines with the field's value marked, escaped; unmarked when it is not in sight."""
    lines = raw.split("\n")
    cells = lines[0].split(",")
    record = RECORDS.get(cells[0].strip())
    at = -1
    if record is not None and field:
        names = record.names(max(0, len(cells) - 7) if record.indicator == "300" else 0)
        at = names.index(field) if field in names else -1
    shown = [str(parts.text(cell)) for cell in cells]
    if 0 <= at < len(shown):
        value = shown[at] or '<span class="unseen">empty</span>␣'
        shown[at] = f"<mark>{value}</mark>"
        first, last = max(0, at - 8), at + 9
        head = [*shown[:3], "…"] if first > 3 else shown[:first]
        tail = [] if last >= len(shown) else ["…"]
        shown = [*head, *shown[first:last], *tail]
    elif len(shown) > 24:
        shown = [*shown[:20], "…"]
    return ",".join(shown)


# -- quarantine -----------------------------------------------------------------------------------


def _quarantined(store: Store, number: int) -> tuple[int | None, pl.DataFrame | None]:
    file = store.delivery(number)["file"][0]
    return (None, None) if file is None else (int(file), store.quarantine(file=int(file)))


def _quarantine(found: tuple[int | None, pl.DataFrame | None], operate: bool) -> Html:
    file, records = found
    if file is None or records is None or records.is_empty():
        return Html("")
    count = records.height
    profiles = '<option value="portal">portal</option><option value="b2b">b2b</option>'
    every = (
        f'<div data-replay data-file="{file}" class="stack"><div class="filters"><div>'
        f'<label for="p-all">Rule profile</label><select id="p-all">{profiles}</select></div>'
        f'<div class="acts">{_TRY}<button type="button" class="button" data-how="do">Replay all '
        f"{count:,}</button></div></div><output></output></div>"
        if operate
        else ""
    )
    shown = "".join(_record(row, profiles, operate) for row in records.head(_RECORDS).to_dicts())
    left = count - _RECORDS
    more = f"<p>… and {left:,} more, after these.</p>" if left > 0 else ""
    return parts.panel(
        "Quarantine",
        Html(every + shown + more),
        more=Html(f'<span class="muted">{wording.count(count, "record")} kept out</span>'),
    )


_TRY: Final = '<button type="button" class="button" data-how="try">Try, write nothing</button>'


def _record(row: Mapping[str, Any], profiles: str, operate: bool) -> str:
    number = row["quarantine"]
    what = " ".join(str(row[n]) for n in ("nmi", "suffix", "day") if row[n])
    rules = ", ".join(row["rules"])
    title = f"Line {row['line']}: {what} ({rules})"
    if not operate:
        raw = parts.text(row["raw"])
        return f'<div class="rule"><h3>{parts.text(title)}</h3><pre>{raw}</pre></div>'
    return (
        f'<details class="rule" data-replay data-record="{number}"><summary>'
        f"{parts.text(title)}</summary><div class='stack'>"
        f'<label for="r-{number}">Corrected text of record {number}</label>'
        f'<textarea id="r-{number}" spellcheck="false">{parts.text(row["raw"])}</textarea>'
        f'<div class="filters"><div><label for="p-{number}">Rule profile</label>'
        f'<select id="p-{number}">{profiles}</select></div><div class="acts">{_TRY}'
        '<button type="button" class="button primary" data-how="do">Replay</button></div></div>'
        "<output></output></div></details>"
    )


# -- what it replaced -----------------------------------------------------------------------------


def _replaced(store: Store, number: int) -> tuple[pl.DataFrame, bool]:
    """Days of its commits that stood otherwise before, and whether all were compared."""
    file = store.delivery(number)["file"][0]
    none = pl.DataFrame()
    if file is None:
        return none, True
    loads = store.loads(int(file)).filter(
        (pl.col("delivery") == number) & (pl.col("event") == "published")
    )
    kept, whole = [], True
    for seq in loads["seq"].unique().sort().to_list():
        rows = store.feed(str(seq - 1), limit=_DAYS)
        whole = whole and (rows.height < _DAYS or rows["seq"][-1] > seq)
        mine = (
            (pl.col("seq") == seq)
            & (pl.col("kind") == "revised")
            & (pl.col("after_file") == int(file))
        )
        kept.append(rows.filter(mine))
    return (pl.concat(kept, how="vertical_relaxed") if kept else none), whole


def _diff(found: tuple[pl.DataFrame, bool]) -> Html:
    rows, whole = found
    if rows.is_empty():
        return Html("")
    columns = (
        parts.Column("day", "Day", lambda row: str(row["day"]), main=True),
        parts.Column("nmi", "NMI"),
        parts.Column("suffix", "Stream"),
        parts.Column("before", "Before", lambda row: _total(row, "before"), right=True),
        parts.Column("after", "After", lambda row: _total(row, "after"), right=True),
        parts.Column("difference", "Difference", _difference, right=True),
        parts.Column("quality", "Quality", _quality),
    )
    shown = rows.head(_SHOWN_DAYS).to_dicts()
    note = [] if whole else [f"Only the first {_DAYS:,} days of the load were compared."]
    if rows.height > len(shown):
        note.append(f"{rows.height - len(shown):,} more days are not shown.")
    table = parts.table(columns, shown, caption="Days it replaced", empty=Html(""))
    said = f'<p class="muted">{" ".join(note)}</p>' if note else ""
    return parts.panel(f"Replaced: {wording.count(rows.height, 'day')}", Html(f"{table}{said}"))


def _total(row: Mapping[str, Any], side: str) -> str:
    total = row[f"{side}_total"]
    return "no values" if total is None else f"{wording.decimal(total)} {row[f'{side}_uom']}"


def _difference(row: Mapping[str, Any]) -> str:
    before, after = row["before_total"], row["after_total"]
    if before is None or after is None or row["before_uom"] != row["after_uom"]:
        return ""
    return f"{'+' if after > before else ''}{wording.decimal(after - before) or '0'}"


def _quality(row: Mapping[str, Any]) -> str:
    names = [wording.QUALITY_WORDS.get(row[f"{side}_quality"], "") for side in ("before", "after")]
    return names[1] if names[0] == names[1] else " → ".join(names)
