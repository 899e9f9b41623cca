"""Uploads: the real application on a real socket, a real spool, a real ledger."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import random
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from borrowed import from_file
from nemflow.errors import SpoolFull, StoreUnresolved
from nemflow.intake.accepting import AcceptLimits
from nemflow.intake.spool import Landing, Spool, SpoolLimits
from nemflow.service.auth import Keyring
from nemflow.service.context import Context
from nemflow.service.intake import Intake, retry_after
from nemflow.store.dispatch import Backlog

served = from_file(Path(__file__).with_name("serving.py")).served
SMALL = AcceptLimits(
    files=3, uploads=4, floor_bytes_per_second=100, floor_seconds=1, upload_seconds=3
)


class Desk:
    """A service with its store, its spool and a client."""

    def __init__(self, store, folder: Path) -> None:
        self.store = store
        self.spool = Spool(folder / "spool", SpoolLimits(file_bytes=3 << 20, free_bytes=1))
        self.nudged = threading.Event()
        self.context = Context(store, Keyring(lambda _: None, needed=False), SMALL)
        self.context.intake = Intake(store, self.spool, SMALL, self.nudged.set)
        self.client = httpx.Client()
        self.url = ""

    def limit(self, **changes: int) -> None:
        """Other limits from here on."""
        limits = dataclasses.replace(SMALL, **changes)
        self.context.limits = limits
        self.context.intake = Intake(self.store, self.spool, limits, self.nudged.set)

    def left(self) -> list[str]:
        """Every file in the spool, landing included."""
        return sorted(p.name for p in self.spool.root.rglob("*") if p.is_file())

    def rows(self) -> int:
        """How many deliveries the ledger knows."""
        return self.store.deliveries(limit=None).height

    def talk(self) -> socket.socket:
        """A bare connection."""
        place = urlsplit(self.url)
        return socket.create_connection((place.hostname, place.port), timeout=10)

    def settled(self) -> list[str]:
        """The spool once the service has let go of what it was receiving."""
        until = time.monotonic() + 10
        while (left := self.left()) and time.monotonic() < until:
            time.sleep(0.02)
        return left


@pytest.fixture
def desk(store, tmp_path):
    """A running service."""
    made = Desk(store, tmp_path)
    with served(made.context) as url, httpx.Client(base_url=url, timeout=20) as client:
        made.client, made.url = client, url
        yield made


def sha(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 2_000, 700_000, (3 << 20) - 1, 3 << 20])
def test_put_keeps_exactly_these_bytes_and_writes_their_row(desk, size) -> None:
    """202 and a Location; then the original lies under its SHA-256 and the ledger has its row."""
    data = random.Random(size).randbytes(size)  # noqa: S311
    answer = desk.client.put("/v1/deliveries/day.csv", content=data, params={"priority": "urgent"})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert (told["state"], told["sha256"]) == ("received", sha(data))
    assert desk.spool.path(sha(data)).read_bytes() == data
    assert desk.left() == [sha(data)]
    row = desk.client.get(answer.headers["location"]).json()
    assert (row["name"], row["size"], row["lane"], row["channel"]) == (
        "day.csv", size, "urgent", "http",
    )  # fmt: skip
    assert desk.nudged.is_set()


def test_a_form_brings_several_files_each_its_own_delivery(desk) -> None:
    """Names come without folders; each file's bytes are its own, whatever they hold."""
    tricky = b"\r\n--boundary\r\n" * 5_000 + os.urandom(50_000) + b"\r\n--"
    files = [
        ("file", ("..\\..\\a.csv", b"one")),
        ("file", ("x/../b.zip", tricky)),
        ("file", ("Zähler.csv", b"")),
    ]
    answer = desk.client.post("/v1/deliveries", files=files)
    assert answer.status_code == 202, answer.text
    told = answer.json()["deliveries"]
    assert [each["name"] for each in told] == ["a.csv", "b.zip", "Zähler.csv"]
    assert [each["sha256"] for each in told] == [sha(data) for _, (_, data) in files]
    assert desk.spool.path(sha(tricky)).read_bytes() == tricky
    assert desk.store.deliveries()["name"].to_list() == ["Zähler.csv", "b.zip", "a.csv"]


