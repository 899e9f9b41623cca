"""The service: uploads accepted, files loaded, and the job that must leave no queue behind.

``make bench ARGS="--only service"`` runs this (``python -m bench.service`` prints it as JSON).

accepted   2 KB files over HTTP by 8 connections, answered after flush and ledger commit, beside
           ``bare.py``, which only keeps the bytes; rounds take turns
loaded     from the first upload of a batch to the last commit, with each queue and store, one and
           two workers: daily files of 2 KB, and files of 4 MB (720,000 readings)
keeping up every 5 s one file each of 5, 15 and 30 minutes x 50 NMIs x 50 days, by the simulator:
           what waited at most, and how long the last of a file's readings took to be there

Every measurement has a service, a store and names in the broker of its own; they are removed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chaos.served import Served, served
from chaos.servers import local_server, scratch
from nemflow.mdff.generate import generate
from nemflow.simulating import run
from nemflow.simulating.asking import FINAL, Asking
from nemflow.simulating.sending import HttpDoor, Pace
from nemflow.simulating.traffic import Mix, Traffic

ROOT = Path(__file__).resolve().parents[1]
_CONNECTIONS = 8
_PATIENCE = 900.0
_PLAIN: dict[str, Any] = {"corrections": 0.0, "broken": 0.0, "duplicates": 0.0}
_SMALL: dict[str, Any] = {"nmis": 1, "days": 1, "intervals": (5,), **_PLAIN}
_LARGE: dict[str, Any] = {"nmis": 50, "days": 50, "intervals": (5,), **_PLAIN}
_JOB: dict[str, Any] = {"nmis": 50, "days": 50, "intervals": (5, 15, 30), **_PLAIN}
_REDIS = "redis://127.0.0.1:6379/13"
_RABBIT = "amqp://guest:guest@127.0.0.1:5672/"
_LANES = ("urgent", "normal", "bulk")
Row = dict[str, Any]


def say(text: str) -> None:
    """A word on the way, kept apart from the result on stdout."""
    print(text, file=sys.stderr, flush=True)


# --- accepted ---------------------------------------------------------------------------------


def put_all(url: str, bodies: Sequence[bytes], connections: int = _CONNECTIONS) -> Row:
    """Upload each body once; seconds of all, and of each."""
    host = urlsplit(url).netloc
    todo = iter(enumerate(bodies))
    lock, times, wrong = threading.Lock(), [], []
    mark = uuid.uuid4().hex[:6]

    def work() -> None:
        link = http.client.HTTPConnection(host, timeout=60)
        while True:
            with lock:
                number, body = next(todo, (-1, b""))
            if number < 0:
                return
            begun = time.perf_counter()
            link.request("PUT", f"/v1/deliveries/{mark}-{number}.csv", body)
            answer = link.getresponse()
            answer.read()
            times.append(time.perf_counter() - begun)
            if answer.status != 202:
                wrong.append(answer.status)

    threads = [threading.Thread(target=work) for _ in range(connections)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    if wrong or len(times) != len(bodies):
        raise RuntimeError(f"not accepted: {wrong[:5]}, {len(times)} of {len(bodies)} answered")
    return {"seconds": seconds, **(run.spread(times) or {})}


@contextmanager
def bare() -> Iterator[str]:
    """The URL of a running bare endpoint."""
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        words = [sys.executable, str(ROOT / "bench" / "bare.py"), folder]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process.stdout.readline().split()[-1]  # type: ignore[union-attr]
            finally:
                process.terminate()


def _small_bodies(count: int) -> list[bytes]:
    """Files of a day of one NMI each, no two alike: generating each anew would take minutes."""
    nmi = "SAQ0000000"
    text = generate(nmis=[nmi], days=1, interval=5, streams=("E1",), seed=1)
    first = uuid.uuid4().int % 9_000_000
    return [text.replace(nmi.encode(), f"SAQ{first + nth:07}".encode()) for nth in range(count)]


def accepted(*, files: int, rounds: int) -> list[Row]:
    """Uploads per second of the service beside the bare endpoint."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="accept-")))
        idle = stack.enter_context(served(folder / "idle", "--workers", "0"))
        busy = stack.enter_context(served(folder / "busy", "--workers", "1"))
        whom = {
            "bare endpoint: write, flush, rename": stack.enter_context(bare()),
            "nemflow serve, nobody loads": idle.url,
            "nemflow serve, one worker loads": busy.url,
        }
        seen: dict[str, list[Row]] = {who: [] for who in whom}
        for turn in range(rounds + 1):
            for who, url in whom.items():
                count = files if turn else 16  # the first round warms up
                told = put_all(url, _small_bodies(count))
                if turn:
                    seen[who].append(told)
    rows = []
    for who, each in seen.items():
        rate = files / statistics.median(row["seconds"] for row in each)
        medians = {key: statistics.median(row[key] for row in each) for key in ("p50", "p95")}
        rows.append({"who": who, "files": files, "rounds": rounds, "per_second": rate, **medians})
    for row in rows:
        row["of_bare"] = row["per_second"] / rows[0]["per_second"]
    return rows


