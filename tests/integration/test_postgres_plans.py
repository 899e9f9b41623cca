"""A million NMI-days on PostgreSQL: the common questions use indexes and prune months.

Takes about ten seconds, nearly all of it to make the days, once. ``make chaos`` prints the times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from chaos import plans
from chaos.servers import scratch
from nemflow.store import Store, open_store

ROWS = 1_000_000
NMIS = ROWS // (plans.MONTHS * plans.DAYS_OF_A_MONTH)
#: How many tables a question may look into: a month of claims, and the same of contents.
ONE_MONTH = 2


@pytest.fixture(scope="module")
def filled(postgres: sa.URL) -> Iterator[Store]:
    """A store with a million claims, each with its content."""
    with scratch(postgres) as database:
        assert plans.fill(database, ROWS) == NMIS
        with open_store(database) as store:
            yield store


def tables_of(store: Store, ask: Callable[[Store], object]) -> list[plans.Asked]:
    """How every statement of a question that looks at days is answered."""
    asked, _ = plans.explained(store, ask, times=1)
    found = [one for one in asked if one.of_days]
    assert found, "the question looks at no days at all"
    return found


@pytest.mark.parametrize("question", plans.common_questions(NMIS))
def test_a_common_question_reads_no_day_table_whole(filled: Store, question: str) -> None:
    """Every day table it looks into, it looks into through an index; no month it need not see."""
    ask = plans.common_questions(NMIS)[question]
    for asked in tables_of(filled, ask):
        assert asked.scans == (), asked.statement
        if "file" not in question:  # a file's days may lie in any month
            assert asked.partitions <= ONE_MONTH, asked.statement


def test_a_question_without_an_index_is_noticed(filled: Store) -> None:
    """The test above can fail: a filter on a column without index reads every month whole."""

    def ask(store: Store) -> object:
        with store.backend.reading() as conn:
            return conn.exec_driver_sql("SELECT nmi FROM day_claim WHERE missing = 7").fetchall()

    (asked,) = tables_of(filled, ask)
    assert len(asked.scans) == plans.MONTHS
