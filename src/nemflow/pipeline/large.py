"""A large text: parsed in pieces, appended piece by piece under a load nobody sees.

Why: a file of two gigabytes must not need two gigabytes of memory, nor hold the store's one writer
for a minute.

Promises: memory is that of a few pieces; each piece is one short transaction; the text is
published whole by the last one, or not at all. What only the end of the text can tell (a missing
900, a twin of an earlier day) is put right before that.

Look next: ``batch.py`` for small texts, ``rawtext.py`` for how raw records are found again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, BinaryIO

import polars as pl

from nemflow.mdff.meterdata import FINDINGS
from nemflow.pipeline import rawtext
from nemflow.pipeline.account import Account
from nemflow.pipeline.batch import tell_conflicts
from nemflow.pipeline.outcome import FileOutcome
from nemflow.pipeline.prepare import Prepared, prepared
from nemflow.pipeline.run import FINDINGS_TOLD, TOLD, Run, duplicate, repeated, told
from nemflow.store.ledger import Seen

if TYPE_CHECKING:
    from nemflow.mdff.reader import Parser
    from nemflow.pipeline.sinks import Step
    from nemflow.pipeline.unpack import Item

#: Bytes of text in one piece.
PIECE_BYTES = 12 * 1024 * 1024


def load_large(run: Run, item: Item, pool: Executor) -> None:
    """Load one large text and tell what became of it."""
    started = time.perf_counter()
    sha256 = item.sha256 or ""
    repeats = run.met_before(sha256)
    with run.sink.step() as step:
        known = step.recognise([sha256]).get(sha256)
        numbers = run.number(step, [item])
        number = numbers[item.name]
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
        else:
            about = {
                "state": outcome.state,
                "error": outcome.error,
                "file": outcome.file,
                "duplicate_of": outcome.duplicate_of_delivery,
            }
            step.deliver(run.arrivals([item], numbers, **about))
    if outcome is None:
        work = _Large(run, item, texts)
        work.append_all(pool)
        outcome = work.publish(time.perf_counter() - started)
    run.tell(item, outcome)
    run.report(item.name)


class _Large:
    """One large text on its way."""

    def __init__(self, run: Run, item: Item, texts: pl.DataFrame) -> None:
        self._run = run
        self._item = item
        self._texts = texts
        self._load = int(texts["load"][0])
        self._file = texts["file"][0]
        self._account = Account()
        self._taken: list[pl.DataFrame] = []  #: line, stored, record of what was taken in
        self._told: list[pl.DataFrame] = []
        self._told_count = 0
        self._days = 0
        self._fatal = pl.DataFrame(schema={"source": pl.String, "error": pl.String})

    def append_all(self, pool: Executor) -> None:
        """Parse and append piece after piece, the next being parsed while one is appended."""
        text = self._item.text
        assert text is not None  # noqa: S101 - for the type checker
        stream: Any = text.data
        with stream:
            pieces = _pieces(self._run.parser_for(self._item), text)
            future = pool.submit(next, pieces, None)
            while (part := future.result()) is not None:
                future = pool.submit(next, pieces, None)
                try:
                    self._append(part)
                except BaseException:
                    future.cancel()
                    future.exception()  # the thread reads from the stream: wait for it
                    raise
                self._run.report(self._item.name, days=self._days, more_bytes=_position(stream))

    def _append(self, part: Prepared) -> None:
        """One piece, one short transaction."""
        known_fatal = not self._fatal.is_empty()
        self._fatal = pl.concat([self._fatal, part.fatal]).head(1)
        with self._run.sink.step(durable=False) as step:
            step.hold([self._load])
            if not part.twins.is_empty():
                self._take_back(step, part.twins)
            if self._fatal.is_empty():
                self._append_records(step, part)
            else:
                if not known_fatal:
                    step.withdraw(self._load)
                self._taken.append(_lines(part.days, "300"))
                self._taken.append(_lines(part.reads, "250"))
                self._count(part, step)
            step.records(self._owned(part.bad))
            step.findings(self._owned(part.findings))
        self._days += part.days.height
        if self._told_count < FINDINGS_TOLD:
            self._told.append(part.findings.head(FINDINGS_TOLD - self._told_count))
            self._told_count += self._told[-1].height

    def _append_records(self, step: Step, part: Prepared) -> None:
        days = step.days(self._owned(part.days), [self._load])
        reads = step.reads(self._owned(part.reads), [self._load])
        step.events(self._owned(part.events))
        self._account.add(part, days, reads)
        self._taken.append(_lines(days, "300"))
        self._taken.append(_lines(reads, "250"))
        tell_conflicts(self._run, days.filter("conflict"))

    def _count(self, part: Prepared, step: Step) -> None:
        """Count a piece of a text that is rejected as a whole: nothing is taken in."""
        none = pl.lit(value=False)
        empty_days = part.days.clear().with_columns(stored=none, conflict=none)
        empty_reads = part.reads.clear().with_columns(stored=none, conflict=none)
        self._account.add(part, empty_days, empty_reads)

    def _take_back(self, step: Step, twins: pl.DataFrame) -> None:
        """What earlier pieces held turns out to be twins (I009, A010): into the quarantine."""
        for record, of, rule in (("300", "days", "I009"), ("250", "reads", "A010")):
            lines = twins.filter(pl.col("record") == record)["line"].unique().to_list()
            taken = pl.concat(self._taken)
            is_gone = (pl.col("record") == record) & pl.col("line").is_in(lines)
            gone = taken.filter(is_gone)
            if gone.is_empty():
                continue
            self._taken = [taken.filter(~is_gone)]
            stored = int(gone["stored"].sum())
            self._account.take_back(
                self._item.name, of, stored=stored, unchanged=gone.height - stored
            )
            step.take_back(self._load, gone["line"].to_list())
            self._reject(step, gone["line"].to_list(), [rule])

    def _reject(self, step: Step, lines: list[int], rules: list[str]) -> None:
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
                self._account.add_bad(bad)

    def publish(self, seconds: float) -> FileOutcome:
        """The last transaction: the text becomes visible whole, or is rejected whole."""
        with self._run.sink.step() as step:
            step.hold([self._load])
            sha256 = self._item.sha256 or ""
            known = step.recognise([sha256]).get(sha256)
            if known is not None and known.seen is Seen.LOADED:
                number = self._texts["delivery"][0]
                step.forfeit(self._load, number, known)
                return duplicate(self._item, known, number)
            if not self._fatal.is_empty():
                self._account.reject_all(self._item.name)
                rule = str(self._fatal["error"][0]).partition(":")[0]
                self._reject(step, pl.concat(self._taken)["line"].to_list(), [rule])
            results = self._run.results(self._account, self._texts, self._fatal)
            seq, at = step.finish(results)
        row = results.select(TOLD).row(0)
        self._run.published(seq, at, [] if results["state"][0] == "rejected" else [self._load])
        rules = {rule: count for _, rule, count in self._account.rules().iter_rows()}
        findings = pl.concat(self._told) if self._told else pl.DataFrame(schema=FINDINGS)
        return told(row, rules, findings if findings.height else None, seconds)

    def _owned(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(
            load=pl.lit(self._load, pl.Int64), file=pl.lit(self._file, pl.Int64)
        )


def _pieces(parser: Parser, text: Any) -> Iterator[Prepared]:
    for data in parser.chunks(text, PIECE_BYTES):
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
