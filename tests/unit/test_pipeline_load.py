"""Load keeps its promises: recognition, accounts that balance, dry runs, replay, what may fail."""

from __future__ import annotations

import gzip
import io
import re
import socket
import tempfile
import zipfile
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemflow.errors import NotFound, UsageError
from nemflow.events import DayConflict, FileFinished, LoadPublished, Progress
from nemflow.mdff.generate import BREAKABLE, generate
from nemflow.pipeline import large as large_module
from nemflow.pipeline import load, loading, reconcile, redo, replay, undo
from nemflow.pipeline import unpack as unpack_module
from nemflow.store import open_store

NMI = "SASMPL0001"


def zipped(**members: bytes) -> bytes:
    """A zip with these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_csv", ".csv"), data)
    return out.getvalue()


def balanced(outcome) -> bool:
    """Days and reads read = stored + unchanged + rejected."""
    return all(
        counts.read == counts.stored + counts.unchanged + counts.rejected
        for counts in (outcome.days, outcome.reads)
    )


def test_the_same_text_is_a_duplicate_in_four_ways(store, put, nem12, a_day):
    """Again, renamed, zipped again, or as a zip's member alone: it names the earlier delivery."""
    text = nem12(a_day())
    first = load(store, put("first.zip", zipped(a_csv=text)))
    assert first.states == {"loaded": 1}
    ways = [
        put("first.zip", zipped(a_csv=text)),
        put("renamed.zip", zipped(other_csv=text)),
        put("again.csv.gz", gzip.compress(text)),
        put("alone.csv", text),
    ]
    for way in ways:
        outcome = load(store, way).files[0]
        assert outcome.state == "duplicate"
        assert outcome.duplicate_of_delivery == first.files[0].delivery
        assert "first.zip/a.csv" in outcome.duplicate_of
        assert outcome.days.read == 0
    assert store.versions(NMI, store.readings(NMI)["day"][0]).height == 1
    assert store.files().height == 1


def test_twice_in_one_run_is_a_duplicate_too(store, put, nem12, a_day):
    """Two members of one zip, or one path given twice: loaded once."""
    text = nem12(a_day())
    path = put("two.zip", zipped(a_csv=text, b_csv=text))
    dry = load(store, [path, path], dry_run=True)
    summary = load(store, [path, path])
    for result in (dry, summary):
        assert [f.state for f in result.files] == ["loaded", *["duplicate"] * 3]
    assert store.versions(NMI, store.readings(NMI)["day"][0]).height == 1


def test_a_file_is_loaded_again_after_it_was_undone_or_rejected(store, put, nem12, a_day):
    """Only a load that still stands makes a duplicate."""
    path = put("a.csv", nem12(a_day()))
    load(store, path)
    undo(store, 1)
    again = load(store, path).files[0]
    assert (again.state, again.days.stored) == ("loaded", 1)
    assert store.files().height == 1
    bad = put("bad.csv", nem12(a_day(day="20250399")))
    assert load(store, bad).files[0].state == "rejected"
    assert load(store, bad).files[0].state == "rejected"
    assert store.quarantine(file=2).height == 1


def test_every_day_is_accounted_for_in_every_state(store, put, nem12, a_day):
    """Stored, unchanged and rejected add up; a file with a rejected day is never 'loaded'."""
    days = [a_day(), a_day(day="20250302"), a_day(day="20250303", quality="T")]
    load(store, put("a.csv", nem12(a_day())))
    outcome = load(store, put("b.csv", nem12(*days))).files[0]
    assert outcome.state == "partly_loaded"
    assert outcome.days.to_dict() == {"read": 3, "stored": 1, "unchanged": 1, "rejected": 1}
    assert outcome.rules == {"Q001": 1}
    row = store.file(outcome.file).row(0, named=True)
    assert (row["days_read"], row["days_stored"], row["days_unchanged"]) == (3, 1, 1)
    assert row["days_rejected"] == store.quarantine(file=outcome.file).height == 1
    assert outcome.findings["rule"].to_list() == ["Q001"]
    assert store.findings(outcome.file)["rule"].to_list() == ["Q001"]


