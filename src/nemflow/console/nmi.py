"""One NMI: its year as a picture, a day as it was measured, and what was said about it before.

Why: "is something wrong with this meter?" is a question about a year; "is this reading right?" one
about a day, its quality and its versions. Both are one address.

Promises: everything that is chosen is in the address; totals are those of ``Store.readings``; in
local time a day has as many hours as its clocks show; one year of one NMI is read at a time.

Look next: ``calendar.py``, ``profile.py``; ``placetime.py`` for the time it is shown in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from urllib.parse import urlencode

import polars as pl

from nemflow.cli import wording
from nemflow.console import calendar, frame, parts, placetime, profile
from nemflow.console.nmis import meaning
from nemflow.console.parts import Html
from nemflow.errors import NotFound, UsageError
from nemflow.mdff import nmi as nmi_of
from nemflow.store import Store

_SECONDS: Final = 10.0
_CSV: Final = "text/csv"
_PARQUET: Final = "application/vnd.apache.parquet"
_GAPS: Final = 12


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the address says, mended where it says nothing."""

    nmi: str
    stream: str
    year: int
    day: date
    layer: str
    view: str  #: picture or table
    zone: str | None  #: None: market time
    known: tuple[date, date]  #: the first and the last day of the stream

    def address(self, **other: Any) -> str:
        """The same page with something else chosen."""
        now: dict[str, Any] = {
            "stream": self.stream, "year": self.year, "day": self.day, "layer": self.layer,
            "view": self.view, "time": self.zone or "market",
        } | other  # fmt: skip
        usual = {"layer": "energy", "view": "picture", "time": "market"}
        given = {name: value for name, value in now.items() if usual.get(name) != value}
        return f"/console/nmis/{self.nmi}?{urlencode(given)}"


@frame.page("/nmis/{nmi}", "NMI")
async def one_nmi(view: frame.View) -> None:
    """The year of a stream, a day of it, and its versions."""
    nmi, store = view.path["nmi"].strip().upper()[:11], view.context.store
    nmi = nmi[:10]
    streams = await view.shared.get(("streams", nmi), _SECONDS, lambda: _streams(store, nmi))
    known = nmi_of.allocation(nmi)
    frame.heading(nmi, below=_about(nmi, known))
    if not streams:
        await frame.live(view, ("reads", nmi), _SECONDS, lambda: _reads(store, nmi), _periods)
        return
    asked = _asked(nmi, view, streams)
    frame.show(_choices(asked, streams))
    key = ("year", nmi, asked.stream, asked.year, asked.zone)
    await frame.live(
        view, key, _SECONDS, lambda: _year(store, asked), lambda found: _picture(asked, found)
    )
    await frame.live(
        view,
        ("day", nmi, asked.stream, asked.day, asked.zone),
        _SECONDS,
        lambda: _day(store, asked),
        lambda found: _one_day(asked, *found),
    )
    frame.show(_downloads(asked))
    await frame.live(
        view,
        ("reads", nmi),
        _SECONDS,
        lambda: _reads(store, nmi),
        lambda found: Html("") if found.is_empty() else _periods(found),
    )


def _streams(store: Store, nmi: str) -> list[dict[str, Any]]:
    """The streams with intervals. Raises NotFound: nothing was ever delivered."""
    found = store.streams(nmi).to_dicts()
    if not found:
        store.register_reads(nmi)
    return found


