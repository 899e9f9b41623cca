"""The quarantine and the findings: what was refused, why, and all it takes to read it again.

Promises: a rejected record keeps its raw text with the 400, 500 or 550 lines below it, the 200 it
stood under and the 100 of its block, so that it can be parsed alone. A record is *open* until a
replay took it in; it is closed too when its file was undone or loaded anew, which has its own.

Look next: ``nemflow.pipeline.replaying``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import sqlalchemy as sa

from nemflow.errors import StoreTaken
from nemflow.store.backends.codec import STAMP
from nemflow.store.leases import batches
from nemflow.store.tables import delivery, file, finding, load, quarantine

if TYPE_CHECKING:
    from datetime import datetime

    from nemflow.store.backends import Backend

#: So much of a raw line stays with a finding; a rejected record is whole in the quarantine.
FINDING_RAW_CHARS = 200
_FINDING_COLUMNS = [column.name for column in finding.columns]
_COLUMNS = [column.name for column in quarantine.columns]
_GIVEN = {*_COLUMNS} - {"attempts", "resolved_by", "resolved_at"}


#: What is still to be taken in: of a load that counts, and not replayed.
_STANDING: Final = sa.and_(
    quarantine.c.resolved_by.is_(None), file.c.load == quarantine.c.load,
    load.c.state.in_(["published", "rejected"]), file.c.state != "undone",
)  # fmt: skip


def standing(question: sa.Select[*tuple[Any, ...]]) -> sa.Select[Any]:
    """A question about ``quarantine``, only of records that are open."""
    return (
        question.join(file, file.c.id == quarantine.c.file)
        .join(load, load.c.id == quarantine.c.load)
        .where(_STANDING)
    )


def append_findings(conn: sa.Connection, backend: Backend, findings: pl.DataFrame) -> None:
    """Append findings (columns of ``MeterData.findings`` plus ``load``)."""
    backend.append(
        conn,
        finding,
        findings.with_columns(pl.col("raw").str.head(FINDING_RAW_CHARS)).select(_FINDING_COLUMNS),
    )


def append_records(
    conn: sa.Connection, backend: Backend, records: pl.DataFrame, *, now: datetime
) -> None:
    """Append rejected records: ``MeterData.quarantine`` plus ``file`` and ``load``."""
    if records.is_empty():
        return
    first = backend.reserve(conn, quarantine, records.height)
    rules = pl.Series([json.dumps(ids.to_list()) for ids in records["rules"]], dtype=pl.String)
    backend.append(
        conn,
        quarantine,
        records.with_columns(
            rules.alias("rules"),
            pl.int_range(first, first + records.height, eager=True).alias("id"),
            created_at=pl.lit(now).cast(STAMP),
        ).select([name for name in _COLUMNS if name in _GIVEN]),
    )


def records(
    conn: sa.Connection,
    backend: Backend,
    *,
    open_only: bool = True,
    file_id: int | None = None,
    rule: str | None = None,
    nmi: str | None = None,
    ids: Collection[int] | None = None,
    limit: int | None = None,
    after: int | None = None,
) -> pl.DataFrame:
    """Rejected records; see ``Store.quarantine``."""
    question = (
        sa.select(
            *quarantine.c,
            delivery.c.name.label("source"),
            load.c.delivery,
            sa.cast(_STANDING, sa.Integer).label("is_open"),
        )
        .join(file, file.c.id == quarantine.c.file)
        .join(load, load.c.id == quarantine.c.load)
        .join(delivery, delivery.c.id == load.c.delivery)
        .order_by(quarantine.c.id)
        .limit(limit)
    )
    if open_only:
        question = question.where(_STANDING)
    if file_id is not None:
        question = question.where(quarantine.c.file == file_id)
    if nmi is not None:
        question = question.where(quarantine.c.nmi == nmi)
    if rule is not None:  # a JSON list of identifiers
        question = question.where(quarantine.c.rules.contains(f'"{rule}"', autoescape=True))
    if after is not None:
        question = question.where(quarantine.c.id > after)
    if ids is not None:
        question = question.where(quarantine.c.id.in_(list(ids)))
    found = backend.fetch(conn, question)
    rules = pl.Series(
        "rules", [json.loads(text) for text in found["rules"]], dtype=pl.List(pl.String)
    )
    found = found.with_columns(rules, pl.col("is_open").cast(pl.Boolean).alias("open"))
    return found.select(
        "id",
        "file",
        "source",
        "line",
        "record",
        "nmi",
        "suffix",
        "day",
        "rules",
        "raw",
        "context",
        "attempts",
        "resolved_by",
        "resolved_at",
        "created_at",
        "open",
        "load",
        "delivery",
    ).rename({"id": "quarantine"})


def must_be_open(conn: sa.Connection, ids: Collection[int]) -> None:
    """Make sure that nobody else took these records in, or does so until the transaction ends.

    Raises:
        StoreTaken: somebody did.
    """
    left = 0
    for some in batches(ids):  # in order: who wants the same records waits, and finds them closed
        still = quarantine.c.id.in_(some), quarantine.c.resolved_by.is_(None)
        question = sa.select(quarantine.c.id).where(*still).order_by(quarantine.c.id)
        left += len(conn.execute(question.with_for_update()).all())
    if left != len(ids):
        raise StoreTaken(
            "Another replay is taking the same records in.", hint="Run the replay again."
        )


def tried(
    conn: sa.Connection, ids: Collection[int], taken_in: Mapping[int, int], now: datetime
) -> None:
    """Note a replay: one more attempt each; ``taken_in`` says by which load those were resolved."""
    for some in batches(ids):
        conn.execute(
            sa.update(quarantine)
            .where(quarantine.c.id.in_(some))
            .values(attempts=quarantine.c.attempts + 1)
        )
    if taken_in:
        resolved: list[dict[str, Any]] = [
            {"number": number, "by": by, "now": now} for number, by in taken_in.items()
        ]
        conn.execute(
            sa.update(quarantine)
            .where(quarantine.c.id == sa.bindparam("number"))
            .values(resolved_by=sa.bindparam("by"), resolved_at=sa.bindparam("now")),
            resolved,
        )


def findings_of(conn: sa.Connection, backend: Backend, file_id: int) -> pl.DataFrame:
    """The findings of a file's last load; see ``Store.findings``."""
    return backend.fetch(
        conn,
        sa.select(delivery.c.name.label("source"), *(c for c in finding.c if c.name != "load"))
        .join(load, load.c.id == finding.c.load)
        .join(file, file.c.load == load.c.id)
        .join(delivery, delivery.c.id == load.c.delivery)
        .where(file.c.id == file_id)
        .order_by(finding.c.line.nulls_first(), finding.c.rule),
    )
