"""Review events: kept with the load that brought them, listed, closed by a person.

Why: what a person should look at must be neither lost nor told twice, whatever is retried.

Promises: an event is written in the transaction of what it is about and belongs to that load: it
is seen when the load is, cleared when the load dies, and void while the load is undone. Rows are
only appended; closing one appends a row too. Whether a chain fault or a conflict still holds is
asked of the current data on each listing.

Look next: ``review.py`` for what is found; ``nemflow.pipeline.sinks`` for when.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import sqlalchemy as sa

from nemflow.errors import NotFound, UsageError
from nemflow.store import ledger, registers, review
from nemflow.store.backends.codec import STAMP
from nemflow.store.days import KEY
from nemflow.store.leases import batches
from nemflow.store.registers import PERIOD_KEY
from nemflow.store.tables import (
    MARKET_OFFSET,
    day_claim,
    delivery,
    load,
    load_event,
    quarantine,
    review_closed,
    review_event,
    service_event,
)

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

_MISSING = "channel_missing"
#: Kinds that the arrival of the missing half, or of a correction, settles by itself.
_CHAIN: Final = ("chain_broken", "period_overlap")


def append(
    conn: sa.Connection, backend: Backend, events: pl.DataFrame, *, seq: int | None = None,
    cause: str = "published", first: int | None = None,
) -> None:  # fmt: skip
    """Append events (``review.FOUND``). ``seq`` and ``first`` (number) where they are known."""
    if events.is_empty():
        return
    if first is None:
        first = backend.reserve(conn, review_event, events.height)
    numbers = pl.int_range(first, first + events.height, dtype=pl.Int64, eager=True)
    rows = events.with_columns(id=numbers, seq=pl.lit(seq, pl.Int64), cause=pl.lit(cause))
    backend.append(conn, review_event, rows.select(column.name for column in review_event.columns))


def settle(conn: sa.Connection, loads: Collection[int]) -> None:
    """Before loads are published: forget channels that came in another piece, or were rejected.

    A channel that is missing is told once, though the others of its day came in several pieces.
    """
    earlier = review_event.alias("earlier")
    for some in batches(loads):
        of_load = sa.and_(review_event.c.load.in_(some), review_event.c.kind == _MISSING)
        if conn.execute(sa.select(review_event.c.id).where(of_load).limit(1)).first() is None:
            continue
        there = [
            sa.exists().where(
                table.c.load == review_event.c.load,
                *(table.c[name] == review_event.c[name] for name in KEY),
            )
            for table in (day_claim, quarantine)
        ]
        told = sa.exists().where(
            earlier.c.id < review_event.c.id,
            earlier.c.kind == _MISSING,
            *(earlier.c[name] == review_event.c[name] for name in ("load", *KEY)),
        )
        conn.execute(sa.delete(review_event).where(of_load, sa.or_(*there, told)))


def take_back(conn: sa.Connection, load_id: int, lines: Collection[int]) -> None:
    """Forget what was found of records that are taken back before their load is published."""
    of_load = review_event.c.load == load_id
    for some in batches(lines):
        conn.execute(sa.delete(review_event).where(of_load, review_event.c.line.in_(some)))


def services(conn: sa.Connection, backend: Backend, nmis: Collection[str]) -> pl.DataFrame:
    """Service events of these NMIs that stand: load, parent_line and what they say."""
    columns = service_event.c
    asked = sa.select(
        columns.load, columns.parent_line, columns.record, columns.trans_code, columns.service_order
    ).join(load, load.c.id == columns.load)
    every = sorted(nmis)
    parts = [
        backend.fetch(
            conn, asked.where(columns.nmi.in_(every[at : at + 500]), load.c.state == "published")
        )
        for at in range(0, max(len(every), 1), 500)
    ]
    return pl.concat(parts)


def with_services(conn: sa.Connection, nmis: Collection[str]) -> pl.Series:
    """Those of these NMIs that have any service event."""
    found: list[str] = []
    for some in some_of(sorted(nmis)):
        asked = sa.select(service_event.c.nmi).where(service_event.c.nmi.in_(some)).distinct()
        found += conn.execute(asked).scalars()
    return pl.Series("nmi", found, dtype=pl.String)


def any_services(conn: sa.Connection) -> bool:
    """Whether the store has any 500 or 550: most have none."""
    return conn.execute(sa.select(service_event.c.load).limit(1)).first() is not None


def some_of(every: list[str]) -> Iterable[list[str]]:
    """As many NMIs at a time as one statement takes."""
    return (every[at : at + 500] for at in range(0, len(every), 500))


# -- listing ---------------------------------------------------------------------------------------


def listed(
    conn: sa.Connection,
    backend: Backend,
    *,
    nmi: str | None = None,
    kinds: Sequence[str] | None = None,
    since: date | datetime | None = None,
    open_only: bool = False,
    limit: int | None = None,
) -> pl.DataFrame:
    """Review events, newest first; see ``Store.reviews``."""
    published = (
        sa.select(sa.func.min(load_event.c.seq))
        .where(load_event.c.load == review_event.c.load, load_event.c.kind == "published")
        .correlate(review_event)
        .scalar_subquery()
    )
    seq = sa.func.coalesce(review_event.c.seq, published, type_=review_event.c.seq.type)
    events = (
        sa.select(
            *(column for column in review_event.c if column.name != "seq"),
            seq.label("seq"),
            load.c.state.label("load_state"),
            load.c.file,
            load.c.delivery,
            delivery.c.name.label("source"),
        )
        .join(load, load.c.id == review_event.c.load)
        .join(delivery, delivery.c.id == load.c.delivery)
        .where(load.c.state.in_(["published", "undone"]))
    )
    if nmi is not None:
        events = events.where(review_event.c.nmi == nmi)
    if kinds is not None:
        events = events.where(review_event.c.kind.in_(list(kinds)))
    told = events.subquery("told")
    at = (
        sa.select(sa.func.min(load_event.c.at, type_=load_event.c.at.type))
        .where(load_event.c.seq == told.c.seq)
        .correlate(told)
        .scalar_subquery()
    )
    asked = sa.select(*told.c, at.label("at"))
    if since is not None:
        asked = asked.where(at >= _moment(since))
    closed = review_closed.c
    rows = backend.fetch(conn, asked)
    done = backend.fetch(
        conn,
        sa.select(
            closed.review.label("id"),
            closed.at.label("done_at"),
            closed.who.label("done_by"),
            closed.note,
        ),
    )
    first = done.sort("done_at", maintain_order=True).unique("id", keep="first")
    rows = rows.join(first, on="id", how="left", maintain_order="left")
    rows = _stated(conn, backend, rows).sort("seq", "id", descending=True)
    if open_only:
        rows = rows.filter(pl.col("state") == "open")
    if limit is not None:
        rows = rows.head(limit)
    return rows.rename({"id": "review"}).select(
        "review", "kind", "state", "nmi", "suffix", "day", "register_id", "meter_serial",
        "period_at", "before", "after", "why", "version_at", "content_hash", "other_hash", "cause",
        "at", "seq", "source", "line", "file", "delivery", "load", "other_load", "done_at",
        "done_by", "note",
    )  # fmt: skip


def _moment(since: date | datetime) -> datetime:
    if isinstance(since, datetime):
        return since
    return datetime(since.year, since.month, since.day, tzinfo=MARKET_OFFSET)


def _stated(conn: sa.Connection, backend: Backend, rows: pl.DataFrame) -> pl.DataFrame:
    """Add ``state``: done, void (taken back), resolved (by itself), open."""
    void = (pl.col("cause") == "undone") != (pl.col("load_state") == "undone")
    rows = rows.with_columns(
        state=pl.when(pl.col("done_at").is_not_null())
        .then(pl.lit("done"))
        .when(void)
        .then(pl.lit("void"))
        .otherwise(pl.lit("open"))
    )
    waiting = rows.filter(pl.col("state") == "open")
    settled = [
        *_settled_chains(conn, backend, waiting.filter(pl.col("kind").is_in(_CHAIN))),
        *_settled_conflicts(conn, backend, waiting.filter(pl.col("kind") == "conflict")),
    ]
    is_settled = pl.col("id").is_in(settled)
    return rows.with_columns(state=pl.when(is_settled).then(pl.lit("resolved")).otherwise("state"))


def _settled_chains(conn: sa.Connection, backend: Backend, rows: pl.DataFrame) -> list[int]:
    """Chain faults that the current periods no longer have."""
    if rows.is_empty():
        return []
    claims = registers.claims_of(conn, backend, rows["nmi"].unique())
    standing = claims.filter(pl.col("state") == "published")
    there = review.chain_faults(review.as_claims(standing))
    on = ["kind", *review.REGISTER, "before", "after"]
    return rows.join(there, on=on, how="anti", nulls_equal=True)["id"].to_list()


def _settled_conflicts(conn: sa.Connection, backend: Backend, rows: pl.DataFrame) -> list[int]:
    """Conflicts of which no longer both contents stand under the stamp."""
    settled: list[int] = []
    of_days = pl.col("period_at").is_null()
    for part, key in ((rows.filter(of_days), KEY), (rows.filter(~of_days), PERIOD_KEY)):
        if part.is_empty():
            continue
        if key is KEY:
            claims = backend.claims_of(conn, part.select(KEY).unique())
        else:
            part = part.with_columns(previous_at="period_at")  # noqa: PLW2901
            claims = registers.claims_of(conn, backend, part["nmi"].unique())
        stands = claims.filter(pl.col("state") == "published")
        stands = stands.select(*key, "version_at", "content_hash").unique()
        on = [*key, "version_at"]
        both = part.join(stands, on=[*on, "content_hash"], how="semi", nulls_equal=True).join(
            stands.rename({"content_hash": "other_hash"}),
            on=[*on, "other_hash"],
            how="semi",
            nulls_equal=True,
        )
        settled += part.filter(~pl.col("id").is_in(both["id"].implode()))["id"].to_list()
    return settled


def counts(conn: sa.Connection, after: int) -> list[tuple[int, str, int]]:
    """Delivery, kind and number of the events numbered above ``after`` whose load stands."""
    question = (
        sa.select(load.c.delivery, review_event.c.kind, sa.func.count())
        .join(load, load.c.id == review_event.c.load)
        .where(review_event.c.id > after, load.c.state == "published")
        .group_by(load.c.delivery, review_event.c.kind)
    )
    return [(row[0], row[1], row[2]) for row in conn.execute(question)]


def last_number(conn: sa.Connection) -> int:
    """The greatest number there is, 0 when there is none."""
    return int(conn.execute(sa.select(sa.func.max(review_event.c.id))).scalar() or 0)


def deliveries_of(conn: sa.Connection, loads: Collection[int]) -> dict[int, int]:
    """Which delivery each load is of."""
    found: dict[int, int] = {}
    for some in batches(loads):
        rows = conn.execute(sa.select(load.c.id, load.c.delivery).where(load.c.id.in_(some)))
        found.update((row[0], row[1]) for row in rows)
    return found


def close(
    conn: sa.Connection, backend: Backend, which: Collection[int], *, who: str | None, note: str
) -> sa.Select[Any]:
    """Close open events; see ``Store.close_reviews``. Gives the question whether it was saved."""
    wanted = sorted(set(which))
    rows = listed(conn, backend)
    states = dict(rows.select("review", "state").iter_rows())
    for number in wanted:
        if number not in states:
            raise NotFound(
                f"There is no review event {number}.", hint="List them with: nemflow review"
            )
        if states[number] == "done":
            raise UsageError(
                f"Review event {number} is closed already.", hint="See: nemflow review --open"
            )
    now = datetime.now(MARKET_OFFSET)
    frame = pl.DataFrame({"review": wanted}, schema={"review": pl.Int64}).with_columns(
        at=pl.lit(now).cast(STAMP), who=pl.lit(who, pl.String), note=pl.lit(note)
    )
    backend.append(conn, review_closed, frame)
    return ledger.note(
        conn,
        backend,
        act="review",
        target=f"review {', '.join(str(number) for number in wanted)}",
        who=who,
        detail=note,
    )
