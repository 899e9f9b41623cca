"""What an undo or redo changes that a person should look at.

Why: taking a delivery back can make an estimate current again as surely as a delivery can.

Promises: compared are the current versions before and after, in the transaction of the undo; what
an earlier publication, undo or redo of the same load has told already, and what holds again, is
not told twice. An undo of a day that leaves nothing behind is no event: that is what was asked.

Look next: ``reversal.py``, which asks; ``review.py`` for what counts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl
import sqlalchemy as sa

from nemflow.store import meetings, registers, review
from nemflow.store.days import KEY
from nemflow.store.leases import batches
from nemflow.store.registers import PERIOD_KEY
from nemflow.store.tables import (
    MARKET_OFFSET,
    day_claim,
    load_event,
    register_read,
    review_event,
)

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

_SAME = ["kind", "load", "nmi", "suffix", "day", "register_id", "meter_serial", "period_at",
         "content_hash", "other_hash"]  # fmt: skip


@dataclass(slots=True)
class Before:
    """What was current of the days and registers that loads have claimed."""

    loads: list[int]
    keys: pl.DataFrame  #: KEY
    nmis: list[str]  #: with register reads
    days: pl.DataFrame
    reads: pl.DataFrame


def look(conn: sa.Connection, backend: Backend, loads: Collection[int]) -> Before:
    """What is current now of all that these loads have claimed."""
    keys = [pl.DataFrame(schema={"nmi": pl.String, "day": pl.Date, "suffix": pl.String})]
    nmis: set[str] = set()
    for some in batches(loads):
        columns = [day_claim.c[name] for name in KEY]
        asked = sa.select(*columns).where(day_claim.c.load.in_(some)).distinct()
        keys.append(backend.fetch(conn, asked))
        reads = sa.select(register_read.c.nmi).where(register_read.c.load.in_(some)).distinct()
        nmis |= set(conn.execute(reads).scalars())
    days = pl.concat(keys).unique()
    return Before(
        list(loads),
        days,
        sorted(nmis),
        backend.standing(conn, days),
        _current_reads(conn, backend, sorted(nmis)),
    )


def _current_reads(conn: sa.Connection, backend: Backend, nmis: list[str]) -> pl.DataFrame:
    claims = registers.claims_of(conn, backend, nmis)
    standing = claims.filter(pl.col("state") == "published")
    return review.as_claims(review.best(standing, PERIOD_KEY))


def found(
    conn: sa.Connection, backend: Backend, before: Before, *, cause: str, after_days: int
) -> pl.DataFrame:
    """What has changed since ``look``, as events of the loads undone or redone (``cause``)."""
    today = datetime.now(MARKET_OFFSET).date()
    reads = _current_reads(conn, backend, before.nmis)
    days = _changed(before.days, backend.standing(conn, before.keys), KEY, before.loads, cause)
    days = days.join(before.keys, on=KEY, how="semi")
    periods = _changed(before.reads, reads, PERIOD_KEY, before.loads, cause)
    ends = reads.select(*PERIOD_KEY, "day", "period_at")
    periods = periods.join(ends, on=PERIOD_KEY, how="left", nulls_equal=True)
    faults = review.chain_faults(reads).join(
        review.chain_faults(before.reads),
        on=["kind", *review.REGISTER, "before", "after"],
        how="anti",
        nulls_equal=True,
    )
    events = pl.concat(
        [
            review.of_changes(days, today, after_days),
            review.of_changes(periods, today, after_days),
            faults.with_columns(load=pl.lit(max(before.loads), pl.Int64), line=None),
        ]
    ).cast(dict(review.FOUND))  # type: ignore[arg-type]
    if cause == "redone":
        events = pl.concat([events, _conflicts(conn, backend, before.loads)])
    return _unsaid(conn, backend, events, before.loads, cause)


def _changed(
    old: pl.DataFrame, new: pl.DataFrame, key: list[str], loads: list[int], cause: str
) -> pl.DataFrame:
    """What is current now next to what was, where one of these loads has made the difference."""
    was = old.select(*key, **{f"before_{name}": name for name in review.CLAIM})
    both = new.select(*key, *review.CLAIM).join(was, on=key, how="inner", nulls_equal=True)
    if cause == "redone":
        return both.filter(pl.col("load").is_in(loads))
    turned = {"load": "before_load", "before_load": "load", "line": "before_line",
              "before_line": "line"}  # fmt: skip
    gone = both.filter(pl.col("before_load").is_in(loads) & ~pl.col("load").is_in(loads))
    return gone.with_columns(**turned)


def _conflicts(conn: sa.Connection, backend: Backend, loads: list[int]) -> pl.DataFrame:
    """Conflicts with what was published while these loads were undone."""
    last = sa.select(sa.func.min(load_event.c.seq)).where(
        load_event.c.load.in_(loads), load_event.c.kind == "undone"
    )
    since = int(conn.execute(last).scalar() or 0)
    others = meetings.published_since(conn, since) - set(loads)
    return meetings.met_again(conn, backend, loads, others)


def _unsaid(
    conn: sa.Connection, backend: Backend, events: pl.DataFrame, loads: list[int], cause: str
) -> pl.DataFrame:
    """Events that no earlier one of the same load says, that holds again."""
    if events.is_empty():
        return events
    causes = ["undone"] if cause == "undone" else ["published", "redone"]
    parts = [
        backend.fetch(
            conn,
            sa.select(*(review_event.c[name] for name in _SAME)).where(
                review_event.c.load.in_(some), review_event.c.cause.in_(causes)
            ),
        )
        for some in batches(loads)
    ]
    return events.join(pl.concat(parts), on=_SAME, how="anti", nulls_equal=True)
