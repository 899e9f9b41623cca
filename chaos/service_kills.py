"""Processes of the service are killed, at random and at every named moment, and told to stop.

Promises: whatever is killed when, every upload that was answered with success ends in exactly the
state that its content must lead to, and every reading of it is there once.

Look next: ``running.py`` for the service; ``service_outages.py``, where servers are away.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx

from chaos.report import Attack
from chaos.running import MIX, Running, running, sent_under
from nemflow.failpoints import PLACES
from nemflow.mdff.generate import generate

_RATE = 12.0  # uploads a second; more than is loaded meanwhile
_PER_KILL = 20  # files for each kill
#: A text of several pieces, so that the places between them are reached: 50 NMIs x 365 days.
_LARGE_DAYS, _LARGE_NMIS = 365, 50
_LARGE_MOST = 8
_LARGE_BYTES = 1_000_000
#: Only an attempt that lasts comes here, and not often: the first time counts.
_RARE = ("between-pieces", "job-beat", "job-failed", "job-hand-back", "job-handed-back")
_PLACES_FILES = 120
_WAITING_MOST = 20
_PLACES_SECONDS = 150.0


def worker_kills(
    folder: Path, rng: random.Random, *, kills: int, queue: str, database: str | None, name: str
) -> Attack:
    """Kill -9 of one worker after the other while files come in and are loaded."""
    files = kills * _PER_KILL
    attack = Attack(
        f"Service: workers killed, {name}",
        f"`nemflow serve` and two workers; a worker, by chance, is killed with -9 every 2 s or so "
        f"while {files:,} files of every kind are sent: plain, zips, messages, corrections, "
        "mistakes, repeated. Each worker is started again at once. In the end every text and every "
        "reading is compared with what was sent, and `nemflow verify --drained --deep` is asked.",
    )
    seen: Counter[str] = Counter()

    def trouble(over: threading.Event) -> None:
        while seen["kills"] < kills and not over.wait(rng.uniform(0.4, 3.2)):
            if (workers := service.workers()) and service.kill(rng.choice(workers)):
                seen["kills"] += 1

    with running(folder, database=database, queue=queue) as service:
        mix = replace(MIX, files=files, seed=rng.randrange(1_000_000))
        sent_under(service, mix, _RATE, trouble, attack)
    attack.counts = {"kills": seen["kills"], "files": files, **attack.counts}
    if seen["kills"] < kills:
        attack.wrong.append(f"only {seen['kills']} of {kills} kills met a service at work")
    return attack


def places(
    folder: Path, rng: random.Random, *, rounds: int, queue: str, database: str | None, name: str
) -> Attack:
    """A kill at every named moment, each once in a round, in whichever process comes to it."""
    attack = Attack(
        f"Service: every failpoint, {name}",
        "Every failpoint is armed at once, each to kill the first process that comes to it (the "
        "service, a worker, a process that parses), and never again: so each process that is "
        "started instead dies at another place, until none is left. Files of every kind are sent "
        "meanwhile, one of them large; workers are told to stop, and originals are away for a "
        "moment, so that the places of handing back and failing are met too.",
    )
    sqlite = database is None
    elsewhere = ("folder-", *(["mid-partition"] if sqlite else []))
    wanted = [place for place in PLACES if not place.startswith(elsewhere)]
    met: Counter[str] = Counter()
    for nth in range(rounds):
        place = folder / f"round-{nth}"
        marks = place / "killed"
        marks.mkdir(parents=True)
        nth_time = {each: 1 if each in _RARE else rng.randint(1, 3) for each in wanted}
        spec = ",".join(f"{each}@{n}=kill:{marks / each}" for each, n in nth_time.items())
        settings = {
            "NEMFLOW_FAILPOINTS": spec,
            "NEMFLOW_WORKER_GRACE_SECONDS": "5",
            "NEMFLOW_WORKER_BEAT_SECONDS": "1",  # else no attempt here is long enough for one
        }
        with running(place, database=database, queue=queue, settings=settings) as service:
            mix = replace(MIX, files=_PLACES_FILES, seed=rng.randrange(1_000_000))
            trouble = _unrest(service, marks, rng, len(wanted))
            sent_under(service, mix, _RATE, trouble, attack)
        met.update(path.name for path in marks.iterdir())
    attack.counts = {"places": len(wanted), "kills": met.total(), **attack.counts}
    attack.wrong += [f"nobody was ever killed at {each}" for each in wanted if not met[each]]
    return attack


def _unrest(
    service: Running, marks: Path, rng: random.Random, wanted: int
) -> Callable[[threading.Event], None]:
    """What leads processes to the places that an undisturbed service never comes to."""
    seed = rng.randrange(10**6)

    def large(nth: int) -> bytes:
        return generate(
            nmis=_LARGE_NMIS, days=_LARGE_DAYS, interval=5, streams=("E1",), seed=seed + nth
        )

    def trouble(over: threading.Event) -> None:
        until = time.monotonic() + _PLACES_SECONDS
        stopped, sent = 0.0, 0
        with service.client() as client:
            while len(list(marks.iterdir())) < wanted and time.monotonic() < until:
                missing = any(not (marks / place).exists() for place in _RARE)
                if missing and sent < _LARGE_MOST and _waiting(client) < _WAITING_MOST:
                    sent += _put(client, f"large-{sent}.csv", large(sent))
                if not (marks / "job-failed").exists():
                    _away_for_a_moment(service.folder / "nemflow-spool")
                if not (marks / "job-handed-back").exists() and stopped < time.monotonic() - 5:
                    for pid in service.workers() if _large_in_hand(client) else ():
                        service.kill(pid, signal.SIGTERM)
                        stopped = time.monotonic()
                if (
                    _waiting(client) < _WAITING_MOST
                ):  # what is sent here must be loaded in the end too
                    _put(client, "late.csv", _small(rng))
                over.wait(rng.uniform(0.2, 0.6))

    return trouble


def _waiting(client: httpx.Client) -> int:
    """How many files wait; many, when nobody can say."""
    with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
        return int(client.get("/v1/backlog").json()["files"])
    return _WAITING_MOST


def _large_in_hand(client: httpx.Client) -> bool:
    """Whether a large file is being loaded just now, which will take a while."""
    with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
        return any(
            each["state"] == "loading" and each["size"] > _LARGE_BYTES
            for each in client.get("/v1/now").json()["workers"]
        )
    return False


def _put(client: httpx.Client, name: str, body: bytes) -> bool:
    """One upload more; whether it was accepted."""
    with contextlib.suppress(httpx.HTTPError):
        return client.put(f"/v1/deliveries/{name}", content=body).is_success
    return False


def _small(rng: random.Random) -> bytes:
    return generate(days=2, streams=("E1",), seed=rng.randrange(10**6))


def _away_for_a_moment(spool: Path) -> None:
    """Originals that cannot be found, as on a share that is gone."""
    moved = []
    for path in spool.glob("??/??/*"):
        beside = path.with_name(f"away-{path.name}")
        try:
            path.rename(beside)
            moved.append((beside, path))
        except OSError:
            continue
    time.sleep(0.4)
    for beside, path in moved:
        if not path.exists():
            beside.rename(path)


def terminations(
    folder: Path, rng: random.Random, *, times: int, queue: str, database: str | None, name: str
) -> Attack:
    """SIGTERM of the service or a worker, again and again under load."""
    attack = Attack(
        f"Service: told to stop, {name}",
        f"`nemflow serve` and two workers under load; {times} times one of them, by chance, is "
        "sent SIGTERM. It must end with 0 within its grace time (8 s, and the time to close), and "
        "is started again.",
    )
    done: list[float] = []

    def trouble(over: threading.Event) -> None:
        while len(done) < times and not over.wait(rng.uniform(0.3, 1.0)):
            name = rng.choice(("serve", "worker-0", "worker-1"))
            if service.in_memory:
                name = "serve"
            pid = service.pid(name)
            if pid is None or not _is_up(service, name):
                continue
            before, at = len(service.ended), time.monotonic()
            service.kill(pid, signal.SIGTERM)
            while len(service.ended) == before and time.monotonic() < at + 30:
                time.sleep(0.05)
            if len(service.ended) == before:
                attack.wrong.append(f"{name} does not end within 30 s of SIGTERM")
                service.kill(pid)
                continue
            last = service.ended[-1]
            done.append(last.at - at)
            if last.code:
                attack.wrong.append(f"{last.name} ended with {last.code} after SIGTERM")
            if last.at - at > 13:
                attack.wrong.append(f"{last.name} took {last.at - at:.1f} s to stop")

    with running(folder, database=database, queue=queue) as service:
        mix = replace(MIX, files=times * 12, seed=rng.randrange(1_000_000))
        sent_under(service, mix, 6.0, trouble, attack)
    attack.counts = {"stops": len(done), "longest (s)": max(done, default=0.0), **attack.counts}
    if len(done) < times:
        attack.wrong.append(f"only {len(done)} of {times} stops met a service at work")
    return attack


def _is_up(service: Running, name: str) -> bool:
    """Whether a process is past its start: it answers, or has lived for some seconds."""
    if name == "serve":
        try:
            return httpx.get(f"{service.url}/livez", timeout=2).is_success
        except httpx.HTTPError:
            return False
    return service.age(name) > 4
