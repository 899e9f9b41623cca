"""Attempts in child processes, so that parsing never stalls the process that answers uploads.

Why: with the queue in memory the API, the queue and the work are one service; parsing holds the
interpreter, and a hostile file may take all memory.

Promises: as :mod:`nemflow.jobs.attempt`, in another process. A child that dies takes nothing with
it: its delivery is tried again later, counted. One that gives no sign of life for as long as a
lease lasts is killed. A child whose parent is gone hands back and ends.

Look next: ``worker.py``, which uses one child per thread.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import logging.handlers
import multiprocessing
import os
import signal
import threading
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any

from nemflow.errors import NemflowError, SystemFault, traced
from nemflow.events import SCENE, About, AttemptBegan, RetryScheduled, tell
from nemflow.intake.spool import Spool
from nemflow.jobs.attempt import Attempt, pause
from nemflow.pipeline.loading import new_token
from nemflow.store import open_store, work

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from nemflow.events import Event, Hook
    from nemflow.intake.spool import SpoolLimits
    from nemflow.jobs.pace import Working
    from nemflow.pipeline.delivering import Delivering
    from nemflow.store import Store
    from nemflow.store.backends.pool import Pool

log = logging.getLogger(__name__)
DIED = "Q-DIED"  #: code of an attempt whose process ended
_START_SECONDS = 60.0  #: a new child has at least so long for its first word
_END_SECONDS = 5.0  #: a child that was told to end and does not is killed


class Child:
    """A process that attempts one delivery after the other; used by one thread."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        how: Delivering,
        working: Working,
        *,
        hook: Hook | None = None,
    ) -> None:
        """``hook``: called here, in the parent, with what happens there."""
        self._hook = hook
        self._about: About | None = None  #: of the attempt that runs
        self._store = store
        self._arguments = {
            "url": store.backend.url.render_as_string(hide_password=False),
            "pool": store.backend.pool,
            "root": spool.root,
            "limits": spool.limits,
            "how": how,
            "working": working,
        }
        self._working = working
        self._attempt = 0  #: its number
        self._process: Any = None
        self._link: Connection | None = None

    def run(self, number: int) -> str | None:
        """As ``Attempt.run``. Raises SystemFault when the child died."""
        link = self._started()
        token = new_token()
        try:
            self._about, self._attempt = None, 0
            link.send((number, token))
            word, value = self._next(link, number, at_least=_START_SECONDS)
            while word not in ("done", "failed"):
                self._heard(word, value)
                word, value = self._next(link, number)
        except (EOFError, OSError) as error:
            self._buried()
            self._let_go(number, token)
            raise SystemFault(
                f"The process that worked on delivery {number} died.",
                hint="It is tried again; when it always dies the delivery ends as dead.",
            ) from error
        if word == "failed":
            raise value
        state: str | None = value
        return state

    def _next(self, link: Connection, number: int, *, at_least: float = 0.0) -> tuple[str, Any]:
        """What it says next; it is killed when it says nothing for too long. Raises EOFError."""
        process = self._process
        seconds = max(self._working.lease_seconds, 3 * self._working.beat_seconds, at_least)
        if not link.poll(seconds):
            log.error(
                "The process that works on delivery %s gives no sign of life for %s s: it is "
                "killed, and the delivery tried again later.",
                number, seconds,
            )  # fmt: skip
            if process is not None:
                process.kill()
        said: tuple[str, Any] = link.recv()
        return said

    def _heard(self, word: str, value: Any) -> None:
        """An event, or a line of the log, of the process below."""
        if word == "alive":
            return
        if word == "log":
            logging.getLogger(value.name).handle(value)
            return
        if isinstance(value, AttemptBegan):
            self._about, self._attempt = value.about, value.attempt
        tell(self._hook, value)

    def abort(self) -> None:
        """Have it hand back what it works on, and end."""
        if self._process is not None and self._process.is_alive():
            self._process.terminate()

    def close(self) -> None:
        """End it: by itself when it is idle, by force when it must."""
        process, link = self._process, self._link
        if process is None:
            return
        with contextlib.suppress(OSError):
            if link is not None:
                link.send(None)
        process.join(_END_SECONDS)
        if process.is_alive():
            process.kill()
        self._buried()

    def _started(self) -> Connection:
        if self._link is not None and self._process.is_alive():
            return self._link
        if self._process is not None:
            self._buried()
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=main,
            args=(theirs,),
            kwargs=self._arguments,
            daemon=True,
            name="nemflow-attempt",
        )
        self._process.start()
        theirs.close()
        self._link = ours
        return ours

    def _buried(self) -> None:
        """Forget it; ``close`` and ``run`` may come here at the same moment."""
        process, link = self._process, self._link
        self._process, self._link = None, None
        if process is not None:
            process.join(_END_SECONDS)
        if link is not None:
            link.close()

    def _let_go(self, number: int, token: str) -> None:
        """We know that it is gone; nobody has to wait for the lease to run out."""
        seconds = pause(max(1, self._attempt), self._working)
        why = f"{DIED}: The process that worked on it died."
        with contextlib.suppress(NemflowError):
            held = self._store.backend.transact(
                lambda conn: work.retry_later(
                    conn, self._store.backend, number, token, error=why, seconds=seconds
                )
            )
            if held:
                about = self._about or About(number)
                tell(self._hook, RetryScheduled(about, self._attempt, DIED, seconds))


