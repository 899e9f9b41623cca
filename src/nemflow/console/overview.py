"""The overview: what is wrong, why, and which button mends it.

Why: it is the page that is opened at 3 a.m.

Promises: every number is the ledger's; what failed comes with its reason and the act that mends
it; the parts of the page are renewed by themselves, each asked once for all who look.

Look next: ``nemflow.store`` for what is asked; ``delivery.py`` for one file.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from nemflow.cli import wording
from nemflow.console import frame, parts
from nemflow.console.files import acts_of, name_of
from nemflow.console.parts import Bar, Html
from nemflow.errors import NemflowError
from nemflow.service.context import Context
from nemflow.store.dispatch import Backlog
from nemflow.store.tables import MARKET_OFFSET

#: The range of the chart -> (its words, seconds of a bar, bars).
_SPANS: Final = {
    "6h": ("6 hours", 900, 24),
    "24h": ("24 hours", 3600, 24),
    "7d": ("7 days", 6 * 3600, 28),
}
_FAILED: Final = ("dead", "rejected", "partly_loaded")
_ORDER: Final = (
    "loaded", "duplicate", "undone", "cancelled", "received", "queued", "inspecting", "loading",
    "waiting_retry", "partly_loaded", "rejected", "dead",
)  # fmt: skip
_MINUTES: Final = 60


@frame.page("/", "Overview", nav="Overview", key="o")
async def overview(view: frame.View) -> None:
    """What waits, what failed, and whether every part works."""
    store = view.context.store
    span = view.query.get("span", "24h")
    span = span if span in _SPANS else "24h"
    frame.heading("Overview")
    await frame.live(view, "health", 5, lambda: _health(view.context), _parts_shown)
    await frame.live(view, "numbers", 3, lambda: _numbers(view.context), _tiles)
    await frame.live(
        view,
        "failed",
        3,
        lambda: store.search(_FAILED, limit=8).to_dicts(),
        lambda rows: _failed(rows, operate=view.may("operate")),
    )
    words, seconds, count = _SPANS[span]

    def by_time() -> tuple[datetime, pl.DataFrame]:
        now = int(time.time())
        first = (now // seconds - count + 1) * seconds
        since = datetime.fromtimestamp(first, MARKET_OFFSET)
        return since, store.states_by_time(since, seconds)

    await frame.live(
        view, ("states", span), 5, by_time, lambda found: _over_time(*found, span, words)
    )
    await frame.live(view, "readings", 5, lambda: _per_minute(view.context), _readings)
    await frame.live(view, "backlog", 3, store.backlog, _lanes)


# -- does every part work? ------------------------------------------------------------------------


def _health(context: Context) -> list[tuple[str, str, str, str]]:
    """Each part: its name, kind, word, and what there is to say."""
    checks = {"database": lambda: context.store.seq_at() and None, **context.ready}
    names = {"queue": "broker", "spool": "spool disk"}
    told = []
    for name, check in checks.items():
        began = time.perf_counter()
        try:
            check()
            kind, word = "good", "works"
            said = f"answers in {(time.perf_counter() - began) * 1000:.0f} ms"
            if name == "spool" and context.intake is not None:
                used = context.intake.spool.usage(max_age=10)
                said = f"{wording.size(used.free_bytes)} free; holds " + wording.count(
                    used.files, "original"
                )
        except NemflowError as error:
            kind, word, said = "bad", "does not work", f"{error.message} {error.hint}"
        told.append((names.get(name, name), kind, word, said))
    return told


def _parts_shown(found: list[tuple[str, str, str, str]]) -> Html:
    broken = [each for each in found if each[1] != "good"]
    if broken:
        return Html(
            '<div class="stack">'
            + "".join(
                parts.alert("bad", f"The {name} does not work.", said)
                for name, _, _, said in broken
            )
            + "</div>"
        )
    said = "".join(
        f"<span>{parts.mark('good', '✓', name)} "
        f'<span class="muted">{parts.text(_steady(more))}</span></span>'
        for name, _, _, more in found
    )
    return Html(f'<div class="sum health" aria-label="Parts" role="group">{said}</div>')


def _steady(said: str) -> str:
    """Milliseconds are shown only when they are many: what is well should stand still."""
    number = said.partition(" ms")[0].rpartition(" ")[2]
    return "" if "ms" in said and number.isdigit() and int(number) < 250 else said


# -- numbers --------------------------------------------------------------------------------------


def _numbers(context: Context) -> tuple[Backlog, Mapping[str, int]]:
    return context.store.backlog(), context.store.states()


def _tiles(found: tuple[Backlog, Mapping[str, int]]) -> Html:
    backlog, states = found
    rate = backlog.drained_per_second * 60
    failed = [(states.get(name, 0), name.replace("_", " ")) for name in _FAILED]
    return parts.tiles(
        [
            ("Waiting", backlog.files - backlog.working, "files accepted, not begun"),
            ("Being worked on", backlog.working, "files"),
            (
                "Oldest waits",
                parts.duration(round(backlog.oldest_seconds)) if backlog.files else "–",
                "nothing waits" if not backlog.files else "since it was accepted",
            ),
            ("Done per minute", f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}", "files, of late"),
            ("Loaded", states.get("loaded", 0), "files, ever"),
            (
                "Need a person",
                states.get("dead", 0) + states.get("rejected", 0),
                ", ".join(f"{n:,} {name}" for n, name in failed),
            ),
        ]
    )


def _lanes(found: Backlog) -> Html:
    columns = (
        parts.Column("lane", "Lane", main=True),
        parts.Column("files", "Files", right=True),
        parts.Column("bytes", "Size", lambda row: wording.size(row["bytes"]), right=True),
        parts.Column(
            "oldest", "Oldest waits", lambda row: parts.duration(row["oldest"]), right=True
        ),
    )
    rows = [
        {
            "lane": lane,
            "files": each.files,
            "bytes": each.bytes,
            "oldest": round(each.oldest_seconds),
        }
        for lane in ("urgent", "normal", "bulk")
        if (each := found.lanes.get(lane)) is not None
    ]
    empty = parts.nothing("The queue is empty.", "Everything that was accepted is done.")
    return parts.panel(
        "Queue by lane", parts.table(columns, rows, caption="Queue by lane", empty=empty)
    )


# -- what failed ----------------------------------------------------------------------------------


def _failed(rows: list[dict[str, Any]], *, operate: bool) -> Html:
    columns = [
        parts.Column("name", "File", name_of, main=True),
        parts.Column("state", "State", lambda row: parts.chip(row["state"])),
        parts.Column("why", "Why", why, wide=True),
        parts.Column("received_at", "Received", lambda row: parts.stamp(row["received_at"])),
        parts.Column("act", "Mend it", lambda row: acts_of(row, operate=operate)),
    ]
    empty = parts.nothing(
        "Nothing has failed.", "Rejected, dead and partly loaded files show here."
    )
    return parts.panel(
        "Recent failures",
        parts.table(columns, rows, caption="Recent failures", empty=empty),
        more=parts.link("/console/files?state=dead&state=rejected&state=partly_loaded", "All"),
    )


def why(row: Mapping[str, Any]) -> str:
    """The reason of a failure in one sentence."""
    kept_out = row["days_rejected"] + row["reads_rejected"]
    if row["error"]:
        return str(row["error"])[:300]
    if kept_out:
        read = row["days_read"] + row["reads_read"]
        return f"{wording.count(kept_out, 'record')} of {read:,} kept out; open it to see why."
    return parts.MEANS.get(row["state"], "")


# -- over time ------------------------------------------------------------------------------------


def _over_time(since: datetime, found: pl.DataFrame, span: str, words: str) -> Html:
    _, seconds, count = _SPANS[span]
    counts = {(row["place"], row["state"]): row["files"] for row in found.to_dicts()}
    drawn = []
    for place in range(count):
        at = since + timedelta(seconds=place * seconds)
        here = [(state, counts.get((place, state), 0)) for state in _ORDER]
        said = ", ".join(f"{n:,} {state.replace('_', ' ')}" for state, n in here if n)
        label = f"{at:%H:%M}" if span != "7d" else f"{at:%d %b}"
        drawn.append(
            Bar(
                label if place % 4 == 0 else "",
                f"{at:%d %b %H:%M}: {said or 'nothing'}",
                [(parts.STATES[state][0], n) for state, n in here if n],
            )
        )
    present = [state for state in _ORDER if any(key[1] == state for key in counts)]
    totals = found.group_by("state").agg(pl.col("files").sum())
    sums = dict(totals.iter_rows())
    legend = "".join(
        parts.chip(state, words=f"{state.replace('_', ' ')} {sums[state]:,}") for state in present
    )
    chosen = "".join(
        f'<a class="button small" href="/console/?span={key}"'
        f"{' aria-current=true' if key == span else ''}>{said}</a>"
        for key, (said, _, _) in _SPANS.items()
    )
    body = parts.bars(drawn, title=f"Files by state, last {words}", unit="files")
    return parts.panel(
        "Files by state",
        Html(f"{body}<div class='legend'>{legend}</div>"),
        more=Html(f'<div class="acts">{chosen}</div>'),
    )


def _per_minute(context: Context) -> tuple[datetime, pl.DataFrame]:
    now = datetime.now(MARKET_OFFSET).replace(second=0, microsecond=0)
    since = now - timedelta(minutes=_MINUTES - 1)
    return since, context.store.published_readings(since)


def _readings(found: tuple[datetime, pl.DataFrame]) -> Html:
    since, rows = found
    place = ((pl.col("at").dt.epoch("s") - int(since.timestamp())) // 60).alias("place")
    counts = dict(rows.group_by(place).agg(pl.col("readings").sum()).iter_rows())
    drawn = []
    for minute in range(_MINUTES):
        at = since + timedelta(minutes=minute)
        n = counts.get(minute, 0)
        label = f"{at:%H:%M}" if minute % 10 == 0 else ""
        drawn.append(Bar(label, f"{at:%H:%M}: {n:,} readings", [("busy", n)]))
    total = sum(counts.values())
    return parts.panel(
        "Readings per minute",
        parts.bars(drawn, title="Readings loaded per minute, last hour", unit="readings"),
        more=Html(f'<span class="muted">{total:,} in the last hour</span>'),
    )
