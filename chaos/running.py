"""A service of several processes that are killed, and started again as an init system does.

Promises: ``nemflow serve`` and each worker are processes of their own; whatever ends is started
again within a moment, until ``end``; the service keeps its port, so senders find it again. All that
is asked of it afterwards is asked as an operator or a sender would: ``nemflow verify`` and HTTP.

Look next: ``service_kills.py``, ``service_outages.py`` and ``service_uploads.py``, which attack it;
``served.py`` for one that is only measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from chaos.report import Attack
from chaos.served import under
from nemflow.simulating import run
from nemflow.simulating.asking import Asking
from nemflow.simulating.run import Simulation
from nemflow.simulating.sending import HttpDoor, Pace
from nemflow.simulating.traffic import Mix

NEMFLOW = [sys.executable, "-m", "nemflow.cli"]
_LOOK_SECONDS = 0.05
_START_SECONDS = 90
_END_SECONDS = 60
DRAIN_SECONDS = 900  # workers that are killed all the time load a few files a second
#: Leases and pauses so short that what was killed is taken up again within seconds; attempts
#: without end, because the file is never at fault here.
SETTINGS = {
    "NEMFLOW_WORKER_LEASE_SECONDS": "5",
    "NEMFLOW_WORKER_BEAT_SECONDS": "1",
    "NEMFLOW_WORKER_RETRY_SECONDS": "1",
    "NEMFLOW_WORKER_RETRY_MOST_SECONDS": "4",
    "NEMFLOW_WORKER_ATTEMPTS": "1000",
    "NEMFLOW_WORKER_GRACE_SECONDS": "8",
    "NEMFLOW_QUEUE_TIDY_SECONDS": "2",
}
#: Small files of every kind: most of what goes wrong goes wrong between files.
MIX = Mix(
    nmis=2, days=3, intervals=(30, 15), corrections=0.1, broken=0.03, duplicates=0.05, zipped=0.04,
    asexml=0.04,
)  # fmt: skip


@dataclass(slots=True)
class _Kept:
    """A process that is kept running."""

    name: str
    command: list[str]
    environ: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0  #: by the monotonic clock
    counted: bool = False  #: that it ended


@dataclass(slots=True)
class Ended:
    """A process that has ended, for whatever reason."""

    name: str
    code: int
    at: float  #: by the monotonic clock


class Running:
    """One service: ``nemflow serve`` and, with a broker, workers beside it."""

    def __init__(
        self,
        folder: Path,
        *,
        database: str | None = None,
        queue: str = "memory://",
        workers: int = 2,
        settings: Mapping[str, str] | None = None,
        keep: bool = True,
    ) -> None:
        """``keep``: what ends is started again. Without a database: SQLite in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.url = f"http://127.0.0.1:{_free_port()}"
        self.ended: list[Ended] = []
        self.keep = keep
        self.environ = {**os.environ, "PYTHONUNBUFFERED": "1", "NEMFLOW_QUEUE_URL": queue}
        self.environ["NEMFLOW_QUEUE_PREFIX"] = self.prefix = f"chaos_{uuid.uuid4().hex[:10]}"
        if database is not None:
            self.environ["NEMFLOW_DB"] = database
        self.environ |= SETTINGS | dict(settings or {})
        self.in_memory = queue.startswith("memory")
        self.queue = queue
        own = workers if self.in_memory else 0
        words = ["serve", "--port", self.url.rpartition(":")[2], "--workers", str(own)]
        self._kept = [_Kept("serve", [*NEMFLOW, *words], self.environ)]
        self._lock = threading.Lock()
        self._over = threading.Event()
        if not self.in_memory:
            self._workers_wanted = workers
        self._keeper = threading.Thread(target=self._keep_running, daemon=True)

    def start(self) -> None:
        """Returns when it answers."""
        self._keeper.start()
        self.wait_until_ready()
        if not self.in_memory:
            for number in range(self._workers_wanted):
                self.add_worker(f"worker-{number}")

    def add_worker(self, name: str, more: Mapping[str, str] | None = None) -> None:
        """One worker process more; ``more``: of its environment."""
        with self._lock:
            self._kept.append(_Kept(name, [*NEMFLOW, "worker"], self.environ | dict(more or {})))

    def restart_with(self, *, workers: int) -> None:
        """``serve`` is told to stop, and started again with so many workers of its own."""
        with self._lock:
            serve = self._kept[0]
            serve.command[-1] = str(workers)
            if serve.process is not None:
                serve.process.terminate()

    def wait_until_ready(self) -> None:
        """Returns when it answers. Raises RuntimeError."""
        until = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/livez", timeout=5).is_success:
                    return
            if time.monotonic() > until:
                log = (self.folder / "serve.log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"the service does not start: {log[-1500:]}")
            time.sleep(0.1)

    def client(self) -> httpx.Client:
        """To send to it and to ask it."""
        return httpx.Client(base_url=self.url, timeout=60, limits=httpx.Limits(max_connections=64))

    def pid(self, name: str) -> int | None:
        """Of one of its processes; None: it does not run just now."""
        with self._lock:
            for each in self._kept:
                if each.name == name and each.process is not None and each.process.poll() is None:
                    return each.process.pid
        return None

    def age(self, name: str) -> float:
        """Seconds since one of its processes was started; 0: it does not run."""
        if self.pid(name) is None:
            return 0.0
        return time.monotonic() - next(each.began for each in self._kept if each.name == name)

    def workers(self) -> list[int]:
        """The processes that load, those below ``serve`` when the queue is in memory."""
        if not self.in_memory:
            with self._lock:
                names = [each.name for each in self._kept if each.name != "serve"]
            return [pid for name in names if (pid := self.pid(name)) is not None]
        serve = self.pid("serve")
        return [] if serve is None else [pid for pid in under(serve) - {serve} if _loads(pid)]

    def kill(self, pid: int, how: signal.Signals = signal.SIGKILL) -> bool:
        """Send a signal to one of its processes; False when it was gone."""
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return False
        return True

    def verify(self, *, deep: bool = True) -> list[str]:
        """What ``nemflow verify --drained --deep`` says is broken."""
        told = subprocess.run(
            [*NEMFLOW, "verify", "--drained", *(["--deep"] if deep else []), "--json"],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        try:
            promises: list[dict[str, Any]] = json.loads(told.stdout)["promises"]
        except (ValueError, KeyError):
            return [f"nemflow verify ends with {told.returncode}: {told.stderr[-500:]}"]
        return [
            f"verify: {each['promise']}: {each['broken']}, {each['example']}"
            for each in promises
            if not each["held"]
        ]

    def end(self) -> None:
        """SIGTERM to all, SIGKILL to what does not end by that."""
        self._over.set()
        if self._keeper.is_alive():
            self._keeper.join()
        running = [each.process for each in self._kept if each.process is not None]
        for process in running:
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + _END_SECONDS
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _keep_running(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            with self._lock:
                for each in self._kept:
                    if each.process is not None:
                        code = each.process.poll()
                        if code is None:
                            continue
                        if not each.counted:
                            self.ended.append(Ended(each.name, code, time.monotonic()))
                            each.counted = True
                        if not self.keep:
                            continue
                    each.process, each.began = self._started(each), time.monotonic()
                    each.counted = False

    def _started(self, each: _Kept) -> subprocess.Popen[bytes]:
        with (self.folder / f"{each.name}.log").open("ab") as log:
            return subprocess.Popen(
                each.command, cwd=self.folder, env=each.environ, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Running]:
    """A service that runs during the block; arguments as of ``Running``."""
    service = Running(folder, **options)
    try:
        service.start()
        yield service
    finally:
        service.end()
        forget(service.queue, service.prefix)


def forget(queue: str, prefix: str) -> None:
    """Remove from a shared broker what a service had there."""
    import pika
    import redis

    with contextlib.suppress(redis.RedisError, pika.exceptions.AMQPError, OSError):
        if queue.startswith("redis"):
            with redis.Redis.from_url(queue, socket_connect_timeout=2) as client:
                for key in client.scan_iter(f"{prefix}*"):
                    client.delete(key)
        elif queue.startswith("amqp"):
            with pika.BlockingConnection(pika.URLParameters(queue)) as connection:
                for lane in ("urgent", "normal", "bulk"):
                    for kind in ("", ".DQ", ".XQ"):
                        connection.channel().queue_delete(f"{prefix}.{lane}{kind}")


@dataclass(slots=True)
class Trouble:
    """Something that goes on while files are sent and loaded; ``over`` says when to stop."""

    do: Callable[[threading.Event], None]
    over: threading.Event = field(default_factory=threading.Event)
    failed: list[str] = field(default_factory=list)

    @contextmanager
    def made(self) -> Iterator[None]:
        """It goes on during the block."""

        def work() -> None:
            try:
                self.do(self.over)
            except Exception as error:  # noqa: BLE001  told as what went wrong
                self.failed.append(f"the trouble could not be made: {error!r}")

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            thread.join(120)


def sent_under(
    service: Running,
    mix: Mix,
    rate: float,
    trouble: Callable[[threading.Event], None],
    attack: Attack,
    *,
    senders: int = 6,
    drain: float = DRAIN_SECONDS,
) -> Simulation:
    """Send a mix while trouble is made, wait until all is final, compare every reading.

    What is not as it must be is added to ``attack.wrong``; what was counted to ``attack.counts``.
    """
    made = Trouble(trouble)
    with service.client() as client:
        door, asking = HttpDoor(client), Asking(client)
        with made.made():
            pace = Pace(per_second=rate, senders=senders, patience=300)
            found = run.send(mix, door, pace, asking)
            run.drain(found, asking, drain)
        _until_nothing_waits(client, drain)
        run.compare(found, asking)
    judge(service, found, attack)
    attack.wrong += made.failed
    return found


def _until_nothing_waits(client: httpx.Client, seconds: float) -> None:
    """Returns when what the trouble has sent is done too, at the latest after so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
            if not client.get("/v1/backlog").json()["files"]:
                return
        time.sleep(0.5)


def judge(service: Running, found: Simulation, attack: Attack) -> None:
    """What of it is wrong, by what was sent and by what the ledger says of itself."""
    told = run.told(found)
    attack.wrong += [
        f"{d['where']}: {d['expected']}, told {d['told']}" for d in told["examples"][:10]
    ]
    if told["drained_after"] is None:
        attack.wrong.append(f"not all is final after {DRAIN_SECONDS} s: {told['states']}")
    if told["refused"] or told["not_sent"]:
        attack.wrong.append(f"{told['refused']} refused for good, {told['not_sent']} given up")
    if told["refusals_without_retry_after"]:
        attack.wrong.append(f"{told['refusals_without_retry_after']} refusals without Retry-After")
    if others := set(told["refusals"]) - {"no answer", "429", "503", "507"}:
        attack.wrong.append(f"answered with {', '.join(sorted(others))}: {told['refusals']}")
    rows = () if found.verdict is None else found.verdict.rows.values()
    attack.wrong += [
        f"{row['name']} is dead: {row['error']}" for row in rows if row["state"] == "dead"
    ]
    attack.wrong += service.verify()
    spool = Path(service.environ.get("NEMFLOW_SPOOL_FOLDER", service.folder / "nemflow-spool"))
    left = list((spool / "landing").glob("*"))
    for name, count in {
        "uploads accepted": told["accepted"],
        "uploads not answered at first": told["refusals"].get("no answer", 0),
        "uploads refused at first": sum(told["refusals"].get(s, 0) for s in ("429", "503", "507")),
        "texts accounted for": told["texts"],
        "readings compared": told["readings"],
        "differences": told["differences"],
        "unfinished uploads left for the next sweep": len(left),
    }.items():
        attack.counts[name] = attack.counts.get(name, 0) + count


def _loads(pid: int) -> bool:
    """Whether a process below ``serve`` is one that loads."""
    with contextlib.suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
