"""Troubles: files that something cannot be done with now, and since when.

Why: one file that nobody may read or move must not hold back thousands, and must not be known to
the log alone.

Promises: what is in trouble waits its time before it is tried again; what fails when it is tried
again is told by ``check`` until it works or the file is gone. Kept in memory only: a new process
finds out for itself. One thread tells of troubles, any other may call ``check``.

Look next: ``collecting.py``, whose files these are; ``nemflow.jobs.noticing``, which checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nemflow.errors import SpoolFault


@dataclass(slots=True)
class _Trouble:
    message: str
    hint: str
    until: float  #: it is let alone
    times: int  #: met


class Troubles:
    """What is in trouble, by path."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """``seconds``: so long a file is let alone, by ``clock``."""
        self._seconds = seconds
        self._clock = clock
        self._known: dict[Path, _Trouble] = {}

    def met(self, path: Path, message: str, hint: str) -> None:
        """Something went wrong with a file."""
        before = self._known.get(path)
        times = 1 if before is None else before.times + 1
        self._known[path] = _Trouble(message, hint, self._clock() + self._seconds, times)

    def over(self, path: Path) -> None:
        """It works; harmless when it always did."""
        self._known.pop(path, None)

    def waits(self, path: Path) -> bool:
        """Whether a file is to be let alone still."""
        found = self._known.get(path)
        return found is not None and self._clock() < found.until

    def forget(self, before: float) -> None:
        """Forget what could be tried again at ``before`` and was not met since: it is gone."""
        for path in [path for path, each in self._known.items() if each.until <= before]:
            del self._known[path]

    def check(self) -> None:
        """See that nothing fails again and again. Raises SpoolFault, of what has the longest."""
        lasting = [each for each in list(self._known.values()) if each.times > 1]
        if lasting:
            more = f" And {len(lasting) - 1:,} more." if len(lasting) > 1 else ""
            raise SpoolFault(lasting[0].message + more, hint=lasting[0].hint)
