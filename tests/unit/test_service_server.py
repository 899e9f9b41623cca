"""The running service: what a signal may not do."""

from __future__ import annotations

import signal
import socket
import threading

import pytest

from nemflow.service import server
from nemflow.service.auth import Keyring
from nemflow.service.context import Context


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
