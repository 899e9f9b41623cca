"""Load: from paths to published days, with an account of every one.

How: files are listed, what dead loads left is cleared, and the files are loaded, by this process or
by several; then the account is told. Who holds which lease, and who is dead, is known here too.

Look next: ``work.py`` for what one process does, ``parallel.py`` for several, ``sizing.py`` for
how many and how large.
"""

from __future__ import annotations

import functools
import os
import socket
import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from nemflow.errors import ArchiveRefused, NemflowError, UsageError
from nemflow.events import About, LeaseExpired, LoadCleared, tell
from nemflow.intake.archive import Limits
from nemflow.mdff.asexml import XmlLimits
from nemflow.pipeline import large, work
from nemflow.pipeline.dry import DrySink
from nemflow.pipeline.outcome import LoadSummary
from nemflow.pipeline.reviewing import Told
from nemflow.pipeline.sinks import StoreSink
from nemflow.pipeline.sizing import Memory, Plan, Sizes, cores, free_memory, plan
from nemflow.pipeline.unpack import given_files
from nemflow.pipeline.work import How, load_given, size_of
from nemflow.store import leases
from nemflow.store.review import AFTER_DAYS
from nemflow.store.tables import MARKET_OFFSET

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nemflow.events import Hook, ProgressHook
    from nemflow.store import Store

#: A process is begun for no less than this: beginning one takes as long as loading so much.
WORTH_A_PROCESS = 8 * 1024 * 1024


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
    jobs: int | None = 1,
    batch_bytes: int | None = None,
    chunk_bytes: int | None = None,
    xml_limits: XmlLimits | None = None,
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
        jobs: how many processes load at the same time; None: as many as the store, the files, the
            processors and half of the free memory allow (one on SQLite). An archive is one
            process's work; a dry run is always one. They are spawned: a script that asks for more
            than one needs ``if __name__ == "__main__":``.
        batch_bytes: small texts are loaded together up to this size; None: 8 MiB, or less when
            memory is short.
        chunk_bytes: large texts are read in pieces of this size; None: 8 MiB, or less.
        xml_limits: how much of an aseXML message is read; None: defaults.

    Returns:
        One ``FileOutcome`` per file or archive member, and per container that was refused, in the
        order given. A file whose process was killed has the state ``dead``; nothing of it is open.

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
    if store is not None and not dry_run:
        reconcile(store, hook=hook)
        sink: StoreSink | DrySink = StoreSink(store, token, moment, review_after)
    else:
        sink = DrySink(store, moment, review_after)
    told = Told(store, sink)
    size = size_of(given)
    _, chosen = plan_of(
        Sizes(jobs, batch_bytes, chunk_bytes),
        one_writer=store is None or dry_run or store.backend.pool is None,
        files=min(len(given), -(-size // WORTH_A_PROCESS)),
    )
    how = How(
        profile=profile,
        limits=limits or Limits(),
        xml_limits=xml_limits or XmlLimits(),
        value_limits=dict(value_limits or {}),
        participant=participant,
        now=moment,
        sender=sender,
        channel=channel,
        review_after=review_after,
        batch_bytes=chosen.batch_bytes,
        chunk_bytes=chosen.chunk_bytes,
    )
    if chosen.jobs > 1 and store is not None and not dry_run:
        from nemflow.pipeline.parallel import load_in_parallel

        outcomes = load_in_parallel(
            store, given, how, chosen.jobs, size=size, hook=hook, progress=progress
        )
    else:
        try:
            outcomes = load_given(sink, given, how, size=size, hook=hook, progress=progress)
        except BaseException as error:
            if store is not None and not dry_run:
                abandon(store, token, error)
            raise
    if store is not None and not dry_run:
        store.backend.settle()
    return LoadSummary(
        files=tuple(told.with_reviews(outcomes, several=chosen.jobs > 1)),
        dry_run=dry_run,
        seconds=time.perf_counter() - started,
    )


def plan_of(sizes: Sizes, *, one_writer: bool, files: int | None = None) -> tuple[Memory, Plan]:
    """The memory that is free, and how a load of so many files (None: many) is divided.

    ``one_writer``: the store takes one loader at a time.
    """
    memory = free_memory()
    chosen = plan(
        sizes,
        memory,
        files=cores() if files is None else files,
        cores=cores(),
        most_jobs=1 if one_writer else None,
        default=Plan(1, work.BATCH_BYTES, large.PIECE_BYTES),
    )
    return memory, chosen


# -- loads that died --------------------------------------------------------------------------


def new_token() -> str:
    """A lease token: it tells who holds it, so that a dead holder is found out at once."""
    number = os.getpid()
    return f"{_place()}:{number}:{_began(number)}:{uuid.uuid4().hex}"


def _place() -> str:
    """Where process numbers are ours to judge: this host, boot and process namespace.

    A host name alone does not say it: containers may share one, and so may copies of a machine.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()  # a system without them


def _began(number: int) -> str:
    """When a process began, in ticks of this machine's clock; empty where that is not told.

    In a container that starts again the process has the number that the killed one had.
    """
    try:
        status = Path(f"/proc/{number}/stat").read_bytes()
    except OSError:
        return ""
    return status.rpartition(b")")[2].split()[19].decode()


def reconcile(store: Store, *, hook: Hook | None = None) -> int:
    """Clear the rows of loads whose process died; returns how many deliveries were closed.

    A load is dead when its process was on this machine (and in this container, since it was
    started) and is gone, or when its lease has run out. ``load`` does this by itself first; call
    it to tidy up without loading.
    """
    held = store.backend.look(lambda conn: leases.leases(conn, store.backend))
    closed = 0
    for token, seconds_left in held.items():
        if _is_dead(token, seconds_left):
            lost, loads, count = store.backend.transact(functools.partial(_clear, token))
            closed += count
            tell(hook, LoadCleared(tuple(loads), count))
            for number, attempt in lost:
                tell(hook, LeaseExpired(About(number), attempt))
    return closed


def _clear(token: str, conn: sa.Connection) -> tuple[list[tuple[int, int]], list[int], int]:
    why = "The loading process ended before it was done; load it again."
    lost = leases.worked_on(conn, token)
    return lost, *leases.clear(conn, token, why=why, state="dead")


def _is_dead(token: str, seconds_left: float) -> bool:
    """Whether who holds the lease is gone.

    Of a process whose number means the same to us we know; it may be slow, or asleep, for an hour.
    Of others we only know that their lease ran out.
    """
    place, _, rest = token.partition(":")
    number, _, rest = rest.partition(":")
    began, told, _ = rest.rpartition(":")
    if place != _place() or not number.isdigit() or os.name != "posix":
        return seconds_left < 0
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it is there, and not ours
    if told and began and _began(int(number)) not in {"", began}:
        return True  # another process has its number by now
    return seconds_left < -3600


def abandon(store: Store, token: str, error: BaseException) -> None:
    """Clear what this run left open, so that nothing waits for the lease to run out."""
    stopped = isinstance(error, KeyboardInterrupt)
    why = "Stopped by hand." if stopped else f"{error}" or type(error).__name__
    try:
        with store.backend.writing() as conn:
            state = "cancelled" if stopped else "dead"
            leases.clear(conn, token, why=why, state=state)
    except NemflowError:
        return  # the next load, or reconcile, clears it
