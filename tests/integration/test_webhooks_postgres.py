"""Webhooks on PostgreSQL: the tests stand in tests/unit/test_webhooks.py."""

from borrowed import from_unit, store_tests

globals().update(store_tests("test_webhooks"))
receiver, load = from_unit("test_webhooks").receiver, from_unit("test_webhooks").load
