"""Webhooks: a real receiver on loopback that answers, refuses, hangs and checks signatures."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook, WebhookVerificationError

from nemflow import pipeline
from nemflow.errors import NotFound, UsageError
from nemflow.jobs.pace import Calling
from nemflow.service.hooks import Caller, checked_url
from nemflow.store import hookmessages
from nemflow.store.tables import webhook, webhook_message

QUICK = Calling(attempts=3, timeout_seconds=1, retry_seconds=0)
SHORT = ("1",) * 47


class Receiver:
    """What came in, and what to answer next: a status, or ``hang``."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[Any] = []
        self.over = threading.Event()
        self.url = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was said."""
        return [json.loads(body) for _, body in self.got]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of loopback."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            answer = receiver.answers.pop(0) if receiver.answers else 200
            if answer == "hang":
                receiver.over.wait(20)
                return
            self.send_response(answer)
            if answer == 302:
                self.send_header("Location", receiver.url + "/elsewhere")
            self.end_headers()
            self.wfile.write(b"said " + b"x" * 5000)

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that answers 200 unless told otherwise."""
    with receiving() as made:
        yield made


@pytest.fixture
def load(store, put, nem12, a_day):
    """Load a file of one day of March 2025; 47 values: rejected."""

    def loaded(day: int, values=(), sender: str = "MDPA") -> None:
        text = nem12(a_day(day=f"202503{day:02}", values=values), sender=sender)
        pipeline.load(store, [put(f"{day}.csv", text)])

    return loaded


def states(store, number: int = 1) -> list[str]:
    """The states of a webhook's messages, oldest first."""
    store.collect_outcomes()
    return store.webhook_messages(number)["state"].reverse().to_list()


def tell(store, number: int = 1, **how) -> int:
    """Tell one webhook what there is to tell, without its pause."""
    with store.backend.writing() as conn:
        conn.execute(sa.update(webhook).values(pause_until=None))
    store.collect_outcomes()
    return Caller(store, how.pop("calling", QUICK), **how).tell(number)


def test_final_states_are_told_signed_once_each_in_order(store, receiver, load) -> None:
    """From when it was made; the most specific event; nothing but ids and counts."""
    load(1)
    number, secret = store.add_webhook(receiver.url, ["file.final", "file.rejected"])
    load(2)
    load(3, SHORT)
    assert tell(store) == 2
    assert tell(store) == 0
    assert [(b["type"], b["data"]["delivery"]) for b in receiver.bodies] == [
        ("file.final", 2), ("file.rejected", 3),
    ]  # fmt: skip
    data = receiver.bodies[1]["data"]
    assert (data["state"], data["days_read"], data["days_rejected"]) == ("rejected", 1, 1)
    assert not {"error", "message", "value"} & set(data)
    for headers, body in receiver.got:
        assert Webhook(secret).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_" + "A" * 43 + "=").verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body + b" ", headers)
    ids = {headers["webhook-id"] for headers, _ in receiver.got}
    assert len(ids) == 2
    assert states(store, number) == ["delivered", "delivered"]


def test_only_what_was_asked_for_is_told(store, receiver, load) -> None:
    """By event and by sender."""
    store.add_webhook(receiver.url, ["file.rejected"], sender="MDPB")
    load(1, SHORT)
    load(2, sender="MDPB")
    load(3, SHORT, sender="MDPB")
    tell(store)
    assert [each["data"]["delivery"] for each in receiver.bodies] == [3]


