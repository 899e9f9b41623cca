"""Python's garbage collector, held back while thousands of texts are loaded.

Why: an archive of 10,000 members makes ten thousand of everything, none of it garbage in circles,
and the collector looks through all of it again and again: a sixth of the load's time, measured.

Promises: it still runs, only less often; the usual pace is back when the last load of the process
has ended, also when one raises.

Look next: ``work.py``, which loads.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: New objects between two looks; Python's own is 700.
_NEW_OBJECTS = 50_000

_lock = threading.Lock()
_running: list[tuple[int, int, int]] = []  #: the usual pace, once per load that is running


@contextmanager
def seldom() -> Iterator[None]:
    """Let the collector look less often for the block; blocks may overlap in several threads."""
    with _lock:
        usual = _running[0] if _running else gc.get_threshold()
        _running.append(usual)
        if usual[0]:  # 0: somebody has switched it off
            gc.set_threshold(max(usual[0], _NEW_OBJECTS), usual[1], usual[2])
    try:
        yield
    finally:
        with _lock:
            _running.pop()
            if not _running:
                gc.set_threshold(*usual)
