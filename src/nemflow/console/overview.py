"""The overview: what is wrong, why, and which button mends it; what comes in, what waits.

Why: it is the page that is opened at 3 a.m.

Promises: the first line says whether anything needs a person; every failure has its reason in
words and the button or page that mends it; nothing here asks the store more than once for all who
look.

Look next: ``nemflow.store.looking`` and ``nemflow.store.problems``, which answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from nemflow.cli import wording
from nemflow.console import frame, parts
from nemflow.console.files import name_of
from nemflow.console.parts import Column, Html, text
from nemflow.service import health
from nemflow.store.tables import MARKET_OFFSET
from nemflow.store.work import SPOOLED

if TYPE_CHECKING:
    from nemflow.errors import NemflowError
    from nemflow.service.context import Context
    from nemflow.store.dispatch import Backlog

#: The range of the picture -> (its words, seconds of a bar, bars).
_SPANS: Final = {
    "6h": ("6 hours", 900, 24),
    "24h": ("24 hours", 3600, 24),
    "7d": ("7 days", 6 * 3600, 28),
}
_MINUTES: Final = 60
_FAILED: Final = ("dead", "rejected", "partly_loaded", "waiting_retry")
_FEW: Final = 8
_PROBLEMS: Final = 3  #: so many are open to see at once
#: What is counted together in the picture of a day: colour, words, states; from below.
GROUPS: Final = (
    ("good", "loaded", ("loaded",)),
    ("off", "nothing new", ("duplicate", "undone", "cancelled")),
    ("busy", "not done", ("received", "queued", "inspecting", "loading", "waiting_retry")),
    ("warn", "partly loaded", ("partly_loaded",)),
    ("bad", "rejected or dead", ("rejected", "dead")),
)
#: Part -> how it is called here.
_IDLE_SECONDS: Final = 60.0  #: nothing is loaded for so long though files wait: nobody works
_LATE_SECONDS: Final = 900.0  #: as the alert NemflowQueueAge has it
_PARTS: Final = {"store": "Database", "queue": "Broker", "spool": "Spool disk"}


@dataclass(frozen=True, slots=True)
class Now:
    """How it stands: asked together, shown above everything else."""

    backlog: Backlog
    standing: Mapping[str, NemflowError | None]
    problems: pl.DataFrame
    dead: int
    queue: str
    spool: Any  #: how much lies in it, as ``Spool.usage`` tells; None: this process has none


@frame.page("/", "Overview", nav="Overview", key="o")
async def overview(view: frame.View) -> None:
    """What waits, what failed, and whether every part works."""
    context, operates = view.context, view.may("operate")
    span = view.query.get("span", "24h")
    span = span if span in _SPANS else "24h"
    frame.heading("Overview")
    await frame.live(view, "now", 3, lambda: _now(context), lambda now: _standing(now, operates))
    await frame.live(
        view,
        "failures",
        3,
        lambda: context.store.search(_FAILED, limit=_FEW, since=_ago(timedelta(days=7))),
        lambda rows: _failures(rows, operates),
    )
    await frame.live(
        view, ("states", span), 5, lambda: _by_time(context, span), lambda it: _traffic(*it, span)
    )
    await frame.live(view, "readings", 5, lambda: _per_minute(context), lambda it: _pace(*it))


def _ago(span: timedelta) -> datetime:
    return datetime.now(MARKET_OFFSET) - span


def _now(context: Context) -> Now:
    """Everything that says how it stands. Raises NemflowError."""
    intake = context.intake
    standing = health.standing(context)
    if standing.get("store") is not None:
        raise standing["store"]  # type: ignore[misc]  # looked at the line above
    return Now(
        context.store.backlog(),
        standing,
        context.store.problems(limit=20),
        context.store.dead(limit=100).height,
        "within this process" if "queue" not in standing else "another server",
        None if intake is None else intake.spool.usage(max_age=15),
    )


def _standing(now: Now, operates: bool) -> Html:
    """The first line, the numbers, the problems and the health of every part."""
    rest = Html(f'<div class="two aside">{_problems(now, operates)}{_health(now)}</div>')
    return Html(f'<div class="stack">{_verdict(now)}{_numbers(now.backlog, now.dead)}{rest}</div>')


def _verdict(now: Now) -> Html:
    broken = [_PARTS.get(name, name) for name, error in now.standing.items() if error is not None]
    if broken:
        return parts.alert("bad", f"{', '.join(broken)}: not working.", "See Health below.")
    if (stalled := _stalled(now.backlog)) is not None:
        return parts.alert("bad", *stalled)
    count = now.problems.height
    if now.dead or count:
        said = [wording.count(count, "open problem")] if count else []
        said += [wording.count(now.dead, "dead delivery", "dead deliveries")] if now.dead else []
        ours = now.problems.filter(pl.col("who") == "us").height
        then = "The sender must act." if count == 1 else "Their senders must act."
        then = "Some of it is ours to mend." if ours or now.dead else then
        return parts.alert("bad" if ours or now.dead else "warn", f"{' and '.join(said)}.", then)
    return parts.alert("good", "Nothing needs you.", "Every part works, no problem is open.")


def _stalled(backlog: Backlog) -> tuple[str, str] | None:
    """What is wrong with how the backlog is worked on, and what to do; None: nothing."""
    waits = parts.duration(backlog.oldest_seconds)
    if not backlog.files or backlog.oldest_seconds < _IDLE_SECONDS:
        return None
    if not backlog.working and not backlog.drained_per_second:
        return (
            f"Nothing is being loaded, and the oldest file has waited for {waits}.",
            "Start a worker (nemflow worker, or nemflow serve --workers 1), or see under Files "
            "whether all of them wait for their next try.",
        )
    if backlog.oldest_seconds > _LATE_SECONDS:
        return (
            f"The oldest file has waited for {waits}.",
            "More comes than is loaded: start more workers; Lanes below says what waits.",
        )
    return None


def _numbers(backlog: Backlog, dead: int) -> Html:
    waits = max(0, backlog.files - backlog.working)
    left = backlog.files / backlog.drained_per_second if backlog.drained_per_second else None
    return parts.tiles(
        [
            ("Waiting", waits, wording.size(backlog.bytes) if backlog.files else "nothing waits"),
            (
                "Oldest waits",
                parts.duration(backlog.oldest_seconds) if waits else "–",
                "since it was received",
            ),
            ("Worked on", backlog.working, "now"),
            (
                "Done",
                f"{backlog.drained_per_second * 60:,.0f} / min",
                f"{parts.duration(left)} for the rest" if left and backlog.working else "files",
            ),
            ("Dead", dead if dead < 100 else "100+", "we must act" if dead else "none"),
        ]
    )


# -- problems and health ------------------------------------------------------------------------


def _problems(now: Now, operates: bool) -> Html:
    rows = now.problems.to_dicts()
    if not rows:
        body = parts.nothing(
            "No open problems.",
            "When files of a sender break a rule, or a part fails, it is listed here once, with "
            "how often and what to do.",
        )
    else:
        body = Html("".join(_problem(row, operates) for row in rows[:_PROBLEMS]))
        if len(rows) > _PROBLEMS:
            rest = "".join(_problem(row, operates) for row in rows[_PROBLEMS:])
            left = f"{len(rows) - _PROBLEMS} more"
            body = Html(f"{body}<details><summary>{left}</summary>{rest}</details>")
    return parts.panel("Open problems", body)


def _problem(row: Mapping[str, Any], operates: bool) -> str:
    whose = parts.mark("bad", "●", "we must act")
    if row["who"] != "us":
        whose = parts.mark("warn", "◆", f"{row['sender'] or 'the sender'} must act")
    acts = ""
    if row["last_delivery"] is not None:
        acts = parts.link(
            f"/console/deliveries/{row['last_delivery']}", "Open the last file", kind="button small"
        )
    if operates:
        acts += parts.act(
            "Close",
            f"/v1/problems/{row['problem']}/close",
            "What was found, or done? It is kept in the audit.",
            kind="small",
            note=True,
        )
    times = wording.count(row["times"], "time")
    return (
        f'<div class="rule"><h3>{text(row["what"])} <span class="muted">{text(row["rule"])}</span>'
        f"</h3><p>{whose} {times}, {text(ago(row['first_at'], 'since'))}, last "
        f'{text(ago(row["last_at"]))}: <span class="muted">{text(row["message"])}</span></p>'
        f'<p class="todo">{text(row["todo"])}</p><div class="acts">{acts}</div></div>'
    )


def _health(now: Now) -> Html:
    lines = []
    for name, error in now.standing.items():
        called = _PARTS.get(name, name.capitalize())
        mark = parts.mark("good", "✓", "works")
        more = ""
        if error is not None:
            mark = parts.mark("bad", "✕", "fails")
            more = f"{error.message} {error.hint}".strip()
        elif name == "spool" and now.spool is not None:
            used = now.spool
            more = (
                f"{wording.count(used.files, 'original')}, {wording.size(used.bytes)}; "
                f"{wording.size(used.free_bytes)} free on its disk"
            )
        lines.append((called, mark, more))
    if (stalled := _stalled(now.backlog)) is not None:
        lines.append(("Workers", parts.mark("bad", "✕", "behind"), stalled[0]))
    else:
        busy = wording.count(now.backlog.working, "file") + " in hand"
        lines.append(("Workers", parts.mark("good", "✓", "keep up"), busy))
    if "queue" not in now.standing:
        lines.insert(1, ("Broker", parts.mark("off", "–", "none"), "Work is handed out in here."))
    rows = "".join(
        f"<tr><th scope=row>{text(name)}</th><td>{mark}</td><td class=wide>{text(more)}</td></tr>"
        for name, mark, more in lines
    )
    table = Html(
        '<table class="plain-rows"><caption class="unseen">Every part and whether it works'
        f"</caption><tbody>{rows}</tbody></table>"
    )
    return parts.panel("Health", Html(f"{table}{_lanes(now.backlog)}"))


def _lanes(backlog: Backlog) -> Html:
    rows = [
        {"lane": name, "files": lane.files, "bytes": lane.bytes, "oldest": lane.oldest_seconds}
        for name, lane in sorted(backlog.lanes.items(), key=lambda each: "unb".find(each[0][0]))
    ]
    listed = parts.table(
        [
            Column("lane", "Lane", main=True),
            Column("files", "Files", right=True),
            Column("bytes", "Size", lambda row: wording.size(row["bytes"]), right=True),
            Column("oldest", "Oldest", lambda row: parts.duration(row["oldest"]), right=True),
        ],
        rows,
        caption="What waits or is worked on, by lane",
        empty=parts.nothing("Nothing waits in any lane."),
    )
    return Html(f'<h3 class="below">Lanes</h3>{listed}')


# -- failures -----------------------------------------------------------------------------------


def _failures(rows: pl.DataFrame, operates: bool) -> Html:
    columns = [
        Column(
            "name",
            "File",
            name_of,
            main=True,
        ),
        Column("state", "State", lambda row: parts.chip(row["state"])),
        Column("error", "Why", why, wide=True),
        Column("sender", "Sender"),
        Column("received_at", "Received", lambda row: parts.stamp(row["received_at"])),
        Column("act", "Mend it", lambda row: mend(row, operates)),
    ]
    listed = parts.table(
        columns,
        rows.to_dicts(),
        caption="The last deliveries that failed",
        empty=parts.nothing(
            "Nothing failed in the last seven days.",
            Html('Deliver a file on the page <a href="/console/files">Files</a>.'),
        ),
    )
    states = "&".join(f"state={name}" for name in _FAILED)
    more = parts.link(f"/console/files?{states}", "All of them") if rows.height else Html("")
    return parts.panel("Recent failures", listed, more=more)


def why(row: Mapping[str, Any]) -> str:
    """The reason of a delivery's state, in words."""
    if row["error"]:
        return str(row["error"])
    kept_out = row["days_rejected"] + row["reads_rejected"]
    if kept_out:
        whole = row["days_read"] + row["reads_read"]
        return f"{kept_out:,} of {wording.count(whole, 'record')} kept out."
    return parts.MEANS.get(row["state"], "")


