"""What the console looks at: traffic by hour, pace by minute, what a delivery has replaced."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import polars as pl
import pytest

from nemflow import pipeline
from nemflow.errors import NotFound


def test_traffic_counts_every_delivery_of_the_time_once_and_by_its_state(
    store, put, nem12, a_day
) -> None:
    """Files by hour and state add up to the list; what is older is left out."""
    for number in range(3):
        pipeline.load(store, [put(f"{number}.csv", nem12(a_day(value=str(number))))])
    pipeline.load(store, [put("again.csv", nem12(a_day(value="0")))])
    pipeline.load(store, [put("broken.csv", b"100,NEM12\n")])
    told = store.traffic(24)
    listed = store.deliveries(limit=None, whole=True)
    by_state = dict(told.group_by("state").agg(pl.col("files").sum()).iter_rows())
    assert by_state == dict(listed["state"].value_counts().cast({"count": pl.Int64}).iter_rows())
    assert by_state["duplicate"] == 1
    assert sum(by_state.values()) == 5
    at = listed["received_at"][0].strftime("%Y-%m-%dT%H")
    assert at in told["at"].to_list()
    assert store.traffic(0).is_empty()


def test_pace_tells_days_and_readings_by_minute(store, put, nem12, a_day) -> None:
    """Two days of half hours are 96 readings."""
    for number in (1, 2):
        pipeline.load(store, [put(f"{number}.csv", nem12(a_day(day=f"2025030{number}")))])
    told = store.pace(60)
    assert told.select(pl.col("files", "days", "readings").sum()).row(0) == (2, 2, 96)
    assert all(len(at) == len("2025-03-05T14:31") for at in told["at"])
    assert store.pace(0).is_empty()


def test_a_delivery_is_shown_beside_what_it_replaced(store, put, nem12, a_day) -> None:
    """The first is new, a newer one changes it, the same again is the same, an older one loses."""
    days = {
        "first": a_day(value="1", update="20250302010000"),
        "newer": a_day(value="2", update="20250303010000"),
        "older": a_day(value="3", update="20250301010000"),
        "same": a_day(value="2", update="20250304010000"),
    }
    for name, day in days.items():
        pipeline.load(store, [put(f"{name}.csv", nem12(day))])
    numbers = dict(store.deliveries().select("name", "delivery").iter_rows())
    told = {}
    for name in days:
        (number,) = (n for full, n in numbers.items() if full.endswith(f"{name}.csv"))
        told[name] = store.replaced(number).row(0, named=True)
    assert [told[name]["change"] for name in days] == ["new", "changed", "older", "same"]
    assert told["first"]["before_total"] is None
    assert told["newer"]["before_total"] == Decimal(48)
    assert told["newer"]["total"] == Decimal(96)
    assert told["newer"]["before_source"].endswith("first.csv")
    assert told["older"]["before_source"].endswith("newer.csv")
    assert [told[name]["current"] for name in days] == [False, False, False, True]
    with pytest.raises(NotFound):
        store.replaced(99)


def test_deliveries_are_found_by_text_lane_and_time(store, put, nem12, a_day) -> None:
    """Any case, a per cent sign is one, a number is a number; a time without offset is ours."""
    pipeline.load(store, [put("Alpha%1.csv", nem12(a_day(value="1")))])
    pipeline.load(store, [put("beta.csv", nem12(a_day(value="2")))])
    at = store.deliveries()["received_at"][0]

    def names(**asked: object) -> list[str]:
        return [name.rpartition("/")[2] for name in store.deliveries(**asked)["name"]]

    assert names(text="ALPHA") == names(text="%1") == ["Alpha%1.csv"]
    assert "beta.csv" in names(text="2")
    assert names(text=store.deliveries(text="beta")["sha256"][0]) == ["beta.csv"]
    assert names(lane="bulk") == []
    assert len(names(lane="normal")) == 2
    assert len(names(since=at - timedelta(minutes=5), until=at + timedelta(minutes=5))) == 2
    assert names(since=at + timedelta(seconds=1)) == []
