"""What happened, as frozen records.

Why: metrics, logs, traces and progress displays are other people's business. The rooms that do
the work emit one of these records through a hook they are given, and import no telemetry library.

Promises: standard library only; every record is immutable, can be pickled, and is told after the
commit it speaks of; every field says what it is; counts in a record always balance. None holds
meter data, a secret, or a sender's name of a file, but ``source`` of ``FileFinished`` and
``Progress`` and the whole of ``DayConflict``, which are for whoever shows a load to its user. A
hook is any callable that takes one record; ``tell`` calls it so that its faults hurt nobody.

Look next: ``nemflow.telemetry`` makes numbers, lines and spans of them.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime

log = logging.getLogger(__name__)
_PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_RULE = re.compile(r"([A-Z]\d{3}|Q-[A-Z]+|E-[A-Z-]+)\b")


# -- a load -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileFinished:
    """A file has reached a final state; days read = stored + unchanged + rejected."""

    source: str  #: path, and member inside it, e.g. ``day.zip/a.csv``
    sha256: str | None  #: identity of the file's decompressed bytes; None: never became a file
    state: str  #: loaded, partly_loaded, duplicate or rejected
    days_read: int
    days_stored: int
    days_unchanged: int
    days_rejected: int
    reads_read: int
    reads_stored: int
    reads_unchanged: int
    reads_rejected: int
    rules: tuple[tuple[str, int], ...] = ()  #: rule id and how many records it rejected
    reason: str = ""  #: of what was not loaded whole: the rule that counts most, or a code
    bytes: int = 0  #: of its text; of a container that could not be opened, as delivered
    dry_run: bool = False  #: nothing of it was stored


@dataclass(frozen=True, slots=True)
class RecordsReplayed:
    """Quarantined records of one file were read again; tried = stored + unchanged + rejected."""

    days_stored: int
    days_unchanged: int
    days_rejected: int  #: still
    reads_stored: int
    reads_unchanged: int
    reads_rejected: int


@dataclass(frozen=True, slots=True)
class DayConflict:
    """Two different contents claim the same day under the same version stamp.

    The winner is decided by file DateTime, then content hash, so nobody waits for a person; but a
    person should look.
    """

    nmi: str
    day: str  #: ISO date
    suffix: str
    version_at: str | None  #: the stamp both carry, ISO with ``+10:00``
    source: str  #: the file that brought the later of the two
    content_hash: str  #: of the content it brought; ``versions`` shows them side by side


@dataclass(frozen=True, slots=True)
class LoadPublished:
    """A load became visible (published or redone) or was taken back (undone)."""

    kind: str  #: published, redone, undone
    seq: int  #: its place in the order of commits
    at: str  #: ISO with ``+10:00``
    loads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LoadCleared:
    """The rows of a load that died unpublished were removed."""

    loads: tuple[int, ...]
    deliveries: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load has come."""

    source: str  #: what is being worked on
    files_done: int
    days_done: int
    bytes_done: int
    bytes_total: int | None  #: None when not known beforehand


# -- a delivery -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class About:
    """Which delivery a record speaks of, and who brought it."""

    delivery: int
    trace: str | None = None  #: W3C traceparent of the request, or of whatever brought it
    request: str | None = None  #: X-Request-ID; None: it came by no request
    who: str | None = None  #: name of the key
    channel: str = ""  #: http, folder, batch
    sender: str | None = None
    lane: str = "normal"


@dataclass(frozen=True, slots=True)
class DeliveryReceived:
    """A delivery is safe: in the spool and in the ledger."""

    about: About
    state: str  #: received, or duplicate
    bytes: int  #: as delivered; of a duplicate too
    began_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class AttemptBegan:
    """A worker has claimed a delivery."""

    about: About
    attempt: int  #: 1: the first
    at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step of an attempt is over, and on the delivery's timeline."""

    about: About
    step: str  #: inspect, load, settle
    attempt: int
    began_at: datetime
    ended_at: datetime
    outcome: str  #: ok, the state it led to, or the code of the error


@dataclass(frozen=True, slots=True)
class LeaseExpired:
    """A worker was silent for too long, or is gone: its delivery is for another one."""

    about: About
    attempt: int


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """An attempt has failed, and another one may succeed."""

    about: About
    attempt: int  #: the one that failed
    reason: str  #: code of the error
    seconds: float  #: until the next