def test_equal_twins_in_one_file_are_one_claim(store, put, nem12, a_day):
    """I009, equal content: read twice, claimed once, and the account balances."""
    outcome = load(store, put("a.csv", nem12(a_day(), a_day()))).files[0]
    assert outcome.state == "loaded"
    assert outcome.days.to_dict() == {"read": 2, "stored": 1, "unchanged": 1, "rejected": 0}
    assert store.versions(NMI, store.readings(NMI)["day"][0]).height == 1


def test_twins_of_different_content_are_both_kept_out(store, put, nem12, a_day):
    """I009: nobody can say which is right, and a replay does not let both in either."""
    outcome = load(store, put("a.csv", nem12(a_day(), a_day(value="2")))).files[0]
    assert (outcome.state, outcome.days.rejected) == ("rejected", 2)
    again = replay(store).files[0]
    assert again.days.to_dict() == {"read": 2, "stored": 0, "unchanged": 0, "rejected": 2}
    assert again.rules == {"I009": 2}
    first, second = store.quarantine()["quarantine"].to_list()
    raw = store.quarantine()["raw"][0]
    assert replay(store, edits={first: raw}).files[0].days.stored == 1
    assert replay(store).files[0].days.rejected == 1
    assert store.quarantine()["quarantine"].to_list() == [second]


def test_a_bad_member_does_not_hold_back_the_others(store, put, nem12, a_day):
    """Each member has its own state; the archive adds them up."""
    members = {f"m{n}_csv": nem12(a_day(nmi=f"SASMPL000{n}")) for n in range(1, 5)}
    members["junk_csv"] = b"this is not a meter data file\r\n"
    summary = load(store, put("z.zip", zipped(**members)))
    assert summary.states == {"loaded": 4, "rejected": 1}
    bad = next(f for f in summary.files if f.state == "rejected")
    assert bad.source.endswith("z.zip/junk.csv")
    assert bad.error.startswith("F018")
    top = store.deliveries().filter(pl.col("parent").is_null())
    assert top["state"].to_list() == ["partly_loaded"]
    assert top["members"].to_list() == [5]


def test_what_cannot_be_opened_is_an_outcome_not_an_error(store, put, nem12, a_day):
    """A broken archive beside a good file: one rejected, one loaded."""
    good = put("good.csv", nem12(a_day()))
    broken = put("broken.zip", b"PK\x03\x04 not really")
    summary = load(store, [broken, good])
    assert [f.state for f in summary.files] == ["rejected", "loaded"]
    assert summary.files[0].sha256 is None
    assert not summary.ok
    assert store.deliveries()["state"].to_list() == ["loaded", "rejected"]


def test_a_missing_path_is_said_before_anything_is_loaded(store, put, nem12, a_day):
    """A typing error must not leave half of the work done."""
    with pytest.raises(UsageError):
        load(store, [put("a.csv", nem12(a_day())), "no/such/file.csv"])
    assert store.deliveries().is_empty()


def test_a_dry_run_tells_the_same_and_writes_nothing(store, put, nem12, nem13, a_day):
    """Dry and real give the same account, file by file, against an empty and a filled store."""
    a = put("a.csv", nem12(a_day(), a_day(day="20250302", quality="T")))
    b = put("b.csv", nem12(a_day(), sender="MDPB"))
    c = put("c.zip", zipped(b_csv=b.read_bytes(), d_csv=nem12(a_day(value="2"))))
    broken = put("d.csv", generate(break_it=["F004"]))
    for round_ in range(2):
        dry = load(store, [a, b, c, broken], dry_run=True)
        size = store.deliveries(limit=None).height
        real = load(store, [a, b, c, broken])
        assert store.deliveries(limit=None).height > size
        assert [told(f) for f in dry.files] == [told(f) for f in real.files], round_
    empty = load(None, [a, b, c, broken], dry_run=True)
    assert [f.state for f in empty.files][:2] == ["partly_loaded", "loaded"]
    with pytest.raises(UsageError):
        load(None, a)


def told(outcome):
    """What both a dry and a real run tell of a file."""
    rows = [] if outcome.findings is None else outcome.findings.to_dicts()
    return (
        outcome.source,
        outcome.state,
        outcome.sha256,
        outcome.days,
        outcome.reads,
        dict(outcome.rules),
        outcome.conflicts,
        rows,
    )