def _asked(nmi: str, view: frame.View, streams: Sequence[Mapping[str, Any]]) -> _Asked:
    wanted = view.query.get("stream", "").upper()
    usual = next((row for row in streams if row["suffix"].startswith("E")), streams[0])
    stream = next((row for row in streams if row["suffix"] == wanted), usual)
    day = _date(view.query.get("day", ""))
    text = view.query.get("year", "")
    year = int(text) if text.isascii() and text.isdigit() and len(text) == 4 else 0
    if not 1900 <= year <= 2200:
        year = (day or stream["last_day"]).year
    if day is None or day.year != year:
        day = max(date(year, 1, 1), min(stream["last_day"], date(year, 12, 31)))
    layer, shown = view.query.get("layer", ""), view.query.get("view", "")
    return _Asked(
        nmi, stream["suffix"], year, day,
        layer if layer in calendar.LAYERS else "energy",
        "table" if shown == "table" else "picture",
        placetime.chosen(view.query.get("time", "")),
        (stream["first_day"], stream["last_day"]),
    )  # fmt: skip


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def _about(nmi: str, network: nmi_of.Network | None) -> Html:
    said = f"Check digit {nmi_of.checksum(nmi)}." if nmi_of.is_nmi(nmi) else ""
    if network is not None:
        region = f", {network.region}" if network.region else ""
        said += f" {network.name}{region}, by the published ranges of 2017 (a hint)."
    return Html(f'<p class="muted">{parts.text(said.strip())}</p>')


# -- what can be chosen ---------------------------------------------------------------------------


def _choices(asked: _Asked, streams: Sequence[Mapping[str, Any]]) -> Html:
    rows = [
        {
            **each,
            "what": meaning(each["suffix"]),
            "days": wording.cell(each["days"]),
            "here": each["suffix"] == asked.stream,
        }
        for each in streams
    ]

    def name(row: Mapping[str, Any]) -> Html:
        here = f" {parts.mark('busy', '▸', 'shown')}" if row["here"] else ""
        return Html(f"{parts.link(asked.address(stream=row['suffix']), row['suffix'])}{here}")

    table = parts.table(
        (
            parts.Column("suffix", "Stream", name, main=True),
            parts.Column("what", "What it measures", wide=True),
            parts.Column("first_day", "First day"),
            parts.Column("last_day", "Last day"),
            parts.Column("days", "Days", right=True),
        ),
        rows,
        caption="Streams",
        empty=Html(""),
    )
    return parts.panel("Streams", table)


def _switch(label: str, each: Sequence[tuple[str, str, bool]]) -> str:
    links = "".join(
        f'<a class="button small" href="{parts.text(href)}"{" aria-current=true" if here else ""}>'
        f"{parts.text(words)}</a>"
        for words, href, here in each
    )
    return f'<div class="switch" role="group" aria-label="{parts.text(label)}">{links}</div>'


def _switches(asked: _Asked) -> Html:
    zone = placetime.zone_of(asked.nmi)
    year = asked.year
    years = (
        f'<div class="switch" role="group" aria-label="Year"><a class="button small" rel="prev" '
        f'aria-label="{year - 1}" href="{parts.text(asked.address(year=year - 1, day=""))}">‹</a>'
        f"<b>{year}</b>"
        f'<a class="button small" rel="next" aria-label="{year + 1}" '
        f'href="{parts.text(asked.address(year=year + 1, day=""))}">›</a></div>'
    )
    options = '<option value="market">market time</option>' + "".join(
        f'<option value="{each}"{" selected" if each == asked.zone else ""}>{each.split("/")[1]}'
        f"{' (where its range is)' if each == zone else ''}</option>"
        for each in dict.fromkeys(placetime.ZONES.values())
    )
    kept = "".join(
        f'<input type="hidden" name="{name}" value="{parts.text(value)}">'
        for name, value in (
            ("stream", asked.stream), ("year", str(year)), ("day", str(asked.day)),
            ("layer", asked.layer), ("view", asked.view),
        )
    )  # fmt: skip
    times = (
        f'<form class="filters switch" method="get">{kept}<label for="time" class="unseen">Time'
        f'</label><select id="time" name="time">{options}</select>'
        '<noscript><button class="button small">Show</button></noscript></form>'
    )
    layers = [
        (words, asked.address(layer=name), name == asked.layer)
        for name, words in calendar.LAYERS.items()
    ]
    views = [
        (words, asked.address(view=name), name == asked.view)
        for name, words in (("picture", "Picture"), ("table", "Table"))
    ]
    return Html(
        f'<div class="switches">{years}{_switch("Shown first", layers)}{_switch("Form", views)}'
        f"{times}</div>"
    )


# -- the year -------------------------------------------------------------------------------------


