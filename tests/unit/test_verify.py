"""Verify: what was accepted is where it must be, and what is not is seen. On every engine."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from nemflow.intake.spool import Spool
from nemflow.mdff.generate import generate
from nemflow.pipeline import load, undo, verifying
from nemflow.pipeline.delivering import Delivering, process
from nemflow.pipeline.loading import new_token
from nemflow.pipeline.receiving import receive
from nemflow.pipeline.verifying import verify
from nemflow.store import Store, work
from nemflow.store.tables import MARKET_OFFSET, delivery, file
from nemflow.store.tables import load as load_table

Put = Callable[[str, bytes], Path]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_LOOK_AGAIN_SECONDS", 0.0)


def broken(store: Store, spool: Path, **how: bool) -> list[str]:
    """The promises that do not hold."""
    found = verify(store, spool=spool, archive=spool, grace=30, **how).promises
    return found.filter(~found["held"])["promise"].to_list()


def accept(store: Store, spool: Path, data: bytes, name: str = "a.csv") -> int:
    """Bytes in the spool and their row in the ledger."""
    sha256 = hashlib.sha256(data).hexdigest()
    path = spool / sha256[:2] / sha256[2:4] / sha256
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    arrival = work.Arrival(name, "http", sha256, len(data))
    return store.backend.transact(lambda conn: work.receive(conn, store.backend, arrival))


def set_row(store: Store, table: sa.Table, number: int, **values: object) -> None:
    """Damage a row."""
    with store.backend.writing() as conn:
        conn.execute(sa.update(table).where(table.c.id == number).values(**values))


def test_a_store_that_was_only_used_as_it_should_verifies(
    store: Store, put: Put, tmp_path: Path
) -> None:
    """Loaded, sent again, rejected, undone, waiting: all as promised."""
    data = generate(nmis=2, days=3, seed=1)
    load(store, put("a.csv", data))
    load(store, put("again.csv", data))
    load(store, put("bad.csv", b"no metering file"))
    load(store, put("b.csv", generate(nmis=1, days=1, seed=2)))
    undo(store, 4)
    spool = tmp_path / "spool"
    accept(store, spool, b"waiting")
    found = verify(store, spool=spool, archive=spool, deep=True)
    assert found.held, found.promises.filter(~found.promises["held"]).to_dicts()
    assert found.originals == 1
    assert found.states == {
        "loaded": 1, "duplicate": 1, "rejected": 1, "undone": 1, "received": 1,
    }  # fmt: skip
    assert broken(store, spool, drained=True) == ["everything that was accepted is done"]


@pytest.mark.parametrize("how", ["gone", "shorter", "other bytes"])
def test_an_original_that_is_gone_or_damaged_is_seen(
    store: Store, tmp_path: Path, how: str
) -> None:
    """Other bytes of the same length only when they are hashed again."""
    spool = tmp_path / "spool"
    accept(store, spool, b"waiting")
    (path,) = (each for each in spool.rglob("*") if each.is_file())
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if how == "shorter" else b"WAITING")
    promise = ["originals that are spooled are there"]
    assert broken(store, spool) == (promise if how != "other bytes" else [])
    assert broken(store, spool, deep=True) == promise
    number = store.deliveries()["delivery"][0]
    set_row(store, delivery, number, state="loaded", kept="deleted", dry_run=True,
            finished_at=datetime.now(MARKET_OFFSET))  # fmt: skip
    assert broken(store, spool, deep=True) == [], "rightly deleted"


def test_every_kind_of_neglect_is_seen(store: Store, put: Put, tmp_path: Path) -> None:
    """One thing at a time is made wrong, and put right again."""
    spool = tmp_path / "spool"
    load(store, put("a.csv", generate(nmis=1, days=2, seed=1)))
    number = accept(store, spool, b"waiting")
    now = datetime.now(MARKET_OFFSET)
    long_ago, soon = now - timedelta(hours=1), now + timedelta(hours=1)
    held = {"lease_token": "w:1:a", "lease_until": long_ago}
    right = {
        "state": "received", "lease_token": None, "lease_until": None, "kept": "spooled",
        "parent": None, "finished_at": None, "duplicate_of": None,
    }  # fmt: skip
    for wrong, promise in (
        ({"state": "loading", **held}, "nothing is worked on past its lease"),
        ({"state": "queued", **held}, "what waits is held by nobody"),
        ({"state": "queued", "kept": "deleted"}, "what waits has its original"),
        (
            {"state": "dead", "finished_at": now, **held},
            "a delivery that is done is held by nobody",
        ),
        (
            {"state": "dead", "finished_at": now, "kept": "deleted"},
            "only originals of what was taken in whole are deleted",
        ),
        ({"state": "rejected"}, "a delivery that is done says when"),
        ({"state": "asleep"}, "no delivery is in a state that is none"),
        ({"parent": 1}, "members of a delivery that is done are done"),
        (
            {"state": "duplicate", "finished_at": now, "duplicate_of": 99},
            "a duplicate is one of a known delivery",
        ),
    ):
        set_row(store, delivery, number, **{**right, **wrong})
        assert broken(store, spool) == [promise]
    set_row(store, delivery, number, **{**right, "state": "loading", "lease_token": "w:1:a",
            "lease_until": soon})  # fmt: skip
    assert broken(store, spool) == []
    set_row(store, delivery, number, **right)
    set_row(store, load_table, 1, state="open", lease_token="w:9:x", lease_until=long_ago)  # noqa: S106
    assert "an open load is somebody's" in broken(store, spool)
    assert "a loaded delivery of a file has a load that stands" in broken(store, spool)
    set_row(store, load_table, 1, state="published", lease_token=None, lease_until=None)
    set_row(store, delivery, 1, state="rejected")
    assert broken(store, spool) == ["a delivery with a load that stands says so"]
    set_row(store, delivery, 1, state="loaded")
    assert broken(store, spool) == []


def test_what_is_loaded_twice_is_seen(store: Store, put: Put, tmp_path: Path) -> None:
    """The same file under two loads that both stand."""
    load(store, put("a.csv", generate(nmis=1, days=1, seed=1)))
    load(store, put("b.csv", generate(nmis=1, days=1, seed=2)))
    set_row(store, load_table, 2, file=1)
    assert "no file was loaded twice" in broken(store, tmp_path)
    set_row(store, load_table, 2, file=2, delivery=1, base=2)
    assert "no delivery was loaded twice" in broken(store, tmp_path)
    with store.backend.reading() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(file)).scalar() == 2


def test_an_original_that_moved_while_it_was_looked_for_is_not_missed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was settled between two looks: no fault of anybody."""
    spool = tmp_path / "spool"
    number = accept(store, spool, b"waiting")
    (path,) = (each for each in spool.rglob("*") if each.is_file())
    path.unlink()
    done = {"state": "loaded", "kept": "deleted", "dry_run": True,
            "finished_at": datetime.now(MARKET_OFFSET)}  # fmt: skip
    monkeypatch.setattr("time.sleep", lambda _: set_row(store, delivery, number, **done))
    assert broken(store, spool) == []


