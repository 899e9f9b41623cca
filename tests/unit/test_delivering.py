"""A delivery's way: received once, loaded under its own number, settled, whatever happens."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest
import sqlalchemy as sa

from nemflow.errors import SpoolFault, StoreTaken, TooLarge, UsageError
from nemflow.intake.spool import Spool, SpoolLimits
from nemflow.mdff.generate_message import generate_message
from nemflow.pipeline import inspecting, load, receiving, reconcile, undo
from nemflow.pipeline import unpack as unpack_module
from nemflow.pipeline import work as loading_work
from nemflow.pipeline.delivering import Delivering, Settled, clear_originals, process
from nemflow.pipeline.loading import new_token
from nemflow.pipeline.receiving import Receipt, receive, sweep_spool
from nemflow.pipeline.reporting import CSV_COLUMNS, report_of
from nemflow.pipeline.verifying import verify
from nemflow.store import Store, dispatch, resumed, work
from nemflow.store.tables import delivery as delivery_table
from nemflow.store.tables import delivery_step
from nemflow.store.tables import load as load_table

NMI = "SASMPL0001"


def zipped(**members: bytes) -> bytes:
    """A zip with these members; ``a_csv`` is called a.csv."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_csv", ".csv").replace("_zip", ".zip"), data)
    return out.getvalue()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A new spool."""
    return Spool(tmp_path / "spool", SpoolLimits(free_bytes=1))


def send(store: Store, spool: Spool, name: str, data: bytes, **about) -> Receipt:
    """Deliver some bytes."""
    with spool.landing() as landing:
        landing.write(data)
        return receive(store, spool, landing, name=name, channel="http", **about)


def claimed(store: Store, number: int, seconds: float = 60) -> str:
    """Claim a delivery; the token."""
    token = new_token()
    done = store.backend.transact(
        lambda conn: work.claim(conn, store.backend, number, token, seconds)
    )
    assert done is not None
    return token


def worked(store: Store, spool: Spool, number: int, how: Delivering | None = None) -> Settled:
    """Claim and process a delivery."""
    token = claimed(store, number)
    return process(store, spool, number, token=token, how=how or Delivering())


def row(store: Store, number: int) -> dict:
    """The ledger's row of a delivery."""
    with store.backend.reading() as conn:
        question = sa.select(delivery_table).where(delivery_table.c.id == number)
        return dict(conn.execute(question).mappings().one())


def steps(store: Store, number: int) -> list[tuple]:
    """The timeline: step, attempt, outcome."""
    columns = delivery_step.c
    with store.backend.reading() as conn:
        question = sa.select(columns.step, columns.attempt, columns.outcome).where(
            columns.delivery == number
        )
        return [tuple(each) for each in conn.execute(question.order_by(columns.began_at))]


def must_hold(store: Store, spool: Spool, archive: Path | None = None) -> None:
    """Everything ``nemflow verify`` asks, with nothing left to do."""
    found = verify(store, spool=spool.root, archive=archive, drained=True, deep=True)
    assert found.promises.filter(~pl.col("held")).rows() == []


def account(store: Store) -> pl.DataFrame:
    """Everything the ledger says of deliveries, but numbers and times.

    Of what never became a file only a received delivery knows the bytes.
    """
    known = pl.col("file").is_not_null() | (pl.col("members") > 0)
    told = store.deliveries(limit=None).with_columns(
        pl.when(known).then(pl.col("sha256", "size"))
    ).select(
        "name", "state", "sha256", "size", "profile", "sender", "members", "days_read",
        "days_stored", "days_unchanged", "days_rejected", "reads_read", "reads_stored", "error",
    )  # fmt: skip
    return told.sort("name")


# -- receive ---------------------------------------------------------------------------------------


def test_received_it_is_on_the_disk_and_in_the_ledger(store, spool):
    """One row, nobody's yet; one original; nothing opened."""
    receipt = send(store, spool, "day.csv", b"not even a file", sender="MDPA", api_key="k")
    assert (receipt.state, receipt.duplicate_of, receipt.repeated) == ("received", None, False)
    assert spool.path(receipt.sha256).read_bytes() == b"not even a file"
    found = row(store, receipt.delivery)
    assert (found["state"], found["kept"], found["attempts"]) == ("received", "spooled", 0)
    assert (found["sender"], found["api_key"], found["channel"]) == ("MDPA", "k", "http")
    assert steps(store, receipt.delivery) == [("receive", 0, "ok")]


def test_what_is_refused_is_in_neither(store, tmp_path):
    """Too large, or asked for wrongly: no row, no file."""
    spool = Spool(tmp_path / "small", SpoolLimits(file_bytes=10, free_bytes=1))
    with pytest.raises(TooLarge):
        send(store, spool, "large.csv", b"x" * 11)
    for wrong in ({"lane": "fast"}, {"profile": "b3b"}):
        with pytest.raises(UsageError):
            send(store, spool, "a.csv", b"x", **wrong)
    assert store.deliveries().is_empty()
    assert [path for path in spool.root.rglob("*") if path.is_file()] == []


def test_without_a_ledger_nothing_is_accepted_and_nothing_stays(store, spool, monkeypatch):
    """The transaction fails: the sender is told so, and the bytes are swept up later."""

    def broken(*_, **__):
        raise StoreTaken("no")

    monkeypatch.setattr(work, "receive", broken)
    with pytest.raises(StoreTaken):
        send(store, spool, "a.csv", b"data")
    assert store.deliveries().is_empty()
    assert sweep_spool(store, spool) == 0  # it might be somebody's who is about to write its row
    assert sweep_spool(store, spool, older_than=-1) == 1
    assert spool.usage().files == 0


def test_sweeping_leaves_what_is_known(store, spool):
    """An original with a row stays, however old."""
    receipt = send(store, spool, "a.csv", b"data")
    assert sweep_spool(store, spool, older_than=-1) == 0
    assert spool.has(receipt.sha256)


