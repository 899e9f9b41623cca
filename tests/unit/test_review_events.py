"""What a person should look at is found, told once, and settled by what comes later.

The contract of review events, asked of every engine.
"""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import date, datetime, timedelta

import polars as pl
import pytest

from nemflow.errors import NotFound, UsageError
from nemflow.pipeline import large as large_module
from nemflow.pipeline import load, redo, replay, undo
from nemflow.pipeline import unpack as unpack_module
from nemflow.store import review
from nemflow.store.tables import MARKET_OFFSET

NMI = "SASMPL0001"
NOW = datetime(2025, 3, 10, 12, tzinfo=MARKET_OFFSET)
LATER, LATEST = "20250303010000", "20250304010000"


def period(since: str, read: str, until: str, now: str, *, quality: str = "A", stamp: str = LATER,
           before: str = "A", register: str = "1") -> str:  # fmt: skip
    """A 250: from a read at a time to a read at a time."""
    reason = "45" if before[0] in "SF" else ""
    return (
        f"250,{NMI},11,{register},11,11,EX0000001,E,{read},{since},{before},{reason},,{now},"
        f"{until},{quality},,,100,kWh,20250701,{stamp},"
    )


JAN, APR, JUL, OCT = "20240101000001", "20240401000001", "20240701000001", "20241001000001"


@pytest.fixture
def small(nem12, a_day):
    """The makers of a file and of a day."""
    return nem12, a_day


def told(store, **asked) -> list[tuple]:
    """Kind, state, suffix, what was and what is."""
    rows = store.reviews(**asked).sort("review")
    return rows.select("kind", "state", "suffix", "before", "after").rows()


def kinds(store, **asked) -> Counter:
    """How many of which kind."""
    return Counter(store.reviews(**asked)["kind"])


