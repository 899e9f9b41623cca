"""What generated files promise, judged by their text alone."""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from datetime import UTC, date, datetime
from itertools import pairwise

import pytest

from nemflow.errors import UsageError
from nemflow.mdff.generate import (
    BREAKABLE,
    UNBREAKABLE,
    file_name,
    generate,
    generate_message,
    sample_nmis,
)
from nemflow.mdff.rules import RULES

FIELDS = {"100": 5, "200": 10, "400": 6, "500": 5, "250": 23, "550": 5, "900": 1}
#: What may stand before each record of a well-formed file.
BEFORE = {
    "200": {"100", "300", "400", "500"},
    "300": {"200", "300", "400", "500"},
    "400": {"300", "400"},
    "500": {"300", "400", "500"},
    "250": {"100", "250", "550"},
    "550": {"250", "550"},
    "900": {"300", "400", "500", "250", "550"},
}
SHORTEST = re.compile(r"(0|[1-9]\d*)(\.\d*[1-9])?")


def records(text: bytes) -> list[list[str]]:
    """Cut a file into its records' fields, insisting on ASCII and CRLF."""
    lines = text.decode("ascii").split("\r\n")
    assert lines[-1] == "", "the last record ends in CRLF too"
    assert "\n" not in "".join(lines)
    return [line.split(",") for line in lines[:-1]]


def days_of(text: bytes) -> dict[tuple[str, str, str], list[int]]:
    """Give each day's values in thousandths by (NMI, suffix, date)."""
    found, head = {}, []
    for fields in records(text):
        if fields[0] == "200":
            head = fields
        elif fields[0] == "300":
            values = fields[2:-5]
            found[head[1], head[4], fields[1]] = [round(float(value) * 1000) for value in values]
    return found


def lines_300(text: bytes) -> list[str]:
    """Give the 300 records as they stand."""
    return [",".join(fields) for fields in records(text) if fields[0] == "300"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"interval": 5, "days": 2},
        {"interval": 15, "streams": ("E1",), "decimals": 0},
        {"nmis": 4, "interval": (5, 15, 30), "estimated": 0.4, "substituted": 0.4},
        {"streams": ("E1", "B1", "E2", "Q1", "K1", "T1", "G1", "V1"), "decimals": 4},
        {"service_orders": True, "estimated": 1.0, "days": 30},
        {"kind": "NEM13", "days": 800, "streams": ("11", "41"), "substituted": 0.5},
        {"kind": "NEM13", "nmis": 30, "service_orders": True},
    ],
)
def test_every_record_has_the_layouts_fields_in_the_layouts_order(options: dict[str, object]):
    """Field counts and the order of records are those of the format, numbers are shortest."""
    before, length = "", 0
    for fields in records(generate(**options)):
        kind = fields[0]
        if kind == "200":
            length = int(fields[8])
        if kind == "300":
            assert len(fields) == 7 + 1440 // length
            assert all(SHORTEST.fullmatch(value) for value in fields[2:-5])
        else:
            assert len(fields) == FIELDS[kind]
        assert (kind == "100") if not before else (before in BEFORE[kind])
        before = kind
    assert before == "900"


def test_the_same_arguments_give_the_same_bytes_on_every_machine():
    """A fixed digest: it changes only when the generator is changed on purpose."""
    text = generate(nmis=2, days=3, interval=(5, 30), estimated=0.3, substituted=0.3, seed=7)
    registers = generate(kind="NEM13", days=365, substituted=0.5, service_orders=True)
    assert hashlib.sha256(text).hexdigest()[:16] == "be0625df53326dd5"
    assert hashlib.sha256(registers).hexdigest()[:16] == "488347c29b402ca1"


def test_another_seed_gives_other_values():
    """The seed decides the values."""
    assert lines_300(generate(seed=1)) != lines_300(generate(seed=2))


def test_a_day_does_not_depend_on_what_is_generated_with_it():
    """Daily files of three meters hold the same days as one file of the whole week."""
    week = days_of(generate(nmis=3, days=7, start=date(2025, 3, 3)))
    for offset in range(7):
        start = date(2025, 3, 3 + offset)
        day = days_of(generate(nmis=3, days=1, start=start))
        assert day == {key: week[key] for key in day}
    assert len(week) == 3 * 2 * 7


