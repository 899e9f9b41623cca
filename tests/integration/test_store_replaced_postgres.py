"""What a delivery has replaced, on PostgreSQL: the same tests as on SQLite."""

from __future__ import annotations

from borrowed import store_tests

globals().update(store_tests("test_store_replaced"))