def broken_files(folder):
    """One file per rule that a text can break, named after it."""
    for number, rule in enumerate(sorted(BREAKABLE)):
        for kind in ("NEM12", "NEM13"):
            try:
                text = generate(
                    kind=kind, nmis=1, days=2, seed=number, break_it=[rule], service_orders=True
                )
            except UsageError:
                continue
            path = folder / f"{rule}_{kind}.csv"
            path.write_bytes(text)
            yield path
            break


@pytest.mark.parametrize("profile", ["portal", "b2b"])
def test_counts_balance_on_every_kind_of_broken_file(tmp_path, empty_store, profile):
    """Every rule broken, under both profiles: what is read is stored, unchanged or quarantined."""
    paths = list(broken_files(tmp_path))
    assert len(paths) == len(BREAKABLE)
    (tmp_path / "store.db").write_bytes(empty_store.read_bytes())
    with open_store(str(tmp_path / "store.db")) as store:
        dry = load(store, paths, profile=profile, dry_run=True)
        summary = load(store, paths, profile=profile)
        records = store.quarantine().group_by("file").len()
        held = dict(records.iter_rows())
        for first, outcome, path in zip(dry.files, summary.files, paths, strict=True):
            assert told(first) == told(outcome)
            assert balanced(outcome), path.name
            rejected = outcome.days.rejected + outcome.reads.rejected
            read = outcome.days.read + outcome.reads.read
            assert held.get(outcome.file, 0) == rejected, path.name
            if outcome.error is None or not outcome.error.startswith(("F001", "F018")):
                text = path.read_bytes()
                assert read == len(re.findall(rb"(?m)^[\s\"']*(?:300|250)\b", text)), path.name
            assert outcome.state == expected_state(outcome, read, rejected), path.name
        assert {f.state for f in summary.files} == {"loaded", "partly_loaded", "rejected"}
        before = store.files()
        replayed = replay(store, profile="portal")
        assert all(balanced(f) for f in replayed.files)
        assert (replayed.days.stored + replayed.reads.stored > 0) == (profile == "b2b")
        files = store.files()
        for of in ("days", "reads"):
            taken = files[f"{of}_stored"] + files[f"{of}_unchanged"]
            assert (files[f"{of}_read"] == taken + files[f"{of}_rejected"]).all()
            assert files[f"{of}_read"].to_list() == before[f"{of}_read"].to_list()
        left = files["days_rejected"].sum() + files["reads_rejected"].sum()
        assert store.quarantine().height == left


def expected_state(outcome, read, rejected):
    """The state that the counts call for."""
    if outcome.error is not None or (read and rejected == read):
        return "rejected"
    return "partly_loaded" if rejected else "loaded"


@given(
    rules=st.lists(st.sampled_from(sorted(BREAKABLE)), min_size=2, max_size=6, unique=True),
    profile=st.sampled_from(["portal", "b2b"]),
)
@settings(max_examples=8, deadline=None)
def test_counts_balance_on_any_mix_of_faults(empty_store, rules, profile):
    """Many rules broken in one zip: counts balance file by file, and the ledger says the same."""
    members = {}
    for number, rule in enumerate(rules):
        for kind in ("NEM12", "NEM13"):
            try:
                text = generate(kind=kind, nmis=1, days=2, seed=number, break_it=[rule])
            except UsageError:
                continue
            members[f"{number}_{kind}_csv"] = text
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.zip").write_bytes(zipped(**members))
        (folder / "store.db").write_bytes(empty_store.read_bytes())
        with open_store(str(folder / "store.db")) as store:
            summary = load(store, folder / "in.zip", profile=profile)
            assert all(balanced(outcome) for outcome in summary.files)
            assert summary.days.read == summary.days.stored + summary.days.unchanged + (
                summary.days.rejected
            )
            files = store.files()
            for of, counts in (("days", summary.days), ("reads", summary.reads)):
                for part in ("read", "stored", "unchanged", "rejected"):
                    assert files[f"{of}_{part}"].sum() == getattr(counts, part)
            assert store.quarantine().height == summary.days.rejected + summary.reads.rejected


