"""Versions side by side, and which NMIs there are.

Why: "where does this number come from, and what stood there before" is asked of every bill.

Look next: ``days.py`` for who wins.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import sqlalchemy as sa

from nemflow.store import readings, registers
from nemflow.store.days import KEY, visible, with_content
from nemflow.store.tables import day_claim, delivery, file, load, load_event, register_read

if TYPE_CHECKING:
    from nemflow.store.backends import Backend


def of_day(
    conn: sa.Connection,
    backend: Backend,
    nmi: str,
    day: date,
    *,
    suffixes: Collection[str] | None,
) -> pl.DataFrame:
    """Every claim on a day with its content; see ``Store.versions``."""
    published = (
        sa.select(sa.func.min(load_event.c.at))
        .where(load_event.c.load == load.c.id)
        .correlate(load)
        .scalar_subquery()
    )
    question = (
        sa.select(
            *day_claim.c,
            load.c.state.label("load_state"),
            load.c.file,
            load.c.delivery,
            published.label("loaded_at"),
            file.c.sha256,
            file.c.from_participant,
            delivery.c.name.label("source"),
        )
        .join(load, load.c.id == day_claim.c.load)
        .join(file, file.c.id == load.c.file)
        .join(delivery, delivery.c.id == load.c.delivery)
        .where(
            day_claim.c.nmi == nmi,
            day_claim.c.day == day,
            load.c.state.in_(["published", "undone"]),
        )
    )
    if suffixes is not None:
        question = question.where(day_claim.c.suffix.in_(list(suffixes)))
    claims = question.subquery("claim")
    found = backend.fetch(conn, with_content(claims)).unique(
        [*KEY, "version_at", "file_at", "content_hash", "load"], keep="first", maintain_order=True
    )
    contents = (
        found.filter(pl.col("load_state") == "published")
        .filter(pl.col("version_at").is_not_null())
        .group_by(*KEY, "version_at")
        .agg(pl.col("content_hash").n_unique().alias("contents"))
    )
    values, scale = readings.scaled_values(found)
    found = found.with_columns(
        values.list.eval(pl.element().reinterpret(dtype=pl.Decimal(38, scale))),
        total=values.list.sum().reinterpret(dtype=pl.Decimal(38, scale)),
        missing=values.list.eval(pl.element().is_null()).list.sum().cast(pl.Int64),
    ).join(contents, on=[*KEY, "version_at"], how="left", maintain_order="left")
    told = registers.told(found, KEY, history=True)
    return told.select(
        "nmi",
        "day",
        "suffix",
        "state",
        "version_at",
        "version_derived",
        "file_at",
        "content_hash",
        "total",
        "missing",
        pl.col("weakest").alias("quality"),
        pl.col("interval_minutes").cast(pl.UInt16),
        "uom",
        "values",
        ((pl.col("contents") > 1).fill_null(value=False) & (pl.col("state") != "undone")).alias(
            "conflict"
        ),
        "from_participant",
        "file",
        "sha256",
        "source",
        "line",
        "delivery",
        "load",
        "loaded_at",
        "register_id",
        "meter_serial",
    ).sort("suffix", maintain_order=True)


def nmis(conn: sa.Connection, backend: Backend) -> pl.DataFrame:
    """Every NMI with visible data; see ``Store.nmis``."""
    columns = day_claim.c
    streams = backend.fetch(
        conn,
        sa.select(
            columns.nmi,
            columns.suffix,
            sa.func.min(columns.day, type_=columns.day.type).label("first_day"),
            sa.func.max(columns.day, type_=columns.day.type).label("last_day"),
            sa.func.count(columns.day.distinct()).label("days"),
        )
        .join(load, load.c.id == columns.load)
        .where(visible(None))
        .group_by(columns.nmi, columns.suffix),
    )
    intervals = streams.group_by("nmi").agg(
        pl.col("suffix").sort().alias("suffixes"),
        pl.col("first_day").min(),
        pl.col("last_day").max(),
        pl.col("days").sum(),
    )
    reads = pl.DataFrame(
        list(registers.nmis_with_reads(conn).items()),
        schema={"nmi": pl.String, "register_reads": pl.Int64},
        orient="row",
    )
    return (
        intervals.join(reads, on="nmi", how="full", coalesce=True)
        .with_columns(
            pl.col("suffixes").fill_null(pl.lit([], pl.List(pl.String))),
            pl.col("days", "register_reads").fill_null(0),
        )
        .sort("nmi")
    )


def is_known(conn: sa.Connection, nmi: str) -> bool:
    """Whether anything visible, or since undone, was ever delivered for an NMI."""
    for table in (day_claim, register_read):
        question = (
            sa.select(load.c.id)
            .join(table, table.c.load == load.c.id)
            .where(table.c.nmi == nmi, load.c.state.in_(["published", "undone"]))
            .limit(1)
        )
        if conn.execute(question).first():
            return True
    return False
