"""Deliveries as work: claims, leases, retries, what is due. Asked of every engine alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import integers, lists, sampled_from, tuples

from nemflow.errors import NotFound, StoreTaken, UsageError
from nemflow.store import Store, dispatch, leases, once, timeline, work
from nemflow.store.tables import MARKET_OFFSET, audit, delivery, delivery_step, load

T = TypeVar("T")


def do(store: Store, act: Callable[..., T], *given: Any, **named: Any) -> T:
    """One transaction with one act in it; those that ask the clock are given the engine."""
    wants_clock = "backend" in act.__code__.co_varnames[: act.__code__.co_argcount]
    first = (store.backend,) if wants_clock else ()
    return store.backend.transact(lambda conn: act(conn, *first, *given, **named))


def arrive(store: Store, name: str = "a.csv", **about: Any) -> int:
    """A delivery that was just received."""
    said: dict[str, Any] = {"channel": "http", "sha256": "ab" * 32, "size": 100} | about
    return do(store, work.receive, work.Arrival(name, **said))


def claim(
    store: Store, number: int, token: str | None = None, seconds: float = 60
) -> work.Work | None:
    """Take a delivery, as worker w:1:a unless another is named."""
    return do(store, work.claim, number, token or "w:1:a", seconds)


def row_of(store: Store, number: int) -> Any:
    """A delivery's row."""
    with store.backend.reading() as conn:
        return conn.execute(sa.select(delivery).where(delivery.c.id == number)).one()


def steps_of(store: Store, number: int) -> list[tuple[str, str]]:
    """A delivery's timeline: step and outcome."""
    with store.backend.reading() as conn:
        found = conn.execute(
            sa.select(delivery_step.c.step, delivery_step.c.outcome)
            .where(delivery_step.c.delivery == number)
            .order_by(delivery_step.c.began_at)
        )
        return [tuple(row) for row in found]


def numbers(found: list[dispatch.Due]) -> list[int]:
    """Which deliveries."""
    return [each.delivery for each in found]


def test_what_was_received_is_told_as_it_came(store: Store) -> None:
    """Name, sender, lane and bytes are what the worker gets."""
    about = work.Arrival(
        "day.zip", channel="http", sha256="cd" * 32, size=7, sender="MDPA", lane="urgent",
        profile="b2b", dry_run=True,
    )  # fmt: skip
    number = do(store, work.receive, about)
    got = claim(store, number)
    assert got is not None
    assert (got.delivery, got.name, got.sender, got.lane, got.profile) == (
        number, "day.zip", "MDPA", "urgent", "b2b",
    )  # fmt: skip
    assert (got.sha256, got.size, got.dry_run, got.attempt) == ("cd" * 32, 7, True, 1)
    assert got.received_at == about.received_at
    with store.backend.reading() as conn:
        assert conn.execute(work.arrived(number, about)).first() is not None
        assert conn.execute(work.arrived(number + 1, about)).first() is None


def test_one_worker_gets_it_and_only_once(store: Store) -> None:
    """Whoever comes second finds nothing to do; the first may ask again."""
    number = arrive(store)
    assert claim(store, number) is not None
    assert claim(store, number, "w:2:b") is None
    again = claim(store, number)
    assert again is not None
    assert again.attempt == 1
    assert row_of(store, number).attempts == 1
    assert claim(store, 99_999) is None


