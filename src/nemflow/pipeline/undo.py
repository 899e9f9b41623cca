"""Undo and redo: a file's days leave the readings, and come back.

Nothing is deleted: an event is appended, and the winner of each day is decided anew on read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemflow.pipeline.outcome import Change

if TYPE_CHECKING:
    from nemflow.events import Hook
    from nemflow.store import Store


def undo(
    store: Store, which: int | str, *, by: str | None = None, hook: Hook | None = None
) -> Change:
    """Take a delivery's (or a file's) days back: the previous versions are current again.

    Args:
        store: the store.
        which: a delivery number (a container takes back all its members), or a file's SHA-256 or a
            beginning of it of at least 6 characters with a letter or 12 without.
        by: who, for the audit.
        hook: called with ``events.LoadPublished``.

    Raises:
        NotFound: no such delivery or file.
        UsageError: nothing of it stands (already undone, rejected, or a duplicate: names the
            delivery to undo instead).
    """
    raise NotImplementedError


def redo(
    store: Store, which: int | str, *, by: str | None = None, hook: Hook | None = None
) -> Change:
    """Put back what ``undo`` took; afterwards everything is as if nothing had happened.

    Raises:
        NotFound: no such delivery or file.
        UsageError: nothing of it is undone, or the file was loaded again since.
    """
    raise NotImplementedError
