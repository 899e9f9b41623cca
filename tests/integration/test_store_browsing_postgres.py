"""Leafing and days of local time, on PostgreSQL: the same tests as on SQLite."""

from __future__ import annotations

from borrowed import from_unit, store_tests

two_changes = from_unit("test_store_browsing").two_changes
globals().update(store_tests("test_store_browsing"))
