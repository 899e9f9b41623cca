"""Brokers of our own, to be stopped as hard as we like.

Promises: a private server listens on loopback, keeps its data in its own folder, and is gone at the
end. The usual local servers are never stopped and never flushed.

Look next: ``service_outages.py``; ``servers.py`` for PostgreSQL.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pika
import redis

_START_SECONDS = 60
_RABBIT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Broker(Protocol):
    """A broker of our own."""

    url: str

    def start(self) -> None:
        """Returns when it answers."""

    def crash(self) -> None:
        """Kill -9."""

    def flush(self) -> None:
        """It forgets everything."""


class PrivateRedis:
    """A Redis (or Valkey) that keeps an append-only file, as docs/queue.md says."""

    def __init__(self, folder: Path, program: str) -> None:
        self._folder, self._program = folder, program
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Returns when it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program, "--bind", "127.0.0.1", "--port", str(self._port),
                    "--dir", str(self._folder), "--appendonly", "yes", "--save", "",
                    "--maxmemory-policy", "noeviction",
                ],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        _wait(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.url) as client:
            return bool(client.ping())
        return False

    def crash(self) -> None:
        """Kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def flush(self) -> None:
        """FLUSHALL."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


class PrivateRabbit:
    """A RabbitMQ node with its own name, cookie and data."""

    def __init__(self, folder: Path, user: str | None) -> None:
        self._folder, self._user = folder, user
        self._port, distribution = _free_port(), _free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}/"
        self._process: subprocess.Popen[bytes] | None = None
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"chaos{self._port}@localhost",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,  # not that of the usual server
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
        }
        listens = f"listeners.tcp.local = 127.0.0.1:{self._port}\n"
        (folder / "rabbitmq.conf").write_text(listens, encoding="ascii")

    def start(self) -> None:
        """Returns when it answers."""
        with (self._folder / "said").open("ab") as said:
            self._process = subprocess.Popen(
                [str(_RABBIT)], cwd=self._folder, env=self._environ, user=self._user,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip
        _wait(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(pika.exceptions.AMQPError, OSError):
            pika.BlockingConnection(pika.URLParameters(self.url)).close()
            return True
        return False

    def crash(self) -> None:
        """Kill -9 of the node and what it started."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def flush(self) -> None:
        """Every queue is deleted, with all that is in it."""
        self.crash()
        shutil.rmtree(self._folder / "data", ignore_errors=True)
        self.start()


@contextmanager
def private_redis() -> Iterator[Broker | None]:
    """A running Redis; None where there is no program."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="nemflow-redis-") as name:
        server = PrivateRedis(Path(name), program)
        server.start()
        try:
            yield server
        finally:
            server.crash()


@contextmanager
def private_rabbit() -> Iterator[Broker | None]:
    """A running RabbitMQ; None where there is no program."""
    if not _RABBIT.exists():
        yield None
        return
    user = None
    if os.geteuid() == 0 and any(entry.pw_name == "rabbitmq" for entry in pwd.getpwall()):
        user = "rabbitmq"
    with tempfile.TemporaryDirectory(prefix="nemflow-rabbit-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        server = PrivateRabbit(folder, user)
        server.start()
        try:
            yield server
        finally:
            server.crash()


def _wait(answers: Callable[[], bool]) -> None:
    until = time.monotonic() + _START_SECONDS
    while not answers():
        if time.monotonic() > until:
            raise RuntimeError(f"the server does not answer within {_START_SECONDS} s")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
