"""The spool: whole or not at all, on the disk before anybody is told, no trace of cut-off bytes."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemflow.errors import NotFound, SpoolFault, SpoolFull, TooLarge
from nemflow.intake.spool import Spool, SpoolLimits

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks and kill -9 are POSIX")

SMALL = SpoolLimits(file_bytes=1000, total_bytes=2500, free_bytes=1)


def files_below(folder: Path) -> list[str]:
    """Everything that is not a folder, by its path below."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def lay(spool: Spool, data: bytes) -> str:
    """Put bytes into the spool; their SHA-256."""
    with spool.landing() as landing:
        landing.write(data)
        return landing.keep().sha256


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A new spool."""
    return Spool(tmp_path / "spool")


def test_what_is_kept_lies_under_its_hash_whole(spool) -> None:
    """Written in parts, found by SHA-256, byte for byte."""
    with spool.landing() as landing:
        for part in (b"100,NEM12", b"", b",x\r\n"):
            landing.write(part)
        kept = landing.keep()
    data = b"100,NEM12,x\r\n"
    assert kept.sha256 == hashlib.sha256(data).hexdigest() == landing.sha256
    assert landing.digest == hashlib.sha256(data).digest()
    assert kept.size == landing.size == len(data)
    assert kept.path == spool.path(kept.sha256)
    assert kept.path.read_bytes() == data
    below = f"{kept.sha256[:2]}/{kept.sha256[2:4]}/{kept.sha256}"
    assert files_below(spool.root) == [below]
    assert spool.has(kept.sha256)


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_any_parts_add_up(tmp_path_factory, parts: list[bytes]) -> None:
    """However the bytes are cut, the original is their concatenation."""
    spool = Spool(tmp_path_factory.getbasetemp() / "any")
    with spool.landing() as landing:
        for part in parts:
            landing.write(part)
        assert landing.keep().path.read_bytes() == b"".join(parts)


def test_a_cut_off_upload_leaves_no_trace(spool) -> None:
    """Neither when it just ends, nor when something is raised."""
    with spool.landing() as landing:
        landing.write(b"half a fi")
    with pytest.raises(ConnectionResetError), spool.landing() as landing:  # noqa: PT012
        landing.write(b"half a fi")
        raise ConnectionResetError
    assert files_below(spool.root) == []


def test_the_order_is_file_name_folder(spool, monkeypatch) -> None:
    """The bytes are flushed before they get their name, the folder after it."""
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def seen_fsync(handle: int) -> None:
        fsync(handle)
        happened.append("folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "file")

    def seen_replace(self: Path, target: Path) -> Path:
        happened.append("name")
        return replace(self, target)

    lay(spool, b"first")
    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(Path, "replace", seen_replace)
    sha256 = hashlib.sha256(b"second").hexdigest()
    lay(spool, b"second")
    # two new folders, each flushed in the one above it, the outermost first
    assert happened == ["file", "folder", "folder", "name", "folder"]
    happened.clear()
    spool.delete(sha256)
    assert happened == ["folder"]


def test_the_same_bytes_are_one_original(spool) -> None:
    """Laid twice, at the same time and afterwards: one file."""
    with spool.landing() as one, spool.landing() as other:
        one.write(b"same")
        other.write(b"same")
        assert one.keep() == other.keep()
    lay(spool, b"same")
    assert spool.usage().files == 1


def test_kept_again_it_is_there_again(spool) -> None:
    """Somebody deleted the same bytes in between: ``keep`` makes sure of them."""
    with spool.landing() as landing:
        landing.write(b"needed")
        sha256 = landing.keep().sha256
        spool.delete(sha256)
        landing.keep()
        assert spool.path(sha256).read_bytes() == b"needed"
        landing.keep()
    assert len(files_below(spool.root)) == 1


def test_too_much_is_refused_as_it_comes(tmp_path) -> None:
    """One byte less, as many, one byte more than the limit; nothing stays of the last."""
    spool = Spool(tmp_path, SMALL)
    lay(spool, b"a" * 999)
    lay(spool, b"b" * 1000)
    with spool.landing() as landing:
        landing.write(b"c" * 600)
        with pytest.raises(TooLarge, match="1,000"):
            landing.write(b"c" * 401)
    assert spool.usage().files == 2
    with pytest.raises(TooLarge):
        spool.check_room(1001)


def test_a_full_spool_takes_no_more(tmp_path) -> None:
    """All originals together have a limit too; when one goes there is room again."""
    spool = Spool(tmp_path, SMALL)
    first = lay(spool, b"a" * 1000)
    lay(spool, b"b" * 1000)
    lay(spool, b"b" * 1000)
    for other in (spool, Spool(tmp_path, SMALL)):  # what this process laid, and what it found
        if other is not spool:
            other.usage()
        other.check_room(500)
        with pytest.raises(SpoolFull, match="2,000 bytes of 2,500"):
            other.check_room(501)
    spool.delete(first)
    spool.check_room(501)


def test_a_large_spool_is_counted_on_the_side(tmp_path) -> None:
    """What others laid here counts too, soon; nobody who uploads waits for the counting."""
    lay(Spool(tmp_path, SMALL), b"a" * 900)
    lay(Spool(tmp_path, SMALL), b"b" * 900)
    spool = Spool(tmp_path, SMALL)
    until = time.monotonic() + 10
    with pytest.raises(SpoolFull):  # noqa: PT012
        while time.monotonic() < until:
            spool.check_room(1000)
            time.sleep(0.01)


def test_a_full_disk_takes_no_more(tmp_path) -> None:
    """So much is to stay free: checked before the first byte."""
    spool = Spool(tmp_path, SpoolLimits(free_bytes=1 << 60))
    with pytest.raises(SpoolFull, match="left"):
        spool.landing()
    assert files_below(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_on_the_way(small_disk) -> None:
    """The upload is refused and leaves nothing; what was kept is whole; small ones go on."""
    spool = Spool(small_disk, SpoolLimits(free_bytes=1))
    sha256 = lay(spool, b"a" * 300_000)
    for _ in range(3):
        with pytest.raises(SpoolFull), spool.landing() as landing:  # noqa: PT012
            for _ in range(30):
                landing.write(b"b" * 50_000)
            landing.keep()
        assert files_below(small_disk) == [str(spool.path(sha256).relative_to(small_disk))]
    assert hashlib.sha256(spool.path(sha256).read_bytes()).hexdigest() == sha256
    lay(spool, b"c" * 300_000)


def test_a_disk_that_fills_up_while_archiving(tmp_path, small_disk) -> None:
    """The original stays where it is, and nothing half of it is in the archive."""
    spool = Spool(tmp_path / "spool")
    sha256 = lay(spool, b"a" * 2_000_000)
    with pytest.raises(SpoolFull):
        spool.copy(sha256, small_disk)
    assert spool.has(sha256)
    assert files_below(small_disk) == []


def test_a_write_that_is_cut_short_is_a_full_spool(tmp_path) -> None:
    """Without the right to mount anything: the system lets no file grow past 100 kB."""
    code = (
        "import sys; from nemflow.errors import SpoolFull; from nemflow.intake.spool import Spool\n"
        "spool = Spool(sys.argv[1])\n"
        "try:\n"
        "    with spool.landing() as landing:\n"
        "        landing.write(b'x' * 200_000); landing.keep()\n"
        "except SpoolFull as error: print('full')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"full\n"
    assert files_below(tmp_path) == []


def test_a_folder_that_cannot_be_used_is_said(tmp_path) -> None:
    """A file stands where the spool should be."""
    (tmp_path / "spool").write_bytes(b"")
    with pytest.raises(SpoolFault, match="spool"):
        Spool(tmp_path / "spool")


def test_delete_and_archive(spool, tmp_path) -> None:
    """Gone here, and whole there; doing it again is harmless, what never was is not found."""
    sha256 = lay(spool, b"done")
    kept = spool.copy(sha256, tmp_path / "archive")
    assert kept.read_bytes() == b"done"
    assert spool.delete(sha256)
    assert not spool.has(sha256)
    assert spool.copy(sha256, tmp_path / "archive") == kept
    assert files_below(tmp_path) == [str(kept.relative_to(tmp_path))]
    with pytest.raises(NotFound):
        spool.copy(sha256, tmp_path / "elsewhere")
    sha256 = lay(spool, b"done")
    assert spool.delete(sha256)
    assert not spool.delete(sha256)


def test_what_is_set_aside_is_there_and_makes_room(tmp_path) -> None:
    """It counts towards no limit, is found, is laid again beside itself, and is deleted whole."""
    spool = Spool(tmp_path, SpoolLimits(total_bytes=1000, free_bytes=1))
    sha256 = lay(spool, b"a" * 900)
    spool.usage()
    with pytest.raises(SpoolFull):
        spool.check_room(200)
    assert spool.set_aside(sha256)
    assert not spool.set_aside(sha256), "it is there already"
    spool.check_room(1000)
    used = spool.usage()
    assert (used.files, used.bytes, used.kept_files, used.kept_bytes) == (0, 0, 1, 900)
    assert spool.has(sha256)
    assert spool.path(sha256).read_bytes() == b"a" * 900
    assert list(spool.originals()) == [sha256]
    lay(spool, b"a" * 900)
    assert spool.usage().files == 1
    assert spool.delete(sha256)
    assert not spool.has(sha256)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_only_a_hash_is_a_path(spool, name) -> None:
    """Nothing from outside becomes a path."""
    with pytest.raises(ValueError, match="SHA-256"):
        spool.path(name)


def test_usage_counts_originals_only(spool) -> None:
    """Files and bytes; an upload on its way is not one yet."""
    hashes = {lay(spool, b"a" * 10), lay(spool, b"b" * 20)}
    with spool.landing() as landing:
        landing.write(b"c" * 40)
        used = spool.usage()
    assert (used.files, used.bytes) == (2, 30)
    assert used.free_bytes > 0
    assert set(spool.originals()) == hashes
    assert list(spool.originals(older_than=3600)) == []


def test_tidy_leaves_alone_what_is_still_coming(spool) -> None:
    """Of this process or another, before, during and after its first byte."""
    with spool.landing() as landing:
        assert spool.tidy() == 0
        landing.write(b"still coming")
        assert Spool(spool.root).tidy() == 0
        sha256 = landing.keep().sha256
    assert spool.tidy() == 0
    assert spool.path(sha256).read_bytes() == b"still coming"


def test_tidy_and_uploads_at_the_same_time(spool) -> None:
    """However often somebody tidies, every upload arrives."""
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            Spool(spool.root).tidy()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for n in range(200):
            sha256 = lay(spool, b"%d" % n)
            assert spool.path(sha256).read_bytes() == b"%d" % n
    finally:
        stop.set()
        sweeper.join()


# -- kill -9 ---------------------------------------------------------------------------------------

_UPLOADS = """
import os, sys
from nemflow.intake.spool import Spool
spool = Spool(sys.argv[1])
for n in range(int(sys.argv[2])):
    with spool.landing() as landing:
        for _ in range(20):
            landing.write(b"%d %d " % (os.getpid(), n) * 1000)
        print(landing.keep().sha256, flush=True)
