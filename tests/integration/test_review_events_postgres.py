"""What a person should look at, asked of PostgreSQL as of the embedded store.

The tests stand in tests/unit/test_review_events.py; a difference in any answer is a failure.
"""

from borrowed import from_unit, store_tests

small = from_unit("test_review_events").small
globals().update(store_tests("test_review_events"))
