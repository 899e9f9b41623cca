"""Keeps worker processes running.

Why: a worker that is killed, runs out of memory or meets a bug must be replaced, and all of them
must end with the service.

Promises: as many processes as asked for; one that ends for whatever reason is started again, later
each time it dies young; ``stop`` sends SIGTERM and, after the grace time, SIGKILL. A worker whose
supervisor is gone notices (its standard input ends) and stops.

Look next: ``worker.py``; ``nemflow worker --processes``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

YOUNG_SECONDS: Final = 10.0  #: who dies younger is started later the next time
MOST_SECONDS: Final = 30.0  #: but never later than this
_LOOK_SECONDS = 0.2
_STDIN = 0
_KILL_SECONDS = 3.0  #: beyond the grace time


@dataclass
class _Place:
    """One worker to keep."""

    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    wait: float = 0.0  #: before the next start, seconds
    due: float = 0.0  #: when the next start is


class Supervisor:
    """Starts processes again and again."""

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        grace: float,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """``command``: as for ``subprocess``; it must end by itself when its input ends."""
        self._command = list(command)
        self._environ = None if environ is None else dict(environ)
        self._places = [_Place() for _ in range(count)]
        self._grace = grace
        self._stopping = False
        self.restarts = 0  #: how often one was started again

    @property
    def alive(self) -> list[int]:
        """The numbers of the processes that run."""
        running = (place.process for place in self._places)
        return [each.pid for each in running if each is not None and each.poll() is None]

    def run(self) -> None:
        """Keep them running until ``stop``; returns when all have ended."""
        try:
            while not self._stopping:
                for place in self._places:
                    self._look(place)
                time.sleep(_LOOK_SECONDS)
        finally:
            self._end()

    def stop(self) -> None:
        """Let ``run`` end; may be called from a signal handler. Returns at once."""
        self._stopping = True

    def _look(self, place: _Place) -> None:
        now = time.monotonic()
        if place.process is None:
            if now >= place.due:
                place.process, place.began = self._start(), now
            return
        code = place.process.poll()
        if code is None:
            return
        _close(place.process)
        young = now - place.began < YOUNG_SECONDS
        place.wait = min(MOST_SECONDS, max(0.5, 2 * place.wait)) if young else 0.0
        place.process, place.due = None, now + place.wait
        self.restarts += 1
        log.warning("A worker ended (%s); the next one starts in %.1f s.", code, place.wait)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own
            self._command, stdin=subprocess.PIPE, env=self._environ
        )

    def _end(self) -> None:
        running = [place.process for place in self._places if place.process is not None]
        for process in running:
            process.terminate()
        until = time.monotonic() + self._grace + _KILL_SECONDS
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            if process.poll() is None:
                log.error("Worker %s does not end and is killed.", process.pid)
                process.kill()
                process.wait()
            _close(process)


def when_orphaned(act: Callable[[], object]) -> None:
    """Call ``act`` when our standard input ends: then our supervisor is gone."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(_STDIN, 1):  # not sys.stdin: its lock would be held at the very end
                pass
        act()

    threading.Thread(target=watch, name="orphan-watch", daemon=True).start()


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
