"""More comes than can be loaded: uploads are refused in time, nothing accepted is lost.

The service runs as on a laptop (SQLite, queue in memory, one worker) with limits so small that
each is hit in turn: files that wait, bytes that wait, bytes in the spool. The simulator sends in an
open loop at four times the rate at which the service was seen to load, and does not send again what
is refused; then the service is left to catch up and is compared with what it accepted.

Look next: ``served.py``; ``nemflow.simulating``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chaos.report import Attack
from chaos.served import Served, served
from nemflow.simulating import run
from nemflow.simulating.asking import Asking
from nemflow.simulating.sending import HttpDoor, Pace
from nemflow.simulating.traffic import Mix

_TIMES = 4  # the rate at which it was seen to load
_SENDERS = 16
_DRAIN_SECONDS = 600
_CALIBRATION_FILES = 40
_MOST_GROWTH = 1.5  # of memory, last third against first
#: 4 NMIs x 10 days x 5 minutes: about 60 kB
_MIX = Mix(
    nmis=4, days=10, intervals=(5,), corrections=0.1, duplicates=0.05, broken=0.02, zipped=0.05,
    asexml=0.05,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit that is to be hit."""

    name: str
    settings: dict[str, str]
    status: int  #: with which uploads are refused
    most_spool: int | None = None  #: bytes
    broken: float = 0.02  #: what is refused is kept in the spool, and would fill it for good


LIMITS = (
    Limit("files", {"NEMFLOW_SERVICE_WAITING_FILES": "40"}, 503),
    Limit("bytes", {"NEMFLOW_SERVICE_WAITING_BYTES": "512 KiB"}, 503),
    Limit("spool", {"NEMFLOW_SPOOL_TOTAL_BYTES": "2 MiB"}, 507, 2 << 20, broken=0.0),
)


def overload(folder: Path, rng: random.Random, *, seconds: float) -> Attack:
    """Send several times what can be loaded, for so many seconds in all."""
    attack = Attack(
        "Overload of the service",
        f"An SQLite service with a queue in memory and one worker is sent {_TIMES} times what it "
        f"was seen to load, for {seconds:,.0f} s in all, in an open loop by {_SENDERS} senders, "
        "with corrections, duplicates, mistakes, zips and messages; a third of it against each "
        "limit: 40 files waiting, 512 KiB waiting, 2 MiB in the spool. What is refused is not sent "
        "again. Afterwards it catches up, and every text and every reading is compared.",
    )
    rows = []
    drained = _drained_per_second(folder / "calibration", rng)
    for limit in LIMITS:
        with served(folder / limit.name, "--workers", "1", settings=limit.settings) as service:
            told = _one(service, limit, rng, seconds / len(LIMITS), drained)
        rows.append(told)
        attack.wrong += [f"limit of {limit.name}: {wrong}" for wrong in told["wrong"]]
    attack.counts = {
        "uploads accepted": sum(row["accepted"] for row in rows),
        "uploads refused": sum(row["refused"] for row in rows),
        "refusals without Retry-After": sum(row["bare"] for row in rows),
        "texts accounted for": sum(row["texts"] for row in rows),
        "readings compared": sum(row["readings"] for row in rows),
        "differences": sum(row["differences"] for row in rows),
        "oldest waiting, most (s)": max(row["oldest"] for row in rows),
    }
    attack.more = _table(rows)
    return attack


def _one(
    service: Served, limit: Limit, rng: random.Random, seconds: float, drained: float
) -> dict[str, Any]:
    """One limit: send several times what it loads, let it catch up, compare."""
    with service.client() as client:
        door, asking = HttpDoor(client), Asking(client)
        rate = _TIMES * drained
        files = max(1, int(rate * seconds))
        mix = replace(_MIX, broken=limit.broken, seed=rng.randrange(1_000_000), files=files)
        found = run.send(mix, door, Pace(per_second=rate, senders=_SENDERS, retry=False), asking)
        run.drain(found, asking, _DRAIN_SECONDS)
        run.compare(found, asking)
    told, taken = run.told(found), service.taken
    wrong = [f"{d['where']}: {d['expected']}, told {d['told']}" for d in told["examples"][:5]]
    if told["drained_after"] is None:
        wrong.append(f"not all is final after {_DRAIN_SECONDS} s")
    if told["refusals_without_retry_after"]:
        wrong.append(f"{told['refusals_without_retry_after']} refusals without Retry-After")
    if not told["refusals"].get(str(limit.status)):
        wrong.append(f"nothing was refused with {limit.status}: {told['refusals']}")
    if others := set(told["refusals"]) - {"503", "507"}:
        wrong.append(f"refused with {', '.join(sorted(others))}")
    if taken.growth() > _MOST_GROWTH:
        wrong.append(f"memory grew {taken.growth():.2f} times")
    spool = max(taken.spool, default=0)
    if limit.most_spool is not None and spool > 2 * limit.most_spool:
        wrong.append(f"the spool took {spool:,} bytes")
    return {
        "limit": limit.name,
        "wrong": wrong,
        "drained": drained,
        "offered": rate,
        "accepted": told["accepted"],
        "refused": told["refused"],
        "bare": told["refusals_without_retry_after"],
        "refusals": told["refusals"],
        "texts": told["texts"],
        "readings": told["readings"],
        "differences": told["differences"],
        "oldest": told["waiting_most"]["oldest_seconds"],
        "waiting": told["waiting_most"]["files"],
        "waiting_bytes": told["waiting_most"]["bytes"],
        "p95": (told["latency_accepted"] or {}).get("p95", 0.0),
        "late": (told["late"] or {}).get("p95", 0.0),
        "caught_up": told["drained_after"] or 0.0,
        "memory": max(taken.memory, default=0),
        "growth": taken.growth(),
        "spool": spool,
        "store_per_reading": taken.store / max(1, told["readings"]),
    }


def _drained_per_second(folder: Path, rng: random.Random) -> float:
    """Files per second from the first upload to the last final state, without limits."""
    with served(folder, "--workers", "1") as service, service.client() as client:
        asking = Asking(client)
        mix = replace(_MIX, files=_CALIBRATION_FILES, seed=rng.randrange(1_000_000))
        found = run.send(mix, HttpDoor(client), Pace(per_second=100, senders=4), asking)
        run.drain(found, asking, _DRAIN_SECONDS)
    return len(found.sent) / (found.seconds + (found.drained or 0.0))


def _table(rows: list[dict[str, Any]]) -> str:
    heads = (
        "limit", "loads/s", "offered/s", "accepted", "refused", "most files waiting",
        "most MB waiting", "oldest (s)", "accepted in p95 (s)", "caught up after (s)",
        "memory (MB)",
        "memory, last third / first", "spool, most (MB)", "store bytes/reading",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for row in rows:
        refused = ", ".join(f"{n:,} x {status}" for status, n in row["refusals"].items()) or "none"
        cells = (
            row["limit"], f"{row['drained']:.1f}", f"{row['offered']:.1f}", f"{row['accepted']:,}",
            refused, f"{row['waiting']:,}", f"{row['waiting_bytes'] / 1e6:.2f}",
            f"{row['oldest']:.1f}", f"{row['p95']:.3f}", f"{row['caught_up']:.1f}",
            f"{row['memory'] / 1e6:,.0f}", f"{row['growth']:.2f}", f"{row['spool'] / 1e6:.2f}",
            f"{row['store_per_reading']:.1f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
