"""What waits is looked into before its turn comes, and nothing else happens to it."""

from __future__ import annotations

import json
import os

import sqlalchemy as sa

from borrowed import from_unit
from nemflow.intake.spool import Spool
from nemflow.jobs.attempt import Attempt
from nemflow.jobs.pace import Working
from nemflow.pipeline import ahead
from nemflow.pipeline.ahead import look_ahead
from nemflow.pipeline.delivering import Delivering
from nemflow.pipeline.loading import new_token
from nemflow.store import ahead as taking
from nemflow.store import work

delivering = from_unit("test_delivering")
spool = delivering.spool
send, row, steps, worked = delivering.send, delivering.row, delivering.steps, delivering.worked


def waiting(store, spool, nem12, a_day, count: int) -> list[int]:
    """Deliveries of one NMI each."""
    return [
        send(store, spool, f"{nth}.csv", nem12(a_day(nmi=f"SASMPL{nth:04}"))).delivery
        for nth in range(count)
    ]


def seen(store, number: int) -> dict | None:
    """What is known of a delivery."""
    found = row(store, number)["inspected"]
    return None if found is None else json.loads(found)


def test_after_an_attempt_those_that_wait_are_known(store, spool, nem12, a_day) -> None:
    """Their NMIs and days are in the ledger, they wait as before, no attempt is used up."""
    first, *others = waiting(store, spool, nem12, a_day, 4)
    assert Attempt(store, spool, first, Delivering(), Working()).run() == "loaded"
    for nth, number in enumerate(others, start=1):
        found = seen(store, number)
        assert found is not None
        assert (found["nmis"], found["nmi_count"]) == ([f"SASMPL{nth:04}"], 1)
        after = row(store, number)
        assert (after["state"], after["attempts"], after["lease_token"]) == ("queued", 0, None)
        assert [name for name, *_ in steps(store, number)] == ["receive", "inspect"]
    assert [worked(store, spool, number).state for number in others] == ["loaded"] * 3
    names = [name for name, *_ in steps(store, others[0])]
    assert names.count("inspect") == 1
    delivering.must_hold(store, spool)


def test_a_few_at_a_time_the_oldest_first(store, spool, nem12, a_day, monkeypatch) -> None:
    """Ten thousand that wait do not hold up the next attempt."""
    monkeypatch.setattr(ahead, "_AT_ONCE", 2)
    numbers = waiting(store, spool, nem12, a_day, 5)
    for known in (2, 4, 5, 5):
        look_ahead(store, spool, Delivering())
        assert [seen(store, each) is not None for each in numbers].count(True) == known
        assert all(seen(store, each) is not None for each in numbers[:known])


def test_no_further_file_is_begun_when_told_to_stop_or_after_a_while(
    store, spool, nem12, a_day, monkeypatch
) -> None:
    """What was held for it waits again, unseen, and is seen by its own attempt."""
    (one, two) = waiting(store, spool, nem12, a_day, 2)
    assert look_ahead(store, spool, Delivering(), stopped=lambda: True) == 0
    monkeypatch.setattr(ahead, "_SECONDS", -1.0)
    (three,) = waiting(store, spool, nem12, a_day, 1)
    assert look_ahead(store, spool, Delivering()) == 0
    for number in (one, two, three):
        after = row(store, number)
        assert (after["state"], after["attempts"]) == ("queued", 0)
        assert seen(store, number) is None
    assert worked(store, spool, one).state == "loaded"
    assert seen(store, one) is not None


def test_what_cannot_be_looked_into_is_left_to_its_attempt(
    store, spool, nem12, a_day, monkeypatch
) -> None:
    """A missing original, or one too large for a short look: no word, no error, no attempt."""
    gone, large = waiting(store, spool, nem12, a_day, 2)
    os.unlink(spool.path(row(store, gone)["sha256"]))  # noqa: PTH108 - as anybody might
    monkeypatch.setattr(ahead, "_MOST_BYTES", 10)
    assert look_ahead(store, spool, Delivering()) == 0
    assert {
        (row(store, each)["state"], row(store, each)["attempts"]) for each in (gone, large)
    } == {("queued", 0)}
    assert worked(store, spool, large).state == "loaded"


def test_what_its_worker_never_came_back_from_is_not_looked_into_again(
    store, spool, nem12, a_day
) -> None:
    """So a file that kills workers is met alone, counted, and dead after its attempts."""
    (number,) = waiting(store, spool, nem12, a_day, 1)
    backend, token = store.backend, new_token()
    held = backend.transact(lambda conn: taking.take(conn, backend, token, 0.0, most=5))
    assert [each.id for each in held] == [number]
    assert not backend.look(taking.any_unseen)
    again = backend.transact(lambda conn: work.take(conn, backend, number, new_token(), 60, most=5))
    assert again.work is not None
    assert (again.work.attempt, again.lost) == (2, 1)


def test_what_was_cancelled_meanwhile_stays_cancelled(
    store, spool: Spool, nem12, a_day, monkeypatch
) -> None:
    """The look is lost, the word of the person stands."""
    (number,) = waiting(store, spool, nem12, a_day, 1)
    real = ahead.look_into

    def cancelled(*given, **named):
        store.cancel(number, by="me")
        return real(*given, **named)

    monkeypatch.setattr(ahead, "look_into", cancelled)
    look_ahead(store, spool, Delivering())
    after = row(store, number)
    assert (after["state"], after["inspected"]) == ("cancelled", None)
    with store.backend.reading() as conn:
        assert (
            conn.execute(
                sa.text("SELECT count(*) FROM delivery_step WHERE step = 'inspect'")
            ).scalar()
            == 0
        )
