"""What every engine of the store must answer alike: versions, roll-ups, coverage, as known on."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from nemflow.errors import NotFound, UsageError
from nemflow.pipeline import load, redo, undo

NMI = "SASMPL0001"
FIRST = date(2025, 3, 1)


def test_the_newer_update_time_wins_even_when_the_older_file_arrives_last(store, put, nem12, a_day):
    """Arrival order decides nothing."""
    new = nem12(a_day(value="2", update="20250303010000"), file_at="202503030430")
    load(store, put("new.csv", new))
    load(store, put("old.csv", nem12(a_day(value="1"))))
    assert set(store.readings(NMI)["value"]) == {Decimal(2)}
    states = store.versions(NMI, FIRST)["state"].to_list()
    assert states == ["current", "superseded"]


def test_without_update_time_the_files_date_time_stands_in(store, put, nem12, a_day):
    """A version that is derived says so."""
    load(store, put("a.csv", nem12(a_day(update=""), file_at="202503050000")))
    row = store.versions(NMI, FIRST).row(0, named=True)
    assert row["version_derived"]
    assert row["version_at"] == row["file_at"] == datetime(2025, 3, 5, tzinfo=row["file_at"].tzinfo)


def test_three_files_saying_x_y_x_end_at_x(store, put, nem12, a_day):
    """A content that stands already is claimed again, never skipped."""
    for number, value in enumerate(["1", "2", "1"], 1):
        text = nem12(a_day(value=value), file_at=f"2025030{number + 1}0430")
        summary = load(store, put(f"{number}.csv", text))
    assert summary.days.unchanged == 1
    assert set(store.readings(NMI)["value"]) == {Decimal(1)}


def test_undoing_the_first_delivery_keeps_a_day_that_a_later_one_repeated(store, put, nem12, a_day):
    """The second file's claim stands by itself, though it stored no content."""
    load(store, put("a.csv", nem12(a_day())))
    again = load(store, put("b.csv", nem12(a_day(), sender="MDPB")))
    assert (again.days.stored, again.days.unchanged) == (0, 1)
    undo(store, 1)
    assert set(store.readings(NMI)["value"]) == {Decimal(1)}


def test_a_30_minute_day_replaced_by_a_5_minute_day_is_whole(store, put, nem12, a_day):
    """The winner's whole day is the day: 288 intervals, none of the 48."""
    load(store, put("30.csv", nem12(a_day(value="6"))))
    five = a_day(value="1.5", minutes=5, update="20250305000000")
    load(store, put("5.csv", nem12(five, file_at="202503050430")))
    raw = store.readings(NMI)
    assert raw.height == 288
    assert set(raw["interval_minutes"]) == {5}
    assert raw["interval_end"].max() == raw["interval_start"].min() + timedelta(days=1)
    assert store.readings(NMI, resolution="day")["value"].to_list() == [Decimal("432.0")]


def test_mixed_interval_lengths_roll_up_together(store, put, nem12, a_day):
    """A month of 30-minute and 5-minute days has one total."""
    days = [a_day(value="1"), a_day(day="20250302", value="0.1", minutes=5)]
    load(store, put("a.csv", nem12(*days)))
    halves = store.readings(NMI, resolution="30min")
    assert halves.height == 96
    assert halves["value"].to_list() == [Decimal("1.0")] * 48 + [Decimal("0.6")] * 48
    hour = store.readings(NMI, resolution="hour")
    assert hour["intervals"].to_list() == [2] * 24 + [12] * 24


def test_energy_is_summed_and_everything_else_averaged(store, put, nem12, a_day):
    """Volts are never summed; both are exact decimals."""
    volts = ("230.1", "230.2", "230.3") * 16
    days = [a_day(value="0.1"), a_day(suffix="V1", uom="V", values=volts)]
    load(store, put("a.csv", nem12(*days)))
    rows = {row["suffix"]: row for row in store.readings(NMI, resolution="day").to_dicts()}
    assert (rows["E1"]["value"], rows["E1"]["how"]) == (Decimal("4.8"), "sum")
    assert (rows["V1"]["value"], rows["V1"]["how"]) == (Decimal("230.2"), "mean")
    assert store.readings(NMI, resolution="day").schema["value"] == pl.Decimal(38, 4)


def test_a_total_with_holes_says_so(store, put, nem12, a_day):
    """A missing day makes the month incomplete, its weakest quality N; the sum is what is there."""
    load(store, put("a.csv", nem12(a_day(), a_day(day="20250303"))))
    month = store.readings(NMI, resolution="month").row(0, named=True)
    assert month["value"] == Decimal(96)
    assert not month["complete"]
    assert month["missing"] == 29 * 48
    assert month["missing_share"] == pytest.approx(29 / 31)
    assert month["quality"] == "N"
    days = store.readings(NMI, resolution="day")
    assert days["value"].to_list() == [Decimal(48), None, Decimal(48)]
    assert days["complete"].to_list() == [True, False, True]
    asked = store.readings(NMI, FIRST, FIRST, resolution="month")
    assert asked["complete"].to_list() == [True]


