"""Questions to the ledger: deliveries, files, loads; and which file or delivery was meant.

Look next: ``ledger.py``, which writes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import sqlalchemy as sa

from nemflow.errors import NotFound
from nemflow.store.leases import batches
from nemflow.store.ledger import COUNTS
from nemflow.store.tables import (
    Big,
    day_claim,
    day_content,
    delivery,
    delivery_step,
    file,
    load,
    load_event,
)
from nemflow.store.timeline import moment

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

_OVERLAP: Final = 1000  #: deliveries that may arrive out of the order of their numbers
#: Loads of more days are counted by the interval length of one of them.
_COUNTED_DAYS: Final = 5000
_HASH = re.compile(r"[0-9a-fA-F]{6,64}")


def states_of(given: str | Collection[str] | None) -> list[str] | None:
    """One state or several, as a list."""
    if given is None:
        return None
    return [given] if isinstance(given, str) else list(given)


def file_id(conn: sa.Connection, which: int | str) -> int:
    """The file that a number or the beginning of a SHA-256 means.

    Raises:
        NotFound: none, or several.
    """
    text = str(which)
    if isinstance(which, int) or (text.isdigit() and len(text) < 12):
        if conn.execute(sa.select(file.c.id).where(file.c.id == int(text))).first():
            return int(text)
        if isinstance(which, int) or len(text) < 6:
            raise NotFound(f"There is no file {text}.", hint="List them with: nemflow files")
    if not _HASH.fullmatch(text):
        raise NotFound(
            f"There is no file {text!r}.",
            hint="Give its number, or at least 6 characters of its SHA-256: nemflow files",
        )
    low = text.lower()
    found = conn.execute(
        sa.select(file.c.id).where(file.c.sha256 >= low, file.c.sha256 <= low + "g").limit(2)
    ).scalars()
    numbers = list(found)
    if len(numbers) != 1:
        several = "Several files begin" if numbers else "No file begins"
        raise NotFound(
            f"{several} with {text!r}.", hint="List them with their SHA-256: nemflow files"
        )
    return int(numbers[0])


def deliveries(
    conn: sa.Connection,
    backend: Backend,
    *,
    states: Collection[str] | None,
    parent: int | None,
    limit: int | None,
    before: int | None = None,
    sender: str | None = None,
    channel: str | None = None,
) -> pl.DataFrame:
    """See ``Store.deliveries``."""
    question = _of_deliveries().order_by(delivery.c.id.desc())
    if states is not None:
        question = question.where(delivery.c.state.in_(list(states)))
    if parent is not None:
        question = question.where(delivery.c.parent == parent)
    if before is not None:
        question = question.where(delivery.c.id < before)
    if sender is not None:
        question = question.where(delivery.c.sender == sender)
    if channel is not None:
        question = question.where(delivery.c.channel == channel)
    return backend.fetch(conn, question.limit(limit))


def dead(conn: sa.Connection, backend: Backend, limit: int | None) -> pl.DataFrame:
    """See ``Store.dead``."""
    question = _of_deliveries().add_columns(delivery.c.attempts, delivery.c.kept)
    question = question.where(delivery.c.state == "dead", delivery.c.parent.is_(None))
    return backend.fetch(conn, question.order_by(delivery.c.id.desc()).limit(limit))


def must_be_there(conn: sa.Connection, number: int) -> None:
    """Raises NotFound: there is no delivery of this number."""
    known = sa.select(delivery.c.id).where(delivery.c.id == number)
    if conn.execute(known).first() is None:
        raise NotFound(f"There is no delivery {number}.", hint="List them with: nemflow deliveries")


def timeline(conn: sa.Connection, backend: Backend, number: int) -> pl.DataFrame:
    """See ``Store.timeline``."""
    must_be_there(conn, number)
    columns = delivery_step.c
    found = backend.fetch(
        conn,
        sa.select(
            columns.step, columns.attempt, columns.began_at, columns.ended_at, columns.outcome,
            columns.detail,
        )
        .where(columns.delivery == number)
        .order_by(columns.began_at, columns.ended_at),
    )  # fmt: skip
    took = (pl.col("ended_at") - pl.col("began_at")).dt.total_microseconds() / 1_000_000
    return found.select(
        "step", "attempt", "began_at", "ended_at", took.alias("seconds"), "outcome", "detail"
    )


def one_delivery(conn: sa.Connection, backend: Backend, number: int) -> pl.DataFrame:
    """See ``Store.delivery``."""
    work = [
        "api_key", "lane", "attempts", "next_try_at", "progress", "state_at", "kept", "dry_run",
        "inspected",
    ]  # fmt: skip
    found = backend.fetch(
        conn,
        _of_deliveries()
        .add_columns(*(delivery.c[name] for name in work))
        .where(delivery.c.id == number),
    )
    if found.is_empty():
        raise NotFound(f"There is no delivery {number}.", hint="List them with: nemflow deliveries")
    return found


def standing(conn: sa.Connection, numbers: Sequence[int]) -> dict[int, tuple[str, int, str | None]]:
    """See ``Store.standing``."""
    if not numbers:
        return {}
    columns = delivery.c
    asked = sa.select(columns.id, columns.state, columns.size, columns.sha256)
    found = conn.execute(asked.where(columns.id.in_(numbers)))
    return {row.id: (row.state, row.size or 0, row.sha256) for row in found}


def _of_deliveries() -> sa.Select[Any]:
    """Deliveries with their counts: their load's; the file's, while they speak for it."""
    inside = delivery.alias("inside")
    members = sa.select(sa.func.count()).where(inside.c.parent == delivery.c.id).scalar_subquery()
    speaks = file.c.delivery == delivery.c.id
    counts = [
        sa.func.coalesce(sa.case((speaks, file.c[name]), else_=load.c[name]), 0).label(name)
        for name in COUNTS
    ]
    each = load.alias("each")  # a delivery that was retried has had several
    newest = (
        sa.select(sa.func.max(each.c.id))
        .where(each.c.delivery == delivery.c.id, each.c.kind == "load")
        .scalar_subquery()
    )
    return (
        sa.select(
            delivery.c.id.label("delivery"),
            *(delivery.c[name] for name in (
                "parent", "name", "channel", "sender", "profile", "state", "sha256", "size",
                "file", "duplicate_of",
            )),
            members.label("members"),
            *counts,
            delivery.c.received_at,
            delivery.c.finished_at,
            delivery.c.error,
        )
        .select_from(delivery)
        .outerjoin(load, load.c.id == newest)
        .outerjoin(file, file.c.id == delivery.c.file)
    )  # fmt: skip


FILE_COLUMNS = [
    "sha256",
    "name",
    "size",
    "version_header",
    "from_participant",
    "to_participant",
    "file_at",
    "state",
    "delivery",
    *COUNTS,
    "findings",
    "nmis",
    "first_day",
    "last_day",
    "first_seen_at",
    "loaded_at",
]


def files(
    conn: sa.Connection,
    backend: Backend,
    *,
    states: Collection[str] | None,
    nmi: str | None,
    limit: int | None,
    before: int | None = None,
) -> pl.DataFrame:
    """See ``Store.files``."""
    question = sa.select(
        file.c.id.label("file"), *(file.c[name] for name in FILE_COLUMNS)
    ).order_by(file.c.id.desc())
    if states is not None:
        question = question.where(file.c.state.in_(list(states)))
    if before is not None:
        question = question.where(file.c.id < before)
    if nmi is not None:
        loads = sa.select(day_claim.c.load).where(day_claim.c.nmi == nmi).distinct()
        about = sa.select(load.c.file).where(load.c.id.in_(loads))
        question = question.where(file.c.id.in_(about))
    return backend.fetch(conn, question.limit(limit))


def one_file(conn: sa.Connection, backend: Backend, number: int) -> pl.DataFrame:
    """See ``Store.file``."""
    more = ["message_id", "transaction_id", "sender", "receiver"]
    return backend.fetch(
        conn,
        sa.select(
            file.c.id.label("file"), *(file.c[name] for name in [*FILE_COLUMNS, *more])
        ).where(file.c.id == number),
    )


def loads(conn: sa.Connection, backend: Backend, number: int) -> pl.DataFrame:
    """See ``Store.loads``."""
    claims = sa.select(sa.func.count()).where(day_claim.c.load == load.c.id).scalar_subquery()
    return backend.fetch(
        conn,
        sa.select(
            load.c.id.label("load"),
            load.c.delivery,
            load.c.kind,
            load_event.c.kind.label("event"),
            load_event.c.seq,
            sa.func.coalesce(load_event.c.at, load.c.started_at).label("at"),
            load.c.state,
            claims.label("days"),
        )
        .outerjoin(load_event, load_event.c.load == load.c.id)
        .where(load.c.file == number)
        .order_by(load.c.id, load_event.c.seq),
    )


def searched(
    conn: sa.Connection,
    backend: Backend,
    *,
    states: Collection[str] | None = None,
    sender: str | None = None,
    channel: str | None = None,
    lane: str | None = None,
    words: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = 50,
) -> pl.DataFrame:
    """See ``Store.search``. First the page's numbers, from narrow rows; then what is to be told."""
    columns = delivery.c
    question = sa.select(columns.id).where(columns.parent.is_(None)).order_by(columns.id.desc())
    for column, wanted in (
        (columns.sender, sender), (columns.channel, channel), (columns.lane, lane),
    ):  # fmt: skip
        if wanted is not None:
            question = question.where(column == wanted)
    if states is not None:
        question = question.where(columns.state.in_(list(states)))
    if since is not None:
        question = question.where(columns.received_at >= since)
    if until is not None:
        question = question.where(columns.received_at < until)
    if before is not None:
        question = question.where(columns.id < before)
    if words:
        low = words.strip().lower()
        about = [
            sa.func.lower(columns.name).contains(low, autoescape=True),
            sa.func.lower(columns.sender).contains(low, autoescape=True),
            sa.func.lower(columns.error).contains(low, autoescape=True),
        ]
        if low.isdigit() and len(low) < 18:
            about.append(columns.id == int(low))
        if _HASH.fullmatch(low):
            about.append(sa.and_(columns.sha256 >= low, columns.sha256 <= low + "g"))
        question = question.where(sa.or_(*about))
    numbers = [int(number) for number in conn.execute(question.limit(limit)).scalars()]
    more = [columns.lane, columns.attempts, columns.kept, columns.dry_run]
    found = backend.fetch(
        conn,
        _of_deliveries()
        .add_columns(*more)
        .where(columns.id.in_(numbers))
        .order_by(columns.id.desc()),
    )
    return _with_members(conn, backend, found)


