"""Replay: read quarantined records again from their stored raw text.

Why: after a rule, a profile or the text was mended, a rejected day must find its way in without
the sender sending anything.

Promises: each record is read alone, under the 100 and 200 it stood under; what passes now is
published as a further load of the same file and joins that file's account, which balances before
and after; what does not pass stays where it is. Of two days of one file with one stamp and
different content (I009) a replay never lets both in.

Look next: ``nemflow.store.quarantine``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl

from nemflow.errors import NotFound, UsageError
from nemflow.events import LoadPublished, RecordsReplayed, tell
from nemflow.mdff.reader import Parser, Text
from nemflow.mdff.rules import severity
from nemflow.pipeline.dry import DrySink
from nemflow.pipeline.loading import new_token, reconcile
from nemflow.pipeline.outcome import Counts, FileOutcome, LoadSummary
from nemflow.pipeline.prepare import Prepared, prepared
from nemflow.pipeline.reviewing import Told
from nemflow.pipeline.sinks import Sink, Step, StoreSink
from nemflow.store import history, ledger, quarantine
from nemflow.store.days import KEY
from nemflow.store.registers import PERIOD_KEY
from nemflow.store.review import AFTER_DAYS
from nemflow.store.tables import MARKET_OFFSET

if TYPE_CHECKING:
    from nemflow.events import Hook
    from nemflow.store import Store

_AT_ONCE = 5000  #: records read and published together


def replay(
    store: Store,
    file: int | str | None = None,
    *,
    rule: str | None = None,
    profile: str = "portal",
    edits: Mapping[int, str] | None = None,
    dry_run: bool = False,
    value_limits: Mapping[tuple[str, str], Decimal] | None = None,
    participant: str | None = None,
    now: datetime | None = None,
    by: str | None = None,
    hook: Hook | None = None,
    review_after: int = AFTER_DAYS,
) -> LoadSummary:
    """Read open quarantined records again; what passes now is loaded and joins its file's counts.

    Args:
        store: the store.
        file: only this file's records.
        rule: only records this rule rejected.
        profile: the rule profile to read them under.
        edits: quarantine id -> corrected raw text: the record with its 400 and 500 lines, and
            above it a corrected 200 (or 100 and 200) line where that was at fault. With edits only
            these records are replayed. The original text is kept.
        dry_run: the same account, nothing written.
        value_limits: largest plausible value by (suffix or ``"*"``, unit), for rule I007.
        participant: our participant id, for rule F008; None: not checked.
        now: what "today" is for the rules (aware); None: the clock.
        by: who, for the audit.
        hook: called with each event.
        review_after: as of ``load``.

    Returns:
        One ``FileOutcome`` per file touched. ``days`` and ``reads`` count the replayed records
        only; ``state`` is the file's state afterwards (in a dry run: as it would be).

    Raises:
        NotFound: no such file, or an edit's id is not an open record.
        UsageError: an edit that does not hold exactly one 300 or 250 record; no such profile.
    """
    started = time.perf_counter()
    moment = now or datetime.now(MARKET_OFFSET)
    parser = Parser(profile=profile, now=moment, value_limits=value_limits, participant=participant)
    if not dry_run:
        reconcile(store, hook=hook)
    token = new_token()
    sink: DrySink | StoreSink
    if dry_run:
        sink = DrySink(store, moment, review_after)
    else:
        sink = StoreSink(store, token, moment, review_after)
    told = Told(store, sink)
    records = _wanted(store, file, rule, edits)
    outcomes = []
    for (_,), of_file in records.group_by("file", maintain_order=True):
        for at in range(0, of_file.height, _AT_ONCE):
            job = _Job(store, sink, of_file.slice(at, _AT_ONCE), dict(edits or {}), by, hook)
            outcomes.append(job.run(parser, profile, token, moment))
    if not dry_run:
        store.backend.settle()
    return LoadSummary(
        files=tuple(told.with_reviews(_merged(outcomes))),
        dry_run=dry_run,
        seconds=time.perf_counter() - started,
    )


def _wanted(
    store: Store, file: int | str | None, rule: str | None, edits: Mapping[int, str] | None
) -> pl.DataFrame:
    """The open records that were asked for."""
    with store.backend.reading() as conn:
        found = quarantine.records(
            conn,
            store.backend,
            file_id=None if file is None else history.file_id(conn, file),
            rule=rule,
            ids=None if edits is None else edits.keys(),
        )
    missing = sorted(set(edits or ()) - set(found["quarantine"].to_list()))
    if missing:
        raise NotFound(
            f"Quarantine record {missing[0]} is not open, or there is none of that number.",
            hint="List them with: nemflow quarantine",
        )
    return found


@dataclass
class _Job:
    """The records of one file that are replayed together."""

    store: Store
    sink: Sink
    records: pl.DataFrame
    edits: Mapping[int, str]
    by: str | None
    hook: Hook | None
    names: dict[str, int] = field(default_factory=dict)  #: text's source -> quarantine id

    def run(self, parser: Parser, profile: str, token: str, now: datetime) -> FileOutcome:
        """Read, append, publish; returns the account of these records."""
        started = time.perf_counter()
        about = self.records.row(0, named=True)
        part = self._without_files_faults(prepared(parser.feed(self._texts())), profile)
        part, days, reads, load, (state, seq, at) = self.sink.run(
            lambda step: self._load(step, part, profile)
        )
        kinds = self.records["record"]
        tried_days = _account(int((kinds == "300").sum()), days)
        tried_reads = _account(int((kinds == "250").sum()), reads)
        if seq:
            tell(self.hook, LoadPublished("published", seq, at.isoformat(), (load,)))
        if not isinstance(self.sink, DrySink):
            tell(self.hook, _replayed(tried_days, tried_reads))
        rejected = part.bad.explode("rules").group_by("rules").len().drop_nulls()
        return FileOutcome(
            source=about["source"],
            state=state,
            file=about["file"],
            delivery=about["delivery"],
            days=tried_days,
            reads=tried_reads,
            rules=dict(rejected.sort("rules").iter_rows()),
            conflicts=int(days["conflict"].sum()) + int(reads["conflict"].sum()),
            findings=self._told(part.findings, about["source"]),
            seconds=time.perf_counter() - started,
        )

    def _load(
        self, step: Step, part: Prepared, profile: str
    ) -> tuple[Prepared, pl.DataFrame, pl.DataFrame, int, tuple[str, int, datetime]]:
        """One transaction: append what passes, publish it, resolve its records."""
        about = self.records.row(0, named=True)
        ids = self.records["quarantine"].to_list()
        load = step.begin_replay(about, profile, ids)
        part = self._without_twins(step, part, about["load"])
        own = part.without(part.fatal["source"].to_list())
        days = step.days(self._placed(own.days, load, about["file"]), [load])
        reads = step.reads(self._placed(own.reads, load, about["file"]), [load])
        step.events(self._placed(own.events, load, about["file"], parents=True))
        taken = [*days["source"].to_list(), *reads["source"].to_list()]
        done = step.finish_replay(
            load,
            _counts(days, reads),
            tried=ids,
            taken={self.names[source] for source in taken},
            who=self.by,
        )
        return part, days, reads, load, done

    def _texts(self) -> list[Text]:
        """Each record as a whole little file."""
        texts = []
        for row in self.records.iter_rows(named=True):
            number = row["quarantine"]
            lines = _lines(row, self.edits.get(number))
            source = f"quarantine {number}"
            self.names[source] = number
            data = "".join(f"{line}\r\n" for line in lines).encode()
            texts.append(Text(source, data))
        return texts

    def _placed(
        self, frame: pl.DataFrame, load: int, file: int, *, parents: bool = False
    ) -> pl.DataFrame:
        """Give rows the line numbers they have in the file, and their load."""
        where = pl.DataFrame(
            {
                "source": list(self.names),
                "at": self.records["line"],
                "first": [len(str(context or "").splitlines()) for context in self._contexts()],
            }
        )
        own = pl.col("at") + pl.col("line").cast(pl.Int64) - pl.col("first") - 1
        placed = frame.join(where, on="source", how="left", maintain_order="left")
        if parents:
            placed = placed.with_columns(parent_line=pl.col("at"))
        return placed.with_columns(
            line=own, load=pl.lit(load, pl.Int64), file=pl.lit(file, pl.Int64)
        )

    def _contexts(self) -> list[str]:
        """The lines above the record in the text it was read from."""
        return [
            "\n".join(_split(row, self.edits.get(row["quarantine"]))[0])
            for row in self.records.iter_rows(named=True)
        ]

    def _without_files_faults(self, part: Prepared, profile: str) -> Prepared:
        """Keep out what the file as a whole is rejected for, unless a person edited it."""
        sources = {number: source for source, number in self.names.items()}
        faults = {
            sources[number]: fatal
            for number, rules in self.records.select("quarantine", "rules").iter_rows()
            if number not in self.edits
            and (fatal := [rule for rule in rules if severity(rule, profile) == "F"])
        }
        return self._without(part, faults)

    def _without_twins(self, step: Step, part: Prepared, base: int) -> Prepared:
        """Of one thing under one stamp with different contents in one file, none is let in."""
        for frame, key, rule in ((part.days, KEY, "I009"), (part.reads, PERIOD_KEY, "A010")):
            if frame.is_empty():
                continue
            version = [*key, "version_at"]
            here = frame.select(*version, "content_hash")
            there = step.claims_of_base(frame, base, key)
            several = (
                pl.concat([here, there.select(here.columns)])
                .unique()
                .filter(pl.struct(version).is_duplicated())
            )
            twins = frame.join(several, on=version, how="semi", nulls_equal=True)["source"]
            part = self._without(part, {source: [rule] for source in twins})
        return part

    def _without(self, part: Prepared, faults: Mapping[str, list[str]]) -> Prepared:
        """Move what is accepted of these sources to the rejected, for these rules."""
        accepted = {*part.days["source"], *part.reads["source"]}
        faults = {source: rules for source, rules in faults.items() if source in accepted}
        if not faults:
            return part
        kinds = dict(self.records.select("quarantine", "record").iter_rows())
        bad = pl.DataFrame(
            {
                "source": list(faults),
                "record": [kinds[self.names[source]] for source in faults],
                "rules": list(faults.values()),
            }
        )
        kept = part.without(faults)
        return kept.with_bad(pl.concat([kept.bad, bad], how="diagonal_relaxed"))

    def _told(self, findings: pl.DataFrame, source: str) -> pl.DataFrame | None:
        """Findings about the file's own lines."""
        if findings.is_empty():
            return None
        lines = dict(zip(self.names, self.records["line"].to_list(), strict=True))
        where = pl.col("source").replace_strict(lines, return_dtype=pl.UInt32)
        return findings.filter(pl.col("record").is_not_null()).with_columns(
            line=where, source=pl.lit(source)
        )


