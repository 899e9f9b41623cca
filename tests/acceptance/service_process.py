"""``nemflow serve`` as people start it: its own process, its own folder, killed as a whole."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

NEMFLOW = [sys.executable, "-m", "nemflow.cli"]
FINAL = {"loaded", "partly_loaded", "duplicate", "rejected", "dead", "cancelled", "undone"}


class Service:
    """One running service; ``start`` it again after ``kill``."""

    def __init__(self, folder: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.options = options
        self.env = env or {}
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        log = self.folder / f"serve-{time.monotonic_ns()}.log"
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*NEMFLOW, "serve", "--port", "0", *self.options],
                cwd=self.folder,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | self.env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + 60
        while not (found := re.search(r"serves (http://\S+)", log.read_text())):
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        self.url = found[1]

    def kill(self) -> None:
        """-9, all its processes at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def client(self) -> httpx.Client:
        """To ask it."""
        return httpx.Client(base_url=self.url, timeout=60)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A further nemflow command in its folder."""
        return subprocess.run(
            [*NEMFLOW, *command], cwd=self.folder, capture_output=True, text=True, check=False
        )

    def finals(self, deliveries: Sequence[int], seconds: float = 90) -> dict[int, str]:
        """Their states, once all are final."""
        until = time.monotonic() + seconds
        states: dict[int, str] = {}
        with self.client() as client:
            while time.monotonic() < until:
                states = {n: client.get(f"/v1/deliveries/{n}").json()["state"] for n in deliveries}
                if set(states.values()) <= FINAL:
                    return states
                time.sleep(0.2)
        raise AssertionError(f"not final after {seconds} s: {states}")

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