def test_pieces_of_any_size_make_the_same_files(desk) -> None:
    """A form sent byte by byte, or in odd pieces, is the same form."""
    body = (
        b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        b"100,NEM12\r\n--x\r\n900\r\n--xx--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=xx"}
    for step in (1, 3, 17):
        pieces = (body[at : at + step] for at in range(0, len(body), step))
        answer = desk.client.post("/v1/deliveries", content=pieces, headers=headers)
        assert answer.status_code == 202, answer.text
        assert answer.json()["deliveries"][0]["sha256"] == sha(b"100,NEM12\r\n--x\r\n900")


@pytest.mark.parametrize(
    ("request_of", "status", "code"),
    [
        (lambda c: c.put("/v1/deliveries/a", content=b"x" * ((3 << 20) + 1)), 413, "E-TOO-LARGE"),
        (
            lambda c: c.put("/v1/deliveries/a", content=iter([b"x" * (1 << 20)] * 4)),
            413,
            "E-TOO-LARGE",
        ),
        (lambda c: c.post("/v1/deliveries", files=[("f", (str(n), b"x")) for n in range(4)]), 413,
         "E-TOO-LARGE"),
        (lambda c: c.post("/v1/deliveries", content=b"x"), 400, "E-REQUEST"),
        (lambda c: c.post("/v1/deliveries", data={"profile": "b2b"}, files={"f": b"x"}), 400,
         "E-REQUEST"),
        (lambda c: c.put("/v1/deliveries/a", files={"f": b"x"}), 400, "E-REQUEST"),
        (lambda c: c.post("/v1/deliveries", content=b"--y\r\nrubbish",
                          headers={"Content-Type": "multipart/form-data; boundary=x"}), 400,
         "E-REQUEST"),
        (lambda c: c.post("/v1/deliveries", content=b"--x--\r\n",
                          headers={"Content-Type": "multipart/form-data; boundary=x"}), 400, None),
        (lambda c: c.post("/v1/deliveries", headers={
            "Content-Type": "multipart/form-data; boundary=x"}, content=(
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nhalf')), 400,
         "E-LENGTH"),
        (lambda c: c.put("/v1/deliveries/a", content=b"x", headers={
            "Content-Digest": "sha-256=:" + base64.b64encode(hashlib.sha256(b"y").digest()).decode()
            + ":"}), 400, "E-DIGEST"),
        (lambda c: c.put("/v1/deliveries/a", content=b"x",
                         headers={"Content-Digest": "md5=:eA==:"}), 400, "E-DIGEST"),
        (lambda c: c.put("/v1/deliveries/a?priority=now", content=b"x"), 422, "E-USAGE"),
        (lambda c: c.put("/v1/deliveries/a?profile=strict", content=b"x"), 422, "E-USAGE"),
        (lambda c: c.put("/v1/deliveries/a?wait=-1", content=b"x"), 422, "E-USAGE"),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_no_trace(desk, request_of, status, code) -> None:
    """A problem with its code; nothing in the spool, nothing in the ledger."""
    answer = request_of(desk.client)
    assert answer.status_code == status, answer.text
    if code is not None:
        assert answer.json()["code"] == code
    assert desk.settled() == []
    assert desk.rows() == 0
    assert desk.client.put("/v1/deliveries/after", content=b"fine").status_code == 202


def test_a_digest_that_fits_is_accepted(desk) -> None:
    """Content-Digest beside other algorithms; only sha-256 is looked at."""
    data = b"100,NEM12"
    told = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {"Content-Digest": f"sha-512=:AAAA:, sha-256=:{told}:"}
    answer = desk.client.put("/v1/deliveries/a", content=data, headers=headers)
    assert answer.status_code == 202


def test_cut_off_uploads_leave_no_trace(desk) -> None:
    """40 uploads cut anywhere, as bytes with a length, in chunks, and as forms."""
    dice = random.Random(7)  # noqa: S311
    form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
    for turn in range(40):
        body = (form if turn % 3 == 2 else b"") + b"1" * dice.randrange(1, 900_000)
        head = b"POST /v1/deliveries" if turn % 3 == 2 else b"PUT /v1/deliveries/a"
        head += b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        if turn % 3 != 2:
            head = head.replace(b"multipart/form-data; boundary=x", b"text/csv")
        if turn % 3 == 1:
            head += b"Transfer-Encoding: chunked\r\n\r\n" + f"{len(body) + 9:x}\r\n".encode()
        else:
            head += f"Content-Length: {len(body) + 9}\r\n\r\n".encode()
        with desk.talk() as wire:
            wire.sendall(head + body)
    assert desk.settled() == []
    assert desk.rows() == 0


def test_a_trickle_is_given_up_and_so_is_one_that_never_ends(desk) -> None:
    """Below the floor: 408 after a window; above it: 408 at the deadline."""
    head = b"PUT /v1/deliveries/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
    for piece, shortest, longest in ((b"", 0.8, 2.5), (b"1" * 60, 2.7, 5.5)):
        with desk.talk() as wire:
            began = time.monotonic()
            wire.sendall(head)
            wire.settimeout(0.2)
            answer = b""
            while not answer and time.monotonic() - began < 8:
                wire.sendall(piece)
                try:
                    answer = wire.recv(4096)
                except TimeoutError:
                    continue
            assert answer.startswith(b"HTTP/1.1 408"), answer
            assert shortest < time.monotonic() - began < longest
    assert desk.settled() == []
    assert desk.rows() == 0


def test_a_refusal_reaches_a_sender_before_it_has_sent_all(desk) -> None:
    """By its length alone; nothing of the body was asked for."""
    with desk.talk() as wire:
        wire.sendall(
            b"PUT /v1/deliveries/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        answer = wire.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()


def test_the_same_bytes_again_are_the_same_original_and_a_key_is_taken_once(desk) -> None:
    """Idempotency-Key: same bytes, same delivery; other bytes, 409."""

    def put(data: bytes, key: str | None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return desk.client.put("/v1/deliveries/a", content=data, headers=headers)

    first = put(b"one", "k1").json()["delivery"]
    again = put(b"one", "k1")
    assert again.json()["delivery"] == first
    other = put(b"two", "k1")
    assert (other.status_code, other.json()["code"]) == (409, "E-IDEMPOTENCY")
    assert put(b"one", None).json()["delivery"] != first
    assert desk.left() == [sha(b"one")]
    assert desk.rows() == 2


def test_a_form_that_fails_half_way_names_what_was_accepted(desk, monkeypatch) -> None:
    """Whatever is wrong with a later file: the receipts of those before it are in the problem."""

    def post(third: bytes, key: str) -> httpx.Response:
        files = [("file", (name, name.encode())) for name in ("a", "b")]
        files.append(("file", ("c", third)))
        return desk.client.post("/v1/deliveries", files=files, headers={"Idempotency-Key": key})

    told = post(b"one", "k").json()["deliveries"]
    refused = post(b"two", "k")
    assert (refused.status_code, refused.json()["code"]) == (409, "E-IDEMPOTENCY")
    assert refused.json()["accepted"] == told[:2]

    keep = Landing.keep

    def full(landing: Landing) -> None:
        if landing.sha256 == sha(b"three"):
            raise SpoolFull("There is no room left.")
        keep(landing)

    monkeypatch.setattr(Landing, "keep", full)
    desk.nudged.clear()
    failed = post(b"three", "k2")
    assert (failed.status_code, failed.json()["code"]) == (507, "E-SPOOL-FULL")
    accepted = failed.json()["accepted"]
    assert [each["name"] for each in accepted] == ["a", "b"]
    assert [desk.client.get(each["href"]).json()["name"] for each in accepted] == ["a", "b"]
    assert desk.nudged.is_set()
    alone = desk.client.put("/v1/deliveries/c", content=b"three")
    assert (alone.status_code, "accepted" in alone.json()) == (507, False)


def test_bytes_that_are_loaded_are_a_duplicate_with_the_earlier_outcome(desk, put, nem12, a_day):
    """200, the earlier delivery and its counts; nothing is kept again."""
    from nemflow import pipeline

    text = nem12(a_day())
    pipeline.load(desk.store, [put("a.csv", text)])
    answer = desk.client.put("/v1/deliveries/b.csv", content=text)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["state"], told["duplicate_of"]) == ("duplicate", 1)
    assert (told["earlier"]["state"], told["earlier"]["days_stored"]) == ("loaded", 1)
    assert desk.left() == []


def test_metrics_tell_what_waits(desk) -> None:
    """Files and bytes by lane, and the spool's."""
    desk.client.put("/v1/deliveries/a?priority=bulk", content=b"12345")
    desk.spool.usage()  # counted anew: the service is content with a count of ten seconds ago
    lines = desk.client.get("/metrics").text.splitlines()
    assert 'nemflow_backlog_files{lane="bulk"} 1.0' in lines
    assert 'nemflow_backlog_bytes{lane="bulk"} 5.0' in lines
    assert "nemflow_spool_files 1.0" in lines


def test_the_original_and_the_report_can_be_had(desk) -> None:
    """The bytes as they came, for download only; the report as JSON and as CSV."""
    told = desk.client.put("/v1/deliveries/a.csv", content=b"100,NEM12").json()
    original = desk.client.get(told["href"] + "/original")
    assert original.content == b"100,NEM12"
    assert "attachment" in original.headers["content-disposition"]
    report = desk.client.get(told["href"] + "/report")
    assert report.json()["delivery"] == told["delivery"]
    as_csv = desk.client.get(told["href"] + "/report", headers={"Accept": "text/csv"})
    assert as_csv.text.startswith("delivery,source,state")
    parquet = desk.client.get(told["href"] + "/report", headers={"Accept": "application/parquet"})
    assert parquet.status_code == 406
    desk.spool.delete(sha(b"100,NEM12"))
    assert desk.client.get(told["href"] + "/original").status_code == 404


def test_fifty_at_once_of_the_same_file_are_fifty_deliveries_of_one_original(desk) -> None:
    """Accepted, or told to come again; never an error, never half."""
    desk.limit(uploads=50)
    answers: list[int] = []

    def send(number: int) -> None:
        with httpx.Client(base_url=desk.url, timeout=60) as client:
            answer = client.put(f"/v1/deliveries/{number}", content=b"same" * 1000)
            answers.append(answer.status_code)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(50)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert answers == [202] * 50
    assert desk.left() == [sha(b"same" * 1000)]
    assert desk.rows() == 50


def test_an_upload_whose_commit_was_not_answered_is_to_be_sent_again(desk, monkeypatch) -> None:
    """503 with Retry-After: the store is away, nothing is wrong with the file or with us."""

    def cut(*_: object, **__: object) -> None:
        raise StoreUnresolved("Whether it was saved is not known.")

    monkeypatch.setattr(desk.store.backend, "transact", cut)
    answer = desk.client.put("/v1/deliveries/a", content=b"one")
    assert (answer.status_code, answer.json()["code"]) == (503, "E-STORE-AWAY")
    assert answer.headers["retry-after"] == "10"


def test_too_much_waiting_too_many_at_once_and_a_full_spool(desk) -> None:
    """503 and 507, each with Retry-After; what was accepted stays."""
    desk.limit(waiting_files=2)
    put = desk.client.put
    assert [put(f"/v1/deliveries/{n}", content=b"%d" % n).status_code for n in range(2)] == [
        202
    ] * 2
    time.sleep(1.1)  # the count may be a second old
    full = put("/v1/deliveries/c", content=b"c")
    assert (full.status_code, full.json()["code"]) == (503, "E-BACKLOG")
    assert int(full.headers["retry-after"]) >= 1
    desk.limit(uploads=0)
    busy = put("/v1/deliveries/c", content=b"c")
    assert (busy.status_code, busy.json()["code"]) == (503, "E-BUSY")
    desk.limit()
    desk.spool.limits = SpoolLimits(free_bytes=1 << 60)
    no_room = put("/v1/deliveries/c", content=b"c")
    assert (no_room.status_code, no_room.json()["code"]) == (507, "E-SPOOL-FULL")
    assert "retry-after" in no_room.headers
    assert desk.rows() == 2


def test_a_full_spool_asks_to_come_again_when_a_tenth_of_what_waits_is_loaded(
    desk, monkeypatch
) -> None:
    """By how fast work is being done; a minute when nothing is."""
    monkeypatch.setattr(desk.spool, "limits", SpoolLimits(free_bytes=1 << 60))
    for rate, said in ((10.0, "25"), (0.0, "60")):
        waiting = Backlog(5, 2500, 1, 1.0, {}, 1.0, rate)
        monkeypatch.setattr(Intake, "backlog", lambda self, waiting=waiting: waiting)
        full = desk.client.put("/v1/deliveries/c", content=b"c")
        assert (full.status_code, full.headers["retry-after"]) == (507, said)


def test_waiting_ends_with_the_time_or_the_outcome(desk) -> None:
    """202 when the time is over; 200 with the outcome when it is final."""
    began = time.monotonic()
    answer = desk.client.put("/v1/deliveries/a?wait=0.3", content=b"x")
    assert answer.status_code == 202
    assert 0.25 < time.monotonic() - began < 5
    assert answer.json()["state"] == "received"

    def cancel() -> None:
        while desk.rows() < 2:
            time.sleep(0.01)
        with desk.store.backend.writing() as conn:
            conn.exec_driver_sql("UPDATE delivery SET state = 'cancelled' WHERE id = 2")

    thread = threading.Thread(target=cancel)
    thread.start()
    ended = desk.client.put("/v1/deliveries/b?wait=20", content=b"y")
    thread.join()
    assert (ended.status_code, ended.json()["state"]) == (200, "cancelled")


def test_the_time_to_come_again_follows_the_rate() -> None:
    """Files over the limit divided by files per second; bytes likewise; between 2 s and 10 min."""

    def waiting(files: int, size: int, rate: float) -> Backlog:
        return Backlog(files, size, 0, 0.0, {}, rate, rate * 1000)

    limits = AcceptLimits(waiting_files=100, waiting_bytes=100_000)
    assert retry_after(waiting(119, 0, 2.0), 1, limits) == 10.0
    assert retry_after(waiting(1, 120_000, 2.0), 0, limits) == 10.0
    assert retry_after(waiting(10_000, 0, 0.001), 1, limits) == 600.0
    assert retry_after(waiting(119, 0, 0.0), 1, limits) == 30.0
    assert retry_after(waiting(100, 0, 50.0), 1, limits) == 2.0


def test_an_upload_key_sends_and_sees_its_own_only(store, tmp_path) -> None:
    """Scope upload: sends as its sender, sees its delivery, not the others', asks nothing else."""
    made = Desk(store, tmp_path)
    key = from_file(Path(__file__).with_name("test_service_queries.py")).AKey
    keys = {"a": key("alpha", "MDPA", ["upload"]), "b": key("beta", None, ["upload"])}
    made.context.keyring = Keyring(keys.get, needed=True)
    with served(made.context) as url, httpx.Client(base_url=url) as client:
        of_a, of_b = ({"Authorization": f"Bearer {k}"} for k in "ab")
        assert client.put("/v1/deliveries/a", content=b"x").status_code == 401
        told = client.put("/v1/deliveries/a", content=b"x", headers=of_a).json()
        assert client.get(told["href"], headers=of_a).json()["sender"] == "MDPA"
        assert client.get(told["href"], headers=of_b).status_code == 403
        assert client.get("/v1/deliveries", headers=of_a).status_code == 403
    assert json.loads(json.dumps(told))["state"] == "received"


def test_the_backlog_limit_holds_between_two_looks_at_the_ledger(desk) -> None:
    """However fast they come: of twenty within a moment, no more than may wait are accepted."""
    desk.limit(waiting_files=5, uploads=64)
    codes = [
        desk.client.put(f"/v1/deliveries/{n}.csv", content=f"{n}".encode()).status_code
        for n in range(20)
    ]
    assert codes == [202] * 5 + [503] * 15
    assert desk.rows() == 5
