"""What every engine must answer alike: who took what, what of it changed, the feed, exports."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nemflow.errors import NotFound, UsageError
from nemflow.pipeline import load, redo, undo
from nemflow.store import known, ledger, open_store, takes

NMI = "SASMPL0001"
OTHER = "SASMPL0002"
FIRST = date(2025, 3, 1)
LAST = date(2025, 3, 31)


def told(store, **asked) -> list[tuple[str, str, str, Decimal | None, Decimal | None]]:
    """The list of billing: suffix, day of the month, kind, total before and after."""
    rows = store.changes("billing", **asked)
    return [
        (row["suffix"], f"{row['day']:%d}", row["kind"], row["before_total"], row["after_total"])
        for row in rows.iter_rows(named=True)
    ]


def take(store, nmi=NMI, start=FIRST, end=LAST, **more) -> pl.DataFrame:
    """Billing reads."""
    return store.readings(nmi, start, end, consumer="billing", **more)


# -- who took what, and what changed --------------------------------------------------------------


def test_only_what_now_differs_from_what_was_taken_is_told(store, put, nem12, a_day):
    """Revised days with both totals; equal days, other NMIs and days outside are not told."""
    days = [a_day(day=f"2025030{n}") for n in (1, 2, 3)]
    load(store, put("a.csv", nem12(*days, a_day(nmi=OTHER))))
    take(store, end=date(2025, 3, 2))
    assert told(store) == []
    again = [
        a_day(day=day, value="2.5", update="20250305000000") for day in ("20250302", "20250303")
    ]
    load(store, put("b.csv", nem12(*again, a_day(nmi=OTHER, value="9", update="20250305000000"))))
    assert told(store) == [("E1", "02", "revised", Decimal(48), Decimal(120))]
    row = store.changes("billing").row(0, named=True)
    assert (row["before_file"], row["after_file"]) == (1, 2)
    assert (row["taken_seq"], row["changed_seq"], row["take"]) == (1, 2, 1)
    assert (row["before_quality"], row["after_quality"]) == ("A", "A")
    assert row["after_version_at"] > row["before_version_at"]


def test_a_day_changed_and_changed_back_or_only_touched_is_not_told(store, put, nem12, a_day):
    """X, Y, X: equal again; and equal content under a newer stamp was never different."""
    load(store, put("a.csv", nem12(a_day(), a_day(day="20250302"))))
    take(store)
    load(store, put("b.csv", nem12(a_day(value="7", update="20250305000000"))))
    assert [row[1] for row in told(store)] == ["01"]
    load(store, put("c.csv", nem12(a_day(update="20250306000000"))))
    load(store, put("d.csv", nem12(a_day(day="20250302", update="20250307000000"))))
    assert told(store) == []


def test_a_day_taken_back_is_told_with_nothing_after_and_is_gone_when_put_back(
    store, put, nem12, a_day
):
    """Undo of the only version; undo of a correction gives the version before."""
    load(store, put("a.csv", nem12(a_day(), a_day(day="20250302"))))
    load(store, put("b.csv", nem12(a_day(day="20250302", value="3", update="20250305000000"))))
    take(store)
    undo(store, 2)
    assert told(store) == [("E1", "02", "revised", Decimal(144), Decimal(48))]
    undo(store, 1)
    withdrawn = [
        ("E1", "01", "withdrawn", Decimal(48), None),
        ("E1", "02", "withdrawn", Decimal(144), None),
    ]
    assert told(store) == withdrawn
    row = store.changes("billing").row(0, named=True)
    assert row["after_hash"] is None
    assert row["after_file"] is None
    redo(store, 1)
    redo(store, 2)
    assert told(store) == []


def test_new_days_inside_what_was_asked_for_are_told(store, put, nem12, a_day):
    """Days without data then, and streams that did not exist; not days after the range."""
    load(store, put("a.csv", nem12(a_day())))
    take(store, end=date(2025, 3, 3))
    more = [a_day(day="20250303"), a_day(day="20250304"), a_day(suffix="B1", value="0.5")]
    load(store, put("b.csv", nem12(*more)))
    assert told(store) == [
        ("B1", "01", "new", None, Decimal(24)),
        ("E1", "03", "new", None, Decimal(48)),
    ]
    take(store, end=date(2025, 3, 3))
    assert told(store) == []


def test_a_take_without_bounds_or_streams_covers_what_comes_later(store, put, nem12, a_day):
    """No from, no to: every day; a take of one stream knows nothing of the others."""
    load(store, put("a.csv", nem12(a_day())))
    store.readings(NMI, consumer="billing", suffix="E1")
    new = [a_day(day="20260101"), a_day(day="20200101"), a_day(suffix="B1")]
    load(store, put("b.csv", nem12(*new)))
    assert [(row[0], row[2]) for row in told(store)] == [("E1", "new"), ("E1", "new")]


@pytest.mark.parametrize("by_nmi", [False, True])
def test_the_last_take_of_a_day_counts(store, put, nem12, a_day, monkeypatch, by_nmi):  # noqa: PLR0917
    """Overlapping ranges, a later one of one day only, and one of every NMI beside it."""
    monkeypatch.setattr(takes, "_DAYS_PER_NMI", -1 if by_nmi else 10**6)
    days = [a_day(day=f"2025030{n}") for n in (1, 2, 3)]
    load(store, put("a.csv", nem12(*days)))
    for frame in (export := store.export(consumer="billing")):
        assert frame.height
    export.taken()
    changed = [a_day(day=f"2025030{n}", value="2", update="20250305000000") for n in (1, 2, 3)]
    load(store, put("b.csv", nem12(*changed)))
    assert len(told(store)) == 3
    take(store, start=date(2025, 3, 2), end=date(2025, 3, 2))
    assert [row[1] for row in told(store)] == ["01", "03"]
    load(store, put("c.csv", nem12(a_day(day="20250303", value="3", update="20250306000000"))))
    assert [(row[1], row[3], row[4]) for row in told(store)] == [
        ("01", Decimal(48), Decimal(96)),
        ("03", Decimal(48), Decimal(144)),
    ]


def test_a_take_of_an_old_state_counts_too(store, put, nem12, a_day):
    """Who reads as known on an earlier commit holds what was known then."""
    load(store, put("a.csv", nem12(a_day())))
    load(store, put("b.csv", nem12(a_day(value="2", update="20250305000000"))))
    take(store)
    assert told(store) == []
    take(store, as_known_on=1)
    assert told(store) == [("E1", "01", "revised", Decimal(48), Decimal(96))]
    assert store.consumers("billing")["seq"].to_list() == [1, 2]


@pytest.mark.parametrize("by_nmi", [False, True])
def test_since_and_nmi_narrow_the_list(store, put, nem12, a_day, monkeypatch, by_nmi):  # noqa: PLR0917
    """Only what a later commit touched; only these NMIs; still compared with what was taken."""
    monkeypatch.setattr(takes, "_DAYS_PER_NMI", -1 if by_nmi else 10**6)
    load(store, put("a.csv", nem12(a_day(), a_day(nmi=OTHER))))
    take(store)
    take(store, OTHER)
    load(store, put("b.csv", nem12(a_day(value="2", update="20250305000000"))))
    load(store, put("c.csv", nem12(a_day(nmi=OTHER, value="2", update="20250305000000"))))
    assert store.changes("billing")["nmi"].to_list() == [NMI, OTHER]
    assert store.changes("billing", since=2)["nmi"].to_list() == [OTHER]
    assert store.changes("billing", nmi=NMI)["nmi"].to_list() == [NMI]
    assert store.changes("billing", nmi=NMI, since=2).is_empty()
    moment = store.seq_at(datetime.now(UTC))
    assert store.changes("billing", since=moment).is_empty()
    assert store.changes(since=1)["nmi"].to_list() == [NMI, OTHER]
    assert store.changes(since=2)["before_total"].to_list() == [Decimal(48)]
    assert store.changes(since=0)["kind"].to_list() == ["new", "new"]


def test_consumers_know_nothing_of_each_other(store, put, nem12, a_day):
    """Each has its own list; names are trimmed; who took nothing is not known."""
    load(store, put("a.csv", nem12(a_day())))
    take(store)
    load(store, put("b.csv", nem12(a_day(value="2", update="20250305000000"))))
    store.readings(NMI, consumer=" forecast ")
    assert len(told(store)) == 1
    assert store.changes("forecast").is_empty()
    with pytest.raises(NotFound, match="settlement"):
        store.changes("settlement")
    with pytest.raises(UsageError, match="no name"):
        store.readings(NMI, consumer=" ")
    with pytest.raises(UsageError, match="for whom"):
        store.changes()
    rows = store.consumers()
    assert rows["consumer"].to_list() == ["forecast", "billing"]
    row = store.consumers("billing").row(0, named=True)
    assert (row["nmis"], row["nmi"], row["seq"], row["how"]) == (1, NMI, 1, "readings")
    assert (row["first_day"], row["last_day"]) == (FIRST, LAST)


def test_a_commit_between_read_and_record_is_told_as_a_change(
    store, put, nem12, a_day, monkeypatch
):
    """The take has the number of the snapshot that answered, not of the moment it is recorded."""
    load(store, put("a.csv", nem12(a_day())))
    real = takes.record

    def slow(*args, **options):
        load(store, put("b.csv", nem12(a_day(value="2", update="20250305000000"))))
        return real(*args, **options)

    monkeypatch.setattr(takes, "record", slow)
    assert set(take(store)["value"]) == {Decimal(1)}
    assert told(store) == [("E1", "01", "revised", Decimal(48), Decimal(96))]
    assert store.consumers()["seq"].to_list() == [1]


def test_days_without_any_value_have_no_total(store, put, nem12, a_day):
    """Null, never 0; and the unit and quality of both sides are told."""
    load(store, put("a.csv", nem12(a_day())))
    take(store)
    gone = a_day(values=("",) * 48, quality="N", update="20250305000000")
    load(store, put("b.csv", nem12(gone)))
    row = store.changes("billing").row(0, named=True)
    assert (row["before_total"], row["after_total"]) == (Decimal(48), None)
    assert (row["before_missing"], row["after_missing"]) == (0, 48)
    assert (row["before_quality"], row["after_quality"]) == ("A", "N")
    assert row["after_uom"] == "kWh"


def test_totals_beyond_64_bits_stay_exact(store, put, nem12, a_day):
    """The rare long value, digit for digit, beside an ordinary one."""
    load(store, put("a.csv", nem12(a_day(value="0.1"))))
    take(store)
    long = "123456789012345.1234567890123"
    values = (long, *("0.0000000000001",) * 47)
    load(store, put("b.csv", nem12(a_day(values=values, update="20250305000000"))))
    (row,) = told(store)
    assert row[3] == Decimal("4.8")
    assert row[4] == Decimal(long) + 47 * Decimal("0.0000000000001")


#: What may happen: a load of some days, an undo or redo of a delivery, a take of a range.
happenings = st.lists(
    st.one_of(
        st.tuples(
            st.just("load"),
            st.sets(st.tuples(st.sampled_from([NMI, OTHER]), st.integers(1, 3)), min_size=1),
            st.integers(1, 3),
            st.integers(1, 4),
        ),
        st.tuples(st.just("undo"), st.integers(1, 4)),
        st.tuples(st.just("redo"), st.integers(1, 4)),
        st.tuples(
            st.just("take"),
            st.sampled_from([NMI, OTHER, None]),
            st.integers(1, 3),
            st.integers(1, 3),
        ),
    ),
    min_size=4,
    max_size=9,
)


def current(store) -> dict[tuple[str, int], Decimal]:
    """NMI and day of the month -> the one value of that day."""
    frame = pl.concat(store.export())
    return {(nmi, day.day): v for nmi, day, v in frame.select("nmi", "day", "value").iter_rows()}


@given(what=happenings)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_happens_the_list_is_what_a_plain_notebook_says(empty_store, nem12, a_day, what):
    """A model notes what billing took, day by day; the list is where it differs from now."""
    notebook: dict[tuple[str, int], Decimal | None] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        shutil.copy(empty_store, folder / "store.db")
        store = stack.enter_context(open_store(str(folder / "store.db")))
        load(store, _file(folder, "0", nem12(a_day(), a_day(nmi=OTHER))))
        store.readings(NMI, FIRST, FIRST, consumer="billing")
        notebook[NMI, 1] = Decimal(1)
        for turn, (act, *rest) in enumerate(what, 1):
            if act == "load":
                days, value, stamp = rest
                told_days = [
                    a_day(
                        nmi=nmi, day=f"2025030{n}", value=str(value), update=f"2025040{stamp}000000"
                    )
                    for nmi, n in sorted(days)
                ]
                text = nem12(*told_days, file_at=f"2025050{turn}0000")
                load(store, _file(folder, str(turn), text))
            elif act == "take":
                nmi, first, last = rest
                span = date(2025, 3, min(first, last)), date(2025, 3, max(first, last))
                taking = store.export(*span, nmi=nmi, consumer="billing")
                for _ in taking:
                    pass
                taking.taken()
                now = current(store)
                for key in [(n, d) for n in (NMI, OTHER) for d in (1, 2, 3)]:
                    if nmi in (None, key[0]) and span[0].day <= key[1] <= span[1].day:
                        notebook[key] = now.get(key)
            else:
                with contextlib.suppress(NotFound, UsageError):
                    (undo if act == "undo" else redo)(store, rest[0])
        now = current(store)
        wanted = {key for key, held in notebook.items() if held != now.get(key)}
        listed = store.changes("billing").select("nmi", "day").iter_rows()
        assert {(nmi, day.day) for nmi, day in listed} == wanted


def _file(folder: Path, name: str, text: bytes) -> Path:
    path = folder / f"{name}.csv"
    path.write_bytes(text)
    return path


# -- as known on, for ever ------------------------------------------------------------------------


def test_a_moment_that_is_not_over_and_a_commit_that_is_not_there_are_refused(
    store, put, nem12, a_day
):
    """Their answers would change later; a moment just over has its final one."""
    load(store, put("a.csv", nem12(a_day())))
    with pytest.raises(UsageError, match="not over yet"):
        store.readings(NMI, as_known_on=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(UsageError, match="no commit 9"):
        store.readings(NMI, as_known_on=9)
    assert store.seq_at(datetime.now(UTC)) == 1
    assert store.seq_at(datetime(2020, 1, 1)) == 0  # noqa: DTZ001 - market time


def test_the_time_of_a_commit_under_way_is_waited_for(store, put, nem12, a_day, monkeypatch):
    """A moment between a commit's number and its being visible: the answer includes it."""
    import threading
    import time

    load(store, put("a.csv", nem12(a_day())))
    drawn, seen = threading.Event(), []
    real = ledger.record

    def slow(*args, **options):
        got = real(*args, **options)
        drawn.set()
        time.sleep(0.4)
        return got

    monkeypatch.setattr(ledger, "record", slow)
    loader = threading.Thread(
        target=load,
        args=(store, put("b.csv", nem12(a_day(value="2", update="20250305000000")))),
    )
    loader.start()
    assert drawn.wait(20)
    moment = datetime.now(UTC)
    with store.backend.reading() as conn:
        assert known.last_seq(conn) == 1
    seen.append(store.seq_at(moment))
    loader.join()
    seen.append(store.seq_at(moment))
    assert seen == [2, 2]


