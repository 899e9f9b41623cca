"""What became of each file: the answers of ``load`` and ``replay``, ``undo`` and ``redo``.

Why: a person, a program and the ledger must be told the same account.

Promises: frozen; counts balance; ``to_dict`` gives plain JSON-ready values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Counts:
    """An account that balances: ``read == stored + unchanged + rejected``."""

    read: int = 0
    stored: int = 0  #: content that did not stand for that day before
    unchanged: int = 0  #: claimed again with content that already stands
    rejected: int = 0  #: in the quarantine

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.read + other.read,
            self.stored + other.stored,
            self.unchanged + other.unchanged,
            self.rejected + other.rejected,
        )

    def to_dict(self) -> dict[str, int]:
        """As ``{"read": ..., "stored": ..., "unchanged": ..., "rejected": ...}``."""
        return {
            "read": self.read,
            "stored": self.stored,
            "unchanged": self.unchanged,
            "rejected": self.rejected,
        }


NONE_READ = Counts()


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file, or of one container that could not be opened."""

    source: str  #: path, and member inside it, e.g. ``day.zip/a.csv``
    #: loaded, partly_loaded, duplicate or rejected; dead: its process was killed (``jobs``)
    state: str
    sha256: str | None = None  #: of the decompressed text; None: never became a file
    file: int | None = None  #: its number in the store; None in a dry run
    delivery: int | None = None  #: its number in the store; None in a dry run
    duplicate_of: str | None = None  #: the earlier one, in words: ``delivery 3, day.csv``
    duplicate_of_delivery: int | None = None
    days: Counts = field(default_factory=Counts)  #: NMI-suffix-days (300 records)
    reads: Counts = field(default_factory=Counts)  #: register reads (250 records)
    rules: Mapping[str, int] = field(default_factory=dict)  #: rule id -> records it rejected
    conflicts: int = 0  #: days where another content carries the same version stamp
    reviews: Mapping[str, int] = field(default_factory=dict)  #: kind -> review events it left
    error: str | None = None  #: why the whole file was rejected, one sentence
    #: As ``MeterData.findings``, the first 10,000 of a large file (the store has all); None: none.
    findings: pl.DataFrame | None = field(default=None, repr=False)
    seconds: float = 0.0  #: its share of the time

    @property
    def ok(self) -> bool:
        """True when nothing was rejected."""
        return self.state in ("loaded", "duplicate")

    def plus(self, other: FileOutcome) -> FileOutcome:
        """This and a later part of the same file's account."""
        import polars as pl

        found = [part for part in (self.findings, other.findings) if part is not None]
        return replace(
            self,
            state=other.state,
            days=self.days + other.days,
            reads=self.reads + other.reads,
            rules=dict(Counter(self.rules) + Counter(other.rules)),
            conflicts=self.conflicts + other.conflicts,
            reviews=dict(Counter(self.reviews) + Counter(other.reviews)),
            findings=pl.concat(found) if found else None,
            seconds=self.seconds + other.seconds,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; findings as a list of rows."""
        return {
            "source": self.source,
            "state": self.state,
            "sha256": self.sha256,
            "file": self.file,
            "delivery": self.delivery,
            "duplicate_of": self.duplicate_of,
            "duplicate_of_delivery": self.duplicate_of_delivery,
            "days": self.days.to_dict(),
            "reads": self.reads.to_dict(),
            "rules": dict(self.rules),
            "conflicts": self.conflicts,
            "reviews": dict(self.reviews),
            "error": self.error,
            "findings": [] if self.findings is None else self.findings.to_dicts(),
            "seconds": round(self.seconds, 4),
        }


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What became of everything that was given."""

    files: tuple[FileOutcome, ...]  #: in the order given, members in archive order
    dry_run: bool = False
    seconds: float = 0.0

    @property
    def days(self) -> Counts:
        """All files' days together."""
        return sum((f.days for f in self.files), Counts())

    @property
    def reads(self) -> Counts:
        """All files' register reads together."""
        return sum((f.reads for f in self.files), Counts())

    @property
    def reviews(self) -> dict[str, int]:
        """How many review events of which kind were left: ``nemflow review`` lists them."""
        return dict(sum((Counter(f.reviews) for f in self.files), Counter()))

    @property
    def states(self) -> dict[str, int]:
        """How many files ended in which state."""
        return dict(Counter(f.state for f in self.files))

    @property
    def ok(self) -> bool:
        """True when every file is loaded whole or a duplicate."""
        return all(f.ok for f in self.files)

    @property
    def died(self) -> bool:
        """True when a process was killed and files are to be loaded again."""
        return any(f.state == "dead" for f in self.files)

    @property
    def findings(self) -> pl.DataFrame:
        """All files' findings in one frame (``MeterData.findings``); empty when there are none."""
        import polars as pl

        from nemflow.mdff.meterdata import FINDINGS

        found = [f.findings for f in self.files if f.findings is not None]
        return pl.concat(found) if found else pl.DataFrame(schema=FINDINGS)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "dry_run": self.dry_run,
            "seconds": round(self.seconds, 4),
            "states": self.states,
            "days": self.days.to_dict(),
            "reads": self.reads.to_dict(),
            "reviews": self.reviews,
            "files": [f.to_dict() for f in self.files],
        }


@dataclass(frozen=True, slots=True)
class Change:
    """An undo or redo: what it touched, and its place in the order of commits."""

    kind: str  #: undone or redone
    deliveries: tuple[int, ...]
    files: tuple[int, ...]
    days: int  #: day claims taken back or put back
    reads: int  #: register read claims taken back or put back
    seq: int  #: commit number; ``as_known_on=seq - 1`` shows the state before
    at: str  #: ISO, market time
    reviews: Mapping[str, int] = field(default_factory=dict)  #: kind -> review events it left

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "kind": self.kind,
            "deliveries": list(self.deliveries),
            "files": list(self.files),
            "days": self.days,
            "reads": self.reads,
            "seq": self.seq,
            "at": self.at,
            "reviews": dict(self.reviews),
        }
