"""What differs between engines, behind one small interface.

Why: every question and every invariant of the store is written once, in SQLAlchemy Core; an
engine only says how it connects, begins, appends in bulk, draws a commit number, and how its
errors read. ``base.Backend`` is that interface, ``sqlite.py`` the embedded engine.

To add an engine: implement ``base.Backend``, name it in ``backend_for``, and run the contract
suite (``tests/unit/test_store_contract.py``) with it.
"""

from __future__ import annotations

import sqlalchemy as sa

from nemflow.errors import StoreUnreachable
from nemflow.store.backends.base import Backend
from nemflow.store.backends.pool import Pool

__all__ = ["Backend", "Pool", "backend_for"]


def backend_for(url: sa.URL, pool: Pool | None = None) -> Backend:
    """The engine that a URL asks for; ``pool`` is for those that have a server."""
    if url.get_backend_name() == "sqlite":
        from nemflow.store.backends.sqlite import SqliteBackend

        return SqliteBackend(url)
    if url.get_backend_name() in ("postgresql", "postgres"):
        from nemflow.store.backends.postgres import PostgresBackend

        return PostgresBackend(url, pool)
    raise StoreUnreachable(
        f"No store engine for {url.get_backend_name()!r}.",
        hint="Use a file (--db sqlite:///nemflow.db) or a server "
        "(--db postgresql://user@host/database).",
    )
