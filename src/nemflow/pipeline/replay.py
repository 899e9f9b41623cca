"""Replay: read quarantined records again from their stored raw text.

Why: after a rule, a profile or the text was mended, a rejected day must find its way in without
the sender sending anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from nemflow.pipeline.outcome import LoadSummary

if TYPE_CHECKING:
    from nemflow.events import Hook
    from nemflow.store import Store


def replay(
    store: Store,
    file: int | str | None = None,
    *,
    rule: str | None = None,
    profile: str = "portal",
    edits: Mapping[int, str] | None = None,
    dry_run: bool = False,
    now: datetime | None = None,
    by: str | None = None,
    hook: Hook | None = None,
) -> LoadSummary:
    """Read open quarantined records again; what passes now is loaded and joins its file's counts.

    Args:
        store: the store.
        file: only this file's records.
        rule: only records this rule rejected.
        profile: the rule profile to read them under.
        edits: quarantine id -> corrected raw text (the record with its 400 and 500 lines). With
            edits only these records are replayed. The original text is kept.
        dry_run: the same account, nothing written.
        now: what "today" is for the rules; None: the clock.
        by: who, for the audit.
        hook: called with each event.

    Returns:
        One ``FileOutcome`` per file touched. ``days`` and ``reads`` count the replayed records
        only; ``state`` is the file's state afterwards.

    Raises:
        NotFound: no such file or quarantine id.
    """
    raise NotImplementedError
