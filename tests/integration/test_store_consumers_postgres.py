"""Consumers, the feed and exports, asked of PostgreSQL.

The tests stand in tests/unit/test_store_consumers.py; a difference in any answer is a failure.
"""

from borrowed import store_tests

globals().update(store_tests("test_store_consumers"))
