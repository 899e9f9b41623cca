"""Export: the readings of many NMIs, in pieces, all as of one commit.

Why: a month of a whole network does not fit into memory, and must not be half of yesterday and
half of today.

How: the first thing is a commit number; every piece is asked *as known on* it. So all pieces are
one consistent picture, without a transaction that stays open for the whole of it (on PostgreSQL
that would keep vacuum waiting, and a dropped connection would end it).

Promises: order is nmi, suffix, time; a piece holds about ``READINGS`` rows, however much an NMI
has; every piece has the same columns and types, the values one scale.

Look next: ``readings.py`` for the columns, ``takes.py`` for who took it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from nemflow.store import readings
from nemflow.store.tables import day_claim

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

READINGS = 400_000  #: rows of a piece, about 100 MB as a frame
_DAYS_AT_ONCE = 12_000  #: claims read by one statement
_NMIS_AT_ONCE = 400
_NMIS_IN_A_LIST = 100_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What to export: ``first`` and ``last`` are days, both included; None: without end."""

    first: date | None
    last: date | None
    opens: datetime | None
    closes: datetime | None
    nmis: Sequence[str] | None
    suffixes: Sequence[str] | None

    def where(self) -> list[sa.ColumnElement[bool]]:
        """Conditions on the key of a claim, the NMIs apart."""
        told: list[sa.ColumnElement[bool]] = []
        if self.first is not None:
            told.append(day_claim.c.day >= self.first)
        if self.last is not None:
            told.append(day_claim.c.day <= self.last)
        if self.suffixes is not None:
            told.append(day_claim.c.suffix.in_(list(self.suffixes)))
        return told


@dataclass(slots=True)
class Done:
    """How far an export has come."""

    claims: int = 0  #: of ``Size.claims``, for a progress bar
    days: int = 0
    rows: int = 0
    nmis: int = 0


@dataclass(frozen=True, slots=True)
class Size:
    """What an export will look at."""

    claims: int
    scale: int


def size(backend: Backend, asked: Asked) -> Size:
    """How many claims there are to look at, and how many decimals their values need."""
    question = sa.select(sa.func.count(), sa.func.max(day_claim.c.scale)).where(*asked.where())
    claims, scale = 0, 0
    with backend.reading() as conn:
        for some in _listed(asked.nmis):
            of_these = question if some is None else question.where(day_claim.c.nmi.in_(some))
            found, longest = conn.execute(of_these).one()
            claims, scale = claims + int(found), max(scale, int(longest or 0))
    return Size(claims, scale)


def pieces(
    backend: Backend, asked: Asked, seq: int, whole: Size, done: Done
) -> Iterator[pl.DataFrame]:
    """The readings as known on ``seq``; counts into ``done``. Nothing at all is one empty piece."""
    for nmis, claims in _groups(backend, asked):
        days = _days(backend, nmis, asked, seq)
        done.nmis += days["nmi"].n_unique()
        for some in _slices(days):
            frame, scale = readings.intervals(some)
            piece = _at_scale(readings.within(frame, asked.opens, asked.closes), scale, whole.scale)
            done.days += some.height
            done.rows += piece.height
            if not piece.is_empty():
                yield piece
        done.claims += claims
    if not done.rows:
        frame, scale = readings.intervals(_days(backend, [], asked, seq))
        yield _at_scale(frame, scale, whole.scale)


def _days(backend: Backend, nmis: Sequence[str], asked: Asked, seq: int) -> pl.DataFrame:
    """The winning days of some NMIs; asked again when the connection is lost."""
    return backend.look(
        lambda conn: readings.days_of(conn, backend, nmis, *asked.where(), known=seq)
    )


def _at_scale(frame: pl.DataFrame, scale: int, wanted: int) -> pl.DataFrame:
    """Values at one scale for all pieces."""
    lifted = frame.with_columns(pl.col("value") * pl.lit(10 ** (wanted - scale), pl.Int128))
    return readings.decimals(lifted, wanted)


def _slices(days: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Days cut so that each part has about READINGS intervals."""
    count = (1440 // days["interval_minutes"].cast(pl.Int64)).cum_sum()
    parts = (count - 1) // READINGS
    for part in days.with_columns(parts.alias("part")).partition_by("part", maintain_order=True):
        yield part.drop("part")


def _groups(backend: Backend, asked: Asked) -> Iterator[tuple[list[str], int]]:
    """NMIs in order, together about _DAYS_AT_ONCE claims, and how many claims."""
    group: list[str] = []
    held = 0
    for nmi, claims in _counted(backend, asked):
        if group and (held + claims > _DAYS_AT_ONCE or len(group) == _NMIS_AT_ONCE):
            yield group, held
            group, held = [], 0
        group.append(nmi)
        held += claims
    if group:
        yield group, held


def _counted(backend: Backend, asked: Asked) -> Iterator[tuple[str, int]]:
    """Every NMI with claims in the span, in order, and how many."""
    question = (
        sa.select(day_claim.c.nmi, sa.func.count())
        .where(*asked.where())
        .group_by(day_claim.c.nmi)
        .order_by(day_claim.c.nmi)
    )
    for some in _listed(asked.nmis):
        last = ""
        while True:
            page = question if some is None else question.where(day_claim.c.nmi.in_(some))
            wanted = page.where(day_claim.c.nmi > last).limit(_NMIS_IN_A_LIST)
            found = backend.look(functools.partial(_rows, wanted))
            for nmi, claims in found:
                yield nmi, int(claims)
            if len(found) < _NMIS_IN_A_LIST:
                break
            last = found[-1][0]


def _rows(question: sa.Select[Any], conn: sa.Connection) -> list[tuple[str, int]]:
    return [(row[0], row[1]) for row in conn.execute(question)]


def _listed(nmis: Sequence[str] | None) -> Iterator[list[str] | None]:
    """The NMIs asked for in order, some hundred at a time; None: every NMI."""
    if nmis is None:
        yield None
        return
    ordered = sorted(set(nmis))
    for at in range(0, len(ordered), _NMIS_AT_ONCE):
        yield ordered[at : at + _NMIS_AT_ONCE]
