"""``serve``: the whole service with one command.

Why: on a laptop nothing but this must run; on many machines the same program is the API.

Promises: without settings it is an SQLite store, a queue in memory, loopback only; another address
is refused as long as there are no API keys; SIGTERM and Ctrl-C end it with 0, and what is
unfinished is found again at the next start.

Look next: :mod:`nemflow.service`; docs/service.md.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.cli.location import without_password
from nemflow.cli.options import DbOption, settings
from nemflow.errors import MissingExtra, StoreAway, UsageError

if TYPE_CHECKING:
    from nemflow.events import Hook
    from nemflow.intake.spool import Spool
    from nemflow.jobs.breaker import Breaker
    from nemflow.jobs.side import Side
    from nemflow.service.context import Context
    from nemflow.service.intake import Intake
    from nemflow.service.server import Part
    from nemflow.settings import Settings
    from nemflow.store import Store
    from nemflow.store.backends.pool import Pool


def serve(
    ctx: typer.Context,
    *,
    db: DbOption = None,
    host: Annotated[
        str | None,
        typer.Option("--host", help="Address to listen on; default 127.0.0.1.", metavar="HOST"),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port; default 8600; 0: a free one.", metavar="N")
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option("--spool", help="Where uploads are kept until loaded.", metavar="FOLDER"),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option("--queue", help="memory://, redis://… or amqp://…", metavar="URL"),
    ] = None,
    workers: Annotated[
        int,
        typer.Option("--workers", min=0, help="Worker processes; 0: others run them.", metavar="N"),
    ] = 1,
    console: Annotated[
        bool | None, typer.Option("--console/--no-console", help="The web console at /console.")
    ] = None,
) -> None:
    """Serve the API and load what arrives, until stopped."""
    try:
        from nemflow.service import server, watching
    except ModuleNotFoundError as error:
        raise MissingExtra("The service", "service") from error

    given: dict[str, object] = {"db": db, "service.host": host, "queue.url": queue}
    given["features.console"] = console
    given["spool.folder"] = None if spool is None else str(spool)
    chosen = settings(ctx, **given)
    watching.log_as(chosen)
    address = chosen.text("service.host") or "127.0.0.1"
    with ExitStack() as opened:
        store = _opened(opened, chosen, _impatient(chosen.pool))
        keys = store.has_keys()
        if not keys and not server.is_loopback(address):
            raise UsageError(
                f"Nobody has an API key, so the service does not listen on {address}.",
                hint="Make one first: nemflow keys add NAME --scope upload",
            )
        on = opened.enter_context(
            server.listening(address, chosen.number("service.port", 8600) if port is None else port)
        )
        context, parts, grace = _wired(opened, ctx, chosen, store, keys=keys, workers=workers)
        place = f"[{address}]" if ":" in address else address
        url = f"http://{place}:{on.getsockname()[1]}"
        docs = chosen.on("docs")

        def said() -> None:
            typer.echo(f"nemflow serves {url}" + (f"  (docs: {url}/docs)" if docs else ""))
            if chosen.on("console"):
                typer.echo(f"  console {url}/console/")
            typer.echo(f"  store {without_password(chosen.db)}")
            typer.echo(
                "  API keys are needed."
                if keys
                else "  Only this machine is answered; for others: nemflow keys add NAME"
            )
            for line in _parts_said(chosen):
                typer.echo(f"  {line}")
            sys.stdout.flush()

        mount = _console(chosen, context) if chosen.on("console") else None
        server.run(context, on, parts, grace=grace, said=said, mount=mount)
    typer.echo("nemflow has stopped; what is unfinished goes on at the next start.")


def _wired(
    opened: ExitStack,
    ctx: typer.Context,
    chosen: Settings,
    store: Store,
    *,
    keys: bool,
    workers: int,
) -> tuple[Context, list[Part], float]:
    """What the routes use, what runs beside them, and the grace time."""
    from nemflow import app
    from nemflow.jobs.breaker import Breaker
    from nemflow.jobs.reconciler import Reconciler
    from nemflow.jobs.supervisor import Supervisor
    from nemflow.jobs.worker import Worker
    from nemflow.service.auth import Keyring
    from nemflow.service.context import Context
    from nemflow.service.health import check_spool
    from nemflow.service.intake import Intake
    from nemflow.service.limiting import USUAL, RateLimit, rate_of
    from nemflow.service.server import Part
    from nemflow.service.watching import Watching, of_process
    from nemflow.settings.features import FEATURES

    spool, how, jobs = app.spool_of(chosen), app.delivering_of(chosen), app.queue_of(chosen)
    opened.callback(jobs.close)
    patient = _opened(opened, chosen, chosen.pool)
    watched = Watching(chosen)
    opened.callback(watched.close)
    working = chosen.working
    reconciler = Reconciler(patient, spool, jobs, how, chosen.rhythm, hook=watched.hook)
    parts = [Part("reconciler", reconciler.run, reconciler.stop)]
    if app.in_this_process(chosen):
        if workers:
            threads = dataclasses.replace(working, threads=workers)
            worker = Worker(patient, spool, jobs, how, threads, isolate=True, hook=watched.hook)
            parts.append(Part("worker", worker.run, worker.stop))
    elif workers:
        _hand_down(chosen)
        config = ctx.find_root().obj
        named = ["--config", str(config)] if isinstance(config, Path) else []
        command = [sys.executable, "-m", "nemflow.cli", *named, "worker", "--supervised"]
        kept = Supervisor(command, workers, grace=float(working.grace_seconds))
        parts.append(Part("supervisor", kept.run, kept.stop))
    limits, side = chosen.accept_limits, app.side_of(chosen)
    if side is not None:
        opened.callback(side.close)
    intake = Intake(store, spool, limits, reconciler.wake)
    noticed = dict[str, Callable[[], None]]()
    parts += _ways_in(chosen, patient, spool, intake, side=side, noticed=noticed, hook=watched.hook)
    rate = rate_of(chosen.text("service.rate_per_key") or USUAL)
    context = Context(
        store,
        Keyring(store.check_key, needed=keys, made=store.has_keys),
        limits,
        intake,
        ready={"queue": jobs.ping, "spool": lambda: check_spool(spool)},
        breakers={
            "store": Breaker("store", StoreAway, hook=watched.hook),
            "queue": reconciler.breaker,
        },
        hook=watched.hook,
        metrics=watched.metrics,
        depth=jobs.depth,
        rate=None if rate is None else RateLimit(rate, side),
        side=side,
        how=how,
        participant=chosen.participant,
        review_after=chosen.review_after,
        features=frozenset(each.name for each in FEATURES if chosen.on(each.name)),
    )
    watched.metrics.ask(of_process({"requests": store, "work": patient}, dict))
    parts.append(_pulse(store, context.breakers["store"]))
    parts.append(_noticing(patient, noticed | context.ready, how.outbox))
    context.hook_key, context.hook_hosts = (
        chosen.text("webhooks.key"),
        chosen.text("webhooks.hosts"),
    )
    if chosen.on("webhooks"):
        from nemflow.service.hooks import Caller

        calls = Caller(patient, chosen.calling, key=context.hook_key, hosts=context.hook_hosts)
        parts.append(Part("webhooks", calls.run, calls.stop))
    return context, parts, float(working.grace_seconds)


def _ways_in(
    chosen: Settings,
    store: Store,
    spool: Spool,
    intake: Intake,
    *,
    side: Side | None,
    noticed: dict[str, Callable[[], None]],
    hook: Hook,
) -> Iterator[Part]:
    """The drop folder and the sweep, as far as they are on; ``noticed`` gets what may fail."""
    from nemflow import app
    from nemflow.service.server import Part

    if chosen.on("folder"):
        taker = app.collector_of(
            chosen, store, spool, crowded=intake.crowded, nudge=intake.nudge, hook=hook
        )
        noticed["folder"] = taker.check
        yield Part("folder", taker.run, taker.stop)
    if chosen.on("sweep"):
        from nemflow.jobs.sweeper import Sweeper

        work = app.sweep_of(
            chosen, store, spool, crowded=intake.crowded, nudge=intake.nudge, hook=hook
        )
        name = f"sweep {chosen.text('sweep.path')}"
        cron = chosen.text("sweep.cron", "0 * * * *") or ""
        sweeper = Sweeper(store, name, cron, work, side=side)
        yield Part("sweep", sweeper.run, sweeper.stop)


def _pulse(store: Store, breaker: Breaker) -> Part:
    """What asks the store whether it still answers."""
    from nemflow.service.pulse import Pulse
    from nemflow.service.server import Part

    pulse = Pulse(store.seq_at, breaker)
    return Part("pulse", pulse.run, pulse.stop)


def _noticing(store: Store, checks: Mapping[str, Callable[[], None]], outbox: Path | None) -> Part:
    """What notices outcomes of deliveries, and which parts fail."""
    from nemflow.errors import SystemFault
    from nemflow.jobs.noticing import Noticer
    from nemflow.service.server import Part

    def writable() -> None:
        if outbox is None or not outbox.exists():
            return  # none, or made when the first acknowledgement is written
        if not (outbox.is_dir() and os.access(outbox, os.W_OK)):
            raise SystemFault(
                f"Acknowledgements cannot be written to {outbox}.",
                hint="Is the folder there, and may the service write in it? See spool.outbox.",
            )

    noticer = Noticer(store, {**checks, "outbox": writable})
    return Part("noticer", noticer.run, noticer.stop)


def _console(chosen: Settings, context: Context) -> Callable[[Any], None]:
    """Puts the console on the application. Raises MissingExtra, SystemFault."""
    from nemflow import app
    from nemflow import console as web
    from nemflow.cli.config import row_of
    from nemflow.settings import catalogue

    settings = [row_of(each, chosen) for each in catalogue()]
    secret = app.spool_of(chosen).root / "console.secret"

    def mount(on: Any) -> None:
        web.mount(on, context, secret_file=secret, settings=settings)

    return mount


def _parts_said(chosen: Settings) -> Iterator[str]:
    """What of the optional parts is on, and what is off and why."""
    from nemflow.settings.features import FEATURES

    off = {each.name: why for each in FEATURES if (why := chosen.why_off(each.name))}
    yield "on: " + (", ".join(each.name for each in FEATURES if each.name not in off) or "nothing")
    for name, why in off.items():
        yield f"off: {name} ({why})"


def _hand_down(chosen: Settings) -> None:
    """What was said on the command line, to the worker processes.

    Passwords stay off theirs, and what came from the file, a variable or a secret file they read
    there themselves: a secret that was in no environment gets into none.
    """
    from nemflow.settings import catalogue
    from nemflow.settings.sources import COMMAND_LINE, FROM_FILE

    for setting in catalogue():
        if chosen.origin.get(setting.key) == COMMAND_LINE:
            said = {"db": chosen.db, "environment": chosen.environment}.get(setting.key)
            value = said or chosen.text(setting.key)
            if value is not None:
                os.environ[setting.env] = value
                os.environ.pop(setting.env + FROM_FILE, None)


def _opened(opened: ExitStack, chosen: Settings, pool: Pool) -> Store:
    from nemflow.store import open_store

    return opened.enter_context(open_store(chosen.db, pool=pool))


def _impatient(pool: Pool) -> Pool:
    """For requests: a caller is told within seconds that the store is away, and comes again."""
    return dataclasses.replace(
        pool,
        size=max(pool.size, 8),
        overflow=max(pool.overflow, 32),
        wait_seconds=min(pool.wait_seconds, 5),
        connect_seconds=min(pool.connect_seconds, 3),
        attempts=min(pool.attempts, 3),
        retry_seconds=min(pool.retry_seconds, 5),
    )
