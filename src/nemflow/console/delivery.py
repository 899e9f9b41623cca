"""One delivery: where it is, what was in it, what is wrong with it, and how it is mended.

Why: "what happened to that file" must be answered by one page that can be sent to somebody.

Promises: its counts are the ledger's, and the page says whether they add up; each finding shows
its line with the field marked; a quarantined record can be mended and tried before it is replayed.

Look next: ``marking.py`` for findings and records; ``replaced.py`` for days;
``nemflow.pipeline.replaying`` for replay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from nemflow.cli import wording
from nemflow.console import frame, marking, parts, replaced
from nemflow.console.parts import Column, Html, text
from nemflow.errors import NotFound
from nemflow.mdff.rules import PROFILES
from nemflow.pipeline.reporting import report_of
from nemflow.store.work import FINAL, SPOOLED, WAITING, WORKING

if TYPE_CHECKING:
    from nemflow.store import Store

_EDITORS: Final = 20  #: so many records can be mended on one page
_MEMBERS: Final = 200
_STEPS: Final[Mapping[str, str]] = {
    "receive": "received",
    "inspect": "looked at what is in it",
    "check": "checked",
    "load": "loaded",
    "publish": "published",
    "settle": "settled",
    "attempt": "an attempt came to nothing",
    "lost": "its worker was lost",
    "taken away": "taken from its worker",
}


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything the page shows of one delivery."""

    row: Mapping[str, Any]
    way: Sequence[Mapping[str, Any]]
    members: Sequence[Mapping[str, Any]]
    more_members: bool
    file: Mapping[str, Any] | None
    history: Sequence[Mapping[str, Any]]
    files: Sequence[Mapping[str, Any]]  #: every text in it, as its report tells
    findings: Sequence[Mapping[str, Any]]
    complete: bool
    records: Sequence[Mapping[str, Any]]  #: open ones


@frame.page("/deliveries/{number}", "Delivery")
async def delivery(view: frame.View) -> None:
    """One delivery, by its number."""
    said, store = view.path["number"], view.context.store
    if not (said.isascii() and said.isdigit() and len(said) < 19):
        raise NotFound(f"There is no delivery {said[:40]!r}.", hint="Find it on the page Files.")
    number, key = int(said), f"delivery {said}"
    operates = view.may("operate")
    # asked anew: somebody may have come here by an act on it
    first: Whole = await view.shared.get(key, 0, lambda: _whole(store, number))
    frame.page_title(f"Delivery {number}")

    def ask() -> Whole:
        return _whole(store, number)

    await frame.live(view, key, 2, ask, lambda whole: _top(whole, operates))
    await frame.live(view, key, 2, ask, _findings)
    if first.records:  # not live: what a replay answers stays to be read
        frame.show(_quarantine(first, operates))
    elif first.row["state"] not in FINAL:
        await frame.live(view, key, 2, ask, lambda whole: _quarantine(whole, operates))
    await frame.live(
        view,
        f"replaced {number}",
        10,
        lambda: store.replaced(number, limit=replaced.DAYS),
        replaced.panel,
    )
    await frame.live(view, key, 2, ask, _below)


def _whole(store: Store, number: int) -> Whole:
    """Raises NotFound, StoreError."""
    row = store.delivery(number).row(0, named=True)
    way = store.timeline(number).to_dicts()
    members = store.deliveries(parent=number, limit=_MEMBERS + 1) if row["members"] else None
    file, history, records = None, [], []
    if row["file"] is not None:
        file = store.file(row["file"]).row(0, named=True)
        history = store.loads(row["file"]).to_dicts()
        if row["state"] in ("partly_loaded", "rejected", "loaded"):
            records = store.quarantine(file=row["file"]).to_dicts()
    elif members is not None:
        records = _of_members(store, members)
    found = report_of(store, number) if row["state"] not in WAITING else None
    return Whole(
        row,
        way,
        [] if members is None else members.head(_MEMBERS).sort("delivery").to_dicts(),
        members is not None and members.height > _MEMBERS,
        file,
        history,
        [] if found is None else found.files,
        [] if found is None else found.findings,
        found is None or found.complete,
        records,
    )


def _of_members(store: Store, members: pl.DataFrame) -> list[dict[str, Any]]:
    """Open records of what is inside, of the first texts that have some."""
    kept_out = members.filter(
        pl.col("file").is_not_null(), pl.col("days_rejected") + pl.col("reads_rejected") > 0
    ).sort("delivery")
    found: list[dict[str, Any]] = []
    for file in kept_out["file"].head(_EDITORS):
        found += store.quarantine(file=file).to_dicts()
    return found


