"""A TCP link to PostgreSQL that a test can cut where it likes.

It passes bytes on, and looks at the messages of the client (``type``, length, body) so that it
can cut the link when a certain statement comes by: before the server gets it, or after the server
has done it and before the client hears.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

When = Literal["before", "after"]


class Cable:
    """One listening port in front of a server; each connection is a link."""

    def __init__(self, host: str, port: int, *, at: int = 0) -> None:
        """``at``: the port it listens on; 0: a free one."""
        self._server = host, port
        self._listener = socket.create_server(("127.0.0.1", at))
        self.port: int = self._listener.getsockname()[1]
        self._cut: tuple[Callable[[bytes], bool], When] | None = None
        self.cuts = 0
        self._lock = threading.Lock()
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, wanted: Callable[[bytes], bool], when: When) -> None:
        """Cut the link once, at the first message of a client that is ``wanted``."""
        with self._lock:
            self._cut = wanted, when

    def refuse(self) -> None:
        """Let nobody in any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        """Cut everything."""
        self.refuse()
        for link in self._links:
            _shut(link)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._links += [client, server]
            muted = threading.Event()  # the client hears no more
            for work in (self._from_client, self._from_server):
                threading.Thread(target=work, args=(client, server, muted), daemon=True).start()

    def _is_cut(self, body: bytes) -> When | None:
        with self._lock:
            if self._cut is None or not self._cut[0](body):
                return None
            when = self._cut[1]
            self._cut = None
            self.cuts += 1
            return when

    def _from_client(
        self, client: socket.socket, server: socket.socket, muted: threading.Event
    ) -> None:
        try:
            for message in _messages(client):
                when = self._is_cut(message)
                if when == "before":
                    break
                if when == "after":
                    muted.set()  # the server's answer is waited for, and lost
                server.sendall(message)
        except OSError:
            pass
        if not muted.is_set():
            _shut(client)
            _shut(server)

    @staticmethod
    def _from_server(client: socket.socket, server: socket.socket, muted: threading.Event) -> None:
        try:
            while data := server.recv(1 << 16):
                if muted.is_set():
                    break
                client.sendall(data)
        except OSError:
            pass
        _shut(client)
        _shut(server)


def _messages(client: socket.socket) -> Iterator[bytes]:
    """The client's messages as sent; the first has no type byte."""
    held = b""
    started = False
    while data := client.recv(1 << 16):
        held += data
        while True:
            at = 1 if started else 0
            if len(held) < at + 4:
                break
            (size,) = struct.unpack("!I", held[at : at + 4])
            if len(held) < at + size:
                break
            message, held = held[: at + size], held[at + size :]
            # requests for TLS or GSS encryption (code 1234....) come before the real start
            started = started or struct.unpack("!I", message[4:8])[0] >> 16 != 1234
            yield message


def _shut(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
    link.close()


@contextmanager
def cable_to(host: str, port: int) -> Iterator[Cable]:
    """A cable for the block."""
    cable = Cable(host, port)
    try:
        yield cable
    finally:
        cable.close()
