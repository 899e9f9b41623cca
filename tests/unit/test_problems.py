"""Outcomes and problems: each final state once, each fault once with how often, on every engine."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import zipfile
from datetime import datetime, timedelta

import polars as pl
import pytest
import sqlalchemy as sa

from nemflow import pipeline
from nemflow.errors import BrokerAway, NotFound, StoreAway, UsageError
from nemflow.jobs.noticing import Noticer
from nemflow.store import Store, numbers, work
from nemflow.store.tables import MARKET_OFFSET, audit, delivery, problem_met

SHORT = ("1",) * 47  #: a day that lacks an interval: I001
HINTS = {"what", "message", "who", "todo"}


def load(store, put, data, name="a.csv", **how):
    """Load one file; its state."""
    (outcome,) = pipeline.load(store, [put(name, data)], **how).files
    return outcome.state


def told(store, **asked):
    """Problems as (sender, rule, times, state), oldest first."""
    rows = store.problems(open_only=False, limit=None, **asked).sort("problem")
    return list(rows.select("sender", "rule", "times", "state").iter_rows())


def end(
    store: Store,
    state: str,
    *,
    sender: str | None = "MDPA",
    error: str | None = None,
    worker: str = "1",
) -> int:
    """A delivery that came through the service and ended like this; its number."""
    arrival = work.Arrival("x.csv", "http", "ab" * 32, 10, sender=sender)
    backend, token = store.backend, f"w:{worker}:a"
    number = backend.transact(lambda conn: work.receive(conn, backend, arrival))
    assert backend.transact(lambda conn: work.claim(conn, backend, number, token, 60))
    assert backend.transact(
        lambda conn: work.settle(conn, backend, number, token, state, error=error)
    )
    return number


def test_the_same_fault_of_a_sender_is_one_problem_with_how_often(store, put, nem12, a_day):
    """Files of one sender and rule count up; another sender's is another problem."""
    for number in range(3):
        text = nem12(a_day(day=f"2025030{number + 1}", values=SHORT))
        assert load(store, put, text) == "rejected"
    assert load(store, put, nem12(a_day(values=SHORT), sender="OTHER")) == "rejected"
    assert told(store) == [("MDPA", "I001", 3, "open"), ("OTHER", "I001", 1, "open")]
    row = store.problems(sender="MDPA").row(0, named=True)
    assert (row["first_delivery"], row["last_delivery"]) == (1, 3)
    assert row["last_name"].endswith("a.csv")
    assert row["first_at"] < row["last_at"]
    assert row["who"] == "sender"
    assert all(row[name] for name in HINTS)
    assert store.open_problems() == {"file": 2, "dead": 0, "system": 0}


def test_the_next_good_file_closes_it_and_what_comes_again_is_new(store, put, nem12, a_day):
    """Good: loaded whole, of that sender, without that rule."""
    load(store, put, nem12(a_day(values=SHORT)))
    load(store, put, nem12(a_day(), sender="OTHER"))
    assert told(store) == [("MDPA", "I001", 1, "open")]
    load(store, put, nem12(a_day(day="20250302"), a_day(values=SHORT, day="20250303")))
    assert told(store) == [("MDPA", "I001", 2, "open")], "partly loaded is not good"
    load(store, put, nem12(a_day(day="20250304")), dry_run=True)
    assert told(store) == [("MDPA", "I001", 2, "open")], "a dry run says nothing"
    load(store, put, nem12(a_day(day="20250305")))
    (closed,) = store.problems(open_only=False).iter_rows(named=True)
    assert (closed["state"], closed["closed_by"], closed["closed_delivery"]) == ("closed", None, 4)
    load(store, put, nem12(a_day(values=SHORT, day="20250306")))
    assert told(store) == [("MDPA", "I001", 2, "closed"), ("MDPA", "I001", 1, "open")]
    load(store, put, nem12(a_day(day="20250305")), "again.csv")
    assert told(store)[1][3] == "open", "a duplicate says nothing new"


def test_who_is_silent_for_longer_than_usual_is_not_crowded_out(store) -> None:
    """However many others are heard of: an alert must see the one who is not."""
    now = datetime.now(MARKET_OFFSET)
    times = {"SILENT": (30, 28, 26), "A": (5, 3, 1), "B": (4, 2, 0), "NEW": (50,)}
    for sender, hours in times.items():
        for ago in hours:
            number = end(store, "loaded", sender=sender)
            said = sa.update(delivery).where(delivery.c.id == number)
            at = {"finished_at": now - timedelta(hours=ago)}
            store.backend.transact(lambda conn, said=said, at=at: conn.execute(said.values(**at)))

    def heard(most: int) -> list[str]:
        found = store.backend.look(
            lambda conn: numbers.heard(conn, store.backend, "sender", most=most)
        )
        return [each.name for each in found]

    assert heard(2) == ["SILENT", "B"]
    assert heard(9) == ["SILENT", "B", "A", "NEW"]


