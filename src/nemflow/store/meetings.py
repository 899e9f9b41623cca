"""Conflicts between loads that could not see each other when they were loaded.

Why: two loads at the same time, or one that was undone while the other came, look at a store
without the other's claims; afterwards both stand.

Promises: of two contents under one stamp the load published later is told of; a load that has told
of a conflict of the same day or period tells of it once.

Look next: ``review.py`` for conflicts that are seen at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import sqlalchemy as sa

from nemflow.store import review
from nemflow.store.days import KEY
from nemflow.store.leases import batches
from nemflow.store.registers import PERIOD_KEY
from nemflow.store.review_events import some_of
from nemflow.store.tables import day_claim, load, load_event, register_read, review_event

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

#: What names the day or period that an event is about.
_THING: Final = ("nmi", "suffix", "day", "register_id", "meter_serial", "period_at")


def published_since(conn: sa.Connection, seq: int) -> set[int]:
    """Loads that stand and became visible after a commit."""
    question = (
        sa.select(load_event.c.load)
        .join(load, load.c.id == load_event.c.load)
        .where(load_event.c.seq > seq, load_event.c.kind != "undone", load.c.state == "published")
    )
    return set(conn.execute(question).scalars())


def deliveries_since(conn: sa.Connection, seq: int) -> set[int]:
    """The deliveries of ``published_since``."""
    question = (
        sa.select(load.c.delivery)
        .join(load_event, load.c.id == load_event.c.load)
        .where(load_event.c.seq > seq, load_event.c.kind != "undone", load.c.state == "published")
    )
    return set(conn.execute(question).scalars())


def met_late(conn: sa.Connection, backend: Backend, since: int) -> pl.DataFrame:
    """Conflicts among loads published after a commit, which may not have seen each other.

    Of two the later one is told of. What is told already is left out.
    """
    later, earlier = load_event.alias("later"), load_event.alias("earlier")
    visible = ["published", "redone"]

    def of_events(asked: sa.Select[Any], a: Any, b: Any) -> Iterable[sa.Select[Any]]:
        yield (
            asked.join(later, later.c.load == a.c.load)
            .join(earlier, earlier.c.load == b.c.load)
            .where(
                earlier.c.seq > since,
                later.c.seq > earlier.c.seq,
                earlier.c.kind.in_(visible),
                later.c.kind.in_(visible),
            )
        )

    found = _met(conn, backend, of_events)
    return _unsaid(conn, backend, found, ["load", *_THING])


def met_again(
    conn: sa.Connection, backend: Backend, mine: Collection[int], theirs: Collection[int]
) -> pl.DataFrame:
    """Conflicts of loads that are put back with others that came meanwhile."""

    def of_loads(asked: sa.Select[Any], a: Any, b: Any) -> Iterable[sa.Select[Any]]:
        for ours in batches(mine):
            for others in batches(theirs):
                yield asked.where(a.c.load.in_(ours), b.c.load.in_(others))

    return _met(conn, backend, of_loads)


def _met(
    conn: sa.Connection,
    backend: Backend,
    restricted: Callable[[sa.Select[Any], Any, Any], Iterable[sa.Select[Any]]],
) -> pl.DataFrame:
    """Pairs of claims with one stamp and two contents, as conflicts of the first."""
    parts = [pl.DataFrame(schema=review.FOUND)]
    for table, key in ((day_claim, KEY), (register_read, PERIOD_KEY)):
        a, b = table.alias("mine"), table.alias("theirs")
        ours, others = load.alias("our_load"), load.alias("their_load")
        on = sa.and_(
            *(_same(a.c[name], b.c[name]) for name in key),
            a.c.version_at == b.c.version_at,
            a.c.content_hash != b.c.content_hash,
        )
        of_reads = ["current_at"] if table is register_read else []
        columns = (*key, *of_reads, "version_at", "file_at", "content_hash", "load", "line")
        asked = (
            sa.select(
                *(a.c[name] for name in columns),
                b.c.file_at.label("other_file_at"),
                b.c.content_hash.label("other_hash"),
                b.c.load.label("other_load"),
            )
            .join_from(b, a, on)
            .join(ours, ours.c.id == a.c.load)
            .join(others, others.c.id == b.c.load)
            .where(ours.c.state == "published", others.c.state == "published")
        )
        for question in restricted(asked, a, b):
            pairs = backend.fetch(conn, question)
            if table is register_read:
                pairs = pairs.with_columns(
                    period_at="previous_at", day=pl.col("current_at").dt.date()
                )
            parts.append(review.decided(pairs))
    once = ["load", *_THING, "content_hash"]
    pairs = pl.concat(parts).unique(once, keep="first", maintain_order=True)
    return _unsaid(conn, backend, pairs, [*_THING, "content_hash", "other_hash"])


def _same(left: sa.ColumnElement[Any], right: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Equal, or both null where that can be: only plain equality uses an index."""
    nullable = left.name in ("register_id", "meter_serial", "previous_at")
    return left.is_not_distinct_from(right) if nullable else left == right


def _unsaid(
    conn: sa.Connection, backend: Backend, events: pl.DataFrame, same: list[str]
) -> pl.DataFrame:
    """Conflicts that no standing event tells already: one with the ``same`` columns."""
    if events.is_empty():
        return events
    columns = review_event.c
    asked = (
        sa.select(*(columns[name] for name in ("load", *_THING, "content_hash", "other_hash")))
        .join(load, load.c.id == columns.load)
        .where(columns.kind == "conflict", load.c.state == "published")
    )
    nmis = events["nmi"].unique().sort().to_list()
    said = pl.concat(
        backend.fetch(conn, asked.where(columns.nmi.in_(some))) for some in some_of(nmis)
    )
    turned = said.rename({"content_hash": "other_hash", "other_hash": "content_hash"})
    every = pl.concat([said, turned.select(said.columns)]).select(same).unique()
    return events.join(every, on=same, how="anti", nulls_equal=True)