def test_roll_ups_carry_the_weakest_quality_and_the_shares(store, put, nem12, a_day):
    """A day of actual, estimated and substituted stretches says how much is what."""
    events = ("400,1,24,A,,", "400,25,36,E52,,", "400,37,48,S14,76,")
    load(store, put("a.csv", nem12(a_day(quality="V", events=events))))
    row = store.readings(NMI, resolution="day").row(0, named=True)
    assert row["quality"] == "E"
    assert (row["estimated_share"], row["substituted_share"]) == (0.25, 0.25)
    raw = store.readings(NMI)
    assert raw["quality"].to_list() == ["A"] * 24 + ["E"] * 12 + ["S"] * 12
    assert raw["reason_code"][40] == 76
    assert raw["method"][30] == "52"


def test_only_asked_for_qualities_count(store, put, nem12, a_day):
    """With a quality filter the others are left out, and are holes in a roll-up."""
    events = ("400,1,24,A,,", "400,25,48,E52,,")
    load(store, put("a.csv", nem12(a_day(quality="V", events=events))))
    assert store.readings(NMI, quality="A").height == 24
    row = store.readings(NMI, quality="A", resolution="day").row(0, named=True)
    assert (row["value"], row["missing"], row["complete"]) == (Decimal(24), 24, False)


def test_values_beyond_64_bits_stay_exact(store, put, nem12, a_day):
    """The rare day that overflows is kept as decimals, digit for digit."""
    long = "123456789012345.1234567890123"
    values = (long, *("0.0000000000001",) * 47)
    load(store, put("a.csv", nem12(a_day(values=values))))
    raw = store.readings(NMI)
    assert raw["value"][0] == Decimal(long)
    total = store.readings(NMI, resolution="day")["value"][0]
    assert total == Decimal(long) + 47 * Decimal("0.0000000000001")


def test_a_tenth_summed_ten_times_is_one(store, put, nem12, a_day):
    """Sums are sums over integers: 48 times 0.1 is 4.8, not 4.799999999999999."""
    load(store, put("a.csv", nem12(a_day(value="0.1"))))
    assert store.readings(NMI, resolution="day")["value"][0] == Decimal("4.8")


def test_start_and_end_take_days_and_instants(store, put, nem12, a_day):
    """Days are included on both ends; instants cut inside a day."""
    load(store, put("a.csv", nem12(*(a_day(day=f"2025030{n}") for n in range(1, 5)))))
    days = store.readings(NMI, date(2025, 3, 2), date(2025, 3, 3))
    assert days["day"].unique().sort().to_list() == [date(2025, 3, 2), date(2025, 3, 3)]
    part = store.readings(NMI, datetime(2025, 3, 2, 12), datetime(2025, 3, 3))  # noqa: DTZ001
    assert part.height == 24
    utc = datetime(2025, 3, 2, 2, tzinfo=UTC)
    assert store.readings(NMI, utc, datetime(2025, 3, 3)).equals(part)  # noqa: DTZ001


def test_coverage_names_the_gaps(store, put, nem12, a_day):
    """Gaps come as ranges; missing days count at the length of the day before."""
    days = [a_day(day=f"202503{n:02}", minutes=5 if n > 5 else 30) for n in (1, 2, 5, 6, 9)]
    load(store, put("a.csv", nem12(*days)))
    row = store.coverage(NMI).row(0, named=True)
    assert (row["days_expected"], row["days_present"], row["days_missing"]) == (9, 5, 4)
    assert [(gap["start"].day, gap["end"].day) for gap in row["gaps"]] == [(3, 4), (7, 8)]
    assert row["intervals_missing"] == 2 * 48 + 2 * 288
    assert row["interval_minutes"] == [5, 30]
    asked = store.coverage(NMI, date(2025, 2, 27), date(2025, 3, 2)).row(0, named=True)
    assert (asked["days_expected"], asked["days_missing"]) == (4, 2)


def test_versions_stand_side_by_side_with_their_files(store, put, nem12, a_day):
    """Who said what when; the winner first, undone ones marked."""
    load(store, put("a.csv", nem12(a_day(), sender="MDPA")))
    newer = nem12(a_day(value="2", update="20250304000000"), sender="MDPB", file_at="202503040000")
    load(store, put("b.csv", newer))
    load(store, put("c.csv", nem12(a_day(value="3"), sender="MDPC", file_at="202503050000")))
    undo(store, 2)
    found = store.versions(NMI, FIRST)
    assert found["state"].to_list() == ["current", "superseded", "undone"]
    assert found["from_participant"].to_list() == ["MDPC", "MDPA", "MDPB"]
    assert found["total"].to_list() == [Decimal(144), Decimal(48), Decimal(96)]
    assert found["conflict"].to_list() == [True, True, False]
    assert found["values"][2].to_list() == [Decimal(2)] * 48


