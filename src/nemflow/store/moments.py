"""Days at two moments: what was current then, what is current at another commit.

Why: "has this changed since you took it" and "what did this commit change" are one question, asked
of a day at two commit numbers. The answer comes from claims and load events, which are never
changed, so it is the same whenever it is asked, and nothing has to be kept per day.

Promises: the winner at a commit number is the one ``days.winners`` gives as known on it; totals
are exact, and null when no interval of the day has a value (never 0).

Look next: ``takes.py`` and ``feed.py``, which ask; ``days.py`` for who wins.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from nemflow.store import readings
from nemflow.store.days import KEY, SORT_KEY
from nemflow.store.leases import batches
from nemflow.store.tables import Day, Key, day_claim, day_content, load, load_event

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

#: Days looked up at a time: bounds memory, and the size of one statement.
AT_ONCE = 20_000
_CONTENT = [*KEY, "content_hash"]
#: What is told of a day at a moment, each as ``before_...`` and ``after_...``.
TOLD = ("hash", "total", "uom", "quality", "missing", "version_at", "file_at", "file")


def compared(conn: sa.Connection, backend: Backend, asked: pl.DataFrame) -> pl.DataFrame:
    """What was current before and after, for each day asked about.

    Args:
        conn: a reading connection that sees both moments.
        backend: the engine.
        asked: nmi, day, suffix, and the commit numbers ``before`` and ``after``; other columns
            stay. A day may occur several times.

    Returns:
        ``asked`` in its order, with ``before_hash``, ``before_total`` Decimal, ``before_uom``,
        ``before_quality`` (weakest), ``before_missing``, ``before_version_at``, ``before_file_at``
        and ``before_file``, and the same ``after_``: all null where nothing was current.
    """
    asked = asked.with_row_index("place")
    parts = [
        _winners(conn, backend, asked.join(some, on=KEY, how="semi"))
        for some in asked.select(KEY).unique(maintain_order=True).iter_slices(AT_ONCE)
    ]
    found = _at_one_scale(pl.concat(parts) if parts else _winners(conn, backend, asked))
    for side in ("before", "after"):
        named = {name: f"{side}_{name}" for name in TOLD}
        one = found.filter(pl.col("side") == side).select("place", *TOLD).rename(named)
        asked = asked.join(one, on="place", how="left", maintain_order="left")
    return asked.drop("place")


def _at_one_scale(found: pl.DataFrame) -> pl.DataFrame:
    """Totals as decimals of one scale, the longest."""
    scale = int(found["scale"].max() or 0)  # type: ignore[arg-type]
    powers = {short: 10 ** (scale - short) for short in found["scale"].unique().to_list()}
    factor = found["scale"].replace_strict(powers, return_dtype=pl.Int128)
    lifted = found.with_columns(total=pl.col("total") * factor)
    return readings.decimals(lifted, scale, "total")


def _winners(conn: sa.Connection, backend: Backend, asked: pl.DataFrame) -> pl.DataFrame:
    """The winners of some days at both moments: ``place``, ``side`` and the columns of TOLD."""
    claims = _claims(conn, backend, asked.select(KEY).unique())
    events = _events(conn, backend, claims["load"].unique().to_list())
    sides = pl.concat(
        asked.select("place", *KEY, side=pl.lit(side), known=pl.col(side).cast(pl.Int64))
        for side in ("before", "after")
    )
    said = (
        sides.join(claims, on=KEY)
        .sort("known")
        .join_asof(
            events.sort("seq"),
            left_on="known",
            right_on="seq",
            by="load",
            strategy="backward",
            check_sortedness=False,
        )
    )
    won = (
        said.filter(pl.col("kind").is_in(["published", "redone"]))
        .sort([*SORT_KEY, "load"], descending=True, nulls_last=True)
        .unique(["place", "side"], keep="first", maintain_order=True)
    )
    return _told(conn, backend, won)


def _claims(conn: sa.Connection, backend: Backend, keys: pl.DataFrame) -> pl.DataFrame:
    """All settled claims on the days, with what they count and the file they came in."""
    wanted = _wanted(conn.dialect.name, keys, KEY)
    names = [*SORT_KEY, "load", "total", "scale", "missing", "quality"]
    claim = _looked_up(conn.dialect.name, wanted, day_claim, KEY, names)
    return backend.fetch(
        conn,
        sa.select(
            *(wanted.c[name] for name in KEY), *(claim.c[name] for name in names), load.c.file
        )
        .select_from(wanted)
        .join(claim, _same(wanted, claim, KEY))
        .join(load, load.c.id == claim.c.load)
        .where(load.c.state.in_(["published", "undone"])),
    )


def _events(conn: sa.Connection, backend: Backend, loads: Sequence[int]) -> pl.DataFrame:
    """Every event of these loads."""
    columns = [load_event.c.load, load_event.c.seq, load_event.c.kind]
    parts = [
        backend.fetch(conn, sa.select(*columns).where(load_event.c.load.in_(some)))
        for some in batches(loads)
    ]
    empty = pl.DataFrame(schema={"load": pl.Int64, "seq": pl.Int64, "kind": pl.String})
    return pl.concat([empty, *parts])


def _told(conn: sa.Connection, backend: Backend, won: pl.DataFrame) -> pl.DataFrame:
    """Winning claims in the words of TOLD."""
    keys = won.select(_CONTENT).unique()
    about = _contents(conn, backend, keys, ["uom", "interval_minutes"])
    overflowing = won.filter(pl.col("total").is_null()).select(_CONTENT).unique()
    sums = _long_sums(conn, backend, overflowing)
    won = won.join(about, on=_CONTENT, how="left").join(sums, on=_CONTENT, how="left")
    won = won.with_columns(
        total=pl.coalesce(pl.col("total").cast(pl.Int128), "long_total"),
        scale=pl.coalesce("long_scale", "scale"),
    )
    nothing = pl.col("missing") >= 1440 // pl.col("interval_minutes")
    return won.select(
        "place",
        "side",
        pl.col("content_hash").alias("hash"),
        pl.when(~nothing).then("total").alias("total"),
        "scale",
        "uom",
        "quality",
        "missing",
        "version_at",
        "file_at",
        "file",
    )


def _long_sums(conn: sa.Connection, backend: Backend, keys: pl.DataFrame) -> pl.DataFrame:
    """The sums of the rare days whose sum does not fit 64 bits, from their values."""
    values = ["scale", "scaled_values", "exact_values"]
    found = _contents(conn, backend, keys, values)
    if found.is_empty():
        schema = {"long_total": pl.Int128, "long_scale": pl.Int64}
        return found.select(_CONTENT).with_columns(
            pl.lit(None, dtype).alias(name) for name, dtype in schema.items()
        )
    lists, scale = readings.scaled_values(found)
    return found.select(*_CONTENT, long_total=lists.list.sum(), long_scale=pl.lit(scale, pl.Int64))


def _contents(
    conn: sa.Connection, backend: Backend, keys: pl.DataFrame, names: list[str]
) -> pl.DataFrame:
    """Columns of the contents named by key and hash, one row each."""
    wanted = _wanted(conn.dialect.name, keys, _CONTENT)
    content = _looked_up(conn.dialect.name, wanted, day_content, _CONTENT, names)
    question = (
        sa.select(*(wanted.c[name] for name in _CONTENT), *(content.c[name] for name in names))
        .select_from(wanted)
        .join(content, _same(wanted, content, _CONTENT))
    )
    return backend.fetch(conn, question).unique(_CONTENT, keep="first", maintain_order=True)


# -- one index search per key ---------------------------------------------------------------------


def _wanted(dialect: str, keys: pl.DataFrame, names: Sequence[str]) -> sa.FromClause:
    """Keys as a table of the statement: arrays on PostgreSQL, JSON on SQLite."""
    kinds: dict[str, Any] = {name: Day() if name == "day" else Key for name in names}
    if dialect == "postgresql":
        arrays = [
            sa.literal(
                keys[name].to_list(),
                postgresql.ARRAY(sa.Date() if name == "day" else sa.Text()),
            )
            for name in names
        ]
        columns = [sa.column(name, kinds[name]) for name in names]
        return sa.func.unnest(*arrays).table_valued(*columns, name="wanted").render_derived()
    rows = keys.select(names).with_columns(pl.col(pl.Date).cast(pl.String)).rows()
    each = sa.func.json_each(json.dumps(rows, separators=(",", ":"))).table_valued("value")
    return sa.select(
        *(
            sa.type_coerce(sa.func.json_extract(each.c.value, f"$[{place}]"), kinds[name]).label(
                name
            )
            for place, name in enumerate(names)
        )
    ).subquery("wanted")


def _looked_up(
    dialect: str, wanted: sa.FromClause, table: sa.Table, key: Sequence[str], names: Sequence[str]
) -> sa.FromClause:
    """The table, to be searched by key; LATERAL keeps PostgreSQL's planner on the index."""
    if dialect != "postgresql":
        return table
    columns = [table.c[name] for name in dict.fromkeys([*key, *names])]
    return sa.select(*columns).where(_same(wanted, table, key)).offset(0).lateral("found")


def _same(
    wanted: sa.FromClause, other: sa.FromClause, key: Sequence[str]
) -> sa.ColumnElement[bool]:
    return sa.and_(*(wanted.c[name] == other.c[name] for name in key))
