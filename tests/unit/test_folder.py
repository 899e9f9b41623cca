"""The drop folder and the sweep: what is taken when, and where it goes."""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nemflow
from nemflow import failpoints
from nemflow.errors import SpoolFault, StoreAway, UsageError
from nemflow.intake import folder
from nemflow.intake.folder import FolderPace, Inbox
from nemflow.intake.spool import Spool, SpoolLimits
from nemflow.jobs import sweeper as sweeper_module
from nemflow.jobs.sweeper import Sweeper, checked, latest
from nemflow.pipeline import collecting, sweeping, undo
from nemflow.pipeline.collecting import Collector, Wishes
from nemflow.pipeline.delivering import Delivering, process
from nemflow.pipeline.receiving import receive
from nemflow.pipeline.sweeping import Swept, sweep, sweep_away
from nemflow.store import open_store, work
from nemflow.store.tables import MARKET_OFFSET

PACE = FolderPace(settle_seconds=3, files=1000)


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    with open_store(f"sqlite:///{tmp_path}/a.db") as opened:
        yield opened


@pytest.fixture
def drop(tmp_path) -> Path:
    """An empty drop folder."""
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


class Taker:
    """A collector whose clock a test moves on."""

    def __init__(self, store, drop: Path, pace: FolderPace = PACE, **options) -> None:
        self.clock = Clock()
        self.store = store
        self.spool = Spool(drop.parent / "spool", SpoolLimits(file_bytes=100_000, free_bytes=1))
        self.inbox = Inbox(drop, pace, clock=self.clock)
        self.collector = Collector(store, self.spool, self.inbox, **options)

    def settled(self):
        """A look, time to settle, and the round that takes."""
        self.inbox.look()
        self.clock.now += 3
        return self.collector.round()

    def work(self) -> None:
        """Load everything that was received."""
        backend = self.store.backend
        for row in self.store.deliveries("received", limit=None).iter_rows(named=True):
            number = row["delivery"]
            backend.transact(lambda conn, n=number: work.claim(conn, backend, n, "t", 60))
            process(self.store, self.spool, number, token="t", how=Delivering())  # noqa: S106


