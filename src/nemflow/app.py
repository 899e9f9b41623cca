"""Wires settings to rooms: the spool, the queue and the way of loading that settings ask for.

Why: ``serve``, ``worker`` and the folder must mean the same by the same settings.

Promises: nothing is opened that the caller does not ask for.

Look next: ``nemflow.settings`` for the keys; ``nemflow.cli.serving``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from nemflow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nemflow.events import Hook
    from nemflow.intake.spool import Spool
    from nemflow.jobs import JobQueue
    from nemflow.jobs.side import Side
    from nemflow.pipeline.collecting import Collector
    from nemflow.pipeline.delivering import Delivering
    from nemflow.pipeline.sweeping import Swept
    from nemflow.settings import Settings
    from nemflow.store import Store

SPOOL = "nemflow-spool"


def spool_of(chosen: Settings) -> Spool:
    """The spool in ``spool.folder``, made when it is not there.

    Raises:
        SpoolFault: it cannot be made or written.
    """
    from nemflow.intake.spool import Spool

    return Spool(Path(chosen.text("spool.folder") or SPOOL), chosen.spool_limits)


def collector_of(
    chosen: Settings,
    store: Store,
    spool: Spool,
    *,
    crowded: Callable[[], str | None],
    nudge: Callable[[], None],
    hook: Hook | None = None,
) -> Collector:
    """What takes in the drop folder ``folder.path``, which is made when its parent is there.

    Raises:
        UsageError: the folder is not there and cannot be made.
    """
    from nemflow.intake.folder import Inbox
    from nemflow.pipeline.collecting import Collector, Wishes

    root = _made(Path(chosen.text("folder.path") or ""), "folder.path")
    inbox = Inbox(
        root,
        chosen.folder_pace,
        taken=_folder(chosen, "folder.taken"),
        done=_folder(chosen, "folder.done"),
        rejected=_folder(chosen, "folder.rejected"),
    )
    wishes = Wishes(
        "folder",
        chosen.text("folder.profile") or chosen.profile,
        chosen.text("folder.lane", "normal") or "normal",
        chosen.text("folder.sender"),
        hook,
    )
    polling = chosen.yes("folder.polling", default=False)
    return Collector(store, spool, inbox, wishes, crowded=crowded, nudge=nudge, polling=polling)


def sweep_of(
    chosen: Settings,
    store: Store,
    spool: Spool,
    *,
    root: Path | None = None,
    recursive: bool | None = None,
    move: bool | None = None,
    crowded: Callable[[], str | None] = lambda: None,
    nudge: Callable[[], None] = lambda: None,
    hook: Hook | None = None,
    tell: Callable[[Swept], None] = lambda _: None,
) -> Callable[[], Swept]:
    """One sweep of ``sweep.path``, to be called when it is due; what is given comes before.

    Raises:
        UsageError: nobody says which folder, or it is the drop folder.
    """
    from nemflow.intake.folder import Inbox
    from nemflow.pipeline.collecting import Collector, Wishes
    from nemflow.pipeline.sweeping import sweep, sweep_away

    named = str(root) if root is not None else chosen.text("sweep.path")
    if named is None:
        raise UsageError(
            "Which folder is to be swept?",
            hint='Give it, or set sweep.path = "data/archive".',
        )
    folder, drop = Path(named).absolute(), chosen.text("folder.path")
    if drop is not None and folder == Path(drop).absolute():
        raise UsageError(
            f"{folder} is the drop folder; it is emptied as files come.",
            hint="Sweep another folder.",
        )
    wishes = Wishes(
        "batch",
        chosen.text("sweep.profile") or chosen.profile,
        chosen.text("sweep.lane", "bulk") or "bulk",
        chosen.text("sweep.sender"),
        hook,
    )
    pace = chosen.folder_pace
    deep = chosen.yes("sweep.recursive", default=True) if recursive is None else recursive
    if chosen.yes("sweep.move", default=False) if move is None else move:
        inbox = Inbox(folder, pace, recursive=deep)
        mover = Collector(store, spool, inbox, wishes, crowded=crowded, nudge=nudge)
        return lambda: sweep_away(mover, folder, settle_seconds=pace.settle_seconds, tell=tell)
    return lambda: sweep(
        store,
        spool,
        folder,
        wishes=wishes,
        recursive=deep,
        settle_seconds=pace.settle_seconds,
        crowded=crowded,
        nudge=nudge,
        tell=tell,
    )


def _folder(chosen: Settings, key: str) -> Path | None:
    named = chosen.text(key)
    return None if named is None else Path(named)


def _made(folder: Path, key: str) -> Path:
    """The folder, made when its parent is there: a share that is not mounted has none."""
    try:
        if not folder.is_dir():
            folder.mkdir()
    except OSError as error:
        raise UsageError(
            f"{key}: the folder {folder} is not there and cannot be made: {error.strerror}.",
            hint="Make it, or mount it, first.",
        ) from error
    return folder


def queue_of(chosen: Settings) -> JobQueue:
    """The queue at ``queue.url``; without one, a queue in this process.

    Raises:
        UsageError: no such kind of queue.
        MissingExtra: its library is not installed.
    """
    from nemflow.jobs.queue import MEMORY, PREFIX, open_queue

    return open_queue(
        chosen.text("queue.url") or MEMORY, prefix=chosen.text("queue.prefix") or PREFIX
    )


def side_of(chosen: Settings) -> Side | None:
    """What Redis does beside the queue; None when ``queue.url`` is no Redis."""
    url = chosen.text("queue.url") or "memory://"
    if not url.startswith(("redis://", "rediss://", "unix://")):
        return None
    from nemflow.jobs.queue import PREFIX
    from nemflow.jobs.side import Side

    return Side(url, prefix=chosen.text("queue.prefix") or PREFIX)


def in_this_process(chosen: Settings) -> bool:
    """Whether the queue lives in the service's own process, and so must its worker."""
    return (chosen.text("queue.url") or "memory://").startswith("memory:")


def delivering_of(chosen: Settings) -> Delivering:
    """How deliveries are loaded.

    Raises:
        UsageError: originals are to be archived, and nobody said where.
    """
    from nemflow.pipeline.delivering import Delivering

    after = cast("Literal['delete', 'archive', 'keep']", chosen.text("spool.keep_after", "delete"))
    archive, outbox = chosen.text("spool.archive"), chosen.text("spool.outbox")
    if after == "archive" and archive is None:
        raise UsageError(
            "spool.keep_after is archive, but there is no spool.archive.",
            hint='Name the folder: spool.archive = "data/archive".',
        )
    sizes = chosen.sizes
    usual = Delivering()
    return Delivering(
        limits=chosen.limits,
        xml_limits=chosen.xml_limits,
        value_limits=chosen.value_limits,
        participant=chosen.participant,
        review_after=chosen.review_after,
        batch_bytes=sizes.batch_bytes or usual.batch_bytes,
        chunk_bytes=sizes.chunk_bytes or usual.chunk_bytes,
        keep_after=after,
        archive=None if archive is None else Path(archive),
        outbox=None if outbox is None else Path(outbox),
        lease_seconds=chosen.working.lease_seconds,
    )
