"""Where a load goes: into the store; ``dry.py`` has the sink that writes nothing.

Why: a dry run must give the same account as the real one; so both run the same code, and only
the sinks know the difference.

Promises: what is given to ``run`` of the store's sink is done in one short transaction, again
when that can help, and once only: a COMMIT that was not answered is looked up in the ledger.

Look next: ``loading.py``, which takes the steps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import polars as pl
import sqlalchemy as sa

from nemflow.store import days as store_days
from nemflow.store import leases, ledger, quarantine, registers, resumed, review, review_events
from nemflow.store import work as ledger_work
from nemflow.store.days import KEY, SORT_KEY
from nemflow.store.tables import MARKET_OFFSET
from nemflow.store.tables import delivery as delivery_table
from nemflow.store.tables import load as load_table
from nemflow.store.watch import Watch

if TYPE_CHECKING:
    from nemflow.store import Store
    from nemflow.store.backends import Backend


_RENEW_SECONDS = 30  #: a run renews its lease at least so often, while it works
T = TypeVar("T")


class Step(Protocol):
    """One short transaction."""

    def recognise(self, hashes: Iterable[str]) -> dict[str, ledger.Known]:
        """What the ledger knows of these texts."""

    def numbers(self, count: int) -> Sequence[int | None]:
        """So many delivery numbers."""

    def deliver(self, arrivals: pl.DataFrame) -> None:
        """Write deliveries: columns of ``ledger.ARRIVAL``, and ``id``."""

    def begin(self, texts: pl.DataFrame) -> pl.DataFrame:
        """Number a load per text; adds ``file`` and ``load``."""

    def write_open(self, texts: pl.DataFrame) -> None:
        """Write those loads as open: they will end in a later transaction."""

    def hold(self, load: int, since: datetime | None) -> datetime | None:
        """Make sure this load is still ours, and as ``hold`` left it (what it gave then)."""

    def days(self, days: pl.DataFrame, own: Collection[int]) -> pl.DataFrame:
        """Append days; returns them judged (``nemflow.store.days.judge``)."""

    def reads(self, reads: pl.DataFrame, own: Collection[int]) -> pl.DataFrame:
        """Append register reads; returns them judged."""

    def events(self, events: pl.DataFrame) -> None:
        """Append service events."""

    def records(self, bad: pl.DataFrame) -> None:
        """Append rejected records: ``MeterData.quarantine`` plus load, file."""

    def findings(self, findings: pl.DataFrame) -> None:
        """Append findings: ``MeterData.findings`` plus load."""

    def take_back(self, load: int, lines: Collection[int]) -> None:
        """Remove the claims of these lines."""

    def withdraw(self, load: int, *, everything: bool = False) -> None:
        """Remove everything an open load has claimed; its quarantine and findings if asked."""

    def forfeit(self, load: int, delivery: int | None, known: ledger.Known) -> None:
        """Give up an open load: another one of the same file was published first."""

    def finish(
        self, results: pl.DataFrame, arrivals: pl.DataFrame | None = None
    ) -> tuple[int, datetime]:
        """Settle loads: published, or rejected; see ``ledger.finish``."""

    def containers(self, numbers: Collection[int]) -> None:
        """Give containers the state their members add up to."""

    def begin_replay(self, about: Mapping[str, Any], profile: str, ids: Sequence[int]) -> int:
        """Open a load that takes in these quarantined records of a file; its number.

        ``about`` says file, load (whose quarantine it is) and delivery.
        """

    def claims_of_base(self, frame: pl.DataFrame, base: int, key: Sequence[str]) -> pl.DataFrame:
        """What a load and its replays have claimed on these days, or register periods."""

    def finish_replay(
        self,
        load: int,
        counts: Mapping[str, int],
        *,
        tried: Collection[int],
        taken: Collection[int],
        who: str | None,
    ) -> tuple[str, int, datetime]:
        """Publish a replay load, resolve what it took in; the file's state, seq and time."""


class Sink(Protocol):
    """Where a load goes."""

    def run(self, work: Callable[[Step], T], *, durable: bool = True) -> T:
        """Do ``work`` in one short transaction; not ``durable``: a piece that nobody sees yet.

        ``work`` may be called more than once and changes nothing but what the step writes; what
        it returns is that of the call that counts.
        """

    def peek(self, hashes: Iterable[str]) -> dict[str, ledger.Known]:
        """What the ledger knows of these texts, without a transaction."""


