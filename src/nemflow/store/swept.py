"""What sweeps have done: which runs were taken, and which files they know.

Why: a sweep looks at the same folder again and again, from as many schedulers as there are.

Promises: of all who ask for a run of a sweep one gets it; a file is known by where it lies, its
size and its time of change, so one that was written again is taken again.

Look next: ``once.py`` for runs; ``nemflow.pipeline.sweeping``, which asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from nemflow.store import once
from nemflow.store.tables import swept_file

if TYPE_CHECKING:
    from nemflow.store.backends import Backend


class Sweeps:
    """The part of ``Store`` about sweeps."""

    backend: Backend

    def take_slot(self, name: str, slot: str) -> bool:
        """Whether the run of the sweep ``name`` that was due at ``slot`` is ours."""
        backend = self.backend
        taken: list[datetime] = []

        def work(conn: sa.Connection) -> bool:
            at = once.take_slot(conn, backend, name, slot)
            taken[:] = [] if at is None else [at]
            return at is not None

        def happened(conn: sa.Connection) -> bool:
            asked = [once.slot_taken(name, slot, at) for at in taken]
            return any(conn.execute(each).first() is not None for each in asked)

        return backend.transact(work, happened=happened)

    def swept(self, root: str) -> dict[str, str]:
        """Every file that sweeps of ``root`` have taken: path from there -> mark."""
        columns = swept_file.c
        asked = sa.select(columns.path, columns.mark).where(columns.root == root)
        with self.backend.reading() as conn:
            return {row.path: row.mark for row in conn.execute(asked)}

    def note_swept(self, root: str, files: Mapping[str, tuple[str, int]]) -> None:
        """Keep files as known: path from ``root`` -> (mark, delivery). Doing it twice is once."""
        if not files:
            return

        def work(conn: sa.Connection) -> None:
            dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
            insert = dialect.insert(swept_file)
            statement = insert.on_conflict_do_update(
                index_elements=["root", "path"],
                set_={name: insert.excluded[name] for name in ("mark", "delivery", "at")},
            )
            now = self.backend.now(conn)
            rows = [
                {"root": root, "path": path, "mark": mark, "delivery": number, "at": now}
                for path, (mark, number) in sorted(files.items())  # one order: no deadlocks
            ]
            conn.execute(statement, rows)

        self.backend.transact(work, happened=lambda _: False)