def test_sweeping_writes_only_for_what_no_delivery_names(store, spool, monkeypatch):
    """The thousands that stay are asked about together, so nobody waits behind them."""
    monkeypatch.setattr(receiving, "AT_ONCE", 2)
    known = [send(store, spool, f"{n}.csv", b"known %d" % n).sha256 for n in range(5)]
    with spool.landing() as landing:
        landing.write(b"nobody was answered for these")
        landing.keep()
    written, transact = [], store.backend.transact

    def counted(*given, **named):
        written.append(1)
        return transact(*given, **named)

    monkeypatch.setattr(store.backend, "transact", counted)
    assert sweep_spool(store, spool, older_than=-1) == 1
    assert len(written) == 1
    assert all(spool.has(sha256) for sha256 in known)


def test_an_original_whose_delivery_came_meanwhile_is_not_swept(store, spool, monkeypatch):
    """What the look did not see yet is seen under the guard."""
    receipt = send(store, spool, "a.csv", b"data")
    monkeypatch.setattr(resumed, "spooled", lambda conn, hashes: set())
    assert sweep_spool(store, spool, older_than=-1) == 0
    assert spool.has(receipt.sha256)


def test_loaded_bytes_come_again_as_a_duplicate_at_once(store, spool, nem12, a_day):
    """Not kept, not loaded; after an undo they are received again."""
    data = nem12(a_day())
    first = send(store, spool, "a.csv", data)
    worked(store, spool, first.delivery)
    again = send(store, spool, "b.csv", data)
    assert (again.state, again.duplicate_of) == ("duplicate", first.delivery)
    assert row(store, again.delivery)["kept"] == "deleted"
    assert row(store, again.delivery)["finished_at"] is not None
    assert not spool.has(first.sha256)
    undo(store, first.delivery)
    third = send(store, spool, "c.csv", data)
    assert third.state == "received"
    assert worked(store, spool, third.delivery).state == "loaded"


def test_an_archive_is_no_duplicate_when_part_of_it_was_taken_back(store, spool, nem12, a_day):
    """One text of it was loaded by another delivery, which was undone."""
    one, two = nem12(a_day()), nem12(a_day(day="20250302"))
    load_first = send(store, spool, "one.csv", one)
    worked(store, spool, load_first.delivery)
    both = send(store, spool, "both.zip", zipped(a_csv=one, b_csv=two))
    assert worked(store, spool, both.delivery).state == "loaded"
    undo(store, load_first.delivery)
    again = send(store, spool, "both.zip", zipped(a_csv=one, b_csv=two))
    assert again.state == "received"
    assert worked(store, spool, again.delivery).state == "loaded"
    assert store.readings(NMI)["day"].n_unique() == 2


def test_an_idempotency_key_is_answered_once(store, spool):
    """The same upload again gets the same delivery; the key with other bytes is refused."""
    first = send(store, spool, "a.csv", b"data", api_key="k", idempotency_key="1")
    again = send(store, spool, "a.csv", b"data", api_key="k", idempotency_key="1")
    assert (again.delivery, again.repeated) == (first.delivery, True)
    other = send(store, spool, "a.csv", b"data", api_key="other", idempotency_key="1")
    assert other.delivery != first.delivery
    with pytest.raises(UsageError, match="other bytes"):
        send(store, spool, "a.csv", b"more", api_key="k", idempotency_key="1")
    assert store.deliveries().height == 2


def test_a_real_upload_is_not_answered_with_the_dry_run_of_its_key(store, spool, nem12, a_day):
    """A key that is fixed per file: tried out, then sent; each is its own, and each is repeated."""
    data = nem12(a_day())
    dry = send(store, spool, "a.csv", data, idempotency_key="a", dry_run=True)
    worked(store, spool, dry.delivery)
    real = send(store, spool, "a.csv", data, idempotency_key="a")
    assert (real.state, real.repeated) == ("received", False)
    assert worked(store, spool, real.delivery).state == "loaded"
    assert store.readings(NMI).height == 48
    tried_again = send(store, spool, "a.csv", data, idempotency_key="a", dry_run=True)
    assert (tried_again.delivery, tried_again.repeated) == (dry.delivery, True)
    sent_again = send(store, spool, "a.csv", data, idempotency_key="a")
    assert (sent_again.delivery, sent_again.repeated) == (real.delivery, True)


def test_the_same_bytes_at_the_same_moment(store, spool, nem12, a_day):
    """Twelve times at once, with one key or without: each is answered, one is loaded."""
    data = nem12(a_day())
    with ThreadPoolExecutor(6) as pool:
        plain = list(pool.map(lambda n: send(store, spool, f"{n}.csv", data), range(6)))
        keyed = list(
            pool.map(lambda n: send(store, spool, f"k{n}.csv", data, idempotency_key="k"), range(6))
        )
    assert len({each.delivery for each in plain}) == 6
    assert len({each.delivery for each in keyed}) == 1
    numbers = {each.delivery for each in (*plain, *keyed)}
    with ThreadPoolExecutor(3) as pool:
        states = [each.state for each in pool.map(lambda n: worked(store, spool, n), numbers)]
    assert sorted(states) == ["duplicate"] * 6 + ["loaded"]
    assert spool.usage().files == 0
    assert store.file(1)["days_stored"].to_list() == [1]


# -- the same as ``load`` --------------------------------------------------------------------------


