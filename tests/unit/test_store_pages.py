"""Lists in pages, one delivery, and commits: what the service asks beside the command line."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime, timedelta

import polars as pl
import pytest

from nemflow import pipeline
from nemflow.errors import NotFound
from nemflow.store import history
from nemflow.store.tables import MARKET_OFFSET


@pytest.fixture
def five(store, put, nem12, a_day):
    """A store with five deliveries, numbered 1 to 5."""
    for number in range(5):
        day = a_day(value=str(number), update=f"2025030201000{number}")
        pipeline.load(store, [put(f"{number}.csv", nem12(day))])
    return store


@pytest.mark.parametrize("kind", ["deliveries", "files"])
def test_pages_of_two_meet_every_row_once(store, five, kind) -> None:
    """Newest first; ``before`` the last row's number goes on behind it."""
    column = {"deliveries": "delivery", "files": "file"}[kind]
    ask = getattr(store, kind)
    seen, before = [], None
    while (page := ask(limit=2, before=before)).height:
        seen += page[column].to_list()
        before = seen[-1]
    assert seen == ask(limit=None)[column].to_list() == sorted(seen, reverse=True)
    assert len(seen) == 5


def test_one_delivery_is_its_row_of_the_list_and_how_its_work_stands(store, five) -> None:
    """The same columns, and lane and attempts."""
    one = store.delivery(3)
    listed = store.deliveries(before=4, limit=1)
    assert one.select(listed.columns).equals(listed)
    assert one["lane"].item() == "normal"
    with pytest.raises(NotFound):
        store.delivery(99)


def test_commits_are_told_once_in_order_also_those_taken_back(store, five) -> None:
    """Page by page, each commit with all its loads."""
    pipeline.undo(store, 2)
    seen, since = [], 0
    while (page := store.commits(since, limit=2)).height:
        seen += page.rows()
        since = page["seq"][-1]
    assert seen == store.commits().rows()
    events = store.commits()
    assert events["seq"].is_sorted()
    assert events["event"].to_list() == ["published"] * 5 + ["undone"]
    assert events["delivery"].to_list() == [1, 2, 3, 4, 5, 2]
    assert events["days"].to_list() == [1] * 6


def test_what_people_look_for_is_found_by_any_of_its_marks(store, five) -> None:
    """Part of the name, the number, the beginning of the hash, state, time; archives only."""
    sha256 = store.delivery(3)["sha256"].item()
    assert store.search(words="3.CSV")["delivery"].to_list() == [4]
    named = store.deliveries().select("delivery", "name").rows()  # whole paths, by chance with a 3
    like_3 = [number for number, name in named if "3" in name or number == 3]
    assert store.search(words="3")["delivery"].to_list() == like_3
    assert {3, 4} <= set(like_3)
    assert store.search(words=sha256[:10])["delivery"].to_list() == [3]
    assert store.search(words="mdpa")["delivery"].to_list() == [5, 4, 3, 2, 1]
    assert store.search(words="100%_")["delivery"].to_list() == []
    assert store.search("rejected").is_empty()
    assert store.search("loaded", channel="cli", lane="normal", limit=2).height == 2
    assert store.search(before=3, limit=9)["delivery"].to_list() == [2, 1]
    now = datetime.now(MARKET_OFFSET)
    assert store.search(since=now - timedelta(hours=1), until=now + timedelta(hours=1)).height == 5
    assert store.search(until=now - timedelta(hours=1)).is_empty()
    assert (
        store.search(limit=1).select(store.deliveries().columns).equals(store.deliveries(limit=1))
    )


def test_an_archive_counts_what_is_inside_it(store, five, put, nem12, a_day) -> None:
    """In the list; others count as before."""
    before = store.search()
    texts = {f"{n}.csv": nem12(a_day(value="9", update=f"2025040201000{n}")) for n in range(2)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    pipeline.load(store, [put("two.zip", packed.getvalue())])
    found = store.search()
    assert found.row(0, named=True)["members"] == 2
    inside = store.deliveries(parent=found["delivery"][0])
    assert found["days_read"][0] == inside["days_read"].sum() == 2
    assert found[1:].equals(before)


def test_states_over_time_add_up_to_all_that_arrived(store, five) -> None:
    """Each arrival is in one place of one state."""
    pipeline.undo(store, 2)
    assert store.states() == {"loaded": 4, "undone": 1}
    since = datetime.now(MARKET_OFFSET) - timedelta(hours=1)
    rows = store.states_by_time(since, 900)
    assert dict(rows.group_by("state").agg(pl.col("files").sum()).rows()) == store.states()
    assert set(rows["place"]) <= {3, 4}
    assert store.states_by_time(since + timedelta(hours=2), 900).is_empty()


def test_readings_are_counted_as_they_were_published(store, five) -> None:
    """48 of a half-hourly day; what undo did is no reading; what is not new is none."""
    pipeline.undo(store, 2)
    since = datetime.now(MARKET_OFFSET) - timedelta(hours=1)
    rows = store.published_readings(since)
    assert rows["readings"].to_list() == [48] * 5
    assert rows["at"].is_sorted()
    assert store.published_readings(since + timedelta(hours=2)).is_empty()


def test_many_arrivals_are_not_looked_through_for_the_latest(store, five, monkeypatch) -> None:
    """The search by halving finds the same as reading everything."""
    monkeypatch.setattr(history, "_OVERLAP", 1)
    at = store.deliveries()["received_at"].sort().to_list()
    for place, since in enumerate(at):
        assert store.states_by_time(since, 900)["files"].sum() == 5 - place
