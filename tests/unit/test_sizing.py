"""Memory as the machine and its cgroups tell it, and the sizes that follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemflow.pipeline.sizing import (
    MIB,
    PER_BYTE,
    PROCESS_BYTES,
    SMALLEST_CHUNK,
    Memory,
    Plan,
    Sizes,
    free_memory,
    plan,
)

DEFAULT = Plan(1, 8 * MIB, 12 * MIB)


@pytest.fixture
def machine(tmp_path: Path):
    """Writes files of /proc and /sys; 8 GiB are available."""

    def write(files: dict[str, str]) -> Path:
        every = {"proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable:  8388608 kB\n"} | files
        for name, text in every.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_without_a_limit_the_machine_counts(machine) -> None:
    """MemAvailable, not MemFree or MemTotal."""
    found = free_memory(machine({"proc/self/cgroup": "0::/\n"}))
    assert found == Memory(8 << 30, None, "the machine")


def test_a_container_counts_what_its_limit_leaves(machine) -> None:
    """Version 2: limit less use, and the file cache gives way."""
    at = "sys/fs/cgroup/system.slice/load.service"
    root = machine(
        {
            "proc/self/cgroup": "0::/system.slice/load.service\n",
            f"{at}/memory.max": f"{1024 * MIB}\n",
            f"{at}/memory.current": f"{600 * MIB}\n",
            f"{at}/memory.stat": f"anon 1\ninactive_file {200 * MIB}\n",
        }
    )
    found = free_memory(root)
    assert (found.free, found.limit) == (624 * MIB, 1024 * MIB)
    assert "v2" in found.source


def test_a_limit_above_our_group_counts_too(machine) -> None:
    """Our own group has none, its parent has."""
    root = machine(
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/box/memory.max": "max\n",
            "sys/fs/cgroup/pod/box/memory.current": "5\n",
            "sys/fs/cgroup/pod/memory.max": f"{512 * MIB}\n",
            "sys/fs/cgroup/pod/memory.current": f"{112 * MIB}\n",
        }
    )
    assert free_memory(root).free == 400 * MIB


def test_version_1_under_its_own_path_or_at_the_mount(machine) -> None:
    """In a container the path in /proc is the host's, which is not there."""
    root = machine(
        {
            "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/abc\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2048 * MIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{48 * MIB}\n",
        }
    )
    found = free_memory(root)
    assert found.free == 2000 * MIB
    assert "v1" in found.source


def test_no_limit_in_version_1_is_a_huge_number(machine) -> None:
    """9223372036854771712 means none."""
    root = machine(
        {
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
        }
    )
    assert free_memory(root).source == "the machine"


def test_a_system_that_does_not_tell_is_taken_to_have_2_gib(tmp_path: Path) -> None:
    """No /proc: no error."""
    assert free_memory(tmp_path).free == 2 << 30


@pytest.mark.parametrize("free", [600, 700, 800, 1500, 2000, 4000, 64_000])
@pytest.mark.parametrize("cores", [1, 2, 16])
@pytest.mark.parametrize("files", [1, 3, 1000])
def test_no_more_than_half_of_the_free_memory_is_planned_for(free, cores, files) -> None:
    """Whatever the machine, what the plan needs fits the half that is ours."""
    got = plan(
        Sizes(),
        Memory(free * MIB, None, ""),
        files=files,
        cores=cores,
        most_jobs=None,
        default=DEFAULT,
    )
    assert 1 <= got.jobs <= min(cores, files)
    assert got.chunk_bytes <= DEFAULT.chunk_bytes
    assert got.batch_bytes <= DEFAULT.batch_bytes
    processes = got.jobs + (got.jobs > 1)
    assert got.needed == processes * PROCESS_BYTES + got.jobs * PER_BYTE * got.chunk_bytes
    assert got.needed <= free * MIB // 2


def test_a_tiny_machine_still_loads_in_the_smallest_pieces() -> None:
    """One process, pieces of 1 MiB."""
    got = plan(
        Sizes(), Memory(64 * MIB, None, ""), files=9, cores=8, most_jobs=None, default=DEFAULT
    )
    assert got == Plan(1, SMALLEST_CHUNK, SMALLEST_CHUNK)


def test_plenty_gives_the_defaults_and_all_cores_one_on_an_embedded_store() -> None:
    """An SQLite file has one writer."""
    lots = Memory(256 << 30, None, "")
    got = plan(Sizes(), lots, files=100, cores=8, most_jobs=None, default=DEFAULT)
    assert got == Plan(8, 8 * MIB, 12 * MIB)
    assert plan(Sizes(), lots, files=100, cores=8, most_jobs=1, default=DEFAULT).jobs == 1


def test_what_is_pinned_is_taken_as_it_is() -> None:
    """Also when it is too much: a person has decided."""
    sizes = Sizes(jobs=5, batch_bytes=3, chunk_bytes=64 * MIB)
    got = plan(sizes, Memory(1, None, ""), files=1, cores=1, most_jobs=1, default=DEFAULT)
    assert got == Plan(5, 3, 64 * MIB)