def kinds(nem12, nem13, a_day) -> dict[str, bytes]:
    """A delivery of every kind."""
    good = nem12(a_day())
    return {
        "plain.csv": good,
        "partly.csv": nem12(a_day(day="20250302"), a_day(day="20250303", quality="T")),
        "packed.csv.gz": gzip.compress(nem12(a_day(day="20250304"))),
        "again.csv": good,
        "two.zip": zipped(a_csv=nem12(a_day(day="20250305")), b_csv=good),
        "same.zip": zipped(a_csv=nem12(a_day(day="20250306")), b_csv=nem12(a_day(day="20250306"))),
        "nested.zip": zipped(
            a_csv=nem12(a_day(day="20250307")),
            in_zip=zipped(b_csv=nem12(a_day(day="20250308")), junk_csv=b"junk"),
        ),
        "junk.csv": b"this is not a meter data file\r\n",
        "broken.zip": b"PK\x03\x04 not really",
        "empty.csv": b"",
        "rejected.csv": nem12(a_day(day="20250399")),
    }


@pytest.mark.parametrize("whole", [True, False], ids=["small", "in pieces"])
def test_the_same_account_as_load(  # noqa: PLR0917 - fixtures
    store, spool, put, nem12, nem13, a_day, whole, monkeypatch
):
    """Every kind: delivery, file and members are told as ``nemflow load`` tells them."""
    if not whole:
        monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 10)
    files = kinds(nem12, nem13, a_day)
    results = {}
    for name, data in files.items():
        receipt = send(store, spool, name, data)
        if receipt.state == "received":
            results[name] = worked(store, spool, receipt.delivery)
            assert results[name].state == row(store, receipt.delivery)["state"]
        assert row(store, receipt.delivery)["lease_token"] is None
        assert row(store, receipt.delivery)["finished_at"] is not None
    must_hold(store, spool)
    delivered = account(store)
    readings = store.readings(NMI).drop("file")
    top = store.deliveries(limit=None).filter(pl.col("parent").is_null())
    assert top.height == len(files)
    for number, parent in store.deliveries(limit=None).select("delivery", "parent").iter_rows():
        assert parent is None or number > parent
    load_again(store, put, files)
    loaded = account(store)
    folder = str(put("x", b"").parent) + "/"
    loaded = loaded.with_columns(pl.col("name").str.replace(folder, "", literal=True))
    # a duplicate of raw bytes is told at once, so it has no profile yet
    same = loaded.drop("profile").sort("name")
    assert delivered.drop("profile").sort("name").rows() == same.rows()
    assert readings.equals(store.readings(NMI).drop("file"))


def load_again(store: Store, put, files: dict[str, bytes]) -> None:
    """Empty the store, and have ``nemflow load`` load the same files."""
    from nemflow.store.tables import metadata

    kept = {"clock", "alembic_version"}
    with store.backend.writing() as conn:
        for table in metadata.sorted_tables:
            if table.name not in kept:
                conn.execute(sa.delete(table))
    for name, data in files.items():
        load(store, put(name, data), profile=None, channel="http")


def test_each_has_its_own_number(store, spool, nem12, a_day):
    """A text is its delivery; members are children of theirs."""
    text = send(store, spool, "a.csv", nem12(a_day())).delivery
    settled = worked(store, spool, text)
    assert [each.delivery for each in settled.outcome.files] == [text]
    assert store.versions(NMI, store.readings(NMI)["day"][0])["delivery"].to_list() == [text]
    archive = send(store, spool, "z.zip", zipped(b_csv=nem12(a_day(day="20250302")))).delivery
    settled = worked(store, spool, archive)
    inside = store.deliveries(parent=archive)
    assert inside["name"].to_list() == ["z.zip/b.csv"]
    assert [each.delivery for each in settled.outcome.files] == inside["delivery"].to_list()


def test_what_was_said_on_receipt_counts(store, spool, nem12, a_day):
    """Sender and profile of the upload, not of the file."""
    data = nem12(a_day(), sender="MDPA")
    number = send(store, spool, "a.csv", data, sender="PORTAL", profile="b2b").delivery
    worked(store, spool, number)
    found = row(store, number)
    assert (found["sender"], found["profile"]) == ("PORTAL", "b2b")
    other = send(store, spool, "b.csv", nem12(a_day(value="2"), sender="MDPA")).delivery
    worked(store, spool, other)
    assert (row(store, other)["sender"], row(store, other)["profile"]) == ("MDPA", "portal")


def test_a_dry_run_tells_and_writes_no_reading(store, spool, nem12, a_day):
    """Its state is what would have become of it; later the same bytes are loaded for real."""
    data = zipped(a_csv=nem12(a_day()), junk_csv=b"junk")
    dry = send(store, spool, "a.zip", data, dry_run=True)
    settled = worked(store, spool, dry.delivery)
    assert settled.state == row(store, dry.delivery)["state"] == "partly_loaded"
    assert settled.outcome.dry_run
    assert settled.outcome.days.stored == 1
    assert store.nmis().is_empty()
    assert store.files().is_empty()
    real = send(store, spool, "a.zip", data)
    assert real.state == "received"
    assert worked(store, spool, real.delivery).state == "partly_loaded"
    assert store.readings(NMI).height == 48


# -- inspect and the timeline ----------------------------------------------------------------------


def test_what_is_in_it_is_known_before_it_is_loaded(  # noqa: PLR0917 - fixtures
    store, spool, nem12, nem13, a_day, monkeypatch
):
    """NMIs, days, lengths, who: kept in the ledger when the load begins."""
    members = {
        "a_csv": nem12(a_day(), a_day(nmi="SASMPL0002", day="20250303", minutes=5)),
        "b_csv": nem12(a_day(day="20241231"), sender="MDPB"),
        "junk_csv": b"junk",
    }
    number = send(store, spool, "z.zip", zipped(**members)).delivery
    seen = []
    real = loading_work.load_given

    def look(*args, **named):
        seen.append(row(store, number))
        return real(*args, **named)

    monkeypatch.setattr(loading_work, "load_given", look)
    worked(store, spool, number)
    assert seen[0]["state"] == "loading"
    found = json.loads(seen[0]["inspected"])
    assert (found["kind"], found["members"], found["versions"]) == ("archive", 3, ["NEM12"])
    assert (found["nmis"], found["nmi_count"]) == (["SASMPL0001", "SASMPL0002"], 2)
    assert (found["first_day"], found["last_day"]) == ("2024-12-31", "2025-03-03")
    assert found["interval_minutes"] == [5, 30]
    assert (found["senders"], found["receivers"]) == (["MDPA", "MDPB"], ["RETAILER"])
    assert found["not_checked"] == ["F008", "N002"]
    assert not found["partial"]