def test_what_went_the_whole_way_verifies(store: Store, tmp_path: Path) -> None:
    """Received, worked on, settled: good, again, broken, an archive with both, only tried out."""
    spool = Spool(tmp_path / "spool")
    good, other = generate(nmis=2, days=2, seed=1), generate(nmis=1, days=2, seed=2)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("new.csv", other)
        archive.writestr("again.csv", good)
        archive.writestr(
            "bad.csv", generate(nmis=1, days=1, seed=4).replace(b"\r\n300,", b"\r\n300,9", 1)
        )
    ended = {
        name: deliver(store, spool, data, name, dry_run=name == "tried.csv")
        for name, data in (
            ("good.csv", good),
            ("again.csv", good),
            ("renamed.csv", good + b"\r\n"),
            ("bad.csv", b"no metering file"),
            ("day.zip", packed.getvalue()),
            ("tried.csv", generate(nmis=1, days=1, seed=3)),
        )
    }
    assert ended["good.csv"] == "loaded"
    assert ended["again.csv"] == "duplicate"
    assert ended["bad.csv"] == "rejected"
    assert ended["day.zip"] == "partly_loaded"
    found = verify(store, spool=spool.root, grace=0, drained=True, deep=True)
    assert found.held, found.promises.filter(~found.promises["held"]).to_dicts()
    assert sum(found.states.values()) == len(ended)
    assert found.originals == spool.usage().kept_files, "what is done with is gone"


def deliver(store: Store, spool: Spool, data: bytes, name: str, *, dry_run: bool) -> str:
    """Take bytes in and work on them; the final state."""
    with spool.landing() as landing:
        landing.write(data)
        got = receive(store, spool, landing, name=name, channel="http", dry_run=dry_run)
    if got.state != "received":
        return got.state
    token = new_token()
    work_on = store.backend.transact(
        lambda conn: work.claim(conn, store.backend, got.delivery, token, 60)
    )
    assert work_on is not None
    return process(store, spool, got.delivery, token=token, how=Delivering()).state