class StoreSink:
    """Into the store.

    ``taken_up``: the load is that of a delivery which is in the ledger already; every step then
    makes sure first that it is still leased to ``token``.
    """

    def __init__(
        self,
        store: Store,
        token: str,
        now: datetime,
        review_after: int = review.AFTER_DAYS,
        taken_up: resumed.Resumed | None = None,
    ) -> None:
        self._store = store
        self._taken_up = taken_up
        self._there = frozenset() if taken_up is None else taken_up.numbers
        self.token = token
        self.now = now
        self.review_after = review_after
        self._renewed = time.monotonic()

    @property
    def there(self) -> frozenset[int]:
        """Delivery rows that were written before this load."""
        return self._there

    def run(self, work: Callable[[Step], T], *, durable: bool = True) -> T:
        """See ``Sink.run``."""
        due = time.monotonic() - self._renewed > _RENEW_SECONDS
        last: list[_StoreStep] = []

        def transaction(conn: sa.Connection) -> T:
            if self._taken_up is not None:
                ledger_work.guard(conn, self._taken_up.delivery, self.token)
            if due:
                leases.renew(conn, self._store.backend, self.token)
            last[:] = [_StoreStep(conn, self._store, self)]
            return work(last[0])

        done = self._store.backend.transact(
            transaction,
            durable=durable,
            happened=lambda conn: bool(last) and last[0].happened(conn),
        )
        if due:
            self._renewed = time.monotonic()
        return done

    def peek(self, hashes: Iterable[str]) -> dict[str, ledger.Known]:
        """What the ledger knows of these texts, without a transaction."""
        wanted = list(hashes)
        return self._store.backend.look(lambda conn: ledger.recognise(conn, wanted))


