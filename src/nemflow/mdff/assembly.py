"""Putting the parts together: what is rejected by what, twins, and the public frames.

Why: whether a day may be loaded depends on rules met on its own line, on its 200, on its 400s,
on the whole file and on the other days of the file; here all of it is known.

Promises: ``rejected_by`` names every rule that keeps a record out of a load; a record that is
kept out, or could not be placed, is in ``quarantine`` with its raw lines and the 100 and 200
they need to be read alone.

Spec: 5.2, 5.3 (identity and versions), 10. Next: :mod:`nemflow.mdff.meterdata`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from nemflow.mdff import content, fields, registers
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

#: What 300s of one source have in common when they claim to be one version of one day.
_VERSION: Final = ["src", "nmi", "suffix", "day", "update_at"]
_NO_TWINS: Final = pl.DataFrame(
    schema={"src": pl.UInt32} | {n: dtype for n, dtype in TWINS.items() if n != "source"}
)


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
    """What earlier pieces of one text held, for the rules that look at the whole text."""

    days: list[pl.DataFrame] = field(default_factory=list)  #: see _remembered: 21 bytes a day
    conflicting: set[int] = field(default_factory=set)  #: lines known to be twins
    periods: list[pl.DataFrame] = field(default_factory=list)
    channels: list[pl.DataFrame] = field(default_factory=list)
    fatal: set[str] = field(default_factory=set)  #: rules that reject the whole text


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
) -> MeterData:
    """Make MeterData from the parts of one pass.

    Args:
        texts: the sources by ``src``.
        lines: all ordered lines.
        heads: see :func:`nemflow.mdff.headers.read_headers`.
        parts: what the record readers made.
        found: the findings so far; rules that need the whole file are added here.
        seen: what earlier pieces held; empty for whole texts.
        carried: how many lines at the start were repeated from an earlier piece.
        whole: the texts are here from start to end, so nothing need be remembered.
        closing: the last line of the texts is here.
    """
    days, reads = parts.days, parts.reads
    form = None if whole else content.canonical_days(days, parts.scale)
    if form is None:
        _whole_twins(days, parts.scale, found)
        registers.check_periods(reads, found)
        twins = _NO_TWINS
    else:
        days = days.with_columns(form["content_hash"].alias("hash"))
        twins = _later_twins(days, found, seen)
        if closing:
            twins = pl.concat([twins, _later_periods(reads, found, seen)])
    if severity("N009", found.profile) != "-":
        _check_channels(days, found, seen, closing=closing)
    collected = found.collected()
    days = _judged(days, collected, ("row", "r200"), seen.fatal)
    reads = _judged(reads, collected, ("row",), seen.fatal)
    if not whole:
        _remember(days, reads, collected, seen)
    names = pl.Series("source", [text.source for text in texts], dtype=pl.String)
    # the rules on a repeated 100 or 200 were told of before; that no 300 follows, only now
    new = pl.col("row").is_null() | (pl.col("row") >= carried) | (pl.col("rule") == "N015")
    findings = finished(collected.filter(new), lines, names)
    data = MeterData(
        headers=_headers(heads, texts, names),
        frame_days=_select(days, FRAME_DAYS, names, values=days.schema["values"]),
        scale=parts.scale,
        register_reads=_select(reads, REGISTER_READS, names, quantity=reads.schema["quantity"]),
        service_events=_select(parts.services, SERVICE_EVENTS, names),
        findings=findings,
        quarantine=_quarantine(
            lines, days, reads, parts.streams, collected, names=names, carried=carried
        ),
        twins=_select(twins, TWINS, names),
    )
    if form is not None:
        content.keep(data, form)
    return data


def _select(
    frame: pl.DataFrame, schema: pl.Schema, names: pl.Series, **own: pl.DataType
) -> pl.DataFrame:
    """The public columns of a frame, ``src`` turned into the source's name."""
    wanted = dict(schema) | own
    if frame.is_empty():
        return pl.DataFrame(schema=wanted)
    source = _named(frame["src"], names)
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


def _judged(
    records: pl.DataFrame, collected: pl.DataFrame, targets: Sequence[str], fatal: Collection[str]
) -> pl.DataFrame:
    """Add ``rejected_by``: rules of severity D on the record or its 200, F on its source.

    ``fatal`` are rules of severity F met in earlier pieces of the source.
    """
    before = pl.lit(sorted(fatal), pl.List(pl.String)).alias("rejected_by")
    severe = collected.filter(pl.col("severity") != "W")
    if severe.is_empty() or records.is_empty():
        return records.with_columns(before)
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
    joined = pl.concat_list([before, *(part.fill_null(empty) for part in lists)])
    return out.with_columns(joined.list.unique().list.sort().alias("rejected_by"))