def _year(store: Store, asked: _Asked) -> list[dict[str, Any]]:
    """The days of the year of the stream, each with ``day``."""
    first, last = date(asked.year, 1, 1), date(asked.year, 12, 31)
    if asked.zone is None:
        found = store.readings(asked.nmi, first, last, suffix=asked.stream, resolution="day")
    else:
        found = store.local_days(asked.nmi, asked.zone, first, last, suffix=asked.stream)
    return found.with_columns(day=pl.col("interval_start").dt.date()).to_dicts()


def _picture(asked: _Asked, rows: Sequence[Mapping[str, Any]]) -> Html:
    def address(day: date) -> str:
        return asked.address(day=day) + "#day"

    span = calendar.span_in(asked.year, asked.known, rows)
    if asked.view == "table":
        body = calendar.table_of(rows, asked.zone, address)
    else:
        shown = calendar.Year(rows, asked.year, asked.layer, asked.zone, asked.day, address, span)
        body = calendar.picture(shown)
    words = asked.zone or placetime.MARKET_WORDS
    return parts.panel(
        f"{asked.year}: {asked.stream}, {meaning(asked.stream)}",
        Html(f"{_sums(rows)}{body}{_gaps(rows, span)}<p class='muted'>Days of {words}.</p>"),
        more=_switches(asked),
        anchor="year",
    )


def _sums(rows: Sequence[Mapping[str, Any]]) -> str:
    """The year in one line: its total, and how whole it is."""
    if not rows:
        return ""
    values = [row["value"] for row in rows if row["value"] is not None]
    whole = sum(row["intervals"] for row in rows)
    shares = {
        name: sum(row[f"{name}_share"] * row["intervals"] for row in rows) / whole
        for name in ("missing", "estimated", "substituted")
    }
    unit = rows[0]["uom"]
    if rows[0]["how"] == "sum":
        total = f"<b>{sum(values):,.3f}</b> {parts.text(unit)}"
    else:
        total = f"<b>{wording.count(len(values), 'day')}</b> of means, {parts.text(unit)}"
    said = "".join(
        f"<span>{wording.share(share) or '0%'} {name}</span>" for name, share in shares.items()
    )
    return f'<p class="sum" id="year-sum"><span>{total}</span>{said}</p>'


def _gaps(rows: Sequence[Mapping[str, Any]], span: tuple[date, date] | None) -> str:
    found = calendar.gaps(rows, span)
    if not found:
        return (
            "<p>No day is missing between the first and the last of the year.</p>" if rows else ""
        )
    words = [str(a) if a == b else f"{a} to {b}" for a, b in found]
    more = f", and {len(words) - _GAPS} more" if len(words) > _GAPS else ""
    return (
        f"<p>{parts.mark('warn', '–', wording.count(len(found), 'gap'))} "
        f"{parts.text(', '.join(words[:_GAPS]))}{more}. Next: ask the meter data provider for them."
        "</p>"
    )


# -- the day --------------------------------------------------------------------------------------


def _day(store: Store, asked: _Asked) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    opens, closes = placetime.bounds(asked.day, asked.zone)
    found = store.readings(asked.nmi, opens, closes, suffix=asked.stream)
    if asked.zone is not None:
        found = found.with_columns(
            pl.col("interval_start", "interval_end").dt.convert_time_zone(asked.zone)
        )
    try:
        versions = store.versions(asked.nmi, asked.day, suffix=asked.stream).to_dicts()
    except (NotFound, UsageError):
        versions = []
    return found.to_dicts(), versions


