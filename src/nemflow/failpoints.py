"""Named places where a test lets the process die, or wait, on purpose.

Why: "killed at any moment" can only be shown when the moments that matter can be hit at will, not
just by luck.

Promises: nothing happens unless ``NEMFLOW_FAILPOINTS`` (or ``arm``) names a place; then
``reach`` is one look into an empty dictionary. Every place is listed in ``PLACES`` and is reached
by a load, ``spool-`` ones by an upload, ``folder-`` ones by the drop folder, ``delivery-`` and
``job-`` ones in the service and its workers; docs/testing.md says how they are used.

Look next: ``chaos/crashes.py``, which kills loads at each of them; ``chaos/service_places.py``,
which kills a service.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

VARIABLE: Final = "NEMFLOW_FAILPOINTS"

#: Every place, and what has happened when it is reached.
PLACES: Final = {
    "mid-parse": "a text, or a piece of one, is about to be parsed",
    "after-claim": "the loads are numbered, nothing of them is appended",
    "mid-partition": "a month's table is made, but not attached",
    "mid-copy": "the rows of one append are sent, the append is not ended",
    "between-pieces": "one piece of a large text is committed, more follow",
    "mid-publish": "load and deliveries are settled, the file is not",
    "before-tick": "all is written but the commit number",
    "before-commit": "a transaction has done all its work",
    "after-commit": "it is committed, and nobody was told",
    "mid-clear": "some rows of a dead load are removed, its state is not changed",
    "spool-begun": "an upload has its unfinished file",
    "spool-written": "all bytes of an upload are written, not on the disk",
    "spool-synced": "they are on the disk, under no name yet",
    "spool-renamed": "the original has its name, which is not on the disk",
    "spool-kept": "the original is there for good, the ledger knows nothing of it",
    "delivery-received": "the ledger has the delivery, its sender is not answered",
    "folder-received": "a file of the drop folder is a delivery, and still lies in the folder",
    "folder-move": "a file is about to be moved into taken, done or rejected",
    "delivery-inspected": "what is in a delivery is known, nothing of it is loaded",
    "delivery-published": "a delivery has its final state, its original is still in the spool",
    "delivery-removed": "the original is gone, the ledger still says that it is there",
    "job-due": "deliveries are marked as told to the broker, which has heard of none",
    "job-sent": "the broker has heard of one of them, not of the next",
    "job-taken": "a worker has a message, and has not claimed the delivery",
    "job-claimed": "the delivery is leased to a worker, which has done nothing for it",
    "job-beat": "a lease is about to be renewed",
    "ahead-taken": "deliveries that wait are held to be looked into, none of them is",
    "job-failed": "an attempt has failed, the ledger does not know it",
    "job-done": "a delivery is done with, its message is not acknowledged",
    "job-hand-back": "a worker that is told to stop is about to give back what it has",
    "job-handed-back": "it is given back, the worker still runs",
}

_armed: dict[str, tuple[int, Callable[[], None]]] = {}


def reach(place: str) -> None:
    """Say that the process is at ``place``; it dies or waits when a test asked for it."""
    if _armed and place in _armed:
        left, act = _armed[place]
        _armed[place] = left - 1, act
        if left == 1:
            act()


def arm(spec: str) -> None:
    """Ask for something to happen; what was asked before is forgotten.

    Args:
        spec: ``place@nth=kill`` or ``place@nth=sleep:seconds``, several joined by commas; without
            ``@nth`` the first time the place is reached. ``kill:PATH`` and ``sleep:seconds:PATH``
            do so only if they can make the file PATH: once, of however many processes. Empty:
            nothing will happen.

    Raises:
        ValueError: no such place, or no such thing to do.
    """
    wanted = {}
    for part in filter(None, spec.replace(" ", "").split(",")):
        where, _, what = part.partition("=")
        place, _, nth = where.partition("@")
        if place not in PLACES:
            raise ValueError(f"{place!r} is no failpoint; there are: {', '.join(PLACES)}")
        wanted[place] = int(nth or 1), _act(what)
    _armed.clear()
    _armed.update(wanted)


def _act(what: str) -> Callable[[], None]:
    verb, _, rest = what.partition(":")
    if verb == "kill":
        return functools.partial(_once, rest, _die) if rest else _die
    if verb == "sleep":
        seconds, _, path = rest.partition(":")
        sleep = functools.partial(time.sleep, float(seconds))
        return functools.partial(_once, path, sleep) if path else sleep
    raise ValueError(f"A failpoint can 'kill', 'kill:path' or 'sleep:seconds', not {what!r}")


def _die() -> None:
    """As a power cut: no handler runs, nothing is flushed."""
    if sys.platform == "win32":
        os._exit(137)
    os.kill(os.getpid(), signal.SIGKILL)


def _once(path: str, act: Callable[[], None]) -> None:
    """Do it if nobody did so for this file yet."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    act()


arm(os.environ.get(VARIABLE, ""))