def test_as_known_on_never_changes_its_answer(store, put, nem12, a_day):
    """By number or by time, the past stays what it was: after corrections, undo and redo."""
    seen = {}

    def note():
        seen[store.seq_at()] = set(store.readings(NMI)["value"])

    load(store, put("a.csv", nem12(a_day())))
    note()
    moment = datetime.now(UTC)
    newer = nem12(a_day(value="2", update="20250304000000"), file_at="202503040000")
    load(store, put("b.csv", newer))
    note()
    undo(store, 2)
    note()
    redo(store, 2)
    note()
    assert list(seen) == [1, 2, 3, 4]
    assert [set(store.readings(NMI, as_known_on=seq)["value"]) for seq in seen] == list(
        seen.values()
    )
    assert set(store.readings(NMI, as_known_on=moment)["value"]) == {Decimal(1)}
    assert store.readings(NMI, as_known_on=0).is_empty()
    assert store.seq_at(moment) == 1


def test_an_unknown_nmi_is_told_from_one_without_data_in_the_range(store, put, nem12, a_day):
    """Nothing ever delivered is an error, nothing in March is an empty answer."""
    load(store, put("a.csv", nem12(a_day())))
    assert store.readings(NMI, date(2024, 1, 1), date(2024, 2, 1)).is_empty()
    with pytest.raises(NotFound, match="nemflow nmis"):
        store.readings("NOSUCHNMI0")
    with pytest.raises(NotFound, match="coverage"):
        store.versions(NMI, date(2024, 1, 1))
    with pytest.raises(UsageError, match="30min"):
        store.readings(NMI, resolution="year")


def test_answers_without_rows_keep_their_columns(store, put, nem12, a_day):
    """An empty answer has the columns and types of a full one."""
    load(store, put("a.csv", nem12(a_day())))
    for resolution in ("raw", "day"):
        full = store.readings(NMI, resolution=resolution)
        none = store.readings(NMI, date(2024, 1, 1), date(2024, 1, 2), resolution=resolution)
        assert none.columns == full.columns
        assert {k: v for k, v in none.schema.items() if k != "value"} == {
            k: v for k, v in full.schema.items() if k != "value"
        }
    assert store.coverage(NMI, date(2024, 1, 1), date(2024, 1, 2)).columns == (
        store.coverage(NMI).columns
    )


def test_nmis_lists_what_is_visible(store, put, nem12, nem13, a_day):
    """Streams and spans per NMI, interval data and register reads together."""
    assert store.nmis().is_empty()
    load(store, put("a.csv", nem12(a_day(), a_day(suffix="B1"), a_day(nmi="SASMPL0002"))))
    load(store, put("b.csv", nem13(PERIOD)))
    found = store.nmis()
    assert found["nmi"].to_list() == ["4001234567", NMI, "SASMPL0002"]
    assert found["suffixes"].to_list() == [[], ["B1", "E1"], ["E1"]]
    assert found["register_reads"].to_list() == [1, 0, 0]
    undo(store, 1)
    assert store.nmis()["nmi"].to_list() == ["4001234567"]


PERIOD = (
    "250,4001234567,11,1,11,11,METER2,E,000021.2,20250101000001,A,,,000534.5,20250201000001,"
    "E64,77,,343.5,kWh,20250401,20250202112500,"
)


def test_a_later_period_claim_replaces_the_estimate_with_the_same_start(store, put, nem13):
    """The start of a period is its key; reads stay text exactly as displayed."""
    load(store, put("a.csv", nem13(PERIOD)))
    actual = PERIOD.replace("000534.5,20250201000001,E64,77,", "000530.0,20250203101500,A,,")
    actual = actual.replace("343.5", "508.8").replace("20250202112500", "20250204000000")
    load(store, put("b.csv", nem13(actual, file_at="202502050000")))
    current = store.register_reads("4001234567")
    assert current["current_read"].to_list() == ["000530.0"]
    assert current["quantity"].to_list() == [Decimal("508.8")]
    assert current["previous_read"].to_list() == ["000021.2"]
    history = store.register_reads("4001234567", history=True)
    assert sorted(history["state"]) == ["current", "superseded"]
    undo(store, 2)
    assert store.register_reads("4001234567")["quantity"].to_list() == [Decimal("343.5")]


def test_a_newer_version_without_its_500_withdraws_it(store, put, nem12, a_day):
    """A service event is seen only while the day it came with is the current one."""
    read = "500,S,RETNSRVCEORD1,20250301103230,001123.5"
    load(store, put("a.csv", nem12(a_day(events=(read,)))))
    events = store.service_events(NMI)
    assert events["index_read"].to_list() == ["001123.5"]
    assert events["day"].to_list() == [FIRST]
    newer = nem12(a_day(value="2", update="20250304000000"), file_at="202503040000")
    load(store, put("b.csv", newer))
    assert store.service_events(NMI).is_empty()
    undo(store, 2)
    assert store.service_events(NMI).height == 1
