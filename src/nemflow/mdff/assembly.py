"""Putting the parts together: what is rejected by what, twins, and the public frames.

Why: whether a day may be loaded depends on rules met on its own line, on its 200, on its 400s,
on the whole file and on the other days of the file; here all of it is known.

Promises: ``rejected_by`` names every rule that keeps a record out of a load; a record that is
kept out, or could not be placed, is in ``quarantine`` with its raw lines and the 100 and 200
they need to be read alone.

Spec: 5.2, 5.3 (identity and versions), 10. Next: :mod:`nemflow.mdff.meterdata`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypedDict

import polars as pl

from nemflow.mdff import content, fields
from nemflow.mdff.findings import Check, Findings, finished
from nemflow.mdff.lines import Text
from nemflow.mdff.meterdata import (
    FRAME_DAYS,
    HEADERS,
    QUARANTINE,
    REGISTER_READS,
    SERVICE_EVENTS,
    TWINS,
    MeterData,
)
from nemflow.mdff.rules import severity

_KEY: Final = ["src", "nmi", "suffix", "day"]


@dataclass(slots=True)
class Parts:
    """What the readers of the record types made."""

    days: pl.DataFrame
    scale: int
    reads: pl.DataFrame
    services: pl.DataFrame
    streams: pl.DataFrame


@dataclass(slots=True)
class Seen:
    """Days of earlier pieces of one text, as small as can be: 28 bytes each."""

    keys: list[pl.DataFrame] = field(default_factory=list)
    channels: list[pl.DataFrame] = field(default_factory=list)


class Assembled(TypedDict):
    """The fields of MeterData."""

    headers: pl.DataFrame
    frame_days: pl.DataFrame
    scale: int
    register_reads: pl.DataFrame
    service_events: pl.DataFrame
    findings: pl.DataFrame
    quarantine: pl.DataFrame
    twins: pl.DataFrame


def assemble(
    texts: Sequence[Text],
    lines: pl.DataFrame,
    heads: pl.DataFrame,
    parts: Parts,
    found: Findings,
    *,
    seen: Seen,
    carried: int,
    whole: bool,
    closing: bool,
) -> Assembled:
    """Make the fields of MeterData from the parts of one pass.

    Args:
        texts: the sources by ``src``.
        lines: all ordered lines; ``heads``: one row per block.
        heads: see :func:`nemflow.mdff.headers.read_headers`.
        parts: what the record readers made.
        found: the findings so far; rules that need the whole file are added here.
        seen: days of earlier pieces; empty for whole texts.
        carried: how many lines at the start were repeated from an earlier piece.
        whole: the texts are here from start to end, so nothing need be remembered.
        closing: the last line of the texts is here.
    """
    days = parts.days
    twins = _twins(days, parts.scale, found, seen, whole=whole)
    if severity("N009", found.profile) != "-":
        _check_channels(days, found, seen, closing=closing)
    collected = found.collected()
    days = _judged(days, collected, ("row", "r200"))
    reads = _judged(parts.reads, collected, ("row",))
    names = pl.Series("source", [text.source for text in texts], dtype=pl.String)
    public = collected.filter(pl.col("row").is_null() | (pl.col("row") >= carried))
    findings = finished(public, lines, names)
    return Assembled(
        headers=_headers(heads, texts, names),
        frame_days=_select(days, FRAME_DAYS, names, values=days.schema["values"]),
        scale=parts.scale,
        register_reads=_select(reads, REGISTER_READS, names, quantity=reads.schema["quantity"]),
        service_events=_select(parts.services, SERVICE_EVENTS, names),
        findings=findings,
        quarantine=_quarantine(lines, days, reads, parts.streams, collected, names, carried),
        twins=twins.select(pl.lit(texts[0].source).alias("source"), *list(TWINS)[1:]),
    )


def _select(
    frame: pl.DataFrame, schema: pl.Schema, names: pl.Series, **own: pl.DataType
) -> pl.DataFrame:
    """The public columns of a frame, ``src`` turned into the source's name."""
    if "method" in schema and "code" in frame.columns:
        frame = frame.with_columns(
            pl.col("qm").alias("quality_method"),
            fields.none_if_empty(pl.col("reason_text")).alias("reason_text"),
        )
    source = _named(frame["src"], names)
    wanted = dict(schema) | own
    return frame.with_columns(source).select(
        pl.col(name) if frame.schema.get(name) == dtype else pl.col(name).cast(dtype)
        for name, dtype in wanted.items()
    )


def _named(src: pl.Series, names: pl.Series) -> pl.Series:
    if names.len() == 1:
        return pl.repeat(names[0], src.len(), dtype=pl.String, eager=True).alias("source")
    return names.gather(src).alias("source")


