"""One run of ``load``: what it knows, what it has told so far.

Why: batches and large texts come one after the other and share the ledger's view of the run:
which containers were delivered, which texts were met before, how far it is.

Promises: owns no SQL and no parsing; everything written goes through a sink's step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from nemflow.errors import FileRefused
from nemflow.events import FileFinished, LoadPublished, Progress, reason_of, tell
from nemflow.mdff.meterdata import MARKET
from nemflow.pipeline.outcome import NONE_READ, Counts, FileOutcome
from nemflow.pipeline.stages import Stages
from nemflow.store import ledger

if TYPE_CHECKING:
    from nemflow.events import Event, Hook, ProgressHook
    from nemflow.mdff.reader import Parser
    from nemflow.pipeline.account import Account
    from nemflow.pipeline.batch import Batch
    from nemflow.pipeline.sinks import Sink, Step
    from nemflow.pipeline.unpack import Item
    from nemflow.store.resumed import Resumed

_PARTS = ("read", "stored", "unchanged", "rejected")

#: So many findings of one file are told; the store keeps all.
FINDINGS_TOLD = 10_000


@dataclass(frozen=True, slots=True)
class Numbers:
    """Delivery numbers that one step gave out; None in a dry run."""

    items: Mapping[str, int | None]  #: by name
    containers: Mapping[str, int | None]  #: those met for the first time, by name


class Run:
    """What one call of ``load`` shares among its batches."""

    def __init__(
        self,
        sink: Sink,
        parsers: Mapping[str, Parser],
        now: datetime,
        *,
        channel: str,
        sender: str | None,
        hook: Hook | None,
        progress: ProgressHook | None,
        bytes_total: int | None = None,
        chunk_bytes: int | None = None,
        taken_up: Resumed | None = None,
        stages: Stages | None = None,
    ) -> None:
        self.sink = sink
        self.stages = stages or Stages()
        self.now = now
        self.chunk_bytes = chunk_bytes  #: of a large text in one piece; None: the default
        self.outcomes: list[FileOutcome] = []
        self._parsers = parsers
        self._channel = channel
        self._sender = sender
        self._hook = hook
        self._progress = progress
        self._taken_up = taken_up  #: a delivery that is in the ledger already
        self._containers: dict[str, int | None] = {}
        if taken_up is not None and taken_up.members:
            self._containers[taken_up.name] = taken_up.delivery
        self._met: set[str] = set()  #: texts of this run, by hash
        self._told: dict[str, FileOutcome] = {}  #: what became of them
        self._bytes_total = bytes_total
        self._bytes_done = 0
        self._days_done = 0
        self._open_top = ""

    # -- what is known ------------------------------------------------------------------------

    def parser_for(self, item: Item) -> Parser:
        """The parser of the item's rule profile."""
        if len(self._parsers) == 1:
            return next(iter(self._parsers.values()))
        is_message = item.text is not None and item.text.envelope is not None
        return self._parsers["b2b" if is_message else "portal"]

    def recognise(self, batch: Batch) -> None:
        """Note which texts of a batch need no parsing: they stand, or were met in this run."""
        for item in batch.items:
            if item.sha256 is not None and self.met_before(item.sha256):
                batch.repeated.add(item.name)
        hashes = [item.sha256 for item in batch.fresh if item.sha256]
        for sha256, known in self.sink.peek(hashes).items():
            if known.seen is ledger.Seen.LOADED:
                batch.standing[sha256] = known

    def met_before(self, sha256: str) -> bool:
        """Whether this run has met the same text before; from now on it has."""
        if sha256 in self._met:
            return True
        self._met.add(sha256)
        return False

    def first_outcome(self, sha256: str, known: ledger.Known | None) -> FileOutcome:
        """What became of the text when it was met first in this run."""
        first = self._told.get(sha256)
        if first is None:  # another process loaded it in between
            assert known is not None  # noqa: S101 - for the type checker
            return FileOutcome("", "duplicate", sha256, known.file, known.delivery)
        return first

    # -- what is written ----------------------------------------------------------------------

    def number(self, step: Step, items: Sequence[Item]) -> Numbers:
        """Give every item, and every container met for the first time, its delivery number.

        Numbers follow the order in which things were given. The containers are delivered; ``keep``
        the numbers when the step is saved.
        """
        new: dict[str, Item] = {}
        there: dict[tuple[str, bool], int | None] = {}
        names: list[tuple[str, bool]] = []
        for item in items:
            if item.in_container and item.top not in self._containers and item.top not in new:
                new[item.top] = item
                names.append((item.top, True))
                if self._taken_up is not None:
                    there[item.top, True] = self._taken_up.delivery
            names.append((item.name, False))
            if (number := self._number_of(item, inside=item.top in new)) is not None:
                there[item.name, False] = number
        missing = [name for name in names if name not in there]
        if missing:
            there |= zip(missing, step.numbers(len(missing)), strict=True)
        containers = {top: there[top, True] for top in new}
        if new and self._taken_up is None:
            about = [_fingerprint(item.path) for item in new.values()]
            frame = pl.DataFrame(
                {
                    "id": list(containers.values()),
                    "name": list(new),
                    "sha256": [sha256 for sha256, _ in about],
                    "size": [size for _, size in about],
                    "profile": [self.parser_for(item).profile for item in new.values()],
                    "state": ["loading"] * len(new),
                },
                schema_overrides=ledger.ARRIVAL,
            )
            step.deliver(self._dated(frame))
        return Numbers(
            {name: number for (name, is_top), number in there.items() if not is_top}, containers
        )

    def _number_of(self, item: Item, *, inside: bool) -> int | None:
        """The number an item has already; None: it has none, or nothing was taken up.

        ``inside``: members of its file were met before it, so it is one itself (what could not be
        read of an archive) although it has the archive's name.
        """
        if self._taken_up is None:
            return None
        if item.name in self._taken_up.members:
            return self._taken_up.members[item.name].id
        inside = inside or item.in_container or item.top in self._containers
        return None if inside else self._taken_up.delivery

    def stands(self, item: Item) -> bool:
        """Whether an earlier attempt has taken it in; then it is let go of, and counted."""
        if self._taken_up is None or item.name not in self._taken_up.members:
            return False
        if not self._taken_up.members[item.name].stands:
            return False
        self._advance(item)
        _close(item)
        return True

    def keep(self, numbers: Numbers) -> None:
        """Know the containers that a step delivered; for after it is saved."""
        self._containers.update(numbers.containers)

    def arrivals(self, items: Sequence[Item], numbers: Numbers, **columns: Any) -> pl.DataFrame:
        """One delivery row per item; ``columns`` say what the items do not."""
        containers = {**self._containers, **numbers.containers}
        parents = [containers.get(item.top) for item in items]
        frame = pl.DataFrame(
            {
                "id": [numbers.items[item.name] for item in items],
                "parent": parents,
                "name": [item.name for item in items],
                "sha256": [item.sha256 for item in items],
                "size": [item.size for item in items],
                "profile": self._profiles(items),
                **columns,
            },
            schema_overrides=ledger.ARRIVAL,
        )
        return self._dated(frame)

    def _profiles(self, items: Sequence[Item]) -> list[str]:
        if len(self._parsers) == 1:
            return [next(iter(self._parsers.values())).profile] * len(items)
        return [self.parser_for(item).profile for item in items]

    def begin(
        self,
        step: Step,
        arrivals: pl.DataFrame,
        known: Mapping[str, ledger.Known],
    ) -> pl.DataFrame:
        """Give each arriving text its file and its load: source, delivery, file, load, ..."""
        files = {sha256: found.file for sha256, found in known.items()}
        texts = arrivals.select(
            "name", "sha256", "size", "profile", source="name", delivery="id"
        ).with_columns(
            file=pl.col("sha256").replace_strict(files, default=None, return_dtype=pl.Int64)
            if files
            else pl.lit(None, pl.Int64)
        )
        return step.begin(texts)

    def results(self, account: Account, texts: pl.DataFrame, fatal: pl.DataFrame) -> pl.DataFrame:
        """The account of these texts, and who sent them: as told, else envelope, else header."""
        given = pl.lit(self._sender, pl.String)
        return account.results(texts, fatal).with_columns(
            sent_by=pl.coalesce(given, "sender", "from_participant")
        )

    def _dated(self, frame: pl.DataFrame) -> pl.DataFrame:
        final = pl.col("state").ne_missing("loading")
        now = pl.lit(self.now).cast(pl.Datetime("us", MARKET))
        return frame.with_columns(
            channel=pl.lit(self._channel),
            sender=pl.lit(self._sender, pl.String),
            received_at=now,
            finished_at=pl.when(final).then(now),
        )

    def close_containers(self) -> None:
        """Give every container the state its members add up to."""
        numbers = [number for number in self._containers.values() if number is not None]
        if numbers:
            self.sink.run(lambda step: step.containers(numbers))

    # -- what is told -------------------------------------------------------------------------

    def tell(self, item: Item, outcome: FileOutcome) -> None:
        """Add an outcome to the summary and tell the hook."""
        self.outcomes.append(outcome)
        if outcome.sha256 is not None:
            self._told.setdefault(outcome.sha256, outcome)
        self._advance(item)
        self._days_done += outcome.days.read
        _close(item)
        self.emit(
            lambda: FileFinished(
                outcome.source,
                outcome.sha256,
                outcome.state,
                *(outcome.days.read, outcome.days.stored),
                *(outcome.days.unchanged, outcome.days.rejected),
                *(outcome.reads.read, outcome.reads.stored),
                *(outcome.reads.unchanged, outcome.reads.rejected),
                rules=tuple(outcome.rules.items()),
                reason=reason_of(outcome.error, dict(outcome.rules)),
                bytes=item.size,
                dry_run=outcome.delivery is None,
            )
        )

    def emit(self, event: Any) -> None:
        """Tell the hook; ``event`` is called only when somebody listens."""
        if self._hook is not None:
            made: Event = event()
            tell(self._hook, made)

    def published(self, seq: int, at: datetime, loads: Sequence[int]) -> None:
        """Tell that loads became visible."""
        if seq:
            self.emit(lambda: LoadPublished("published", seq, at.isoformat(), tuple(loads)))

    # -- how far it is ------------------------------------------------------------------------

    def _advance(self, item: Item) -> None:
        """Count the bytes of a file that is done; a container with its first member."""
        if item.name == item.top:
            self._bytes_done += item.size
        elif item.top != self._open_top and self._progress is not None:
            self._bytes_done += item.path.stat().st_size if item.path.exists() else 0
            self._open_top = item.top

    def report(self, source: str, *, days: int = 0, more_bytes: int = 0) -> None:
        """Tell how far the run is; ``days`` and ``more_bytes`` are of a text not finished yet."""
        if self._progress is not None:
            self._progress(
                Progress(
                    source,
                    len(self.outcomes),
                    self._days_done + days,
                    self._bytes_done + more_bytes,
                    self._bytes_total,
                )
            )


