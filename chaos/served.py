"""A ``nemflow serve`` of our own in a folder of its own, and what its processes take.

Promises: it is started with its own store, spool and port; memory is that of the service and of
every process under it; it is ended, with all its processes, when the block ends.

Look next: ``overload.py``; ``bench/service.py`` measures the same service.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

_START_SECONDS = 60
_END_SECONDS = 60
_LOOK_SECONDS = 0.5
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Taken:
    """What the service took, sampled while it ran: bytes."""

    memory: list[int] = field(default_factory=list)  #: of all its processes, each sample
    spool: list[int] = field(default_factory=list)
    store: int = 0  #: at the last look

    def growth(self) -> float:
        """The most memory in the last third, as a share of the most in the first."""
        third = max(1, len(self.memory) // 3)
        return max(self.memory[-third:], default=0) / max(self.memory[:third], default=1)


class Served:
    """One running service."""

    def __init__(self, folder: Path, options: tuple[str, ...], settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.taken = Taken()
        self._over = threading.Event()
        self._log = folder / "serve.log"
        words = [sys.executable, "-m", "nemflow.cli", "serve", "--port", "0", *options]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                words,
                cwd=folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.url = self._wait_for_url()
        except BaseException:
            self.end()
            raise
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def _wait_for_url(self) -> str:
        until = time.monotonic() + _START_SECONDS
        while True:
            text = self._log.read_text(encoding="utf-8", errors="replace")
            if found := re.search(r"serves (http://\S+)", text):
                return found[1]
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the service does not start: {text[-2000:]}")
            time.sleep(0.05)

    def client(self) -> httpx.Client:
        """To send to it and to ask it."""
        return httpx.Client(base_url=self.url, timeout=60, limits=httpx.Limits(max_connections=64))

    def _sample(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self.taken.memory.append(sum(map(memory_of, under(self._process.pid))))
            self.taken.spool.append(bytes_under(self.folder / "nemflow-spool"))
            store = self.folder.glob("nemflow.db*")
            self.taken.store = sum(path.stat().st_size for path in store if path.exists())

    def end(self) -> int:
        """SIGTERM, and what does not end by that SIGKILL; the exit code."""
        self._over.set()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            return self._process.wait()


@contextmanager
def served(
    folder: Path, *options: str, settings: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """A service that runs during the block; ``settings`` are NEMFLOW_ variables."""
    folder.mkdir(parents=True, exist_ok=True)
    service = Served(folder, options, settings or {})
    try:
        yield service
    finally:
        service.end()


def under(process: int) -> set[int]:
    """A process and all below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def memory_of(process: int) -> int:
    """Resident bytes of one process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def bytes_under(folder: Path) -> int:
    """Bytes of all files in a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.stat(Path(place, name)).st_size  # noqa: PTH116  gone meanwhile: no matter
    return total