def files_in(folder: Path) -> set[str]:
    """Every file below, by its path from there."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


# --- when a file is ready -------------------------------------------------------------------


def test_a_file_that_grows_is_waited_for_until_it_stands_still(drop) -> None:
    """Each change begins the wait anew, however old its clock says it is."""
    clock = Clock()
    inbox = Inbox(drop, PACE, clock=clock)
    file = drop / "a.csv"
    for size in (1, 2, 3):
        file.write_bytes(b"x" * size)
        os.utime(file, (1, 1))  # a share with a wrong clock
        clock.now += 2.9
        assert inbox.look()[0] == []
    clock.now += 3
    assert [each.name for each in inbox.look()[0]] == ["a.csv"]


@pytest.mark.parametrize("name", [".hidden", "a.tmp", "a.PART", "~$a.csv", "a.csv.filepart", "a~"])
def test_unfinished_and_hidden_files_are_let_alone(drop, name) -> None:
    """Renaming one to its own name makes it a file like any other."""
    clock = Clock()
    inbox = Inbox(drop, PACE, clock=clock)
    (drop / name).write_text("x")
    inbox.look()
    clock.now += 10
    assert inbox.look() == ([], [])
    (drop / name).rename(drop / "whole.csv")
    inbox.look()
    clock.now += 3
    assert [each.name for each in inbox.look()[0]] == ["whole.csv"]


@given(sizes=st.lists(st.integers(0, 5), min_size=2, max_size=12), limit=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_every_file_has_its_turn_and_no_more_are_watched_than_allowed(
    tmp_path_factory, sizes, limit
) -> None:
    """Whatever the sizes: in rounds of at most ``files``, none is left out and none is twice."""
    drop, clock = tmp_path_factory.mktemp("many"), Clock()
    inbox = Inbox(drop, FolderPace(settle_seconds=1, files=limit), clock=clock)
    for number, size in enumerate(sizes):
        (drop / f"{number}.csv").write_bytes(b"x" * size)
    seen: list[str] = []
    for _ in range(2 * len(sizes) + 2):
        ready, _ = inbox.look()
        assert len(ready) <= limit
        for each in ready:
            seen.append(each.name)
            inbox.move(each.path, "done", None, each.name)
        clock.now += 1
    assert sorted(seen) == sorted(f"{n}.csv" for n in range(len(sizes)))


def test_many_files_that_cannot_be_read_hold_nobody_back(drop) -> None:
    """What was put off leaves its place to the others, and has its turn again."""
    clock = Clock()
    inbox = Inbox(drop, FolderPace(settle_seconds=1, files=2), clock=clock)
    for name in ("a", "b", "c", "d", "e"):  # found before the good one, or not
        (drop / f"{name}.bad").write_bytes(b"x")
    (drop / "z.csv").write_bytes(b"good")
    tried: list[str] = []
    for _ in range(8):
        for each in inbox.look()[0]:
            tried.append(each.name)
            if each.name.endswith(".bad"):
                inbox.later(each.path, 60)
            else:
                inbox.move(each.path, "done", None, each.name)
        clock.now += 1
    assert sorted(tried) == ["a.bad", "b.bad", "c.bad", "d.bad", "e.bad", "z.csv"]
    clock.now += 60
    assert len(inbox.look()[0]) == 5


def test_nothing_is_overwritten_wherever_it_goes(drop) -> None:
    """Files of one name from one sender lie side by side."""
    inbox = Inbox(drop, PACE)
    for text in ("first", "second"):
        (drop / "a.csv").write_text(text)
        inbox.move(drop / "a.csv", "done", "MDPA", "a.csv")
    assert {p.read_text() for p in (drop / "done" / "MDPA").iterdir()} == {"first", "second"}
    assert inbox.move(drop / "a.csv", "done", "MDPA", "a.csv") is None  # somebody else was faster


# --- what becomes of it ---------------------------------------------------------------------


def test_loaded_files_go_to_done_and_refused_ones_to_rejected_with_a_report(store, drop) -> None:
    """By sender; until they are final they lie in ``taken``, under their delivery's number."""
    (drop / "MDPA").mkdir()
    (drop / "MDPA" / "good.csv").write_bytes(nemflow.generate(days=1))
    (drop / "part.csv").write_bytes(nemflow.generate(days=2, seed=4, break_it=["I001"]))
    (drop / "bad.csv").write_text("no meter data\n")
    taker = Taker(store, drop)
    assert taker.settled().taken == 3
    rows = {row["name"]: row for row in store.deliveries().iter_rows(named=True)}
    assert {row["channel"] for row in rows.values()} == {"folder"}
    assert (rows["good.csv"]["sender"], rows["bad.csv"]["sender"]) == ("MDPA", None)
    number = {name: f"{row['delivery']:06d}-{name}" for name, row in rows.items()}
    assert files_in(drop / "taken") == {
        f"MDPA/{number['good.csv']}", number["part.csv"], number["bad.csv"],
    }  # fmt: skip
    taker.work()
    assert taker.collector.round().filed == 3
    part, bad = number["part.csv"], number["bad.csv"]
    assert files_in(drop) == {
        f"done/MDPA/{number['good.csv']}",
        *(f"done/{part}{more}" for more in ("", ".report.json", ".report.csv")),
        *(f"rejected/{bad}{more}" for more in ("", ".report.json", ".report.csv")),
    }
    told = json.loads((drop / "rejected" / f"{bad}.report.json").read_text())
    assert (told["state"], told["name"]) == ("rejected", "bad.csv")
    assert "I001" in (drop / "done" / f"{part}.report.csv").read_text()


