"""One measurement in one fresh process: warm up, time, and say what was seen.

Used by ``ours.py`` and ``peers.py``; standard library only, so that it runs in either
environment. A task is a function of a path that does the work and returns what it made; the
proof, counted after the clock has stopped, is the number of readings in it.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Task = Callable[[str], Any]
Proof = Callable[[Any], int]


def peak_bytes() -> int:
    """The most memory this process has held (resident)."""
    try:
        # ru_maxrss would be inherited from a large parent; the kernel's own mark is not.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(tasks: dict[str, tuple[Task, Proof]]) -> None:
    """``script TASK FILE WARM-UP-FILE``: run the task on both, time the first, print JSON."""
    name, path, warm_up = sys.argv[1:4]
    task, proof = tasks[name]
    made = task(warm_up)
    del made
    gc.collect()
    start = time.perf_counter()
    made = task(path)
    seconds = time.perf_counter() - start
    peak = peak_bytes()
    print(json.dumps({"seconds": seconds, "peak": peak, "readings": proof(made)}))