def test_of_many_who_claim_at_once_one_gets_it(store: Store) -> None:
    """Whatever the engine: two never hold the same delivery."""
    number = arrive(store)
    got: list[work.Work | None] = []
    gate = threading.Barrier(6)

    def take(name: int) -> None:
        gate.wait()
        got.append(claim(store, number, f"w:{name}:x"))

    threads = [threading.Thread(target=take, args=(each,)) for each in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 6
    assert len([each for each in got if each is not None]) == 1


def test_a_lost_lease_is_taken_over_and_the_late_worker_refused(store: Store) -> None:
    """By the store's clock; what the first one had open is cleared, and it is told to stop."""
    number = arrive(store)
    assert claim(store, number, "w:1:a", seconds=-1) is not None
    open_load(store, number, "w:1:a")
    second = claim(store, number, "w:2:b")
    assert second is not None
    assert second.attempt == 2
    assert not do(store, work.progress, number, "w:1:a", progress={"bytes": 1})
    assert not do(store, work.settle, number, "w:1:a", "loaded")
    assert not do(store, work.retry_later, number, "w:1:a", error="x", seconds=1)
    assert not do(store, work.hand_back, number, "w:1:a")
    with pytest.raises(StoreTaken):
        do(store, work.guard, number, "w:1:a")
    do(store, work.guard, number, "w:2:b")
    with store.backend.reading() as conn:
        assert list(conn.execute(sa.select(load.c.state)).scalars()) == ["dead"]
    assert ("lost", "lease ran out") in steps_of(store, number)


def open_load(store: Store, number: int, token: str) -> None:
    """A load that a worker has begun for a delivery."""

    def begin(conn: sa.Connection) -> None:
        conn.execute(
            sa.insert(load).values(
                id=store.backend.reserve(conn, load, 1), file=1, delivery=number, base=1,
                kind="load", state="open", lease_token=token, parser_version="1",
                profile="portal", started_at=datetime.now(MARKET_OFFSET),
            )
        )  # fmt: skip

    store.backend.transact(begin)


def test_progress_keeps_the_lease_and_is_seen(store: Store) -> None:
    """A worker that says how far it is keeps what it has."""
    number = arrive(store)
    claim(store, number, seconds=-1)
    assert do(store, work.progress, number, "w:1:a", state="loading", progress={"percent": 50})
    assert claim(store, number, "w:2:b") is None
    row = row_of(store, number)
    assert (row.state, row.progress) == ("loading", '{"percent": 50}')


def test_what_was_inspected_is_there_at_the_next_attempt(store: Store) -> None:
    """Handing back after inspection does not count as an attempt."""
    number = arrive(store)
    claim(store, number)
    assert do(store, work.describe, number, "w:1:a", {"kind": "NEM12", "nmis": ["A"]})
    assert do(store, work.hand_back, number, "w:1:a")
    assert do(store, work.hand_back, number, "w:1:a"), "the answer was lost: the same again"
    row = row_of(store, number)
    assert (row.state, row.attempts, row.lease_token) == ("queued", 0, None)
    got = claim(store, number, "w:2:b")
    assert got is not None
    assert got.inspected == {"kind": "NEM12", "nmis": ["A"]}
    assert row_of(store, number).state == "loading"


def test_a_settled_delivery_is_settled_once(store: Store) -> None:
    """Final is final; saying it twice is the same, saying it otherwise is refused."""
    number = arrive(store)
    claim(store, number)
    assert do(store, work.settle, number, "w:1:a", "rejected", error="F001", kept="spooled")
    row = row_of(store, number)
    assert (row.state, row.error, row.kept, row.lease_token) == (
        "rejected",
        "F001",
        "spooled",
        None,
    )
    assert row.finished_at is not None
    assert do(store, work.settle, number, "w:1:a", "rejected", error="F001")
    assert not do(store, work.settle, number, "w:1:a", "loaded")
    assert claim(store, number, "w:2:b") is None


def test_a_published_load_has_given_the_lease_back_and_only_the_original_is_said(
    store: Store,
) -> None:
    """What publishing wrote stays; settling adds what became of the original."""
    number = arrive(store)
    claim(store, number)
    gave = {"state": "loaded", "lease_token": None, "lease_until": None}
    store.backend.transact(
        lambda conn: (
            conn.execute(sa.update(delivery).where(delivery.c.id == number).values(**gave)).rowcount
        )
    )
    with store.backend.reading() as conn:
        assert dispatch.leftovers(conn) == [(number, "ab" * 32)]
    assert do(store, work.settle, number, "w:1:a", "loaded", kept="deleted")
    assert row_of(store, number).kept == "deleted"
    with store.backend.reading() as conn:
        assert dispatch.leftovers(conn) == []


def test_an_original_is_needed_as_long_as_another_delivery_of_it_waits(store: Store) -> None:
    """The spool holds equal bytes once; the first who is done must not take them away."""
    first, second = arrive(store), arrive(store)
    for number in (first, second):
        claim(store, number, f"w:{number}:x")
    with store.backend.reading() as conn:
        assert dispatch.still_needed(conn, "ab" * 32, besides=first)
    do(store, work.settle, second, f"w:{second}:x", "duplicate", kept="deleted")
    with store.backend.reading() as conn:
        assert not dispatch.still_needed(conn, "ab" * 32, besides=first)


def test_a_delivery_whose_attempts_are_used_up_is_dead(store: Store) -> None:
    """Attempts count before their work, so one that kills its worker ends too."""
    number = arrive(store)
    for attempt in range(1, 6):
        got = claim(store, number, f"w:{attempt}:x", seconds=-1)
        assert got is not None
        assert got.attempt == attempt
    assert claim(store, number, "w:6:x") is None
    row = row_of(store, number)
    assert (row.state, row.attempts, row.lease_token) == ("dead", 5, None)
    assert row.error.startswith("Q-POISON")
    assert row.finished_at is not None
    assert ("claim", "dead") in steps_of(store, number)


def test_a_retry_waits_for_its_time(store: Store) -> None:
    """Until then nobody gets it, and the broker is not told."""
    number = arrive(store)
    claim(store, number)
    assert do(store, work.retry_later, number, "w:1:a", error="away", seconds=60)
    assert claim(store, number, "w:2:b") is None
    assert dispatch.due_now(store.backend) == []
    row = row_of(store, number)
    assert (row.state, row.error) == ("waiting_retry", "away")
    assert row.next_try_at is not None
    store.backend.transact(
        lambda conn: (
            conn.execute(
                sa.update(delivery).values(next_try_at=datetime.now(MARKET_OFFSET))
            ).rowcount
        )
    )
    assert numbers(dispatch.due_now(store.backend)) == [number]
    got = claim(store, number, "w:2:b")
    assert got is not None
    assert got.attempt == 2


def test_a_killed_worker_s_delivery_is_queued_again_and_its_members_are_not(store: Store) -> None:
    """Clearing a dead process's rows takes nothing from the ledger; a plain load's are dead."""
    number, plain = arrive(store, "day.zip"), arrive(store, "plain.csv")
    claim(store, number, "w:9:x")
    held = {"state": "loading", "lease_token": "w:9:x"}

    def members(conn: sa.Connection) -> int:
        conn.execute(sa.update(delivery).where(delivery.c.id == plain).values(kept=None, **held))
        inside = store.backend.reserve(conn, delivery, 1)
        conn.execute(
            sa.insert(delivery).values(
                id=inside, parent=number, name="day.zip/a.csv", channel="http", profile="portal",
                received_at=datetime.now(MARKET_OFFSET), **held,
            )
        )  # fmt: skip
        return inside

    inside = store.backend.transact(members)
    do(store, leases.clear, "w:9:x", why="killed", state="dead")
    states = [row_of(store, each).state for each in (number, inside, plain)]
    assert states == ["queued", "cancelled", "dead"]
    assert row_of(store, number).finished_at is None
    got = claim(store, number, "w:1:b")
    assert got is not None
    assert got.attempt == 2


def test_due_is_fair_between_senders(store: Store) -> None:
    """Many of one sender do not keep another's one waiting; of each only so many are told."""
    many = [arrive(store, f"{each}.csv", sender="BIG") for each in range(6)]
    one = arrive(store, "one.csv", sender="SMALL")
    assert numbers(dispatch.due_now(store.backend, per_sender=2)) == [many[0], one, many[1]]
    assert dispatch.due_now(store.backend, per_sender=2) == [], "they are with the broker"
    claim(store, many[0])
    assert numbers(dispatch.due_now(store.backend, per_sender=2)) == [many[2]]
    assert numbers(dispatch.due_now(store.backend, per_sender=2, resend_after=-1)) == [
        many[1],
        one,
        many[2],
    ]
    assert numbers(dispatch.due_now(store.backend, per_sender=100, limit=2)) == [many[3], many[4]]


def test_what_comes_back_from_a_worker_is_told_at_once(store: Store) -> None:
    """The broker was told of it before, and has forgotten it with the claim."""
    number = arrive(store)
    assert numbers(dispatch.due_now(store.backend)) == [number]
    claim(store, number)
    do(store, work.hand_back, number, "w:1:a")
    assert numbers(dispatch.due_now(store.backend)) == [number]


def test_due_tells_of_lost_leases_and_of_nothing_that_is_held_or_done(store: Store) -> None:
    """Held, final, and what came by ``load`` are nobody's business."""
    lost, held, done, plain = (arrive(store, name) for name in "abcd")
    claim(store, lost, "w:1:a", seconds=-1)
    claim(store, held, "w:2:b")
    claim(store, done, "w:3:c")
    do(store, work.settle, done, "w:3:c", "loaded", kept="deleted")
    store.backend.transact(
        lambda conn: (
            conn.execute(
                sa.update(delivery).where(delivery.c.id == plain).values(kept=None, state="loading")
            ).rowcount
        )
    )
    assert numbers(dispatch.due_now(store.backend)) == [lost]


def test_the_backlog_counts_what_is_not_done_and_how_fast_it_goes(store: Store) -> None:
    """Files, bytes and age per lane; what was finished of late is the drain rate."""
    early = datetime.now(MARKET_OFFSET) - timedelta(minutes=2)
    arrive(store, "a", lane="bulk", size=10, received_at=early)
    arrive(store, "b", lane="urgent", size=20)
    working, done = arrive(store, "c", size=30), arrive(store, "d", size=500)
    claim(store, working, "w:1:a")
    claim(store, done, "w:2:b")
    do(store, work.settle, done, "w:2:b", "loaded", kept="deleted")
    found = do(store, dispatch.backlog)
    assert (found.files, found.bytes, found.working) == (3, 60, 1)
    assert found.oldest_seconds == pytest.approx(120, abs=20)
    assert {name: lane.files for name, lane in found.lanes.items()} == {
        "bulk": 1, "normal": 1, "urgent": 1,
    }  # fmt: skip
    assert found.drained_per_second == pytest.approx(0.1)
    assert found.bytes_per_second == pytest.approx(50)


def test_what_hangs_under_a_live_worker_is_taken_away(store: Store) -> None:
    """Its lease may be renewed for ever; time in one state may not."""
    number = arrive(store)
    claim(store, number)
    with store.backend.reading() as conn:
        assert dispatch.wedged(conn, store.backend, 60) == []
        assert dispatch.wedged(conn, store.backend, -1) == [number]
    assert do(store, dispatch.take_away, number, "No progress for an hour.")
    assert not do(store, dispatch.take_away, number, "again")
    with pytest.raises(StoreTaken):
        do(store, work.guard, number, "w:1:a")
    row = row_of(store, number)
    assert (row.state, row.attempts, row.error) == ("queued", 1, "No progress for an hour.")


def test_cancelled_and_retried_by_people(store: Store) -> None:
    """Both are audited; a worker that has it is told to stop; attempts begin anew."""
    number = arrive(store)
    claim(store, number)
    do(store, dispatch.cancel, [number], "kim")
    assert not do(store, work.progress, number, "w:1:a")
    assert row_of(store, number).state == "cancelled"
    with pytest.raises(UsageError, match="cancelled already"):
        do(store, dispatch.cancel, [number], "kim")
    do(store, dispatch.retry, [number], "kim")
    row = row_of(store, number)
    assert (row.state, row.attempts, row.error, row.finished_at) == ("queued", 0, None, None)
    assert claim(store, number, "w:2:b") is not None
    with pytest.raises(UsageError, match="inspecting"):
        do(store, dispatch.retry, [number], "kim")
    with pytest.raises(NotFound):
        do(store, dispatch.retry, [12345], "kim")
    with store.backend.reading() as conn:
        acts = conn.execute(sa.select(audit.c.act, audit.c.who).order_by(audit.c.id)).all()
    assert [tuple(act) for act in acts] == [("cancel", "kim"), ("retry", "kim")]


def test_without_its_original_nothing_is_retried_and_all_or_none_are(store: Store) -> None:
    """One that cannot be is named, and the others stay as they were."""
    good, gone = arrive(store, "a"), arrive(store, "b")
    for number, kept in ((good, "spooled"), (gone, "archived")):
        claim(store, number, f"w:{number}:x")
        do(store, work.settle, number, f"w:{number}:x", "dead", kept=kept)
    with pytest.raises(UsageError, match="archived"):
        do(store, dispatch.retry, [good, gone], None)
    assert row_of(store, good).state == "dead"


def test_the_same_bytes_are_known_again_while_their_load_stands(store: Store) -> None:
    """Not what was rejected, and not what was only tried out."""
    number, tried = arrive(store), arrive(store, dry_run=True)
    with store.backend.reading() as conn:
        assert work.known_raw(conn, "ab" * 32) is None
    for each in (number, tried):
        claim(store, each, f"w:{each}:x")
        do(store, work.settle, each, f"w:{each}:x", "loaded", kept="deleted")
    with store.backend.reading() as conn:
        assert work.known_raw(conn, "ab" * 32) == work.Earlier(number, "loaded", "a.csv")
        assert work.known_raw(conn, "cd" * 32) is None


def test_an_upload_that_names_itself_is_taken_once(store: Store) -> None:
    """Per key: another sender may use the same words."""
    first = do(store, once.remember, "k", "x-1", sha256="aa", delivery=1)
    again = do(store, once.remember, "k", "x-1", sha256="bb", delivery=2)
    other = do(store, once.remember, None, "x-1", sha256="bb", delivery=3)
    assert (first, again, other.delivery) == (once.Remembered("aa", 1), first, 3)
    with store.backend.reading() as conn:
        assert once.remembered(conn, "k", "x-1") == first
        assert once.remembered(conn, "k", "x-2") is None


def test_a_scheduled_sweep_runs_once_however_many_ask(store: Store) -> None:
    """One of them gets the slot."""
    asked = [do(store, once.take_slot, "hourly", "2025-03-01T10:00") for _ in range(3)]
    assert [at is not None for at in asked] == [True, False, False]
    assert do(store, once.take_slot, "hourly", "2025-03-01T11:00")


def test_details_expire_and_what_failed_keeps_them(store: Store) -> None:
    """The timeline of what went well is not kept for ever."""
    good, bad = arrive(store, "a"), arrive(store, "b")
    at = datetime.now(MARKET_OFFSET)
    for number, state in ((good, "loaded"), (bad, "rejected")):
        claim(store, number, f"w:{number}:x")
        do(store, timeline.step, number, "load", attempt=1, began_at=at, ended_at=at)
        do(store, work.settle, number, f"w:{number}:x", state)
    do(store, once.remember, None, "x", sha256="aa", delivery=good)
    none = timedelta(days=1)
    assert do(store, dispatch.expire, details=none, keys=none) == 0
    gone = -timedelta(seconds=1)
    assert do(store, dispatch.expire, details=gone, keys=gone) == 2
    assert steps_of(store, good) == []
    assert steps_of(store, bad) == [("load", "ok")]


ACTS = ("claim", "steal", "progress", "settle", "retry later", "hand back", "cancel", "retry")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(acts=lists(tuples(sampled_from(ACTS), integers(1, 3)), max_size=25))
def test_whatever_workers_and_people_do_the_ledger_s_promises_hold(
    store: Store, acts: list[tuple[str, int]]
) -> None:
    """One holder at a time, who alone can settle; no attempt too many; what is final stays so."""
    number = arrive(store)
    tokens: dict[int, str] = {}
    for turn, (act, worker) in enumerate(acts):
        before = row_of(store, number)
        token = tokens.get(worker, f"w:{worker}:none")
        holds = before.lease_token == token
        if act in ("claim", "steal"):
            if act == "steal":  # the lease of whoever holds it runs out
                run_out(store, number)
            fresh = f"w:{worker}:{turn}"
            if claim(store, number, fresh) is not None:
                tokens[worker] = fresh
                assert before.state not in work.FINAL
                assert act == "steal" or before.lease_token is None
        elif act == "progress":
            assert do(store, work.progress, number, token, progress={"turn": turn}) is holds
        elif act == "settle":
            done = do(store, work.settle, number, token, "dead", error="E")
            assert done is (holds or (before.lease_token is None and before.state == "dead"))
        elif act == "retry later":
            done = do(store, work.retry_later, number, token, error="E", seconds=-1)
            idle = before.lease_token is None and before.state == "waiting_retry"
            assert done is (holds or idle)
        elif act == "hand back":
            idle = before.lease_token is None and before.state == "queued"
            assert do(store, work.hand_back, number, token) is (holds or idle)
        else:
            by_people(store, number, act)
        after = row_of(store, number)
        assert 0 <= after.attempts <= work.MAX_ATTEMPTS
        assert (after.lease_token is not None) is (after.state in work.WORKING)
        assert (after.finished_at is not None) is (after.state in work.FINAL)
        if before.state in work.FINAL and act != "retry":
            assert after == before


def run_out(store: Store, number: int) -> None:
    """The lease of a delivery is over."""
    long_ago = datetime.now(MARKET_OFFSET) - timedelta(hours=1)
    with store.backend.writing() as conn:
        conn.execute(
            sa.update(delivery)
            .where(delivery.c.id == number, delivery.c.lease_token.is_not(None))
            .values(lease_until=long_ago)
        )


def by_people(store: Store, number: int, act: str) -> None:
    """Cancel or retry; refused when it is not the time for it."""
    with suppress(UsageError):
        do(store, dispatch.cancel if act == "cancel" else dispatch.retry, [number], "kim")


def test_what_a_sweep_took_is_known_by_its_mark(store: Store) -> None:
    """Written again it has another; another folder knows nothing of it; twice is once."""
    store.note_swept("/archive", {"a/b.csv": ("10:1", 1), "c.csv": ("20:2", 2)})
    store.note_swept("/archive", {"c.csv": ("20:3", 3)})
    store.note_swept("/archive", {})
    assert store.swept("/archive") == {"a/b.csv": "10:1", "c.csv": "20:3"}
    assert store.swept("/other") == {}
    assert store.take_slot("hourly by hand", "2025-03-01T10:00")
    assert not store.take_slot("hourly by hand", "2025-03-01T10:00")
