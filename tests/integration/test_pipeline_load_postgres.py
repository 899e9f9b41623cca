"""What every load promises, on PostgreSQL.

The tests stand in tests/unit/test_pipeline_load.py; a difference in any answer is a failure.
"""

from borrowed import store_tests

globals().update(store_tests("test_pipeline_load"))
