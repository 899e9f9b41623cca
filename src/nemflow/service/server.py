"""The running service: a socket, the application on it, and the threads beside it.

Why: one command must start everything and end everything.

Promises: told to stop (SIGTERM, Ctrl-C), it takes no new connections, lets uploads in hand finish
within the grace time, ends event streams, has the parts beside it stop, and returns; told twice it
does not wait. A part that dies takes the service down with it, so that whoever supervises it
notices. A client that sends its headers slower than ten seconds is cut off.

Look next: ``app.py`` for what is served; ``nemflow.cli.serving`` for who starts it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from nemflow.errors import SystemFault
from nemflow.service.app import create
from nemflow.service.context import Context

log = logging.getLogger("nemflow.service")
HEADER_SECONDS = 10.0
_MOST_WEBSOCKET_BYTES = 1 << 20
_JOIN_SECONDS = 15.0  #: beyond the grace time


@dataclass(frozen=True, slots=True)
class Part:
    """Something that runs beside the application in its own thread."""

    name: str
    run: Callable[[], object]  #: blocks until stopped
    stop: Callable[[], None]  #: returns at once; called once, in a thread of its own


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; a name other than localhost counts not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening(host: str, port: int) -> socket.socket:
    """A socket on the address; port 0 takes a free one. Raises SystemFault."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise SystemFault(
            f"Nothing can listen on {host} port {port}: {error.strerror or error}.",
            hint="Is another service running there? Choose another with --port.",
        ) from error


def run(
    context: Context,
    on: socket.socket,
    parts: Sequence[Part],
    *,
    grace: float,
    said: Callable[[], None],
    mount: Callable[[FastAPI], None] | None = None,
) -> None:
    """Serve until told to stop.

    Args:
        context: what the routes use.
        on: the socket.
        parts: what runs beside it.
        grace: seconds that requests in hand may take to finish.
        said: called once, when connections are answered.
        mount: puts the console on the application; it needs websockets and a lifespan, which are
            off without it.

    Raises:
        SystemFault: a part ended by itself.
    """
    app = create(context)
    if mount is not None:
        mount(app)
    _routes_made(app)
    server = _Server(
        uvicorn.Config(
            app,
            http=_Guarded,
            ws="none" if mount is None else "websockets-sansio",
            ws_max_size=_MOST_WEBSOCKET_BYTES,
            lifespan="off" if mount is None else "on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=max(1, round(grace)),
        ),
        said,
    )
    died: list[str] = []
    told: SimpleQueue[None] = SimpleQueue()

    def stop(*_: object) -> None:
        # A signal interrupts this very thread wherever it is, also while it wakes a part and holds
        # its lock: so no lock is taken here. The queue's ``put`` is made for it.
        if server.should_exit:
            server.force_exit = True
        server.should_exit = True
        told.put(None)

    def ending() -> None:
        told.get()
        app.state.stopping.set()
        for part in parts:
            part.stop()

    def kept(part: Part) -> None:
        try:
            part.run()
        except Exception:  # whatever it is, the service must not go on without it
            log.exception("The %s has failed.", part.name)
        if not server.should_exit:
            died.append(part.name)
            stop()

    threads = [
        threading.Thread(target=kept, args=(part,), name=part.name, daemon=True) for part in parts
    ]
    threading.Thread(target=ending, name="ending", daemon=True).start()
    with _signals(stop):
        for thread in threads:
            thread.start()
        server.run(sockets=[on])
        told.put(None)  # it may have ended by itself
        for thread in threads:
            thread.join(grace + _JOIN_SECONDS)
    stuck = [thread.name for thread in threads if thread.is_alive()]
    if stuck:
        log.error("The %s did not end in time.", ", ".join(stuck))
    if died:
        raise SystemFault(
            f"The {died[0]} has ended by itself; the service has stopped.",
            hint="Its log says why; nothing that was accepted is lost.",
        )


def _routes_made(app: FastAPI) -> None:
    """Have what routes need made before the first request, which else holds up the event loop."""
    nowhere = {"type": "http", "method": "GET", "path": "/-", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(nowhere)


class _Server(uvicorn.Server):
    """uvicorn with our signals, which says when it answers."""

    def __init__(self, config: uvicorn.Config, said: Callable[[], None]) -> None:
        super().__init__(config)
        self._said = said

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours are set already."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say so when connections are answered."""
        await super().startup(sockets)
        self._said()


class _Guarded(H11Protocol):
    """A connection on which headers must come in time: uvicorn itself waits for ever."""

    _late: asyncio.TimerHandle | None = None
    _upgraded = False

    def connection_made(self, transport: Any) -> None:
        """The clock runs from the first moment."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """It stops when headers are whole, and runs again from the next ones' first byte.

        Between requests it must not run: who is about to send would find the connection closed.
        """
        super().data_received(data)
        if self._upgraded:
            return
        if not self._between_requests():
            self._unwatch()
        elif self._late is None and self.conn.trailing_data[0]:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to watch."""
        self._unwatch()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """From here on it is no longer HTTP: no headers are waited for."""
        self._unwatch()
        self._upgraded = True
        super().handle_websocket_upgrade(event)

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _watch(self) -> None:
        self._late = self.loop.call_later(HEADER_SECONDS, self._look)

    def _look(self) -> None:
        self._late = None
        if self._between_requests() and not self.transport.is_closing():
            self.transport.close()


@contextmanager
def _signals(stop: Callable[..., None]) -> Iterator[None]:
    """SIGTERM and Ctrl-C stop the service for the block; only a main thread can say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
