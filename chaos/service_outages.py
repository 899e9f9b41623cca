"""Servers that a service depends on are killed, stopped, frozen or made to forget.

Promises: while its database is away an upload is answered within seconds, 503 with the time to come
again, or accepted; while its broker is away uploads are accepted all the same; whatever the broker
forgets is told to it again; and a worker whose clock is wrong takes nothing from anybody.

Look next: ``brokers.py`` and ``servers.py`` for servers of our own; ``running.py`` for the service.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from chaos.brokers import Broker, private_rabbit, private_redis
from chaos.report import Attack
from chaos.running import MIX, Running, running, sent_under
from chaos.served import under
from chaos.servers import PrivateServer, private_server
from nemflow.mdff.generate import generate
from nemflow.simulating import run
from nemflow.store import open_store

_RATE = 8.0
_PROBE_SECONDS = 0.5
_ANSWER_SECONDS = 15.0  # the longest that anybody waits for an answer while the database is away
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def broker_kills(
    database: str, folder: Path, rng: random.Random, *, kills: int, kind: str
) -> Attack:
    """Kill -9 of the broker, again and again under load, and once everything in it is lost."""
    name = {"redis": "Redis", "rabbitmq": "RabbitMQ"}[kind]
    forgets = "FLUSHALL" if kind == "redis" else "the loss of its data"
    attack = Attack(
        f"Service: broker killed, {name}",
        f"A {name} of our own is killed with -9 {kills} times while files are sent and two workers "
        f"load, and started again; in the middle comes {forgets}. Every upload must be accepted "
        "all the same, and loaded.",
    )
    opened: Callable[[], Any] = private_redis if kind == "redis" else private_rabbit
    with opened() as broker:
        if broker is None:
            attack.skipped = f"no program to run a {name} of our own with"
            return attack
        _broker_kills(database, folder, rng, kills, broker, attack)
    return attack


def _broker_kills(  # noqa: PLR0917 - one call
    database: str, folder: Path, rng: random.Random, kills: int, broker: Broker, attack: Attack
) -> None:
    seen = [0]

    def trouble(over: threading.Event) -> None:
        while seen[0] < kills and not over.wait(rng.uniform(0.8, 2.5)):
            if seen[0] == kills // 2:
                broker.flush()
            broker.crash()
            time.sleep(rng.uniform(0.0, 1.5))
            broker.start()
            seen[0] += 1

    with running(folder, database=database, queue=broker.url) as service:
        mix = replace(MIX, files=kills * 25, seed=rng.randrange(1_000_000))
        found = sent_under(service, mix, _RATE, trouble, attack)
    told = run.told(found)
    attack.counts = {
        "kills": seen[0],
        "accepted within, longest (s)": (told["latency_accepted"] or {}).get("max", 0.0),
        **attack.counts,
    }
    if told["refusals"]:
        attack.wrong.append(f"uploads were refused: {told['refusals']}")
    if seen[0] < kills:
        attack.wrong.append(f"only {seen[0]} of {kills} kills met a service at work")


def database_away(folder: Path, rng: random.Random, *, seconds: int, queue: str) -> Attack:
    """A PostgreSQL of our own is stopped for a while under uploads, and later frozen."""
    attack = Attack(
        "Service: database away",
        f"`nemflow serve` and two workers on a PostgreSQL of our own and Redis; while files are "
        f"sent it is stopped (`immediate`) for {seconds} s, and later frozen (SIGSTOP) for as "
        "long. Uploads meanwhile are answered 503 with Retry-After within seconds; afterwards all "
        "are accepted, and no attempt was used up in vain.",
    )
    with private_server() as server:
        if server is None:
            attack.skipped = "no PostgreSQL programs to run one with"
            return attack
        database = server.url.set(drivername="postgresql").render_as_string(hide_password=False)
        slow: list[float] = []

        def trouble(over: threading.Event) -> None:
            over.wait(4)
            server.stop()
            _probed(service, seconds, slow)
            server.start()
            over.wait(12)
            with _frozen(server):
                _probed(service, seconds, slow)

        with running(folder, database=database, queue=queue) as service:
            mix = replace(MIX, files=5 * (2 * seconds + 20), seed=rng.randrange(1_000_000))
            sent_under(service, mix, 5.0, trouble, attack)
            most = _most_attempts(service)
    attack.counts = {
        "seconds away": 2 * seconds,
        "answers asked for meanwhile": len(slow),
        "longest answer (s)": max(slow, default=0.0),
        "most attempts of one file": most,
        **attack.counts,
    }
    if max(slow, default=0.0) > _ANSWER_SECONDS:
        attack.wrong.append(f"an answer took {max(slow):.1f} s while the database was away")
    return attack


def _probed(service: Running, seconds: float, slow: list[float]) -> None:
    """Upload now and then for so long; how long each answer took."""
    until = time.monotonic() + seconds
    body = generate(days=1, streams=("E1",), seed=1)
    with service.client() as client:
        while (at := time.monotonic()) < until:
            with suppress(httpx.HTTPError):
                client.put("/v1/deliveries/probe.csv", content=body)
            slow.append(time.monotonic() - at)
            time.sleep(_PROBE_SECONDS)


@contextmanager
def _frozen(server: PrivateServer) -> Iterator[None]:
    """Every process of the server is stopped during the block; connections stay open."""
    stopped = sorted(under(server.pid()))
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _most_attempts(service: Running) -> int:
    with open_store(service.environ["NEMFLOW_DB"]) as store, store.backend.reading() as conn:
        return int(conn.exec_driver_sql("SELECT max(attempts) FROM delivery").scalar() or 0)


def wrong_clock(
    folder: Path, rng: random.Random, *, files: int, queue: str, database: str | None, name: str
) -> Attack:
    """One worker's clock is 90 s ahead, another's 90 s behind."""
    attack = Attack(
        f"Service: wrong clocks, {name}",
        "Three workers: one with the right time, one 90 s ahead, one 90 s behind (libfaketime), "
        "and leases of 60 s. Leases run by the database's clock, so nobody takes a file from "
        "anybody: every file is done in one attempt.",
    )
    if not _FAKETIME.exists():
        attack.skipped = "libfaketime is not installed"
        return attack
    lease = {"NEMFLOW_WORKER_LEASE_SECONDS": "60", "NEMFLOW_WORKER_BEAT_SECONDS": "10"}
    with running(folder, database=database, queue=queue, workers=1, settings=lease) as service:
        mended = _with_sleep(folder / "python")
        for nth, offset in enumerate(("+90s", "-90s")):
            fake = {
                "LD_PRELOAD": str(_FAKETIME), "FAKETIME": offset,
                "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
                "PYTHONPATH": str(mended),
            }  # fmt: skip
            service.add_worker(f"clock-{nth}", fake)
        seen = _clock_of(str(_FAKETIME))
        mix = replace(MIX, files=files, broken=0.0, seed=rng.randrange(1_000_000))
        sent_under(service, mix, 6.0, lambda _: None, attack)
        most = _most_attempts(service)
    by_worker = {name: _finished_by(folder / f"{name}.log") for name in ("clock-0", "clock-1")}
    attack.counts = {
        "finished by the worker ahead": by_worker["clock-0"],
        "finished by the worker behind": by_worker["clock-1"],
        "most attempts of one file": most,
        "clock ahead (s)": seen,
        **attack.counts,
    }
    attack.wrong += [f"{each.name} ended with {each.code}" for each in service.ended if each.code]
    if idle := [name for name in ("clock-0", "clock-1") if not by_worker[name]]:
        attack.wrong.append(f"nothing was loaded by {', '.join(idle)}")
    if most > 1:
        attack.wrong.append(f"a file took {most} attempts")
    if not 80 < seen < 100:
        attack.wrong.append(f"the clock was {seen:.0f} s ahead")
    return attack


def _finished_by(log: Path) -> int:
    """How many deliveries a worker says it has finished."""
    return log.read_text(encoding="utf-8").count('"delivery finished"')


def _with_sleep(folder: Path) -> Path:
    """A folder for PYTHONPATH that mends ``time.sleep``, which libfaketime makes fail (EINVAL)."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import select, time\n"
        "time.sleep = lambda seconds: select.select([], [], [], seconds) and None\n",
        encoding="utf-8",
    )
    return folder


def _clock_of(library: str) -> float:
    """How far ahead libfaketime puts a clock: that it works at all."""
    told = subprocess.run(
        ["/bin/date", "+%s"], capture_output=True, text=True, check=True,
        env={"LD_PRELOAD": library, "FAKETIME": "+90s"},
    )  # fmt: skip
    return float(told.stdout) - time.time()
