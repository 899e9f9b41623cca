"""Load: from paths to published days, with an account of every one.

How: texts are gathered into batches (many small texts, parsed in one pass) or taken alone (a large
text, parsed in pieces). While one batch or piece is appended, the next is being parsed in a
thread. A batch is one short transaction; the pieces of a large text are one each, under a load
nobody sees until the last.

Look next: ``batch.py`` and ``large.py`` for the two ways, ``sinks.py`` for store or dry run.
"""

from __future__ import annotations

import functools
import os
import socket
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from nemflow.errors import ArchiveRefused, NemflowError, UsageError
from nemflow.events import LoadCleared
from nemflow.intake.archive import Limits
from nemflow.mdff.reader import Parser
from nemflow.pipeline.batch import Batch, load_batch, parse_batch
from nemflow.pipeline.dry import DrySink
from nemflow.pipeline.large import load_large
from nemflow.pipeline.outcome import LoadSummary
from nemflow.pipeline.reviewing import Told
from nemflow.pipeline.run import Run
from nemflow.pipeline.sinks import StoreSink
from nemflow.pipeline.unpack import Item, given_files, unpacked
from nemflow.store import leases
from nemflow.store.review import AFTER_DAYS
from nemflow.store.tables import MARKET_OFFSET

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nemflow.events import Hook, ProgressHook
    from nemflow.store import Store

#: A batch of small texts is closed at so many bytes, or so many texts.
BATCH_BYTES = 8 * 1024 * 1024
BATCH_TEXTS = 2500


def load(
    store: Store | None,
    paths: str | Path | Iterable[str | Path],
    *,
    profile: str | None = "portal",
    dry_run: bool = False,
    progress: ProgressHook | None = None,
    limits: Limits | None = None,
    value_limits: Mapping[tuple[str, str], Decimal] | None = None,
    participant: str | None = None,
    now: datetime | None = None,
    hook: Hook | None = None,
    sender: str | None = None,
    channel: str = "cli",
    review_after: int = AFTER_DAYS,
) -> LoadSummary:
    """Load files, folders (recursively) and archives; see the package's promises.

    Args:
        store: where to; None only with ``dry_run`` (as if the store were empty).
        paths: files or folders. A missing one -> ``UsageError`` before anything is loaded.
        profile: rule profile, ``portal`` or ``b2b``; None: ``b2b`` for aseXML, else ``portal``.
        dry_run: the same parsing, recognition and account; writes nothing.
        progress: called with ``events.Progress`` as work goes on, in this thread.
        limits: how far archives are opened; None: defaults.
        value_limits: largest plausible value by (suffix or ``"*"``, unit), for rule I007.
        participant: our participant id, for rule F008; None: not checked.
        now: what "today" is for the rules (aware), and the stamp of the ledger; None: the clock.
        hook: called with each event of ``nemflow.events``, after its commit.
        sender: who sent it, for the ledger; None: the envelope's From, else the header's.
        channel: how it came, for the ledger.
        review_after: after so many days a substitute in place of an actual is a review event.

    Returns:
        One ``FileOutcome`` per file or archive member, and per container that was refused.

    Raises:
        UsageError: a path is missing, the profile unknown.
        StoreError: the store cannot do it; files finished before it are loaded, the rest are not.
        KeyboardInterrupt: as it came, after the open loads were cleared.
    """
    started = time.perf_counter()
    if store is None and not dry_run:
        raise UsageError("There is no store to load into.", hint="Open one, or ask for a dry run.")
    given = given_files([paths] if isinstance(paths, str | Path) else paths)
    if store is not None:
        own = store.own_files
        given = [
            found
            for found in given
            if isinstance(found, ArchiveRefused) or found[0].resolve() not in own
        ]
    moment = now or datetime.now(MARKET_OFFSET)
    token = new_token()
    parsers = {
        name: Parser(profile=name, now=moment, value_limits=value_limits, participant=participant)
        for name in ({profile} if profile else {"portal", "b2b"})
    }
    if store is not None and not dry_run:
        reconcile(store, hook=hook)
        sink: StoreSink | DrySink = StoreSink(store, token, moment, review_after)
    else:
        sink = DrySink(store, moment, review_after)
    told = Told(store, sink)
    run = Run(sink, parsers, moment, channel=channel, sender=sender, hook=hook, progress=progress)
    run.measure(given)
    try:
        _work(run, unpacked(given, limits or Limits()))
        run.close_containers()
    except BaseException as error:
        if store is not None and not dry_run:
            _abandon(store, token, error)
        raise
    if store is not None and not dry_run:
        store.backend.settle()
    return LoadSummary(
        files=tuple(told.with_reviews(run.outcomes)),
        dry_run=dry_run,
        seconds=time.perf_counter() - started,
    )


def _work(run: Run, items: Iterable[Item]) -> None:
    """Take the texts one batch or large text after the other, parsing one ahead."""
    with ThreadPoolExecutor(1, thread_name_prefix="parse") as pool:
        ahead: tuple[Batch, Future[None]] | None = None
        try:
            for batch in _batches(items):
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


def _batches(items: Iterable[Item]) -> Iterable[Batch]:
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
        if size >= BATCH_BYTES or len(gathered) >= BATCH_TEXTS:
            yield Batch(gathered)
            gathered, size = [], 0
    if gathered:
        yield Batch(gathered)


# -- loads that died --------------------------------------------------------------------------


def new_token() -> str:
    """A lease token: it tells who holds it, so that a dead holder is found out at once."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"


def reconcile(store: Store, *, hook: Hook | None = None) -> int:
    """Clear the rows of loads whose process died; returns how many deliveries were closed.

    A load is dead when its process was on this machine and is gone, or when its lease has run
    out. ``load`` does this by itself first; call it to tidy up without loading.
    """
    held = store.backend.look(lambda conn: leases.leases(conn, store.backend))
    closed = 0
    for token, seconds_left in held.items():
        if _is_dead(token, seconds_left):
            loads, count = store.backend.transact(functools.partial(_clear, token))
            closed += count
            if hook is not None:
                hook(LoadCleared(tuple(loads), count))
    return closed


def _clear(token: str, conn: sa.Connection) -> tuple[list[int], int]:
    why = "The loading process ended before it was done; load it again."
    return leases.clear(conn, token, why=why, state="dead")


def _is_dead(token: str, seconds_left: float) -> bool:
    """Whether who holds the lease is gone.

    Of a process on this machine we know; it may be slow, or asleep, for an hour. Of others we
    only know that their lease ran out.
    """
    host, _, rest = token.partition(":")
    number = rest.partition(":")[0]
    if host != socket.gethostname() or not number.isdigit() or os.name != "posix":
        return seconds_left < 0
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it is there, and not ours
    return seconds_left < -3600


def _abandon(store: Store, token: str, error: BaseException) -> None:
    """Clear what this run left open, so that nothing waits for the lease to run out."""
    stopped = isinstance(error, KeyboardInterrupt)
    why = "Stopped by hand." if stopped else f"{error}" or type(error).__name__
    try:
        with store.backend.writing() as conn:
            state = "cancelled" if stopped else "dead"
            leases.clear(conn, token, why=why, state=state)
    except NemflowError:
        return  # the next load, or reconcile, clears it