# -- the feed -------------------------------------------------------------------------------------


def kinds(frame: pl.DataFrame) -> list[tuple[int, str, str]]:
    """Commit, day of the month, kind."""
    return [(row["seq"], f"{row['day']:%d}", row["kind"]) for row in frame.iter_rows(named=True)]


def test_the_feed_says_what_each_commit_did(store, put, nem12, a_day):
    """New, revised, touched, late, withdrawn, restored, each with before and after."""
    two = a_day(day="20250302")
    load(store, put("a.csv", nem12(a_day(), two)))
    load(store, put("b.csv", nem12(a_day(value="2", update="20250305000000"))))
    load(store, put("c.csv", nem12(a_day(value="2", update="20250306000000"))))
    load(store, put("d.csv", nem12(a_day(value="9", update="20250304000000"))))
    undo(store, 3)
    undo(store, 2)
    undo(store, 1)
    redo(store, 2)
    feed = store.feed()
    assert kinds(feed) == [
        (1, "01", "new"),
        (1, "02", "new"),
        (2, "01", "revised"),
        (3, "01", "touched"),
        (4, "01", "late"),
        (5, "01", "touched"),
        (6, "01", "restored"),
        (7, "01", "late"),
        (7, "02", "withdrawn"),
        (8, "01", "restored"),
    ]
    sixth = feed.row(6, named=True)
    assert (sixth["event"], sixth["before_total"], sixth["after_total"]) == (
        "undone",
        Decimal(96),
        Decimal(432),
    )
    last = feed.row(8, named=True)
    assert (last["before_total"], last["after_total"], last["after_hash"]) == (
        Decimal(48),
        None,
        None,
    )
    now = store.readings(NMI, resolution="day")["value"].to_list()
    assert now == [feed.row(9, named=True)["after_total"]]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_of_any_size_give_the_whole_feed_once(store, put, nem12, a_day, limit):
    """A page may end in the middle of a commit; the cursor goes on there."""
    for turn in range(3):
        days = [
            a_day(day=f"202503{n:02}", nmi=nmi, value=str(turn), update=f"2025040{turn + 1}000000")
            for nmi in (NMI, OTHER)
            for n in (1, 2)
        ]
        load(store, put(f"{turn}.csv", nem12(*days)))
    undo(store, 2)
    whole = store.feed()
    assert whole.height == 16
    assert whole["seq"].is_sorted()
    place: int | str = 0
    pages = []
    while not (page := store.feed(place, limit=limit)).is_empty():
        assert page.height <= limit
        pages.append(page)
        place = page["cursor"][-1]
    together = pl.concat(pages)
    assert together["cursor"].to_list() == whole["cursor"].to_list()
    assert together["kind"].to_list() == whole["kind"].to_list()
    assert store.feed(3)["seq"].to_list() == [4] * 4
    assert store.feed(4).is_empty()
    assert store.feed(4).schema == whole.schema