def _headers(heads: pl.DataFrame, texts: Sequence[Text], names: pl.Series) -> pl.DataFrame:
    about = pl.DataFrame(
        {
            "sha256": [text.sha256 for text in texts],
            "message_id": [text.envelope and text.envelope.message_id for text in texts],
            "transaction_id": [text.envelope and text.envelope.transaction_id for text in texts],
            "sender": [text.envelope and text.envelope.sender for text in texts],
            "receiver": [text.envelope and text.envelope.receiver for text in texts],
        },
        schema=dict.fromkeys(
            ("sha256", "message_id", "transaction_id", "sender", "receiver"), pl.String
        ),
    ).with_row_index("src")
    new = heads.filter("new").join(about, on="src", how="left", maintain_order="left")
    return _select(new, HEADERS, names)


# ---------------------------------------------------------------- what keeps a record out


def _judged(records: pl.DataFrame, collected: pl.DataFrame, targets: Sequence[str]) -> pl.DataFrame:
    """Add ``rejected_by``: rules of severity D on the record or its 200, F on its source."""
    none = pl.lit([], pl.List(pl.String)).alias("rejected_by")
    severe = collected.filter(pl.col("severity") != "W")
    if severe.is_empty() or records.is_empty():
        return records.with_columns(none)
    by_record = (
        severe.filter(pl.col("target").is_not_null())
        .group_by("target")
        .agg(pl.col("rule").unique().alias("rules"))
    )
    by_source = (
        severe.filter(pl.col("severity") == "F")
        .group_by("src")
        .agg(pl.col("rule").unique().alias("file_rules"))
    )
    out = records.join(by_source, on="src", how="left", maintain_order="left")
    lists = [pl.col("file_rules")]
    for name in targets:
        column = f"rules_{name}"
        out = out.join(
            by_record.rename({"target": name, "rules": column}),
            on=name, how="left", maintain_order="left",
        )  # fmt: skip
        lists.append(pl.col(column))
    empty = pl.lit([], pl.List(pl.String))
    joined = pl.concat_list([part.fill_null(empty) for part in lists])
    return out.with_columns(joined.list.unique().list.sort().alias("rejected_by"))


def _quarantine(
    lines: pl.DataFrame,
    days: pl.DataFrame,
    reads: pl.DataFrame,
    streams: pl.DataFrame,
    collected: pl.DataFrame,
    names: pl.Series,
    carried: int,
) -> pl.DataFrame:
    """One row per record that a load leaves out, or that could not be placed at all."""
    kept_out = pl.col("rejected_by").list.len() > 0
    bad = pl.concat(
        [
            days.filter(kept_out).select("row", "nmi", "suffix", "day", rules="rejected_by"),
            reads.filter(kept_out).select(
                "row", "nmi", "suffix", day=pl.col("previous_at").dt.date(), rules="rejected_by"
            ),
        ]
    )
    placed = pl.concat([days["row"], reads["row"]])
    records = lines.filter(pl.col("kind").is_in([300, 250]) & (pl.col("row") >= carried))
    if records.height > placed.len():
        lost = records.filter(~pl.col("row").is_in(placed.implode())).select("row", "r200", "text")
        said = collected.filter(pl.col("severity") != "W")
        rules = said.group_by("row").agg(pl.col("rule").unique().sort().alias("rules"))
        unplaced = (
            lost.join(rules, on="row", how="left")
            .join(streams.select("r200", "nmi", "suffix"), on="r200", how="left")
            .select(
                "row", "nmi", "suffix",
                day=fields.date_of(
                    pl.col("text").str.split(",").list.get(1, null_on_oob=True).str.strip_chars()
                ),
                rules=pl.col("rules").fill_null([]),
            )
        )  # fmt: skip
        bad = pl.concat([bad, unplaced])
    if bad.is_empty():
        return pl.DataFrame(schema=QUARANTINE)
    owner = pl.coalesce(
        pl.when(pl.col("kind").is_in([300, 250])).then(pl.col("row")), "r300", "r250"
    )
    raw = (
        lines.with_columns(owner.alias("owner"))
        .filter(pl.col("owner").is_in(bad["row"].implode()) & (pl.col("kind") != 900))
        .group_by("owner")
        .agg(pl.col("text").str.join("\n").alias("raw"))
    )
    where = lines.select("row", "src", "line", "block", "kind", "r100", "r200")
    text = lines.select("row", "text")
    out = (
        bad.sort("row")
        .join(where, on="row", how="left", maintain_order="left")
        .join(raw, left_on="row", right_on="owner", how="left", maintain_order="left")
        .join(text.rename({"row": "r100", "text": "t100"}), on="r100", how="left", maintain_order="left")
        .join(text.rename({"row": "r200", "text": "t200"}), on="r200", how="left", maintain_order="left")
        .with_columns(
            pl.concat_str("t100", "t200", separator="\n", ignore_nulls=True).alias("context"),
            pl.col("kind").cast(pl.String).alias("record"),
        )
    )  # fmt: skip
    return _select(out, QUARANTINE, names)


