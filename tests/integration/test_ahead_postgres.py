"""What waits is looked into before its turn comes, on PostgreSQL: the tests of test_ahead.py."""

from borrowed import from_unit, store_tests

spool = from_unit("test_delivering").spool
globals().update(store_tests("test_ahead"))
