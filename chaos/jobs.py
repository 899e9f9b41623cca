"""Jobs: ``nemflow load --jobs``, with the process that was called, or one of its own, killed.

Why: with several processes there are orphans to think of: they must end, and leave nothing open.

Look next: ``nemflow/pipeline/parallel.py``; ``crashes.py`` for one process.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from chaos.contests import put
from chaos.model import SentFile, sent_files
from chaos.report import Attack
from chaos.verdict import faults, partial
from nemflow.pipeline import load
from nemflow.store import open_store

_FILES = 24
_PATIENCE = 30.0  # seconds in which orphans must be gone


def crash_hunt_of_jobs(database: str, folder: Path, rng: random.Random, *, kills: int) -> Attack:
    """Kill the process that was called, or one of those that load for it; load again."""
    sent: list[SentFile] = []
    wrong: list[str] = []
    seen: Counter[str] = Counter()
    tries = 0
    with open_store(database) as store:
        while seen["kills"] < kills and tries < kills * 4:
            tries += 1
            some = sent_files(rng, _FILES, nmis=6, per_file=(15, 30), first=len(sent))
            sent += some
            paths = list(put(folder, some).values())
            whom = ("the process called", "one of its own")[tries % 2]
            if _killed(database, paths, rng, called=whom == "the process called", wrong=wrong):
                seen["kills"] += 1
                seen[f"killed: {whom}"] += 1
            wrong += [f"{whom}: {fault}" for fault in partial(store)]
            load(store, paths)
        wrong += faults(store, sent)
    if seen["kills"] < kills:
        wrong.append(f"only {seen['kills']} of {kills} kills met a running load")
    return Attack(
        "Crash hunt, load --jobs",
        f"`nemflow load --jobs 2` of {_FILES} files; the process that was called, or one of those "
        "that load for it, is killed with -9 while they load. The rest must end by themselves; "
        "then the same files are loaded again.",
        counts={**seen, "files": len(sent)},
        wrong=wrong,
    )


def _killed(
    database: str, paths: Sequence[str], rng: random.Random, *, called: bool, wrong: list[str]
) -> bool:
    """Start a load of two jobs and kill one process; False when it was done before."""
    words = [sys.executable, "-m", "nemflow.cli", "load", *paths, "--jobs", "2", "--db", database]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        mine = _loading(process.pid)
        while len(mine) < 2 and process.poll() is None:
            time.sleep(0.01)
            mine = _loading(process.pid)
        time.sleep(rng.uniform(0.4, 1.6))
        if process.poll() is not None:
            return False
        try:
            os.kill(process.pid if called else rng.choice(mine), signal.SIGKILL)
        except ProcessLookupError:
            return False
        process.wait(120)
    end = time.monotonic() + _PATIENCE
    while any(_runs(pid) for pid in mine):
        if time.monotonic() > end:
            wrong.append(f"a process of a killed load still runs after {_PATIENCE:.0f} s")
            break
        time.sleep(0.02)
    return True


def _loading(pid: int) -> list[int]:
    """The processes that load for another one (Linux says so)."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return [
            int(child)
            for child in text.split()
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    except OSError:
        return []


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False