def test_what_is_no_file_is_never_opened_and_told(store, drop, tmp_path) -> None:
    """A link to somewhere else, a pipe: moved aside, with the reason beside it."""
    secret = tmp_path / "secret.csv"
    secret.write_bytes(nemflow.generate(days=1))
    (drop / "link.csv").symlink_to(secret)
    os.mkfifo(drop / "pipe.csv")
    taker = Taker(store, drop)
    assert taker.collector.round().refused == 2
    assert store.deliveries().is_empty()
    assert secret.exists()
    assert (drop / "rejected" / "link.csv").is_symlink()
    assert stat.S_ISFIFO((drop / "rejected" / "pipe.csv").lstat().st_mode)
    said = json.loads((drop / "rejected" / "link.csv.report.json").read_text())
    assert "symbolic link" in said["error"]


def test_a_file_that_is_too_large_is_refused_and_holds_back_no_other(store, drop) -> None:
    """It goes to ``rejected`` with the limit in its report."""
    (drop / "huge.csv").write_bytes(b"x" * 100_001)
    (drop / "good.csv").write_bytes(nemflow.generate(days=1))
    done = Taker(store, drop).settled()
    assert (done.taken, done.refused) == (1, 1)
    assert "100,000" in (drop / "rejected" / "huge.csv.report.json").read_text()


def test_the_folder_waits_while_there_is_no_room(store, drop) -> None:
    """Nothing is dropped; when there is room again it is taken."""
    full = ["the backlog is full"]
    (drop / "a.csv").write_bytes(nemflow.generate(days=1))
    taker = Taker(store, drop, crowded=lambda: full[0] if full else None)
    done = taker.settled()
    assert (done.taken, done.held, done.left) == (0, "the backlog is full", 1)
    full.clear()
    assert taker.collector.round().taken == 1


@pytest.mark.parametrize("place", ["folder-received", "folder-move", "spool-kept"])
def test_killed_between_ledger_and_move_it_is_one_delivery(store, drop, monkeypatch, place) -> None:
    """The next round, by whoever comes, takes the same file and finds the same delivery."""
    (drop / "a.csv").write_bytes(nemflow.generate(days=1))
    taker = Taker(store, drop)

    class Killed(BaseException):
        pass

    def die(at: str) -> None:
        if at == place:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "reach", die)
        with pytest.raises(Killed):
            taker.settled()
    other = Taker(store, drop)
    assert other.settled().taken == 1
    assert store.deliveries().height == 1
    other.work()
    other.collector.round()
    assert len(files_in(drop / "done")) == 1


def test_a_writer_that_went_on_after_its_file_was_taken_loses_nothing(store, drop) -> None:
    """What has grown in ``taken`` goes back, and is taken again whole."""
    whole = nemflow.generate(days=2)
    half = len(whole) // 2
    (drop / "slow.csv").write_bytes(whole[:half])
    taker = Taker(store, drop)
    with (drop / "slow.csv").open("ab") as writer:
        taker.settled()
        writer.write(whole[half:])
    taker.work()
    taker.collector.round()
    assert (drop / "slow.csv").read_bytes() == whole
    taker.clock.now += 3
    assert taker.collector.round().taken == 1
    taker.work()
    assert set(store.deliveries()["state"]) >= {"loaded"}


def test_a_writer_that_had_set_the_full_size_first_loses_nothing(store, drop) -> None:
    """As copies over SMB do, which set an old time at their end: only the bytes tell."""
    whole = nemflow.generate(days=1)
    taker = Taker(store, drop)
    with (drop / "a.csv").open("wb") as writer:
        writer.truncate(len(whole))
        writer.write(whole[:100])
        writer.flush()
        taker.settled()
        writer.write(whole[100:])
    os.utime(next((drop / "taken").iterdir()), (1e9, 1e9))
    taker.work()
    taker.collector.round()
    assert files_in(drop) == {"a.csv"}
    taker.clock.now += 3
    assert taker.collector.round().taken == 1
    taker.work()
    taker.collector.round()
    assert store.deliveries().sort("delivery")["state"].to_list() == ["rejected", "loaded"]
    assert files_in(drop) == {"done/000002-a.csv"}