LATE = [
    *(("F004", "portal"), ("F005", "b2b"), ("F006", "portal"), ("F006", "b2b")),
    *(("F002", "b2b"), ("F010", "portal"), ("I009", "portal"), ("Q008", "b2b"), ("N007", "portal")),
]


@pytest.mark.parametrize(("rule", "profile"), LATE)
def test_a_large_text_is_told_as_a_small_one(tmp_path, empty_store, monkeypatch, rule, profile):
    """In pieces or whole: the same states, counts, days and quarantine, also for late faults."""
    text = generate(nmis=3, days=35, interval=5, streams=["E1"], break_it=[rule])
    path = tmp_path / "in.csv"
    path.write_bytes(text)
    told_by, days, records = [], [], []
    for way in ("whole", "pieces"):
        if way == "pieces":
            monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 1000)
            monkeypatch.setattr(large_module, "PIECE_BYTES", 64 * 1024)
        target = tmp_path / f"{way}.db"
        target.write_bytes(empty_store.read_bytes())
        with open_store(str(target)) as store:
            dry = load(store, path, profile=profile, dry_run=True).files[0]
            outcome = load(store, path, profile=profile).files[0]
            assert told(dry)[:-1] == told(outcome)[:-1]
            assert balanced(outcome)
            told_by.append(told(outcome)[:-2])
            nmis = store.nmis()["nmi"].to_list()
            days.append({nmi: store.readings(nmi).rows() for nmi in nmis})
            columns = ["line", "record", "nmi", "suffix", "day", "raw", "context"]
            records.append(store.quarantine().select(columns).sort("line").rows())
            claims = store.loads(1)["days"].sum()
            taken = outcome.days.stored + outcome.days.unchanged
            assert claims == taken or outcome.days.unchanged
    assert told_by[0] == told_by[1]
    assert days[0] == days[1]
    assert records[0] == records[1]


@pytest.mark.parametrize("value", ["1", "2"])
def test_twins_far_apart_in_a_large_text_are_found(tmp_path, empty_store, monkeypatch, value):
    """A day taken in with an early piece is taken back when its twin comes with a late one."""
    between = generate(nmis=2, days=60, interval=5, streams=["E1"]).split(b"\r\n")[1:-2]
    values = b",".join([b"1"] * 48)
    other = b",".join([value.encode()] * 48)
    opener = b"200,SASMPL0009,E1,1,E1,N1,METER1,kWh,30,"
    stamp = b"A,,,20250302010000,"
    lines = [
        *(
            b"100,NEM12,202504010430,MDPA,RETAILER",
            opener,
            b"300,20250301," + values + b"," + stamp,
        ),
        b"500,S,ORDER1,20250301103230,001123.5",
        *between,
        *(opener, b"300,20250301," + other + b"," + stamp, b"900", b""),
    ]
    path = tmp_path / "in.csv"
    path.write_bytes(b"\r\n".join(lines))
    answers = []
    for way in ("whole", "pieces"):
        if way == "pieces":
            monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 1000)
            monkeypatch.setattr(large_module, "PIECE_BYTES", 64 * 1024)
        target = tmp_path / f"{way}.db"
        target.write_bytes(empty_store.read_bytes())
        with open_store(str(target)) as store:
            outcome = load(store, path).files[0]
            records = store.quarantine().select("line", "rules", "raw", "context").rows()
            answers.append((told(outcome)[1:-1], records, store.nmis().rows()))
    assert answers[0] == answers[1]
    rejected = 0 if value == "1" else 2
    assert len(answers[0][1]) == rejected
    if rejected:
        assert "500,S,ORDER1" in answers[0][1][0][2]


