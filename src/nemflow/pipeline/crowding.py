"""Whether a folder should wait: it can, and a sender over HTTP may not.

Why: whoever hands over a hundred thousand files from a folder must leave room for uploads.

Promises: a folder waits while the spool is full, or half of what may wait does.

Look next: ``collecting.py`` and ``sweeping.py``, which ask; ``nemflow.service.intake`` for uploads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nemflow.errors import SpoolFull

if TYPE_CHECKING:
    from nemflow.intake.accepting import AcceptLimits
    from nemflow.intake.spool import Spool
    from nemflow.store.dispatch import Backlog

_SECONDS: Final = 1.0  #: so old what is known of the backlog may be


def crowded(spool: Spool, backlog: Callable[[], Backlog], limits: AcceptLimits) -> str | None:
    """Why a folder should wait with the next file; None: there is room."""
    try:
        spool.check_room(0)
    except SpoolFull as full:
        return full.message
    waiting = backlog()
    if 2 * waiting.files < limits.waiting_files and 2 * waiting.bytes < limits.waiting_bytes:
        return None
    return f"{waiting.files:,} files ({waiting.bytes:,} bytes) are waiting to be loaded."


def lately(backlog: Callable[[], Backlog], *, taken: Callable[[], int]) -> Callable[[], Backlog]:
    """The backlog of the last second, and what was taken since: the ledger is not asked each time.

    ``taken``: how many files in all were taken here.
    """
    known: list[tuple[float, int, Backlog]] = []

    def ask() -> Backlog:
        now = time.monotonic()
        if not known or now - known[0][0] > _SECONDS:
            known[:] = [(now, taken(), backlog())]
        _, before, found = known[0]
        return replace(found, files=found.files + taken() - before)

    return ask
