"""Two people press "replay" at the same moment: a record is taken in once."""

from __future__ import annotations

import contextlib
import threading

import pytest

from nemflow.errors import NemflowError, StoreTaken
from nemflow.pipeline import load, replay
from nemflow.store import Store, open_store, quarantine
from nemflow.store.invariants import checked

MEET_SECONDS = 1.0  #: so long one waits for the other, who may be kept waiting by it


def _at_once(database: str, edits: list[dict[int, str]], monkeypatch) -> list[NemflowError]:
    """Replay these records, each by a program of its own, all past the first look at the ledger."""
    gate = threading.Barrier(len(edits))
    really = quarantine.must_be_open

    def looked(conn, ids):
        really(conn, ids)
        with contextlib.suppress(threading.BrokenBarrierError):
            gate.wait(MEET_SECONDS)

    errors: list[NemflowError] = []

    def go(some: dict[int, str]) -> None:
        with open_store(database) as store:
            try:
                replay(store, edits=some)
            except NemflowError as error:
                errors.append(error)

    monkeypatch.setattr(quarantine, "must_be_open", looked)
    threads = [threading.Thread(target=go, args=(some,)) for some in edits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def _account(store: Store) -> tuple[list[tuple[int, ...]], list[str]]:
    counts = store.files().select("days_read", "days_stored", "days_unchanged", "days_rejected")
    with store.backend.reading() as conn:
        return counts.rows(), checked(conn, deep=True).filter(held=False)["promise"].to_list()


@pytest.fixture
def refused(database, put, nem12, a_day):
    """A store with a file of three days, two of which are refused; their corrected texts."""
    days = [a_day(day=f"2025030{n}", quality="AT"[n > 1]) for n in (1, 2, 3)]
    with open_store(database) as store:
        load(store, put("a.csv", nem12(*days)))
        rows = store.quarantine().select("quarantine", "raw").rows()
        yield store, {number: raw.replace(",T,", ",A,") for number, raw in rows}


def test_one_record_replayed_twice_at_once_is_taken_in_once(refused, database, monkeypatch):
    """The second is told that another replay is at it; the account balances."""
    store, edits = refused
    record = dict([next(iter(edits.items()))])
    (error,) = _at_once(database, [record, record], monkeypatch)
    assert isinstance(error, StoreTaken)
    assert _account(store) == ([(3, 2, 0, 1)], [])
    assert store.quarantine()["attempts"].to_list() == [0]
