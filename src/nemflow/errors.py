"""Every error nemflow raises, as one tree.

Why: a caller catches one base class, a worker decides by type whether to try again, and a
person reads where, why and what to do next. No error of a layer below (polars, sqlite3,
zipfile, expat) escapes unmapped.

::

    NemflowError
    ├── UsageError            the call or its options are wrong          (CLI exit 2)
    ├── DataError             the data is at fault; permanent            (CLI exit 1)
    │   ├── FileRefused       bytes that cannot be read as MDFF at all
    │   │   ├── ArchiveRefused    a container that is broken, hostile or over a limit
    │   │   └── EnvelopeRefused   an aseXML message that is broken, hostile or without payload
    │   ├── TooLarge          an upload of more bytes than are taken
    │   └── NotFound          an NMI, file, delivery or rule that is not known
    └── SystemFault           ours or the machine's                      (CLI exit 3)
        ├── MissingExtra      an optional dependency is not installed
        ├── BrokerAway        the queue's server does not answer; transient
        ├── SpoolFault        the spool's folder cannot be used
        │   └── SpoolFull     no room for more originals; transient
        └── StoreError        the store cannot do it
            ├── StoreBusy     locked by another process; transient
            │   └── StoreTaken    somebody else has taken over; try the whole call again
            ├── StoreFull     no space left
            ├── StoreUnreachable  wrong URL, no permission, damaged file
            │   └── StoreAway     the server is away or the link was cut; transient
            │       └── StoreUnresolved   and it is not known whether a change was saved
            └── StoreOutdated the schema is older or newer than this program

``transient`` on the class says whether trying again can help.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import ClassVar


class NemflowError(Exception):
    """Base of all nemflow errors: a sentence, a stable code and the next step."""

    code: ClassVar[str] = "E-NEMFLOW"
    transient: ClassVar[bool] = False
    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message  #: one sentence: what happened, where
        self.hint = hint  #: one sentence: what to do next; may be empty

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(NemflowError):
    """The call or its options are wrong."""

    code = "E-USAGE"
    exit_code = 2


class DataError(NemflowError):
    """The data is at fault; trying again with the same bytes gives the same answer."""

    code = "E-DATA"
    exit_code = 1


class FileRefused(DataError):
    """Bytes that cannot be read as an MDFF file at all."""

    code = "E-FILE"

    def __init__(
        self,
        message: str,
        *,
        source: str = "",
        rule: str = "F001",
        line: int | None = None,
        value: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.source = source  #: file, and member inside it, e.g. ``day.zip/a.csv``
        self.rule = rule  #: the rule id, see ``nemflow explain``
        self.line = line  #: 1-based line, where there is one
        self.value = value  #: the offending value, shortened

    def __str__(self) -> str:
        where = self.source + (f", line {self.line}" if self.line else "")
        text = f"{self.rule}: {where}: {self.message}" if where else f"{self.rule}: {self.message}"
        more = f"More: nemflow explain {self.rule}"
        return " ".join(part for part in (text, self.hint, more) if part)


class ArchiveRefused(FileRefused):
    """A container that is broken, hostile or over a limit."""

    code = "E-ARCHIVE"


class EnvelopeRefused(FileRefused):
    """An aseXML message that is broken, hostile or carries no meter data."""

    code = "E-ENVELOPE"


class TooLarge(DataError):
    """An upload of more bytes than are taken."""

    code = "E-TOO-LARGE"


class NotFound(DataError):
    """An NMI, file, delivery, load or rule that is not known."""

    code = "E-NOT-FOUND"


class SystemFault(NemflowError):
    """Ours or the machine's fault, not the data's."""

    code = "E-SYSTEM"
    exit_code = 3


class MissingExtra(SystemFault):
    """An optional dependency is not installed."""

    code = "E-EXTRA"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the optional part {extra!r}, which is not installed.",
            hint=f"Install it with: pip install 'nemflow[{extra}]'",
        )


class SpoolFault(SystemFault):
    """The spool's folder, or its disk, cannot be used."""

    code = "E-SPOOL"


class SpoolFull(SpoolFault):
    """There is no room for more originals; later there may be."""

    code = "E-SPOOL-FULL"
    transient = True


class BrokerAway(SystemFault):
    """The queue's server does not answer, or refuses; the ledger sends again later."""

    code = "E-BROKER-AWAY"
    transient = True


class StoreError(SystemFault):
    """The store cannot do it."""

    code = "E-STORE"


class StoreBusy(StoreError):
    """Another process holds the store's write lock; trying again helps."""

    code = "E-STORE-BUSY"
    transient = True


class StoreTaken(StoreBusy):
    """Somebody else has taken a load, or records, over in between.

    Trying the same transaction again is of no use; trying the whole call again is.
    """

    code = "E-STORE-TAKEN"


class StoreFull(StoreError):
    """There is no space left for the store."""

    code = "E-STORE-FULL"


class StoreUnreachable(StoreError):
    """The store's URL is wrong, it may not be opened, or it is damaged."""

    code = "E-STORE-UNREACHABLE"


class StoreAway(StoreUnreachable):
    """The store's server does not answer, or the link to it was cut; trying again helps."""

    code = "E-STORE-AWAY"
    transient = True


class StoreUnresolved(StoreAway):
    """The link was cut while a change was being saved: whether it was saved is not known.

    Trying the same transaction again could do it twice; trying the whole call again, when the store
    is back, finds what was saved.
    """


class StoreOutdated(StoreError):
    """The store's schema is older or newer than this program."""

    code = "E-STORE-OUTDATED"


def traced(error: BaseException) -> Iterator[str]:
    """Lines for a log: type and place; what it says only where that can be no data."""
    if error.__cause__ is not None:
        yield from traced(error.__cause__)
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"{frame.filename}:{frame.lineno} in {frame.name}"
    ours = isinstance(error, NemflowError) and not isinstance(error, DataError)
    name = type(error).__name__
    yield f"{name}: {error}" if ours or isinstance(error, OSError) else name
