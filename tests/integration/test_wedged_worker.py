"""A worker that hangs, on PostgreSQL and Redis: it ends, and its supervisor starts another."""

from __future__ import annotations

import uuid
from pathlib import Path

from borrowed import from_file

wedged = from_file(Path(__file__).parents[1] / "acceptance" / "test_wedged.py")


def test_a_worker_that_hangs_ends_and_another_goes_on(database, redis_url, tmp_path) -> None:
    """The delivery it had is taken up again, once its lease has run out or it is seen gone."""
    env = wedged.SOON | wedged.hangs(tmp_path)
    env |= {"NEMFLOW_DB": database, "NEMFLOW_QUEUE_PREFIX": f"t{uuid.uuid4().hex[:8]}"}
    env |= {"NEMFLOW_QUEUE_TIDY_SECONDS": "2"}
    options = ("--queue", redis_url, "--workers", "1")
    wedged.hang_and_go_on(wedged.Service(tmp_path, *options, env=env))