CHANGES = [
    ("F14", "A", NOW, "final_revised"),
    ("F14", "S14", NOW, "final_revised"),
    ("F14", "F14", NOW, "final_revised"),
    ("A", "E52", NOW, "actual_to_estimate"),
    ("A", "N", NOW, "actual_to_estimate"),
    ("A", "S14", NOW, None),
    ("A", "S14", NOW + timedelta(days=200), "actual_to_substitute"),
    ("A", "F14", NOW + timedelta(days=200), "actual_to_substitute"),
    ("E52", "A", NOW, None),
    ("S14", "A", NOW, None),
    ("S14", "F14", NOW, None),
    ("A", "A", NOW, None),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_quality_is_told_when_it_is_odd(store, put, nem12, a_day, change):
    """F -> anything, A -> E, A -> S of an old day; E -> A and S -> F are the way of things."""
    before, after, now, kind = change

    def reason(flag):
        return "76" if flag[0] in "SF" else ""

    old = a_day(value="1", quality=before, reason=reason(before))
    new = a_day(value="2", quality=after, reason=reason(after), update=LATER)
    load(store, put("a.csv", nem12(old)), now=now)
    path = put("b.csv", nem12(new, file_at="202503030430"))
    dry = load(store, path, now=now, dry_run=True)
    done = load(store, path, now=now)
    assert dry.reviews == done.reviews == ({kind: 1} if kind else {})
    assert told(store) == ([(kind, "open", "E1", before[0], after[0])] if kind else [])
    assert store.versions(NMI, date(2025, 3, 1)).height == 2


def test_how_old_a_day_must_be_can_be_set(store, put, nem12, a_day):
    """``review_after``."""
    load(store, put("a.csv", nem12(a_day())), now=NOW)
    path = put("b.csv", nem12(a_day(value="2", quality="S14", reason="76", update=LATER)))
    assert load(store, path, now=NOW, dry_run=True, review_after=9).reviews == {}
    assert load(store, path, now=NOW, review_after=8).reviews == {"actual_to_substitute": 1}


def test_what_is_not_current_and_what_says_the_same_is_no_event(store, put, nem12, a_day):
    """An older version that comes late, and the same content under a newer stamp."""
    load(store, put("a.csv", nem12(a_day(value="2", quality="F14", reason="76", update=LATER))))
    load(store, put("b.csv", nem12(a_day(value="1", quality="E52"))))
    load(store, put("c.csv", nem12(a_day(value="2", quality="F14", reason="76", update=LATEST))))
    assert told(store) == []


def test_a_step_takes_its_files_one_after_the_other(store, put, nem12, a_day):
    """Original and correction loaded together leave what they leave apart."""
    paths = [
        put("a.csv", nem12(a_day(value="1", quality="F14", reason="76"))),
        put("b.csv", nem12(a_day(value="2", update=LATER), file_at="202503030430")),
        put("c.csv", nem12(a_day(value="3", quality="E52", update=LATEST))),
    ]
    dry = load(store, paths, now=NOW, dry_run=True)
    done = load(store, paths, now=NOW)
    assert [f.reviews for f in done.files] == [{}, {"final_revised": 1}, {"actual_to_estimate": 1}]
    assert [f.reviews for f in dry.files] == [f.reviews for f in done.files]
    assert done.to_dict()["reviews"] == {"final_revised": 1, "actual_to_estimate": 1}


def test_a_conflict_is_found_in_any_order_and_told_once(store, put, nem12, a_day):
    """Equal stamps, different content: which wins is told, and the same file again adds nothing."""
    texts = {
        "older.csv": nem12(a_day(value="1")),
        "newer.csv": nem12(a_day(value="2"), file_at="202503030430"),
        "again.csv": nem12(a_day(value="1"), file_at="202503020431"),
    }
    for order in itertools.permutations(texts):
        for name in order:
            load(store, put(name, texts[name]))
        rows = store.reviews(open_only=True)
        assert rows["kind"].to_list() == ["conflict"]
        row = rows.row(0, named=True)
        current = store.versions(NMI, date(2025, 3, 1)).filter(state="current")["content_hash"][0]
        assert {row["content_hash"], row["other_hash"]} >= {current}
        assert row["why"] == f"{current[:12]} wins: its file's DateTime is later"
        for number in store.deliveries("loaded")["delivery"]:
            undo(store, number)
    everything = store.reviews(open_only=False)
    assert set(everything["state"]) == {"void"}


def test_a_conflict_decided_by_the_hash_says_so(store, put, nem12, a_day):
    """Both files have one DateTime; in one load, and by any order."""
    paths = [put(f"{value}.csv", nem12(a_day(value=value))) for value in "12"]
    assert load(store, paths).reviews == {"conflict": 1}
    row = store.reviews().row(0, named=True)
    assert row["why"].endswith("so the greater content hash decides")
    assert row["why"].startswith(max(row["content_hash"], row["other_hash"])[:12])


def test_a_conflict_is_resolved_when_one_of_the_two_is_taken_back(store, put, nem12, a_day):
    """And open again when it is put back; nothing is told twice."""
    for name, value in (("a.csv", "1"), ("b.csv", "2")):
        load(store, put(name, nem12(a_day(value=value))))
    assert told(store)[0][:2] == ("conflict", "open")
    undo(store, 1)
    assert [row[:2] for row in told(store)] == [("conflict", "resolved")]
    redo(store, 1)
    assert [row[:2] for row in told(store)] == [("conflict", "open")]
    undo(store, 2)
    assert [row[:2] for row in told(store)] == [("conflict", "void")]


def test_a_conflict_with_what_came_while_a_delivery_was_undone_is_found(store, put, nem12, a_day):
    """The redo finds it: it could not be seen when the other was loaded."""
    load(store, put("a.csv", nem12(a_day(value="1"))))
    undo(store, 1)
    load(store, put("b.csv", nem12(a_day(value="2"))))
    assert told(store) == []
    assert redo(store, 1).reviews == {"conflict": 1}
    assert [row[:2] for row in told(store)] == [("conflict", "open")]


def test_loads_that_could_not_see_each_other_find_their_conflict_afterwards(
    store, put, nem12, a_day, monkeypatch
):
    """Both run at once; whoever is published last tells it, once."""
    other = put("b.csv", nem12(a_day(value="2")))
    monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 10)
    done = []

    def between(step):
        if step.days_done and not done:
            monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 10**6)
            done.append(load(store, other))

    summary = load(store, put("a.csv", nem12(a_day(value="1"))), progress=between)
    assert done[0].reviews == {}
    assert summary.reviews == {"conflict": 1}
    assert [row[:2] for row in told(store)] == [("conflict", "open")]