def _with_members(conn: sa.Connection, backend: Backend, found: pl.DataFrame) -> pl.DataFrame:
    """Counts of archives are those of what is inside them."""
    archives = found.filter((pl.col("members") > 0) & pl.col("file").is_null())["delivery"]
    if archives.is_empty():
        return found
    inside = _of_deliveries().where(delivery.c.parent.in_(archives.to_list())).subquery()
    sums = backend.fetch(
        conn,
        sa.select(
            inside.c.parent.label("delivery"),
            *(sa.cast(sa.func.sum(inside.c[name]), Big).label(name) for name in COUNTS),
        ).group_by(inside.c.parent),
    ).cast({"delivery": pl.Int64, **dict.fromkeys(COUNTS, pl.Int64)})
    return found.update(sums, on="delivery").sort("delivery", descending=True)


def states_by_time(
    conn: sa.Connection, backend: Backend, since: datetime, seconds: int
) -> pl.DataFrame:
    """See ``Store.states_by_time``."""
    columns = delivery.c
    count = max(1, math.ceil((backend.now(conn) - since).total_seconds() / seconds))
    ends = [since + timedelta(seconds=seconds * (place + 1)) for place in range(count - 1)]
    whens = [(columns.received_at < end, place) for place, end in enumerate(ends)]
    last = sa.literal_column(str(count - 1), sa.Integer)
    place = sa.case(*whens, else_=last) if whens else last
    grouped = (
        sa.select(place.label("place"), columns.state)
        .where(
            columns.parent.is_(None), columns.id >= _first_since(conn, since),
            columns.received_at >= since,
        )
        .subquery()
    )  # fmt: skip
    files = sa.func.count().label("files")
    found = backend.fetch(
        conn,
        sa.select(grouped.c.place, grouped.c.state, files).group_by(
            grouped.c.place, grouped.c.state
        ),
    )
    return found.cast({"place": pl.Int64, "files": pl.Int64}).sort("place", "state")


