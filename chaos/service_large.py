"""A very large file is loaded while small ones come: whoever uploads is answered within a second.

How measured: one small file (2 days of one NMI) each half second by one sender, from the first byte
of the large upload to its final state; the time is from the first byte sent to the whole answer.

Look next: ``running.py`` for the service; docs/chaos.md for what was measured.
"""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import httpx

from chaos.report import Attack
from chaos.running import running
from nemflow.mdff.generate import generate
from nemflow.simulating.asking import FINAL

_NMIS, _DAYS, _READS = 50, 100, 288
_EVERY_SECONDS = 0.5
_MOST_SECONDS = 1.0
_PATIENCE = 1200.0
_PIECE = 1 << 20


def large_file(
    folder: Path, rng: random.Random, *, megabytes: int, queue: str, database: str | None, name: str
) -> Attack:
    """Load one file of so many megabytes; small uploads must be answered within a second."""
    path = folder / "large.csv"
    readings = _written(path, megabytes * 1_000_000, rng.randrange(10**6))
    workers = 1 if database is None else 2
    attack = Attack(
        f"Service: uploads beside a large file, {name}",
        f"One file of {path.stat().st_size / 1e9:.2f} GB ({readings:,} readings of 5 minutes) is "
        f"uploaded and loaded by {workers} worker{'s' * (workers > 1)}; meanwhile one small file "
        "(2 days of one NMI) is uploaded each half second by one sender. Measured from the first "
        "byte sent to the whole answer; no answer may take longer than "
        f"{_MOST_SECONDS:.0f} s.",
    )
    settings = {
        "NEMFLOW_SPOOL_FILE_BYTES": "8 GiB",
        "NEMFLOW_WORKER_LEASE_SECONDS": "120",
        "NEMFLOW_WORKER_BEAT_SECONDS": "15",
    }
    took: defaultdict[str, list[float]] = defaultdict(list)
    given = {"database": database, "queue": queue, "workers": workers, "settings": settings}
    with running(folder, **given) as service, service.client() as client:
        for nth in range(5):
            took["nothing else is done"].append(_small(client, 900_000 + nth, attack))
            time.sleep(_EVERY_SECONDS)
        began, answer = time.monotonic(), {}

        def upload() -> None:
            with httpx.Client(timeout=600) as other:
                where = f"{service.url}/v1/deliveries/large.csv"
                told = other.put(where, content=_pieces(path))
                answer.update(told.json() | {"at": time.monotonic() - began})

        sending = threading.Thread(target=upload, daemon=True)
        sending.start()
        state, nth = "uploading", 0
        while state not in FINAL and time.monotonic() - began < _PATIENCE:
            at = time.monotonic()
            took[state].append(_small(client, nth, attack))
            nth += 1
            if number := answer.get("delivery"):
                state = str(client.get(f"/v1/deliveries/{number}").json()["state"])
            elif not sending.is_alive():
                attack.wrong.append(f"the large upload was answered with {json.dumps(answer)}")
                break
            time.sleep(max(0.0, _EVERY_SECONDS - (time.monotonic() - at)))
        whole = time.monotonic() - began
        for each in range(10):  # what comes after: its original is removed, the store tidied up
            took["just after"].append(_small(client, 800_000 + each, attack))
            time.sleep(_EVERY_SECONDS / 2)
        if state != "loaded":
            attack.wrong.append(f"the large file is {state}")
        _until_done(client)
        attack.wrong += service.verify(deep=False)
    every = [each for some in took.values() for each in some]
    attack.counts = {
        "readings": readings,
        "seconds to the answer of the large upload": answer.get("at", 0.0),
        "seconds to its final state": whole,
        "small uploads": len(every),
    }
    for state, some in took.items():
        attack.counts[f"answered while {state}, median (s)"] = statistics.median(some)
        attack.counts[f"answered while {state}, longest (s)"] = max(some)
    if max(every) > _MOST_SECONDS:
        attack.wrong.append(f"an upload was answered after {max(every):.2f} s")
    path.unlink()
    return attack


def _small(client: httpx.Client, number: int, attack: Attack) -> float:
    """Upload one small file; seconds until it was answered."""
    body = generate(days=2, streams=("E1",), seed=number, nmis=[f"SAQ{number:07}"])
    began = time.perf_counter()
    status = client.put(f"/v1/deliveries/small-{number}.csv", content=body).status_code
    if status != 202:
        attack.wrong.append(f"a small upload was answered with {status}")
    return time.perf_counter() - began


def _until_done(client: httpx.Client) -> None:
    until = time.monotonic() + 120
    while client.get("/v1/backlog").json()["files"] and time.monotonic() < until:
        time.sleep(0.5)


def _written(path: Path, size: int, seed: int) -> int:
    """Write one text of about so many bytes; returns its readings."""
    written = chunk = 0
    with path.open("wb") as out:
        while written < size:
            first = chunk * _NMIS
            text = generate(
                days=_DAYS, streams=("E1",), interval=5, seed=seed + chunk,
                nmis=[f"SBG{nth:07}" for nth in range(first, first + _NMIS)],
            )  # fmt: skip
            lines = text.splitlines(keepends=True)
            if not chunk:
                out.write(lines[0])
            written += out.write(b"".join(lines[1:-1]))
            chunk += 1
        out.write(lines[-1])
    return chunk * _NMIS * _DAYS * _READS


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