def test_what_is_kept_of_an_inspection_is_bounded(tmp_path):
    """A text of nothing but different words fills no memory; that there were more is said."""
    path = tmp_path / "a.csv"
    words = range(5000)
    path.write_text(
        "".join(f"100,V{n},1,S{n},R{n}\n200,N{n},,,X{n},,,,{n}\n" for n in words), encoding="ascii"
    )
    found = inspecting.inspect(path, "a.csv")
    for kept in (found.versions, found.senders, found.receivers, found.suffixes):
        assert len(kept) == 1000
    assert len(found.interval_minutes) == 1000
    assert len(found.nmis) == 5000
    assert found.partial
    path.write_text("100,NEM12,1,A,B\n200,N1,,,E1,,,,30\n" * 5000, encoding="ascii")
    assert not inspecting.inspect(path, "a.csv").partial


def test_the_timeline_has_each_step(store, spool, nem12, a_day):
    """In order, with what it led to."""
    number = send(store, spool, "a.csv", nem12(a_day())).delivery
    worked(store, spool, number)
    assert steps(store, number) == [
        ("receive", 0, "ok"),
        ("inspect", 1, "ok"),
        ("check", 1, "ok"),
        ("load", 1, "ok"),
        ("publish", 1, "ok"),
        ("settle", 1, "loaded"),
    ]
    way = store.timeline(number)
    ends = zip(way["ended_at"][:-1], way["began_at"][1:], strict=True)
    assert all(ended <= began for ended, began in ends), "one after the other"
    assert (way["ended_at"] >= way["began_at"]).all()
    loaded = json.loads(way.filter(pl.col("step") == "load")["detail"].item())
    assert loaded["days"]["stored"] == 1


# -- the original ----------------------------------------------------------------------------------


def test_the_original_goes_when_all_is_loaded_and_stays_otherwise(store, spool, nem12, a_day):
    """Deleted after loaded and duplicate; kept after partly_loaded and rejected."""
    sent = {
        "loaded": nem12(a_day()),
        "duplicate": gzip.compress(nem12(a_day())),
        "partly_loaded": nem12(a_day(day="20250302"), a_day(day="20250303", quality="T")),
        "rejected": b"junk",
    }
    for state, data in sent.items():
        receipt = send(store, spool, state, data)
        assert worked(store, spool, receipt.delivery).state == state
        stays = state in ("partly_loaded", "rejected")
        assert spool.has(receipt.sha256) is stays
        assert row(store, receipt.delivery)["kept"] == ("spooled" if stays else "deleted")


def test_the_original_can_be_archived_or_kept(store, spool, nem12, a_day, tmp_path):
    """As set; archived nowhere is refused."""
    with pytest.raises(UsageError, match="archive"):
        Delivering(keep_after="archive")
    how = Delivering(keep_after="archive", archive=tmp_path / "archive")
    data = nem12(a_day())
    first = send(store, spool, "a.csv", data)
    worked(store, spool, first.delivery, how)
    assert row(store, first.delivery)["kept"] == "archived"
    sha256 = first.sha256
    there = tmp_path / "archive" / sha256[:2] / sha256[2:4] / sha256
    assert there.read_bytes() == data
    assert not spool.has(sha256)
    second = send(store, spool, "b.csv", nem12(a_day(value="2")))
    worked(store, spool, second.delivery, Delivering(keep_after="keep"))
    assert row(store, second.delivery)["kept"] == "spooled"
    assert spool.has(second.sha256)
    must_hold(store, spool, tmp_path / "archive")


def test_the_original_stays_while_somebody_else_needs_it(store, spool, nem12, a_day):
    """Two deliveries of the same bytes: it goes with the last of them."""
    data = nem12(a_day())
    first, second = (send(store, spool, name, data) for name in ("a.csv", "b.csv"))
    worked(store, spool, first.delivery)
    assert spool.has(first.sha256)
    assert row(store, first.delivery)["kept"] == "deleted"
    assert worked(store, spool, second.delivery).state == "duplicate"
    assert not spool.has(first.sha256)


def test_received_while_it_is_being_removed(store, spool, nem12, a_day):
    """The same bytes, again and again, while others settle: no original is ever missing."""
    data = [nem12(a_day(value=str(n))) for n in range(4)]

    def one(n: int) -> str:
        receipt = send(store, spool, f"{n}.csv", data[n % 4])
        if receipt.state != "received":
            return receipt.state
        return worked(store, spool, receipt.delivery).state

    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(one, range(40)))
    assert sorted(states) == ["duplicate"] * 36 + ["loaded"] * 4
    assert spool.usage().files == 0
    must_hold(store, spool)


def test_the_same_bytes_arrive_at_the_moment_of_removal(store, spool, nem12, a_day, monkeypatch):
    """They wait for each other: what was answered has its original."""
    data = nem12(a_day())
    first = send(store, spool, "a.csv", data)
    late: list[Receipt] = []
    real = Spool.delete

    def arrives() -> None:
        late.append(send(store, spool, "b.csv", data, dry_run=True))

    def slow(self: Spool, sha256: str) -> bool:
        thread = threading.Thread(target=arrives)
        thread.start()
        thread.join(0.4)  # long enough, if nothing holds it back
        done = real(self, sha256)
        arriving.append(thread)
        return done

    arriving: list[threading.Thread] = []
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "delete", slow)
        worked(store, spool, first.delivery)
        arriving[0].join()
    assert late[0].state == "received"
    assert spool.path(first.sha256).read_bytes() == data
    assert worked(store, spool, late[0].delivery).state == "duplicate"
    assert not spool.has(first.sha256)