def test_sun_shines_by_day_and_more_in_summer():
    """Feed-in is nothing at night and larger in January than in June."""
    january = days_of(generate(nmis=20, days=28, start=date(2025, 1, 1), streams=("B1",)))
    june = days_of(generate(nmis=20, days=28, start=date(2025, 6, 1), streams=("B1",)))
    for day in (*january.values(), *june.values()):
        assert sum(day[:8]) == 0
        assert sum(day[42:]) == 0
    assert sum(map(sum, january.values())) > 1.5 * sum(map(sum, june.values()))


def test_a_household_peaks_in_the_morning_and_in_the_evening():
    """On working days 7 to 8 and 18 to 20 o'clock lie well above 3 to 4 o'clock."""
    days = days_of(generate(nmis=40, days=5, start=date(2025, 5, 5), streams=("E1",))).values()
    night = sum(day[6] + day[7] for day in days)
    morning = sum(day[14] + day[15] for day in days)
    evening = sum(day[37] + day[38] for day in days)
    assert morning > 2 * night
    assert evening > 3 * night


def test_weekend_mornings_start_later():
    """The morning peak of a Saturday comes after that of a Friday."""
    friday = days_of(generate(nmis=60, days=1, start=date(2025, 5, 9), streams=("E1",)))
    saturday = days_of(generate(nmis=60, days=1, start=date(2025, 5, 10), streams=("E1",)))

    def early_share(days: dict[tuple[str, str, str], list[int]]) -> float:
        early = sum(sum(day[12:17]) for day in days.values())
        return early / sum(sum(day[17:22]) for day in days.values())

    assert early_share(friday) > 1.5 * early_share(saturday)


def test_controlled_load_runs_at_night():
    """E2 is a heater that is on in the night and off from 7 to 22 o'clock."""
    days = days_of(generate(nmis=10, days=10, streams=("E2",))).values()
    assert all(sum(day) > 3000 for day in days)
    assert all(sum(day[16:44]) == 0 for day in days)


def test_a_site_never_takes_and_gives_in_the_same_interval():
    """Where E1 and B1 are measured, own use comes first: one of the two is nothing."""
    days = days_of(generate(nmis=5, days=20, interval=5))
    for nmi, suffix, day in days:
        if suffix == "E1":
            pairs = zip(days[nmi, "E1", day], days[nmi, "B1", day], strict=True)
            assert all(taken == 0 or given == 0 for taken, given in pairs)


@pytest.mark.parametrize("interval", [5, 15, 30])
def test_estimated_and_substituted_stretches_are_covered_by_400s(interval: int):
    """V days, and only they, have 400s: from 1 to N, no gap, with reasons where they must be."""
    text = generate(nmis=20, days=20, interval=interval, estimated=0.3, substituted=0.2)
    days: list[tuple[str, list[list[str]]]] = []
    for fields in records(text):
        if fields[0] == "300":
            days.append((fields[-5], []))
        elif fields[0] == "400":
            days[-1][1].append(fields)
    flags = []
    for quality, spans in days:
        assert quality == ("V" if spans else "A")
        if spans:
            starts = [int(span[1]) for span in spans]
            ends = [int(span[2]) for span in spans]
            assert starts == [1, *(end + 1 for end in ends[:-1])]
            assert ends[-1] == 1440 // interval
            assert [span[3] for span in spans[::2]] == ["A", "A"]
            flags.append(spans[1][3][0])
            assert spans[1][4] or flags[-1] == "E"
            assert spans[1][5] if spans[1][4] == "0" else not spans[1][5]
    assert 0.25 < flags.count("E") / len(days) < 0.35
    assert 0.15 < sum(flag in "SF" for flag in flags) / len(days) < 0.25


def test_stamps_are_in_order():
    """UpdateDateTime after the day, before the file; MSATSLoadDateTime after the update."""
    rows = records(generate(nmis=3, days=10))
    file_at = rows[0][2] + "00"
    for fields in rows:
        if fields[0] == "300":
            assert fields[1] + "240000" < fields[-2] <= file_at
            assert fields[-2] < fields[-1] <= file_at