@pytest.mark.parametrize("way_out", ["undo", "reject"])
def test_a_file_moved_back_into_the_folder_is_a_new_delivery(store, drop, way_out) -> None:
    """Out of ``done`` after an undo, out of ``rejected`` after the cause was mended."""
    (drop / "a.csv").write_bytes(nemflow.generate(days=1))
    taker = Taker(store, drop)
    taker.settled()
    if way_out == "undo":
        taker.work()
        undo(store, 1)
    else:
        store.cancel(1)
    taker.collector.round()
    place = "done" if way_out == "undo" else "rejected"
    (drop / place / "000001-a.csv").rename(drop / "a.csv")
    assert taker.settled().taken == 1
    taker.work()
    taker.collector.round()
    assert store.deliveries().sort("delivery")["state"].to_list()[1:] == ["loaded"]
    assert "done/000002-a.csv" in files_in(drop)


def test_a_sender_s_folder_whose_name_is_no_utf8_is_a_sender_s_like_any_other(store, drop) -> None:
    """Its files are taken, and refused, under the name as it can be shown; by a sweep too."""
    latin = Path(os.fsdecode(os.fsencode(drop) + b"/\xdcber"))
    latin.mkdir()
    (latin / "a.csv").write_bytes(nemflow.generate(days=1))
    (latin / "link.csv").symlink_to(latin / "a.csv")
    (drop / "b.csv").write_bytes(nemflow.generate(days=1, seed=2))
    swept = sweep(
        store, Spool(drop.parent / "other", SpoolLimits(free_bytes=1)), drop, settle_seconds=0
    )
    assert (swept.taken, swept.refused) == (2, 1)
    assert swept.problems[0].encode()  # can be printed
    taker = Taker(store, drop)
    done = taker.settled()
    assert (done.taken, done.troubled) == (2, 0)
    taker.work()
    taker.collector.round()
    assert "\ufffdber" in set(store.deliveries()["sender"])
    assert (drop / "done" / latin.name).is_dir()
    said = (drop / "rejected" / latin.name / "link.csv.report.json").read_text(encoding="utf-8")
    assert json.loads(said)["sender"] == "\ufffdber"


def test_what_cannot_be_moved_holds_back_no_other_and_is_a_fault_in_the_end(store, drop) -> None:
    """A link, a taken file and a loaded one whose places are barred; each has its turn again."""
    for name in ("A", "B", "C"):
        (drop / name).mkdir()
        (drop / name / "a.csv").write_bytes(nemflow.generate(days=1, seed=ord(name)))
    (drop / "A" / "a.csv").unlink()
    (drop / "A" / "a.csv").symlink_to("nowhere")
    bars = [drop / "rejected" / "A", drop / "taken" / "B", drop / "done" / "C"]
    for bar in bars:
        bar.parent.mkdir()
        bar.write_text("a file where the folder of a sender should be")
    taker = Taker(store, drop)
    done = taker.settled()
    assert (done.taken, done.refused, done.troubled, done.left) == (1, 0, 2, 2)
    taker.work()
    for _ in range(3):
        (drop / "good.csv").write_bytes(nemflow.generate(days=1, seed=9))
        taker.settled()
        taker.work()
    assert len(list((drop / "done").glob("*-good*.csv"))) == 2  # the third has its turn
    taker.collector.check()  # each failed but once
    taker.clock.now += 60
    assert taker.collector.round().troubled == 3
    with pytest.raises(SpoolFault, match=r"moved to .*/rejected/A: File exists\. And 2 more"):
        taker.collector.check()
    for bar in bars:
        bar.unlink()
    taker.clock.now += 60
    taker.collector.round()
    taker.work()
    taker.collector.round()
    taker.collector.check()
    assert {path.split("/")[0] for path in files_in(drop)} == {"done", "rejected"}