# --- loaded -----------------------------------------------------------------------------------


@contextmanager
def broker(queue: str) -> Iterator[tuple[str, dict[str, str]] | None]:
    """Options and settings of a service with this queue; None when its server does not answer."""
    if queue == "memory":
        yield "memory://", {}
        return
    prefix = f"bench{uuid.uuid4().hex[:8]}"
    server = local_server()
    clean = _redis(prefix) if queue == "redis" else _rabbit(prefix)
    if server is None or clean is None:
        yield None
        return
    with scratch(server) as database:
        try:
            url = _REDIS if queue == "redis" else _RABBIT
            yield url, {"NEMFLOW_DB": database, "NEMFLOW_QUEUE_PREFIX": prefix}
        finally:
            clean()


def _redis(prefix: str) -> Any:
    """What removes our keys; None when no Redis answers."""
    import redis

    client = redis.Redis.from_url(_REDIS, socket_connect_timeout=2)

    def clean() -> None:
        for key in client.scan_iter(match=f"{prefix}*"):
            client.delete(key)

    try:
        client.ping()
    except redis.RedisError:
        return None
    return clean


def _rabbit(prefix: str) -> Any:
    """What removes our queues; None when no RabbitMQ answers."""
    import pika

    def clean() -> None:
        link = pika.BlockingConnection(pika.URLParameters(_RABBIT))
        for lane in _LANES:
            for ending in ("", ".DQ", ".XQ"):
                link.channel().queue_delete(f"{prefix}.{lane}{ending}")
        link.close()

    try:
        pika.BlockingConnection(pika.URLParameters(f"{_RABBIT}?socket_timeout=2")).close()
    except pika.exceptions.AMQPError:
        return None
    return clean


