"""Nowhere: the sink of a dry run.

Why: what would happen must be told before it does, in the same words and numbers.

Promises: the store, if there is one, is only read; what would have been loaded earlier in the same
run counts as if it were in the store.

Look next: ``sinks.py`` for the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from nemflow.pipeline.sinks import Step, T, claims_of_base, market_day
from nemflow.store import days as store_days
from nemflow.store import ledger, registers, review
from nemflow.store.days import KEY, SORT_KEY
from nemflow.store.registers import PERIOD_KEY
from nemflow.store.tables import MARKET_OFFSET
from nemflow.store.watch import Imagined, Watch

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nemflow.store import Store

NOTHING = store_days.Met(pl.DataFrame(), pl.DataFrame())


class DrySink:
    """Nowhere: the store, if there is one, is only asked."""

    def __init__(
        self, store: Store | None, now: datetime, review_after: int = review.AFTER_DAYS
    ) -> None:
        self._store = store
        self._today = market_day(now)
        self._review_after = review_after
        self._last = 0
        self.imagined = Imagined()
        self.bad = pl.DataFrame()  #: what was rejected: KEY, load, rules
        self.reviews = pl.DataFrame(schema=review.FOUND)  #: what a real run would leave
        self.sources: dict[int, str | None] = {}  #: of each load that never was

    def watch(self, conn: sa.Connection | None) -> Watch:
        """What a step watches with."""
        backend = None if self._store is None else self._store.backend
        return Watch(conn, backend, self._today, self._review_after, self.imagined)

    def run(self, work: Callable[[Step], T], *, durable: bool = True) -> T:
        """Look at one moment of the store."""
        if self._store is None:
            return work(_DryStep(self, None, None))
        with self._store.backend.reading() as conn:
            return work(_DryStep(self, conn, self._store))

    def peek(self, hashes: Iterable[str]) -> dict[str, ledger.Known]:
        """What the ledger knows of these texts."""
        return self.run(lambda step: step.recognise(hashes))

    def next_load(self, count: int) -> range:
        """Numbers for loads that never were: below every real one."""
        first = self._last - count
        self._last = first
        return range(first, first + count)


class _DryStep:
    def __init__(self, sink: DrySink, conn: sa.Connection | None, store: Store | None) -> None:
        self._sink = sink
        self._conn = conn
        self._store = store
        self._watch = sink.watch(conn)

    def recognise(self, hashes: Iterable[str]) -> dict[str, ledger.Known]:
        return {} if self._conn is None else ledger.recognise(self._conn, hashes)

    def numbers(self, count: int) -> Sequence[int | None]:
        return [None] * count

    def deliver(self, arrivals: pl.DataFrame) -> None:
        pass

    def begin(self, texts: pl.DataFrame) -> pl.DataFrame:
        loads = pl.Series("load", self._sink.next_load(texts.height), dtype=pl.Int64)
        self._sink.sources.update(zip(loads, texts["source"], strict=True))
        return texts.with_columns(loads)

    def write_open(self, texts: pl.DataFrame) -> None:
        pass

    def hold(self, load: int, since: datetime | None) -> datetime | None:
        return since

    def days(self, days: pl.DataFrame, own: Collection[int]) -> pl.DataFrame:
        sink, met = self._sink, []
        if self._conn is not None and self._store is not None:
            incoming = days.select(*KEY, *SORT_KEY)
            met.append(self._store.backend.met(self._conn, incoming, own))
        earlier = sink.imagined.days_of(days, KEY)
        if not earlier.is_empty():
            met.append(store_days.met_in(earlier, own))
        judged = store_days.judge(days, store_days.met_together(met) if met else NOTHING)
        new = judged.select(
            *KEY, *(name for name in review.CLAIM if name != "quality"), quality="weakest",
            state=pl.lit("published"),
        )  # fmt: skip
        sink.imagined.days = pl.concat([sink.imagined.days, new], how="diagonal")
        self._review(self._watch.days(judged, own, alone=all(part.nothing for part in met)))
        return judged

    def _review(self, found: pl.DataFrame) -> None:
        self._sink.reviews = pl.concat([self._sink.reviews, found])

    def reads(self, reads: pl.DataFrame, own: Collection[int]) -> pl.DataFrame:
        sink, nmis = self._sink, reads["nmi"].unique()
        claims = []
        if self._conn is not None and self._store is not None:
            claims.append(registers.claims_of(self._conn, self._store.backend, nmis))
        if not sink.imagined.reads.is_empty():
            claims.append(sink.imagined.reads.filter(pl.col("nmi").is_in(nmis.implode())))
        every = pl.concat(claims, how="diagonal_relaxed") if claims else pl.DataFrame()
        judged = store_days.judge(reads, store_days.met_in(every, own, PERIOD_KEY), PERIOD_KEY)
        new = judged.select(*registers.CLAIM_COLUMNS, state=pl.lit("published"))
        sink.imagined.reads = pl.concat([sink.imagined.reads, new], how="diagonal")
        self._review(self._watch.reads(judged, every, own))
        return judged

    def events(self, events: pl.DataFrame) -> None:
        self._review(self._watch.services(events))
        told = events.select("load", "parent_line", "record", "trans_code", "service_order")
        every = pl.concat([self._sink.imagined.services, told], how="diagonal_relaxed")
        self._sink.imagined.services = every

    def records(self, bad: pl.DataFrame) -> None:
        rules = [name for name in ("rules",) if name in bad.columns]
        told = bad.select(*KEY, "load", *rules)
        self._sink.bad = pl.concat([self._sink.bad, told], how="diagonal")

    def findings(self, findings: pl.DataFrame) -> None:
        pass

    def take_back(self, load: int, lines: Collection[int]) -> None:
        taken = (pl.col("load") == load) & pl.col("line").is_in(list(lines))
        self._forget(taken)

    def withdraw(self, load: int, *, everything: bool = False) -> None:
        self._forget(pl.col("load") == load)

    def _forget(self, which: pl.Expr) -> None:
        imagined = self._sink.imagined
        for name in ("days", "reads"):
            claims: pl.DataFrame = getattr(imagined, name)
            if not claims.is_empty():
                setattr(imagined, name, claims.filter(~which))
        self._sink.reviews = self._sink.reviews.filter(~which)

    def forfeit(self, load: int, delivery: int | None, known: ledger.Known) -> None:
        pass

    def finish(
        self, results: pl.DataFrame, arrivals: pl.DataFrame | None = None
    ) -> tuple[int, datetime]:
        self._settle()
        return 0, datetime.now(MARKET_OFFSET)

    def _settle(self) -> None:
        """As ``review_events.settle``."""
        sink = self._sink
        missing = pl.col("kind") == "channel_missing"
        lacking = sink.reviews.filter(missing).unique(
            [*KEY, "load"], keep="first", maintain_order=True
        )
        for there in (sink.imagined.days, sink.bad):
            if not there.is_empty():
                lacking = lacking.join(there, on=[*KEY, "load"], how="anti")
        sink.reviews = pl.concat([sink.reviews.filter(~missing), lacking])

    def containers(self, numbers: Collection[int]) -> None:
        pass

    def begin_replay(self, about: Mapping[str, Any], profile: str, ids: Sequence[int]) -> int:
        self._file = about["file"]
        load = self._sink.next_load(1)[0]
        self._sink.sources[load] = about["source"]
        return load

    def claims_of_base(self, frame: pl.DataFrame, base: int, key: Sequence[str]) -> pl.DataFrame:
        assert self._conn is not None  # noqa: S101 - for the type checker
        assert self._store is not None  # noqa: S101 - a replay has a store
        return claims_of_base(self._conn, self._store.backend, frame, base, key)

    def finish_replay(
        self,
        load: int,
        counts: Mapping[str, int],
        *,
        tried: Collection[int],
        taken: Collection[int],
        who: str | None,
    ) -> tuple[str, int, datetime]:
        assert self._conn is not None  # noqa: S101 - for the type checker
        self._settle()
        left = ledger.rejected_of(self._conn, self._file) - len(taken)
        return "partly_loaded" if left else "loaded", 0, datetime.now(MARKET_OFFSET)
