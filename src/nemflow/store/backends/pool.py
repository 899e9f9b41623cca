"""How many connections to a server, how long anything may take, and how often it is tried again.

Why: the defaults fit a loader and a few readers; a service with many workers, a slow link or a
server that takes a minute to fail over needs others.

Look next: ``postgres.py``, which uses them; ``nemflow.settings``, where they are set.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pool:
    """Connections and time-outs of one process; the settings ``pool.*``."""

    size: int = 4  #: connections kept open
    overflow: int = 4  #: so many more may be opened for a while
    wait_seconds: int = 30  #: longest wait for a free connection
    connect_seconds: int = 10  #: longest time to connect
    statement_seconds: int = 300  #: longest statement; a COPY of one piece takes under a second
    lock_seconds: int = 30  #: longest wait for a lock
    idle_in_transaction_seconds: int = 60  #: then the server ends it: frees a lost client's locks
    tcp_user_timeout_ms: int = 10_000  #: without an answer for so long the link counts as cut
    attempts: int = 30  #: how often a transaction is tried when the server is away or in the way
    retry_seconds: int = 120  #: for how long
