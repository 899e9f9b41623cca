"""Undo and redo: a file's days leave the readings, and come back.

Nothing is deleted: an event is appended, and the winner of each day is decided anew on read.

Look next: ``nemflow.store.reversal``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nemflow.events import LoadPublished, tell
from nemflow.pipeline.outcome import Change
from nemflow.store import ledger, reversal
from nemflow.store.review import AFTER_DAYS

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nemflow.events import Hook
    from nemflow.store import Store


def undo(
    store: Store,
    which: int | str,
    *,
    by: str | None = None,
    hook: Hook | None = None,
    review_after: int = AFTER_DAYS,
) -> Change:
    """Take a delivery's (or a file's) days back: the previous versions are current again.

    Args:
        store: the store.
        which: a delivery number (a container takes back all its members), or a file's SHA-256 or a
            beginning of it of at least 6 characters with a letter, or 12 without.
        by: who, for the audit.
        hook: called with ``events.LoadPublished``.
        review_after: as of ``load``.

    Raises:
        NotFound: no such delivery or file.
        UsageError: nothing of it stands (already undone, rejected, or a duplicate: names the
            delivery to undo instead).
    """
    return _changed(store, which, "undone", "undo", reversal.undo, by, hook, review_after)


def redo(
    store: Store,
    which: int | str,
    *,
    by: str | None = None,
    hook: Hook | None = None,
    review_after: int = AFTER_DAYS,
) -> Change:
    """Put back what ``undo`` took; afterwards everything is as if nothing had happened.

    Raises:
        NotFound: no such delivery or file.
        UsageError: nothing of it is undone, or the file was loaded again since.
    """
    return _changed(store, which, "redone", "redo", reversal.redo, by, hook, review_after)


def _changed(
    store: Store,
    which: int | str,
    kind: str,
    act: str,
    reverse: Callable[..., reversal.Reversal],
    *told: Any,
) -> Change:
    by, hook, review_after = told
    noted: list[sa.Select[Any]] = []  # of the last try; answers whether it was saved

    def work(conn: sa.Connection) -> reversal.Reversal:
        noted[:] = [
            ledger.note(
                conn,
                store.backend,
                act=act,
                target=str(which),
                who=by,
                detail=json.dumps({"which": str(which)}),
            )
        ]
        return reverse(conn, store.backend, which, review_after=review_after)

    done = store.backend.transact(
        work, happened=lambda conn: conn.execute(noted[0]).first() is not None
    )
    change = Change(
        kind=kind,
        deliveries=done.deliveries,
        files=done.files,
        days=done.days,
        reads=done.reads,
        seq=done.seq,
        at=done.at.isoformat(),
        reviews=done.reviews,
    )
    if hook is not None:
        tell(hook, LoadPublished(kind, change.seq, change.at, done.loads))
    return change
