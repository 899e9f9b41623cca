"""What the 100 and 900 records say of a block, and whether name and envelope agree.

Promises: one row per block, also for a block without a 100 (then sender and time are null).

Spec: 1.2 (file names), 2.1 (record 100), 2.6 (record 900), 8.2, 9. Next:
:mod:`nemflow.mdff.reader`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from nemflow.mdff import fields
from nemflow.mdff.fields import none_if_empty
from nemflow.mdff.findings import Check, Findings
from nemflow.mdff.lines import BLANKS, Text
from nemflow.mdff.meterdata import MARKET
from nemflow.mdff.structure import NEM13_KINDS, Before

_NAME = re.compile(r"(?i)^(NEM1[23])#([^#]*)#([^#]*)#([^#.]*)")


def read_headers(
    lines: pl.DataFrame,
    texts: Sequence[Text],
    found: Findings,
    *,
    participant: str | None,
    now: datetime,
    before: Before,
) -> pl.DataFrame:
    """Read the blocks of ordered lines.

    Returns:
        One row per block with ``part``, ``src``, ``new`` (false for a block carried over from
        an earlier piece) and the header columns up to ``end_line``.
    """
    blocks = lines.group_by("part", maintain_order=True).agg(
        pl.col("src", "block").first(),
        pl.coalesce(pl.col("line").filter(pl.col("kind") > 0).first(), pl.col("line").first()),
        (pl.col("row").first() >= before.carried).alias("new"),
        pl.col("kind").is_in(NEM13_KINDS).any().alias("accumulates"),
        pl.col("line").filter(pl.col("kind") == 900).last().alias("end_line"),
        (pl.col("kind") > 0).sum().alias("records"),
    )
    rows = fields.split(
        lines.filter(pl.col("kind") == 100).with_columns(pl.lit(None, pl.UInt32).alias("target")),
        5,
        found,
    )
    version, stamp = pl.col("f2"), pl.col("f3")
    rows = rows.with_columns(
        version.str.to_uppercase().alias("version"), fields.stamp_of(stamp).alias("given_at")
    )
    given_at = pl.col("given_at")
    future = given_at > pl.lit(now + timedelta(days=1)).dt.convert_time_zone(MARKET)
    parties = [
        Check("F007", (pl.col(name) == "") | (pl.col(name).str.len_chars() > 10),
              label, pl.col(name), "empty, or longer than 10 characters")
        for name, label in (("f4", "FromParticipant"), ("f5", "ToParticipant"))
    ]  # fmt: skip
    found.run(
        rows,
        [
            Check("F003", ~pl.col("version").is_in(["NEM12", "NEM13"]), "VersionHeader", version,
                  "NEM12 or NEM13 expected"),
            Check("F017", (pl.col("version") != version)
                  & pl.col("version").is_in(["NEM12", "NEM13"]), "VersionHeader", version,
                  "in lower case"),
            Check("F007", given_at.is_null(), "DateTime", stamp,
                  "not a date-time CCYYMMDDhhmm"),
            Check("F007", given_at.is_not_null() & ~stamp.str.contains(fields.STAMP12),
                  "DateTime", stamp, "12 digits CCYYMMDDhhmm expected; read all the same"),
            Check("F007", future, "DateTime", stamp,
                  "more than a day in the future, so not trusted"),
            Check("F015", pl.col("padded") > 0, "", None,
                  pl.format("empty fields after the last one: {}", pl.col("padded"))),
            *parties,
        ],
    )  # fmt: skip
    _check_ends(lines, found)
    said = rows.select(
        "part",
        version_header="version",
        file_at=pl.when(~future).then(given_at),
        from_participant=none_if_empty(pl.col("f4")),
        to_participant=none_if_empty(pl.col("f5")),
    )
    assumed = pl.when(pl.col("accumulates")).then(pl.lit("NEM13")).otherwise(pl.lit("NEM12"))
    if before.prev:
        blocks = blocks.with_columns(pl.col("new") & (pl.col("part") > 1))
    heads = blocks.join(said, on="part", how="left", maintain_order="left").with_columns(
        pl.coalesce("version_header", assumed).alias("version_header")
    )
    _check_names(heads, texts, found)
    _check_envelopes(heads, texts, found, participant)
    return heads


def _check_ends(lines: pl.DataFrame, found: Findings) -> None:
    """F015: a 900 with more on its line."""
    rest = pl.col("text").str.strip_chars(BLANKS + '"').str.slice(3)
    ends = lines.filter(pl.col("kind") == 900).with_columns(pl.lit(None, pl.UInt32).alias("target"))
    found.run(
        ends,
        [Check("F015", rest.str.len_chars() > 0, "RecordIndicator", pl.col("text"),
               "the 900 stands alone on its line")],
    )  # fmt: skip


def _check_names(heads: pl.DataFrame, texts: Sequence[Text], found: Findings) -> None:
    """F019: a name of the form NEM12#id#from#to that says something else than the header."""
    said = heads.filter("new").select("src", "version_header", "from_participant", "to_participant")
    for src, *header in said.iter_rows():
        text = texts[src]
        named = _NAME.match(text.name)
        if not named:
            continue
        version, _, sender, receiver = named.groups()
        pairs = zip((version, sender, receiver), header, strict=True)
        wrong = [f"{a} against {b}" for a, b in pairs if b and a.upper() != b.upper()]
        if wrong:
            found.note("F019", src, f"name against header: {', '.join(wrong)}", value=text.name)


def _check_envelopes(
    heads: pl.DataFrame, texts: Sequence[Text], found: Findings, participant: str | None
) -> None:
    """F008 and F020: envelope, header and our own id agree."""
    if participant is None and all(text.envelope is None for text in texts):
        return
    for row in heads.filter("new").iter_rows(named=True):
        text = texts[row["src"]]
        envelope = text.envelope
        if envelope is not None:
            for label, ours, theirs in (
                ("FromParticipant", row["from_participant"], envelope.sender),
                ("ToParticipant", row["to_participant"], envelope.receiver),
            ):
                if ours and theirs and ours.upper() != theirs.upper():
                    found.note(
                        "F008", row["src"], f"the header says {ours}, the envelope {theirs}",
                        value=ours, field=label,
                    )  # fmt: skip
            if envelope.record_count not in (None, row["records"]):
                found.note(
                    "F020", row["src"],
                    f"the envelope announces {envelope.record_count} records, the payload has "
                    f"{row['records']}",
                    value=str(envelope.record_count),
                )  # fmt: skip
            if envelope.kind and envelope.kind != row["version_header"]:
                found.note(
                    "F008", row["src"],
                    f"the envelope announces {envelope.kind}, the header says "
                    f"{row['version_header']}",
                    value=row["version_header"], field="VersionHeader",
                )  # fmt: skip
        receiver = row["to_participant"]
        if participant and receiver and receiver.upper() != participant.upper():
            found.note(
                "F008", row["src"], f"the file is for {receiver}, we are {participant}",
                value=receiver, field="ToParticipant",
            )  # fmt: skip
