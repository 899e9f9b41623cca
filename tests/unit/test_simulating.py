"""Sample traffic: what is planned, when it is sent, and that no difference goes unseen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import polars as pl
import pytest

from nemflow.cli import simulating as command
from nemflow.errors import UsageError
from nemflow.mdff.reader import Parser
from nemflow.mdff.reader import Text as Source
from nemflow.simulating import run
from nemflow.simulating.judging import all_final, compared, expected_readings, judge_states
from nemflow.simulating.sending import Answer, FolderDoor, Pace, Sending, Sent
from nemflow.simulating.traffic import PARTLY, REFUSED, Mix, Text, Traffic

MIX = Mix(
    files=60, nmis=2, days=3, intervals=(30,), corrections=0.3, broken=0.2, duplicates=0.2,
    zipped=0.2, asexml=0.1, seed=7,
)  # fmt: skip


def read(text: bytes):
    """A text as the reader sees it."""
    return Parser().feed([Source("x", text)])


def test_the_same_mix_is_the_same_traffic_and_another_seed_another() -> None:
    """Plan and bytes repeat; another seed has other NMIs."""
    one, two = Traffic(MIX), Traffic(MIX)
    assert one.parcels == two.parcels
    assert [one.body(p) for p in one.parcels[:8]] == [two.body(p) for p in two.parcels[:8]]
    other = Traffic(replace(MIX, seed=8))
    assert not set(one.line(0).nmis) & set(other.line(0).nmis)


def test_every_kind_is_there_and_a_duplicate_is_byte_for_byte_under_another_name() -> None:
    """Zips, messages, corrections, mistakes, duplicates; no two parcels share a name."""
    traffic = Traffic(MIX)
    again = [p for p in traffic.parcels if p.again is not None]
    assert again
    for parcel in again[:4]:
        earlier = traffic.parcels[parcel.again]
        assert traffic.body(parcel) == traffic.body(earlier)
        assert parcel.name != earlier.name
    texts = [text for p in traffic.parcels if p.again is None for text in p.texts]
    assert len(set(texts)) == len(texts)
    assert {p.wrapping for p in traffic.parcels} == {"plain", "zip", "xml"}
    assert {text.state for text in texts} == {"loaded", "partly_loaded", "rejected"}
    assert any(text.version for text in texts)
    assert len({p.name for p in traffic.parcels}) == len(traffic.parcels)


def test_no_two_lines_hold_the_same_nmi_day() -> None:
    """Else the right answer would not be known."""
    traffic = Traffic(replace(MIX, files=300, intervals=(5, 15, 30)))
    lines = {text.line for p in traffic.parcels for text in p.texts}
    held = [
        (nmi, traffic.line(number).first_day + timedelta(days=day))
        for number in lines
        for nmi in traffic.line(number).nmis
        for day in range(traffic.mix.days)
    ]
    assert len(set(held)) == len(held)


@pytest.mark.parametrize("rule", [*PARTLY, *REFUSED])
def test_a_mistake_keeps_out_what_it_says_and_leaves_the_rest_as_it_is(rule) -> None:
    """Of PARTLY one record, of REFUSED everything; good days are the same with and without."""
    traffic = Traffic(MIX)
    told = read(traffic.text(Text(0, 1, rule)))
    if rule in REFUSED:
        assert told.accepted.days.is_empty()
        return
    assert not told.refused
    assert told.quarantine.height
    clean = read(traffic.text(Text(0, 1)))
    assert told.accepted.days.drop("source").equals(clean.days.drop("source"))


def test_a_later_version_has_the_same_days_and_never_older_stamps() -> None:
    """Some days newer and different, the others as they were."""
    traffic = Traffic(MIX)
    one, two = (read(traffic.text(Text(0, version))).days for version in (0, 1))
    same = ["nmi", "suffix", "day"]
    assert one.select(same).equals(two.select(same))
    newer = two["update_at"] > one["update_at"]
    assert newer.any()
    assert not newer.all()
    assert ((two["content_hash"] != one["content_hash"]) == newer).all()


@pytest.mark.parametrize(
    "wrong",
    [{"files": 0}, {"broken": 1.5}, {"intervals": (7,)}, {"days": 2000}, {"nmis": 999_999},
     {"zipped": 0.6, "asexml": 0.6}],
)  # fmt: skip
def test_a_mix_that_cannot_be_made_is_refused(wrong) -> None:
    """With what is wrong."""
    with pytest.raises(UsageError):
        Mix(**{"files": 100} | wrong)


# --- sending ----------------------------------------------------------------------------------


class Gate:
    """A door that refuses what it is told to refuse."""

    def __init__(self, answers: dict[int, list[Answer]]) -> None:
        self.answers, self.keys, self.taken = answers, {}, []

    def put(self, parcel, body, key) -> Answer:
        """The next answer for this parcel; then accepted."""
        assert body
        self.keys.setdefault(parcel.number, set()).add(key)
        if self.answers.get(parcel.number):
            return self.answers[parcel.number].pop(0)
        self.taken.append(parcel.number)
        return Answer(accepted=True, delivery=100 + parcel.number)


SMALL = Mix(files=4, nmis=1, days=1, intervals=(30,), duplicates=0)
BUSY = Answer(accepted=False, later=True, retry_after=0.01, status=503)


def test_what_is_refused_for_now_is_sent_again_under_the_same_key() -> None:
    """Counted by status; a missing Retry-After too; what is refused for good is not sent again."""
    no = Answer(accepted=False, status=413, why="too large")
    gate = Gate({1: [BUSY, BUSY], 2: [no], 3: [replace(BUSY, retry_after=None)]})
    sent = Sending(Traffic(SMALL), gate, Pace(per_second=1000, senders=3)).run()
    assert [row.outcome for row in sent] == ["accepted", "accepted", "refused", "accepted"]
    assert [row.refusals for row in sent] == [{}, {503: 2}, {413: 1}, {503: 1}]
    assert [row.bare for row in sent] == [0, 0, 0, 1]
    assert all(len(keys) == 1 for keys in gate.keys.values())
    assert sorted(gate.taken) == [0, 1, 3]


def test_without_retry_a_refusal_is_the_end_and_patience_ends_too() -> None:
    """The one is refused, the other not sent."""
    pace = Pace(per_second=1000, retry=False)
    assert Sending(Traffic(SMALL), Gate({0: [BUSY]}), pace).run()[0].outcome == "refused"
    pace = Pace(per_second=1000, patience=0)
    assert Sending(Traffic(SMALL), Gate({0: [BUSY]}), pace).run()[0].outcome == "not_sent"


def test_a_fault_of_a_sender_ends_the_run_with_that_fault() -> None:
    """Not with a silent gap in the traffic."""

    class Broken:
        def put(self, parcel, body, key):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Sending(Traffic(SMALL), Broken(), Pace(per_second=1000)).run()


def test_a_folder_gets_whole_files_and_no_part_remains(tmp_path) -> None:
    """Each under its own name."""
    traffic = Traffic(SMALL)
    Sending(traffic, FolderDoor(tmp_path), Pace(per_second=1000)).run()
    assert {path.name for path in tmp_path.iterdir()} == {p.name for p in traffic.parcels}
    assert (tmp_path / traffic.parcels[0].name).read_bytes() == traffic.body(traffic.parcels[0])


# --- judging ----------------------------------------------------------------------------------


def believed(traffic: Traffic) -> tuple[list[Sent], list[dict[str, object]]]:
    """What a service that is right would say."""
    sent, rows = [], []
    for parcel in traffic.parcels:
        number = 10 * parcel.number + 1000
        sent.append(Sent(parcel.number, "accepted", number))
        state = "duplicate" if parcel.again is not None else parcel.texts[0].state
        row = {"delivery": number, "parent": None, "name": parcel.name, "state": state}
        if parcel.wrapping == "zip" and parcel.again is None:
            row["state"] = "loaded"
            rows += [
                {"delivery": number + n, "parent": number, "name": f"{parcel.name}/{text.name}",
                 "state": text.state}
                for n, text in enumerate(parcel.texts, 1)
            ]  # fmt: skip
        rows.append(row)
    return sent, rows


def test_an_account_that_is_right_has_no_difference_and_balances() -> None:
    """Also when it is found by names alone, as from a folder."""
    traffic = Traffic(MIX)
    sent, rows = believed(traffic)
    verdict = judge_states(traffic, sent, rows)
    assert verdict.differences == []
    assert (
        sum(verdict.states.values()) == verdict.texts == sum(len(p.texts) for p in traffic.parcels)
    )
    assert all_final(traffic, sent, rows)
    by_name = [replace_delivery(each) for each in sent]
    assert judge_states(traffic, by_name, rows).differences == []


def replace_delivery(row: Sent) -> Sent:
    """The same without a number."""
    return replace(row, delivery=None)


@pytest.mark.parametrize("state", ["dead", "rejected", "queued", "duplicate", "gone"])
def test_one_wrong_state_among_all_is_named(state) -> None:
    """Whatever it is: dead, not final, said to be a duplicate of nothing, not there."""
    traffic = Traffic(MIX)
    sent, rows = believed(traffic)
    row = next(
        row for row in rows
        if row["parent"] is None and row["state"] == "loaded" and row["name"].endswith(".csv")
    )  # fmt: skip
    if state == "gone":
        rows.remove(row)
    row["state"] = state
    verdict = judge_states(traffic, sent, rows)
    assert row["name"] in {difference.where for difference in verdict.differences}
    assert all_final(traffic, sent, rows) is (state not in ("queued", "gone"))


def test_the_same_bytes_loaded_twice_are_a_difference() -> None:
    """Of copies all but one are duplicates."""
    traffic = Traffic(MIX)
    sent, rows = believed(traffic)
    copy = next(row for row in rows if row["state"] == "duplicate")
    copy["state"] = "loaded"
    assert judge_states(traffic, sent, rows).differences[0].where == copy["name"]


def test_what_was_refused_is_not_missed_but_is_counted_when_it_was_accepted_after_all() -> None:
    """The answer was lost, the upload was not."""
    traffic = Traffic(SMALL)
    sent, rows = believed(traffic)
    sent[0].outcome, sent[0].delivery = "not_sent", None
    assert judge_states(traffic, sent, rows).texts == 4
    assert judge_states(traffic, sent, rows[1:]).texts == 3


def of_service(expected: pl.DataFrame) -> list[pl.DataFrame]:
    """Readings as a service that is right gives them: by NMI, with more places."""
    wider = expected.cast({"value": pl.Decimal(38, 6)})
    return wider.partition_by("nmi")


def test_readings_that_are_right_do_not_differ_however_many_places_they_have() -> None:
    """0.250 is 0.25."""
    expected = expected_readings(Traffic(MIX).text(Text(0)))
    assert expected.height == 2 * 3 * 48
    assert compared(expected, of_service(expected)) == []
    assert compared(None, []) == []


@pytest.mark.parametrize(
    ("change", "days"),
    [
        (lambda f: f.with_row_index().with_columns(
            value=pl.when(pl.col("index") == 100).then(Decimal("9.9")).otherwise("value")
        ).drop("index"), 1),
        (lambda f: f.with_row_index().filter(pl.col("index") != 100).drop("index"), 1),
        (lambda f: pl.concat([f, f.tail(1)]), 1),
        (lambda f: f.filter(pl.col("interval_start").dt.day() != f["interval_start"][0].day), 2),
        (lambda f: f.with_columns(quality=pl.lit("N")), 6),
        (lambda f: f.with_columns(pl.col("version_at").dt.offset_by("1s")), 6),
        (lambda f: f.clear(), 6),
    ],
    ids=["value", "missing", "twice", "a day missing", "quality", "stamp", "all missing"],
)  # fmt: skip
def test_whatever_differs_in_readings_is_told_by_nmi_day(change, days) -> None:
    """One value among all is enough."""
    expected = expected_readings(Traffic(MIX).text(Text(0)))
    told = [change(frame) for frame in [pl.concat(of_service(expected))]]
    found = compared(expected, told)
    assert len(found) == days
    assert expected["nmi"][0][:6] in found[0].where


def test_readings_of_what_never_was_loaded_are_a_difference() -> None:
    """Nothing may stand, and something does."""
    expected = expected_readings(Traffic(MIX).text(Text(0)))
    assert len(compared(None, of_service(expected))) == 6


# --- the whole --------------------------------------------------------------------------------


def test_a_record_of_a_run_comes_back_the_same_and_another_file_is_refused() -> None:
    """For ``--again``."""
    found = run.Simulation(Traffic(SMALL), believed(Traffic(SMALL))[0], after=9)
    found.sent[1].refusals = {503: 2}
    again = run.Simulation.from_json(found.to_json())
    assert (again.sent, again.after, again.traffic) == (found.sent, 9, found.traffic)
    for wrong in ({}, [], {"mix": {}, "sent": [], "after": 0}):
        with pytest.raises(UsageError):
            run.Simulation.from_json(wrong)


def test_a_spread_is_of_nearest_ranks() -> None:
    """Of a hundred the 50th, the 95th and the last."""
    assert run.spread(list(map(float, range(1, 101)))) == {"p50": 50.0, "p95": 95.0, "max": 100.0}
    assert run.spread([]) is None


@pytest.mark.parametrize(("text", "rate"), [("20/min", 1 / 3), ("5/s", 5), ("36 / h", 0.01)])
def test_rates_shares_and_times_are_read_as_written(text, rate) -> None:
    """And refused when they are none."""
    assert command._rate(text) == pytest.approx(rate)
    assert command._share("10%", "--x") == command._share("0.1", "--x") == pytest.approx(0.1)
    assert command._seconds("5m", "--for") == 300
    for read_it, wrong in (
        (command._rate, ("20",)),
        (command._rate, ("0/s",)),
        (command._share, ("120%", "--x")),
        (command._seconds, ("5d", "--x")),
    ):
        with pytest.raises(UsageError):
            read_it(*wrong)


def test_a_burst_is_due_at_one_moment_at_the_same_rate() -> None:
    """Three every five seconds are 36 a minute."""
    pace = Pace(per_second=0.6, burst=3)
    assert [pace.due(number) for number in range(7)] == pytest.approx([0, 0, 0, 5, 5, 5, 10])