def main(
    link: Connection,
    *,
    url: str,
    pool: Pool | None,
    root: Path,
    limits: SpoolLimits,
    how: Delivering,
    working: Working,
) -> None:
    """The child: attempt what comes through the pipe until None comes or it is told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    current: list[Attempt] = []
    stopping = False  # no Event: a second signal may come while the first one holds its lock

    def stop(*_: Any) -> None:
        nonlocal stopping
        stopping = True
        for attempt in current:
            attempt.abort()
        if not current:
            os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    parent = parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            stop()

        threading.Thread(target=watch, daemon=True, name="parent").start()
    said = _Said(link)
    logging.getLogger().addHandler(said)
    with open_store(url, create=False, pool=pool) as store:
        spool = Spool(root, limits)
        while not stopping:
            try:
                given = link.recv()
            except (EOFError, OSError):
                return
            if given is None:
                return
            attempt = Attempt(
                *(store, spool, given[0], how, working),
                token=given[1],
                hook=said.event,
                alive=lambda: said.send("alive", None),
            )
            current.append(attempt)
            said.open = True
            answer: tuple[str, Any]
            try:
                answer = "done", attempt.run()
            except NemflowError as error:
                answer = "failed", _sendable(error)
            finally:
                current.clear()
            said.open = False  # the parent reads nothing more until it sends the next
            said.send(*answer)


class _Said(logging.handlers.QueueHandler):
    """Sends events, and lines of the log, to the parent, where the numbers are kept."""

    open = False  #: whether the parent reads

    def __init__(self, link: Connection) -> None:
        super().__init__(queue=None)  # type: ignore[arg-type]
        self._link = link
        self._turn = threading.Lock()

    def event(self, event: Event) -> None:
        """The hook of the attempt."""
        self.send("event", event)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """What can be sent; of an exception no more than a log may say, as in the parent.

        The standard library's own would put what the exception says into the message.
        """
        told = copy.copy(record)
        told.msg, told.args = record.getMessage(), None
        error = record.exc_info[1] if record.exc_info else None
        told.exc_text = None if error is None else "\n".join(traced(error))
        told.exc_info = told.stack_info = None
        return told

    def enqueue(self, record: logging.LogRecord) -> None:
        """What is logged between attempts nobody would read."""
        if self.open:
            record.scene = SCENE.get()
            self.send("log", record)

    def send(self, word: str, value: Any) -> None:
        """One message; a parent that is gone is noticed elsewhere."""
        with self._turn, contextlib.suppress(OSError):
            self._link.send((word, value))


def _sendable(error: NemflowError) -> NemflowError:
    """An error as it can be sent: of its class when that takes a message and a hint."""
    try:
        return type(error)(error.message, hint=error.hint)
    except TypeError:
        return SystemFault(str(error))
