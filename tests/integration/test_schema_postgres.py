"""The schema on PostgreSQL: fresh equals migrated, and an upgrade lets a running load be."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nemflow.errors import StoreOutdated
from nemflow.mdff.generate import generate
from nemflow.pipeline import large, load, unpack
from nemflow.store import open_store, schema, upgrade_store
from nemflow.store.tables import SCHEMA_REVISION, metadata

NEXT = f'''
"""Adds a table: nothing that an older program knows changes."""
import sqlalchemy as sa
from alembic import op
revision = "9999"
down_revision = "{SCHEMA_REVISION}"
branch_labels = None
depends_on = None
def upgrade() -> None:
    op.create_table("later", sa.Column("id", sa.Integer(), primary_key=True))
'''


def described(engine: sa.Engine, name: str) -> dict[str, Any]:
    """All that can be seen of the tables in one schema of the database."""
    look = sa.inspect(engine)
    found: dict[str, Any] = {}
    for table in metadata.tables:
        columns = [
            (
                column["name"],
                column["type"].compile(engine.dialect),
                column["nullable"],
                str(column["default"]),
                column["comment"],
            )
            for column in look.get_columns(table, schema=name)
        ]
        indexes = [
            (
                index["name"],
                index["column_names"],
                index["unique"],
                index.get("dialect_options", {}).get("postgresql_using"),
                str(index.get("dialect_options", {}).get("postgresql_where")),
            )
            for index in look.get_indexes(table, schema=name)
        ]
        found[table] = {
            "columns": columns,
            "indexes": sorted(indexes, key=str),
            "key": look.get_pk_constraint(table, schema=name)["constrained_columns"],
            "foreign": look.get_foreign_keys(table, schema=name),
            "comment": look.get_table_comment(table, schema=name)["text"],
        }
    return found


def test_a_fresh_schema_equals_a_migrated_one(database: str) -> None:
    """Columns, types, defaults, comments, keys and indexes: what tables.py says is what is made."""
    open_store(database).close()
    url = sa.make_url(database).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url)
    with engine.begin() as conn:
        conn.exec_driver_sql("CREATE SCHEMA fresh")
        metadata.create_all(conn.execution_options(schema_translate_map={None: "fresh"}))
    migrated, fresh = described(engine, "public"), described(engine, "fresh")
    engine.dispose()
    for table in metadata.tables:
        assert migrated[table] == fresh[table], table


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This program as it will be, with one revision more."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema._location(), folder)
    (folder / "versions" / "9999_later.py").write_text(NEXT)
    monkeypatch.setattr(schema, "_location", lambda: folder)


def test_a_load_that_runs_during_an_upgrade_is_not_disturbed(
    database: str, tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of the older program goes on to its end; the next one is told to update."""
    monkeypatch.setattr(unpack, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(large, "PIECE_BYTES", 4000)
    path = tmp_path / "a.csv"
    path.write_bytes(generate(nmis=2, days=12, seed=1))
    told, longest = [], [0.0]
    last = [time.monotonic()]

    def tell(_: object) -> None:
        longest[0] = max(longest[0], time.monotonic() - last[0])
        if len(told) == 2:
            told.append(upgrade_store(database))
        told.append(None)
        last[0] = time.monotonic()

    with monkeypatch.context() as before:
        before.setattr(schema, "_location", lambda: Path(schema.__file__).parent / "migrations")
        opened = open_store(database)
    with opened as store:
        (outcome,) = load(store, path, progress=tell).files
        assert ["9999"] in told
        assert (outcome.state, outcome.days.stored) == ("loaded", 48)
        assert longest[0] < 5
    with monkeypatch.context() as before:
        before.setattr(schema, "_location", lambda: Path(schema.__file__).parent / "migrations")
        with pytest.raises(StoreOutdated, match="newer"):
            open_store(database)


def test_an_upgrade_gives_way_to_who_is_in_a_transaction(
    database: str, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a lock only shortly, so nobody queues up behind it, and tries again."""
    monkeypatch.setattr("nemflow.store.backends.postgres._SCHEMA_LOCK_SECONDS", 0.2)
    with monkeypatch.context() as before:
        before.setattr(schema, "_location", lambda: Path(schema.__file__).parent / "migrations")
        store = open_store(database)
    done: list[list[str]] = []
    with store:
        with store.backend.reading() as reader:  # holds current_day, which an upgrade makes anew
            reader.exec_driver_sql("SELECT count(*) FROM current_day").scalar()
            thread = threading.Thread(target=lambda: done.append(upgrade_store(database)))
            thread.start()
            slowest = 0.0
            for _ in range(10):
                began = time.monotonic()
                with store.backend.reading() as other:
                    other.exec_driver_sql("SELECT count(*) FROM current_day").scalar()
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.1)
            assert not done
        thread.join(30)
    assert done == [["9999"]]
    assert slowest < 2
