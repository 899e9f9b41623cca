"""The running service: what a signal may not do."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from nemflow.errors import SystemFault
from nemflow.service import server
from nemflow.service.auth import Keyring
from nemflow.service.context import Context


@pytest.fixture
def port(store, monkeypatch) -> Iterator[int]:
    """Of a service on which headers must come within half a second."""
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.5)
    over, up = threading.Event(), threading.Event()
    context = Context(store, Keyring(lambda _: None, needed=False))
    with socket.create_server(("127.0.0.1", 0)) as on:
        part = server.Part("part", lambda: over.wait(30), lambda: None)
        thread = threading.Thread(
            target=server.run, args=(context, on, [part]), kwargs={"grace": 1, "said": up.set}
        )
        thread.start()
        assert up.wait(30)
        yield on.getsockname()[1]
        over.set()  # a part that ends by itself takes the service down
        with suppress(SystemFault):
            thread.join(30)


def asked(link: socket.socket) -> bytes:
    """The beginning of the answer to one whole request; empty: the connection is closed."""
    link.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}") and (piece := link.recv(4096)):  # head and body come apart
        answer += piece
    return answer


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_connection_in_use_is_never_closed_for_its_age(port: int) -> None:
    """Request after request for longer than headers may take; in between nothing is waited for."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        until = time.monotonic() + 1.3
        while time.monotonic() < until:
            assert asked(link).startswith(b"HTTP/1.1 200")
            time.sleep(0.07)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("before", "sent"), [(0, b""), (0, b"GET /livez HT"), (2, b"GET /livez HT")]
)
def test_headers_that_do_not_come_end_the_connection(port: int, before: int, sent: bytes) -> None:
    """The first ones from the beginning, later ones from their first byte; not a whole request."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        for _ in range(before):
            assert asked(link).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        link.sendall(sent)
        assert link.recv(4096) == b""
        assert 0.3 < time.monotonic() - began < 3


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals come elsewhere"
)
def test_a_signal_that_lands_while_a_part_is_being_woken_stops_the_service(store) -> None:
    """The event loop may hold the part's lock at that moment: stopping waits for it elsewhere."""
    lock, over, had = threading.Lock(), threading.Event(), []

    def stop() -> None:
        had.append(lock.acquire(timeout=5))
        over.set()

    def woken() -> None:
        with lock:
            signal.raise_signal(signal.SIGTERM)

    context = Context(store, Keyring(lambda _: None, needed=False))
    part = server.Part("part", lambda: over.wait(30), stop)
    with socket.create_server(("127.0.0.1", 0)) as on:
        server.run(context, on, [part], grace=1, said=woken)
    assert had == [True]