def test_a_stream_left_out_is_missed(store, put, nem12, a_day):
    """E1 and B1 came together; a newer E1 alone does not delete B1, but is told."""
    both = [a_day(), a_day(suffix="B1", value="3")]
    load(store, put("a.csv", nem12(*both)))
    path = put("b.csv", nem12(a_day(value="2", update=LATER), file_at="202503030430"))
    assert load(store, path, dry_run=True).reviews == {"channel_missing": 1}
    assert load(store, path).reviews == {"channel_missing": 1}
    assert told(store) == [("channel_missing", "open", "B1", None, None)]
    assert store.reviews()["why"][0].startswith("delivered together with E1")
    assert set(store.readings(NMI)["suffix"]) == {"E1", "B1"}


def test_a_stream_that_came_alone_or_was_rejected_is_not_missed(store, put, nem12, a_day):
    """Streams in files of their own; and one that is in the quarantine was not left out."""
    load(store, put("a.csv", nem12(a_day())))
    load(store, put("b.csv", nem12(a_day(suffix="B1"))))
    load(store, put("c.csv", nem12(a_day(value="2", update=LATER))))
    load(store, put("d.csv", nem12(a_day(value="3", update=LATEST),
                                   a_day(suffix="B1", update=LATEST, quality="T"))))  # fmt: skip
    both = [a_day(day="20250302"), a_day(day="20250302", suffix="B1")]
    load(store, put("e.csv", nem12(*both)))
    newer = [a_day(day="20250302", value="2", update=LATEST),
             a_day(day="20250302", suffix="B1", update=LATEST, quality="T")]  # fmt: skip
    assert load(store, put("f.csv", nem12(*newer)), dry_run=True).reviews == {}
    assert load(store, put("f.csv", nem12(*newer))).reviews == {}
    assert told(store) == []


def test_a_changed_configuration_is_told(store, put, nem12, a_day):
    """The newer version of the day stands under another NMIConfiguration."""
    old = nem12(a_day()).replace(b",E1,1,E1,", b",B1E1,1,E1,")
    load(store, put("a.csv", old))
    load(store, put("b.csv", nem12(a_day(value="2", update=LATER))))
    assert told(store) == [("configuration_changed", "open", "E1", "B1E1", "E1")]
    assert store.reviews()["why"][0] == "B1 withdrawn"


def test_a_service_order_is_withdrawn_by_a_version_without_it(store, put, nem12, a_day):
    """A 500 that a newer version of the day repeats stays; one it leaves out is told."""
    order = "500,S,ORDER1,20250301103230,001123.5"
    load(store, put("a.csv", nem12(a_day(events=(order,)))))
    load(store, put("b.csv", nem12(a_day(value="2", update=LATER, events=(order,)))))
    assert told(store) == []
    path = put("c.csv", nem12(a_day(value="3", update=LATEST)))
    assert load(store, path, dry_run=True).reviews == {"service_withdrawn": 1}
    load(store, path)
    assert told(store) == [("service_withdrawn", "open", "E1", "500 S ORDER1", None)]
    assert store.service_events(NMI).is_empty()
    undo(store, 3)
    assert store.service_events(NMI)["service_order"].to_list() == ["ORDER1"]
    assert [row[1] for row in told(store)] == ["void"]


def test_a_broken_chain_is_open_until_the_other_half_comes(store, put, nem13):
    """Appendix J: the read between two periods is issued anew, one period after the other."""
    first, second = period(JAN, "100", APR, "200"), period(APR, "200", JUL, "300")
    load(store, put("a.csv", nem13(first, second)))
    assert told(store) == []
    anew = period(APR, "190", JUL, "300", before="S62", stamp=LATEST)
    path = put("b.csv", nem13(anew, file_at="202503040430"))
    assert load(store, path, dry_run=True).reviews == {"chain_broken": 1}
    assert load(store, path).reviews == {"chain_broken": 1}
    assert told(store) == [("chain_broken", "open", "11", "200", "190")]
    again = put("c.csv", nem13(anew, file_at="202503040431"))
    assert load(store, again).reviews == {}
    half = nem13(period(JAN, "100", APR, "190", quality="S62", stamp=LATEST))
    load(store, put("d.csv", half))
    assert told(store)[0][:2] == ("chain_broken", "resolved")
    assert "chain_broken" not in kinds(store, open_only=True)
    undo(store, 4)
    assert told(store)[0][:2] == ("chain_broken", "open")


