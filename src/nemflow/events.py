"""What happened, as frozen records.

Why: metrics, logs, traces and progress displays are other people's business. The rooms that do
the work emit one of these records through a hook they are given, and import no telemetry library.

Promises: standard library only; every record is immutable; every field says what it is; counts in
a record always balance. A hook is any callable that takes one record; whatever it raises is its
own fault and is not caught here, so give a hook that does not raise.

Look next: ``nemflow.pipeline`` emits them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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


Event = FileFinished | DayConflict | LoadPublished | LoadCleared
Hook = Callable[[Event], None]
ProgressHook = Callable[[Progress], None]