@pytest.mark.parametrize("quantity", [b"100", b"200"])
def test_a_period_far_apart_in_a_large_text_is_found(tmp_path, empty_store, monkeypatch, quantity):
    """A register read taken in with an early piece is taken back when its twin comes (A010)."""
    head, *between = generate(
        nmis=["SASMPL0008"], days=900, kind="NEM13", streams=["11"], seed=1
    ).splitlines()[:-1]
    between *= 200  # equal copies: claimed once, each counted
    read = (
        b"250,SASMPL0009,11,1,11,11,EX0000009,E,000100,20250101000001,A,,,000200,20250401000001,"
        b"A,,,%s,kWh,20250701,20250402010000,"
    )
    order = b"550,N,,A,ORDER1"
    lines = [head, read % b"100", order, *between, read % quantity, b"900", b""]
    path = tmp_path / "in.csv"
    path.write_bytes(b"\r\n".join(lines))
    answers = []
    for way in ("whole", "pieces"):
        if way == "pieces":
            monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 1000)
            monkeypatch.setattr(large_module, "PIECE_BYTES", 64 * 1024)
        target = tmp_path / f"{way}.db"
        target.write_bytes(empty_store.read_bytes())
        with open_store(str(target)) as store:
            dry = load(store, path, dry_run=True).files[0]
            outcome = load(store, path).files[0]
            assert told(dry)[:-1] == told(outcome)[:-1]
            assert balanced(outcome)
            records = store.quarantine().select("line", "rules", "raw", "context").rows()
            answers.append((told(outcome)[1:-1], records, store.nmis().rows()))
            assert store.register_reads("SASMPL0008").height == len(set(between))
            if quantity == b"200":
                assert store.nmis()["nmi"].to_list() == ["SASMPL0008"]
            else:
                assert store.service_events("SASMPL0009").height == 1
    assert answers[0] == answers[1]
    assert [record[0] for record in answers[1][1]] == (
        [] if quantity == b"100" else [2, len(lines) - 2]
    )
    if quantity == b"200":
        assert order.decode() in answers[1][1][0][2]


def test_an_asexml_message_is_a_container(store, put, nem12, a_day):
    """Its payload is the file; who sent it and which transaction it was are kept."""
    payload = nem12(a_day()).decode()
    message = f"""<?xml version="1.0"?>
<ase:aseXML xmlns:ase="urn:aseXML:r43"><Header><From>MDPA</From><To>RETAILER</To>
<MessageID>MSG-1</MessageID><TransactionGroup>MTRD</TransactionGroup></Header>
<Transactions><Transaction transactionID="TR-1" transactionDate="2025-03-02T04:30:00+10:00">
<MeterDataNotification><CSVIntervalData>{payload}</CSVIntervalData></MeterDataNotification>
</Transaction></Transactions></ase:aseXML>"""
    outcome = load(store, put("m.xml", message.encode()), profile=None).files[0]
    assert (outcome.state, outcome.source.rpartition("/")[2]) == ("loaded", "m.xml#TR-1")
    row = store.file(outcome.file).row(0, named=True)
    assert (row["message_id"], row["transaction_id"]) == ("MSG-1", "TR-1")
    assert (row["sender"], row["receiver"]) == ("MDPA", "RETAILER")
    inner, outer = store.deliveries().to_dicts()
    assert (inner["parent"], inner["profile"], inner["sender"]) == (
        outer["delivery"],
        "b2b",
        "MDPA",
    )
    assert outer["state"] == "loaded"


def test_who_sent_it_is_as_told_else_what_the_header_says(store, put, nem12, a_day):
    """The ledger knows a sender for every delivery that has one."""
    load(store, put("a.csv", nem12(a_day())))
    load(store, put("b.csv", nem12(a_day(), sender="MDPB")), sender="portal upload")
    assert store.deliveries()["sender"].to_list() == ["portal upload", "MDPA"]


def test_a_large_text_is_recognised_too(store, put, monkeypatch):
    """A large duplicate is not loaded again, whether it came before this run or in it."""
    monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 1000)
    path = put("a.csv", generate(nmis=1, days=3))
    assert [f.state for f in load(store, [path, path]).files] == ["loaded", "duplicate"]
    assert load(store, path).files[0].duplicate_of_delivery == 1
    assert load(store, path, dry_run=True).files[0].state == "duplicate"