def test_periods_that_overlap_are_told(store, put, nem13):
    """Two current periods of one register; of another register it is no matter."""
    load(store, put("a.csv", nem13(period(JAN, "100", JUL, "300"))))
    load(store, put("b.csv", nem13(period(APR, "200", OCT, "400", register="2"))))
    assert told(store) == []
    assert load(store, put("c.csv", nem13(period(APR, "200", OCT, "400")))).reviews == {
        "period_overlap": 1
    }
    row = store.reviews().row(0, named=True)
    assert (row["before"], row["after"]) == (
        "2024-01-01 00:00 to 2024-07-01 00:00", "2024-04-01 00:00 to 2024-10-01 00:00",
    )  # fmt: skip


def test_register_reads_conflict_and_change_quality_like_days(store, put, nem13):
    """One stamp with two contents; a final substitute that is revised."""
    load(store, put("a.csv", nem13(period(JAN, "100", APR, "200", quality="F62"))))
    load(store, put("b.csv", nem13(period(JAN, "100", APR, "210", quality="F62"))))
    load(store, put("c.csv", nem13(period(JAN, "100", APR, "220", stamp=LATEST))))
    assert kinds(store)["conflict"] == 1
    assert kinds(store)["final_revised"] >= 1
    conflict = store.reviews(kind="conflict").row(0, named=True)
    assert (conflict["register_id"], conflict["meter_serial"]) == ("1", "EX0000001")
    assert conflict["state"] == "open"
    undo(store, 1)
    assert store.reviews(kind="conflict")["state"].to_list() == ["resolved"]


@pytest.mark.parametrize("way", ["whole", "pieces"])
def test_a_text_in_pieces_leaves_what_it_leaves_whole(way, store, put, small, monkeypatch):
    """Its streams come in different pieces, and none of them is missed; F -> A is found."""
    nem12, a_day = small
    dates = [f"{date(2024, 12, 1) + timedelta(days=n):%Y%m%d}" for n in range(90)]
    files = []
    for value, quality, stamp in (("1", "F14", LATER), ("2", "A", LATEST)):
        days = [
            a_day(day=day, suffix=suffix, value=value, update=stamp, minutes=5,
                  quality=quality, reason="76" if quality == "F14" else "")
            for suffix in ("E1", "B1", "Q1") for day in dates
            if not (value == "2" and suffix == "Q1" and day == dates[7])
        ]  # fmt: skip
        days = [each if each.suffix != "Q1" else a_day(**{**vars(each), "uom": "kVArh"})
                for each in days]  # fmt: skip
        files.append(nem12(*days, file_at=f"{stamp[:8]}0430"))
    load(store, put("a.csv", files[0]), now=NOW)
    if way == "pieces":
        monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 1000)
        monkeypatch.setattr(large_module, "PIECE_BYTES", 64 * 1024)
    path = put("b.csv", files[1])
    seen = []
    dry = load(store, path, now=NOW, dry_run=True)
    done = load(store, path, now=NOW, progress=lambda _: seen.append(store.reviews().height))
    assert dry.reviews == done.reviews == {"final_revised": 269, "channel_missing": 1}
    assert way == "whole" or (len(seen) > 3 and set(seen[:-1]) == {0})
    missing = store.reviews(kind="channel_missing").row(0, named=True)
    assert (missing["suffix"], f"{missing['day']:%Y%m%d}") == ("Q1", dates[7])


