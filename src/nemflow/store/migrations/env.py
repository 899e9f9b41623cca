"""Alembic's entry point: runs inside the connection that ``nemflow.store.schema`` hands over.

There is no alembic.ini and no second connection: the whole upgrade is one transaction.
"""

from __future__ import annotations

from alembic import context

from nemflow.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