def _one_day(
    asked: _Asked, rows: Sequence[Mapping[str, Any]], versions: Sequence[Mapping[str, Any]]
) -> Html:
    odd = placetime.long_day_words(asked.day, asked.zone)
    said = f'<p class="sum" id="day-sum">{_total(rows)}'
    if odd:
        said += str(parts.mark("busy", "◷", odd))
    said += "</p>"
    words = asked.zone or placetime.MARKET_WORDS
    table = (
        f"<details><summary>In numbers: {wording.count(len(rows), 'interval')}</summary>"
        f"{profile.intervals(rows, asked.zone)}</details>"
        if rows
        else ""
    )
    picker = (
        f'<form class="filters" method="get">{_kept(asked)}<div><label for="pick-day" '
        f'class="unseen">Day</label><input id="pick-day" type="date" name="day" '
        f'value="{asked.day}"></div></form>'
    )
    day = parts.panel(
        f"{asked.day:%A} {asked.day}",
        Html(
            f"{said}{profile.chart(rows, asked.day, asked.zone)}{table}<p class='muted'>{words}</p>"
        ),
        more=Html(picker),
        anchor="day",
    )
    note = (
        Html('<p class="muted">Versions are of the day in market time.</p>') if asked.zone else ""
    )
    beside = parts.panel(
        "Versions of the day",
        Html(f"{note}{profile.versions(versions, asked.day)}"),
        anchor="versions",
    )
    return Html(f'<div class="stack">{day}{beside}</div>')


def _kept(asked: _Asked) -> str:
    pairs = (("stream", asked.stream), ("layer", asked.layer), ("view", asked.view),
             ("time", asked.zone or "market"))  # fmt: skip
    return "".join(
        f'<input type="hidden" name="{name}" value="{parts.text(value)}">' for name, value in pairs
    )


def _total(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    values = [row["value"] for row in rows if row["value"] is not None]
    lost = len(rows) - len(values)
    unit = rows[0]["uom"]
    if unit.endswith("h"):
        said = f"<span><b>{wording.decimal(sum(values))}</b> {parts.text(unit)}</span>"
    else:
        said = f"<span><b>{wording.count(len(values), 'value')}</b>, {parts.text(unit)}</span>"
    return f"{said}<span>{wording.count(len(rows), 'interval')}, {lost} missing</span>"


# -- downloads, register reads --------------------------------------------------------------------


def _downloads(asked: _Asked) -> Html:
    base = f"/v1/nmis/{asked.nmi}/readings"
    year = {"from": f"{asked.year}-01-01", "to": f"{asked.year}-12-31", "suffix": asked.stream}
    every = {"from": year["from"], "to": year["to"]}
    day = {"from": asked.day, "to": asked.day, "suffix": asked.stream}
    name = f"{asked.nmi}-{asked.stream}-{asked.year}"
    each = (
        ("Day totals, CSV", _CSV, {**year, "resolution": "day"}, f"{name}-days.csv"),
        ("Intervals, CSV", _CSV, year, f"{name}.csv"),
        ("Intervals, Parquet", _PARQUET, year, f"{name}.parquet"),
        ("All streams, Parquet", _PARQUET, every, f"{asked.nmi}-{asked.year}.parquet"),
        (f"Only {asked.day}, CSV", _CSV, day, f"{asked.nmi}-{asked.stream}-{asked.day}.csv"),
    )
    links = "".join(
        f'<a class="button" href="{parts.text(f"{base}?{urlencode(query)}")}" data-get="{form}" '
        f'download="{parts.text(file)}">{parts.text(words)}</a>'
        for words, form, query, file in each
    )
    return parts.panel(
        "Download",
        Html(f'<div class="acts">{links}</div><p class="muted">In market time. The same from the '
             f"command line: <code>nemflow readings {asked.nmi} --csv</code></p>"),
    )  # fmt: skip


def _reads(store: Store, nmi: str) -> pl.DataFrame:
    return store.register_reads(nmi)


def _periods(found: pl.DataFrame) -> Html:
    """NEM13 consumption periods."""
    columns = [
        parts.Column(name, title, right=name in ("quantity", "consumption"))
        for name, title in (
            ("suffix", "Stream"), ("register_id", "Register"), ("previous_at", "From"),
            ("current_at", "To"), ("quantity", "Quantity"), ("uom", "Unit"),
            ("current_quality", "Quality"),
        )
        if name in found.columns
    ]  # fmt: skip
    table = parts.table(
        columns, found.to_dicts(), caption="Register reads",
        empty=parts.nothing("No register reads stand.", "What was delivered has been undone."),
    )  # fmt: skip
    return parts.panel("Register reads (NEM13)", table)
