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


@pytest.fixture
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


def test_common_questions_on_a_million_days_use_indexes_and_prune_months(filled: Store) -> None:
    """No day table is read whole, and no month that need not be; one test, so it is filled once."""
    for question, ask in plans.common_questions(NMIS).items():
        for asked in tables_of(filled, ask):
            assert asked.scans == (), (question, asked.statement)
            if "file" not in question:  # a file's days may lie in any month
                assert asked.partitions <= ONE_MONTH, (question, asked.statement)

    def without_index(store: Store) -> object:
        with store.backend.reading() as conn:
            return conn.exec_driver_sql("SELECT nmi FROM day_claim WHERE missing = 7").fetchall()

    (asked,) = tables_of(filled, without_index)
    assert len(asked.scans) == plans.MONTHS, "the test can fail: this reads every month whole"
