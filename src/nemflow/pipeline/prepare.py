"""MeterData -> frames shaped like the store's tables.

Why: everything that can be done beside the store's one writer is done here, in the parsing
thread: choosing the accepted days, giving them their canonical form, keeping the rejected ones.

Promises: every 300 and 250 of the text is either accepted or in ``bad``; nothing is rounded.

Look next: ``nemflow.mdff.content`` (canonical form), ``nemflow.store.days`` (what is appended).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from nemflow.mdff.content import canonical
from nemflow.store.backends.codec import decimal_json

if TYPE_CHECKING:
    from nemflow.mdff.meterdata import MeterData

#: Digits that a 64-bit integer holds for certain.
_SAFE_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was parsed, as rows to be appended; every frame has ``source``."""

    days: pl.DataFrame  #: accepted days: columns of day_content and day_claim but ``load``
    reads: pl.DataFrame  #: accepted register reads
    events: pl.DataFrame  #: 500s and 550s of accepted days and reads
    bad: pl.DataFrame  #: rejected records: ``MeterData.quarantine``
    findings: pl.DataFrame
    headers: pl.DataFrame
    twins: pl.DataFrame  #: days of earlier pieces to be taken back

    def without(self, sources: Collection[str]) -> Prepared:
        """Everything but what came from these sources."""
        if not sources:
            return self
        others = ~pl.col("source").is_in(list(sources))
        return replace(
            self,
            days=self.days.filter(others),
            reads=self.reads.filter(others),
            events=self.events.filter(others),
            bad=self.bad.filter(others),
            findings=self.findings.filter(others),
            headers=self.headers.filter(others),
        )

    def with_bad(self, bad: pl.DataFrame) -> Prepared:
        """The same with other rejected records."""
        return replace(self, bad=bad)

    @property
    def fatal(self) -> pl.DataFrame:
        """Sources that are rejected as a whole: source, error (one sentence)."""
        return (
            self.findings.filter(pl.col("severity") == "F")
            .group_by("source", maintain_order=True)
            .first()
            .select("source", error=pl.format("{}: {}", "rule", "message"))
        )


def prepared(data: MeterData) -> Prepared:
    """Shape what was parsed like the store's tables."""
    days = data.frame_days.with_columns(
        data.frame_days["rejected_by"].list.len().alias("faults"),
    )
    plain = pl.col("faults") == 0
    form = canonical(data)
    days = (
        days.drop("reason_code", "reason_text", "values", "spans", "rejected_by")
        .hstack(form)
        .filter(plain)
        .with_columns(
            _exact_values(form.filter(days["faults"] == 0), days.schema["values"]),
            pl.col("weakest").fill_null("N"),
            scaled_values="ints",
            spans="spans_json",
        )
        .with_columns(
            scaled_values=pl.when(pl.col("exact_values").is_null()).then(pl.col("scaled_values"))
        )
    )
    reads = data.register_reads.filter(pl.col("rejected_by").list.len() == 0)
    parents = pl.concat([days.select("source", "line"), reads.select("source", "line")])
    events = data.service_events.join(
        parents.rename({"line": "parent_line"}), on=["source", "parent_line"], how="semi"
    )
    return Prepared(
        days=days,
        reads=reads,
        events=events,
        bad=data.quarantine,
        findings=data.findings,
        headers=data.headers,
        twins=data.twins,
    )


def _exact_values(form: pl.DataFrame, dtype: pl.DataType) -> pl.Series:
    """JSON decimals for the rare day whose integers do not fit 64 bits; null for all others."""
    none = pl.Series("exact_values", [None], dtype=pl.String).new_from_index(0, form.height)
    if dtype == pl.List(pl.Int64):
        return none
    wide = form["ints"].str.contains(rf"\d{{{_SAFE_DIGITS + 1}}}")
    texts = [
        decimal_json(ints, scale) if is_wide else None
        for ints, scale, is_wide in zip(form["ints"], form["scale"], wide, strict=True)
    ]
    return pl.Series("exact_values", texts, dtype=pl.String)