def test_what_a_crash_left_between_publishing_and_settling_is_finished(
    store, spool, nem12, a_day, monkeypatch
):
    """The reconciler removes the original after all; what is not loaded it leaves alone."""
    number = send(store, spool, "a.csv", nem12(a_day())).delivery
    bad = send(store, spool, "bad.csv", b"junk")
    worked(store, spool, bad.delivery)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nemflow.pipeline.delivering._Way.settle", killed)
        with pytest.raises(KeyboardInterrupt):
            worked(store, spool, number)
    assert row(store, number)["state"] == "loaded"
    assert (spool.usage().files, spool.usage().kept_files) == (1, 1)
    assert clear_originals(store, spool, Delivering()) == 1
    assert clear_originals(store, spool, Delivering()) == 0
    assert row(store, number)["kept"] == "deleted"
    assert list(spool.originals()) == [bad.sha256]


# -- attempts --------------------------------------------------------------------------------------


def fail_in(monkeypatch, place: str, after: int) -> None:
    """Let the load fail at the ``after``-th batch."""
    calls = []
    real = getattr(loading_work, place)

    def failing(run, batch, *rest):
        calls.append(1)
        if len(calls) > after:
            raise StoreTaken("as if the store went away")
        return real(run, batch, *rest)

    monkeypatch.setattr(loading_work, place, failing)


@pytest.mark.parametrize("after", [0, 1, 3, 5])
@pytest.mark.parametrize("large", [False, True], ids=["batches", "pieces"])
def test_an_attempt_goes_on_where_the_last_one_stopped(  # noqa: PLR0917 - fixtures
    store, spool, nem12, a_day, monkeypatch, after, large
):
    """An archive fails after some members: each member ends as one row, loaded once."""
    monkeypatch.setattr(loading_work, "BATCH_TEXTS", 1)
    if large:
        monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 10)
    members = {f"m{n}_csv": nem12(a_day(nmi=f"SASMPL000{n}")) for n in range(1, 6)}
    members |= {"again_csv": members["m1_csv"], "junk_csv": b"junk"}
    number = send(store, spool, "z.zip", zipped(**members)).delivery
    token = claimed(store, number)
    with monkeypatch.context() as patch:
        fail_in(patch, "load_large" if large else "load_batch", after)
        with pytest.raises(StoreTaken):
            process(store, spool, number, token=token, how=Delivering())
    assert row(store, number)["state"] == "loading"
    store.backend.transact(
        lambda conn: work.retry_later(conn, store.backend, number, token, error="away", seconds=0)
    )
    before = store.deliveries(parent=number, limit=None)
    assert worked(store, spool, number).state == "partly_loaded"
    inside = store.deliveries(parent=number, limit=None)
    assert inside["name"].n_unique() == inside.height == 7
    assert set(before["delivery"]) <= set(inside["delivery"])
    states = dict(inside.select("name", "state").iter_rows())
    assert states.pop("z.zip/junk.csv") == "rejected"
    assert states.pop("z.zip/again.csv") == "duplicate"
    assert set(states.values()) == {"loaded"}
    assert store.nmis().height == 5
    assert store.files().filter(pl.col("days_stored") == 1).height == 5
    assert open_loads(store) == 0
    assert row(store, number)["attempts"] == 2
    must_hold(store, spool)


def open_loads(store: Store) -> int:
    """Loads that are neither published nor cleared."""
    with store.backend.reading() as conn:
        question = sa.select(sa.func.count()).where(load_table.c.state == "open")
        return int(conn.execute(question).scalar_one())


