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
    from nemflow.intake.spool import Spool
    from nemflow.jobs import JobQueue
    from nemflow.jobs.side import Side
    from nemflow.pipeline.delivering import Delivering
    from nemflow.settings import Settings

SPOOL = "nemflow-spool"


def spool_of(chosen: Settings) -> Spool:
    """The spool in ``spool.folder``, made when it is not there.

    Raises:
        SpoolFault: it cannot be made or written.
    """
    from nemflow.intake.spool import Spool

    return Spool(Path(chosen.text("spool.folder") or SPOOL), chosen.spool_limits)


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
