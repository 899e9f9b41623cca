"""Leafing: NMIs by the page, days of local time, the quarantine and the audit narrowed down."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import polars as pl
import pytest

import nemflow
from nemflow import pipeline
from nemflow.errors import UsageError

NMI = "4102000001"
SYDNEY = "Australia/Sydney"


@pytest.fixture
def two_changes(store, put):
    """Days around both changes of clocks of 2024, two streams."""
    for name, start, days in (("april", date(2024, 4, 6), 3), ("october", date(2024, 10, 5), 3)):
        text = nemflow.generate(nmis=[NMI], days=days, start=start, streams=("E1", "B1"), seed=4)
        pipeline.load(store, [put(f"{name}.csv", text)])
    return store


def test_pages_of_nmis_meet_each_once_with_its_streams(store, put) -> None:
    """In order; a beginning narrows down; what was undone is listed without streams."""
    pipeline.load(store, [put("five.csv", nemflow.generate(nmis=5, days=2))])
    pipeline.load(store, [put("reads.csv", nemflow.generate(nmis=["3100000003"], kind="NEM13"))])
    pipeline.load(store, [put("gone.csv", nemflow.generate(nmis=["4102000001"], days=1))])
    pipeline.undo(store, 3)
    seen, after = [], ""
    while True:
        page, streams = store.nmis_from(after=after, limit=2)
        if not page:
            break
        seen += page
        after = page[-1]
        assert set(streams["nmi"]) <= set(page)
    known = [f"SASMPL{n:04}" for n in range(1, 6)]
    assert seen == ["3100000003", "4102000001", *known]
    page, streams = store.nmis_from("SASMPL0003")
    assert page == ["SASMPL0003"]
    assert streams.select("suffix", "days").rows() == [("B1", 2), ("E1", 2)]
    assert store.nmis_from("SASMPL", after="SASMPL0004")[0] == ["SASMPL0005"]
    assert store.nmis_from("X")[0] == []
    assert store.streams("4102000001").is_empty()


def test_days_of_local_time_have_23_24_and_25_hours_and_lose_no_energy(store, two_changes) -> None:
    """Half hours of each day, whole sums, and edges that say what is missing."""
    april = store.local_days(NMI, SYDNEY, date(2024, 4, 6), date(2024, 4, 9), suffix="E1")
    days = [start.date() for start in april["interval_start"]]
    assert days == [date(2024, 4, n) for n in (6, 7, 8)]
    assert april["intervals"].to_list() == [48, 50, 48]
    assert april["missing"].to_list() == [2, 0, 0]  # market midnight is one o'clock there
    october = store.local_days(NMI, SYDNEY, date(2024, 10, 5), date(2024, 10, 31), suffix="E1")
    assert october["intervals"].to_list() == [48, 46, 48, 48]
    assert october["missing"].to_list() == [0, 0, 0, 46]  # the last hour of the last market day
    for local, first in ((april, date(2024, 4, 6)), (october, date(2024, 10, 5))):
        market = store.readings(
            NMI, first, date(first.year, first.month, first.day + 2), suffix="E1"
        )
        assert local["value"].sum() == market["value"].sum() > Decimal(0)


def test_a_gap_of_local_days_is_missing_and_never_zero(store, two_changes) -> None:
    """Between the spans: days with all intervals missing and no value."""
    whole = store.local_days(NMI, SYDNEY, date(2024, 1, 1), date(2024, 12, 31), suffix="B1")
    gap = whole.filter(pl.col("missing") == pl.col("intervals"))
    assert gap.height == 179
    assert gap["value"].null_count() == gap.height
    with pytest.raises(UsageError, match="no time zone"):
        store.local_days(NMI, "Mars/Olympus", date(2024, 1, 1), date(2024, 1, 2))


def test_local_days_where_no_clock_changes_are_those_of_the_market(store, two_changes) -> None:
    """Brisbane is market time: the same rows as the roll-up."""
    asked = NMI, date(2024, 4, 1), date(2024, 10, 31)
    local = store.local_days(asked[0], "Australia/Brisbane", *asked[1:])
    market = store.readings(*asked, resolution="day")
    names = ["suffix", "value", "quality", "intervals", "missing"]
    assert local.select(names).equals(market.select(names))


def test_the_quarantine_is_narrowed_down_by_rule_nmi_and_page(store, put) -> None:
    """Counts by rule are those of the records; pages meet each record once."""
    broken = nemflow.generate(nmis=2, days=3, seed=3, break_it=["I004", "I001"])
    pipeline.load(store, [put("broken.csv", broken)])
    every = store.quarantine()
    counted = store.quarantine_rules()
    listed = [rule for rules in every["rules"] for rule in set(rules)]
    assert counted == {rule: listed.count(rule) for rule in listed}
    assert {"I001", "I004"} <= counted.keys()
    for rule in counted:
        assert all(rule in rules for rules in store.quarantine(rule=rule)["rules"])
        assert store.quarantine(rule=rule).height == counted[rule]
    assert store.quarantine(rule="I00").is_empty()
    nmi = every["nmi"].drop_nulls()[0]
    assert set(store.quarantine(nmi=nmi)["nmi"]) == {nmi}
    first = store.quarantine(limit=1)
    rest = store.quarantine(after=first["quarantine"][0])
    assert pl.concat([first, rest]).equals(every)


def test_the_audit_is_listed_newest_first_and_narrowed_down(store, put) -> None:
    """Who, act and page."""
    pipeline.load(store, [put("one.csv", nemflow.generate(days=1))])
    pipeline.undo(store, 1, by="ada")
    pipeline.redo(store, 1, by="bob")
    store.make_key("nightly", ["read"], by="ada")
    rows = store.audit()
    assert rows["act"].to_list() == ["key made", "redo", "undo"]
    assert isinstance(rows["at"][0], datetime)
    assert store.audit(who="ada")["act"].to_list() == ["key made", "undo"]
    assert store.audit(act="redo")["who"].to_list() == ["bob"]
    assert store.audit(before=rows["audit"][1])["act"].to_list() == ["undo"]
    assert store.audit(limit=1).height == 1
