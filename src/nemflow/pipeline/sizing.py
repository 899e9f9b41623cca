"""How much memory there is, and how many processes and how large pieces follow from it.

Why: a load that is killed for its memory is the worst of slow loads; and a container's limit is
not what the machine says is free.

Promises: by itself a load takes no more than half of the memory that is free when it begins (but at
least one process with the smallest pieces); what is pinned by a setting is taken as it is.

Look next: ``loading.py`` and ``parallel.py``, which use it; ``nemflow doctor`` prints it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
#: What a process needs before it has read a byte, and then per byte of a piece (measured).
PROCESS_BYTES: Final = 150 * MIB
PER_BYTE: Final = 40
SMALLEST_CHUNK: Final = 1 * MIB
#: Rather fewer processes than pieces smaller than this.
_USEFUL_CHUNK: Final = 4 * MIB
#: Taken as free where it cannot be found out (no /proc).
ASSUMED_FREE: Final = 2048 * MIB
_NO_LIMIT: Final = 1 << 60  #: cgroup v1 writes a huge number for "none"


@dataclass(frozen=True, slots=True)
class Memory:
    """What can be used."""

    free: int  #: bytes
    limit: int | None  #: the limit that counts, in bytes; None: the machine's own memory
    source: str  #: where ``free`` comes from, in words


@dataclass(frozen=True, slots=True)
class Sizes:
    """How a load is divided; the settings ``load.*``. None: as the machine and the files allow."""

    jobs: int | None = None  #: processes that load at the same time
    batch_bytes: int | None = None  #: small texts are loaded together up to this size
    chunk_bytes: int | None = None  #: large texts are read in pieces of this size


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done."""

    jobs: int
    batch_bytes: int
    chunk_bytes: int

    @property
    def needed(self) -> int:
        """About how much memory it takes, in bytes."""
        processes = self.jobs + 1 if self.jobs > 1 else 1
        largest = max(self.batch_bytes, self.chunk_bytes)
        return processes * PROCESS_BYTES + self.jobs * PER_BYTE * largest


def free_memory(root: Path = Path("/")) -> Memory:
    """The memory that is free: the least of what the machine and each cgroup above us allow.

    Args:
        root: where ``proc`` and ``sys`` are; for tests.
    """
    found = [*_machine(root), *_cgroups(root)]
    if not found:
        return Memory(ASSUMED_FREE, None, "assumed: this system does not tell")
    return min(found, key=lambda memory: memory.free)


def plan(
    sizes: Sizes, memory: Memory, *, files: int, cores: int, most_jobs: int | None, default: Plan
) -> Plan:
    """How to divide a load.

    Args:
        sizes: what is pinned.
        memory: what is free.
        files: how many files there are to share out.
        cores: how many processors.
        most_jobs: how many processes make sense for the store; None: any.
        default: batch and chunk when memory is plenty.
    """
    budget = memory.free // 2
    jobs = sizes.jobs
    if jobs is None:
        each = PROCESS_BYTES + PER_BYTE * min(_USEFUL_CHUNK, sizes.chunk_bytes or _USEFUL_CHUNK)
        # with several, the one that shares the work out needs its own
        jobs = max(1, min(cores, files, (budget - PROCESS_BYTES) // each, most_jobs or cores))
    processes = jobs + 1 if jobs > 1 else 1
    room = (budget - processes * PROCESS_BYTES) // (PER_BYTE * jobs)
    fits = max(SMALLEST_CHUNK, room)
    return Plan(
        jobs,
        sizes.batch_bytes or min(default.batch_bytes, fits),
        sizes.chunk_bytes or min(default.chunk_bytes, fits),
    )


def cores() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# -- what the system says ---------------------------------------------------------------------


def _machine(root: Path) -> Iterator[Memory]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield Memory(int(line.split()[1]) * 1024, None, "the machine")


def _cgroups(root: Path) -> Iterator[Memory]:
    """Every memory limit of the groups this process is in, and of those above them."""
    for line in _lines(root / "proc/self/cgroup"):
        number, names, path = line.split(":", 2)
        if number == "0" and not names:
            yield from _limits(root / "sys/fs/cgroup", path, _V2, "cgroup v2")
        elif "memory" in names.split(","):
            yield from _limits(root / "sys/fs/cgroup/memory", path, _V1, "cgroup v1")


#: Names of: limit, use, and the key in memory.stat of the file cache that gives way.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _limits(mount: Path, path: str, names: tuple[str, str, str], what: str) -> Iterator[Memory]:
    # in a container the path may be that of the host, while the mount is already our own group
    here = mount / path.strip("/")
    for folder in (here, *here.parents):
        if folder != mount and mount not in folder.parents:
            break
        limit, used = _number(folder / names[0]), _number(folder / names[1])
        if limit is None or used is None or limit >= _NO_LIMIT:
            continue
        cache = _stat(folder / "memory.stat", names[2])
        yield Memory(max(0, limit - used + min(cache, used)), limit, f"the limit of {what}")


def _stat(path: Path, key: str) -> int:
    for line in _lines(path):
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