def test_a_member_that_came_late_to_the_same_end_is_not_counted_twice(
    store, spool, nem12, a_day, monkeypatch
):
    """All members are in, the archive itself is not settled: the next attempt only does that."""
    number = send(store, spool, "z.zip", zipped(a_csv=nem12(a_day()))).delivery
    token = claimed(store, number)
    with monkeypatch.context() as patch:
        patch.setattr("nemflow.pipeline.run.Run.close_containers", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            process(store, spool, number, token=token, how=Delivering())
    store.backend.transact(lambda conn: work.hand_back(conn, store.backend, number, token))
    settled = worked(store, spool, number)
    assert (settled.state, settled.outcome.files) == ("loaded", ())
    assert store.deliveries(parent=number)["state"].to_list() == ["loaded"]
    assert ("load", 1, "ZeroDivisionError") in steps(store, number)


def test_who_lost_the_lease_publishes_nothing(store, spool, nem12, a_day, monkeypatch):
    """Another worker has it: the first one's transaction is refused, and its day is there once."""
    number = send(store, spool, "a.csv", nem12(a_day())).delivery
    late = claimed(store, number, seconds=-1)
    mine = claimed(store, number)
    with pytest.raises(StoreTaken):
        process(store, spool, number, token=late, how=Delivering())
    assert store.nmis().is_empty()
    assert process(store, spool, number, token=mine, how=Delivering()).state == "loaded"
    with pytest.raises(StoreTaken):
        process(store, spool, number, token=late, how=Delivering())


def test_taken_away_between_two_members(store, spool, nem12, a_day, monkeypatch):
    """A beat that says no stops it; what was published stands, the next worker does the rest."""
    monkeypatch.setattr(loading_work, "BATCH_TEXTS", 1)
    members = {f"m{n}_csv": nem12(a_day(nmi=f"SASMPL000{n}")) for n in range(1, 4)}
    number = send(store, spool, "z.zip", zipped(**members)).delivery
    token = claimed(store, number, seconds=-1)
    beats = []

    def beat(progress) -> bool:
        beats.append(progress)
        return len(beats) < 2

    with pytest.raises(StoreTaken):
        process(store, spool, number, token=token, how=Delivering(lease_seconds=-1), beat=beat)
    assert store.nmis().height == 2
    assert beats[-1].files_done == 2
    assert worked(store, spool, number).state == "loaded"
    assert store.deliveries(parent=number)["state"].to_list() == ["loaded"] * 3


@pytest.mark.parametrize("kind", ["text", "pieces", "archive"])
def test_workers_that_take_it_from_each_other(  # noqa: PLR0917 - fixtures
    store, spool, nem12, a_day, monkeypatch, kind
):
    """Leases that have run out at once: three workers at the same delivery, each day is in once."""
    monkeypatch.setattr(loading_work, "BATCH_TEXTS", 1)
    if kind == "pieces":
        monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 10)
    nmis = [f"SASMPL000{n}" for n in range(1, 6)]
    data = nem12(*(a_day(nmi=nmi) for nmi in nmis))
    if kind == "archive":
        data = zipped(**{f"{nmi}_csv": nem12(a_day(nmi=nmi)) for nmi in nmis}, junk_csv=b"junk")
    number = send(store, spool, "z", data).delivery
    how = Delivering(lease_seconds=-1, chunk_bytes=1000)
    taken = []

    def steal(_: int) -> None:
        for _attempt in range(4):
            token = new_token()
            claimed_it = store.backend.transact(
                lambda conn, token=token: work.claim(
                    conn, store.backend, number, token, -1, max_attempts=99
                )
            )
            if claimed_it is None:
                return
            try:
                process(store, spool, number, token=token, how=how)
            except StoreTaken:
                taken.append(token)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(steal, range(3)))
    if row(store, number)["state"] not in work.FINAL:
        worked(store, spool, number)
    assert store.nmis()["days"].to_list() == [1] * 5
    assert store.files()["days_stored"].sum() == 5
    inside = store.deliveries(parent=number, limit=None)
    assert inside["name"].n_unique() == inside.height == (6 if kind == "archive" else 0)
    assert open_loads(store) == 0
    must_hold(store, spool)


def test_a_missing_original_is_a_fault_of_ours(store, spool, nem12, a_day):
    """The spool's disk may be away: to be tried again, not the sender's business."""
    receipt = send(store, spool, "a.csv", nem12(a_day()))
    spool.delete(receipt.sha256)
    token = claimed(store, receipt.delivery)
    with pytest.raises(SpoolFault, match="not in the spool"):
        process(store, spool, receipt.delivery, token=token, how=Delivering())
    assert row(store, receipt.delivery)["lease_token"] == token


def test_refused_files_do_not_fill_the_spool(store, tmp_path) -> None:
    """However many are kept for good, the next upload finds room; each can be tried again."""
    spool = Spool(tmp_path / "spool", SpoolLimits(total_bytes=100, free_bytes=1))
    numbers = []
    for nth in range(5):
        receipt = send(store, spool, "bad", b"no data at all " * 5 + b"%d" % nth)
        assert worked(store, spool, receipt.delivery).state == "rejected"
        numbers.append(receipt.delivery)
        spool.usage()
    assert spool.usage().kept_files == 5
    store.backend.transact(lambda conn: dispatch.retry(conn, store.backend, numbers[:1], "me"))
    assert worked(store, spool, numbers[0]).state == "rejected"
    must_hold(store, spool)


@pytest.mark.parametrize("kind", ["text", "pieces", "zip"])
def test_the_same_bytes_come_again_while_they_are_read(  # noqa: PLR0917 - fixtures
    store, spool, nem12, a_day, monkeypatch, kind
) -> None:
    """The second upload leaves the original alone: the first is not refused as changed."""
    data = zipped(a_csv=nem12(a_day())) if kind == "zip" else nem12(a_day())
    if kind == "pieces":
        monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 10)
    first = send(store, spool, "first", data)
    others: list[Receipt] = []
    known = Spool.has

    def has(self: Spool, sha256: str) -> bool:
        if not others:
            path, was = self.path(sha256), self.path(sha256).stat()
            others.append(send(store, spool, "second", data))
            assert (path.stat().st_ino, path.stat().st_mtime_ns) == (was.st_ino, was.st_mtime_ns)
        return known(self, sha256)

    monkeypatch.setattr(Spool, "has", has)
    assert worked(store, spool, first.delivery).state == "loaded"
    assert worked(store, spool, others[0].delivery).state == "duplicate"
    assert spool.usage().files == 0
    must_hold(store, spool)


def test_an_original_that_goes_once_it_was_seen_is_tried_again(
    store, spool, nem12, a_day, monkeypatch
) -> None:
    """Gone between the look and the reading is as gone as before: not dead at once."""
    receipt = send(store, spool, "a.csv", nem12(a_day()))
    spool.delete(receipt.sha256)
    monkeypatch.setattr(Spool, "has", lambda self, sha256: True)
    token = claimed(store, receipt.delivery)
    with pytest.raises(SpoolFault):
        process(store, spool, receipt.delivery, token=token, how=Delivering())
    assert row(store, receipt.delivery)["lease_token"] == token


