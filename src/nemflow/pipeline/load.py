"""Load: from paths to published days, with an account of every one.

Look next: ``outcome.py`` for the answer, ``nemflow.store.days`` for what is appended.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemflow.pipeline.outcome import LoadSummary

if TYPE_CHECKING:
    from nemflow.events import Hook, ProgressHook
    from nemflow.store import Store


def load(
    store: Store | None,
    paths: str | Path | Iterable[str | Path],
    *,
    profile: str = "portal",
    dry_run: bool = False,
    progress: ProgressHook | None = None,
    limits: Any = None,
    now: datetime | None = None,
    hook: Hook | None = None,
    sender: str | None = None,
) -> LoadSummary:
    """Load files, folders (recursively) and archives; see the package's promises.

    Args:
        store: where to; None only with ``dry_run`` (as if the store were empty).
        paths: files or folders. A missing one -> ``UsageError`` before anything is loaded.
        profile: rule profile, ``portal`` or ``b2b``; an aseXML message is checked under ``b2b``
            only if asked.
        dry_run: the same parsing, recognition and account; writes nothing.
        progress: called with ``events.Progress`` a few times a second, in this thread.
        limits: ``nemflow.intake.archive.Limits``; None: defaults.
        now: what "today" is for the rules, and the stamp of the ledger; None: the clock.
        hook: called with each event of ``nemflow.events``.
        sender: who sent it, for the ledger.

    Returns:
        One ``FileOutcome`` per file or archive member, and per container that was refused.

    Raises:
        UsageError: a path is missing, the profile unknown.
        StoreError: the store cannot do it; files finished before it are loaded, the rest are not.
        KeyboardInterrupt: as it came, after the open loads were cleared.
    """
    raise NotImplementedError


def reconcile(store: Store, *, hook: Hook | None = None) -> int:
    """Clear the rows of loads whose process died; returns how many deliveries were closed.

    ``load`` does this by itself first; call it to tidy up without loading.
    """
    raise NotImplementedError
