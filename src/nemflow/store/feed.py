"""The change feed: what each commit did to each day, in commit order.

Why: downstream systems follow the store without asking for everything again.

Promises: one row per commit and NMI-suffix-day it said anything about, in the order (seq, nmi,
day, suffix). That order is fixed for ever, because commit numbers are drawn in commit order and
what was current at a number never changes. So a reader that goes on from where it stopped meets
every row once: no gap, no repeat, whatever loaders do meanwhile.

Pages: a page ends after any row, also in the middle of a large commit; each row's ``cursor`` names
the place behind it. A bare number as cursor means: behind the whole of that commit.

Look next: ``moments.py`` for before and after; ``takes.py`` for what one consumer has to redo.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import sqlalchemy as sa

from nemflow.errors import UsageError
from nemflow.store import known, moments
from nemflow.store.days import KEY
from nemflow.store.tables import day_claim, load, load_event

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

_CURSOR = re.compile(r"(\d{1,18})(?:/([^/]+)/(\d{4}-\d\d-\d\d)/([^/]+))?")
#: Commits looked at together when they hold few days.
_COMMITS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Place:
    """Behind a row of the feed, or behind a whole commit (``key`` None)."""

    seq: int
    key: tuple[str, date, str] | None = None

    @classmethod
    def of(cls, text: int | str) -> Place:
        """``12`` or ``12/SASMPL0001/2025-03-01/E1``. Raises UsageError."""
        found = _CURSOR.fullmatch(str(text).strip())
        try:
            if found is None:
                raise ValueError
            number, nmi, day, suffix = found.groups()
            key = None if nmi is None else (nmi, date.fromisoformat(day), suffix)
        except ValueError:
            raise UsageError(
                f"{text!r} is no place in the feed.",
                hint="Give a commit number, or the cursor of the last row you have.",
            ) from None
        return cls(int(number), key)


def page(conn: sa.Connection, backend: Backend, since: int | str, limit: int) -> pl.DataFrame:
    """The next rows behind ``since``, at most ``limit``; see ``Store.feed``."""
    place = Place.of(since)
    newest = known.last_seq(conn)
    if place.seq > newest:
        raise UsageError(
            f"There is no commit {place.seq} yet; the last one is {newest}.",
            hint="Is this the store the cursor came from?",
        )
    parts: list[pl.DataFrame] = []
    left = limit
    while left > 0:
        until = _enough(conn, place, left)
        if until is None:
            break
        rows = _days(conn, backend, place, until, left)
        parts.append(rows)
        left -= rows.height
        place = Place(until)
    rows = pl.concat(parts) if parts else _days(conn, backend, Place(newest), newest, 0)
    return _told(conn, backend, rows)


def _enough(conn: sa.Connection, place: Place, wanted: int) -> int | None:
    """The last of the next commits that hold so many days by the ledger; None: there is none."""
    behind = load_event.c.seq > place.seq if place.key is None else load_event.c.seq >= place.seq
    commits = conn.execute(
        sa.select(load_event.c.seq, sa.func.sum(load.c.days_stored + load.c.days_unchanged))
        .join(load, load.c.id == load_event.c.load)
        .where(behind)
        .group_by(load_event.c.seq)
        .order_by(load_event.c.seq)
        .limit(_COMMITS_AT_ONCE)
    ).all()
    held = 0
    for seq, days in commits:
        held += int(days or 0)
        if held >= wanted:
            return int(seq)
    return int(commits[-1][0]) if commits else None


def _days(
    conn: sa.Connection, backend: Backend, place: Place, until: int, limit: int
) -> pl.DataFrame:
    """The days of the commits behind ``place`` up to ``until``, in order, each once per commit."""
    claim = day_claim.c
    seq = load_event.c.seq
    behind: sa.ColumnElement[bool] = seq > place.seq
    if place.key is not None:
        nmi, day, suffix = place.key
        later = sa.or_(
            claim.nmi > nmi,
            sa.and_(claim.nmi == nmi, claim.day > day),
            sa.and_(claim.nmi == nmi, claim.day == day, claim.suffix > suffix),
        )
        behind = sa.or_(behind, sa.and_(seq == place.seq, later))
    key = [claim[name] for name in KEY]
    return backend.fetch(
        conn,
        sa.select(seq, load_event.c.at, load_event.c.kind.label("event"), *key)
        .join(day_claim, claim.load == load_event.c.load)
        .where(seq >= place.seq, seq <= until, behind)
        .distinct()
        .order_by(seq, *key)
        .limit(limit),
    )


def _told(conn: sa.Connection, backend: Backend, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with what was current before and after, and what that amounts to."""
    told = moments.compared(
        conn, backend, rows.with_columns(before=pl.col("seq") - 1, after=pl.col("seq"))
    )
    before, after = pl.col("before_hash"), pl.col("after_hash")
    same_stamp = pl.lit(value=True)
    for name in ("version_at", "file_at"):
        same_stamp &= pl.col(f"before_{name}").eq_missing(pl.col(f"after_{name}"))
    kind = (
        pl.when(before.eq_missing(after) & same_stamp)
        .then(pl.lit("late"))
        .when(before.eq_missing(after))
        .then(pl.lit("touched"))
        .when(after.is_null())
        .then(pl.lit("withdrawn"))
        .when(pl.col("event") != "published")
        .then(pl.lit("restored"))
        .when(before.is_null())
        .then(pl.lit("new"))
        .otherwise(pl.lit("revised"))
    )
    sides = [f"{side}_{name}" for name in moments.TOLD for side in ("before", "after")]
    cursor = pl.concat_str(
        pl.col("seq").cast(pl.String), "nmi", pl.col("day").cast(pl.String), "suffix", separator="/"
    )
    return told.select(
        "seq", "at", "event", "nmi", "suffix", "day", kind.alias("kind"), *sides,
        cursor.alias("cursor"),
    ).drop("before_file_at", "after_file_at")  # fmt: skip


def commits(conn: sa.Connection, backend: Backend, since: int, limit: int) -> pl.DataFrame:
    """The next commits behind ``since``, each with all its loads; see ``Store.commits``."""
    some = (
        sa.select(load_event.c.seq)
        .where(load_event.c.seq > since)
        .distinct()
        .order_by(load_event.c.seq)
        .limit(limit)
    ).subquery()
    until = sa.select(sa.func.max(some.c.seq)).scalar_subquery()
    return backend.fetch(
        conn,
        sa.select(
            load_event.c.seq,
            load_event.c.at,
            load_event.c.kind.label("event"),
            load.c.id.label("load"),
            load.c.file,
            load.c.delivery,
            (load.c.days_stored + load.c.days_unchanged).label("days"),
            (load.c.reads_stored + load.c.reads_unchanged).label("reads"),
        )
        .join(load, load.c.id == load_event.c.load)
        .where(load_event.c.seq > since, load_event.c.seq <= until)
        .order_by(load_event.c.seq, load.c.id),
    )
