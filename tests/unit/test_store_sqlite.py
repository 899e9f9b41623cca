"""The embedded engine: its views, its schema, and what its errors say."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from decimal import Decimal
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from nemflow.errors import StoreBusy, StoreFull, StoreOutdated, StoreUnreachable, UsageError
from nemflow.pipeline import load
from nemflow.store import open_store, reference, schema, upgrade_store
from nemflow.store.backends import sqlite
from nemflow.store.tables import DAY_TABLES, SCHEMA_REVISION, metadata

NMI = "SASMPL0001"


@pytest.fixture
def embedded(tmp_path, empty_store):
    """The path of an empty embedded store."""
    path = tmp_path / "store.db"
    path.write_bytes(empty_store.read_bytes())
    return path


def test_any_sqlite_tool_can_read_the_views(embedded, put, nem12, a_day):
    """meter_readings says, interval by interval, what Store.readings says: exact, with quality."""
    events = ("400,1,24,A,,", "400,25,36,E52,,", "400,37,48,S14,0,broken")
    long = ("123456789012345.1234567890123", *("0.0000000000001",) * 47)
    days = [
        a_day(value="0.125", quality="V", events=events),
        a_day(day="20250302", values=long),
        a_day(day="20250303", value="7"),
        a_day(day="20250304", value="0.05", minutes=5),
        a_day(day="20250305", quality="N", value=""),
    ]
    with open_store(str(embedded)) as store:
        load(store, put("a.csv", nem12(*days)))
        raw = store.readings(NMI)
    connection = sqlite3.connect(f"file:{embedded}?mode=ro", uri=True)
    rows = connection.execute(
        "SELECT suffix, day, interval_start, interval_end, value, uom, quality, method,"
        " reason_code, reason_text, file_id FROM meter_readings WHERE nmi = ?"
        " ORDER BY suffix, interval_start",
        [NMI],
    ).fetchall()
    ours = [
        (
            row["suffix"],
            row["day"].isoformat(),
            row["interval_start"].isoformat(),
            row["interval_end"].isoformat(),
            row["value"],
            row["uom"],
            row["quality"],
            row["method"],
            row["reason_code"],
            row["reason_text"],
            row["file"],
        )
        for row in raw.to_dicts()
    ]
    theirs = [(*row[:4], None if row[4] is None else Decimal(row[4]), *row[5:]) for row in rows]
    assert len(ours) == 4 * 48 + 288
    assert theirs == ours
    total = connection.execute(
        "SELECT sum(scaled), max(scale) FROM meter_readings WHERE day = '2025-03-01'"
    ).fetchone()
    assert total == (48 * 125, 3)
    current = connection.execute("SELECT count(*), sum(missing) FROM current_day").fetchone()
    assert current == (5, 48)
    plan = " ".join(
        row[3]
        for row in connection.execute(
            "EXPLAIN QUERY PLAN SELECT * FROM meter_readings WHERE nmi = ? AND day >= ?", ["a", "b"]
        )
    )
    assert "day_claim_by_key (nmi=? AND day>?)" in plan
    connection.close()


def _is_ours(thing, *_):
    """Leave out what another engine alone has."""
    return thing.info.get("only", "sqlite") == "sqlite"


def test_a_fresh_schema_is_the_one_the_program_describes(embedded):
    """Migrations and tables.py agree, and the program knows the newest revision."""
    assert schema.revisions()[-1] == SCHEMA_REVISION
    backend = open_store(str(embedded)).backend
    with backend.reading() as conn:
        options = {"compare_type": True, "include_object": _is_ours}
        context = MigrationContext.configure(conn, opts=options)
        assert compare_metadata(context, metadata) == []
    backend.close()


def test_day_rows_have_no_keys_that_could_make_loads_wait_for_each_other():
    """No PRIMARY KEY, UNIQUE or FOREIGN KEY on what is only ever appended."""
    for table in DAY_TABLES:
        assert not table.primary_key.columns
        assert not table.foreign_keys
        assert not any(index.unique for index in table.indexes)


def test_every_table_and_column_says_what_it_is():
    """A comment on each, and docs/store.md tells them all."""
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
    for table in metadata.sorted_tables:
        assert table.comment
        assert [column.name for column in table.columns if not column.comment] == []
        assert f"    {table.name} " in page or f" {table.name} : " in page, "not in the diagram"
    assert page.endswith(reference.markdown()), "write it anew from nemflow.store.reference"


def test_the_store_is_durable_and_readers_never_wait(embedded):
    """Write-ahead log, full synchronous, and room for six 5-minute days on a page."""
    with open_store(str(embedded)) as store, store.backend.reading() as conn:
        settings = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "page_size")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "page_size": 8192}


def test_the_log_is_emptied_after_a_load(embedded, put, nem12, a_day):
    """The write-ahead log goes into the file, so one file can be copied away."""
    with open_store(str(embedded)) as store:
        load(store, put("a.csv", nem12(*(a_day(nmi=f"SASMPL{n:04}") for n in range(1, 500)))))
        log = Path(f"{embedded}-wal")
        assert not log.exists() or log.stat().st_size == 0


def test_a_locked_store_is_busy_and_trying_again_helps(embedded, monkeypatch, put, nem12, a_day):
    """Somebody else writes for longer than we wait: one sentence and the next step."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    path = put("a.csv", nem12(a_day()))
    other = sqlite3.connect(embedded, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with open_store(str(embedded)) as store:
        assert store.deliveries().is_empty()
        with pytest.raises(StoreBusy, match="locked") as caught:
            load(store, path)
        assert caught.value.transient
        other.execute("ROLLBACK")
        assert load(store, path).states == {"loaded": 1}
    other.close()


def test_a_writer_waits_for_another_one(embedded, put, nem12, a_day):
    """A short wait is no error: writers take turns."""
    other = sqlite3.connect(embedded, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    release.start()
    with open_store(str(embedded)) as store:
        assert load(store, put("a.csv", nem12(a_day()))).states == {"loaded": 1}
    release.join()
    other.close()


def test_a_full_disk_leaves_nothing_visible(embedded, monkeypatch, put, nem12, a_day):
    """No space: said in a sentence; the load is gone, and works when there is room."""
    path = put("a.csv", nem12(*(a_day(nmi=f"SASMPL{n:04}") for n in range(1, 500))))
    limit = "PRAGMA max_page_count = 60"
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_PRAGMAS", (*sqlite._PRAGMAS, limit))
        with open_store(str(embedded)) as store, pytest.raises(StoreFull, match="space"):
            load(store, path)
    with open_store(str(embedded)) as store:
        assert store.nmis().is_empty()
        assert load(store, path).states == {"loaded": 1}


def test_what_is_no_store_is_said_plainly(tmp_path, embedded):
    """A folder, a text, another program's database, a missing folder, a wrong URL."""
    text = tmp_path / "text.db"
    text.write_text("this is no database, but long enough to be one\n" * 50)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    for path in (tmp_path, text, other, tmp_path / "no" / "such" / "x.db"):
        with pytest.raises(StoreUnreachable):
            open_store(str(path))
    for url in ("nonsense://x", "://", "mysql://user:secret@host/db"):
        with pytest.raises(StoreUnreachable) as caught:
            open_store(url)
        assert "secret" not in str(caught.value)
    with pytest.raises(UsageError):
        open_store("sqlite://")
    with pytest.raises(StoreUnreachable, match="nemflow load"):
        open_store(str(tmp_path / "new.db"), create=False)
    assert not (tmp_path / "new.db").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anything")
def test_a_store_that_may_not_be_written_says_so(embedded, put, nem12, a_day):
    """No permission to write is not a lock and not a defect."""
    embedded.chmod(0o444)
    with open_store(str(embedded)) as store, pytest.raises(StoreUnreachable):
        load(store, put("a.csv", nem12(a_day())))


def test_an_older_or_newer_schema_names_the_next_command(embedded, monkeypatch):
    """Older: upgrade the store; newer: update the program. Neither is touched."""
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "SCHEMA_REVISION", "9998")
        with pytest.raises(StoreOutdated, match="nemflow db upgrade"):
            open_store(str(embedded))
    with sqlite3.connect(embedded) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreOutdated, match="pip install"):
        open_store(str(embedded))
    with pytest.raises(StoreOutdated, match="pip install"):
        upgrade_store(str(embedded))


def test_upgrading_an_up_to_date_store_changes_nothing(embedded):
    """The answer is the list of revisions applied: none."""
    assert upgrade_store(str(embedded)) == []


def test_two_processes_may_make_the_same_new_store(tmp_path):
    """Whoever comes second finds it done."""
    code = f"from nemflow.store import open_store; open_store({str(tmp_path / 'new.db')!r}).close()"
    started = [
        subprocess.Popen([os.sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)
    ]
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    assert open_store(str(tmp_path / "new.db"), create=False).deliveries().is_empty()
