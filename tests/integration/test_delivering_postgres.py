"""What every delivery promises, on PostgreSQL.

The tests stand in tests/unit/test_delivering.py; a difference in any answer is a failure.
"""

from borrowed import from_unit, store_tests

spool = from_unit("test_delivering").spool
globals().update(store_tests("test_delivering"))
