"""Where what the service says differs from what was sent; nothing is asked here.

Why: "it was loaded" is a claim; the account of every text and the comparison of every value are
the proof.

Promises: sent = loaded + partly_loaded + duplicate + rejected + dead + cancelled, text by text,
members of archives for themselves; of texts with the same bytes exactly one is not a duplicate;
of each line of NMI-days the newest version that was loaded must stand, every value, unit, quality,
reason and stamp of it, and nothing else.

Look next: ``traffic.py`` makes the texts; ``run.py`` asks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from nemflow.mdff.reader import Parser
from nemflow.mdff.reader import Text as Source
from nemflow.simulating.asking import FINAL, Row
from nemflow.simulating.sending import Sent
from nemflow.simulating.traffic import Parcel, Text, Traffic

KEYS: Final = ("nmi", "suffix", "interval_start")
CONTENT: Final = (
    "value", "uom", "quality", "method", "reason_code", "reason_text", "version_at"
)  # fmt: skip
STANDING: Final = frozenset({"loaded", "partly_loaded"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be."""

    what: str  #: state, account, readings
    where: str  #: a parcel's name, or NMI, stream and day
    expected: str
    told: str


@dataclass(slots=True)
class Verdict:
    """The account of texts, and which version of each line must stand."""

    states: Counter[str] = field(default_factory=Counter)  #: texts by final state
    texts: int = 0  #: texts of parcels that were accepted
    differences: list[Difference] = field(default_factory=list)
    standing: dict[int, int] = field(default_factory=dict)  #: line: newest version loaded
    lines: set[int] = field(default_factory=set)  #: lines that were sent
    rows: dict[int, Row] = field(default_factory=dict)  #: parcel: its delivery


def top_rows(traffic: Traffic, sent: Sequence[Sent], rows: Iterable[Row]) -> dict[int, Row]:
    """The delivery of each parcel that has one: by its number, else by its name."""
    tops = [row for row in rows if row["parent"] is None]
    by_number = {row["delivery"]: row for row in tops}
    by_name = {row["name"].rpartition("/")[2]: row for row in tops}
    found: dict[int, Row] = {}
    for parcel, each in zip(traffic.parcels, sent, strict=True):
        row = by_name.get(parcel.name)
        if each.delivery is not None:
            row = by_number.get(each.delivery)
        if row is not None:
            found[parcel.number] = row
    return found


def all_final(traffic: Traffic, sent: Sequence[Sent], rows: Sequence[Row]) -> bool:
    """Whether nothing more is to be waited for."""
    tops = top_rows(traffic, sent, rows)
    taken = (each.number for each in sent if each.outcome == "accepted")
    return all(n in tops and tops[n]["state"] in FINAL for n in taken)


def judge_states(traffic: Traffic, sent: Sequence[Sent], rows: Sequence[Row]) -> Verdict:
    """Account for every text that was accepted."""
    verdict = Verdict(rows=top_rows(traffic, sent, rows))
    members: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for row in rows:
        if row["parent"] is not None:
            members[row["parent"]][row["name"].rpartition("/")[2]] = row["state"]
    copies: defaultdict[Text, list[tuple[str, str]]] = defaultdict(list)
    for parcel, each in zip(traffic.parcels, sent, strict=True):
        top = verdict.rows.get(parcel.number)
        if each.outcome != "accepted" and top is None:
            continue  # refused, and told so: nothing was promised
        for text, state in zip(parcel.texts, _states(parcel, top, members), strict=True):
            verdict.texts += 1
            verdict.states[state] += 1
            verdict.lines.add(text.line)
            copies[text].append((parcel.name, state))
            if state in STANDING:
                newest = verdict.standing.get(text.line, -1)
                verdict.standing[text.line] = max(newest, text.version)
    for text, told in copies.items():
        verdict.differences += _wrong_states(text, told)
    if (final := sum(verdict.states[state] for state in FINAL)) != verdict.texts:
        verdict.differences.append(
            Difference("account", "all", f"{verdict.texts} texts final", f"{final} texts final")
        )
    return verdict


