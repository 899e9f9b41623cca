"""Lists in pages, one delivery, and commits: what the service asks beside the command line."""

from __future__ import annotations

import pytest

from nemflow import pipeline
from nemflow.errors import NotFound


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
