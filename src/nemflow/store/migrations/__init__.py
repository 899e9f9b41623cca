"""How a store gets its schema: alembic revisions, run in-process by ``nemflow.store.schema``."""