# -- above: what it is, and whether its counts add up ---------------------------------------------


def _top(whole: Whole, operates: bool) -> Html:
    row = whole.row
    dry = " (dry run)" if row["dry_run"] else ""
    sentence = parts.MEANS.get(row["state"], "")
    error = f" <b>{text(row['error'])}</b>" if row["error"] else ""
    acts = _acts(whole) if operates else Html("")
    return Html(
        f'<div class="stack"><div class="page-head"><div><p class="crumb">'
        f"{parts.link('/console/files', 'Files')} / Delivery {row['delivery']}</p>"
        f'<h1 id="content" tabindex="-1">{text(row["name"])}</h1>'
        f'<p class="verdict" id="state">{parts.chip(row["state"])}{dry} {text(sentence)}{error}'
        "</p></div>"
        f'<div class="acts">{acts}{_downloads(row)}</div></div>{_sum(whole)}</div>'
    )


def _acts(whole: Whole) -> Html:
    """What may be done in its state; the service refuses anything else."""
    row = whole.row
    if row["parent"] is not None:
        return parts.link(
            f"/console/deliveries/{row['parent']}", "The whole delivery", kind="button"
        )
    where = f"/v1/deliveries/{row['delivery']}"
    name = row["name"]
    made = ""
    if row["state"] in ("dead", "rejected", "cancelled") and row["kept"] == SPOOLED:
        said = f"{name} is queued again, with all its attempts."
        made += parts.act("Retry", f"{where}/retry", said, kind="primary")
        for each in _other_profiles(whole):
            made += parts.act(
                f"Try again with profile {each}",
                f"{where}/retry?profile={each}",
                f"The whole of {name} is read again under the rule profile {each}.",
                follow=True,
            )
    if row["state"] in WAITING + WORKING:
        made += parts.act(
            "Cancel", f"{where}/cancel", f"{name} is stopped; nothing of it is loaded."
        )
    if row["state"] in ("loaded", "partly_loaded"):
        days = wording.count(row["days_stored"] + row["days_unchanged"], "day")
        said = f"{days} of {name} are taken back; what stood before counts again."
        made += parts.act("Undo", f"{where}/undo", said)
    if row["state"] == "partly_loaded" and row["file"] and row["kept"] in (SPOOLED, "archived"):
        for each in _other_profiles(whole):
            again = f"/v1/files/{row['file']}/reprocess?profile={each}"
            made += parts.act(
                f"Try again with profile {each}",
                again,
                f"What {name} brought is taken back, and all of it is read again under the rule "
                f"profile {each}, as a new delivery.",
                look=again,
                follow=True,
            )
    if row["state"] == "undone":
        made += parts.act("Redo", f"{where}/redo", f"What undo took of {name} counts again.")
    return Html(made)


def _other_profiles(whole: Whole) -> list[str]:
    """The rule profiles it was not read under; by itself a message is read under b2b."""
    read = whole.row["profile"]
    if read not in PROFILES:
        inside = json.loads(whole.row["inspected"] or "{}")
        read = "b2b" if inside.get("messages") else "portal"
    return [each for each in PROFILES if each != read]


def _downloads(row: Mapping[str, Any]) -> str:
    """Reports and the original; the browser asks for JSON unless told otherwise."""
    where = f"/v1/deliveries/{row['delivery']}"
    name = f"delivery-{row['delivery']}"
    made = (
        f'<a class="button" href="{where}/report" download="{name}-report.json">Report (JSON)</a>'
        f'<button type="button" class="button" data-fetch="{where}/report" data-accept="text/csv" '
        f'data-name="{name}-report.csv">Report (CSV)</button>'
    )
    if row["kept"] in (SPOOLED, "archived"):
        made += f'<a class="button" href="{where}/original" download>Original</a>'
    return made