def test_a_fault_of_ours_with_one_file_holds_back_no_other(store, drop, monkeypatch) -> None:
    """Whatever it is; it is forgotten when the file is gone. Nor does it hold back a sweep."""
    for name in ("bad.csv", "good.csv"):
        (drop / name).write_bytes(nemflow.generate(days=1, seed=len(name)))

    def received(*given, name, **named):
        if name == "bad.csv":
            raise ZeroDivisionError("nobody thought of this")
        return receive(*given, name=name, **named)

    monkeypatch.setattr(collecting, "receive", received)
    monkeypatch.setattr(sweeping, "receive", received)
    taker = Taker(store, drop)
    swept = sweep(store, taker.spool, drop, settle_seconds=0)
    assert (swept.taken, swept.refused) == (1, 1)
    done = taker.settled()
    assert (done.taken, done.troubled) == (1, 1)
    taker.clock.now += 60
    taker.collector.round()
    with pytest.raises(SpoolFault, match=r"bad\.csv: ZeroDivisionError"):
        taker.collector.check()
    (drop / "bad.csv").unlink()
    taker.clock.now += 60
    taker.collector.round()
    taker.collector.check()


def test_a_sender_s_folder_that_may_not_be_entered_holds_back_no_other(
    store, drop, monkeypatch
) -> None:
    """It may be listed: each file is there, and the system says no more of it."""

    class Barred:
        name, path = "a.csv", str(drop / "BARRED" / "a.csv")

        def stat(self, **_):
            raise PermissionError(13, "Permission denied")

    listed = folder.entries
    monkeypatch.setattr(folder, "entries", lambda *given: [(Barred(), "BARRED"), *listed(*given)])
    (drop / "good.csv").write_bytes(nemflow.generate(days=1))
    taker = Taker(store, drop)
    done = taker.settled()
    assert (done.taken, done.troubled, done.left) == (1, 1, 1)
    taker.clock.now += 60
    assert taker.collector.round().troubled == 1
    with pytest.raises(SpoolFault, match="BARRED: Permission denied"):
        taker.collector.check()


def test_a_sender_s_folder_that_cannot_be_read_is_told(store, drop, monkeypatch) -> None:
    """By the drop folder as a fault, by a sweep as one more that is refused; others go on."""
    for name in ("BARRED", "lost+found"):  # which is the disk's own, and nobody's
        (drop / name).mkdir()
    (drop / "good.csv").write_bytes(nemflow.generate(days=1))
    listed = os.scandir

    def scandir(where):
        if Path(where).name in {"BARRED", "lost+found"}:
            raise PermissionError(13, "Permission denied")
        return listed(where)

    monkeypatch.setattr(os, "scandir", scandir)
    taker = Taker(store, drop)
    swept = sweep(store, taker.spool, drop, settle_seconds=0)
    assert (swept.found, swept.taken, swept.refused) == (2, 1, 1)
    assert swept.problems == [f"{drop / 'BARRED'}: Permission denied"]
    assert sweep(store, taker.spool, drop, settle_seconds=0, recursive=False).refused == 0
    assert taker.settled().taken == 1
    taker.clock.now += 60
    assert taker.collector.round().troubled == 1
    with pytest.raises(SpoolFault, match="BARRED: Permission denied"):
        taker.collector.check()


def test_a_folder_that_is_gone_is_an_error_that_says_so(store, drop) -> None:
    """Not an empty folder: somebody must mount it."""
    taker = Taker(store, drop)
    drop.rmdir()
    with pytest.raises(SpoolFault, match="cannot be read"):
        taker.collector.round()


# --- the sweep ------------------------------------------------------------------------------