@dataclass(frozen=True, slots=True)
class AttemptFinished:
    """An attempt has ended; the delivery need not have."""

    about: About
    attempt: int
    began_at: datetime
    ended_at: datetime
    outcome: str  #: the state it led to, or ``lost``
    reason: str = ""  #: code of the error


@dataclass(frozen=True, slots=True)
class DeliveryFinished:
    """A delivery has reached its end; counts are those of its last attempt and balance."""

    about: About
    state: str  #: loaded, partly_loaded, duplicate, rejected, dead
    reason: str  #: of what was not loaded whole: a rule id or the code of an error; else empty
    bytes: int  #: as delivered
    attempts: int
    seconds: float  #: since it was received
    files: int = 0  #: texts in it
    days_read: int = 0
    days_stored: int = 0
    days_unchanged: int = 0
    days_rejected: int = 0
    reads_read: int = 0
    reads_stored: int = 0
    reads_unchanged: int = 0
    reads_rejected: int = 0
    dry_run: bool = False


# -- the service ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A request has its answer."""

    request: str  #: X-Request-ID
    trace: str  #: W3C traceparent; its span is the request
    parent: str | None  #: traceparent that the caller sent
    who: str | None  #: name of the key
    method: str
    route: str  #: the pattern, never the address: ``/v1/nmis/{nmi}/readings``
    status: int
    began_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class UploadRefused:
    """An upload was not taken; nothing of it is kept."""

    code: str  #: of the problem document
    request: str | None = None
    trace: str | None = None
    who: str | None = None


@dataclass(frozen=True, slots=True)
class BreakerChanged:
    """Something that others need is away, or back."""

    name: str  #: database, broker
    open: bool


@dataclass(frozen=True, slots=True)
class LookedThrough:
    """The reconciler has looked through the ledger."""

    sent: int  #: deliveries the queue was told of


Event = (
    FileFinished
    | RecordsReplayed
    | DayConflict
    | LoadPublished
    | LoadCleared
    | DeliveryReceived
    | AttemptBegan
    | StepFinished
    | LeaseExpired
    | RetryScheduled
    | AttemptFinished
    | DeliveryFinished
    | RequestAnswered
    | UploadRefused
    | BreakerChanged
    | LookedThrough
)
Hook = Callable[[Event], None]
ProgressHook = Callable[[Progress], None]


def tell(hook: Hook | None, event: Event) -> None:
    """Tell a hook, if there is one; what it raises is logged and hurts nobody's work."""
    if hook is None:
        return
    try:
        hook(event)
    except Exception:
        log.exception("A hook failed on %s.", type(event).__name__)


def reason_of(error: str | None, rules: dict[str, int]) -> str:
    """The reason in one word: the rule or code an error begins with, else the commonest rule.

    Empty: there is none. It is one of the rule ids and codes of the docs, or ``repeated`` for a
    text that came twice in one delivery, or ``other``: never a text of a sender's.
    """
    found = _RULE.match(error or "")
    if found is not None:
        return found[1]
    if rules:
        return max(sorted(rules), key=lambda rule: rules[rule])
    if error is None:
        return ""
    return "repeated" if error.startswith("the same text as") else "other"


# -- where we are -----------------------------------------------------------------------------


@dataclass(slots=True)
class Scene:
    """What this thread or request is about, for whoever writes a line in a log.

    The one thing here that changes: a request learns who asks, an attempt goes from step to step.
    """

    request: str | None = None
    trace: str | None = None  #: W3C traceparent
    who: str | None = None
    delivery: int | None = None
    step: str | None = None


#: Set by the service for a request, by a worker for an attempt; threads must be given it.
SCENE: ContextVar[Scene | None] = ContextVar("scene", default=None)


@dataclass(frozen=True, slots=True)
class Trace:
    """A W3C traceparent, taken apart."""

    trace: str  #: 32 hexadecimal digits
    span: str  #: 16
    sampled: bool = field(default=True)

    def __str__(self) -> str:
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"


def new_trace(parent: str | None = None) -> Trace:
    """A new span, in the caller's trace when its traceparent can be read, else in a new one."""
    found = trace_of(parent)
    if found is None:
        return Trace(secrets.token_hex(16), secrets.token_hex(8))
    return Trace(found.trace, secrets.token_hex(8), found.sampled)


def trace_of(text: str | None) -> Trace | None:
    """A traceparent taken apart; None: it is none."""
    found = _PARENT.fullmatch(text or "")
    return None if found is None else Trace(found[1], found[2], int(found[3], 16) & 1 == 1)