def test_what_is_replayed_undone_or_redone_is_no_word_of_its_sender(
    store, put, nem12, a_day
) -> None:
    """Mending a file counts nothing again and closes nothing; its outcome has the act's time."""
    load(store, put, nem12(a_day(day="20250301"), a_day(day="20250302", values=SHORT)))
    load(store, put, nem12(a_day(day="20250303"), a_day(day="20250304", values=SHORT)), "b.csv")
    assert told(store) == [("MDPA", "I001", 2, "open")]
    before = store.problems().row(0, named=True)
    (record,) = store.quarantine(file=1)["quarantine"].to_list()
    raw = a_day(day="20250302").lines()[1]
    pipeline.replay(store, 1, edits={record: raw})
    assert store.deliveries().sort("delivery")["state"][0] == "loaded"
    pipeline.undo(store, 1)
    pipeline.redo(store, 1)
    assert told(store) == [("MDPA", "I001", 2, "open")]
    assert store.problems().row(0, named=True) == before
    rows = store.outcomes()
    states = rows.filter(pl.col("delivery") == 1)["state"].to_list()
    assert (states[0], states[-1], len(states)) == ("partly_loaded", "loaded", len(states))
    assert len(states) > 1
    assert rows.sort("seq")["at"].is_sorted()


def test_a_file_that_breaks_another_rule_closes_nothing_but_its_own_good_does(
    store, put, nem12, a_day
):
    """A warning of the same rule on a loaded file is not the rule's end."""
    end(store, "rejected", error="F006: x.csv: no 900")
    load(store, put, nem12(a_day(values=SHORT)))
    assert told(store) == [("MDPA", "F006", 1, "open"), ("MDPA", "I001", 1, "open")]
    text = nem12(a_day(day="20250305")).replace(b"900\r\n", b"")
    assert load(store, put, text) == "loaded"
    rules = set(store.findings(store.files(limit=1)["file"][0])["rule"])
    assert rules == {"F006"}, "the portal profile only warns"
    assert told(store) == [("MDPA", "F006", 1, "open"), ("MDPA", "I001", 1, "closed")]


def test_a_file_without_any_sender_counts_as_its_keys(store, put, nem12, a_day):
    """Nobody's rejected file is shown as unknown; no rule: E-DATA."""
    end(store, "rejected", sender=None, error="It holds nothing that could be loaded.")
    assert told(store) == [("", "E-DATA", 1, "open")]
    assert store.problems()["todo"][0] == "See why: nemflow delivery 1"


def test_dead_deliveries_are_ours_until_none_is_dead_any_more(store):
    """By sender and error code; the next good file does not close it, reviving them does."""
    first = end(store, "dead", error="Q-POISON: 5 attempts were begun.")
    second = end(store, "dead", error="Q-POISON: 5 attempts were begun.")
    assert told(store) == [("MDPA", "Q-POISON", 2, "open")]
    assert store.problems()["who"][0] == "us"
    end(store, "loaded")
    store.retry(first)
    assert told(store)[0][3] == "open"
    store.cancel(first)
    assert told(store)[0][3] == "open", "the other is dead still"
    store.retry(second)
    store.cancel(second)
    assert told(store) == [("MDPA", "Q-POISON", 2, "closed")]


def test_a_person_closes_problems_with_a_note_all_or_none(store, put, nem12, a_day):
    """Audited; what is unknown or closed already is refused, and then none is closed."""
    load(store, put, nem12(a_day(values=SHORT)))
    load(store, put, nem12(a_day(values=SHORT), sender="OTHER"))
    assert store.problems().height == 2
    with pytest.raises(UsageError, match="note"):
        store.close_problems(1, note=" ")
    with pytest.raises(NotFound):
        store.close_problems([1, 99], note="x")
    assert store.problems().height == 2
    assert store.close_problems([1, 2], note="called them", by="ann") == 2
    row = store.problems(open_only=False).row(0, named=True)
    assert (row["note"], row["closed_by"], row["state"]) == ("called them", "ann", "closed")
    with pytest.raises(UsageError, match="already"):
        store.close_problems(1, note="x")
    with store.backend.reading() as conn:
        acts = list(conn.execute(sa.select(audit.c.act, audit.c.who)))
    assert acts == [("problem closed", "ann")]


def test_a_failing_part_of_the_system_is_one_problem_until_it_works(store):
    """Noticed again and again; closed when it works; while the store is away, kept in mind."""
    fails = [True]

    def ping() -> None:
        if fails[0]:
            raise BrokerAway("Redis does not answer.", hint="Start it.")

    noticer = Noticer(store, {"queue": ping})
    noticer.check()
    noticer.check()
    row = store.problems().row(0, named=True)
    assert (row["rule"], row["times"], row["todo"]) == ("queue", 2, "Start it.")
    assert row["message"] == "Redis does not answer."
    fails[0] = False
    assert noticer.check() == {"queue": True}
    assert store.problems().is_empty()
    fails[0] = True
    noticer.check()
    assert told(store) == [("", "queue", 2, "closed"), ("", "queue", 1, "open")]