@contextmanager
def service_with(queue: str, workers: int) -> Iterator[Served | None]:
    """A running service; None when its broker or database does not answer."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, broker(queue) as found:
        if found is None:
            yield None
            return
        url, settings = found
        options = ("--queue", url, "--workers", str(workers))
        with served(Path(folder), *options, settings=settings) as service:
            yield service


def loaded(queue: str, workers: int, shape: dict[str, Any], *, files: int) -> Row:
    """Files per second from the first upload to the last commit."""
    store = "SQLite" if queue == "memory" else "PostgreSQL"
    row: Row = {"queue": queue, "store": store, "workers": workers, "files": files}
    with service_with(queue, workers) as service:
        if service is None:
            return row | {"trouble": f"{queue} or PostgreSQL does not answer"}
        with service.client() as client:
            asking = Asking(client)
            warm, timed = (
                Traffic(Mix(files=count, seed=seed, **shape))
                for count, seed in ((2 * workers, 1), (files, 2))
            )
            put_all(service.url, [warm.body(parcel) for parcel in warm.parcels])
            _finals(asking, 2 * workers)
            bodies = [timed.body(parcel) for parcel in timed.parcels]
            begun = time.time()
            put_all(service.url, bodies)
            ends = _finals(asking, files + 2 * workers)
    seconds = max(ends) - begun
    size = sum(map(len, bodies))
    return row | {
        "bytes_each": size // files,
        "seconds": seconds,
        "per_second": files / seconds,
        "mb_s": size / seconds / 1e6,
    }


def _finals(asking: Asking, count: int) -> list[float]:
    """When each ended, as Unix times; once all are loaded."""
    until = time.monotonic() + _PATIENCE
    while True:
        rows = asking.deliveries(0)
        done = [row for row in rows if row["state"] in FINAL]
        if len(done) == count:
            states = {row["state"] for row in done}
            if states != {"loaded"}:
                raise RuntimeError(f"not loaded: {states}")
            return [datetime.fromisoformat(row["finished_at"]).timestamp() for row in done]
        if time.monotonic() > until:
            raise RuntimeError(f"{len(done)} of {count} are final after {_PATIENCE} s")
        time.sleep(0.25)


# --- keeping up -------------------------------------------------------------------------------


def keeping_up(queue: str, workers: int, seconds: float) -> Row:
    """Three large files every five seconds, for so long."""
    files = max(3, int(seconds / 5) * 3)
    row: Row = {"queue": queue, "workers": workers, "for_seconds": seconds, "files": files}
    with service_with(queue, workers) as service:
        if service is None:
            return row | {"trouble": f"{queue} or PostgreSQL does not answer"}
        with service.client() as client:
            asking = Asking(client)
            pace = Pace(per_second=3 / 5, burst=3, senders=3)
            found = run.send(Mix(files=files, seed=3, **_JOB), HttpDoor(client), pace, asking)
            run.drain(found, asking, _PATIENCE)
        told = run.told(found)
        memory = max(service.taken.memory, default=0)
    readings = found.traffic.mix.nmis * found.traffic.mix.days * (288 + 96 + 48) * files // 3
    return row | {
        "readings": readings,
        "right": told["right"],
        "waiting_files": told["waiting_most"]["files"],
        "oldest_seconds": told["waiting_most"]["oldest_seconds"],
        "final": told["latency_final"],
        "accepted": told["latency_accepted"],
        "late": told["late"],
        "drained_after": told["drained_after"],
        "memory_mb": memory / 1e6,
    }


# --- the whole --------------------------------------------------------------------------------


def measured(*, quick: bool) -> dict[str, Any]:
    """Everything, one after the other."""
    begun = time.perf_counter()
    load = os.getloadavg()[0]
    say("Accepted uploads beside the bare endpoint ...")
    first = accepted(files=100 if quick else 1000, rounds=1 if quick else 5)
    second = []
    for queue in ("memory", "redis", "rabbitmq"):
        for workers in (1, 2):
            say(f"Loading with {queue}, {workers} workers ...")
            for shape, files in ((_SMALL, 20 if quick else 400), (_LARGE, 2 if quick else 20)):
                second.append(loaded(queue, workers, shape, files=files))
    say("Keeping up ...")
    third = [keeping_up("memory", 2, 30 if quick else 300)]
    if not quick:
        third.append(keeping_up("redis", 2, 300))
    return {
        "on": time.strftime("%Y-%m-%d"),
        "quick": quick,
        "load_before": round(load, 1),
        "cores": os.cpu_count(),
        "accepted": first,
        "loaded": second,
        "keeping_up": third,
        "seconds": round(time.perf_counter() - begun),
    }


def main() -> int:
    """Measure; print JSON."""
    parser = argparse.ArgumentParser(description="Measure the service.")
    parser.add_argument("--quick", action="store_true", help="small numbers: to see that it works")
    print(json.dumps(measured(quick=parser.parse_args().quick), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
