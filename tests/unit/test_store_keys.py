"""Keys of the service, and what people ask about deliveries. Asked of every engine alike."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from nemflow.errors import NotFound, UsageError
from nemflow.store import Store, timeline, work
from nemflow.store.tables import MARKET_OFFSET, api_key, audit, load


def columns_of(store: Store) -> str:
    """All there is to know of keys in the tables, as one text."""
    with store.backend.reading() as conn:
        rows = [*conn.execute(sa.select(api_key)), *conn.execute(sa.select(audit))]
    return repr([tuple(row) for row in rows])


def test_a_key_is_shown_once_and_opens_what_it_says(store: Store) -> None:
    """The store keeps no secret; whoever has it is known by name, sender and scopes."""
    assert not store.has_keys()
    key, secret = store.make_key("meter-desk", ["read", "upload"], sender="MDPA", by="kim")
    assert store.has_keys()
    found = store.check_key(secret)
    assert found == key
    assert (key.name, key.sender, key.scopes) == (
        "meter-desk", "MDPA", frozenset({"upload", "read"}),
    )  # fmt: skip
    bare = secret.split("_", 2)[2]
    assert bare not in columns_of(store)
    (row,) = store.keys().to_dicts()
    assert (row["key"], row["state"], row["scopes"]) == (key.id, "live", "upload read")
    assert not {"hash", "salt"} & set(row)


@pytest.mark.parametrize("how", ["one letter", "another number", "cut", "empty", "no key at all"])
def test_a_wrong_secret_opens_nothing(store: Store, how: str) -> None:
    """However near it comes."""
    _, secret = store.make_key("a", ["read"])
    other = "A" if secret[-1] != "A" else "B"
    wrong = {
        "one letter": secret[:-1] + other,
        "another number": secret.replace("_1_", "_2_", 1),
        "cut": secret[:-1],
        "empty": "",
        "no key at all": "Bearer \u00e9' OR 1=1 --",
    }[how]
    assert wrong != secret
    assert store.check_key(wrong) is None


def test_two_live_keys_of_a_name_and_no_more(store: Store) -> None:
    """One can be replaced while the other still works; a revoked one makes room."""
    first, old = store.make_key("desk", ["read"])
    _, new = store.make_key("desk", ["read"])
    with pytest.raises(UsageError, match="2 live keys"):
        store.make_key("desk", ["read"])
    store.revoke_key(first.id, by="kim")
    assert store.check_key(old) is None
    assert store.check_key(new) is not None
    store.make_key("desk", ["read"])
    with pytest.raises(UsageError, match="revoked already"):
        store.revoke_key(first.id)
    with pytest.raises(NotFound):
        store.revoke_key(99)
    with store.backend.reading() as conn:
        acts = list(conn.execute(sa.select(audit.c.act).order_by(audit.c.id)).scalars())
    assert acts == ["key made", "key made", "key revoked", "key made"]


def test_an_expired_key_opens_nothing(store: Store) -> None:
    """By the store's clock; a time that is over is refused when the key is made."""
    now = datetime.now(MARKET_OFFSET)
    _, secret = store.make_key("desk", ["read"], expires_at=now + timedelta(hours=1))
    assert store.check_key(secret) is not None
    with store.backend.writing() as conn:
        conn.execute(sa.update(api_key).values(expires_at=now - timedelta(seconds=1)))
    assert store.check_key(secret) is None
    assert not store.has_keys()
    assert store.keys()["state"].to_list() == ["expired"]
    with pytest.raises(UsageError, match="expired already"):
        store.make_key("desk", ["read"], expires_at=now - timedelta(hours=1))


@pytest.mark.parametrize(
    ("name", "scopes"), [("", ["read"]), ("a b", ["read"]), ("desk", []), ("desk", ["write"])]
)
def test_what_cannot_be_a_key_is_refused(store: Store, name: str, scopes: list[str]) -> None:
    """With the next step."""
    with pytest.raises(UsageError) as refused:
        store.make_key(name, scopes)
    assert refused.value.hint
    assert store.keys().is_empty()


# -- what people ask about deliveries -------------------------------------------------------------


def arrive(store: Store, name: str, **about: Any) -> int:
    """A delivery that was just received."""
    said: dict[str, Any] = {"channel": "http", "sha256": "ab" * 32, "size": 9} | about
    arrival = work.Arrival(name, **said)
    return store.backend.transact(lambda conn: work.receive(conn, store.backend, arrival))