def test_a_sweep_takes_what_is_new_and_leaves_it_where_it_lies(store, tmp_path) -> None:
    """Again it takes nothing; what was written again is taken again; counts add up."""
    root = tmp_path / "archive"
    (root / "MDPA" / "2025").mkdir(parents=True)
    (root / "MDPA" / "2025" / "a.csv").write_bytes(nemflow.generate(days=1))
    (root / "b.csv").write_bytes(nemflow.generate(days=1, seed=2))
    (root / "link.csv").symlink_to(root / "b.csv")
    spool = Spool(tmp_path / "spool", SpoolLimits(free_bytes=1))

    def swept(**options):
        done = sweep(store, spool, root, settle_seconds=0, **options)
        parts = (done.known, done.taken, done.duplicates, done.young, done.refused, done.left)
        assert done.found == sum(parts)
        return done

    assert swept(recursive=False).taken == 1
    first = swept()
    assert (first.taken, first.known, first.refused) == (1, 1, 1)
    assert "symbolic link" in first.problems[0]
    assert swept().known == 2
    senders = {row["name"]: row["sender"] for row in store.deliveries().iter_rows(named=True)}
    assert senders == {"a.csv": "MDPA", "b.csv": None}
    assert set(store.deliveries()["channel"]) == {"batch"}
    (root / "b.csv").write_bytes(nemflow.generate(days=1, seed=3))
    assert swept().taken == 1
    assert len(files_in(root)) == 3
    with pytest.raises(UsageError, match="no folder"):
        sweep(store, spool, root / "nowhere")


def test_a_sweep_does_not_bring_back_what_was_undone(store, tmp_path, monkeypatch) -> None:
    """Not even when it was killed before it noted the file, and a backup touched its inode."""
    root = tmp_path / "archive"
    root.mkdir()
    (root / "a.csv").write_bytes(nemflow.generate(days=1))
    taker = Taker(store, root)
    with monkeypatch.context() as killed:
        killed.setattr(store, "note_swept", lambda *_: None)
        assert sweep(store, taker.spool, root, settle_seconds=0).taken == 1
    taker.work()
    undo(store, 1)
    (root / "a.csv").chmod(0o600)
    sweep(store, taker.spool, root, settle_seconds=0)
    assert store.deliveries()["state"].to_list() == ["undone"]


def test_a_file_of_a_disk_whose_clock_is_ahead_is_swept(store, tmp_path) -> None:
    """It is not taken for one that was written a moment ago, for ever."""
    root = tmp_path / "archive"
    root.mkdir()
    (root / "a.csv").write_bytes(nemflow.generate(days=1))
    spool = Spool(tmp_path / "spool", SpoolLimits(free_bytes=1))
    assert sweep(store, spool, root, settle_seconds=60).young == 1
    os.utime(root / "a.csv", (4e9, 4e9))
    assert sweep(store, spool, root, settle_seconds=60).taken == 1


def test_a_sweep_that_is_held_takes_the_rest_next_time(store, tmp_path) -> None:
    """A full backlog: what is left is counted, with the reason."""
    root = tmp_path / "archive"
    root.mkdir()
    for number in range(3):
        (root / f"{number}.csv").write_bytes(nemflow.generate(days=1, seed=number))
    spool = Spool(tmp_path / "spool", SpoolLimits(free_bytes=1))
    answers = [None, "full"]
    held = sweep(store, spool, root, settle_seconds=0, crowded=lambda: answers.pop(0))
    assert (held.taken, held.left, held.held) == (1, 2, "full")
    assert sweep(store, spool, root, settle_seconds=0).taken == 2


def test_a_sweep_that_moves_empties_the_folder(store, tmp_path) -> None:
    """Files go the way of the drop folder."""
    root = tmp_path / "incoming"
    root.mkdir()
    (root / "a.csv").write_bytes(nemflow.generate(days=1))
    spool = Spool(tmp_path / "spool", SpoolLimits(free_bytes=1))
    mover = Collector(store, spool, Inbox(root, FolderPace(settle_seconds=0)), Wishes("batch"))
    assert sweep_away(mover, root, settle_seconds=0).taken == 1
    assert files_in(root) == {"taken/000001-a.csv"}