def test_a_store_that_was_away_is_a_problem_when_it_is_back(store, monkeypatch):
    """Since when and how often it was seen, and closed at once."""
    noticer = Noticer(store, {})
    real = store.collect_outcomes

    def away() -> int:
        raise StoreAway("The server does not answer.")

    monkeypatch.setattr(store, "collect_outcomes", away)
    before = datetime.now(MARKET_OFFSET)
    assert (noticer.look(), noticer.look()) == (0, 0)
    monkeypatch.setattr(store, "collect_outcomes", real)
    noticer.look()
    (row,) = store.problems(open_only=False).iter_rows(named=True)
    assert (row["rule"], row["times"], row["state"]) == ("store", 2, "closed")
    assert before - timedelta(seconds=1) <= row["first_at"] <= row["last_at"]


def test_outcomes_come_once_each_in_an_order_that_stays(store, put, nem12, a_day):
    """Rejected, tried again, loaded and undone: one each; asked in pieces none is missed."""
    number = end(store, "rejected", error="F005: no 900")
    assert store.collect_outcomes() == 1
    store.retry(number)
    store.cancel(number)
    load(store, put, nem12(a_day()), "b.csv")
    assert store.last_outcome() == 3
    pipeline.undo(store, 2)
    rows = store.outcomes(0)
    assert rows["state"].to_list() == ["rejected", "cancelled", "loaded", "undone"]
    assert rows["days_stored"].to_list() == [0, 0, 1, 1]
    pieces = [store.outcomes(since, limit=1)["seq"].to_list() for since in range(5)]
    assert pieces == [[1], [2], [3], [4], []]
    assert store.outcomes(limit=2)["seq"].to_list() == [3, 4]
    assert store.outcomes(0, state="loaded")["seq"].to_list() == [3]
    with pytest.raises(UsageError, match="no outcome 9"):
        store.outcomes(9)


def test_a_zip_is_one_outcome_and_its_members_count_by_their_own_senders(store, nem12, a_day, put):
    """Problems of what is inside; one delivery counts once however many members broke the rule."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(3):
            text = nem12(a_day(day=f"2025030{number + 1}", values=SHORT))
            archive.writestr(f"{number}.csv", text)
        archive.writestr("good.csv", nem12(a_day(), sender="OTHER"))
    pipeline.load(store, [put("all.zip", out.getvalue())])
    rows = store.outcomes(0)
    assert rows.select("state", "days_read", "days_stored", "days_rejected").rows() == [
        ("partly_loaded", 4, 1, 3)
    ]
    assert told(store) == [("MDPA", "I001", 1, "open")]


def test_counted_once_although_killed_at_the_commit_and_after(store):
    """Who collects is killed before and after its COMMIT; then the numbers are right."""
    for _ in range(3):
        end(store, "rejected", error="F005: no 900")
    code = (
        "import sys; from nemflow.store import open_store; "
        "open_store(sys.argv[1]).collect_outcomes()"
    )
    url = store.backend.url.render_as_string(hide_password=False)
    for place in ("before-commit", "after-commit"):
        done = subprocess.run(
            [sys.executable, "-c", code, url],
            env=os.environ | {"NEMFLOW_FAILPOINTS": f"{place}=kill"}, check=False,
        )  # fmt: skip
        assert done.returncode == -9
    assert told(store) == [("MDPA", "F005", 3, "open")]
    assert store.outcomes(0).height == 3


def test_many_at_once_do_not_lose_double_or_deadlock(store):
    """Workers of one sender, collectors, parts that fail and people, all at the same time."""
    workers, each, errors, closed = 4, 12, [], []

    def guarded(act) -> threading.Thread:
        def run() -> None:
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - shown below
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    over = threading.Event()

    def deliver(name: str) -> None:
        for _ in range(each):
            end(store, "rejected", error="F005: no 900", worker=name)

    def until_over(act) -> None:
        while not over.is_set():
            act()

    def close() -> None:
        rows = store.problems()
        for number in rows["problem"].to_list():
            store.close_problems(number, note="seen")
            closed.append(number)
        over.wait(0.002)

    busy = [guarded(lambda n=n: deliver(str(n))) for n in range(workers)]
    beside = [
        guarded(lambda: until_over(store.collect_outcomes)),
        guarded(lambda: until_over(store.collect_outcomes)),
        guarded(lambda: until_over(close)),
        guarded(lambda: until_over(lambda: (store.part_fails("queue", "x"), over.wait(0.02)))),
    ]
    for thread in busy:
        thread.join(120)
    over.set()
    for thread in beside:
        thread.join(120)
    assert errors == []
    rows = store.outcomes(0, limit=1000)
    assert rows["seq"].to_list() == list(range(1, workers * each + 1))
    assert rows["delivery"].n_unique() == workers * each
    kept = store.problems(open_only=False, limit=None).filter(pl.col("note") == "seen")
    assert sorted(kept["problem"]) == sorted(closed), "what a person closed stays closed"
    assert kept["state"].unique().to_list() == ["closed"]
    by_file = [row for row in told(store) if row[1] == "F005"]
    assert sum(times for _, _, times, _ in by_file) == workers * each
    with store.backend.reading() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(problem_met)).scalar() == 48
