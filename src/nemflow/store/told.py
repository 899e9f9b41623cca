"""What the ledger has to say to the sender of a delivery.

Promises: what is told is the account of that delivery's own newest loads, also when a later
delivery has loaded the same file again since; findings come in the order of their lines.

Look next: ``nemflow.pipeline.reporting``, which makes a report of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import sqlalchemy as sa

from nemflow.store.tables import delivery, delivery_step, finding, load, quarantine

if TYPE_CHECKING:
    from datetime import datetime

    from nemflow.store.backends import Backend


def findings(conn: sa.Connection, backend: Backend, number: int, limit: int) -> pl.DataFrame:
    """The findings of a delivery and of what was inside it, at most ``limit``.

    Columns: delivery Int64, source, line, block, record, field, value, rule, severity, message,
    todo, raw, and nmi, suffix, day of the record that it keeps out (null: it keeps none out, or
    they cannot be read).
    """
    each = load.alias("each")
    newest = (
        sa.select(sa.func.max(each.c.id))
        .where(each.c.delivery == delivery.c.id, each.c.kind == "load")
        .scalar_subquery()
    )
    kept_out = sa.and_(quarantine.c.load == finding.c.load, quarantine.c.line == finding.c.line)
    question = (
        sa.select(
            delivery.c.id.label("delivery"),
            delivery.c.name.label("source"),
            *(column for column in finding.c if column.name != "load"),
            quarantine.c.nmi,
            quarantine.c.suffix,
            quarantine.c.day,
        )
        .select_from(delivery)
        .join(load, load.c.id == newest)
        .join(finding, finding.c.load == load.c.id)
        .outerjoin(quarantine, kept_out)
        .where(sa.or_(delivery.c.id == number, delivery.c.parent == number))
        .order_by(delivery.c.id, finding.c.line.nulls_first(), finding.c.rule)
        .limit(limit)
    )
    return backend.fetch(conn, question)


def unsettled(conn: sa.Connection, since: datetime, limit: int) -> list[int]:
    """Deliveries that were taken in or rejected since then, and not settled by their attempt.

    A worker was killed between the publishing and the settling.
    """
    columns = delivery.c
    settled = (
        sa.select(delivery_step.c.delivery)
        .where(
            delivery_step.c.delivery == columns.id,
            delivery_step.c.step == "settle",
            delivery_step.c.outcome == columns.state,
            delivery_step.c.attempt >= columns.attempts,
        )
        .exists()
    )
    wanted = (
        sa.select(columns.id)
        .where(
            columns.finished_at > since,
            columns.kept == sa.literal_column("'spooled'"),
            columns.parent.is_(None),
            columns.state.in_(["loaded", "partly_loaded", "duplicate", "rejected"]),
            ~settled,
        )
        .order_by(columns.id)
        .limit(limit)
    )
    return list(conn.execute(wanted).scalars())
