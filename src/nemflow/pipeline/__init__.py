"""One delivery's way: find the files inside, check, load, publish, and back again.

Why: the command line, the worker and a notebook all load the same way and get the same account.

Promises: every day is accounted for (``days_read == days_stored + days_unchanged +
days_rejected`` for every file, register reads likewise); a file is loaded whole or not at all, and
invisible until published; a file whose load still stands is a ``duplicate`` of that one, one whose
load failed or was undone is loaded again; a killed load leaves nothing visible. Owns no SQL.

The public names::

    load(store, paths, *, profile="portal", dry_run=False, progress=None, limits=None,
         value_limits=None, participant=None, now=None, hook=None, sender=None, channel="cli")
         -> LoadSummary
    undo(store, which, *, by=None) -> Change   # a delivery number, or the beginning of a SHA-256
    redo(store, which, *, by=None) -> Change
    replay(store, file=None, *, rule=None, profile="portal", edits=None, dry_run=False)
         -> LoadSummary
    reconcile(store) -> int             # deliveries of dead loads that were closed
    LoadSummary, FileOutcome, Change    # frozen answers

Look next: ``loading.py`` (the steps), ``outcome.py`` (the answers), ``nemflow.store`` (questions).
"""

from __future__ import annotations

from nemflow.pipeline.loading import load, reconcile
from nemflow.pipeline.outcome import Change, FileOutcome, LoadSummary
from nemflow.pipeline.replaying import replay
from nemflow.pipeline.undoing import redo, undo

__all__ = [
    "Change",
    "FileOutcome",
    "LoadSummary",
    "load",
    "reconcile",
    "redo",
    "replay",
    "undo",
]