def mend(row: Mapping[str, Any], operates: bool) -> Html:
    """The button, or the way to the page, that mends a failed delivery."""
    here = f"/console/deliveries/{row['delivery']}"
    kept_out = row["days_rejected"] + row["reads_rejected"]
    if kept_out and row["state"] in ("partly_loaded", "rejected"):
        made = parts.link(f"{here}#quarantine", "Fix and replay", kind="button small")
    else:
        made = parts.link(here, "See why", kind="button small")
    if operates and row["state"] in ("dead", "rejected") and row["kept"] == SPOOLED:
        made = Html(
            made
            + parts.act(
                "Retry",
                f"/v1/deliveries/{row['delivery']}/retry",
                f"{row['name']} is queued again, with all its attempts.",
                kind="small",
            )
        )
    return Html(f'<div class="acts">{made}</div>')


def ago(at: datetime | None, since: str = "") -> str:
    """``3 min ago``, ``since 3 min``; days as dates."""
    if at is None:
        return ""
    seconds = max(0.0, (datetime.now(MARKET_OFFSET) - at).total_seconds())
    if seconds > 2 * 86_400:
        return f"{since} {at.astimezone(MARKET_OFFSET):%Y-%m-%d %H:%M}".strip()
    whole = int(seconds)
    said = f"{whole} s" if whole < 60 else f"{whole // 60} min"
    if whole >= 3600:
        said = f"{whole // 3600} h"
    return f"{since} {said}" if since else f"{said} ago"