@pytest.mark.parametrize("kind", ["text", "zip"])
def test_an_original_that_cannot_be_read_now_is_not_the_sender_s_fault(  # noqa: PLR0917 - fixtures
    store, spool, nem12, a_day, monkeypatch, kind
) -> None:
    """A share that goes away between two looks: tried again, not rejected for good."""
    data = zipped(a_csv=nem12(a_day())) if kind == "zip" else nem12(a_day())
    receipt = send(store, spool, "a", data)
    path, real = spool.path(receipt.sha256), Path.open
    gone = [True]

    def away(self: Path, *args, **named):
        if self == path and gone:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, *args, **named)

    monkeypatch.setattr(Path, "open", away)
    token = claimed(store, receipt.delivery)
    with pytest.raises(SpoolFault, match="Input/output error"):
        process(store, spool, receipt.delivery, token=token, how=Delivering())
    gone.clear()
    store.backend.transact(
        lambda conn: work.hand_back(conn, store.backend, receipt.delivery, token)
    )
    assert worked(store, spool, receipt.delivery).state == "loaded"
    assert json.loads(row(store, receipt.delivery)["inspected"])["nmi_count"] == 1
    must_hold(store, spool)


def test_a_rejected_delivery_tried_again_is_the_same_row(store, spool, nem12, a_day):
    """After somebody has changed a setting; with all its members."""
    data = zipped(a_csv=nem12(a_day(), sender="MDPA"), junk_csv=b"junk")
    number = send(store, spool, "a.zip", data, profile="b2b").delivery
    wrong = Delivering(participant="SOMEBODY")
    assert worked(store, spool, number, wrong).state == "rejected"
    store.retry([number])
    right = Delivering(participant="RETAILER")
    assert worked(store, spool, number, right).state == "partly_loaded"
    inside = store.deliveries(parent=number)
    assert sorted(inside["state"]) == ["loaded", "rejected"]
    must_hold(store, spool)
    assert store.readings(NMI).height == 48


# -- what the sender is told -----------------------------------------------------------------------


def test_a_report_says_what_to_mend(store, spool, nem12, a_day):
    """Each text with its state and counts, each finding with its line, NMI and day."""
    bad = nem12(a_day(day="20250302"), a_day(day="20250303", quality="T"))
    members = {"good_csv": nem12(a_day()), "bad_csv": bad, "junk_csv": b"junk"}
    number = send(store, spool, "z.zip", zipped(**members)).delivery
    worked(store, spool, number)
    report = report_of(store, number)
    told = json.loads(report.json())
    assert (told["state"], told["name"], told["complete"]) == ("partly_loaded", "z.zip", True)
    files = {each["source"]: each for each in told["files"]}
    assert {name: each["state"] for name, each in files.items()} == {
        "z.zip/good.csv": "loaded",
        "z.zip/bad.csv": "partly_loaded",
        "z.zip/junk.csv": "rejected",
    }
    assert files["z.zip/bad.csv"]["days"] == {
        "read": 2, "stored": 1, "unchanged": 0, "rejected": 1,
    }  # fmt: skip
    assert files["z.zip/junk.csv"]["error"].startswith("F018")
    (finding,) = [each for each in told["findings"] if each["rule"] == "Q001"]
    assert (finding["source"], finding["nmi"], finding["day"]) == (
        "z.zip/bad.csv", NMI, "2025-03-03",
    )  # fmt: skip
    assert finding["line"] == 5
    rows = pl.read_csv(io.StringIO(report.csv()), infer_schema=False)
    assert rows.columns == list(CSV_COLUMNS)
    assert set(rows["source"]) == {"z.zip/bad.csv", "z.zip/junk.csv"}
    assert report_of(store, number) == report


def test_what_was_refused_unopened_is_in_the_report_too(store, spool):
    """No file, no findings: the CSV has its line all the same."""
    number = send(store, spool, "a.zip", b"PK\x03\x04 not really").delivery
    worked(store, spool, number)
    rows = pl.read_csv(io.StringIO(report_of(store, number).csv()), infer_schema=False)
    assert rows.select("source", "state", "rule", "severity").rows() == [
        ("a.zip", "rejected", "F001", "F")
    ]


def test_a_report_runs_no_formula(store, spool, nem12, a_day):
    """What the sender wrote is opened in a spreadsheet by the next person."""
    data = nem12(a_day(quality="=cmd|' /C calc'!A0"))
    number = send(store, spool, "=1+1.csv", data).delivery
    worked(store, spool, number)
    rows = pl.read_csv(io.StringIO(report_of(store, number).csv()), infer_schema=False)
    assert rows["source"].unique().to_list() == ["'=1+1.csv"]
    values = rows["value"].drop_nulls().to_list()
    assert values
    assert not [each for each in values if each.startswith("=")]
    assert report_of(store, number).findings[0]["source"] == "=1+1.csv"


def test_the_report_of_a_dry_run_is_that_of_the_real_one(store, spool, nem12, a_day):
    """Same texts, same states, same rules, though nothing of it is in the store."""
    bad = nem12(a_day(day="20250302"), a_day(day="20250303", quality="T"))
    data = zipped(good_csv=nem12(a_day()), bad_csv=bad, junk_csv=b"junk")
    reports = []
    for dry_run in (True, False):
        number = send(store, spool, "z.zip", data, dry_run=dry_run).delivery
        worked(store, spool, number)
        reports.append(report_of(store, number))
    for name in ("source", "state", "days", "sha256"):
        dry, real = ([each[name] for each in report.files] for report in reports)
        assert dry == real
    dry, real = ({(each["source"], each["rule"]) for each in r.findings} for r in reports)
    assert real <= dry


def in_message(*texts: bytes) -> bytes:
    """An aseXML message with these texts, a transaction each."""
    ids = [f"TXN-{n}" for n in range(1, len(texts) + 1)]
    return generate_message(list(texts), message_id="MSG-1", transaction_ids=ids)


def acknowledged(path: Path) -> dict[str, str]:
    """The attributes of the acknowledgement in a file."""
    (answer,) = ElementTree.parse(path).getroot().find("Acknowledgements")  # noqa: S314 - ours
    return {"what": answer.tag, "events": str(len(answer.findall("Event"))), **answer.attrib}