"""


def uploads(folder: Path, count: int, failpoint: str = "") -> subprocess.Popen[str]:
    """A process that uploads, and says of each one when it is kept."""
    return subprocess.Popen(
        [sys.executable, "-c", _UPLOADS, str(folder), str(count)],
        env={**os.environ, "NEMFLOW_FAILPOINTS": failpoint},
        stdout=subprocess.PIPE,
        text=True,
    )


def must_be_whole(spool: Spool, told: list[str]) -> None:
    """Every original is what its name says, and every one that was told of is there."""
    there = set(spool.originals())
    for sha256 in there:
        assert hashlib.sha256(spool.path(sha256).read_bytes()).hexdigest() == sha256
    assert set(told) <= there
    spool.tidy()
    assert len(files_below(spool.root)) == len(there)


@pytest.mark.parametrize(
    ("place", "there"),
    [
        ("spool-begun", 1),
        ("spool-written", 1),
        ("spool-synced", 1),
        ("spool-renamed", 2),
        ("spool-kept", 2),
    ],
)
def test_killed_between_any_two_steps(spool, place, there) -> None:
    """Killed in the second upload: nothing of it is there, or the whole."""
    child = uploads(spool.root, 5, f"{place}@2=kill")
    told, _ = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert len(told.split()) == 1
    assert spool.usage().files == there
    must_be_whole(spool, told.split())


def test_killed_at_random_moments(spool) -> None:
    """Again and again: what was told is there, what is there is whole."""
    rng = random.Random(20)  # noqa: S311 - a test's dice
    told: list[str] = []
    for _ in range(6):
        child = uploads(spool.root, 100_000)
        assert child.stdout is not None
        told += [child.stdout.readline().strip() for _ in range(rng.randint(1, 40))]
        child.kill()
        # a line that was cut off by the kill tells of nothing
        told += [line for line in child.communicate()[0].splitlines() if len(line) == 64]
    assert len(told) > 6
    must_be_whole(spool, told)