def test_an_event_of_a_load_that_never_was_published_is_cleared(store, put, nem12, a_day,
                                                                monkeypatch):  # fmt: skip
    """Stopped between two pieces: nothing of it is seen, then or later."""
    load(store, put("a.csv", nem12(a_day(quality="F14", reason="76"))))
    monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 10)

    def stop(step):
        if step.days_done:
            raise KeyboardInterrupt

    path = put("b.csv", nem12(a_day(value="2", update=LATER)))
    with pytest.raises(KeyboardInterrupt):
        load(store, path, progress=stop)
    assert told(store) == []
    monkeypatch.undo()
    assert load(store, path).reviews == {"final_revised": 1}
    assert len(told(store)) == 1


def test_undo_and_redo_leave_events_too_and_none_twice(store, put, nem12, a_day):
    """Back to the estimate by undo; each is open while it holds, and told once however often."""
    load(store, put("a.csv", nem12(a_day(quality="E52"))), now=NOW)
    load(store, put("b.csv", nem12(a_day(value="2", update=LATER))), now=NOW)
    assert undo(store, 2).reviews == {"actual_to_estimate": 1}
    assert told(store) == [("actual_to_estimate", "open", "E1", "A", "E")]
    row = store.reviews().row(0, named=True)
    assert (row["cause"], row["seq"], row["delivery"]) == ("undone", 3, 2)
    assert redo(store, 2).reviews == {}
    assert [each[1] for each in told(store)] == ["void"]
    assert undo(store, 2).reviews == {}
    assert [each[1] for each in told(store)] == ["open"]


def test_a_replayed_record_leaves_events_like_a_loaded_one(store, put, nem12, a_day):
    """F -> A by way of the quarantine."""
    load(store, put("a.csv", nem12(a_day(quality="F14", reason="76"))))
    load(store, put("b.csv", nem12(a_day(value="2", update=LATER, quality="T"))))
    number, raw = store.quarantine().select("quarantine", "raw").row(0)
    edits = {number: raw.replace(",T,", ",A,")}
    assert replay(store, edits=edits, dry_run=True).reviews == {"final_revised": 1}
    assert replay(store, edits=edits).reviews == {"final_revised": 1}
    assert told(store) == [("final_revised", "open", "E1", "F", "A")]


def test_a_person_closes_an_event_with_a_note(store, put, nem12, a_day):
    """It is done, by whom and why is kept and audited; what is closed is closed."""
    days = ["20250301", "20250302"]
    load(store, put("a.csv", nem12(*(a_day(day=d, quality="F14", reason="76") for d in days))))
    load(store, put("b.csv", nem12(*(a_day(day=d, value="2", update=LATER) for d in days))))
    numbers = store.reviews()["review"].to_list()
    with pytest.raises(NotFound):
        store.close_reviews([*numbers, 99], note="seen")
    with pytest.raises(UsageError, match="note"):
        store.close_reviews(numbers, note=" ")
    assert len(told(store, open_only=True)) == 2
    assert store.close_reviews(numbers[0], note="The meter was mended.", by="ann") == 1
    row = store.reviews().filter(review=numbers[0]).row(0, named=True)
    assert (row["state"], row["done_by"], row["note"]) == ("done", "ann", "The meter was mended.")
    assert len(told(store, open_only=True)) == 1
    with pytest.raises(UsageError, match="closed already"):
        store.close_reviews(numbers, note="again")
    assert store.close_reviews(numbers[1], note="ok") == 1


def test_events_are_asked_for_by_nmi_kind_and_time(store, put, nem12, a_day):
    """And a kind that is none is refused."""
    nmis = [NMI, "SASMPL0002"]
    load(store, put("a.csv", nem12(*(a_day(nmi=n, quality="F14", reason="76") for n in nmis))))
    load(store, put("b.csv", nem12(*(a_day(nmi=n, value="2", update=LATER) for n in nmis))))
    assert len(told(store, nmi=NMI)) == 1
    assert len(told(store, kind="final_revised")) == 2
    assert told(store, kind=["conflict", "chain_broken"]) == []
    at = store.reviews()["at"][0]
    assert len(told(store, since=at)) == 2
    assert told(store, since=at + timedelta(seconds=1)) == []
    assert store.reviews(limit=1).height == 1
    with pytest.raises(UsageError, match="no kind"):
        store.reviews(kind="odd")
    assert isinstance(store.reviews(), pl.DataFrame)
    assert set(kinds(store)) <= set(review.KINDS)
