"""Days: append contents and claims; decide what is new, what stands, who wins.

Why: one row per reading cannot be corrected a million times a day; one content per distinct day,
and one narrow claim per delivery of it, can. A claim is never skipped, even when its content
stands: three files saying X, Y, X must end at X, and undoing the first must not lose the day.

Promises: the winner of (nmi, suffix, day) is the claim with the greatest ``(version_at, file_at,
content_hash)`` among visible loads (``load`` only breaks a tie between equal claims), null lowest;
arrival order decides nothing. A content is stored when no other *settled* load has stored it, so
clearing a dead load never takes a content that somebody else relies on.

Look next: ``readings.py`` turns winners into intervals, ``backends`` do the appending.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from nemflow.store.tables import (
    day_claim,
    day_content,
    load,
    load_event,
    register_read,
    service_event,
)

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

KEY = ["nmi", "day", "suffix"]
SORT_KEY = ["version_at", "file_at", "content_hash"]

_CONTENT_COLUMNS = [column.name for column in day_content.columns]
_CLAIM_COLUMNS = [column.name for column in day_claim.columns]

#: What a claim is compared by with one that arrives; see ``review.py``.
STANDING_COLUMNS = [
    day_claim.c[name] for name in (*KEY, *SORT_KEY, "load", "line", "quality", "nmi_configuration")
]
#: See ``Backend.glance``.
GLANCE = {
    "nmi": day_claim.c.nmi.type,
    "suffix": sa.Text(),
    "quality": sa.Text(),
    "nmi_configuration": sa.Text(),
}
#: So many lines as one statement takes.
_LINES = 500

#: Loads whose rows nobody will ever clear.
SETTLED = ("published", "undone")


@dataclass(frozen=True, slots=True)
class Met:
    """What incoming days meet in the store: the claims that matter for judging them."""

    #: Same key, same content: key, content_hash, ``stands`` (visible, or of this run), ``known``
    #: (its content is written for good).
    contents: pl.DataFrame
    #: Same key, same version_at: key, SORT_KEY, ``stands``, ``mine`` (claimed by this run).
    stamps: pl.DataFrame

    @property
    def nothing(self) -> bool:
        """Whether there is no claim at all on the incoming keys."""
        return self.contents.width == 0


def runs(keys: pl.DataFrame) -> pl.DataFrame:
    """Keys as runs of consecutive days per NMI: (nmi, first, last)."""
    days = keys.select("nmi", "day").unique().sort("nmi", "day")
    starts = (pl.col("nmi") != pl.col("nmi").shift()) | (
        pl.col("day").diff() != pl.duration(days=1)
    )
    return (
        days.with_columns(starts.fill_null(value=True).cum_sum().alias("run"))
        .group_by("run", maintain_order=True)
        .agg(pl.col("nmi").first(), first=pl.col("day").min(), last=pl.col("day").max())
        .drop("run")
    )


def met_in(claims: pl.DataFrame, own: Collection[int], key: Sequence[str] = KEY) -> Met:
    """What is met, out of every claim on the incoming keys (with ``state`` of its load)."""
    if claims.is_empty():
        return Met(pl.DataFrame(), pl.DataFrame())
    mine = pl.col("load").is_in(list(own))
    told = claims.with_columns(
        mine=mine,
        stands=(pl.col("state") == "published") | mine,
        known=pl.col("state").is_in(SETTLED) | mine,
    )
    contents = told.group_by(*key, "content_hash").agg(pl.col("stands", "known").any())
    stamps = told.group_by(*key, *SORT_KEY).agg(pl.col("stands", "mine").any())
    return Met(contents, stamps)


def met_together(parts: Sequence[Met]) -> Met:
    """Several as one."""
    return Met(
        pl.concat([part.contents for part in parts], how="diagonal"),
        pl.concat([part.stamps for part in parts], how="diagonal"),
    )


def judge(days: pl.DataFrame, met: Met, key: Sequence[str] = KEY) -> pl.DataFrame:
    """Say of each incoming day (or register read) what is new about it.

    Args:
        days: what comes in, in file order: ``key``, SORT_KEY and ``load``.
        met: what it meets.
        key: what names the thing claimed.

    Returns:
        ``days`` with Booleans: ``stored`` (its content does not stand for that day: the counts'
        word), ``write_content`` (nobody wrote its content for good), ``write_claim`` (this load
        has not said exactly this before), ``conflict`` (another content under the same stamp).
    """
    content, claim = [*key, "content_hash"], [*key, *SORT_KEY]
    first = pl.struct(content).is_first_distinct()
    days = days.with_columns(
        stored=first,
        write_content=first,
        write_claim=pl.struct(*claim, "load").is_first_distinct(),
    )
    if not met.contents.is_empty():
        days = days.with_columns(
            stored=pl.col("stored") & ~_within(days, met.contents.filter("stands"), content),
            write_content=pl.col("write_content")
            & ~_within(days, met.contents.filter("known"), content),
        )
    stamps = days.clear()
    if not met.stamps.is_empty():
        stamps = met.stamps.filter("stands")
        said = _within(days, met.stamps.filter("mine"), claim)
        days = days.with_columns(write_claim=pl.col("write_claim") & ~said)
    return days.with_columns(conflict=_conflicts(days, stamps, key))


def _within(days: pl.DataFrame, others: pl.DataFrame, on: Sequence[str]) -> pl.Series:
    """Which of ``days`` occur in ``others``, null being equal to null."""
    marked = others.select(on).unique().with_columns(found=pl.lit(value=True))
    joined = days.select(on).join(
        marked, on=on, how="left", nulls_equal=True, maintain_order="left"
    )
    return joined["found"].fill_null(value=False)


def _conflicts(days: pl.DataFrame, visible: pl.DataFrame, key: Sequence[str]) -> pl.Series:
    """Days whose stamp is carried by another content too, visible or coming in."""
    version = [*key, "version_at"]
    columns = [*version, "content_hash"]
    several = (
        pl.concat([visible.select(columns), days.select(columns)])
        .filter(pl.col("version_at").is_not_null())
        .unique()
        .filter(pl.struct(version).is_duplicated())
    )
    if several.is_empty():
        return pl.repeat(value=False, n=days.height, dtype=pl.Boolean, eager=True)
    return _within(days, several, version)


def append(conn: sa.Connection, backend: Backend, judged: pl.DataFrame) -> None:
    """Append what is new of days, and one claim each.

    ``judged`` as :func:`judge` gives it, with the columns of ``day_content`` and ``day_claim``, and
    ``values``, the scaled integers as lists, for engines that have arrays; ``weakest`` becomes the
    claim's ``quality``.
    """
    contents = judged.filter("write_content").select(*_CONTENT_COLUMNS, "values")
    backend.append(conn, day_content, contents)
    claims = judged.filter("write_claim").with_columns(quality=pl.col("weakest"))
    backend.append(conn, day_claim, claims.select(_CLAIM_COLUMNS))


def take_back(conn: sa.Connection, own_load: int, lines: Collection[int]) -> None:
    """Remove claims of an open load that a later chunk found to be twins (rules I009, A010).

    A line holds one record, a 300 or a 250. Their contents stay until the load is published or
    cleared; a content nobody claims is never read. Their 500s and 550s go with them.
    """
    wanted = [int(line) for line in lines]
    for some in (wanted[at : at + _LINES] for at in range(0, len(wanted), _LINES)):
        for table, line in (
            (day_claim, day_claim.c.line),
            (register_read, register_read.c.line),
            (service_event, service_event.c.parent_line),
        ):
            conn.execute(sa.delete(table).where(table.c.load == own_load, line.in_(some)))


# -- who wins -----------------------------------------------------------------------------------


def visible(known: int | None) -> sa.ColumnElement[bool]:
    """Loads that stand: now, or as of commit number ``known``."""
    if known is None:
        return load.c.state == "published"
    last = (
        sa.select(load_event.c.kind)
        .where(load_event.c.load == load.c.id, load_event.c.seq <= known)
        .order_by(load_event.c.seq.desc())
        .limit(1)
        .correlate(load)
        .scalar_subquery()
    )
    return last.in_(["published", "redone"])


def winners(known: int | None, *where: sa.ColumnElement[bool]) -> sa.Subquery:
    """The winning claim of every (nmi, suffix, day) that meets ``where``, with its file.

    ``where`` may only name key columns of ``day_claim``: a condition on anything else would
    change who wins.
    """
    columns = day_claim.c
    place = sa.func.row_number().over(
        partition_by=[columns.nmi, columns.day, columns.suffix],
        order_by=[
            columns.version_at.desc().nulls_last(),
            columns.file_at.desc().nulls_last(),
            columns.content_hash.desc(),
            columns.load.desc(),
        ],
    )
    ranked = (
        sa.select(*columns, load.c.file, place.label("place"))
        .join(load, load.c.id == columns.load)
        .where(visible(known), *where)
        .subquery("ranked")
    )
    picked = sa.select(*(c for c in ranked.c if c.name != "place")).where(ranked.c.place == 1)
    return picked.subquery("winner")


def with_content(claims: sa.Subquery) -> sa.Select[Any]:
    """Claims joined with their content. Equal copies of a content give equal rows: make unique."""
    same = sa.and_(
        *(day_content.c[name] == claims.c[name] for name in (*KEY, "content_hash")),
    )
    body = [
        day_content.c[name]
        for name in (
            "uom",
            "interval_minutes",
            "scaled_values",
            "exact_values",
            "method",
            "reason_code",
            "reason_text",
            "spans",
        )
    ]
    narrow = [c for c in claims.c if c.name not in ("scale", "quality")]
    return sa.select(
        *narrow,
        claims.c.quality.label("weakest"),
        day_content.c.scale,
        day_content.c.quality,
        *body,
    ).join(day_content, same)
