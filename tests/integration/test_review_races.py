"""Loads that run at the same time cannot see each other; their conflicts are found all the same."""

from __future__ import annotations

import threading
from datetime import date, timedelta

import pytest

from nemflow.errors import NemflowError
from nemflow.pipeline import load
from nemflow.store import open_store


@pytest.mark.parametrize("value", ["days", "reads"])
def test_each_of_three_racing_contents_but_the_first_leaves_one_conflict(
    value, database, put, request
):
    """Three files, one stamp, three contents, released together: two conflicts, in any order."""
    nem12, nem13, a_day = (request.getfixturevalue(n) for n in ("nem12", "nem13", "a_day"))

    def text(number: int, on: date) -> bytes:
        sender = f"MDP{number}"
        if value == "days":
            each = a_day(day=f"{on:%Y%m%d}", value=str(number), update="20250304010000")
            return nem12(each, sender=sender)
        return nem13(
            f"250,SASMPL0001,11,1,11,11,EX0000001,E,000100,{on:%Y%m%d}000001,A,,,00020{number},"
            f"{on + timedelta(days=1):%Y%m%d}000001,A,,,100,kWh,20250701,20250304010000,",
            sender=sender,
        )

    stores = [open_store(database) for _ in range(3)]
    try:
        for turn in range(8):
            on = date(2024, 1, 1) + timedelta(days=2 * turn)
            paths = [put(f"{turn}-{n}.csv", text(n, on)) for n in range(3)]
            gate, told, errors = threading.Barrier(3), [0] * 3, []

            def go(n, paths=paths, gate=gate, told=told, errors=errors):
                gate.wait()
                try:
                    told[n] = sum(load(stores[n], paths[n]).reviews.values())
                except NemflowError as error:
                    errors.append(error)

            threads = [threading.Thread(target=go, args=(n,)) for n in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert errors == []
            assert sum(told) == 2
            events = stores[0].reviews(kind="conflict", open_only=True)
            assert events.height == 2 * (turn + 1)
            assert events["load"].n_unique() == events.height
    finally:
        for each in stores:
            each.close()


def test_processes_of_one_load_find_their_conflicts(database, put, nem12, a_day):
    """``jobs``: two files in two processes."""
    paths = [
        put(f"{n}.csv", nem12(a_day(value=str(n)), *(a_day(day=f"202501{d:02d}", minutes=5)
                                                     for d in range(1, 29)), sender=f"MDP{n}"))
        for n in range(4)
    ]  # fmt: skip
    with open_store(database) as store:
        summary = load(store, paths, jobs=2)
        assert summary.reviews == {"conflict": 3}
        assert store.reviews().height == 3
