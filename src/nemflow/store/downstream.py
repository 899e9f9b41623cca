"""What downstream systems ask of the store: exports, what has changed, what happened since.

Why: a bill, a settlement run or a forecast lives elsewhere. It takes readings, and must learn
which of them are no longer what it took.

Promises: everything here is as of a commit number, so it can be asked again with the same answer;
see ``takes.py``, ``feed.py`` and ``export.py`` for each promise in full.

Look next: ``docs/consumers.md``, with an example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime

import polars as pl

from nemflow.errors import UsageError
from nemflow.store import export, feed, history, known, readings, takes
from nemflow.store.backends import Backend


class Export:
    """Readings of many NMIs, in pieces; iterate it once.

    Attributes:
        seq: the commit number as of which all of it is.
        claims: how many claims there are to look at; ``done.claims`` tells how far it has come.
        done: what was yielded so far: ``rows``, ``days`` (NMI-suffix-days) and ``nmis``.
    """

    def __init__(
        self, backend: Backend, asked: export.Asked, seq: int, consumer: str | None
    ) -> None:
        self._backend = backend
        self._asked = asked
        self._consumer = consumer
        self._whole = export.size(backend, asked)
        self._complete = False
        self.seq = seq
        self.claims = self._whole.claims
        self.done = export.Done()

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """The pieces, in order of nmi, suffix and time; columns as ``Store.readings`` raw."""
        self.done = export.Done()
        yield from export.pieces(self._backend, self._asked, self.seq, self._whole, self.done)
        self._complete = True

    def taken(self) -> int | None:
        """Say that the readings are safe where they belong: the consumer has taken them.

        Until then nothing is remembered, so an export that failed half-way loses no change.

        Returns:
            The number of the take; None when no consumer was named.

        Raises:
            UsageError: the export was not read to its end.
        """
        if self._consumer is None:
            return None
        if not self._complete:
            raise UsageError(
                "The export was not read to its end.", hint="Take all pieces, then call taken()."
            )
        asked = self._asked
        ranges = takes.asked(asked.nmis, asked.suffixes, asked.first, asked.last)
        return takes.record(
            self._backend, self._consumer, seq=self.seq, how="export", ranges=ranges
        )


class Downstream:
    """The part of ``Store`` that downstream systems use."""

    backend: Backend

    def export(
        self,
        start: date | datetime | None = None,
        end: date | datetime | None = None,
        *,
        nmi: str | Sequence[str] | None = None,
        suffix: str | Sequence[str] | None = None,
        as_known_on: datetime | int | None = None,
        consumer: str | None = None,
    ) -> Export:
        """All readings of a span, of every NMI or some, in pieces of bounded size.

        Args:
            start: first day (a date), or earliest interval start (a datetime).
            end: last day, included (a date), or latest interval end (a datetime).
            nmi: only these NMIs; one that is not known has no readings.
            suffix: only these streams.
            as_known_on: as of this moment or commit number; None: as of now, all pieces alike.
            consumer: who takes them; call ``taken()`` on the export once they are safe.

        Returns:
            An :class:`Export`: iterate it for frames with the raw columns of ``readings``, the
            values of all pieces at one scale. No reading at all is one empty frame.

        Raises:
            UsageError: a moment that is not over, a commit that is not there, no name.
        """
        name = None if consumer is None else takes.checked_name(consumer)
        asked = export.Asked(
            *readings.span_of(start, end), history.states_of(nmi), history.states_of(suffix)
        )
        return Export(self.backend, asked, self._seq_of(as_known_on), name)

    def changes(
        self,
        consumer: str | None = None,
        *,
        since: datetime | int | None = None,
        nmi: str | Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Days whose current content differs from what a consumer took last, and no others.

        A day that was changed and changed back, or sent again with equal content, is not told. A
        day that arrived since, inside what the consumer asked for, is told with nothing before;
        one that was taken back, with nothing after. Once the consumer has read a day again, it is
        gone from the list.

        Args:
            consumer: who took them; None: no matter who, compared with what was known on
                ``since``.
            since: only days that a commit after this number or moment touched.
            nmi: only these NMIs.

        Columns: nmi, suffix, day, kind (new|revised|withdrawn), before_hash, after_hash,
        before_total, after_total Decimal (null: no value), before_uom, after_uom, before_quality,
        after_quality (weakest), before_missing, after_missing Int64, before_version_at,
        after_version_at, before_file, after_file Int64, take Int64 (the number of the take),
        taken_seq Int64 (as of which it was), changed_seq Int64 (last commit that said anything
        about the day).

        Raises:
            NotFound: nobody of this name ever took anything.
            UsageError: neither ``consumer`` nor ``since``; a moment that is not over.
        """
        nmis = history.states_of(nmi)
        after = None if since is None else known.seq_of(self.backend, since)
        if consumer is None and after is None:
            raise UsageError(
                "Changes since when, or for whom?", hint="Name a consumer, a time or a commit."
            )
        with self.backend.reading() as conn:
            if consumer is None:
                return takes.changed_since(conn, self.backend, after or 0, nmis)
            name = takes.checked_name(consumer)
            return takes.changed(conn, self.backend, name, since=after or 0, nmis=nmis)

    def consumers(self, consumer: str | None = None) -> pl.DataFrame:
        """Who took what and when, newest first.

        Columns: consumer, take Int64 (its number), at, seq Int64 (as of which commit), how
        (readings|export), nmis Int64 (how many were asked for; null: every NMI), nmi (when it is
        one), suffix (null: every stream, or several), first_day, last_day (as asked for; null:
        without end).
        """
        with self.backend.reading() as conn:
            name = None if consumer is None else takes.checked_name(consumer)
            return takes.taken(conn, self.backend, name)

    def feed(self, since: int | str = 0, *, limit: int = 10_000) -> pl.DataFrame:
        """What happened behind ``since``, in commit order: one row per commit and day.

        Ask again with the ``cursor`` of the last row. Nothing is skipped or told twice, whatever
        loaders do meanwhile. An empty frame: nothing happened yet; ask again with the same place.

        Args:
            since: a commit number (behind the whole of it), or a row's ``cursor``.
            limit: at most so many rows. A page may end within a large commit.

        Columns: seq Int64, at, event (published|undone|redone), nmi, suffix, day, kind, the
        ``before_...`` and ``after_...`` columns of ``changes``, cursor String.
        Kinds: *new* (first data of the day), *revised* (other content is current), *touched*
        (equal content under a newer stamp), *late* (history only: what is current did not change),
        *withdrawn* (undone, nothing is current any more), *restored* (undo or redo made a content
        current that was there before).

        Raises:
            UsageError: no such place in this store's feed, or a limit below 1.
        """
        if limit < 1:
            raise UsageError("A page has at least one row.", hint="Give a limit of 1 or more.")
        return self.backend.look(lambda conn: feed.page(conn, self.backend, since, limit))

    def commits(self, since: int = 0, *, limit: int = 1000) -> pl.DataFrame:
        """Loads that became visible or were taken back behind commit ``since``, in commit order.

        At most ``limit`` commits, each with all its loads: go on behind the last ``seq``.

        Columns: seq Int64, at, event (published|undone|redone), load, file, delivery, days, reads
        Int64 (claims of the load).
        """
        return self.backend.look(lambda conn: feed.commits(conn, self.backend, since, limit))

    def _seq_of(self, as_known_on: datetime | int | None) -> int:
        """The commit number meant; the last one when nothing is said."""
        if as_known_on is not None:
            return known.seq_of(self.backend, as_known_on)
        with self.backend.reading() as conn:
            return known.last_seq(conn)