def test_stamps_can_be_given_in_any_zone():
    """A time with a zone is turned into market time, UTC+10."""
    rows = records(
        generate(
            file_at=datetime(2025, 4, 1, 20, 30, tzinfo=UTC),
            update_at=datetime(2025, 4, 2, 1, 2, 3),  # noqa: DTZ001 - market time
            from_participant="GIVER",
            to_participant="TAKER",
        )
    )
    assert rows[0] == ["100", "NEM12", "202504020630", "GIVER", "TAKER"]
    assert {fields[-2] for fields in rows if fields[0] == "300"} == {"20250402010203"}


def test_service_orders_stand_on_active_channels():
    """500 records name a read on their day; the last day has one for each active channel."""
    rows = records(generate(days=20, streams=("E1", "B1", "Q1"), service_orders=True))
    streams, day = [], ""
    for fields in rows:
        if fields[0] == "200":
            suffix = fields[4]
        elif fields[0] == "300":
            day = fields[1]
        elif fields[0] == "500":
            streams.append(suffix)
            assert fields[1] in "SN"
            assert bool(fields[2]) == (fields[1] == "S")
            assert len(fields[2]) <= 15
            assert re.fullmatch(day + r"\d{6}", fields[3])
            assert re.fullmatch(r"\d+\.\d", fields[4])
    assert {"E1", "B1"} == set(streams)


def test_register_reads_follow_each_other_and_end_in_an_estimate():
    """NEM13: each period starts where the last one ended, and Quantity is the difference."""
    rows = records(generate(kind="NEM13", nmis=5, days=800, streams=("11", "41"), substituted=0.5))
    registers: dict[tuple[str, str], list[list[str]]] = {}
    for fields in rows:
        if fields[0] == "250":
            registers.setdefault((fields[1], fields[4]), []).append(fields)
    assert len(registers) == 10
    for periods in registers.values():
        assert len(periods) == 10  # 9 quarters and the estimate
        for earlier, later in pairwise(periods):
            assert later[8:13] == earlier[13:18]
        for fields in periods:
            assert int(fields[18]) == int(fields[13]) - int(fields[8]) >= 0
            assert fields[9] < fields[14]
            assert fields[10][0] in "ASF"
        assert [fields[15][0] for fields in periods].count("E") == 1
        assert periods[-1][15] == "E65"
        assert periods[-1][14] == periods[-1][20] + "000000"
    qualities = [fields[15][0] for periods in registers.values() for fields in periods[:-1]]
    assert {"S", "A"} <= set(qualities)


def test_sample_nmis_are_many_and_all_different():
    """More than ten thousand can be had; all have ten allowed characters."""
    nmis = sample_nmis(20_000)
    assert nmis[0] == "SASMPL0001"
    assert len(set(nmis)) == 20_000
    assert all(re.fullmatch(r"SASMPL[0-9A-HJ-NP-Z]{4}", nmi) for nmi in nmis)
    assert {fields[1] for fields in records(generate(nmis=["QAAAVZZZZZ"]))[1:2]} == {"QAAAVZZZZZ"}


@pytest.mark.parametrize(
    "options",
    [
        {"nmis": 0},
        {"nmis": 2_000_000},
        {"nmis": ["short"]},
        {"nmis": ["SASMPL0001", "SASMPL0001"]},
        {"nmis": []},
        {"days": 0},
        {"start": date(9990, 1, 1), "days": 4000},
        {"interval": 10},
        {"interval": ()},
        {"streams": ("I1",)},
        {"streams": ("11",)},
        {"streams": ()},
        {"streams": ("E1", "E1")},
        {"kind": "NEM13", "streams": ("E1",)},
        {"kind": "NEM14"},
        {"estimated": -0.1},
        {"estimated": 0.6, "substituted": 0.6},
        {"decimals": 5},
        {"from_participant": "A,B"},
        {"break_it": ["X999"]},
        {"break_it": ["A001"]},
        {"break_it": ["I001"], "kind": "NEM13"},
        {"break_it": ["F019"]},
    ],
)
def test_what_cannot_be_generated_is_a_usage_error(options: dict[str, object]):
    """Wrong arguments are refused in a sentence, before anything is made."""
    with pytest.raises(UsageError):
        generate(**options)


# --- broken files ------------------------------------------------------------------------------