def test_a_refusal_is_tried_again_and_at_last_dead_and_retriable(store, receiver, load) -> None:
    """The same id each time; dead is a problem of ours until it is delivered after all."""
    store.add_webhook(receiver.url, ["file.final"])
    load(1)
    receiver.answers = [500, "hang", 302]
    for attempt in range(1, 4):
        assert tell(store) == 1
        row = store.webhook_messages(1).row(0, named=True)
        assert row["attempts"] == attempt
    assert [row["state"], row["last_status"]] == ["dead", 302]
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 3, "the redirect is not followed"
    problem = store.problems().row(0, named=True)
    assert (problem["rule"], problem["who"]) == ("webhook 1", "us")
    assert tell(store) == 0
    with pytest.raises(UsageError, match="dead"):
        store.retry_webhook(1, [99])
    assert store.retry_webhook(1) == 1
    assert tell(store) == 1
    assert states(store) == ["delivered"]
    assert store.problems().is_empty()


def test_a_webhook_that_fails_is_left_alone_for_a_while(store, receiver, load) -> None:
    """The first failure ends the round; the rest waits out the pause, then goes on in order."""
    store.add_webhook(receiver.url, ["file.final"])
    load(1)
    load(2)
    receiver.answers = [503]
    slow = Calling(attempts=3, timeout_seconds=1, retry_seconds=600)
    assert tell(store, calling=slow) == 1
    caller = Caller(store, slow)
    assert caller.tell(1) == 0, "it is paused"
    assert tell(store, calling=slow) == 1, "the other one; the first has its time"
    assert states(store) == ["waiting", "delivered"]
    row = store.webhook_messages(1).row(1, named=True)
    assert 290 < (row["next_try_at"] - row["last_try_at"]).total_seconds() < 601
    assert len(row["last_answer"]) == 500, "the answer is kept, not all of it"


def test_gone_switches_it_off_and_enabled_again_it_misses_nothing(store, receiver, load) -> None:
    """410; what happened meanwhile is told afterwards."""
    store.add_webhook(receiver.url, ["file.final"])
    load(1)
    receiver.answers = [410]
    tell(store)
    row = store.webhooks().row(0, named=True)
    assert (row["state"], row["disabled_why"], row["dead"]) == (
        "disabled", "It answered 410 Gone.", 1,
    )  # fmt: skip
    load(2)
    assert tell(store) == 0
    store.change_webhook(1, "enable", by="ann")
    assert tell(store) == 1
    assert receiver.bodies[-1]["data"]["delivery"] == 2
    store.change_webhook(1, "remove")
    assert store.webhooks().is_empty()
    with pytest.raises(NotFound):
        store.change_webhook(1, "enable")


def test_changes_of_a_consumer_are_told_by_commit(store, receiver, put, nem12, a_day) -> None:
    """Only days that the consumer took and that differ now; nothing for what others took."""
    for day in ("20250301", "20250302"):
        pipeline.load(store, [put("old.csv", nem12(a_day(day=day)))])
    store.readings("SASMPL0001", date(2025, 3, 1), date(2025, 3, 1), consumer="billing")
    with pytest.raises(UsageError, match="consumer"):
        store.add_webhook(receiver.url, ["consumer.changes"])
    store.add_webhook(receiver.url, ["consumer.changes"], consumer="billing")
    for day in ("20250302", "20250301"):
        text = nem12(a_day(day=day, value="7", update="20250309010000"))
        pipeline.load(store, [put("new.csv", text)])
        tell(store)
    (told,) = receiver.bodies
    assert told["type"] == "consumer.changes"
    assert told["data"] == {
        "consumer": "billing", "since": 3, "seq": 4, "days": 1, "nmi_count": 1,
        "nmis": ["SASMPL0001"],
    }  # fmt: skip
    assert tell(store) == 0


def test_commits_that_never_end_do_not_keep_changes_from_being_told(  # noqa: PLR0917 - fixtures
    store, receiver, put, nem12, a_day, monkeypatch
) -> None:
    """One more comes each time it is looked: what there was at the first look is sent."""
    pipeline.load(store, [put("old.csv", nem12(a_day()))])
    store.readings("SASMPL0001", consumer="billing")
    store.add_webhook(receiver.url, ["consumer.changes"], consumer="billing")
    make, rounds = hookmessages.make_messages, []

    def under_load(*given):
        rounds.append(1)
        assert len(rounds) < 5, "it goes round for ever"
        text = nem12(a_day(value=str(len(rounds) + 7), update=f"202503090{len(rounds)}0000"))
        pipeline.load(store, [put(f"{len(rounds)}.csv", text)])
        return make(*given)

    monkeypatch.setattr(hookmessages, "make_messages", under_load)
    assert tell(store) == 1
    assert len(receiver.bodies) == 1