def test_commits_without_days_do_not_stop_the_feed(store, put, nem12, nem13, a_day):
    """Register reads alone (NEM13) move the number on, and no row is told for them."""
    read = (
        f"250,{NMI},11,1,11,11,METER1,E,000100,20250101000000,A,,,000200,"
        "20250401000000,A,,,100,kWh,,20250402000000,"
    )
    load(store, put("n13.csv", nem13(read)))
    load(store, put("a.csv", nem12(a_day())))
    assert store.seq_at() == 2
    assert store.feed(0, limit=1)["seq"].to_list() == [2]


def test_a_place_that_is_none_is_refused(store):
    """Words, a broken day, and a commit of another store."""
    for wrong in ("soon", "1/SASMPL0001/2025-02-31/E1", "-1"):
        with pytest.raises(UsageError, match="no place"):
            store.feed(wrong)
    with pytest.raises(UsageError, match="no commit 5"):
        store.feed(5)
    with pytest.raises(UsageError, match="at least one"):
        store.feed(limit=0)


# -- export ---------------------------------------------------------------------------------------


def many(a_day) -> list:
    """Two NMIs, two streams, values of differing decimals and lengths."""
    return [
        a_day(nmi=nmi, day=f"202503{n:02}", suffix=suffix, value=value, minutes=minutes)
        for nmi in (NMI, OTHER)
        for suffix, value, minutes in (("B1", "0.25", 5), ("E1", "1", 30))
        for n in (1, 2, 3)
    ]


