"""Lists that people leaf through: NMIs, the quarantine by its rules, and the audit.

Why: a list of everything is fine for a script; a page that is opened all day must cost the same
whether the store holds a thousand days or a hundred million.

Promises: a page of NMIs reads only those of the page, found by the index; newest first where there
is a time; nothing is counted that is not shown.

Look next: ``versions.py`` and ``quarantine.py`` for the whole lists; ``nemflow.console.nmis``.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl
import sqlalchemy as sa

from nemflow.errors import UsageError
from nemflow.store import quarantine, readings, rollup
from nemflow.store.days import visible
from nemflow.store.history import states_of
from nemflow.store.tables import audit, day_claim, load, register_read
from nemflow.store.tables import quarantine as kept_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nemflow.store.backends import Backend

_STREAMS: Final = {
    "nmi": pl.String,
    "suffix": pl.String,
    "first_day": pl.Date,
    "last_day": pl.Date,
    "days": pl.Int64,
}


class Browsing:
    """The part of ``Store`` for leafing through it."""

    backend: Backend

    def nmis_from(
        self, beginning: str = "", *, after: str = "", limit: int = 50
    ) -> tuple[list[str], pl.DataFrame]:
        """NMIs in order, so many at a time, with their streams.

        Args:
            beginning: only NMIs that begin so.
            after: only those behind this one: the last of the page before.
            limit: at most so many.

        Returns:
            The NMIs of the page, also those whose data was all undone, and a frame with the columns
            nmi, suffix, first_day, last_day, days Int64: one row per stream with current intervals.
        """

        def look(conn: sa.Connection) -> tuple[list[str], pl.DataFrame]:
            found = sorted(
                {each for table in (day_claim, register_read)
                 for each in _begins(conn, table, beginning, after, limit)}
            )[:limit]  # fmt: skip
            return found, _streams(conn, self.backend, found)

        return self.backend.look(look)

    def streams(self, nmi: str) -> pl.DataFrame:
        """An NMI's streams with current intervals.

        Columns: nmi, suffix, first_day, last_day, days Int64.
        """
        return self.backend.look(lambda conn: _streams(conn, self.backend, [nmi]))

    def local_days(
        self,
        nmi: str,
        zone: str,
        first: date,
        last: date,
        *,
        suffix: str | Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Current readings of one NMI as days of a place with daylight saving.

        The day on which clocks go forward has 23 hours, the one on which they go back 25. A
        stream's first and last day count whole: hours that nobody delivered are missing.

        Args:
            nmi: the NMI; an empty frame when there is nothing.
            zone: IANA name of the place's time, as ``Australia/Sydney``.
            first: first day there.
            last: last day there, included.
            suffix: only these streams.

        Columns as rolled-up ``Store.readings``, starts and ends in the zone. Raises UsageError: no
        such zone.
        """
        there = _zone(zone)
        opens = datetime.combine(first, time(), there)
        closes = datetime.combine(last + timedelta(days=1), time(), there)
        low, high, _, _ = readings.span_of(opens, closes)
        with self.backend.reading() as conn:
            found = readings.current_days(
                conn, self.backend, nmi, first=low, last=high, suffixes=states_of(suffix)
            )
        frame, scale = readings.intervals(found)
        periods, scale = rollup.local_days(frame, scale, zone, opens, closes)
        return readings.decimals(periods, scale)

    def quarantine_rules(self) -> dict[str, int]:
        """How many open quarantined records each rule keeps out, most first."""
        return self.backend.look(quarantine_rules)

    def audit(
        self,
        *,
        who: str | None = None,
        act: str | None = None,
        limit: int | None = 100,
        before: int | None = None,
    ) -> pl.DataFrame:
        """What people and keys did, newest first.

        Args:
            who: only this person or key.
            act: only this kind of act, as ``undo`` or ``key made``.
            limit: at most so many; None: all.
            before: only those with a smaller number: the next page.

        Columns: audit Int64 (its number), at, who, act, target, detail (JSON text).
        """
        columns = audit.c
        question = sa.select(
            columns.id.label("audit"), columns.at, columns.who, columns.act, columns.target,
            columns.detail,
        ).order_by(columns.id.desc()).limit(limit)  # fmt: skip
        for column, value in ((columns.who, who), (columns.act, act)):
            if value is not None:
                question = question.where(column == value)
        if before is not None:
            question = question.where(columns.id < before)
        return self.backend.look(lambda conn: self.backend.fetch(conn, question))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"There is no time zone {name!r}.", hint="Use for example Australia/Sydney."
        ) from None


def _begins(
    conn: sa.Connection, table: sa.Table, beginning: str, after: str, limit: int
) -> list[str]:
    """The next NMIs of a table, each found by one step through the index of its key."""
    column = table.c.nmi
    until = [column < beginning[:-1] + chr(ord(beginning[-1]) + 1)] if beginning else []
    first = sa.select(sa.func.min(column, type_=column.type).label("nmi")).where(
        column > after if after >= beginning else column >= beginning, *until
    )
    steps = first.cte("steps", recursive=True)
    onward = (
        sa.select(sa.func.min(column, type_=column.type))
        .where(column > steps.c.nmi, *until)
        .correlate(steps)
        .scalar_subquery()
    )
    steps = steps.union_all(sa.select(onward).where(steps.c.nmi.is_not(None)))
    rows = conn.execute(sa.select(steps.c.nmi).limit(limit))
    return [row[0] for row in rows if row[0] is not None]


def _streams(conn: sa.Connection, backend: Backend, nmis: Sequence[str]) -> pl.DataFrame:
    if not nmis:
        return pl.DataFrame(schema=_STREAMS)
    columns = day_claim.c
    found = backend.fetch(
        conn,
        sa.select(
            columns.nmi,
            columns.suffix,
            sa.func.min(columns.day, type_=columns.day.type).label("first_day"),
            sa.func.max(columns.day, type_=columns.day.type).label("last_day"),
            sa.func.count(columns.day.distinct()).label("days"),
        )
        .join(load, load.c.id == columns.load)
        .where(visible(None), columns.nmi.in_(list(nmis)))
        .group_by(columns.nmi, columns.suffix),
    )
    return found.sort("nmi", "suffix")


def quarantine_rules(conn: sa.Connection) -> dict[str, int]:
    """See ``Browsing.quarantine_rules``."""
    counted: sa.Select[Any] = quarantine.standing(
        sa.select(kept_out.c.rules, sa.func.count())
    ).group_by(kept_out.c.rules)
    sums: Counter[str] = Counter()
    for rules, number in conn.execute(counted):
        for rule in set(json.loads(rules)):
            sums[rule] += int(number)
    return dict(sums.most_common())
