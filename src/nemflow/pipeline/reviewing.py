"""Telling, with the account of a run, what it left for a person to look at.

Why: "2 days to review" belongs under "14 days read", in a dry run too.

Promises: conflicts between loads that ran at the same time, and so could not see each other, are
found after both are published, by the later of the two; nothing is told twice.

Look next: ``nemflow.store.review_events``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from nemflow.pipeline.dry import DrySink
from nemflow.pipeline.sinks import StoreSink
from nemflow.store import known, review_events, review_reversal

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nemflow.pipeline.outcome import FileOutcome
    from nemflow.store import Store


class Told:
    """Made before a run; asked when it is over."""

    def __init__(self, store: Store | None, sink: StoreSink | DrySink) -> None:
        self._store = store
        self._dry = sink if isinstance(sink, DrySink) else None
        self._number = self._seq = 0
        if store is not None and self._dry is None:
            self._number, self._seq = store.backend.look(
                lambda conn: (review_events.last_number(conn), known.last_seq(conn))
            )

    def with_reviews(self, outcomes: Sequence[FileOutcome]) -> list[FileOutcome]:
        """The outcomes with the review events each left."""
        counts: dict[object, dict[str, int]] = defaultdict(dict)
        if self._dry is not None:
            kinds = self._dry.reviews.group_by("load", "kind").len()
            for load, kind, count in kinds.sort("kind").iter_rows():
                of_source = counts[self._dry.sources[load]]
                of_source[kind] = of_source.get(kind, 0) + count
            return [replace(each, reviews=counts.get(each.source, {})) for each in outcomes]
        if self._store is None:
            return list(outcomes)
        store = self._store
        deliveries = {each.delivery for each in outcomes if each.delivery is not None}
        found = store.backend.look(lambda conn: self._others(conn, deliveries))
        if found is not None:
            store.backend.transact(lambda conn: self._look_late(conn, store, *found))
        for delivery, kind, count in store.backend.look(
            lambda conn: review_events.counts(conn, self._number)
        ):
            counts[delivery][kind] = count
        return [
            replace(each, reviews=dict(sorted(counts.get(each.delivery, {}).items())))
            for each in outcomes
        ]

    def _others(
        self, conn: sa.Connection, deliveries: set[int]
    ) -> tuple[dict[int, int], dict[int, int]] | None:
        """Loads of this run and of others since it began, each with its commit; None: no others."""
        since = review_reversal.published_since(conn, self._seq)
        own = review_events.deliveries_of(conn, since)
        mine = {load: seq for load, seq in since.items() if own[load] in deliveries}
        theirs = {load: seq for load, seq in since.items() if load not in mine}
        return (mine, theirs) if mine and theirs else None

    def _look_late(
        self, conn: sa.Connection, store: Store, mine: dict[int, int], theirs: dict[int, int]
    ) -> None:
        found = review_events.late_conflicts(conn, store.backend, mine, theirs)
        commits = {**mine, **theirs}
        seqs = found.select(
            mine=pl.col("load").replace_strict(commits, return_dtype=pl.Int64),
            theirs=pl.col("other_load").replace_strict(commits, return_dtype=pl.Int64),
        )
        later = found.filter(seqs["theirs"] < seqs["mine"])
        review_events.append(conn, store.backend, later)