# ---------------------------------------------------------------- rules over the whole file


def _twins(
    days: pl.DataFrame, scale: int, found: Findings, seen: Seen, *, whole: bool
) -> pl.DataFrame:
    """I009: one day twice in one file. Equal content is a warning; with equal stamps and other
    content nobody can say which is right, so both are kept out.

    Returns:
        The days of earlier pieces that must be taken back: nmi, suffix, day, line.
    """
    none = pl.DataFrame(schema={name: dtype for name, dtype in TWINS.items() if name != "source"})
    if days.is_empty():
        return none
    if whole:
        some = days.filter(pl.struct(_KEY).is_duplicated())
        if some.is_empty():
            return none
        known = _with_hash(some, scale)
        _note_twins(known, found)
        return none
    now = _with_hash(days, scale)
    key = pl.struct("nmi", "suffix", "day").hash(seed=0)
    now = now.with_columns(key.alias("key"), pl.lit(value=False).alias("earlier"))
    before = pl.concat(seen.keys) if seen.keys else None
    seen.keys.append(now.select("key", "update_at", "hash", "line"))
    if before is not None:
        again = before.filter(pl.col("key").is_in(now["key"].implode()))
        if not again.is_empty():
            who = now.select("key", "src", "nmi", "suffix", "day").unique("key")
            old = again.join(who, on="key").with_columns(
                pl.lit(None, pl.UInt32).alias("row"), pl.lit(value=True).alias("earlier")
            )
            now = pl.concat([old.select(_TWIN_COLUMNS), now.select(_TWIN_COLUMNS)])
    some = now.filter(pl.struct(_KEY).is_duplicated())
    if some.is_empty():
        return none
    conflicts = _note_twins(some, found)
    return conflicts.filter("earlier").select("nmi", "suffix", "day", "line")


_TWIN_COLUMNS: Final = [
    "row",
    "src",
    "line",
    "nmi",
    "suffix",
    "day",
    "update_at",
    "hash",
    "earlier",
]


def _with_hash(days: pl.DataFrame, scale: int) -> pl.DataFrame:
    """Days with ``hash``, their content hash."""
    hashes = content.hashes_of(days.with_columns(pl.col("qm").alias("quality_method")), scale)
    return days.with_columns(hashes.alias("hash"))


def _note_twins(some: pl.DataFrame, found: Findings) -> pl.DataFrame:
    """Record I009 for days that share their key; give those that conflict."""
    version = [*_KEY, "update_at"]
    first = pl.col("line").min()
    some = some.with_columns(
        (pl.col("hash").n_unique().over(version) > 1).alias("conflict"),
        (pl.col("line") > first.over([*version, "hash"])).alias("again"),
        first.over(version).alias("first"),
        pl.col("row").alias("target"),
    )
    here = some.filter(pl.col("row").is_not_null())
    name = pl.format("{} {} {}", pl.col("nmi").fill_null(""), pl.col("suffix").fill_null(""), "day")
    found.run(
        here,
        [
            Check("I009", pl.col("conflict"), "", name,
                  "this day stands twice in the file with one UpdateDateTime and different "
                  "content; nobody can say which is right"),
            Check("I009", ~pl.col("conflict") & pl.col("again"), "", name,
                  pl.format("the same day with the same content stands on line {}; counted once",
                            pl.col("first")), "W"),
        ],
    )  # fmt: skip
    return some.filter("conflict")


def _check_channels(days: pl.DataFrame, found: Findings, seen: Seen, *, closing: bool) -> None:
    """N009: for one NMI and day, all suffixes of the configuration stand in the file."""
    small = days.select(
        "src", "line", "day",
        pl.col("nmi", "suffix", "nmi_configuration").cast(pl.Categorical),
    )  # fmt: skip
    seen.channels.append(small)
    if not closing:
        return
    every = pl.concat(seen.channels)
    listed = pl.col("nmi_configuration").cast(pl.String).str.extract_all("..")
    sites = (
        every.group_by("src", "nmi", "day", maintain_order=True)
        .agg(
            pl.col("line").min().alias("at"),
            pl.col("suffix").cast(pl.String).unique().alias("present"),
            listed.first().alias("listed"),
        )
        .with_columns(pl.col("listed").list.set_difference("present").alias("lacking"))
        .filter(pl.col("lacking").list.len() > 0)
        .with_columns(
            pl.lit(None, pl.UInt32).alias("row"),
            pl.lit(None, pl.UInt32).alias("target"),
            pl.col("lacking").list.sort().list.join(", "),
        )
    )
    found.add(
        sites,
        Check("N009", pl.lit(value=True), "NMISuffix",
              pl.format("{} {}", pl.col("nmi").cast(pl.String), "day"),
              pl.format("the configuration also lists {}, which the file does not give for this "
                        "day", pl.col("lacking"))),
    )  # fmt: skip