class _StoreStep:
    def __init__(self, conn: sa.Connection, store: Store, sink: StoreSink) -> None:
        self._conn = conn
        self._watch = Watch(conn, store.backend, market_day(sink.now), sink.review_after)
        self._backend = store.backend
        self._token = sink.token
        self._now = sink.now
        self._there = sink.there
        self._trace: sa.Select[Any] | None = None  #: finds a row only this step can have left

    def happened(self, conn: sa.Connection) -> bool:
        """Whether what this step wrote is in the store; a step that left no trace may be redone."""
        return self._trace is not None and conn.execute(self._trace).first() is not None

    def _leaves(self, arrivals: pl.DataFrame) -> None:
        """These deliveries are its trace: nobody else has their number, name and moment.

        One that was there before was ``loading`` under our lease, and only we can end that so.
        """
        if arrivals.is_empty():
            return
        new = arrivals.filter(~pl.col("id").is_in(list(self._there)))
        if new.is_empty():
            columns = delivery_table.c
            self._trace = sa.select(columns.id).where(
                columns.id == int(arrivals["id"][0]), columns.state.in_(resumed.TAKEN_IN)
            )
        else:
            number, name, at = new.select("id", "name", "received_at").row(0)
            columns = delivery_table.c
            self._trace = sa.select(columns.id).where(
                columns.id == number, columns.name == name, columns.received_at == at
            )

    def recognise(self, hashes: Iterable[str]) -> dict[str, ledger.Known]:
        wanted = list(hashes)
        self._backend.guard(self._conn, wanted)
        return ledger.recognise(self._conn, wanted)

    def numbers(self, count: int) -> Sequence[int | None]:
        return ledger.delivery_numbers(self._conn, self._backend, count)

    def deliver(self, arrivals: pl.DataFrame) -> None:
        ledger.deliver(self._conn, self._backend, arrivals, token=self._token, there=self._there)
        self._leaves(arrivals)

    def begin(self, texts: pl.DataFrame) -> pl.DataFrame:
        return ledger.begin(self._conn, self._backend, texts, now=self._now)

    def write_open(self, texts: pl.DataFrame) -> None:
        ledger.write_open(self._conn, self._backend, texts, token=self._token)
        columns = load_table.c
        self._trace = sa.select(columns.id).where(
            columns.id == int(texts["load"][0]), columns.lease_token == self._token
        )

    def hold(self, load: int, since: datetime | None) -> datetime | None:
        until = leases.hold(self._conn, self._backend, load, self._token, since)
        columns = load_table.c
        self._trace = sa.select(columns.id).where(columns.id == load, columns.lease_until == until)
        return until

    def days(self, days: pl.DataFrame, own: Collection[int]) -> pl.DataFrame:
        met = self._backend.met(self._conn, days.select(*KEY, *SORT_KEY), own)
        judged = store_days.judge(days, met)
        self._review(self._watch.days(judged, own, alone=met.nothing))
        store_days.append(self._conn, self._backend, judged)
        return judged

    def _review(self, found: pl.DataFrame) -> None:
        review_events.append(self._conn, self._backend, found)

    def reads(self, reads: pl.DataFrame, own: Collection[int]) -> pl.DataFrame:
        claims = registers.claims_of(self._conn, self._backend, reads["nmi"].unique())
        judged = registers.append_reads(self._conn, self._backend, reads, own, claims)
        self._review(self._watch.reads(judged, claims, own))
        return judged

    def events(self, events: pl.DataFrame) -> None:
        registers.append_events(self._conn, self._backend, events)
        self._review(self._watch.services(events))

    def records(self, bad: pl.DataFrame) -> None:
        quarantine.append_records(self._conn, self._backend, bad, now=self._now)

    def findings(self, findings: pl.DataFrame) -> None:
        quarantine.append_findings(self._conn, self._backend, findings)

    def take_back(self, load: int, lines: Collection[int]) -> None:
        store_days.take_back(self._conn, load, lines)
        review_events.take_back(self._conn, load, lines)

    def withdraw(self, load: int, *, everything: bool = False) -> None:
        leases.withdraw(self._conn, load, everything=everything)

    def forfeit(self, load: int, delivery: int | None, known: ledger.Known) -> None:
        leases.forfeit(self._conn, load, delivery, duplicate_of=known.delivery)
        columns = delivery_table.c
        self._trace = sa.select(columns.id).where(
            columns.id == delivery, columns.state == "duplicate"
        )

    def finish(
        self, results: pl.DataFrame, arrivals: pl.DataFrame | None = None
    ) -> tuple[int, datetime]:
        review_events.settle(self._conn, results["load"].to_list())
        if arrivals is not None:
            self._leaves(arrivals)
        else:  # only who holds its lease can end it, other than as dead
            columns = load_table.c
            self._trace = sa.select(columns.id).where(
                columns.id == int(results["load"][0]), columns.state.not_in(["open", "dead"])
            )
        return ledger.finish(
            self._conn, self._backend, results, arrivals=arrivals, there=self._there
        )

    def containers(self, numbers: Collection[int]) -> None:
        ledger.settle_containers(self._conn, self._backend, numbers)

    def begin_replay(self, about: Mapping[str, Any], profile: str, ids: Sequence[int]) -> int:
        quarantine.must_be_open(self._conn, ids)
        number = ledger.begin_replay(
            self._conn,
            self._backend,
            file_id=about["file"],
            base=about["load"],
            delivery_id=about["delivery"],
            profile=profile,
            token=self._token,
            now=self._now,
        )
        columns = load_table.c
        self._trace = sa.select(columns.id).where(
            columns.id == number, columns.file == about["file"], columns.started_at == self._now
        )
        return number

    def claims_of_base(self, frame: pl.DataFrame, base: int, key: Sequence[str]) -> pl.DataFrame:
        return claims_of_base(self._conn, self._backend, frame, base, key)

    def finish_replay(
        self,
        load: int,
        counts: Mapping[str, int],
        *,
        tried: Collection[int],
        taken: Collection[int],
        who: str | None,
    ) -> tuple[str, int, datetime]:
        conn, backend = self._conn, self._backend
        quarantine.tried(conn, tried, dict.fromkeys(taken, load), self._now)
        detail = {"tried": len(tried), "taken": len(taken), "load": load}
        ledger.note(
            conn, backend, act="replay", target=f"load {load}", who=who, detail=json.dumps(detail)
        )
        if not taken:
            return ledger.close_replay(conn, load), 0, self._now
        review_events.settle(conn, [load])
        state = ledger.finish_replay(conn, backend, load_id=load, counts=counts)
        return state, *ledger.record(conn, backend, "published", [load])


def market_day(moment: datetime) -> date:
    """The day of a moment, market time."""
    return moment.astimezone(MARKET_OFFSET).date()


def claims_of_base(
    conn: sa.Connection, backend: Backend, frame: pl.DataFrame, base: int, key: Sequence[str]
) -> pl.DataFrame:
    """What a load and its replays have claimed on these days, or register periods (``key``)."""
    if key == KEY:
        claims = backend.claims_of(conn, frame.select(KEY).unique())
    else:
        claims = registers.claims_of(conn, backend, frame["nmi"].unique())
    return claims.filter(pl.col("load").is_in(ledger.loads_of_base(conn, base)))
