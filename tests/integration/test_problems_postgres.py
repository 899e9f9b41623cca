"""Outcomes and problems on PostgreSQL: the tests stand in tests/unit/test_problems.py."""

from borrowed import store_tests

globals().update(store_tests("test_problems"))