def test_undo_then_redo_changes_nothing(store, put, nem12, a_day):
    """Readings, versions, counts and quarantine are as before; the history knows of both."""
    load(store, put("a.csv", nem12(a_day())))
    newer = a_day(value="2", update="20250304000000")
    text = nem12(newer, a_day(day="20250305", quality="T"), file_at="202503040000")
    load(store, put("b.zip", zipped(b_csv=text)))

    def all_of_it():
        return (
            store.readings(NMI).rows(),
            store.files().rows(),
            store.deliveries().rows(),
            store.quarantine().rows(),
        )

    before = all_of_it()
    change = undo(store, 2, by="tester")
    assert (change.days, change.deliveries) == (1, (3,))
    assert store.deliveries()["state"].to_list() == ["undone", "undone", "loaded"]
    assert store.quarantine().is_empty()
    redo(store, store.files()["sha256"][0][:12])
    assert all_of_it() == before
    assert store.loads(2)["event"].to_list() == ["published", "undone", "redone"]


def test_undo_and_redo_say_why_not(store, put, nem12, a_day):
    """A duplicate names the delivery to undo; what stands cannot be redone."""
    path = put("a.csv", nem12(a_day()))
    load(store, path)
    load(store, path)
    with pytest.raises(UsageError, match="duplicate of delivery 1"):
        undo(store, 2)
    with pytest.raises(UsageError, match="undone"):
        redo(store, 1)
    with pytest.raises(NotFound):
        undo(store, 99)
    undo(store, 1)
    with pytest.raises(UsageError, match="undone already"):
        undo(store, 1)
    load(store, path)
    with pytest.raises(UsageError, match="loaded again"):
        redo(store, 1)


def test_replay_takes_in_what_a_tolerant_profile_accepts(store, put):
    """Rejected under b2b, taken in under portal; days join their file's account."""
    path = put("a.csv", generate(nmis=1, days=3, break_it=["N001"]))
    outcome = load(store, path, profile="b2b").files[0]
    assert (outcome.state, outcome.days.rejected) == ("partly_loaded", 1)
    dry = replay(store, profile="portal", dry_run=True).files[0]
    assert (dry.state, dry.days.stored) == ("loaded", 1)
    assert store.quarantine().height == 1
    done = replay(store, rule="N001", profile="portal").files[0]
    assert (done.state, done.days) == (dry.state, dry.days)
    row = store.files().row(0, named=True)
    assert row["days_read"] == row["days_stored"] == outcome.days.read
    assert store.quarantine().is_empty()
    closed = store.quarantine(open_only=False).row(0, named=True)
    assert (closed["resolved_by"], closed["attempts"]) == (2, 1)
    assert store.deliveries()["state"].to_list() == ["loaded"]
    undo(store, 1)
    assert store.nmis().is_empty()
    redo(store, 1)
    assert store.files()["days_stored"][0] == outcome.days.read


def test_replay_takes_a_corrected_text_and_keeps_the_original(store, put, nem12, a_day):
    """The edit is loaded, the record's own text stays for the record."""
    load(store, put("a.csv", nem12(a_day(), a_day(day="20250302", quality="T"))))
    row = store.quarantine().row(0, named=True)
    bad = row["raw"]
    with pytest.raises(UsageError, match="exactly one"):
        replay(store, edits={row["quarantine"]: "400,1,48,A,,"})
    with pytest.raises(NotFound):
        replay(store, edits={99: bad})
    done = replay(store, edits={row["quarantine"]: bad.replace(",T,", ",A,")}, by="me").files[0]
    assert (done.state, done.days.stored) == ("loaded", 1)
    kept = store.quarantine(open_only=False).row(0, named=True)
    assert kept["raw"] == bad
    assert store.versions(NMI, row["day"])["line"].to_list() == [row["line"]]


def test_replay_keeps_to_the_settings_of_a_load(store, put, nem12, a_day):
    """Value limits (I007) are checked as ever, and so is whom the file is for (F008)."""
    path = put("a.csv", nem12(a_day(value="900", quality="T")))
    load(store, path)
    row = store.quarantine().row(0, named=True)
    edits = {row["quarantine"]: row["raw"].replace(",T,", ",A,")}
    for_another = replay(store, edits=edits, profile="b2b", participant="SOMEONE", dry_run=True)
    assert (for_another.days.stored, for_another.days.rejected) == (0, 1)
    done = replay(store, edits=edits, value_limits={("E1", "kWh"): Decimal(50)})
    assert done.days.stored == 1
    assert done.findings["rule"].to_list() == ["I007"]