def test_more_outcomes_than_are_taken_in_one_go_are_told_in_order(
    store, receiver, load, monkeypatch
) -> None:
    """All of them at one call, and the webhook stays ours while they are found out."""
    monkeypatch.setattr(hookmessages, "AT_ONCE", 2)
    store.add_webhook(receiver.url, ["file.final"])
    for day in range(1, 6):
        load(day)
    assert tell(store) == 5
    assert [body["data"]["delivery"] for body in receiver.bodies] == [1, 2, 3, 4, 5]
    load(6)
    load(7)
    stopped = Caller(store, QUICK)
    stopped.stop()
    store.collect_outcomes()
    assert stopped.tell(1) == 0
    assert tell(store) == 2


def test_a_sender_killed_at_any_moment_loses_no_message(store, receiver, load) -> None:
    """Killed at the COMMIT that makes messages, and after the receiver has it: told again."""
    store.add_webhook(receiver.url, ["file.final"])
    load(1)
    store.collect_outcomes()
    code = (
        "import sys; from nemflow import failpoints; from nemflow.store import open_store; "
        "from nemflow.service.hooks import Caller; s = open_store(sys.argv[1]); c = Caller(s); "
        "failpoints.arm(sys.argv[2]); c.tell(1)"
    )
    url = store.backend.url.render_as_string(hide_password=False)
    for place in ("before-commit@2", "before-commit@4"):  # messages made; what was answered
        done = subprocess.run(
            [sys.executable, "-c", code, url, f"{place}=kill"], env=os.environ, check=False
        )
        assert done.returncode == -9
        with store.backend.writing() as conn:  # as if its lease had run out
            conn.execute(sa.update(webhook).values(lease_until=None))
    assert len(receiver.got) == 1
    assert states(store) == ["waiting"], "it arrived, but nobody lived to write that down"
    assert tell(store) == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert states(store) == ["delivered"]


def test_several_senders_at_once_tell_each_message_once(store, receiver, load) -> None:
    """A webhook is one sender's at a time."""
    store.add_webhook(receiver.url, ["file.final"])
    callers = [Caller(store, QUICK, every_seconds=0.02) for _ in range(3)]
    threads = [threading.Thread(target=each.run) for each in callers]
    for thread in threads:
        thread.start()
    try:
        for day in range(1, 7):
            load(day)
            store.collect_outcomes()
        until = time.monotonic() + 30
        while states(store).count("delivered") < 6 and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        for each in callers:
            each.stop()
        for thread in threads:
            thread.join(30)
    assert [each["data"]["delivery"] for each in receiver.bodies] == [1, 2, 3, 4, 5, 6]


def test_with_a_key_the_store_does_not_hold_the_secret(store, receiver, load) -> None:
    """It is derived, the same each time."""
    _, secret = store.add_webhook(receiver.url, ["file.final"], key="a long key")
    with store.backend.reading() as conn:
        row = conn.execute(sa.select(webhook)).one()
    assert row.secret is None
    assert secret not in str(row)
    load(1)
    tell(store, key="a long key")
    ((headers, body),) = receiver.got
    assert Webhook(secret).verify(body, headers)