def _split(row: Mapping[str, Any], edit: str | None) -> tuple[list[str], list[str]]:
    """The lines above the record, and the record; an edit may correct both."""
    above = str(row["context"] or "").splitlines()
    if edit is None:
        return above, str(row["raw"]).splitlines()
    lines = [line for line in edit.strip().splitlines() if line.strip()]
    corrected = [line for line in lines if line.startswith(("100,", "200,"))]
    below = [line for line in lines if line not in corrected]
    kinds = [line[:4] for line in below if line.startswith(("300,", "250,"))]
    if len(kinds) != 1 or not below[0].startswith(kinds[0]):
        raise UsageError(
            f"The edit of quarantine record {row['quarantine']} must hold exactly one 300 or 250 "
            f"record; it holds {len(kinds)}.",
            hint="Give the record with its 400 and 500 lines, one record per id.",
        )
    by_kind = {line[:4]: line for line in above} | {line[:4]: line for line in corrected}
    return [by_kind[kind] for kind in ("100,", "200,") if kind in by_kind], below


def _lines(row: Mapping[str, Any], edit: str | None) -> list[str]:
    above, below = _split(row, edit)
    return [*above, *below, "900"]


def _counts(days: pl.DataFrame, reads: pl.DataFrame) -> dict[str, int]:
    """What a replay load took in, as ledger counts."""
    counts = dict.fromkeys(ledger.COUNTS, 0)
    for of, frame in (("days", days), ("reads", reads)):
        stored = int(frame["stored"].sum())
        counts |= {
            f"{of}_read": frame.height,
            f"{of}_stored": stored,
            f"{of}_unchanged": frame.height - stored,
        }
    return counts


def _account(tried: int, taken: pl.DataFrame) -> Counts:
    stored = int(taken["stored"].sum())
    return Counts(tried, stored, taken.height - stored, tried - taken.height)


def _replayed(days: Counts, reads: Counts) -> RecordsReplayed:
    return RecordsReplayed(
        *(days.stored, days.unchanged, days.rejected),
        *(reads.stored, reads.unchanged, reads.rejected),
    )


def _merged(outcomes: list[FileOutcome]) -> list[FileOutcome]:
    """Slices of one file as one outcome."""
    merged: dict[int | None, FileOutcome] = {}
    for outcome in outcomes:
        before = merged.get(outcome.file)
        merged[outcome.file] = outcome if before is None else before.plus(outcome)
    return list(merged.values())