def kill(store: Store, number: int) -> None:
    """Give a delivery up."""
    token = f"w:{number}:x"

    def settle(conn: sa.Connection) -> bool:
        work.claim(conn, store.backend, number, token, 60)
        return work.settle(conn, store.backend, number, token, "dead", error="E-X: broken")

    assert store.backend.transact(settle)


def test_a_delivery_tells_its_way(store: Store) -> None:
    """Steps in order, with how long each took and what it led to."""
    number = arrive(store, "a.csv", lane="urgent")
    at = datetime(2025, 3, 1, 10, tzinfo=MARKET_OFFSET)

    def steps(conn: sa.Connection) -> None:
        for name, second, outcome in (("load", 4, "E-STORE-BUSY"), ("inspect", 1, "ok")):
            timeline.step(
                conn, number, name, attempt=1, began_at=at + timedelta(seconds=second),
                ended_at=at + timedelta(seconds=second + 2), outcome=outcome, detail={"n": second},
            )  # fmt: skip

    store.backend.transact(steps)
    way = store.timeline(number)
    assert way.select("step", "seconds", "outcome").rows() == [
        ("inspect", 2.0, "ok"),
        ("load", 2.0, "E-STORE-BUSY"),
    ]
    assert json.loads(way["detail"][1]) == {"n": 4}
    row = store.delivery(number).row(0, named=True)
    assert (row["lane"], row["state"], row["kept"], row["dry_run"]) == (
        "urgent", "received", "spooled", False,
    )  # fmt: skip
    with pytest.raises(NotFound):
        store.timeline(999)


def test_dead_deliveries_are_listed_and_retried_together(store: Store) -> None:
    """In bulk, all or none."""
    first, second, other = (arrive(store, name) for name in "abc")
    kill(store, first)
    kill(store, second)
    dead = store.dead()
    assert dead.select("delivery", "attempts", "kept", "error").rows() == [
        (second, 1, "spooled", "E-X: broken"),
        (first, 1, "spooled", "E-X: broken"),
    ]
    with pytest.raises(UsageError, match="received"):
        store.retry([first, other])
    assert store.dead().height == 2
    assert store.retry([first, second], by="kim") == 2
    assert store.dead().is_empty()
    assert store.cancel(other) == 1
    assert store.backlog().files == 2
    assert store.retry([]) == 0


def test_what_was_refused_is_tried_again_under_another_profile(store: Store) -> None:
    """From then on; its way and the audit say which; an unknown one changes nothing."""
    number = arrive(store, "a")
    kill(store, number)
    with pytest.raises(UsageError, match="lax"):
        store.retry(number, profile="lax")
    assert store.dead().height == 1
    assert store.retry(number, profile="b2b", by="kim") == 1
    assert store.delivery(number)["profile"].item() == "b2b"
    step = store.timeline(number).row(-1, named=True)
    assert (step["step"], json.loads(step["detail"])["profile"]) == ("retry", "b2b")
    kill(store, number)
    store.retry(number)
    assert store.delivery(number)["profile"].item() == "b2b"


def test_deliveries_are_listed_by_sender_and_way_in(store: Store) -> None:
    """Filters go together."""
    arrive(store, "a", sender="MDPA")
    wanted = arrive(store, "b", sender="MDPA", channel="folder")
    arrive(store, "c", sender="MDPB", channel="folder")
    assert store.deliveries(sender="MDPA", channel="folder")["delivery"].to_list() == [wanted]
    assert store.deliveries(sender="NOBODY").is_empty()


def test_a_delivery_that_was_loaded_in_several_attempts_is_one_row(store: Store) -> None:
    """The counts are those of the newest load."""
    number = arrive(store, "a.csv")

    def attempts(conn: sa.Connection) -> None:
        for state, days in (("dead", 0), ("published", 48)):
            conn.execute(
                sa.insert(load).values(
                    id=store.backend.reserve(conn, load, 1), file=1, delivery=number, base=1,
                    kind="load", state=state, parser_version="1", profile="portal",
                    days_read=days, days_stored=days, started_at=datetime.now(MARKET_OFFSET),
                )
            )  # fmt: skip

    store.backend.transact(attempts)
    rows = store.deliveries()
    assert isinstance(rows, pl.DataFrame)
    assert rows.select("delivery", "days_read").rows() == [(number, 48)]