def _sum(whole: Whole) -> str:
    """``11 read = 10 stored + 0 unchanged + 1 rejected``, and whether it is so; of all texts."""
    made = ""
    for of, words in (("days", "Days"), ("reads", "Register reads")):
        read, stored, unchanged, rejected = (
            sum(each[of].get(part) or 0 for each in whole.files)
            for part in ("read", "stored", "unchanged", "rejected")
        )
        if not read:
            continue
        holds = read == stored + unchanged + rejected
        mark = parts.mark("good", "✓", "adds up")
        if not holds:
            mark = parts.mark("bad", "✕", "does not add up")
        made += (
            f'<p class="sum" data-account="{of}"><span class="muted">{words}</span> '
            f"<span><b>{read:,}</b> read</span> = <span><b>{stored:,}</b> stored</span> + "
            f"<span><b>{unchanged:,}</b> unchanged</span> + "
            f"<span><b>{rejected:,}</b> rejected</span> {mark}</p>"
        )
    return f'<div class="card sums">{made}</div>' if made else ""


def _facts(whole: Whole) -> Html:
    row, file = whole.row, whole.file or {}
    inside = json.loads(row["inspected"] or "{}")
    days = [inside.get("first_day"), inside.get("last_day")]
    nmis = inside.get("nmis") or []
    several = inside.get("nmi_count") or len(nmis)
    named = ", ".join(nmis[:5]) + (f" and {several - 5:,} more" if several > 5 else "")
    duplicate = row["duplicate_of"]
    pairs: list[tuple[str, Any]] = [
        ("Received", parts.stamp(row["received_at"])),
        ("Done", parts.stamp(row["finished_at"])),
        ("Next try", parts.stamp(row["next_try_at"])),
        ("Sender", row["sender"]),
        ("Channel", row["channel"]),
        ("Key", row["api_key"]),
        ("Lane", row["lane"]),
        ("Profile", row["profile"]),
        ("Attempts", row["attempts"]),
        ("Size", wording.size(row["size"])),
        ("Original", row["kept"]),
        (
            "Inside delivery",
            row["parent"]
            and parts.link(f"/console/deliveries/{row['parent']}", str(row["parent"])),
        ),
        (
            "Duplicate of",
            duplicate and parts.link(f"/console/deliveries/{duplicate}", f"delivery {duplicate}"),
        ),
        ("Header", file.get("version_header") or ", ".join(inside.get("versions") or [])),
        ("From", file.get("from_participant")),
        ("To", file.get("to_participant")),
        ("Written", parts.stamp(file.get("file_at"))),
        ("Message", file.get("message_id")),
        ("Transaction", file.get("transaction_id")),
        ("NMIs", f"{several:,}: {named}" if several else ""),
        ("Streams", ", ".join(inside.get("suffixes") or [])),
        ("Days", " to ".join(str(each) for each in days) if all(days) else ""),
        ("Not checked", ", ".join(inside.get("not_checked") or [])),
        ("SHA-256", Html(f'<span class="mono">{text(row["sha256"])}</span>')),
    ]
    return parts.panel("About it", parts.facts(pairs))


# -- in the middle: what is wrong, and mending it -------------------------------------------------


def _findings(whole: Whole) -> Html:
    if whole.findings:
        body = marking.by_rule(whole.findings, marking.whole_lines(whole.records))
        more = "" if whole.complete else "Only the first 10,000 are listed. "
    else:
        more = ""
        done = whole.row["state"] in FINAL
        body = parts.nothing(
            "Nothing is wrong with it." if done else "It has not been checked yet.",
            "" if done else "This page shows it as soon as it has.",
        )
        if whole.row["state"] in ("dead", "cancelled", "rejected"):
            body = parts.nothing("No finding is recorded.", whole.row["error"] or "")
    said = f"{more}{wording.count(len(whole.findings), 'finding')}" if whole.findings else ""
    return parts.panel("Findings", body, more=Html(f'<span class="muted">{text(said)}</span>'))


def _quarantine(whole: Whole, operates: bool) -> Html:
    """Records that were kept out, to be mended; nothing while there are none."""
    count = len(whole.records)
    if not count:
        return Html("")
    profile = str(whole.row["profile"])
    shown = "".join(
        marking.editor(each, profile, operates=operates) for each in whole.records[:_EDITORS]
    )
    if operates and count > 1 and whole.row["file"] is not None:
        shown = f"{shown}{marking.replay_all(whole.row['file'], count, profile)}"
    if count > _EDITORS:
        file = whole.row["file"]
        here = "" if file is None else f"?file={file}"
        more = parts.link(f"/console/quarantine{here}", "the page Quarantine")
        shown += f"<p>… and {count - _EDITORS:,} more: see {more}.</p>"
    said = Html(f'<span class="muted">{text(wording.count(count, "record"))} kept out</span>')
    lead = (
        "<p>Mend the text, try it (nothing is written), then replay it.</p>"
        if operates
        else "<p>To mend a record the scope operate is needed.</p>"
    )
    return parts.panel("Quarantine", Html(lead + shown), more=said, anchor="quarantine")


