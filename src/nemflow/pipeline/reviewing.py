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
from nemflow.store import known, meetings, review_events

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

    def with_reviews(
        self, outcomes: Sequence[FileOutcome], *, several: bool = False
    ) -> list[FileOutcome]:
        """The outcomes with the review events each left; ``several`` processes were at work."""
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
        if several or store.backend.look(lambda conn: self._others(conn, deliveries)):
            store.backend.transact(lambda conn: self._look_late(conn, store, deliveries))
        for delivery, kind, count in store.backend.look(
            lambda conn: review_events.counts(conn, self._number)
        ):
            counts[delivery][kind] = count
        return [
            replace(each, reviews=dict(sorted(counts[each.delivery].items())))
            if each.delivery in counts
            else each
            for each in outcomes
        ]

    def _others(self, conn: sa.Connection, deliveries: set[int]) -> bool:
        """Whether others have published since this run began."""
        return not meetings.deliveries_since(conn, self._seq) <= deliveries

    def _look_late(self, conn: sa.Connection, store: Store, deliveries: set[int]) -> None:
        """Append the conflicts that our loads could not see; of two, the later load's."""
        found = meetings.met_late(conn, store.backend, self._seq)
        of = review_events.deliveries_of(conn, found["load"].unique().to_list())
        mine = [load for load, number in of.items() if number in deliveries]
        review_events.append(conn, store.backend, found.filter(pl.col("load").is_in(mine)))
