"""Getting the work done: queue, workers, reconciler, supervisor.

Why: an upload is answered at once and loaded later, by another process, on another machine, or by
nobody for a while because all of them were killed.

Promises: the ledger decides what is done and what is to do; a message in a broker only says "look
at delivery 17". Losing every message loses nothing, two of the same do nothing twice.

Look next: ``queue.py`` (what a queue must do), ``worker.py`` (what is done with a message),
``reconciler.py`` (how lost work is found); docs/queue.md.
"""

from __future__ import annotations

from nemflow.jobs.queue import LANES, JobQueue, open_queue

__all__ = ["LANES", "JobQueue", "open_queue"]
