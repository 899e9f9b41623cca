"""A batch: many small texts, parsed in one pass and loaded in one short transaction.

Why: ten thousand small files of one archive should cost little more than one large file with the
same days; so nothing here is done per text that can be done per batch.

Promises: a batch is loaded whole or not at all; each text in it has its own load, account and
state, and one bad text does not hold back the others.

Look next: ``large.py`` for texts too large for this.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from nemflow import failpoints
from nemflow.events import DayConflict
from nemflow.mdff.meterdata import MeterData
from nemflow.pipeline.account import Account
from nemflow.pipeline.outcome import FileOutcome
from nemflow.pipeline.prepare import Prepared, prepared
from nemflow.pipeline.run import TOLD, Numbers, Run, duplicate, refused, repeated, told
from nemflow.store.ledger import Known, Seen

if TYPE_CHECKING:
    from nemflow.pipeline.sinks import Step
    from nemflow.pipeline.unpack import Item

#: So many conflicts of one batch or piece are told to the hook; all are counted.
_CONFLICTS_TOLD = 100


@dataclass(slots=True)
class Batch:
    """Small texts together, or one large one."""

    items: list[Item]
    standing: dict[str, Known] = field(default_factory=dict)  #: by hash: loaded before
    repeated: set[str] = field(default_factory=set)  #: names: met before in this run
    parsed: Prepared | None = None

    @property
    def is_large(self) -> bool:
        """Whether it is one text to be parsed in pieces."""
        return len(self.items) == 1 and self.items[0].is_large

    @property
    def fresh(self) -> list[Item]:
        """The texts that were not met before in this run."""
        return [item for item in self.items if item.text and item.name not in self.repeated]


def parse_batch(run: Run, batch: Batch) -> None:
    """Parse what must be parsed; touches nothing but the batch, so it can run in a thread."""
    with run.stages.at("check"):
        _parse(run, batch)


def _parse(run: Run, batch: Batch) -> None:
    failpoints.reach("mid-parse")
    by_parser: dict[Any, list[Any]] = defaultdict(list)
    for item in batch.fresh:
        if item.sha256 not in batch.standing:
            by_parser[run.parser_for(item)].append(item.text)
    batch.parsed = prepared(
        MeterData.concat([parser.feed(texts) for parser, texts in by_parser.items()])
    )


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What one transaction did with a batch."""

    numbers: Numbers
    results: pl.DataFrame
    outcomes: Mapping[str, FileOutcome]
    conflicts: pl.DataFrame
    seq: int
    at: datetime


def load_batch(run: Run, batch: Batch) -> None:
    """Append and publish a parsed batch, and tell what became of each text."""
    started = time.perf_counter()
    with run.stages.loading():
        done = run.sink.run(lambda step: _load(run, step, batch, started))
    run.keep(done.numbers)
    results = done.results
    loads = results.filter(pl.col("state") != "rejected")["load"].to_list()
    run.published(done.seq, done.at, loads)
    tell_conflicts(run, done.conflicts)
    for item in batch.items:
        run.tell(item, done.outcomes[item.name])
    run.report(batch.items[-1].name)


def _load(run: Run, step: Step, batch: Batch, started: float) -> _Loaded:
    """One transaction; it may be tried again, so it leaves run and batch as they are."""
    part = batch.parsed
    assert part is not None  # noqa: S101 - for the type checker
    known = step.recognise([item.sha256 for item in batch.fresh if item.sha256])
    stands = {sha for sha, file in known.items() if file.seen is Seen.LOADED}
    fresh = [item for item in batch.fresh if item.sha256 not in stands]
    numbers = run.number(step, batch.items)
    arrivals = run.arrivals(fresh, numbers, state=["loading"] * len(fresh))
    texts = run.begin(step, arrivals, known)
    failpoints.reach("after-claim")
    account, conflicts = _append(step, part, texts)
    results = run.results(account, texts, part.fatal)
    share = (time.perf_counter() - started) / max(len(batch.items), 1)
    outcomes = _outcomes(results, account.rules(), part.findings, share)
    outcomes |= _others(run, step, batch, outcomes, known=known, numbers=numbers)
    run.stages.publishing()
    seq, at = step.finish(results, arrivals) if fresh else (0, run.now)
    return _Loaded(numbers, results, outcomes, conflicts, seq, at)


def _append(step: Step, part: Prepared, texts: pl.DataFrame) -> tuple[Account, pl.DataFrame]:
    """Append everything parsed; returns the account, and the days in conflict."""
    loads = texts.select("source", "load", "file")
    own = texts["load"].to_list()

    def of_load(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.join(loads, on="source", how="inner", maintain_order="left")

    days = step.days(of_load(part.days), own)
    reads = step.reads(of_load(part.reads), own)
    step.events(of_load(part.events))
    step.records(of_load(part.bad))
    step.findings(of_load(part.findings))
    account = Account()
    account.add(part, days, reads)
    return account, days.filter("conflict")


def _outcomes(
    results: pl.DataFrame, rules: pl.DataFrame, findings: pl.DataFrame, seconds: float
) -> dict[str, FileOutcome]:
    """What became of each loaded text, by name."""
    by_source: dict[str, dict[str, int]] = defaultdict(dict)
    for source, rule, count in rules.iter_rows():
        by_source[source][rule] = count
    found: dict[str, pl.DataFrame] = {}
    if not findings.is_empty():
        parts = findings.partition_by("source", as_dict=True, maintain_order=True)
        found = {str(key[0]): frame for key, frame in parts.items()}
    return {
        row[0]: told(row, by_source.get(row[0], {}), found.get(row[0]), seconds)
        for row in results.select(TOLD).rows()
    }


def _others(
    run: Run,
    step: Step,
    batch: Batch,
    loaded: Mapping[str, FileOutcome],
    *,
    known: Mapping[str, Known],
    numbers: Numbers,
) -> dict[str, FileOutcome]:
    """Deliver what is not loaded: refused, duplicate, or met before in this run."""
    others = [item for item in batch.items if item.name not in loaded]
    if not others:
        return {}
    first = {item.sha256: loaded[item.name] for item in batch.fresh if item.name in loaded}
    verdicts = []
    for item in others:
        number = numbers.items[item.name]
        if item.error is not None:
            verdicts.append(refused(item, item.error, number))
        elif item.name in batch.repeated:
            sha256 = item.sha256 or ""
            before = first.get(sha256) or run.first_outcome(sha256, known.get(sha256))
            verdicts.append(repeated(item, before, number))
        else:
            verdicts.append(duplicate(item, known[item.sha256 or ""], number))
    arrivals = run.arrivals(
        others,
        numbers,
        state=[verdict.state for verdict in verdicts],
        error=[verdict.error for verdict in verdicts],
        file=[verdict.file for verdict in verdicts],
        duplicate_of=[verdict.duplicate_of_delivery for verdict in verdicts],
    )
    step.deliver(arrivals)
    return {verdict.source: verdict for verdict in verdicts}


def tell_conflicts(run: Run, days: pl.DataFrame) -> None:
    """Tell the hook of days whose stamp is carried by another content too."""
    told_days = days.head(_CONFLICTS_TOLD).select(
        "nmi",
        pl.col("day").cast(pl.String),
        "suffix",
        pl.col("version_at").dt.strftime("%Y-%m-%dT%H:%M:%S+10:00"),
        "source",
        "content_hash",
    )
    for row in told_days.iter_rows():
        run.emit(lambda row=row: DayConflict(*row))