def test_an_asexml_delivery_is_answered(store, spool, nem12, a_day, tmp_path):
    """The message and each of its transactions, by what became of it; again when it comes again."""
    how = Delivering(outbox=tmp_path / "outbox")
    good, bad = nem12(a_day()), nem12(a_day(day="20250303"), a_day(day="20250302", quality="T"))
    data = in_message(good, bad, nem12(a_day(day="20250399")))
    number = send(store, spool, "in.xml", data).delivery
    assert worked(store, spool, number, how).state == "partly_loaded"
    names = sorted(path.name for path in how.outbox.iterdir())
    assert names == [f"{number}-1-{each}.xml" for each in ("TXN-1", "TXN-2", "TXN-3", "message")]
    told = [acknowledged(how.outbox / name) for name in names]
    assert [each["status"] for each in told] == ["Accept", "Partial", "Reject", "Accept"]
    assert [each["duplicate"] for each in told] == ["No"] * 4
    assert [each["events"] for each in told] == ["0", "1", "1", "0"]
    assert told[1]["acceptedCount"] == "1"
    event = ElementTree.parse(how.outbox / names[1]).getroot().find("*/*/Event")  # noqa: S314
    assert (event.findtext("KeyInfo"), event.findtext("Context")) == (NMI, "E1 20250302")
    one = send(store, spool, "one.xml", in_message(good)).delivery
    assert worked(store, spool, one, how).state == "duplicate"
    assert acknowledged(how.outbox / f"{one}-1-TXN-1.xml")["duplicate"] == "Yes"
    again = send(store, spool, "one.xml", in_message(good))
    assert again.state == "received"


def test_what_is_no_message_is_not_answered(store, spool, nem12, a_day, tmp_path):
    """Plain texts, junk, and XML that says nothing."""
    how = Delivering(outbox=tmp_path / "outbox")
    for name, data in {"a.csv": nem12(a_day()), "b.xml": b"<html></html>", "c": b"junk"}.items():
        worked(store, spool, send(store, spool, name, data).delivery, how)
    assert not how.outbox.exists()


def test_an_answer_that_cannot_be_written_is_written_later(store, spool, nem12, a_day, tmp_path):
    """The outbox is away: the delivery is final, its original stays until it is answered."""
    how = Delivering(outbox=tmp_path / "outbox")
    how.outbox.write_bytes(b"in the way")
    receipt = send(store, spool, "in.xml", in_message(nem12(a_day())))
    assert worked(store, spool, receipt.delivery, how).state == "loaded"
    assert steps(store, receipt.delivery)[-1] == ("settle", 1, "E-SPOOL")
    assert spool.has(receipt.sha256)
    assert clear_originals(store, spool, how) == 0
    how.outbox.unlink()
    assert clear_originals(store, spool, how) == 1
    assert len(list(how.outbox.iterdir())) == 2
    must_hold(store, spool)
    assert not spool.has(receipt.sha256)
    assert clear_originals(store, spool, how) == 0


# -- kill -9 ---------------------------------------------------------------------------------------

_WORKER = """
import sys
from nemflow.intake.spool import Spool
from nemflow.pipeline import unpack
from nemflow.pipeline import work as loading
from nemflow.pipeline.delivering import Delivering, process
from nemflow.pipeline.loading import new_token
from nemflow.store import open_store, work
loading.BATCH_TEXTS = 2
url, root, number, whole = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
unpack.WHOLE_BYTES = whole
with open_store(url, create=False) as store:
    token = new_token()
    claim = lambda conn: work.claim(conn, store.backend, number, token, -1, max_attempts=99)
    store.backend.transact(claim)
    how = Delivering(lease_seconds=-1, chunk_bytes=1000)
    process(store, Spool(root), number, token=token, how=how)
"""
#: Where a worker is killed, one after the other; each time it comes a little further.
KILLS = {
    "text": ["delivery-inspected", "mid-publish", "before-tick", "delivery-published"],
    "pieces": ["after-claim", "between-pieces@2", "mid-publish", "delivery-published"],
    "archive": [
        "delivery-inspected", "mid-publish", "after-claim@2", "mid-publish@2", "before-tick",
        "delivery-published",
    ],
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.parametrize("kind", KILLS)
def test_killed_anywhere_the_next_worker_finishes_it(store, spool, nem12, a_day, kind):
    """A worker is killed at every step in turn: one final state, every day once, nothing open."""
    nmis = [f"SASMPL000{n}" for n in range(1, 6)]
    if kind == "archive":
        data = zipped(**{f"{nmi}_csv": nem12(a_day(nmi=nmi)) for nmi in nmis}, junk_csv=b"junk")
    else:
        data = nem12(*(a_day(nmi=nmi) for nmi in nmis))
    receipt = send(store, spool, "z", data)
    url = store.backend.url.render_as_string(hide_password=False)
    whole = "10" if kind == "pieces" else "1000000"
    for place in KILLS[kind]:
        given = [url, str(spool.root), str(receipt.delivery), whole]
        done = subprocess.run(
            [sys.executable, "-c", _WORKER, *given],
            env={**os.environ, "NEMFLOW_FAILPOINTS": f"{place}=kill"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == -9, (place, done.stderr)
        reconcile(store)
    is_archive = kind == "archive"
    assert row(store, receipt.delivery)["state"] == ("partly_loaded" if is_archive else "loaded")
    assert row(store, receipt.delivery)["attempts"] == len(KILLS[kind])
    clear_originals(store, spool, Delivering())
    inside = store.deliveries(parent=receipt.delivery, limit=None)
    assert inside.height == inside["name"].n_unique() == (6 if is_archive else 0)
    assert set(inside["state"]) <= {"loaded", "rejected"}
    assert store.nmis()["days"].to_list() == [1] * 5
    assert store.files()["days_stored"].sum() == 5
    assert open_loads(store) == 0
    assert spool.has(receipt.sha256) is is_archive
    must_hold(store, spool)
