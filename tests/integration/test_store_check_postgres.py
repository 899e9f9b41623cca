"""``db check`` and ``db status`` on PostgreSQL, and what only PostgreSQL has."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from borrowed import from_unit
from nemflow.mdff.generate import generate
from nemflow.pipeline import load
from nemflow.store import Store
from nemflow.store.invariants import checked
from nemflow.store.status import status

_unit = from_unit("test_store_check")
filled = _unit.filled
globals().update({name: test for name, test in vars(_unit).items() if name.startswith("test_")})


def test_a_month_without_its_index_is_seen(store: Store, put: Callable[[str, bytes], Path]) -> None:
    """An index that is not valid does not count."""
    load(store, put("a.csv", generate(days=1)))
    with store.backend.writing() as conn:
        conn.exec_driver_sql(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = "
            "(SELECT min(indexrelid) FROM pg_index WHERE indrelid = 'day_claim_202503'::regclass)"
        )
    try:
        with store.backend.reading() as conn:
            found = checked(conn).filter(~pl.col("held"))
        assert found["promise"].to_list() == ["every month of day_claim has its indexes"]
        assert found["example"].to_list() == ["day_claim_202503"]
    finally:
        with store.backend.writing() as conn:
            conn.exec_driver_sql("UPDATE pg_index SET indisvalid = true WHERE NOT indisvalid")


def test_the_status_knows_partitions(store: Store, put: Callable[[str, bytes], Path]) -> None:
    """How many months, the first and the last, and how large they are together."""
    load(store, put("a.csv", generate(nmis=1, days=60)))
    with store.backend.reading() as conn:
        found = status(conn, store.backend)
    (row,) = found.tables.filter(pl.col("table") == "day_claim").to_dicts()
    assert row["partitions"] >= 2
    assert row["first_month"] <= "2025-02"
    assert row["last_month"] >= "2025-03"
    assert row["bytes"] > 8192
    assert found.engine == "PostgreSQL"