def test_replay_can_mend_the_200_above(store, put, nem12, a_day):
    """A day kept out by its 200 comes in with a corrected 200 line."""
    load(store, put("a.csv", nem12(a_day(uom="xyz"))))
    row = store.quarantine().row(0, named=True)
    opener = row["context"].splitlines()[1].replace("xyz", "kWh")
    done = replay(store, edits={row["quarantine"]: f"{opener}\n{row['raw']}"})
    assert done.files[0].days.stored == 1
    assert store.readings(NMI, resolution="day")["value"].to_list() == [48]


def test_replay_does_not_forget_what_the_whole_file_was_rejected_for(store, put, a_day):
    """A fault of the file cannot be seen in one record alone; it still keeps the record out."""
    load(store, put("a.csv", generate(nmis=1, days=2, break_it=["F004"])))
    rejected = store.quarantine().height
    assert rejected > 0
    assert replay(store).days.stored == 0
    row = store.quarantine().row(0, named=True)
    assert replay(store, edits={row["quarantine"]: row["raw"]}).days.stored == 1
    assert store.quarantine().height == rejected - 1


def test_period_twins_of_different_content_are_not_let_in_by_a_replay(store, put, nem13):
    """A010, the register reads' twin rule, holds in a replay as it does in the file."""
    period = (
        "250,4001234567,11,1,11,11,METER2,E,000021.2,20250101000001,A,,,000534.5,20250201000001,"
        "A,,,513.3,kWh,20250401,20250202112500,"
    )
    other = period.replace("534.5", "535.5").replace("513.3", "514.3")
    outcome = load(store, put("a.csv", nem13(period, other))).files[0]
    assert (outcome.state, outcome.reads.rejected) == ("rejected", 2)
    assert replay(store).reads.to_dict() == {"read": 2, "stored": 0, "unchanged": 0, "rejected": 2}
    first = store.quarantine().row(0, named=True)
    assert replay(store, edits={first["quarantine"]: first["raw"]}).reads.stored == 1
    assert replay(store).reads.rejected == 1


def test_a_rejected_file_can_be_replayed_day_by_day(store, put, nem12, a_day):
    """Every day of a file refused as a whole has its raw text, and a way in."""
    text = nem12(a_day(), a_day(day="20250302")).replace(b"900\r\n", b"")
    outcome = load(store, put("cut.csv", text), profile="b2b").files[0]
    assert (outcome.state, outcome.days.rejected) == ("rejected", 2)
    assert outcome.error.startswith("F006")
    assert store.nmis().is_empty()
    done = replay(store, outcome.file, profile="portal").files[0]
    assert (done.state, done.days.stored) == ("loaded", 2)
    assert store.readings(NMI).height == 96


def test_conflicting_contents_under_one_stamp_are_told(store, put, nem12, a_day):
    """The winner is decided by the data; a person hears of it."""
    heard = []
    load(store, put("a.csv", nem12(a_day())))
    outcome = load(store, put("b.csv", nem12(a_day(value="2"))), hook=heard.append).files[0]
    assert outcome.conflicts == 1
    conflicts = [event for event in heard if isinstance(event, DayConflict)]
    assert [(c.nmi, c.day, c.suffix) for c in conflicts] == [(NMI, "2025-03-01", "E1")]


def test_the_hook_hears_what_happened_after_it_happened(store, put, nem12, a_day):
    """One event per file, one per publication; progress counts up."""
    heard, steps = [], []
    paths = [put(f"{n}.csv", nem12(a_day(day=f"2025030{n}"))) for n in (1, 2)]
    load(store, paths, hook=heard.append, progress=steps.append)
    finished = [event for event in heard if isinstance(event, FileFinished)]
    assert [event.days_stored for event in finished] == [1, 1]
    assert [event.seq for event in heard if isinstance(event, LoadPublished)] == [1]
    assert isinstance(steps[-1], Progress)
    assert (steps[-1].files_done, steps[-1].days_done) == (2, 2)
    assert steps[-1].bytes_done == steps[-1].bytes_total == sum(p.stat().st_size for p in paths)