# -- pictures -----------------------------------------------------------------------------------


def _by_time(context: Context, span: str) -> tuple[datetime, pl.DataFrame]:
    """When the first bar begins, and ``Store.states_by_time`` from there."""
    _, seconds, count = _SPANS[span]
    first = (int(time.time()) // seconds - count + 1) * seconds
    since = datetime.fromtimestamp(first, MARKET_OFFSET)
    return since, context.store.states_by_time(since, seconds)


def _traffic(since: datetime, found: pl.DataFrame, span: str) -> Html:
    words, seconds, count = _SPANS[span]
    counts: dict[tuple[int, str], int] = {
        (row["place"], row["state"]): row["files"] for row in found.iter_rows(named=True)
    }
    each = []
    for place in range(count):
        at = since + timedelta(seconds=place * seconds)
        sums = [
            (kind, said, sum(counts.get((place, state), 0) for state in states))
            for kind, said, states in GROUPS
        ]
        told = ", ".join(f"{files:,} {said}" for _, said, files in sums if files)
        label = f"{at:%H:%M}" if span != "7d" else f"{at:%d %b}"
        each.append(
            parts.Bar(
                label if place % 4 == 0 else "",
                f"{at:%d %b %H:%M}: {told or 'none'}",
                [(kind, files) for kind, _, files in sums],
            )
        )
    total = int(found["files"].sum())
    legend = "".join(f'<span><i class="dot {kind}"></i>{said}</span>' for kind, said, _ in GROUPS)
    chosen = "".join(
        f'<a class="button small" href="/console/?span={key}"'
        f"{' aria-current=true' if key == span else ''}>{said}</a>"
        for key, (said, _, _) in _SPANS.items()
    )
    body = parts.nothing(
        f"No file came in the last {words}.",
        Html('Drop one on the page <a href="/console/files">Files</a>.'),
    )
    if total:
        picture = parts.bars(each, title=f"Files by state, last {words}", unit="files")
        body = Html(f'{picture}<div class="legend">{legend}</div>')
    more = f'<span class="muted">{text(wording.count(total, "file"))}</span>{chosen}'
    return parts.panel("Files by state", body, more=Html(f'<div class="acts">{more}</div>'))


def _per_minute(context: Context) -> tuple[datetime, pl.DataFrame]:
    """When the first bar begins, and ``Store.published_readings`` from there."""
    since = _ago(timedelta(minutes=_MINUTES - 1)).replace(second=0, microsecond=0)
    return since, context.store.published_readings(since)


def _pace(since: datetime, found: pl.DataFrame) -> Html:
    place = ((pl.col("at").dt.epoch("s") - int(since.timestamp())) // 60).alias("place")
    counts = dict(found.group_by(place).agg(pl.col("readings").sum()).iter_rows())
    each = []
    for minute in range(_MINUTES):
        at = since + timedelta(minutes=minute)
        readings = counts.get(minute, 0)
        label = f"{at:%H:%M}" if minute % 10 == 0 else ""
        each.append(parts.Bar(label, f"{at:%H:%M}: {readings:,} readings", [("busy", readings)]))
    total = sum(counts.values())
    body = parts.bars(each, title="Readings taken in per minute, last hour", unit="readings")
    return parts.panel(
        "Readings per minute",
        body if total else parts.nothing("No readings were taken in during the last hour."),
        more=Html(f'<span class="muted">{total:,} in the last hour</span>'),
    )
