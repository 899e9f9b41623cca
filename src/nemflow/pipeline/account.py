"""The account of each text: what was read, stored, unchanged, rejected, and why.

Promises: ``read = stored + unchanged + rejected`` for days and for register reads, always; every
number comes from the rows themselves, never from another number.

Look next: ``outcome.py`` for how it is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from nemflow.mdff.meterdata import HEADERS
from nemflow.store.ledger import COUNTS

if TYPE_CHECKING:
    from nemflow.pipeline.prepare import Prepared

_RULES = {"source": pl.String, "rule": pl.String, "len": pl.Int64}


class Account:
    """Adds up what became of each source, piece by piece."""

    def __init__(self) -> None:
        self._days: list[pl.DataFrame] = []
        self._reads: list[pl.DataFrame] = []
        self._bad: list[pl.DataFrame] = []
        self._findings: list[pl.DataFrame] = []
        self._headers: list[pl.DataFrame] = []

    def copy(self) -> Account:
        """The same account, to be added to on its own."""
        other = Account()
        for name, parts in vars(self).items():
            setattr(other, name, list(parts))
        return other

    def add(self, part: Prepared, days: pl.DataFrame, reads: pl.DataFrame) -> None:
        """Count a piece whose days and reads were judged and appended."""
        self._days.append(_tally(days, "days", pl.col("day")))
        self._reads.append(_tally(reads, "reads", pl.col("current_at").dt.date()))
        self.add_bad(part.bad)
        self._findings.append(part.findings.group_by("source").agg(findings=pl.len()))
        self._headers.append(part.headers)

    def add_bad(self, bad: pl.DataFrame) -> None:
        """Count rejected records."""
        self._bad.append(bad.select("source", "record", "rules"))

    def take_back(self, source: str, of: str, *, stored: int, unchanged: int) -> None:
        """Count ``days`` or ``reads`` of an earlier piece no longer as taken in."""
        row = {"source": source, f"{of}_stored": -stored, f"{of}_unchanged": -unchanged}
        parts = self._days if of == "days" else self._reads
        parts.append(pl.DataFrame([row]))

    def reject_all(self, source: str) -> None:
        """Nothing of this source was taken in after all."""
        for parts in (self._days, self._reads):
            parts[:] = [part.filter(pl.col("source") != source) for part in parts]

    def rules(self) -> pl.DataFrame:
        """How many records each rule rejected: source, rule, len."""
        if not self._bad:
            return pl.DataFrame(schema=_RULES)
        bad = pl.concat(self._bad)
        return (
            bad.select("source", rule="rules")
            .explode("rule")
            .drop_nulls()
            .group_by("source", "rule")
            .len()
            .sort("source", "rule")
            .cast({"len": pl.Int64})
        )

    def results(self, texts: pl.DataFrame, fatal: pl.DataFrame) -> pl.DataFrame:
        """The account of every text as ``ledger.finish`` wants it.

        Args:
            texts: source and whatever else shall stay (delivery, file, load).
            fatal: source, error: those rejected as a whole.

        Returns:
            ``texts`` with COUNTS, state, error, header columns, findings, nmis, conflicts,
            first_day, last_day.
        """
        rejected = (
            pl.concat(self._bad)
            .group_by("source")
            .agg(
                days_rejected=(pl.col("record") == "300").sum().cast(pl.Int64),
                reads_rejected=(pl.col("record") == "250").sum().cast(pl.Int64),
            )
        )
        out = texts
        for part in (
            _summed(self._days, "days"),
            _summed(self._reads, "reads"),
            rejected,
            pl.concat(self._findings).group_by("source").agg(pl.col("findings").sum()),
            self._header(),
            fatal.select("source", "error"),
        ):
            out = out.join(part, on="source", how="left", maintain_order="left")
        numbers = [name for name in COUNTS if not name.endswith("_read")]
        out = out.with_columns(
            pl.col(*numbers, "findings", "days_conflicts", "reads_conflicts")
            .fill_null(0)
            .cast(pl.Int64)
        ).with_columns(
            nmis=pl.col("days_nmis").fill_null(0) + pl.col("reads_nmis").fill_null(0),
            first_day=pl.min_horizontal("days_first", "reads_first"),
            last_day=pl.max_horizontal("days_last", "reads_last"),
            conflicts=pl.col("days_conflicts") + pl.col("reads_conflicts"),
            **{
                f"{of}_read": pl.sum_horizontal(f"{of}_stored", f"{of}_unchanged", f"{of}_rejected")
                for of in ("days", "reads")
            },
        )
        return _stated(out)

    def _header(self) -> pl.DataFrame:
        """The last 100 of each source."""
        every = pl.concat(self._headers) if self._headers else pl.DataFrame(schema=HEADERS)
        return every.group_by("source", maintain_order=True).last().drop("sha256", "block", "line")


def _tally(judged: pl.DataFrame, of: str, day: pl.Expr) -> pl.DataFrame:
    return judged.group_by("source").agg(
        pl.col("stored").sum().cast(pl.Int64).alias(f"{of}_stored"),
        (~pl.col("stored")).sum().cast(pl.Int64).alias(f"{of}_unchanged"),
        pl.col("conflict").sum().cast(pl.Int64).alias(f"{of}_conflicts"),
        day.min().alias(f"{of}_first"),
        day.max().alias(f"{of}_last"),
        pl.col("nmi").unique().alias("nmi"),
    )


def _summed(parts: list[pl.DataFrame], of: str) -> pl.DataFrame:
    every = pl.concat(parts, how="diagonal_relaxed")
    return every.group_by("source").agg(
        pl.col(f"{of}_stored", f"{of}_unchanged", f"{of}_conflicts").sum(),
        pl.col(f"{of}_first").min(),
        pl.col(f"{of}_last").max(),
        pl.col("nmi").explode().drop_nulls().n_unique().cast(pl.Int64).alias(f"{of}_nmis"),
    )


def _stated(out: pl.DataFrame) -> pl.DataFrame:
    """Give each text its state; ``rejected`` when nothing of it could be taken in."""
    read = pl.col("days_read") + pl.col("reads_read")
    rejected = pl.col("days_rejected") + pl.col("reads_rejected")
    nothing = (read > 0) & (rejected == read)
    state = (
        pl.when(pl.col("error").is_not_null() | nothing)
        .then(pl.lit("rejected"))
        .when(rejected > 0)
        .then(pl.lit("partly_loaded"))
        .otherwise(pl.lit("loaded"))
    )
    return out.with_columns(
        state=state,
        error=pl.coalesce(
            "error",
            pl.when(nothing).then(
                pl.format("every record was rejected ({}); see the findings", rejected)
            ),
        ),
    )