def _states(parcel: Parcel, top: Row | None, members: Mapping[int, Mapping[str, str]]) -> list[str]:
    """The state of each text of a parcel."""
    if top is None:
        return ["not there"] * len(parcel.texts)
    inside = members.get(top["delivery"], {})
    if parcel.wrapping == "plain" or not inside:
        return [str(top["state"])] * len(parcel.texts)
    if parcel.wrapping == "xml":
        return [next(iter(inside.values()))]
    return [inside.get(text.name, "not there") for text in parcel.texts]


def _wrong_states(text: Text, copies: Sequence[tuple[str, str]]) -> Iterable[Difference]:
    """All copies of a text but one are duplicates, and that one is in the state it must be in."""
    firsts = [(name, state) for name, state in copies if state != "duplicate"]
    if not firsts:
        yield Difference("state", copies[0][0], text.state, "duplicate, and no other is known")
    for nth, (name, state) in enumerate(firsts):
        expected = "duplicate" if nth else text.state
        if state != expected:
            yield Difference("state", name, expected, state)


def expected_readings(text: bytes) -> pl.DataFrame:
    """What must stand of a text: keys, content and ``day``, sorted by the keys."""
    return _ordered(Parser().feed([Source("sent", text)]).accepted.readings(exact=True))


def compared(expected: pl.DataFrame | None, told: Sequence[pl.DataFrame]) -> list[Difference]:
    """What differs between the readings of a line and what the service says, by NMI-day.

    Args:
        expected: of ``expected_readings``; None: nothing may stand.
        told: what the service says for each NMI, ``interval_start`` in market time.
    """
    answers = [_ordered(frame) for frame in told if frame.height]
    if not answers and expected is None:
        return []
    mine = answers[0].clear() if expected is None else expected
    theirs = _one_scale(answers) if answers else mine.clear()
    mine, theirs = _same_scale(mine, theirs)
    if mine.equals(theirs):
        return []
    both = _marked(mine, "sent").join(_marked(theirs, "told"), on=KEYS, how="full", coalesce=True)
    sent_content, told_content = pl.col("sent"), pl.col("told")
    off = both.filter(sent_content.ne_missing(told_content) | both.select(KEYS).is_duplicated())
    days = (
        off.group_by("nmi", "suffix", day=pl.col("interval_start").dt.date(), maintain_order=True)
        .agg(
            sent=sent_content.is_not_null().sum(),
            told=told_content.is_not_null().sum(),
            readings=pl.len(),
            first=pl.struct("interval_start", "sent", "told").sort_by("interval_start").first(),
        )
        .sort("nmi", "suffix", "day")
    )
    return [_in_words(row) for row in days.iter_rows(named=True)]


def _in_words(row: Mapping[str, Any]) -> Difference:
    first = row["first"]
    return Difference(
        "readings",
        f"{row['nmi']} {row['suffix']} {row['day']} from {first['interval_start']:%H:%M}",
        f"{row['sent']} readings, first {_content(first['sent'])}",
        f"{row['told']} of them, first {_content(first['told'])}",
    )


def _content(content: Mapping[str, Any] | None) -> str:
    if content is None:
        return "none"
    return f"{content['value']} {content['quality']} of {content['version_at']:%Y-%m-%d %H:%M:%S}"


def _ordered(readings: pl.DataFrame) -> pl.DataFrame:
    return readings.select(*KEYS, *CONTENT).sort(KEYS)


def _marked(readings: pl.DataFrame, name: str) -> pl.DataFrame:
    return readings.select(*KEYS, pl.struct(CONTENT).alias(name))


def _one_scale(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames one after the other, their decimals with the same number of places."""
    places = max(_scale(frame) for frame in frames)
    return pl.concat([_scaled(frame, places) for frame in frames]).sort(KEYS)


def _same_scale(one: pl.DataFrame, other: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    places = max(_scale(one), _scale(other))
    return _scaled(one, places), _scaled(other, places)


def _scale(frame: pl.DataFrame) -> int:
    dtype = frame.schema["value"]
    return dtype.scale if isinstance(dtype, pl.Decimal) else 0


def _scaled(frame: pl.DataFrame, places: int) -> pl.DataFrame:
    return frame.cast({"value": pl.Decimal(38, places)})