def _quarantine(
    lines: pl.DataFrame,
    days: pl.DataFrame,
    reads: pl.DataFrame,
    streams: pl.DataFrame,
    collected: pl.DataFrame,
    *,
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
        .join(text.select(r100="row", t100="text"), on="r100", how="left", maintain_order="left")
        .join(text.select(r200="row", t200="text"), on="r200", how="left", maintain_order="left")
        .with_columns(
            pl.concat_str("t100", "t200", separator="\n", ignore_nulls=True).alias("context"),
            pl.col("kind").cast(pl.String).alias("record"),
        )
    )  # fmt: skip
    return _select(out, QUARANTINE, names)


# ---------------------------------------------------------------- rules over the whole file


def _whole_twins(days: pl.DataFrame, scale: int, found: Findings) -> None:
    """I009: one day twice in one file.

    Equal content is a warning. Equal stamps with different content keep both days out: nobody
    can say which is right.
    """
    some = days.filter(pl.struct(_VERSION).is_duplicated())
    if not some.is_empty():
        form = content.canonical_days(some, scale)
        _note_twins(some.with_columns(form["content_hash"].alias("hash")), found)


def _later_twins(days: pl.DataFrame, found: Findings, seen: Seen) -> pl.DataFrame:
    """I009 for a piece of a text: also against the days of earlier pieces.

    Returns:
        The days of earlier pieces that must be taken back: src, nmi, suffix, day, line.
    """
    now = _remembered(days).with_columns(days.select(*_VERSION, "row"))
    if seen.days:
        again = pl.concat(seen.days).filter(pl.col("key").is_in(now["key"].implode()))
        who = now.select("key", *_VERSION).unique("key")
        old = again.join(who, on="key").with_columns(pl.lit(None, pl.UInt32).alias("row"))
        now = pl.concat([old.select(now.columns), now])
    some = now.filter(pl.col("key").is_duplicated())
    if some.is_empty():
        return _NO_TWINS
    known = list(seen.conflicting)
    conflicts = _note_twins(some.with_columns(pl.col("line").is_in(known).alias("told")), found)
    seen.conflicting.update(conflicts["line"])
    earlier = pl.col("row").is_null() & ~pl.col("told") & pl.col("accepted")
    return conflicts.filter(earlier).select(
        "src", "nmi", "suffix", "day", "line", record=pl.lit("300")
    )


def _remembered(days: pl.DataFrame) -> pl.DataFrame:
    """What is kept of each day to find its twins in later pieces."""
    accepted = pl.col("rejected_by").list.len() == 0 if "rejected_by" in days.columns else True
    return days.select(
        pl.struct("nmi", "suffix", "day", "update_at").hash(seed=0).alias("key"),
        # 60 bits of the hash: more than enough to see that two contents differ
        pl.col("hash").str.head(15).str.to_integer(base=16, dtype=pl.Int64),
        "line",
        accepted=accepted,
    )


def _later_periods(reads: pl.DataFrame, found: Findings, seen: Seen) -> pl.DataFrame:
    """Rules over all register periods of a text that came in pieces.

    Returns:
        The periods of earlier pieces that must be taken back: src, nmi, suffix, day, line.
    """
    now = reads.select(registers.PERIOD).with_columns(
        pl.col("quantity").cast(pl.Float64), at="line", accepted=pl.lit(value=False)
    )
    conflicts = registers.check_periods(pl.concat([*seen.periods, now]), found)
    return conflicts.filter(pl.col("row").is_null() & pl.col("accepted")).select(
        "src", "nmi", "suffix", pl.col("previous_at").dt.date().alias("day"), "line",
        record=pl.lit("250"),
    )  # fmt: skip


def _remember(days: pl.DataFrame, reads: pl.DataFrame, collected: pl.DataFrame, seen: Seen) -> None:
    """Keep what later pieces of the text will be compared with."""
    none = pl.lit(None, pl.UInt32)
    seen.days.append(_remembered(days))
    seen.fatal.update(collected.filter(pl.col("severity") == "F")["rule"])
    seen.periods.append(
        reads.select(registers.PERIOD).with_columns(
            pl.col("quantity").cast(pl.Float64),
            at="line",
            accepted=reads["rejected_by"].list.len() == 0,
            row=none,
            target=none,
        )
    )


def _note_twins(some: pl.DataFrame, found: Findings) -> pl.DataFrame:
    """Record I009 for days that share their version; give those that conflict.

    Days of earlier pieces have no row; those ``told`` of before are not told of again.
    """
    some = some.with_columns(
        (pl.col("hash").n_unique().over(_VERSION) > 1).alias("conflict"),
        pl.col("line").min().over([*_VERSION, "hash"]).alias("first"),
        pl.col("row").alias("target"),
        pl.col("line").alias("at"),
    )
    name = pl.format("{} {} {}", pl.col("nmi").fill_null(""), pl.col("suffix").fill_null(""), "day")
    again = pl.col("row").is_not_null() & (pl.col("line") > pl.col("first"))
    found.run(
        some.filter(~pl.col("told")) if "told" in some.columns else some,
        [
            Check("I009", pl.col("conflict"), "", name,
                  "this day stands twice in the file with one UpdateDateTime and different "
                  "content; nobody can say which is right"),
            Check("I009", again, "", name,
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
