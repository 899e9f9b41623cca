"""How work is paced: the settings of workers, reconciler and webhooks.

Why: entry points read settings before anything heavy is imported.

Look next: ``attempt.py`` and ``reconciler.py``, which go by them; docs/settings.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Working:
    """How deliveries are worked on."""

    threads: int = 1  #: deliveries at a time in one process
    attempts: int = 5  #: after so many a delivery is dead
    lease_seconds: int = 120  #: a worker that is silent for so long has lost its delivery
    beat_seconds: int = 15  #: so often a lease is renewed, and progress told
    stuck_seconds: int = 900  #: work that does not move for so long has its lease renewed no more
    retry_seconds: int = 5  #: about so long until the second attempt; doubled for each further one
    retry_most_seconds: int = 900  #: but never longer than this
    grace_seconds: int = 30  #: told to stop, so long to finish what is in hand


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often the ledger is looked through for work that nobody does."""

    every_seconds: int = 1  #: for what is due; ``wake`` is sooner
    per_sender: int = 200  #: messages of one sender and lane in the broker at a time
    tidy_seconds: int = 15  #: for what was left over
    longest_seconds: int = 7200  #: a delivery in one state for so long is taken from its worker
    details_days: int = 90  #: so long the timeline of what was loaded is kept
    keys_days: int = 7  #: so long an Idempotency-Key is remembered


@dataclass(frozen=True, slots=True)
class Calling:
    """How webhooks are told."""

    attempts: int = 10  #: after so many a message is dead
    timeout_seconds: int = 10  #: so long one attempt may take, all in all
    retry_seconds: int = 5  #: about so long until the second attempt; three times that each time
    retry_most_seconds: int = 21600  #: but never longer than this
    keep_days: int = 30  #: so long messages that were delivered are listed
