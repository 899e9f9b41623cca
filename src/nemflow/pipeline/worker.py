"""A process that loads shares for another one.

Promises: it loads what comes through the pipe until nothing more comes; told to stop, by its parent
or by its parent's death, it rolls back what is open and ends; Ctrl-C it leaves to its parent.

Look next: ``parallel.py``, the other end of the pipe.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any

from nemflow.errors import ArchiveRefused, SystemFault
from nemflow.pipeline.work import Given, How, load_given

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from nemflow.events import Progress
    from nemflow.pipeline.outcome import FileOutcome
    from nemflow.store import Store
    from nemflow.store.backends.pool import Pool

_SAY_SECONDS = 0.1  #: progress is said no more often


def main(link: Connection, url: str, pool: Pool | None, how: How) -> None:
    """Load shares until there are no more.

    Args:
        link: shares come in (files, or None for the end); out go pairs of a word and a value:
            ``progress``, ``event``, ``failed`` with the error, ``done`` with the outcomes of the
            share, each with the number of its file in the share.
        url: the store, with its password.
        pool: its connections.
        how: how to load.
    """
    from nemflow.store import open_store

    try:
        _listen()
        with open_store(url, create=False, pool=pool) as store:
            while (given := link.recv()) is not None:
                link.send(("done", _load(store, given, how, link)))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        return
    except BaseException as error:  # noqa: BLE001 - the parent tells it
        with contextlib.suppress(OSError):
            link.send(("failed", _sendable(error)))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is done is not stopped any more


def _load(store: Store, given: Given, how: How, link: Connection) -> list[tuple[int, FileOutcome]]:
    from nemflow.pipeline.loading import abandon, new_token
    from nemflow.pipeline.sinks import StoreSink

    said = [0.0]

    def progress(now: Progress) -> None:
        if time.monotonic() - said[0] >= _SAY_SECONDS:
            said[0] = time.monotonic()
            link.send(("progress", now))

    token = new_token()
    sink = StoreSink(store, token, how.now, how.review_after)
    try:
        outcomes = load_given(
            sink, given, how, hook=lambda event: link.send(("event", event)), progress=progress
        )
    except BaseException as error:
        abandon(store, token, error)
        raise
    return _placed(given, outcomes)


def _placed(given: Given, outcomes: list[FileOutcome]) -> list[tuple[int, FileOutcome]]:
    """Each outcome with the number of the file it came from; both are in the same order."""
    names = [found.source if isinstance(found, ArchiveRefused) else found[1] for found in given]
    at, placed = 0, []
    for outcome in outcomes:
        while at + 1 < len(names) and not _is_from(outcome.source, names[at]):
            at += 1
        placed.append((at, outcome))
    return placed


def _is_from(source: str, name: str) -> bool:
    """Whether a text is a file or something inside it."""
    return source == name or source.startswith((f"{name}/", f"{name}#", f"{name} ("))


def _sendable(error: BaseException) -> BaseException:
    """An error as it can be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - what cannot be sent is told in words
        return SystemFault(f"A loading process failed: {type(error).__name__}: {error}.")
    return error


def _listen() -> None:
    """Stop when told to, once; and when the parent is gone. Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def stop(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # rolling back is not stopped again
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    parent = parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, daemon=True, name="parent").start()
