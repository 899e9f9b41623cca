"""Thousands of odd requests against a service on PostgreSQL, whose types are stricter."""

from __future__ import annotations

from pathlib import Path

from borrowed import from_file

schema = from_file(Path(__file__).parents[1] / "acceptance" / "test_service_schema.py")


@schema.needs_schemathesis
def test_whatever_is_asked_the_answer_is_documented_and_never_a_fault_of_ours(
    database, tmp_path
) -> None:
    """What SQLite takes for a number or a text, PostgreSQL may refuse: no 5xx all the same."""
    schema.asked_oddly(tmp_path, NEMFLOW_DB=database)