def _first_since(conn: sa.Connection, since: datetime) -> int:
    """A number below which nothing arrived after ``since``, but for what overlapped.

    Numbers are given in order of arrival, so it is found by halving; there is no index to keep.
    """
    columns = delivery.c
    low, high = 0, int(conn.execute(sa.select(sa.func.max(columns.id))).scalar() or 0) + 1
    while high - low > _OVERLAP:
        middle = (low + high) // 2
        row = conn.execute(
            sa.select(columns.id, columns.received_at)
            .where(columns.id >= middle)
            .order_by(columns.id)
            .limit(1)
        ).first()
        if row is None:
            high = middle
            continue
        at = moment(row.received_at)
        if at is not None and at < since:
            low = row.id
        else:
            high = middle
    return low - _OVERLAP


def states(conn: sa.Connection) -> dict[str, int]:
    """See ``Store.states``."""
    columns = delivery.c
    rows = conn.execute(
        sa.select(columns.state, sa.func.count())
        .where(columns.parent.is_(None))
        .group_by(columns.state)
    )
    return {row[0]: row[1] for row in rows}


def published_readings(conn: sa.Connection, backend: Backend, since: datetime) -> pl.DataFrame:
    """See ``Store.published_readings``."""
    published = backend.fetch(
        conn,
        sa.select(
            load_event.c.at, load_event.c.load,
            load.c.days_stored.label("days"), load.c.reads_stored.label("reads"),
        )
        .join(load, load.c.id == load_event.c.load)
        .where(load_event.c.at >= since, load_event.c.kind == "published"),
    )  # fmt: skip
    small = published.filter((pl.col("days") > 0) & (pl.col("days") <= _COUNTED_DAYS))
    large = published.filter(pl.col("days") > _COUNTED_DAYS)
    parts = [pl.DataFrame(schema={"load": pl.Int64, "minutes": pl.Float64})]
    content = day_content.c
    per_day = sa.cast(sa.func.sum(1440.0 / content.interval_minutes), sa.Float)
    for some in batches(small["load"].to_list()):
        counted = (
            sa.select(content.load, per_day.label("minutes"))
            .where(content.load.in_(some))
            .group_by(content.load)
        )
        parts.append(backend.fetch(conn, counted).cast({"minutes": pl.Float64}))
    for number, days in large.select("load", "days").rows():
        one = sa.select(content.interval_minutes).where(content.load == number).limit(1)
        minutes = conn.execute(one).scalar() or 30
        told = pl.DataFrame({"load": [number], "minutes": [days * 1440.0 / minutes]})
        parts.append(told)
    counts = pl.concat(parts)
    return (
        published.join(counts, on="load", how="left")
        .select(
            "at",
            "load",
            readings=(pl.col("minutes").fill_null(0) + pl.col("reads")).round().cast(pl.Int64),
        )
        .sort("at")
    )
