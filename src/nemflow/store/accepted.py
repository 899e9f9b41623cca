"""What must be true of what was accepted, asked of the ledger.

Why: nothing that was answered with success may be lost, wait for ever, or count twice; after any
crash somebody wants to see that.

Promises: nothing is changed; each promise is one line, held or broken with how often and an
example.

Look next: ``invariants.py`` for the promises of every store; ``nemflow.pipeline.verifying``, which
asks both, and looks at the originals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import polars as pl
import sqlalchemy as sa

from nemflow.store.invariants import SCHEMA, exceptions, line
from nemflow.store.tables import delivery
from nemflow.store.work import FINAL, WAITING, WORKING

if TYPE_CHECKING:
    from nemflow.store.backends import Backend


#: Promise -> SQL whose rows are the exceptions. ``{late}`` is a moment some time ago, the other
#: words in braces are states.
_PROMISES: Final = {
    "a delivery that is done is held by nobody": """
        SELECT 'delivery ' || id || ', ' || state FROM delivery
        WHERE state IN {final} AND lease_token IS NOT NULL""",
    "a delivery that is done says when": """
        SELECT 'delivery ' || id || ', ' || state FROM delivery
        WHERE state IN {final} AND finished_at IS NULL""",
    "no delivery is in a state that is none": """
        SELECT 'delivery ' || id || ', ' || state FROM delivery
        WHERE state NOT IN {any}""",
    "nothing is worked on past its lease": """
        SELECT 'delivery ' || id || ', ' || state FROM delivery
        WHERE state IN {working} AND (lease_until IS NULL OR lease_until < {late})""",
    "what waits is held by nobody": """
        SELECT 'delivery ' || id || ', ' || state FROM delivery
        WHERE state IN {waiting} AND lease_token IS NOT NULL""",
    "what waits has its original": """
        SELECT 'delivery ' || id || ', ' || state || ', original ' || kept FROM delivery
        WHERE state IN {open} AND kept IS NOT NULL AND kept <> 'spooled'""",
    "only originals of what was taken in whole are deleted": """
        SELECT 'delivery ' || id || ', ' || state FROM delivery
        WHERE kept = 'deleted' AND state IN ('partly_loaded', 'rejected', 'dead', 'cancelled')""",
    "members of a delivery that is done are done": """
        SELECT 'delivery ' || m.id || ' in ' || d.id || ', ' || m.state FROM delivery AS m
        JOIN delivery AS d ON d.id = m.parent
        WHERE d.state IN {final} AND m.state NOT IN {final}""",
    "a loaded delivery of a file has a load that stands": """
        SELECT 'delivery ' || d.id FROM delivery AS d
        WHERE d.state IN ('loaded', 'partly_loaded') AND d.file IS NOT NULL AND NOT d.dry_run
          AND NOT EXISTS (
            SELECT 1 FROM load AS l WHERE l.delivery = d.id AND l.state = 'published')""",
    "a delivery with a load that stands says so": """
        SELECT 'delivery ' || d.id || ', ' || d.state FROM delivery AS d
        JOIN load AS l ON l.delivery = d.id AND l.state = 'published'
        WHERE d.state NOT IN ('loaded', 'partly_loaded')""",
    "no delivery was loaded twice": """
        SELECT 'delivery ' || delivery FROM load
        WHERE kind = 'load' AND state = 'published' GROUP BY delivery HAVING count(*) > 1""",
    "no file was loaded twice": """
        SELECT 'file ' || file FROM load
        WHERE kind = 'load' AND state = 'published' GROUP BY file HAVING count(*) > 1""",
    "a duplicate is one of a known delivery": """
        SELECT 'delivery ' || d.id FROM delivery AS d
        WHERE d.state = 'duplicate' AND d.duplicate_of IS NOT NULL AND NOT EXISTS (
          SELECT 1 FROM delivery AS e WHERE e.id = d.duplicate_of)""",
    "an open load is somebody's": """
        SELECT 'load ' || id FROM load
        WHERE state = 'open' AND (lease_until IS NULL OR lease_until < {late})
          AND NOT EXISTS (
            SELECT 1 FROM delivery AS d
            WHERE d.lease_token = load.lease_token AND d.lease_until >= {late})""",
    "an idempotency key leads to a known delivery": """
        SELECT 'key ' || i.key FROM idempotency AS i
        WHERE NOT EXISTS (SELECT 1 FROM delivery AS d WHERE d.id = i.delivery)""",
    "a problem was met as often as it says": """
        SELECT 'problem ' || p.id FROM problem AS p
        WHERE p.kind <> 'system' AND p.times <> (
          SELECT count(*) FROM problem_met AS m WHERE m.problem = p.id)""",
    "every claimed day has one current version": """
        SELECT k.nmi || ' ' || k.day || ' ' || k.suffix || ': ' || coalesce(v.versions, 0)
        FROM (SELECT DISTINCT c.nmi, c.day, c.suffix FROM day_claim AS c
              JOIN load AS l ON l.id = c.load WHERE l.state = 'published') AS k
        LEFT JOIN (SELECT nmi, day, suffix, count(*) AS versions FROM current_day
                   GROUP BY nmi, day, suffix) AS v
          ON v.nmi = k.nmi AND v.day = k.day AND v.suffix = k.suffix
        WHERE coalesce(v.versions, 0) <> 1""",
}
_DRAINED: Final = """
    SELECT 'delivery ' || id || ', ' || state FROM delivery
    WHERE state IN {open}"""


_STATES: Final = {
    "waiting": WAITING,
    "working": WORKING,
    "open": (*WAITING, *WORKING),
    "final": FINAL,
    "any": (*WAITING, *WORKING, *FINAL),
}


@dataclass(frozen=True, slots=True)
class Original:
    """Bytes that must be somewhere."""

    sha256: str
    size: int | None
    kept: str  #: spooled or archived
    delivery: int  #: the first that says so


def checked(
    conn: sa.Connection, backend: Backend, *, grace: float = 60.0, drained: bool = False
) -> pl.DataFrame:
    """Every promise: promise, held Boolean, broken Int64 (how often), example (the first).

    Args:
        conn: a reading connection.
        backend: the engine, whose clock counts.
        grace: so many seconds a lease may have run out before somebody must have seen to it.
        drained: also that everything accepted has come to its end.
    """
    late = backend.now(conn) - timedelta(seconds=grace)
    promises = dict(_PROMISES)
    if drained:
        promises["everything that was accepted is done"] = _DRAINED
    words = {name: _listed(states) for name, states in _STATES.items()}
    words["late"] = f"'{late.isoformat()}'"
    rows = [line(name, *exceptions(conn, sql.format_map(words))) for name, sql in promises.items()]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def originals(conn: sa.Connection) -> list[Original]:
    """Every original that the ledger says is kept, each once for each place."""
    columns = delivery.c
    rows = conn.execute(
        sa.select(
            columns.sha256, sa.func.max(columns.size).label("size"), columns.kept,
            sa.func.min(columns.id).label("delivery"),
        )
        .where(columns.kept.in_(["spooled", "archived"]), columns.parent.is_(None))
        .group_by(columns.sha256, columns.kept)
        .order_by(sa.func.min(columns.id))
    )  # fmt: skip
    return [Original(row.sha256, row.size, row.kept, row.delivery) for row in rows]


def states(conn: sa.Connection) -> dict[str, int]:
    """How many deliveries that came from outside are in each state: sent = the sum of them."""
    columns = delivery.c
    rows = conn.execute(
        sa.select(columns.state, sa.func.count())
        .where(columns.parent.is_(None))
        .group_by(columns.state)
        .order_by(columns.state)
    )
    return {state: int(count) for state, count in rows}


def _listed(found: Sequence[str]) -> str:
    return f"({', '.join(repr(state) for state in found)})"
