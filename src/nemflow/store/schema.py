"""Make or upgrade a store's schema: alembic, in-process, in the caller's transaction.

Why: a store is one file or one database; nobody should need alembic's own command or ini file.

Promises: all or nothing; views are made anew from ``backends/views.py`` after every upgrade, so
they always fit the program that upgraded last.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from nemflow.store.backends import views, views_postgres


def revisions() -> list[str]:
    """Every revision this program knows, oldest first."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(_location()))
    return [entry.revision for entry in reversed(list(script.walk_revisions()))]


def upgrade(conn: sa.Connection) -> list[str]:
    """Apply what is missing; returns the revisions applied, oldest first."""
    from alembic import command
    from alembic.config import Config

    before = _applied(conn)
    known = revisions()
    missing = known if before is None else known[known.index(before) + 1 :]
    if missing:
        config = Config()
        config.set_main_option("script_location", str(_location()).replace("%", "%%"))
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
    drop, create = _views(conn.dialect.name)
    for statement in (*drop, *create):
        conn.exec_driver_sql(statement)
    return missing


def _views(dialect: str) -> tuple[Sequence[str], Sequence[str]]:
    """Statements that drop and make the views, in the engine's own SQL."""
    if dialect == "postgresql":
        return views_postgres.DROP, views_postgres.CREATE
    return views.DROP, views.CREATE


def _applied(conn: sa.Connection) -> str | None:
    if not sa.inspect(conn).has_table("alembic_version"):
        return None
    found = conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def _location() -> Path:
    return Path(__file__).parent / "migrations"