# -- below: what it changed, its way, its members -------------------------------------------------


def _below(whole: Whole) -> Html:
    made = _members(whole) if whole.members else ""
    return Html(
        f'<div class="stack">{made}{_timeline(whole)}{_history(whole)}{_facts(whole)}</div>'
    )


def _members(whole: Whole) -> Html:
    columns = [
        Column(
            "name",
            "Member",
            lambda row: parts.link(f"/console/deliveries/{row['delivery']}", row["name"]),
            main=True,
        ),
        Column("state", "State", lambda row: parts.chip(row["state"])),
        Column("read", "Read", lambda row: row["days_read"] + row["reads_read"], right=True),
        Column(
            "stored", "Stored", lambda row: row["days_stored"] + row["reads_stored"], right=True
        ),
        Column(
            "unchanged",
            "Unchanged",
            lambda row: row["days_unchanged"] + row["reads_unchanged"],
            right=True,
        ),
        Column(
            "rejected",
            "Rejected",
            lambda row: row["days_rejected"] + row["reads_rejected"],
            right=True,
        ),
        Column("error", "Why", wide=True),
    ]
    listed = parts.table(columns, whole.members, caption="What was inside", empty=Html(""))
    said = wording.count(int(whole.row["members"]), "member")
    more = f"The first {_MEMBERS} of {said}." if whole.more_members else said
    return parts.panel("Members", listed, more=Html(f'<span class="muted">{text(more)}</span>'))


def _timeline(whole: Whole) -> Html:
    longest = max((step["seconds"] for step in whole.way), default=0.0)
    columns = [
        Column("began_at", "Began", lambda row: parts.stamp(row["began_at"])),
        Column("step", "Step", lambda row: _STEPS.get(row["step"], row["step"]), main=True),
        Column("attempt", "Attempt", lambda row: row["attempt"] or "", right=True),
        Column("seconds", "Took", lambda row: _took(row["seconds"], longest)),
        Column("outcome", "Outcome", lambda row: _outcome(row["outcome"])),
        Column("detail", "Detail", lambda row: _detail(row["detail"]), wide=True),
    ]
    listed = parts.table(
        columns,
        whole.way,
        caption="Its way, step by step",
        empty=parts.nothing("It has no timeline.", "It came by nemflow load, or long ago."),
    )
    return parts.panel("Timeline", listed)


def _took(seconds: float, longest: float) -> Html:
    share = seconds / longest * 100 if longest else 0
    return Html(
        f'<span class="took"><span>{text(parts.duration(seconds))}</span>'
        f'<i style="width:{max(1.0, share):.0f}%" aria-hidden="true"></i></span>'
    )


def _outcome(outcome: str | None) -> Html:
    if outcome == "ok":
        return parts.mark("good", "✓", "ok")
    if outcome is not None and outcome in parts.STATES:
        return parts.chip(outcome)
    return parts.mark("bad", "✕", outcome) if outcome else Html("")


def _detail(said: str | None) -> str:
    """The plain values of a JSON object."""
    found = json.loads(said) if said else {}
    if not isinstance(found, dict):
        return str(found)
    return ", ".join(
        f"{name.replace('_', ' ')}: {value}"
        for name, value in found.items()
        if value is not None and not isinstance(value, dict | list)
    )


def _history(whole: Whole) -> Html:
    """Every load, undo and redo of the file, when there was more than one."""
    if len(whole.history) < 2:
        return Html("")
    columns = [
        Column("at", "When", lambda row: parts.stamp(row["at"])),
        Column(
            "kind", "What", lambda row: f"{row['kind']}: {row['event'] or row['state']}", main=True
        ),
        Column(
            "delivery",
            "Delivery",
            lambda row: parts.link(f"/console/deliveries/{row['delivery']}", str(row["delivery"])),
        ),
        Column("days", "Days", right=True),
        Column(
            "seq", "Commit", lambda row: "" if row["seq"] is None else str(row["seq"]), right=True
        ),
    ]
    listed = parts.table(
        columns, whole.history, caption="Every load, undo and redo of this file", empty=Html("")
    )
    return parts.panel("History of the file", listed)