def test_without_the_key_it_is_said_at_once_that_nothing_can_be_sent(store, receiver, load) -> None:
    """As an attempt that failed, and as a problem of ours; with the key all is well again."""
    store.add_webhook(receiver.url, ["file.final"], key="a long key")
    load(1)
    assert tell(store) == 1
    row = store.webhook_messages(1).row(0, named=True)
    assert (row["state"], row["attempts"]) == ("waiting", 1)
    assert "webhooks.key" in row["last_answer"]
    problem = store.problems().row(0, named=True)
    assert (problem["rule"], problem["who"]) == ("webhook 1", "us")
    assert "NEMFLOW_WEBHOOKS_KEY" in str(problem)
    assert receiver.got == []
    assert tell(store, key="a long key") == 1
    assert states(store) == ["delivered"]
    assert store.problems().is_empty()


@pytest.mark.parametrize(
    "url",
    ["ftp://a/b", "gopher://a/b", "http://", "//a/b", "http://me:pw@a/b", "http://a/b#c",
     "http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/",
     "http://2852039166/", "http://0xa9fea9fe/", "http://169.254.43518/", "http://a:99999/",
     "http://a\\@b/"],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused(url: str) -> None:
    """Only http and https, no password, not where clouds keep their secrets."""
    with pytest.raises(UsageError):
        checked_url(url)


def test_hosts_can_be_restricted_also_for_webhooks_made_before(store, receiver, load) -> None:
    """A name, or everything below one; checked when it is made and at every attempt."""
    hosts = "hooks.example.org, .example.com"
    assert checked_url("https://hooks.example.org/x", hosts)
    assert checked_url("https://a.example.com/x", hosts)
    for url in ("https://example.org/", "https://badexample.com/", "https://hooks.example.org.x/"):
        with pytest.raises(UsageError, match="host"):
            checked_url(url, hosts)
    store.add_webhook(receiver.url, ["file.final"])
    load(1)
    tell(store, hosts=hosts)
    assert receiver.got == []
    assert "may not name" in store.webhook_messages(1)["last_answer"][0]


def test_a_name_that_leads_to_a_link_local_address_is_refused(
    store, receiver, load, monkeypatch
) -> None:
    """Where a name leads is looked at for each attempt; a host that is named is meant."""
    port = int(receiver.url.rpartition(":")[2])
    real = socket.getaddrinfo

    def looked_up(host, *rest, **how):
        return real("169.254.169.254" if host == "inner.example.org" else host, *rest, **how)

    monkeypatch.setattr("socket.getaddrinfo", looked_up)
    store.add_webhook(checked_url(f"http://inner.example.org:{port}/"), ["file.final"])
    load(1)
    assert tell(store) == 1
    assert "169.254.169.254" in store.webhook_messages(1)["last_answer"][0]
    assert "may not lead" in store.webhook_messages(1)["last_answer"][0]
    with store.backend.writing() as conn:
        conn.execute(sa.update(webhook).values(url=f"http://localhost:{port}/"))
    assert tell(store, hosts="localhost") == 1
    assert len(receiver.got) == 1


def test_a_name_looked_up_differently_the_second_time_gets_nothing(
    store, receiver, load, monkeypatch
) -> None:
    """Who was really reached is looked at before anything is sent."""
    monkeypatch.setattr("nemflow.service.hooks._look_up", lambda _: asyncio.sleep(0))
    monkeypatch.setattr("ipaddress.IPv4Address.is_link_local", True)
    store.add_webhook(receiver.url.replace("127.0.0.1", "localhost"), ["file.final"])
    load(1)
    assert tell(store) == 1
    assert "may not lead" in store.webhook_messages(1)["last_answer"][0]
    assert receiver.got == []


def test_a_test_message_says_nothing_and_old_ones_are_removed(store, receiver) -> None:
    """webhook.test; delivered messages are kept for some days."""
    store.add_webhook(receiver.url, ["file.final"])
    number = store.test_webhook(1)
    assert Caller(store, QUICK).send_now(1, number).good
    assert receiver.bodies[0]["type"] == "webhook.test"
    with store.backend.writing() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(webhook_message)).scalar() == 1
    Caller(store, Calling(keep_days=-1))._expire()
    assert states(store) == []
