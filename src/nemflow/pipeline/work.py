"""What one process does: from files to published days.

How: texts are gathered into batches (many small texts, parsed in one pass) or taken alone (a large
text, parsed in pieces). While one batch or piece is appended, the next is being parsed in a
thread. A batch is one short transaction; the pieces of a large text are one each, under a load
nobody sees until the last.

Promises: nothing here knows whether it is the only process or one of several.

Look next: ``batch.py`` and ``large.py`` for the two ways, ``sinks.py`` for store or dry run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from nemflow.errors import ArchiveRefused, SpoolFault
from nemflow.intake.archive import Limits
from nemflow.intake.blob import out_of_reach
from nemflow.mdff.asexml import XmlLimits
from nemflow.mdff.reader import Parser
from nemflow.pipeline.batch import Batch, load_batch, parse_batch
from nemflow.pipeline.garbage import seldom
from nemflow.pipeline.large import load_large
from nemflow.pipeline.run import Run
from nemflow.pipeline.stages import Stages
from nemflow.pipeline.unpack import Item, unpacked

if TYPE_CHECKING:
    from nemflow.events import Hook, ProgressHook
    from nemflow.pipeline.outcome import FileOutcome
    from nemflow.pipeline.sinks import Sink
    from nemflow.store.resumed import Resumed

#: A batch of small texts is closed at so many bytes, or so many texts.
BATCH_BYTES = 8 * 1024 * 1024
BATCH_TEXTS = 5000

#: Files with the names they were given under, as ``unpack.given_files`` lists them.
Given = Sequence[tuple[Path, str] | ArchiveRefused]


@dataclass(frozen=True, slots=True)
class How:
    """How to load, as values that another process can be given; see ``loading.load``."""

    profile: str | None
    limits: Limits
    xml_limits: XmlLimits
    value_limits: Mapping[tuple[str, str], Decimal]
    participant: str | None
    now: datetime
    sender: str | None
    channel: str
    review_after: int
    batch_bytes: int
    chunk_bytes: int

    def parsers(self) -> dict[str, Parser]:
        """A parser for each rule profile that may be needed."""
        return {
            name: Parser(
                profile=name,
                now=self.now,
                value_limits=self.value_limits,
                participant=self.participant,
            )
            for name in ({self.profile} if self.profile else {"portal", "b2b"})
        }


def load_given(
    sink: Sink,
    given: Given,
    how: How,
    *,
    size: int | None = None,
    hook: Hook | None = None,
    progress: ProgressHook | None = None,
    taken_up: Resumed | None = None,
    stages: Stages | None = None,
) -> list[FileOutcome]:
    """Load these files one after the other; what became of each, members in archive order.

    ``taken_up``: the one file given is a delivery that is in the ledger already; what an earlier
    attempt has taken in of it is passed over. ``stages``: learns what took how long. Whatever it
    raises, the caller clears what is left open under the sink's token.
    """
    run = Run(
        sink,
        how.parsers(),
        how.now,
        channel=how.channel,
        sender=how.sender,
        hook=hook,
        progress=progress,
        bytes_total=size,
        chunk_bytes=how.chunk_bytes,
        taken_up=taken_up,
        stages=stages,
    )
    items = unpacked(given, how.limits, how.xml_limits, most_whole=how.chunk_bytes)
    if taken_up is not None:
        items = (_in_reach(item) for item in items if not run.stands(item))
    with seldom():
        _work(run, items, how.batch_bytes)
    run.close_containers()
    return run.outcomes


def _in_reach(item: Item) -> Item:
    """Of what came through the service. Raises SpoolFault: its original cannot be read now."""
    if item.error is not None and out_of_reach(item.error):
        raise SpoolFault(
            f"The original of {item.name} cannot be read: {item.error}",
            hint="Is the spool's disk there?",
        ) from item.error
    return item


def size_of(given: Given) -> int:
    """The bytes of these files on disk."""
    return sum(size_of_one(found) for found in given)


def size_of_one(found: tuple[Path, str] | ArchiveRefused) -> int:
    """The bytes of one of them; 0 when it cannot be had."""
    if isinstance(found, ArchiveRefused):
        return 0
    try:
        return found[0].stat().st_size if found[0].is_file() else 0
    except OSError:
        return 0


def _work(run: Run, items: Iterable[Item], batch_bytes: int) -> None:
    """Take the texts one batch or large text after the other, parsing one ahead."""
    with ThreadPoolExecutor(1, thread_name_prefix="parse") as pool:
        ahead: tuple[Batch, Future[None]] | None = None
        try:
            for batch in _batches(items, batch_bytes):
                if batch.is_large:
                    if ahead is not None:
                        ahead[1].result()
                        load_batch(run, ahead[0])
                        ahead = None
                    load_large(run, batch.items[0], pool)
                    continue
                run.recognise(batch)
                future = pool.submit(parse_batch, run, batch)
                if ahead is not None:
                    ahead[1].result()
                    load_batch(run, ahead[0])
                ahead = batch, future
            if ahead is not None:
                ahead[1].result()
                load_batch(run, ahead[0])
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _batches(items: Iterable[Item], batch_bytes: int) -> Iterable[Batch]:
    """Small texts together, large ones alone, in order."""
    gathered: list[Item] = []
    size = 0
    for item in items:
        if item.is_large:
            if gathered:
                yield Batch(gathered)
            yield Batch([item])
            gathered, size = [], 0
            continue
        gathered.append(item)
        size += item.size
        if size >= batch_bytes or len(gathered) >= BATCH_TEXTS:
            yield Batch(gathered)
            gathered, size = [], 0
    if gathered:
        yield Batch(gathered)
