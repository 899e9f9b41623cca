"""Keys and deliveries on PostgreSQL: the tests stand in tests/unit/test_store_keys.py."""

from borrowed import store_tests

globals().update(store_tests("test_store_keys"))
