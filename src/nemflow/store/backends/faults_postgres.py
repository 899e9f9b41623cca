"""What PostgreSQL and its driver say went wrong, as one of our errors with the next step.

Why: whether trying again can help is decided by the type of the error, so each must get the right
one.

Promises: deadlocks, serialization failures and lock time-outs are ``StoreBusy``; a link that was
cut, a server that stops, starts or does not answer is ``StoreAway``; both are transient. A wrong
password, database or host is ``StoreUnreachable``, which is not.

Look next: ``patience.py``, which tries again.
"""

from __future__ import annotations

import re

from nemflow.errors import (
    StoreAway,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreOutdated,
    StoreUnreachable,
)

#: libpq does not pass on the code of a refused connection, only its words.
_WRONG_ADDRESS = re.compile(
    r"authentication failed|does not exist|no pg_hba\.conf entry|no password supplied"
    r"|not permitted to log in|could not translate host name|failed to resolve host"
    r"|invalid connection option|permission denied",
    re.IGNORECASE,
)


def explained(error: BaseException | None, place: str) -> StoreError:
    """A driver's error as one of ours; ``place`` is the store's URL without its password."""
    from psycopg import errors

    said = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    if isinstance(
        error,
        errors.DeadlockDetected
        | errors.SerializationFailure
        | errors.LockNotAvailable
        | errors.QueryCanceled
        | errors.TooManyConnections,
    ):
        return StoreBusy(f"{place} is busy ({said}).", hint="Try again.")
    if isinstance(error, errors.DiskFull | errors.OutOfMemory):
        return StoreFull(
            f"There is no space left for {place} ({said}).",
            hint="Make room, then load again: nothing of this load is visible.",
        )
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
        return StoreOutdated(
            f"{place} lacks a table or column this program needs ({said}).",
            hint="Bring it up to date with: nemflow db upgrade",
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return StoreUnreachable(
            f"{place} may not be used for this ({said}).", hint="Check the rights of its user."
        )
    if isinstance(
        error,
        errors.OperationalError | errors.InterfaceError | errors.ReadOnlySqlTransaction,
    ):
        kind = StoreUnreachable if _WRONG_ADDRESS.search(str(error)) else StoreAway
        return kind(
            f"{place} cannot be reached ({said}).",
            hint="Check the URL, the server and your rights, then try again.",
        )
    return StoreError(f"{place} failed: {said}.")
