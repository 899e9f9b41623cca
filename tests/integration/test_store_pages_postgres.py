"""Pages, one delivery and commits, on PostgreSQL: the same tests as on SQLite."""

from __future__ import annotations

from borrowed import from_unit, store_tests

five = from_unit("test_store_pages").five
globals().update(store_tests("test_store_pages"))
