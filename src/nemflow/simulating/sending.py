"""When and how parcels are sent: at a rate, by several senders, again when the service says later.

Why: a service is overloaded only by somebody who does not wait for it. Parcels are due by the
clock (an open loop); one that begins late is told as late, and does not move the others.

Promises: every parcel is sent with its digest and a key of its own, so that sending it again after
a lost answer is harmless; ``Retry-After`` is obeyed, and its absence counted; a parcel is given up
only after ``patience`` seconds. Into a folder each is written under another name and renamed.

Look next: ``run.py``; ``traffic.py`` for what is sent.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import os
import random
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from nemflow.errors import UsageError
from nemflow.simulating.traffic import Parcel, Traffic

if TYPE_CHECKING:
    import httpx

#: Answers after which the same upload may be sent again.
LATER: Final = frozenset({408, 429, 500, 502, 503, 504, 507})
_KEPT_BYTES: Final = 64 << 20  # of small bodies, which may have to be sent again
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said to one attempt."""

    accepted: bool
    delivery: int | None = None  #: its number; None: not known (a folder)
    later: bool = False  #: it may be sent again
    retry_after: float | None = None  #: seconds, when it was said
    status: int = 0  #: of HTTP; 0: no answer
    why: str = ""


class Door(Protocol):
    """Where parcels go."""

    def put(self, parcel: Parcel, body: bytes, key: str) -> Answer:
        """Hand one over; raises nothing that is only bad luck."""
        ...


@dataclass(slots=True)
class Sent:
    """What is remembered of one parcel."""

    number: int
    outcome: str = "waiting"  #: accepted, refused (for good) or not_sent
    delivery: int | None = None
    began_at: float = 0.0  #: Unix time of the attempt that was accepted
    late: float = 0.0  #: seconds from when it was due to when it was begun
    accepted: float = 0.0  #: seconds of the attempt that was accepted
    size: int = 0  #: bytes
    refusals: dict[int, int] = field(default_factory=dict)  #: attempts by status; 0: no answer
    bare: int = 0  #: refusals that did not say when to come back
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast, and how patient."""

    per_second: float
    burst: int = 1  #: so many are due at the same moment
    senders: int = 4
    patience: float = 600.0  #: seconds after which a parcel is given up
    retry: bool = True  #: send again what was refused for now

    def due(self, number: int) -> float:
        """Seconds after the beginning at which a parcel is due."""
        return number // self.burst * self.burst / self.per_second


class HttpDoor:
    """A service: ``PUT /v1/deliveries/{name}``."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def put(self, parcel: Parcel, body: bytes, key: str) -> Answer:
        """One attempt."""
        import httpx

        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        headers = {
            "Content-Digest": f"sha-256=:{digest}:",
            "Content-Type": "application/octet-stream",
            "Idempotency-Key": key,
        }
        where = f"/v1/deliveries/{quote(parcel.name, safe='')}"
        try:
            told = self._client.put(where, headers=headers, content=body)
        except httpx.TransportError as error:
            return Answer(accepted=False, later=True, why=str(error) or type(error).__name__)
        if told.is_success:
            return Answer(accepted=True, delivery=told.json()["delivery"], status=told.status_code)
        return Answer(
            accepted=False,
            later=told.status_code in LATER,
            retry_after=_seconds(told.headers.get("retry-after")),
            status=told.status_code,
            why=problem(told),
        )


class FolderDoor:
    """A drop folder: written as ``NAME.part``, then renamed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, parcel: Parcel, body: bytes, key: str) -> Answer:
        """Write it; a full disk is a refusal for now."""
        target = self._folder / parcel.name
        part = target.with_name(f"{target.name}.part")
        try:
            part.write_bytes(body)
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            return Answer(accepted=False, later=True, why=f"{target}: {error.strerror}")
        return Answer(accepted=True)


def open_folder(folder: Path) -> FolderDoor:
    """The door of a folder that is there and can be written. Raises UsageError."""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"{folder} is no folder that can be written.", hint="Make it first.")
    return FolderDoor(folder)


def problem(answer: httpx.Response) -> str:
    """The service's own words, with its code."""
    try:
        told = answer.json()
        return f"{told['code']}: {told['detail']} {told.get('hint', '')}".strip()
    except (ValueError, KeyError, TypeError):
        return f"The service answers {answer.status_code}."


