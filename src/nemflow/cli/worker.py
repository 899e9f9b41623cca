"""``worker``: load what the service has accepted.

Why: loading runs beside the service, in as many processes on as many machines as wanted.

Promises: told to stop (SIGTERM, Ctrl-C) it begins nothing more, finishes or hands back what it has
within the grace time and ends with 0; killed, it loses nothing; with ``--processes`` a process that
ends is started again.

Look next: :mod:`nemflow.jobs.worker`, :mod:`nemflow.jobs.supervisor`; docs/queue.md.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from nemflow.cli.options import DbOption, settings
from nemflow.errors import UsageError
from nemflow.jobs.queue import MEMORY

if TYPE_CHECKING:
    from nemflow.settings import Settings

_LOOK_SECONDS = 15  #: a worker looks through the ledger no more often
_JOIN_SECONDS = 3.0

QueueOption = Annotated[
    str | None,
    typer.Option("--queue", help="The broker: redis://… or amqp://….", metavar="URL"),
]


def worker(
    ctx: typer.Context,
    *,
    lanes: Annotated[
        str | None,
        typer.Option(
            "--lanes",
            help="Only these lanes: urgent, normal, bulk; joined by commas.",
            metavar="LANES",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Deliveries at a time, per process.", min=1)
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", help="Keep so many processes running.", min=1)
    ] = 1,
    queue: QueueOption = None,
    spool: Annotated[
        str | None, typer.Option("--spool", help="The folder of originals.", metavar="FOLDER")
    ] = None,
    db: DbOption = None,
    supervised: Annotated[
        bool, typer.Option("--supervised", help="End when standard input ends.", hidden=True)
    ] = False,
) -> None:
    """Load what the service has accepted, until it is told to stop."""
    given = {"queue.url": queue, "spool.folder": spool, "worker.threads": threads}
    chosen = settings(ctx, db=db, **given)
    if (chosen.text("queue.url") or MEMORY).startswith("memory:"):
        raise UsageError(
            "A queue in memory is seen by its own process only.",
            hint="Set queue.url to a Redis or RabbitMQ; nemflow serve works by itself without.",
        )
    from nemflow.service.watching import log_as

    log_as(chosen)
    if processes > 1:
        _supervise(chosen, processes)
        return
    _work(chosen, _lanes(lanes), supervised=supervised)


def _work(chosen: Settings, lanes: tuple[str, ...], *, supervised: bool) -> None:
    from nemflow.app import delivering_of, queue_of, side_of, spool_of
    from nemflow.jobs.reconciler import Reconciler
    from nemflow.jobs.supervisor import when_orphaned
    from nemflow.jobs.worker import Worker
    from nemflow.service.watching import Watching, of_process
    from nemflow.store import open_store

    _on_signals(lambda: sys.exit(0))  # nothing is in hand yet
    queue = queue_of(chosen)
    with open_store(chosen.db, create=False, pool=chosen.pool) as store:
        spool, how = spool_of(chosen), delivering_of(chosen)
        side = side_of(chosen)
        watched = Watching(chosen)
        live = None if side is None else side.tell_progress
        one = Worker(
            *(store, spool, queue, how, chosen.working),
            lanes=lanes,
            live=live,
            hook=watched.hook,
            ends=True,
        )
        # The service looks through the ledger too, and sooner; but it may be down.
        every = max(_LOOK_SECONDS, chosen.rhythm.every_seconds)
        rhythm = dataclasses.replace(chosen.rhythm, every_seconds=every, tidy_seconds=every)
        reconciler = Reconciler(store, spool, queue, how, rhythm, hook=watched.hook)
        watched.metrics.ask(
            of_process(
                {"work": store}, lambda: {"database": one.breaker, "queue": reconciler.breaker}
            )
        )
        watched.listen()
        looking = threading.Thread(target=reconciler.run, name="reconciler", daemon=True)
        looking.start()
        _on_signals(one.stop)
        if supervised:
            when_orphaned(one.stop)
        finished = one.run()
        reconciler.stop()
        looking.join(_JOIN_SECONDS)
        watched.close()
        if not finished:
            sys.stdout.flush()
            os._exit(0)  # handed back; Python would wait for the thread that does not hear
    queue.close()


def _supervise(chosen: Settings, processes: int) -> None:
    """The same command, once per process."""
    from nemflow.jobs.supervisor import Supervisor

    arguments: list[str] = []
    skip = False
    for word in sys.argv[1:]:
        if skip or word.startswith("--processes"):
            skip = word == "--processes"
            continue
        arguments.append(word)
    command = [sys.executable, "-m", "nemflow.cli", *arguments, "--supervised"]
    supervisor = Supervisor(command, processes, grace=chosen.working.grace_seconds)
    _on_signals(supervisor.stop)
    supervisor.run()


def _lanes(text: str | None) -> tuple[str, ...]:
    from nemflow.jobs import LANES

    if text is None:
        return LANES
    wanted = tuple(part.strip() for part in text.split(",") if part.strip())
    for lane in wanted:
        if lane not in LANES:
            raise UsageError(f"There is no lane {lane!r}.", hint=f"Lanes: {', '.join(LANES)}.")
    return wanted or LANES


def _on_signals(stop: Callable[[], object]) -> None:
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop())
