"""Watching one step of a load for what a person should look at.

Why: a step knows at once what arrives and what was current; asking later would be guessing.

Promises: a step that meets nothing in the store asks nothing more; the real load and the dry run
find the same, because both come through here.

Look next: ``review.py`` for what counts, ``review_events.py`` for where it goes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from nemflow.store import review, review_events
from nemflow.store.days import KEY
from nemflow.store.registers import CLAIM_COLUMNS, PERIOD_KEY
from nemflow.store.review import CLAIM

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nemflow.store.backends import Backend


@dataclass(slots=True)
class Imagined:
    """What a dry run has loaded so far, in memory: as if it were in the store."""

    days: pl.DataFrame = field(default_factory=pl.DataFrame)  #: KEY, CLAIM and ``state``
    reads: pl.DataFrame = field(default_factory=pl.DataFrame)  #: CLAIM_COLUMNS and ``state``
    services: pl.DataFrame = field(default_factory=pl.DataFrame)

    def days_of(self, keys: pl.DataFrame, on: list[str]) -> pl.DataFrame:
        """The claims on these keys."""
        if self.days.is_empty():
            return self.days
        return self.days.join(keys.select(on).unique(), on=on, how="semi")


class Watch:
    """One step's comparisons. Give it days, reads and services as they are appended."""

    def __init__(
        self,
        conn: sa.Connection | None,
        backend: Backend | None,
        today: date,
        after_days: int,
        imagined: Imagined | None = None,
    ) -> None:
        self._conn = conn
        self._backend = backend
        self._today = today
        self._after_days = after_days
        self._imagined = imagined
        self._changed: list[pl.DataFrame] = []  #: what was replaced, for the service events

    def days(self, judged: pl.DataFrame, own: Collection[int], *, alone: bool) -> pl.DataFrame:
        """Events of days that were judged; ``alone``: they met no claim at all."""
        repeated = judged.height and judged.select(KEY).is_duplicated().any()
        if (alone and not repeated) or judged.is_empty():
            return pl.DataFrame(schema=review.FOUND)
        named = [name for name in CLAIM if name != "quality"]
        incoming = judged.select(*KEY, *named, "conflict", quality="weakest").cast(_LINE)
        in_conflict = incoming.filter("conflict")
        found = [review.conflicts(in_conflict, self._claims(in_conflict))]
        suspects = self._suspects(incoming, alone=alone)
        if not suspects.is_empty():
            some = incoming.filter(pl.col("nmi").is_in(suspects.implode()))
            found += self._changes(some, own)
        return pl.concat(found)

    def _changes(self, incoming: pl.DataFrame, own: Collection[int]) -> list[pl.DataFrame]:
        """What has changed of the days of these NMIs."""
        standing = self._standing(incoming, own)
        changed = review.changes(standing, incoming)
        self._changed.append(changed.select("nmi", *_PARENT, "suffix", "day", *_HASHES))
        return [
            review.of_changes(changed, self._today, self._after_days),
            review.missing_channels(changed, standing, incoming.select(*KEY, "load")),
        ]

    def _suspects(self, incoming: pl.DataFrame, *, alone: bool) -> pl.Series:
        """NMIs of which anything may have to be told; a glance clears most of a usual delivery."""
        doubled = incoming.filter(incoming.select(KEY).is_duplicated())
        suspects = [doubled["nmi"].unique()]
        conn, backend = self._conn, self._backend
        if conn is not None and backend is not None and not alone:
            claimed = backend.glance(conn, incoming.select("nmi", "day"))
            suspects.append(review.suspects(incoming, claimed))
            if review_events.any_services(conn):
                suspects.append(review_events.with_services(conn, incoming["nmi"].unique()))
        if self._imagined is not None:
            suspects.append(
                self._imagined.days_of(incoming, ["nmi", "day"])["nmi"].unique()
                if not self._imagined.days.is_empty()
                else doubled["nmi"].head(0)
            )
        return pl.concat(suspects).unique()

    def _standing(self, incoming: pl.DataFrame, own: Collection[int]) -> pl.DataFrame:
        """The winners before, of all streams of the NMI-days."""
        parts = [pl.DataFrame(schema={n: incoming.schema[n] for n in (*KEY, *CLAIM)})]
        if self._conn is not None and self._backend is not None:
            parts.append(self._backend.standing(self._conn, incoming.select("nmi", "day")))
        if self._imagined is not None:
            mine = self._imagined.days_of(incoming, ["nmi", "day"])
            if not mine.is_empty():
                parts.append(mine.filter(~pl.col("load").is_in(list(own))))
        every = [part.select(*KEY, *CLAIM).cast(_LINE) for part in parts]
        return every[1] if len(parts) == 2 and self._imagined is None else _winners(every)

    def _claims(self, days: pl.DataFrame) -> pl.DataFrame:
        """All claims on these keys; few. Loads of a batch are in the ledger only at its end."""
        if days.is_empty():
            return days
        parts = [days.select(*KEY, *CLAIM, state=pl.lit("open"))]
        if self._conn is not None and self._backend is not None:
            parts.append(self._backend.claims_of(self._conn, days.select(KEY).unique()))
        if self._imagined is not None:
            parts.append(self._imagined.days_of(days, KEY))
        return pl.concat(parts, how="diagonal_relaxed")

    def reads(
        self, judged: pl.DataFrame, claims: pl.DataFrame, own: Collection[int]
    ) -> pl.DataFrame:
        """Events of register reads that were judged; ``claims`` are all of their NMIs before."""
        if judged.is_empty():
            return pl.DataFrame(schema=review.FOUND)
        arriving = judged.select(*CLAIM_COLUMNS, "conflict").cast(_LINE)
        incoming = review.as_claims(arriving)
        columns = {name: arriving.schema[name] for name in CLAIM_COLUMNS} | {"state": pl.String}
        before = pl.concat(
            [pl.DataFrame(schema=columns), *([] if claims.is_empty() else [claims])],
            how="diagonal_relaxed",
        )
        mine = pl.col("load").is_in(list(own))
        standing = review.as_claims(before.filter((pl.col("state") == "published") & ~mine))
        winners = review.best(standing, PERIOD_KEY)
        changed = review.changes(winners, incoming, PERIOD_KEY)
        ends = incoming.select(*PERIOD_KEY, "load", "content_hash", "day", "period_at").unique()
        changed = changed.join(
            ends, on=[*PERIOD_KEY, "load", "content_hash"], how="left", nulls_equal=True
        )
        self._changed.append(changed.select("nmi", *_PARENT, "suffix", "day", *_HASHES))
        known = before.filter((pl.col("state") == "published") | mine)
        every = pl.concat([review.as_claims(known), incoming.drop("conflict")], how="diagonal")
        faults = review.chain_faults(every, own)
        old = review.chain_faults(standing)
        same = ["kind", *review.REGISTER, "period_at", "before", "after"]
        in_conflict = incoming.filter("conflict")
        told = pl.concat(
            [before, arriving.drop("conflict").with_columns(state=pl.lit("open"))], how="diagonal"
        )
        return pl.concat(
            [
                review.of_changes(changed, self._today, self._after_days),
                faults.join(old, on=same, how="anti", nulls_equal=True),
                review.conflicts(in_conflict, told, PERIOD_KEY),
            ]
        )

    def services(self, arriving: pl.DataFrame) -> pl.DataFrame:
        """500s and 550s that are withdrawn by what this step has brought without them."""
        nothing = pl.DataFrame(schema=review.FOUND)
        changed = pl.concat(self._changed) if self._changed else pl.DataFrame()
        if changed.is_empty():
            return nothing
        parts = []
        conn, backend = self._conn, self._backend
        if conn is not None and backend is not None and review_events.any_services(conn):
            parts.append(review_events.services(conn, backend, changed["nmi"].unique()))
        if self._imagined is not None and not self._imagined.services.is_empty():
            parts.append(self._imagined.services)
        if not parts:
            return nothing
        return review.withdrawn_services(
            changed, pl.concat(parts, how="vertical_relaxed"), arriving
        )


_LINE = pl.Schema({"line": pl.Int64})
_PARENT = ("load", "line", "before_load", "before_line", "version_at")
_HASHES = ("content_hash", "before_content_hash")


def _winners(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return review.best(pl.concat(parts, how="vertical_relaxed"), KEY)