class Sending:
    """Sends all parcels of a traffic; ``run`` returns when each is accepted or given up.

    Args:
        traffic: what is sent.
        door: where to.
        pace: how fast.
        tell: called after each attempt with how many are done; from several threads.
    """

    def __init__(
        self,
        traffic: Traffic,
        door: Door,
        pace: Pace,
        tell: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.sent = [Sent(parcel.number) for parcel in traffic.parcels]
        self._keys = [uuid.uuid4().hex for _ in traffic.parcels]
        self._traffic, self._door, self._pace, self._tell = traffic, door, pace, tell
        self._bodies = _Bodies(traffic)
        self._turn = threading.Condition()
        self._open = len(self.sent)
        self._done = 0
        self._failed: BaseException | None = None
        self._begun = 0.0
        self._due = [(pace.due(number), number) for number in range(len(self.sent))]

    def run(self) -> list[Sent]:
        """Send everything; Ctrl-C ends it between two attempts."""
        self._begun = time.monotonic()
        threads = [
            threading.Thread(target=self._work, name=f"sender {n}", daemon=True)
            for n in range(self._pace.senders)
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException as stop:
            self._stop(stop)
            raise
        if self._failed is not None:
            raise self._failed
        return self.sent

    def _stop(self, why: BaseException) -> None:
        with self._turn:
            self._failed = self._failed or why
            self._open = 0
            self._turn.notify_all()

    def _work(self) -> None:
        try:
            while (due := self._next()) is not None:
                self._attempt(*due)
        except BaseException as error:  # noqa: BLE001  a fault of ours: told by run()
            self._stop(error)

    def _next(self) -> tuple[float, int] | None:
        """The parcel that is due first; its body is made before it is due."""
        with self._turn:
            while not self._due:
                if self._open <= 0:
                    return None
                self._turn.wait(1.0)
            return heapq.heappop(self._due) if self._open > 0 else None

    def _attempt(self, due: float, number: int) -> None:
        parcel, row = self._traffic.parcels[number], self.sent[number]
        body = self._bodies.of(parcel)
        row.size = len(body)
        time.sleep(max(0.0, self._begun + due - time.monotonic()))
        began, row.began_at = time.monotonic(), time.time()
        if not row.refusals:
            row.late = began - self._begun - due
        told = self._door.put(parcel, body, self._keys[number])
        now = time.monotonic()
        if told.accepted:
            row.outcome, row.delivery, row.accepted = "accepted", told.delivery, now - began
            return self._ended(number)
        row.why = told.why
        row.refusals[told.status] = row.refusals.get(told.status, 0) + 1
        row.bare += told.retry_after is None and told.status in LATER
        tries = sum(row.refusals.values())
        pause = min(_FIRST_PAUSE * 2 ** (tries - 1), _LONGEST_PAUSE)
        after = now - self._begun + (told.retry_after or pause) + random.uniform(0, 0.5)  # noqa: S311
        if not told.later or not self._pace.retry:
            row.outcome = "refused"
            return self._ended(number)
        if after - self._pace.due(number) > self._pace.patience:
            row.outcome = "not_sent"
            return self._ended(number)
        with self._turn:
            heapq.heappush(self._due, (after, number))
            self._turn.notify()
        return None

    def _ended(self, number: int) -> None:
        self._bodies.drop(number)
        with self._turn:
            self._open -= 1
            self._done += 1
            done = self._done
            self._turn.notify_all()
        self._tell(done)


class _Bodies:
    """Bodies made, the small ones kept until they are accepted, in bounded memory."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def of(self, parcel: Parcel) -> bytes:
        with self._lock:
            if (known := self._kept.get(parcel.number)) is not None:
                return known
        made = self._traffic.body(parcel)
        with self._lock:
            if parcel.number not in self._kept and self._size + len(made) <= _KEPT_BYTES:
                self._kept[parcel.number] = made
                self._size += len(made)
        return made

    def drop(self, number: int) -> None:
        with self._lock:
            self._size -= len(self._kept.pop(number, b""))


def _seconds(text: str | None) -> float | None:
    """``Retry-After`` in seconds; None when it is absent or no number."""
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None