def _close(item: Item) -> None:
    """Let go of its bytes."""
    if item.text is not None and not isinstance(item.text.data, bytes):
        item.text.data.close()
    if item.close is not None:
        item.close()


def refused(item: Item, error: FileRefused, delivery: int | None) -> FileOutcome:
    """The outcome of something that could not be opened."""
    from nemflow.library import refusal

    return FileOutcome(
        source=item.name,
        state="rejected",
        delivery=delivery,
        rules={error.rule: 1},
        error=f"{error.rule}: {error.message}",
        findings=refusal(error, "portal").findings.with_columns(source=pl.lit(item.name)),
    )


def duplicate(item: Item, known: ledger.Known, delivery: int | None) -> FileOutcome:
    """The outcome of a text whose load still stands."""
    return FileOutcome(
        source=item.name,
        state="duplicate",
        sha256=item.sha256,
        file=known.file,
        delivery=delivery,
        duplicate_of=f"delivery {known.delivery}, {known.name}",
        duplicate_of_delivery=known.delivery,
    )


def repeated(item: Item, first: FileOutcome, delivery: int | None) -> FileOutcome:
    """The outcome of a text that came twice in one run."""
    if first.state == "rejected":
        return FileOutcome(
            source=item.name,
            state="rejected",
            sha256=item.sha256,
            file=first.file,
            delivery=delivery,
            error=f"the same text as {first.source}, which was rejected: {first.error}",
        )
    name = first.source if first.delivery is None else f"delivery {first.delivery}, {first.source}"
    return FileOutcome(
        source=item.name,
        state="duplicate",
        sha256=item.sha256,
        file=first.file,
        delivery=delivery,
        duplicate_of=first.duplicate_of or name,
        duplicate_of_delivery=first.duplicate_of_delivery or first.delivery,
    )


#: The columns of ``Account.results`` that ``told`` takes, in its order.
TOLD = (
    *("source", "state", "sha256", "file", "delivery"),
    *(f"{of}_{part}" for of in ("days", "reads") for part in _PARTS),
    *("conflicts", "error"),
)


def told(
    row: Sequence[Any],
    rules: Mapping[str, int],
    findings: pl.DataFrame | None,
    seconds: float,
) -> FileOutcome:
    """A row of ``Account.results`` (columns ``TOLD``) as an outcome."""
    return FileOutcome(
        source=row[0],
        state=row[1],
        sha256=row[2],
        file=row[3],
        delivery=row[4],
        days=Counts(row[5], row[6], row[7], row[8]),
        reads=Counts(row[9], row[10], row[11], row[12]) if row[9] else NONE_READ,
        rules=rules,
        conflicts=row[13],
        error=row[14],
        findings=findings,
        seconds=seconds,
    )


def _fingerprint(path: Path) -> tuple[str | None, int | None]:
    """SHA-256 and size of a container as it was delivered."""
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return digest, stream.tell()
    except OSError:
        return None, None
