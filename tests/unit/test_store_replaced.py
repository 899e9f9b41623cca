"""A delivery's days beside those that stood before."""

from __future__ import annotations

from decimal import Decimal

import pytest

from nemflow import pipeline
from nemflow.errors import NotFound


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
