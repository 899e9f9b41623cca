"""What is in Redis, under which names, and until when: all of it, here and nowhere else.

Why: whoever runs a Redis must be able to say what is in it, and nothing may depend on it.

Promises: all keys begin with ``queue.prefix``; whatever is not a message of the queue has an
expiry; all of it may be lost at any time, and nothing but speed and comfort is lost with it.
``docs/queue.md`` has the same table, and a test keeps them equal.

Look next: ``redis.py`` (the queue), ``side.py`` (the rest), ``nemflow.service.limiting``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: A worker that is not heard of for so long is dead. Longer than any C call holds the interpreter,
#: else two live workers take each other's messages in turns (measured).
HEARTBEAT_MS: Final = 60_000
PROGRESS_SECONDS: Final = 60
LOOKUP_SECONDS: Final = 300
SWEEP_SECONDS: Final = 86_400
#: A larger answer is not kept.
LOOKUP_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """One kind of key."""

    key: str
    what: str
    until: str


#: Every key there is; ``<prefix>`` is ``queue.prefix``.
KEYS: Final = (
    Kept("<prefix>:queue:<prefix>.<lane>", "list of the messages that wait", "taken"),
    Kept(
        "<prefix>:queue:<prefix>.<lane>.msgs",
        "their contents: one number each",
        "acknowledged",
    ),
    Kept(
        "<prefix>:queue:__acks__.<worker>.<queue>",
        "what a worker has in hand",
        f"acknowledged, or the worker has been silent for {HEARTBEAT_MS // 1000} s",
    ),
    Kept(
        "<prefix>:queue:<prefix>.<lane>.XQ",
        "messages that no worker understands, as of another version",
        "7 days",
    ),
    Kept(
        "<prefix>:queue:__heartbeats__",
        "when each worker was last heard of",
        f"silent for {HEARTBEAT_MS // 1000} s, and nothing in hand",
    ),
    Kept(
        "<prefix>:progress:<delivery>",
        "how far a worker is: files, days, bytes, percent; newer than the ledger's",
        f"{PROGRESS_SECONDS} s",
    ),
    Kept(
        "<prefix>:rate:<key>",
        "how many requests an API key has made, by its name",
        "two windows of `service.rate_per_key`",
    ),
    Kept(
        "<prefix>:lookup:<hash>",
        "an answer to a question about one NMI, as of the last commit; at most "
        f"{LOOKUP_BYTES >> 20} MiB",
        f"{LOOKUP_SECONDS} s; never asked for again after the next commit",
    ),
    Kept(
        "<prefix>:sweep:<name>:<slot>",
        "that a scheduler has begun this run of a sweep; a hint, the table `sweep_run` decides",
        f"{SWEEP_SECONDS // 3600} hours",
    ),
)


def progress(prefix: str, delivery: int) -> str:
    """Where the live progress of a delivery is."""
    return f"{prefix}:progress:{delivery}"


def rate(prefix: str) -> str:
    """What the counters of the rate limit begin with."""
    return f"{prefix}:rate"


def lookup(prefix: str, digest: str) -> str:
    """Where the answer to a question is."""
    return f"{prefix}:lookup:{digest}"


def sweep(prefix: str, name: str, slot: str) -> str:
    """Who has begun a run of a sweep."""
    return f"{prefix}:sweep:{name}:{slot}"
