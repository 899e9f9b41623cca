"""One day of a stream: its intervals as bars, each with its quality; and its versions.

Why: "is this peak real?" is answered by the shape of the day and by what was measured and what was
made up; "why was the bill changed?" by what stood there before.

Promises: bars stand at their time of the day, so that a day of 25 hours is longer; what is not
actual is hatched, a missing interval is a marked hole and never zero; of versions every interval
that differs is shown, with how much.

Look next: ``nmi.py``, which asks; ``Store.versions``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from nemflow.cli import wording
from nemflow.console import parts, placetime
from nemflow.console.parts import Html
from nemflow.mdff.codes import describe_quality

_WIDE: Final = 1000.0
_HIGH: Final = 180.0
_MOST_VERSIONS: Final = 6


def chart(rows: Sequence[Mapping[str, Any]], day: date, zone: str | None) -> Html:
    """The intervals of a day (raw ``Store.readings`` of one stream) as bars."""
    if not rows:
        return parts.nothing(f"No intervals on {day}.", "It is a gap: nothing was delivered.")
    opens, closes = placetime.bounds(day, zone)
    whole = (closes - opens) if zone is None else timedelta(hours=placetime.hours(day, zone))
    values = [float(row["value"]) for row in rows if row["value"] is not None]
    top, low = max([*values, 0.0]), min([*values, 0.0])
    span = (top - low) or 1.0
    drawn = ""
    for row in rows:
        x = _since(opens, row["interval_start"]) / whole * _WIDE
        wide = _since(row["interval_start"], row["interval_end"]) / whole * _WIDE
        value = row["value"]
        flag = "N" if value is None else row["quality"]
        if value is None:
            y, high = 0.0, _HIGH
        else:
            y = (top - max(float(value), 0.0)) / span * _HIGH
            high = max(abs(float(value)) / span * _HIGH, 1.0)
        drawn += (
            f'<rect class="bar b-{flag}" x="{x:.2f}" y="{y:.2f}" width="{wide * 0.88:.2f}" '
            f'height="{high:.2f}"><title>{parts.text(said(row, zone))}</title></rect>'
        )
        if flag not in "AN":  # hatched above its colour: not told by colour alone
            drawn += (
                f'<rect class="hatch" x="{x:.2f}" y="{y:.2f}" width="{wide * 0.88:.2f}" '
                f'height="{high:.2f}"/>'
            )
    base = top / span * _HIGH
    unit = rows[0]["uom"]
    label = f"{day}: {len(rows)} intervals, most {max(values, default=0):,g} {unit}"
    return Html(
        f'<figure class="chart profile"><div class="chart-top">{max(values, default=0):,g} '
        f'{parts.text(unit)}</div><svg viewBox="0 0 {_WIDE:.0f} {_HIGH:.0f}" role="img" '
        f'aria-label="{parts.text(label)}" preserveAspectRatio="none"><defs><pattern id="hatch" '
        'width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="2" height="6" class="hatch-line"/></pattern></defs>'
        f'<line x1="0" x2="{_WIDE:.0f}" y1="{base:.2f}" y2="{base:.2f}"/>{drawn}</svg>'
        f"{_hours(opens, whole, zone)}{_legend(rows)}</figure>"
    )


def _since(opens: datetime, at: datetime) -> timedelta:
    """Time that has passed, also across a change of clocks."""
    utc = timedelta(0)
    return (at - (at.utcoffset() or utc)).replace(tzinfo=None) - (
        opens - (opens.utcoffset() or utc)
    ).replace(tzinfo=None)


def _hours(opens: datetime, whole: timedelta, zone: str | None) -> str:
    """The clock below the bars: every third hour that has passed, as the clock there says it."""
    labels = ""
    passed = timedelta(0)
    begin = opens.astimezone(_utc())
    while passed < whole:
        at = (begin + passed).astimezone(opens.tzinfo)
        labels += f'<span style="left:{passed / whole:.2%}">{at:%H:%M}</span>'
        passed += timedelta(hours=3)
    return f'<div class="clock" aria-hidden="true">{labels}</div>'


def _utc() -> Any:
    from datetime import UTC

    return UTC


def _legend(rows: Sequence[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        flag = "N" if row["value"] is None else row["quality"]
        counts[flag] = counts.get(flag, 0) + 1
    words = wording.QUALITY_WORDS
    said = "".join(
        f'<span><i class="swatch s-{flag}" aria-hidden="true"></i> {flag} '
        f"{words.get(flag, '')}: {wording.count(number, 'interval')}</span>"
        for flag, number in sorted(counts.items())
    )
    return f'<p class="key muted">{said}</p>'


def clock(row: Mapping[str, Any], zone: str | None) -> str:
    """``02:00 to 02:30``, with the offset where clocks change on that day."""
    start, end = row["interval_start"], row["interval_end"]
    offset = f" (UTC{start:%z})"[:-3] + ")" if _odd(start.date(), zone) else ""
    return f"{start:%H:%M} to {end:%H:%M}{offset}"


def _odd(day: date, zone: str | None) -> bool:
    return placetime.hours(day, zone) != 24


def said(row: Mapping[str, Any], zone: str | None) -> str:
    """An interval in words."""
    value = "missing"
    if row["value"] is not None:
        value = f"{wording.decimal(row['value'])} {row['uom']}"
    return f"{clock(row, zone)}: {value}, {quality(row)}"


def quality(row: Mapping[str, Any]) -> str:
    """``A actual``, or with method and reason: what they mean is in docs/codes.md."""
    flag = "N" if row["value"] is None else row["quality"]
    words = describe_quality(f"{flag}{row['method'] or ''}") if row["method"] else ""
    known = words or f"{flag}: {wording.QUALITY_WORDS.get(flag, '')}"
    if row["reason_code"] is not None:
        known += f", reason {row['reason_code']}"
    return known


def intervals(rows: Sequence[Mapping[str, Any]], zone: str | None) -> Html:
    """The intervals as a table."""
    columns = (
        parts.Column("clock", "Time", lambda row: clock(row, zone), main=True),
        parts.Column("value", "Value", lambda row: _value(row["value"], row["uom"]), right=True),
        parts.Column("quality", "Quality", quality, wide=True),
        parts.Column("register_id", "Register", minor=True),
        parts.Column("meter_serial", "Meter", minor=True),
    )
    return parts.table(columns, rows, caption="Intervals of the day", empty=Html(""))


def _value(value: Any, uom: str) -> Any:
    return (
        parts.mark("warn", "–", "missing") if value is None else f"{wording.decimal(value)} {uom}"
    )


# -- versions -----------------------------------------------------------------------------------

_STATES: Final = {
    "current": ("good", "✓", "current"),
    "superseded": ("off", "–", "superseded"),
    "undone": ("off", "↶", "undone"),
}


def versions(rows: Sequence[Mapping[str, Any]], day: date) -> Html:
    """Everything that was said about a market day, side by side; the current one first."""
    shown = list(rows[:_MOST_VERSIONS])
    if not shown:
        return parts.nothing("No version of this day.", "Nobody ever said anything about it.")
    first = shown[0]
    head = (
        parts.Column("place", "Version", lambda row: f"{row['place']}", main=True),
        parts.Column("state", "State", lambda row: parts.mark(*_STATES[row["state"]])),
        parts.Column("version_at", "As of", _as_of),
        parts.Column("total", "Total", lambda row: _value(row["total"], row["uom"]), right=True),
        parts.Column("change", "Against version 1", lambda row: _against(row, first), right=True),
        parts.Column(
            "quality", "Quality", lambda row: wording.QUALITY_WORDS.get(row["quality"], "")
        ),
        parts.Column("missing", "Missing", right=True),
        parts.Column("source", "File", _source, wide=True),
        parts.Column("loaded_at", "Loaded", lambda row: parts.stamp(row["loaded_at"]), minor=True),
    )
    told = [{**row, "place": place} for place, row in enumerate(shown, 1)]
    body = parts.table(head, told, caption=f"Versions of {day}", empty=Html(""))
    more = len(rows) - len(shown)
    if more:
        body = Html(f'{body}<p class="muted">… and {wording.count(more, "older version")}.</p>')
    if any(row["conflict"] for row in shown):
        body = Html(
            parts.alert("warn", "Two contents carry the same time.", "Ask the sender which holds.")
            + body
        )
    return Html(body + _differences(told))


def _as_of(row: Mapping[str, Any]) -> Html:
    derived = ' <span class="muted">(of the file)</span>' if row["version_derived"] else ""
    return Html(f"{parts.stamp(row['version_at'])}{derived}")


def _source(row: Mapping[str, Any]) -> Html:
    to = parts.link(f"/console/deliveries/{row['delivery']}", row["source"])
    return Html(f'{to} <span class="muted">line {row["line"]}</span>')


def _against(row: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    if row is first or row["place"] == 1 or None in (row["total"], first["total"]):
        return ""
    if row["uom"] != first["uom"]:
        return "another unit"
    return signed(row["total"] - first["total"])


def signed(value: Any) -> str:
    """``+0.4``, ``-1``, or ``the same``."""
    text = wording.decimal(value)
    return "the same" if not value else f"+{text}" if value > 0 else text


def _differences(told: Sequence[Mapping[str, Any]]) -> str:
    """The intervals in which versions of equal length differ."""
    length = told[0]["interval_minutes"]
    alike = [row for row in told if row["interval_minutes"] == length]
    if len(told) == 1:
        return '<p class="muted">There is one version only.</p>'
    other = len(told) - len(alike)
    note = f'<p class="muted">{other} in other interval lengths not compared.</p>' if other else ""
    rows = []
    for place, values in enumerate(zip(*(row["values"] for row in alike), strict=False)):
        if len(set(values)) > 1:
            start = timedelta(minutes=place * length)
            rows.append({"start": start, "values": values})
    whole = len(told[0]["values"])
    if not rows:
        return (
            f"<p>All {whole} intervals have the same values; what differs is their quality, or "
            f"when they were said.</p>{note}"
            if len(alike) > 1
            else note
        )
    columns = [
        parts.Column("start", "Market time", lambda r: _clock(r["start"], length), main=True)
    ]
    for n, row in enumerate(alike):
        columns.append(parts.Column(f"v{n}", f"Version {row['place']}", _shown(n), right=True))
    table = parts.table(columns, rows, caption="Intervals that differ", empty=Html(""))
    same = whole - len(rows)
    return (
        f"<h3>{wording.count(len(rows), 'interval')} of {whole} "
        f"{'differs' if len(rows) == 1 else 'differ'}"
        f'</h3><p class="muted">{same} are the same in all versions; ≠ marks what is not as in '
        'version 1.</p><div class="differences" tabindex="0" role="region" '
        f'aria-label="Intervals that differ">{table}</div>{note}'
    )


def _shown(place: int) -> Any:
    def cell(row: Mapping[str, Any]) -> Html:
        first, value = row["values"][0], row["values"][place]
        text = parts.text("missing" if value is None else value)
        if place and value != first:
            by = "" if None in (value, first) else f" ({signed(value - first)})"
            return Html(f"<mark>≠ {text}</mark>{by}")
        return text

    return cell


def _clock(start: timedelta, length: int) -> str:
    end = start + timedelta(minutes=length)
    return f"{_minutes(start)} to {_minutes(end)}"


def _minutes(since: timedelta) -> str:
    hours, minutes = divmod(int(since.total_seconds()) // 60, 60)
    return f"{hours:02d}:{minutes:02d}"