def test_every_rule_can_be_broken_or_says_why_not():
    """The two tables cover the catalogue, with nothing left over and nothing in both."""
    assert set(BREAKABLE) | set(UNBREAKABLE) == set(RULES)
    assert not set(BREAKABLE) & set(UNBREAKABLE)
    assert all(BREAKABLE.values())


#: Rules that change the whole file instead of adding records.
WHOLE_FILE = {"F001", "F002", "F003", "F006", "F007", "F011", "F014", "F018"}


@pytest.mark.parametrize("kind", ["NEM12", "NEM13"])
def test_breaking_rules_leaves_the_other_records_as_they_were(kind: str):
    """All record rules at once only add lines before the 900."""
    rules = [rule for rule, kinds in BREAKABLE.items() if kind in kinds and rule not in WHOLE_FILE]
    right = generate(kind=kind, nmis=2).decode().split("\r\n")
    wrong = generate(kind=kind, nmis=2, break_it=rules).decode().split("\r\n")
    if kind == "NEM13":
        assert wrong.pop(1).startswith("550")  # F010 stands before the first 250
    assert wrong[: len(right) - 2] == right[:-2]
    assert wrong[-2:] == right[-2:]
    added = "".join(wrong[len(right) - 2 : -2])
    assert "SASMPL0001" not in added
    assert "SASMPL0002" not in added


@pytest.mark.parametrize("rule", sorted(WHOLE_FILE))
def test_rules_of_the_whole_file_change_the_file(rule: str):
    """Each of them gives another text, of either kind."""
    for kind in BREAKABLE[rule]:
        assert generate(kind=kind, break_it=[rule]) != generate(kind=kind)


# --- messages ----------------------------------------------------------------------------------


def test_a_message_carries_the_text_and_its_ids():
    """The aseXML message is well-formed and says who sends what to whom."""
    text = generate(days=1)
    registers = generate(kind="NEM13")
    message = generate_message([text, registers], record_count=True, transaction_ids=["T-1", "T-2"])
    assert generate_message(text) == generate_message(text)
    root = ET.fromstring(message)  # noqa: S314 - our own text
    assert root.tag == "{urn:aseXML:r43}aseXML"
    assert root.findtext("Header/From") == "MDPEXMPL"
    assert root.findtext("Header/To") == "RETEXMPL"
    assert root.findtext("Header/TransactionGroup") == "MTRD"
    assert root.findtext("Header/MessageDate") == "2025-04-01T04:30:00.000+10:00"
    assert 1 <= len(root.findtext("Header/MessageID") or "") <= 36
    both = root.findall("Transactions/Transaction")
    assert [each.get("transactionID") for each in both] == ["T-1", "T-2"]
    payload = both[0].findtext("MeterDataNotification/CSVIntervalData") or ""
    assert payload.replace("\n", "\r\n").encode() == text
    assert both[0].findtext("MeterDataNotification/RecordCount") == str(text.count(b"\n"))
    other = both[1].findtext("MeterDataNotification/CSVConsumptionData") or ""
    assert other.replace("\n", "\r\n").encode() == registers


def test_a_message_can_disagree_with_its_payload():
    """F020 and F008 need an envelope to be broken."""
    text = generate(days=1)
    root = ET.fromstring(generate_message(text, break_it=["F020", "F008"]))  # noqa: S314
    assert root.findtext(".//RecordCount") == str(text.count(b"\n") + 1)
    assert root.findtext("Header/To") == "OTHERRET"


def test_messages_and_names_need_a_header():
    """What does not begin with a 100 record can be neither wrapped nor named."""
    for call in (generate_message, file_name):
        with pytest.raises(UsageError):
            call(b"200,SASMPL0001")
    with pytest.raises(UsageError):
        generate_message(generate(), break_it=["I001"])
    with pytest.raises(UsageError):
        generate_message(generate(), transaction_ids=[])
    with pytest.raises(UsageError):
        generate_message([])
    with pytest.raises(UsageError):
        file_name(generate(), unique_id="a#b")


def test_a_files_name_repeats_its_header():
    """NEM12#UniqueID#From#To.csv."""
    assert re.fullmatch(r"NEM12#[A-Z0-9]{1,36}#MDPEXMPL#RETEXMPL\.csv", file_name(generate()))
    assert file_name(generate(kind="NEM13"), unique_id="X1") == "NEM13#X1#MDPEXMPL#RETEXMPL.csv"