def test_an_export_is_what_readings_say_for_each_nmi(store, put, nem12, a_day, monkeypatch):
    """In pieces of any size: the same rows, in order, at one scale, with one schema."""
    from nemflow.store import export

    load(store, put("a.csv", nem12(*many(a_day))))
    wanted = pl.concat([store.readings(nmi) for nmi in (NMI, OTHER)])
    for rows, days in ((10**6, 10**6), (300, 2)):
        monkeypatch.setattr(export, "READINGS", rows)
        monkeypatch.setattr(export, "_DAYS_AT_ONCE", days)
        one = store.export()
        frames = list(one)
        assert len(frames) == 1 or days == 2
        assert len({tuple(frame.schema.items()) for frame in frames}) == 1
        assert max(frame.height for frame in frames) <= rows + 287
        assert pl.concat(frames).equals(wanted)
        assert (one.done.rows, one.done.days, one.done.nmis) == (wanted.height, 12, 2)
        assert one.done.claims == one.claims == 12


def test_an_export_can_be_narrowed(store, put, nem12, a_day):
    """By NMIs, streams, days and times; an NMI that is not known adds nothing."""
    load(store, put("a.csv", nem12(*many(a_day))))
    some = pl.concat(store.export(nmi=[OTHER, "SASMPL0009"], suffix="E1"))
    assert some.equals(store.readings(OTHER, suffix="E1").cast(some.schema))
    day = date(2025, 3, 2)
    part = pl.concat(store.export(day, day))
    assert set(part["day"]) == {day}
    begin = datetime(2025, 3, 2, 12)  # noqa: DTZ001 - market time
    hour = pl.concat(store.export(begin, begin + timedelta(hours=1), nmi=NMI, suffix="E1"))
    assert hour.height == 2
    (nothing,) = store.export(date(2030, 1, 1))
    assert nothing.is_empty()
    assert nothing.columns == part.columns


