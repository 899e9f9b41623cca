"""A large text: parsed in pieces, appended piece by piece under a load nobody sees.

Why: a file of two gigabytes must not need two gigabytes of memory, nor hold the store's one writer
for a minute.

Promises: memory is that of a few pieces; each piece is one short transaction; the text is
published whole by the last one, or not at all. What only the end of the text can tell (a missing
900, a twin of an earlier day) is put right before that. Pieces do not wait for the server's disk;
when its crash takes some back, the next one notices, and the text begins again.

Look next: ``batch.py`` for small texts, ``rawtext.py`` for how raw records are found again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import polars as pl

from nemflow import failpoints
from nemflow.mdff.meterdata import FINDINGS
from nemflow.pipeline import rawtext
from nemflow.pipeline.account import Account
from nemflow.pipeline.batch import tell_conflicts
from nemflow.pipeline.outcome import FileOutcome
from nemflow.pipeline.prepare import Prepared, prepared
from nemflow.pipeline.run import FINDINGS_TOLD, TOLD, Numbers, Run, duplicate, repeated, told
from nemflow.store.leases import PiecesLost
from nemflow.store.ledger import Seen

if TYPE_CHECKING:
    from nemflow.mdff.reader import Parser, Text
    from nemflow.pipeline.sinks import Step
    from nemflow.pipeline.unpack import Item

#: Bytes of text in one piece.
PIECE_BYTES = 8 * 1024 * 1024


#: How often a large text is begun anew because a crash of the server took pieces of it back.
_BEGINNINGS = 5


def load_large(run: Run, item: Item, pool: Executor) -> None:
    """Load one large text and tell what became of it."""
    started = time.perf_counter()
    repeats = run.met_before(item.sha256 or "")
    numbers, texts, outcome = run.sink.run(lambda step: _begin(run, step, item, repeats=repeats))
    run.keep(numbers)
    if outcome is None:
        failpoints.reach("after-claim")
        outcome = _whole(run, item, texts, pool, started)
    run.tell(item, outcome)
    run.report(item.name)


def _begin(
    run: Run, step: Step, item: Item, *, repeats: bool
) -> tuple[Numbers, pl.DataFrame, FileOutcome | None]:
    """Deliver the text, and open its load unless it is loaded already (then: the outcome)."""
    sha256 = item.sha256 or ""
    known = step.recognise([sha256]).get(sha256)
    numbers = run.number(step, [item])
    number = numbers.items[item.name]
    outcome = None
    if repeats:
        outcome = repeated(item, run.first_outcome(sha256, known), number)
    elif known is not None and known.seen is Seen.LOADED:
        outcome = duplicate(item, known, number)
    if outcome is None:
        arrivals = run.arrivals([item], numbers, state="loading")
        step.deliver(arrivals)
        texts = run.begin(step, arrivals, {} if known is None else {sha256: known})
        step.write_open(texts)
        return numbers, texts, None
    about = {
        "state": outcome.state,
        "error": outcome.error,
        "file": outcome.file,
        "duplicate_of": outcome.duplicate_of_delivery,
    }
    step.deliver(run.arrivals([item], numbers, **about))
    return numbers, pl.DataFrame(), outcome


def _whole(
    run: Run, item: Item, texts: pl.DataFrame, pool: Executor, started: float
) -> FileOutcome:
    """Append and publish a text whose load is open; from its start again when pieces were lost."""
    text = item.text
    assert text is not None  # noqa: S101 - for the type checker
    stream: Any = text.data
    for beginning in range(_BEGINNINGS):
        work = _Large(run, item, texts)
        try:
            if beginning:
                work.clear()
                stream = None if item.reopen is None else item.reopen()
            work.append_all(replace(text, data=stream), pool)
            return work.publish(started)
        except PiecesLost:
            if item.reopen is None or beginning + 1 == _BEGINNINGS:
                raise
    raise AssertionError  # pragma: no cover - the loop returns or raises


@dataclass(slots=True)
class _State:
    """What is known of a text so far; each transaction works on a copy, which counts if saved."""

    account: Account = field(default_factory=Account)
    taken: list[pl.DataFrame] = field(default_factory=list)  #: line, stored, record: taken in
    told: list[pl.DataFrame] = field(default_factory=list)  #: findings
    told_count: int = 0
    days: int = 0
    fatal: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema={"source": pl.String, "error": pl.String})
    )
    held: datetime | None = None  #: what ``hold`` gave last
    conflicts: pl.DataFrame = field(default_factory=pl.DataFrame)  #: of the last piece

    def copy(self) -> _State:
        """The same, to be changed on its own."""
        return replace(
            self, account=self.account.copy(), taken=list(self.taken), told=list(self.told)
        )


class _Large:
    """One large text on its way."""

    def __init__(self, run: Run, item: Item, texts: pl.DataFrame) -> None:
        self._run = run
        self._item = item
        self._texts = texts
        self._load = int(texts["load"][0])
        self._file = texts["file"][0]
        self._state = _State()

    def clear(self) -> None:
        """Remove what an earlier beginning left."""

        def work(step: Step) -> _State:
            held = step.hold(self._load, None)
            step.withdraw(self._load, everything=True)
            return _State(held=held)

        self._state = self._run.sink.run(work)

    def append_all(self, text: Text, pool: Executor) -> None:
        """Parse and append piece after piece, the next being parsed while one is appended."""
        stream: Any = text.data
        with stream:
            pieces = self._run.stages.each(
                "check", _pieces(self._run.parser_for(self._item), text, self._run.chunk_bytes)
            )
            future = pool.submit(next, pieces, None)
            while (part := future.result()) is not None:
                future = pool.submit(next, pieces, None)
                try:
                    with self._run.stages.at("load"):
                        self._append(part)
                except BaseException:
                    future.cancel()
                    future.exception()  # the thread reads from the stream: wait for it
                    raise
                failpoints.reach("between-pieces")
                self._run.report(
                    self._item.name, days=self._state.days, more_bytes=_position(stream)
                )

    def _append(self, part: Prepared) -> None:
        """One piece, one short transaction."""
        self._state = self._run.sink.run(lambda step: self._with(step, part), durable=False)
        if not self._state.conflicts.is_empty():
            tell_conflicts(self._run, self._state.conflicts)

    def _with(self, step: Step, part: Prepared) -> _State:
        """Append a piece; the state with it."""
        state = self._state.copy()
        known_fatal = not state.fatal.is_empty()
        state.fatal = pl.concat([state.fatal, part.fatal]).head(1)
        state.held = step.hold(self._load, state.held)
        state.conflicts = pl.DataFrame()
        if not part.twins.is_empty():
            self._take_back(state, step, part.twins)
        if state.fatal.is_empty():
            self._append_records(state, step, part)
        else:
            if not known_fatal:
                step.withdraw(self._load)
            state.taken.append(_lines(part.days, "300"))
            state.taken.append(_lines(part.reads, "250"))
            _count(state, part)
        step.records(self._owned(part.bad))
        step.findings(self._owned(part.findings))
        state.days += part.days.height
        if state.told_count < FINDINGS_TOLD:
            state.told.append(part.findings.head(FINDINGS_TOLD - state.told_count))
            state.told_count += state.told[-1].height
        return state

    def _append_records(self, state: _State, step: Step, part: Prepared) -> None:
        days = step.days(self._owned(part.days), [self._load])
        reads = step.reads(self._owned(part.reads), [self._load])
        step.events(self._owned(part.events))
        state.account.add(part, days, reads)
        state.taken.append(_lines(days, "300"))
        state.taken.append(_lines(reads, "250"))
        state.conflicts = days.filter("conflict")

    def _take_back(self, state: _State, step: Step, twins: pl.DataFrame) -> None:
        """What earlier pieces held turns out to be twins (I009, A010): into the quarantine."""
        for record, of, rule in (("300", "days", "I009"), ("250", "reads", "A010")):
            lines = twins.filter(pl.col("record") == record)["line"].unique().to_list()
            taken = pl.concat(state.taken)
            is_gone = (pl.col("record") == record) & pl.col("line").is_in(lines)
            gone = taken.filter(is_gone)
            if gone.is_empty():
                continue
            state.taken = [taken.filter(~is_gone)]
            stored = int(gone["stored"].sum())
            state.account.take_back(
                self._item.name, of, stored=stored, unchanged=gone.height - stored
            )
            step.take_back(self._load, gone["line"].to_list())
            self._reject(state, step, gone["line"].to_list(), [rule])

    def _reject(self, state: _State, step: Step, lines: list[int], rules: list[str]) -> None:
        """Put records that were taken in before into the quarantine, with their raw text."""
        item = self._item
        if not lines or item.reopen is None or item.text is None:
            return
        with item.reopen() as stream:
            for bad in rawtext.records(
                stream,
                lines,
                source=item.name,
                rules=rules,
                first_line=item.text.first_line,
            ):
                step.records(self._owned(bad))
                state.account.add_bad(bad)

    def publish(self, started: float) -> FileOutcome:
        """The last transaction: the text becomes visible whole, or is rejected whole."""
        with self._run.stages.at("publish"):
            state, results, seq, at, outcome = self._run.sink.run(self._publish)
        if outcome is not None:
            return outcome
        row = results.select(TOLD).row(0)
        self._run.published(seq, at, [] if results["state"][0] == "rejected" else [self._load])
        rules = {rule: count for _, rule, count in state.account.rules().iter_rows()}
        findings = pl.concat(state.told) if state.told else pl.DataFrame(schema=FINDINGS)
        seconds = time.perf_counter() - started
        return told(row, rules, findings if findings.height else None, seconds)

    def _publish(
        self, step: Step
    ) -> tuple[_State, pl.DataFrame, int, datetime, FileOutcome | None]:
        state = self._state.copy()
        step.hold(self._load, state.held)
        sha256 = self._item.sha256 or ""
        known = step.recognise([sha256]).get(sha256)
        if known is not None and known.seen is Seen.LOADED:
            number = self._texts["delivery"][0]
            step.forfeit(self._load, number, known)
            same = duplicate(self._item, known, number)
            return state, pl.DataFrame(), 0, self._run.now, same
        if not state.fatal.is_empty():
            state.account.reject_all(self._item.name)
            rule = str(state.fatal["error"][0]).partition(":")[0]
            self._reject(state, step, pl.concat(state.taken)["line"].to_list(), [rule])
        results = self._run.results(state.account, self._texts, state.fatal)
        return state, results, *step.finish(results), None

    def _owned(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(
            load=pl.lit(self._load, pl.Int64), file=pl.lit(self._file, pl.Int64)
        )


def _count(state: _State, part: Prepared) -> None:
    """Count a piece of a text that is rejected as a whole: nothing is taken in."""
    none = pl.lit(value=False)
    empty_days = part.days.clear().with_columns(stored=none, conflict=none)
    empty_reads = part.reads.clear().with_columns(stored=none, conflict=none)
    state.account.add(part, empty_days, empty_reads)


def _pieces(parser: Parser, text: Text, chunk_bytes: int | None) -> Iterator[Prepared]:
    for data in parser.chunks(text, chunk_bytes or PIECE_BYTES):
        failpoints.reach("mid-parse")
        yield prepared(data)


def _lines(frame: pl.DataFrame, record: str) -> pl.DataFrame:
    stored = pl.col("stored") if "stored" in frame.columns else pl.lit(value=False)
    return frame.select(
        pl.col("line").cast(pl.UInt32), stored=stored, record=pl.lit(record, pl.Categorical)
    )


def _position(stream: BinaryIO) -> int:
    """How many bytes of the text were read; 0 when the stream cannot tell."""
    try:
        return stream.tell()
    except (OSError, ValueError):
        return 0
