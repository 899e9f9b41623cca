"""The store's one object: open it, ask it.

Why: people, the command line and the service ask the same questions; they get them answered by
the same methods, as polars frames.

Look next: ``ledger.py``, ``days.py``, ``rollup.py``, ``quarantine.py`` for how each is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Literal, Self, get_args

import polars as pl
import sqlalchemy as sa

from nemflow.errors import NotFound, StoreUnreachable, UsageError
from nemflow.store import (
    coverage,
    history,
    known,
    quarantine,
    readings,
    registers,
    review,
    review_events,
    rollup,
    takes,
    versions,
)
from nemflow.store.arrivals import Arrivals
from nemflow.store.backends import Backend, backend_for
from nemflow.store.backends.pool import Pool
from nemflow.store.browsing import Browsing
from nemflow.store.downstream import Downstream
from nemflow.store.following import Following
from nemflow.store.replaced import Replacing
from nemflow.store.swept import Sweeps
from nemflow.store.telling import Telling

DEFAULT_URL = "sqlite:///nemflow.db"
Resolution = Literal["raw", "30min", "hour", "day", "month"]


def open_store(url: str | None = None, *, create: bool = True, pool: Pool | None = None) -> Store:
    """Open the store at ``url``; a new SQLite file gets its schema.

    Args:
        url: SQLAlchemy URL, ``sqlite:///relative.db`` or ``sqlite:////absolute.db``; a bare path
            is taken as an SQLite file. Default ``sqlite:///nemflow.db``.
        create: False refuses (``StoreUnreachable``) instead of making a new file: for commands
            that only read.
        pool: connections and time-outs, for a server; None: defaults.

    Raises:
        StoreUnreachable: the file cannot be opened, is no database, or the URL is wrong.
        StoreAway: the server does not answer.
        StoreOutdated: the schema is older (next: ``nemflow db upgrade``) or newer than this
            program.
        StoreBusy: another process holds the write lock for longer than the busy timeout.
        StoreFull: no space for a new store.
    """
    backend = backend_of(url, pool)
    try:
        backend.open(create=create)
    except BaseException:
        backend.close()
        raise
    return Store(backend)


def upgrade_store(url: str | None = None, *, pool: Pool | None = None) -> list[str]:
    """Bring an older schema up to date; returns the revisions applied, oldest first."""
    backend = backend_of(url, pool)
    try:
        return backend.upgrade()
    finally:
        backend.close()


def backend_of(url: str | None, pool: Pool | None = None) -> Backend:
    """The engine for a URL or path, not opened yet."""
    return backend_for(_url(url), pool)


def _url(given: str | None) -> sa.URL:
    """A SQLAlchemy URL; a bare path means an SQLite file."""
    text = given or DEFAULT_URL
    if "://" not in text:
        return sa.URL.create("sqlite", database=text)
    try:
        return sa.make_url(text)
    except sa.exc.ArgumentError as error:
        raise StoreUnreachable(
            "The store's URL cannot be understood.", hint="Use for example sqlite:///nemflow.db"
        ) from error


class Store(Arrivals, Browsing, Downstream, Following, Replacing, Sweeps, Telling):
    """An open store. Use it as a context manager, or call ``close()``.

    Ids: a *delivery* is known by its number (``int``, as ``deliveries()`` shows). A *file* is known
    by its number, or by its SHA-256 or any unique beginning of it of at least 6 characters.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend  #: the engine; for ``nemflow.pipeline``
        self.url = backend.url.render_as_string(hide_password=True)  #: where it is

    @property
    def own_files(self) -> frozenset[Path]:
        """The files the store itself lies in: no load of a folder should read them."""
        url = self.backend.url
        if url.get_backend_name() != "sqlite":
            return frozenset()
        path = Path(str(url.database)).resolve()
        return frozenset(path.with_name(path.name + end) for end in ("", "-wal", "-shm"))

    def close(self) -> None:
        """Let go of all connections."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the ledger -------------------------------------------------------------------------

    def files(
        self,
        state: str | Sequence[str] | None = None,
        *,
        nmi: str | None = None,
        limit: int | None = None,
        before: int | None = None,
    ) -> pl.DataFrame:
        """Every MDFF text ever seen, newest first, one row per SHA-256.

        Args:
            state: only in these states.
            nmi: only with data of this NMI.
            limit: at most so many; None: all.
            before: only those with a smaller number: the next page.

        Columns: file Int64, sha256, name (as first seen), size, version_header (NEM12|NEM13),
        from_participant, to_participant, file_at, state (loaded|partly_loaded|rejected|undone|
        loading|dead), delivery Int64 (whose load counts), days_read, days_stored, days_unchanged,
        days_rejected, reads_read, reads_stored, reads_unchanged, reads_rejected, findings Int64,
        nmis Int64, first_day, last_day, first_seen_at, loaded_at.
        """
        with self.backend.reading() as conn:
            return history.files(
                conn, self.backend, states=history.states_of(state), nmi=nmi, limit=limit,
                before=before,
            )  # fmt: skip

    def file(self, which: int | str) -> pl.DataFrame:
        """One file as one row of ``files()``, plus message_id, transaction_id, sender, receiver.

        Raises:
            NotFound: no such file, or several begin with these characters.
        """
        with self.backend.reading() as conn:
            return history.one_file(conn, self.backend, history.file_id(conn, which))

    def loads(self, file: int | str) -> pl.DataFrame:
        """What happened to a file: every load, undo, redo and replay, oldest first.

        Columns: load, delivery Int64, kind (load|replay), event (published|undone|redone; null:
        never published), seq Int64, at, state (open|published|undone|dead), days Int64 (claims).
        """
        with self.backend.reading() as conn:
            return history.loads(conn, self.backend, history.file_id(conn, file))

    def findings(self, file: int | str) -> pl.DataFrame:
        """The findings of a file's last load, in line order.

        Columns as ``MeterData.findings``: source, line, block, record, field, value, rule,
        severity, message, todo, raw.
        """
        with self.backend.reading() as conn:
            return quarantine.findings_of(conn, self.backend, history.file_id(conn, file))

    def quarantine(
        self,
        *,
        open_only: bool = True,
        file: int | str | None = None,
        rule: str | None = None,
        nmi: str | None = None,
        limit: int | None = None,
        after: int | None = None,
    ) -> pl.DataFrame:
        """Rejected records with all that is needed to read them again alone, oldest first.

        ``limit``: at most so many; ``after``: only those with a greater number: the next page.

        Columns: quarantine Int64 (the id that ``replay(edits=...)`` takes), file, source, line,
        record (300|250), nmi, suffix, day (as far as they can be read), rules List(String), raw
        (the record and the 400, 500 or 550 lines below it, joined by newline), context (the 100 and
        200 lines it stood under), attempts Int64, resolved_by Int64 (the load that took it in),
        resolved_at, created_at, open Boolean, load, delivery Int64.
        """
        with self.backend.reading() as conn:
            number = None if file is None else history.file_id(conn, file)
            return quarantine.records(
                conn, self.backend, open_only=open_only, file_id=number, rule=rule, nmi=nmi,
                limit=limit, after=after,
            )  # fmt: skip

    # -- the readings -----------------------------------------------------------------------

    def nmis(self) -> pl.DataFrame:
        """Every NMI with current data.

        Columns: nmi, suffixes List(String), first_day, last_day, days Int64 (NMI-suffix-days),
        register_reads Int64.
        """
        with self.backend.reading() as conn:
            return versions.nmis(conn, self.backend)

    def readings(
        self,
        nmi: str,
        start: date | datetime | None = None,
        end: date | datetime | None = None,
        *,
        suffix: str | Sequence[str] | None = None,
        resolution: Resolution = "raw",
        as_known_on: datetime | int | None = None,
        quality: str | Sequence[str] | None = None,
        consumer: str | None = None,
    ) -> pl.DataFrame:
        """Current (or then current) readings of one NMI, in order of suffix and time.

        Args:
            nmi: the NMI, 10 characters; unknown -> ``NotFound``.
            start: first day (a date), or earliest interval start (a datetime).
            end: last day, included (a date), or latest interval end (a datetime).
            suffix: only these, e.g. ``"E1"``.
            resolution: ``raw`` as delivered; ``30min``, ``hour``, ``day``, ``month``: rolled up,
                see below.
            as_known_on: the answer as of this moment (a naive datetime is market time) or this
                commit number; the answer never changes later.
            quality: only intervals with these flags, e.g. ``"A"`` or ``"AF"``. In a roll-up the
                others count as missing.
            consumer: remember that this consumer took these days; see ``changes``. They count as
                taken once this call returns.

        Raw columns: nmi, suffix, day, interval_start, interval_end, value Decimal(38, S) (null:
        missing), uom, quality (A|S|F|E|N), method, reason_code Int16, reason_text, interval_minutes
        UInt16, register_id, meter_serial, version_at, file_at, file Int64.

        Rolled-up columns: nmi, suffix, uom, interval_start, interval_end, value Decimal(38, S), how
        (``sum`` for energy units, ``mean`` for all others: volts, amps, kW, pf are never summed),
        quality (the weakest within: A > F > S > E > N), intervals Int64 (expected), missing Int64,
        missing_share, estimated_share (E), substituted_share (S and F) Float64, complete Boolean
        (False: the value leaves out missing intervals or whole days).
        A period with no interval at all has value null, never 0. Days missing between a stream's
        first and last day count as missing intervals; a month counts all its days, as far as they
        were asked for.

        Raises:
            NotFound: nothing was ever delivered for this NMI.
            UsageError: no such resolution; a moment that is not over; a commit that is not there.
        """
        if resolution not in get_args(Resolution):
            raise UsageError(
                f"There is no resolution {resolution!r}.",
                hint=f"Use one of {', '.join(get_args(Resolution))}.",
            )
        first, last, opens, closes = readings.span_of(start, end)
        suffixes = history.states_of(suffix)
        name = None if consumer is None else takes.checked_name(consumer)
        at = None if as_known_on is None else known.seq_of(self.backend, as_known_on)
        with self.backend.reading() as conn:
            seq = known.last_seq(conn) if at is None else at
            found = readings.current_days(
                conn,
                self.backend,
                nmi,
                first=first,
                last=last,
                suffixes=suffixes,
                known=at,
            )
            if found.is_empty():
                self._must_know(conn, nmi)
        answer = _as_asked(found, resolution, quality, (first, last), (opens, closes))
        if name is not None:
            ranges = takes.asked([nmi], suffixes, first, last)
            takes.record(self.backend, name, seq=seq, how="readings", ranges=ranges)
        return answer

    def versions(
        self, nmi: str, day: date, *, suffix: str | Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Everything ever said about a day, winner first, per suffix.

        Columns: nmi, day, suffix, state (current|superseded|undone), version_at, version_derived
        Boolean (no UpdateDateTime: the file's DateTime stands in), file_at, content_hash, total
        Decimal, missing Int64, quality (weakest), interval_minutes, uom, values List(Decimal),
        conflict Boolean (another content under the same stamp), from_participant, file Int64,
        sha256, source, line, delivery, load, loaded_at (published), register_id, meter_serial.

        Raises:
            NotFound: nobody ever said anything about this day.
        """
        with self.backend.reading() as conn:
            found = versions.of_day(
                conn, self.backend, nmi, day, suffixes=history.states_of(suffix)
            )
        if found.is_empty():
            raise NotFound(
                f"Nothing was ever delivered for {nmi} on {day}.",
                hint=f"See which days there are: nemflow coverage {nmi}",
            )
        return found

    def coverage(
        self, nmi: str, start: date | None = None, end: date | None = None
    ) -> pl.DataFrame:
        """How whole an NMI's data is, one row per suffix.

        Without ``start``/``end`` the span is the suffix's own first to last day.
        Columns: nmi, suffix, uom, first_day, last_day, days_expected, days_present, days_missing
        Int64, gaps List(Struct{start: Date, end: Date}) (both included), intervals_expected,
        intervals_missing Int64 (missing days count at the length of the day before them),
        missing_share, estimated_share, substituted_share Float64, interval_minutes List(UInt16).
        """
        with self.backend.reading() as conn:
            found = readings.current_days(conn, self.backend, nmi, first=start, last=end)
            if found.is_empty():
                self._must_know(conn, nmi)
        frame, _ = readings.intervals(found)
        return coverage.covered(found, frame, start, end)

    def register_reads(self, nmi: str, *, history: bool = False) -> pl.DataFrame:
        """NEM13 consumption periods of one NMI: the current ones, or with ``history`` all.

        Columns as ``MeterData.register_reads`` without source, block and rejected_by, plus file,
        load Int64 and state (current|superseded|undone).
        """
        with self.backend.reading() as conn:
            found = registers.periods(conn, self.backend, nmi, history=history)
            if found.is_empty():
                self._must_know(conn, nmi)
            return found

    def service_events(self, nmi: str) -> pl.DataFrame:
        """The 500 and 550 records of current days and periods.

        A newer version of a day that comes without its 500 withdraws it.
        Columns: record, nmi, suffix, register_id, day, trans_code, service_order, read_at,
        index_read, previous_trans_code, previous_service_order, file Int64, line.
        """
        with self.backend.reading() as conn:
            return registers.events_of(conn, self.backend, nmi).select(
                "record",
                "nmi",
                "suffix",
                "register_id",
                "day",
                "trans_code",
                "service_order",
                "read_at",
                "index_read",
                "previous_trans_code",
                "previous_service_order",
                "file",
                "line",
            )

    def reviews(
        self,
        *,
        nmi: str | None = None,
        kind: str | Sequence[str] | None = None,
        since: date | datetime | None = None,
        open_only: bool = False,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """What a person should look at, newest first; see docs/review.md for the kinds.

        Args:
            nmi: only of this NMI.
            kind: only these kinds.
            since: only what became visible at or after this moment (naive: market time).
            open_only: only what is open.
            limit: at most so many; None: all.

        Columns: review Int64 (its number), kind, state (open|done|resolved|void: resolved by what
        came later; void while what brought it is undone), nmi, suffix, day, register_id,
        meter_serial, period_at, before, after, why, version_at, content_hash, other_hash, cause
        (published|undone|redone), at, seq Int64, source, line, file, delivery, load, other_load
        Int64, done_at, done_by, note.

        Raises:
            UsageError: no such kind.
        """
        kinds = history.states_of(kind)
        for each in kinds or ():
            if each not in review.KINDS:
                raise UsageError(
                    f"There is no kind of review event {each!r}.",
                    hint=f"Kinds: {', '.join(review.KINDS)}.",
                )
        return self.backend.look(
            lambda conn: review_events.listed(
                conn, self.backend, nmi=nmi, kinds=kinds, since=since, open_only=open_only,
                limit=limit,
            )
        )  # fmt: skip

    def close_reviews(self, which: int | Sequence[int], *, note: str, by: str | None = None) -> int:
        """Close review events: a person has looked. Audited; returns how many were closed.

        Raises:
            NotFound: there is no event of that number.
            UsageError: it is closed already, or the note is empty; then none is closed.
        """
        if not note.strip():
            raise UsageError("A note is needed: what was found?", hint='Add --note "..."')
        wanted = [which] if isinstance(which, int) else list(which)
        noted: list[sa.Select[tuple[int]]] = []

        def work(conn: sa.Connection) -> None:
            noted[:] = [review_events.close(conn, self.backend, wanted, who=by, note=note.strip())]

        self.backend.transact(
            work, happened=lambda conn: conn.execute(noted[0]).first() is not None
        )
        return len(set(wanted))

    def seq_at(self, when: datetime | None = None) -> int:
        """The number of the last commit at or before ``when`` (default: now).

        Raises:
            UsageError: the moment is not over yet, so its answer might still change.
        """
        if when is not None:
            return known.seq_of(self.backend, when)
        with self.backend.reading() as conn:
            return known.last_seq(conn)

    def mark(self) -> str:
        """A text that is another one after each commit; what was read under the same one holds."""
        with self.backend.reading() as conn:
            return known.mark(conn)

    def _must_know(self, conn: sa.Connection, nmi: str) -> None:
        """Tell an NMI without data here from one that nobody ever delivered."""
        if not versions.is_known(conn, nmi):
            raise NotFound(
                f"Nothing was ever delivered for NMI {nmi}.", hint="List them with: nemflow nmis"
            )


def _as_asked(
    found: pl.DataFrame,
    resolution: str,
    quality: str | Sequence[str] | None,
    days: tuple[date | None, date | None],
    instants: tuple[datetime | None, datetime | None],
) -> pl.DataFrame:
    """Winning days as readings, raw or rolled up; see ``Store.readings``."""
    frame, scale = readings.intervals(found)
    frame = readings.within(frame, *instants)
    flags = None if quality is None else [flag.upper() for text in quality for flag in text]
    if resolution == "raw":
        kept = frame if flags is None else frame.filter(pl.col("quality").is_in(flags))
        return readings.decimals(kept, scale)
    if flags is not None:
        value = pl.when(pl.col("quality").is_in(flags)).then(pl.col("value"))
        frame = frame.with_columns(value)
    whole = rollup.with_absent_days(frame, resolution, *days)
    periods, scale = rollup.rolled(readings.within(whole, *instants), scale, resolution)
    return readings.decimals(periods, scale)
