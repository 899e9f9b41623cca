"""Send, wait, ask, compare: one simulation from its first parcel to its verdict.

Why: the command line, the attacks and the benchmarks run the same thing.

Promises: the wait for the end is bounded; while it runs, what waits in the service is looked at
once a second; what was sent can be kept in a file and compared again later (``to_json``).

Look next: ``sending.py``, ``asking.py``, ``judging.py``.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from nemflow.errors import NemflowError, UsageError
from nemflow.simulating.asking import FINAL, Asking, Row
from nemflow.simulating.judging import (
    Difference,
    Verdict,
    all_final,
    compared,
    expected_readings,
    judge_states,
)
from nemflow.simulating.sending import Door, Pace, Sending, Sent
from nemflow.simulating.traffic import Mix, Text, Traffic

_LOOK_SECONDS: Final = 1.0
_SHOWN: Final = 200  # differences that are kept in words; all are counted
Tell = Callable[[str, int, int], None]  #: what is being done, how many, of how many


def silent(doing: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class Waiting:
    """The most that waited in the service."""

    files: int = 0
    bytes: int = 0
    oldest_seconds: float = 0.0
    seen: int = 0  #: how often it was looked

    def look(self, backlog: Row) -> None:
        """Take one answer in."""
        self.seen += 1
        self.files = max(self.files, backlog["files"])
        self.bytes = max(self.bytes, backlog["bytes"])
        self.oldest_seconds = max(self.oldest_seconds, backlog["oldest_seconds"])


@dataclass(slots=True)
class Simulation:
    """What was sent, and what is known of it."""

    traffic: Traffic
    sent: list[Sent]
    after: int = 0  #: the newest delivery before the first of ours
    seconds: float = 0.0  #: from the first parcel to the last answer
    drained: float | None = None  #: seconds more until all was final; None: not within the time
    waiting: Waiting = field(default_factory=Waiting)
    verdict: Verdict | None = None
    readings: int = 0  #: compared, each value for value
    nmi_days: int = 0
    compared: bool = False  #: whether readings were compared
    differences: int = 0
    examples: list[Difference] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """What ``compare`` needs, as plain values."""
        mix = self.traffic.mix.to_json()
        return {"mix": mix, "after": self.after, "sent": [asdict(each) for each in self.sent]}

    @classmethod
    def from_json(cls, told: Any) -> Simulation:
        """The other way round. Raises UsageError."""
        try:
            traffic = Traffic(Mix.from_json(told["mix"]))
            sent = [Sent(**each) for each in told["sent"]]
            for each in sent:
                each.refusals = {int(status): n for status, n in each.refusals.items()}
            found = cls(traffic, sent, int(told["after"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError("This is no record of a simulation.") from error
        if [each.number for each in sent] != [parcel.number for parcel in traffic.parcels]:
            raise UsageError("This record is of another version: its parcels are not these.")
        return found

    @property
    def right(self) -> bool:
        """Whether nothing differs, all is final, and nothing was given up."""
        given_up = any(each.outcome in ("not_sent", "waiting") for each in self.sent)
        return not self.differences and not given_up


def send(
    mix: Mix, door: Door, pace: Pace, asking: Asking | None = None, tell: Tell = silent
) -> Simulation:
    """Send everything; returns when each parcel is accepted or given up.

    Args:
        mix: what is sent.
        door: where to.
        pace: how fast.
        asking: the service, when it can be asked; its backlog is looked at meanwhile.
        tell: told how many are sent.
    """
    traffic = Traffic(mix)
    total = len(traffic.parcels)
    sending = Sending(traffic, door, pace, lambda done: tell("Sending", done, total))
    found = Simulation(traffic, sending.sent, 0 if asking is None else asking.newest())
    begun = time.monotonic()
    with watched(asking, found.waiting):
        sending.run()
    found.seconds = time.monotonic() - begun
    return found


def drain(found: Simulation, asking: Asking, seconds: float, tell: Tell = silent) -> None:
    """Wait until all is final, at most so long; then account for it in ``found.verdict``."""
    begun = time.monotonic()
    with watched(asking, found.waiting):
        while True:
            asked = time.monotonic()
            rows = asking.deliveries(found.after)
            now = time.monotonic()
            if all_final(found.traffic, found.sent, rows):
                found.drained = now - begun
                break
            if now - begun > seconds:
                break
            done = sum(row["parent"] is None and row["state"] in FINAL for row in rows)
            tell("Waiting", done, len(found.sent))
            time.sleep(min(max(_LOOK_SECONDS, 5 * (now - asked)), 30.0))
    found.verdict = judge_states(found.traffic, found.sent, rows)
    _note(found, found.verdict.differences)


def compare(found: Simulation, asking: Asking, jobs: int = 4, tell: Tell = silent) -> None:
    """Compare the readings of every line with what the service says, value for value."""
    verdict = found.verdict
    if verdict is None:
        raise UsageError("First drain, then compare.")
    lines = sorted(verdict.lines)

    def line(number: int) -> tuple[int, int, list[Difference]]:
        return _compared(found.traffic, number, verdict.standing.get(number), asking)

    with ThreadPoolExecutor(jobs) as pool:
        for done, (readings, days, differences) in enumerate(pool.map(line, lines), 1):
            found.readings += readings
            found.nmi_days += days
            _note(found, differences)
            tell("Comparing", done, len(lines))
    found.compared = True


def _compared(
    traffic: Traffic, number: int, version: int | None, asking: Asking
) -> tuple[int, int, list[Difference]]:
    """Readings, NMI-days and differences of one line."""
    line = traffic.line(number)
    answers = [asking.readings(nmi, line.first_day, line.last_day) for nmi in line.nmis]
    told = [frame for frame in answers if frame is not None]
    expected = None
    if version is not None:
        expected = expected_readings(traffic.text(Text(number, version)))
    days = 0 if expected is None else len(line.nmis) * line.days * len(traffic.mix.streams)
    return 0 if expected is None else expected.height, days, compared(expected, told)


def _note(found: Simulation, differences: Sequence[Difference]) -> None:
    found.differences += len(differences)
    found.examples += differences[: max(0, _SHOWN - len(found.examples))]


@contextmanager
def watched(asking: Asking | None, waiting: Waiting) -> Iterator[None]:
    """Look at the service's backlog once a second while the block runs."""
    if asking is None:
        yield
        return
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            # it may be restarting; the block's own questions tell what is wrong
            with suppress(NemflowError):
                waiting.look(asking.backlog())
            over.wait(_LOOK_SECONDS)

    watcher = threading.Thread(target=look, name="backlog watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(5.0)


def told(found: Simulation) -> dict[str, Any]:
    """The result as plain values: counts, latencies in seconds, differences."""
    sent = found.sent
    taken = [each for each in sent if each.outcome == "accepted"]
    refusals: Counter[int] = Counter()
    for each in sent:
        refusals.update(each.refusals)
    verdict = found.verdict
    rows = {} if verdict is None else verdict.rows
    finals = [
        _between(row["received_at"], row["finished_at"])
        for row in rows.values()
        if row["finished_at"] is not None
    ]
    by_folder = [
        max(0.0, datetime.fromisoformat(row["received_at"]).timestamp() - sent[number].began_at)
        for number, row in rows.items()
        if sent[number].delivery is None and sent[number].began_at
    ]
    return {
        "mix": found.traffic.mix.to_json(),
        "parcels": len(sent),
        "accepted": len(taken),
        "refused_then_accepted": sum(bool(each.refusals) for each in taken),
        "refused": sum(each.outcome == "refused" for each in sent),
        "not_sent": sum(each.outcome in ("not_sent", "waiting") for each in sent),
        "refusals": {str(status or "no answer"): n for status, n in sorted(refusals.items())},
        "refusals_without_retry_after": sum(each.bare for each in sent),
        "bytes": sum(each.size for each in taken),
        "seconds": round(found.seconds, 3),
        "per_second": round(len(taken) / found.seconds, 3) if found.seconds else None,
        "late": spread([each.late for each in sent]),
        "latency_accepted": spread(by_folder or [each.accepted for each in taken]),
        "latency_final": spread(finals),
        "drained_after": None if found.drained is None else round(found.drained, 3),
        "waiting_most": asdict(found.waiting),
        "texts": 0 if verdict is None else verdict.texts,
        "states": {} if verdict is None else dict(sorted(verdict.states.items())),
        "compared": found.compared,
        "readings": found.readings,
        "nmi_days": found.nmi_days,
        "differences": found.differences,
        "examples": [asdict(each) for each in found.examples],
        "right": found.right,
    }


def spread(seconds: Sequence[float]) -> dict[str, float] | None:
    """Median, 95th percentile (nearest rank) and maximum; None of nothing."""
    if not seconds:
        return None
    ranked = sorted(seconds)
    p95 = ranked[-(-95 * len(ranked) // 100) - 1]
    return {
        "p50": round(ranked[(len(ranked) - 1) // 2], 4),
        "p95": round(p95, 4),
        "max": round(ranked[-1], 4),
    }


def _between(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