def test_all_pieces_of_an_export_are_as_of_one_commit(store, put, nem12, a_day, monkeypatch):
    """A correction that lands half-way is in none of them, and is told to the consumer."""
    from nemflow.store import export

    monkeypatch.setattr(export, "_DAYS_AT_ONCE", 1)
    load(store, put("a.csv", nem12(a_day(), a_day(nmi=OTHER))))
    taking = store.export(FIRST, LAST, consumer="billing")
    pieces = iter(taking)
    first = next(pieces)
    fix = [a_day(nmi=nmi, value="2", update="20250305000000") for nmi in (NMI, OTHER)]
    load(store, put("b.csv", nem12(*fix)))
    with pytest.raises(UsageError, match="not read to its end"):
        taking.taken()
    assert store.consumers().is_empty()
    rest = list(pieces)
    assert set(pl.concat([first, *rest])["value"]) == {Decimal(1)}
    assert taking.seq == 1
    taking.taken()
    assert [row[3:] for row in told(store)] == [(Decimal(48), Decimal(96))] * 2
    row = store.consumers().row(0, named=True)
    assert (row["nmis"], row["how"], row["seq"]) == (None, "export", 1)


def test_an_export_as_known_on_an_earlier_commit(store, put, nem12, a_day):
    """The same rows as were exported then."""
    load(store, put("a.csv", nem12(a_day())))
    then = pl.concat(store.export())
    load(store, put("b.csv", nem12(a_day(value="2.25", update="20250305000000"))))
    undo(store, 1)
    again = pl.concat(store.export(as_known_on=1))
    assert again.cast(then.schema).equals(then)