def test_reconcile_clears_the_load_of_a_process_that_is_gone(store, put, monkeypatch):
    """Nothing of it was visible, nothing of it stays; the delivery says what happened."""
    monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(large_module, "PIECE_BYTES", 64 * 1024)
    path = put("a.csv", generate(nmis=3, days=60, interval=5, streams=["E1"]))

    def die(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(large_module._Large, "publish", die)
        patch.setattr("nemflow.pipeline.loading.abandon", lambda *_: None)
        patch.setattr("os.getpid", lambda: 2**22 + 12345)
        with pytest.raises(SystemExit):
            load(store, path)
    assert store.nmis().is_empty()
    assert store.loads(1)["state"].to_list() == ["open"]
    assert store.loads(1)["days"].to_list() == [180]
    assert reconcile(store) == 1
    assert reconcile(store) == 0
    assert store.loads(1)["days"].to_list() == [0]
    assert store.deliveries()["state"].to_list() == ["dead"]
    assert load(store, path).states == {"loaded": 1}


def test_a_process_number_that_was_given_to_another_process_is_a_dead_holder():
    """In a container that starts again the new process has the number of the killed one."""
    mine = loading.new_token()
    host, number, began, rest = mine.split(":")
    assert not loading._is_dead(mine, 60.0)
    assert not loading._is_dead(f"{host}:{number}:{rest}", 60.0), "without when it began"
    assert not loading._is_dead(f"elsewhere:{number}:1:{rest}", 60.0)
    if not began:
        pytest.skip("this system does not tell when a process began")
    assert loading._is_dead(f"{host}:{number}:{int(began) - 1}:{rest}", 60.0)


def test_of_a_process_elsewhere_under_our_host_name_only_the_lease_tells():
    """Containers may share a host name, and copies of a machine do; numbers are not theirs."""
    mine = loading.new_token()
    if not Path("/proc/self/ns/pid").exists():
        pytest.skip("this system has no process namespaces")
    place = mine.partition(":")[0]
    host, boot, namespace = place.split("/")
    assert host == socket.gethostname()
    nobody = f"{2**22 + 12345}:1:{'0' * 32}"
    assert loading._is_dead(f"{place}:{nobody}", 60.0), "ours, and gone"
    for elsewhere in (f"{host}/{boot}/1", f"{host}/{'0' * 36}/{namespace}", host):
        assert not loading._is_dead(f"{elsewhere}:{nobody}", 60.0)
        assert loading._is_dead(f"{elsewhere}:{nobody}", -1.0)


def test_a_slow_load_on_this_machine_is_not_taken_for_dead(store, put, monkeypatch):
    """Its lease may run out while it waits or the machine sleeps; its process is still there."""
    monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(large_module, "PIECE_BYTES", 64 * 1024)
    monkeypatch.setattr("nemflow.store.leases.LEASE", timedelta(seconds=-60))
    path = put("a.csv", generate(nmis=3, days=60, interval=5, streams=["E1"]))
    cleared = []
    summary = load(store, path, progress=lambda _: cleared.append(reconcile(store)))
    assert summary.states == {"loaded": 1}
    assert set(cleared) == {0}


def test_a_load_of_a_folder_leaves_the_store_itself_out(tmp_path, empty_store, nem12, a_day):
    """The store may lie in the folder that is loaded."""
    (tmp_path / "nemflow.db").write_bytes(empty_store.read_bytes())
    (tmp_path / "a.csv").write_bytes(nem12(a_day()))
    with open_store(str(tmp_path / "nemflow.db")) as store:
        assert load(store, tmp_path).states == {"loaded": 1}


def test_a_stopped_load_leaves_nothing_half_loaded(store, put, monkeypatch):
    """Ctrl-C in the middle: cleared at once, the delivery is cancelled, the next load works."""
    monkeypatch.setattr(unpack_module, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(large_module, "PIECE_BYTES", 64 * 1024)
    path = put("a.csv", generate(nmis=3, days=60, interval=5, streams=["E1"]))

    def stop(step):
        if step.days_done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(store, path, progress=stop)
    assert store.loads(1)["days"].to_list() == [0]
    assert store.deliveries()["state"].to_list() == ["cancelled"]
    assert load(store, path).states == {"loaded": 1}