@pytest.mark.parametrize(
    ("cron", "now", "due"),
    [
        ("0 * * * *", "2026-03-01T10:00:00", "2026-03-01T10:00:00"),
        ("0 * * * *", "2026-03-01T10:59:59", "2026-03-01T10:00:00"),
        ("30 4 * * *", "2026-03-01T04:29:00", "2026-02-28T04:30:00"),
        ("30 4 * * 1", "2026-03-04T00:00:00", "2026-03-02T04:30:00"),
    ],
)
def test_the_moment_of_a_sweep_is_in_market_time(cron, now, due) -> None:
    """The last one that has come; UTC+10 all year."""
    at = datetime.fromisoformat(now).replace(tzinfo=MARKET_OFFSET)
    assert latest(cron, at) == datetime.fromisoformat(due).replace(tzinfo=MARKET_OFFSET)


def test_a_moment_is_swept_by_one_of_all_schedulers_and_made_up_for_once(store) -> None:
    """Five schedulers; a service that was down for days sweeps once, not once an hour."""
    now = [datetime(2026, 3, 1, 10, 20, tzinfo=MARKET_OFFSET)]
    swept: list[int] = []
    all_five = [
        Sweeper(store, "s", "0 * * * *", lambda n=n: swept.append(n), clock=lambda: now[0])
        for n in range(5)
    ]
    for each in all_five:
        each.due()
    assert len(swept) == 1
    now[0] = now[0].replace(day=9, hour=23)
    for each in (*all_five, *all_five):
        each.due()
    assert len(swept) == 2


def test_a_moment_at_which_the_store_does_not_answer_is_swept_when_it_does(
    store, monkeypatch
) -> None:
    """Redis says that a sweep has begun only after the store has given it to somebody."""

    class Side:
        def __init__(self) -> None:
            self.marks: set[tuple[str, str]] = set()

        def begun(self, *run: str) -> bool:
            return run in self.marks

        def note_begun(self, *run: str) -> None:
            self.marks.add(run)

    side, swept, away = Side(), [], [True]
    take = store.take_slot

    def take_slot(*run: str) -> bool:
        if away[0]:
            raise StoreAway("The server is away.")
        return take(*run)

    monkeypatch.setattr(store, "take_slot", take_slot)
    now = datetime(2026, 3, 1, 10, 20, tzinfo=MARKET_OFFSET)
    one, other = (
        Sweeper(
            *(store, "s", "0 * * * *", lambda n=n: swept.append(n)), side=side, clock=lambda: now
        )
        for n in "ab"
    )
    with pytest.raises(StoreAway):
        one.due()
    away[0] = False
    assert one.due()
    away[0] = True  # nobody needs to ask it any more
    assert not other.due()
    assert swept == ["a"]


def test_a_sweep_that_failed_or_found_no_room_is_gone_on_with(store, monkeypatch) -> None:
    """By the one whose moment it is, after a pause, until it is done; then not again."""
    monkeypatch.setattr(sweeper_module, "_PAUSE", 0.0)
    now = datetime(2026, 3, 1, 10, 20, tzinfo=MARKET_OFFSET)
    ends = [SpoolFault("The share is gone."), Swept(left=3, held="The backlog is full."), Swept()]

    def work() -> Swept:
        end = ends.pop(0)
        if isinstance(end, SpoolFault):
            raise end
        return end

    one, other = (Sweeper(store, "s", "0 * * * *", work, clock=lambda: now) for _ in range(2))
    with pytest.raises(SpoolFault):
        one.due()
    assert not other.due()
    assert one.due()
    assert one.due()
    assert not one.due()
    assert ends == []


def test_a_sweep_is_not_gone_on_with_at_once(store) -> None:
    """A share that is gone is not asked every few seconds."""
    now = datetime(2026, 3, 1, 10, 20, tzinfo=MARKET_OFFSET)
    swept: list[int] = []

    def work() -> Swept:
        swept.append(1)
        return Swept(held="The backlog is full.")

    one = Sweeper(store, "s", "0 * * * *", work, clock=lambda: now)
    one.due()
    one.due()
    assert swept == [1]


def test_a_cron_expression_that_is_none_is_told_at_once() -> None:
    """With what one looks like."""
    for wrong in ("hourly", "* * * *", "99 * * * *", "* * * * * *"):
        with pytest.raises(UsageError, match="cron"):
            checked(wrong)
