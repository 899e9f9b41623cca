"""Reprocess: read an original again, as if it came today; first see what that would change.

Why: rules, profiles and this program change; what was taken in under the old ones can be read again
under the new ones, when the original is still there, and nobody does that blindly.

Promises: ``compare`` writes nothing, and says of every day what would become of it. ``reprocess``
undoes the delivery and receives its original again in one transaction: killed at any moment, the
old load stands or the new delivery is in the ledger. Until that is loaded the versions before are
current. The unit is the delivery: of an archive all members are read again.

Look next: ``undoing.py``, ``receiving.py``, which it is made of; ``replaying.py`` for quarantined
records alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import sqlalchemy as sa

from nemflow.errors import NotFound
from nemflow.pipeline import work as loads
from nemflow.pipeline.dry import DrySink
from nemflow.pipeline.receiving import Receipt, receive_in
from nemflow.store import history, ledger, reversal, work
from nemflow.store.leases import batches
from nemflow.store.registers import PERIOD_KEY
from nemflow.store.tables import MARKET_OFFSET, day_claim, delivery, file, load, register_read

if TYPE_CHECKING:
    from nemflow.intake.spool import Spool
    from nemflow.pipeline.delivering import Delivering
    from nemflow.store import Store

DAY_KEY: Final = ["nmi", "suffix", "day"]
_COPY_BYTES: Final = 1 << 20
#: Columns of the comparison.
COLUMNS: Final = ("record", "nmi", "suffix", "day", "register_id", "change", "rules")
_SCHEMA: Final[dict[str, Any]] = {
    "record": pl.Int64, "nmi": pl.String, "suffix": pl.String, "day": pl.Date,
    "register_id": pl.String, "change": pl.String, "rules": pl.List(pl.String),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A delivery whose original can be read again."""

    delivery: int  #: the one that came from outside
    name: str
    sha256: str
    size: int
    profile: str | None  #: rule profile it was read under; None: by what it is
    lane: str
    sender: str | None
    path: Path  #: where its original lies


@dataclass(frozen=True, slots=True)
class Comparison:
    """What reading a delivery again would change."""

    source: Source
    profile: str | None
    rows: pl.DataFrame  #: COLUMNS; change: same, changed, gained, lost
    errors: tuple[str, ...]  #: why texts of it could not be read at all

    @property
    def counts(self) -> dict[str, int]:
        """How many days and register reads of each change."""
        found = dict.fromkeys(("same", "changed", "gained", "lost"), 0)
        return found | dict(self.rows.group_by("change").len().iter_rows())

    def to_dict(self) -> dict[str, Any]:
        """What it is of, and the counts; the rows apart."""
        return {
            "delivery": self.source.delivery,
            "name": self.source.name,
            "profile": self.profile,
            "counts": self.counts,
            "errors": list(self.errors),
        }


def source_of(
    store: Store, which: int | str, spool: Spool | None, archive: Path | None, *, file: bool = False
) -> Source:
    """The delivery whose original is to be read again.

    Args:
        store: the store.
        which: a delivery's number, or with ``file`` a file's number or beginning of its SHA-256.
        spool: where originals lie; None: not looked at.
        archive: where loaded ones were put; None: nowhere.
        file: ``which`` is a file; then of the delivery whose load counts.

    Raises:
        NotFound: no such delivery or file, or its original is in neither place.
    """
    row = store.backend.look(lambda conn: _outermost(conn, which, file=file))
    path = original_of(row.sha256, spool, archive)
    if path is None:
        raise NotFound(
            f"The original of delivery {row.id} is neither in the spool nor in the archive.",
            hint="Originals are kept with spool.keep_after = archive or keep; deliver it again.",
        )
    profile = None if row.profile == work.AUTO else row.profile
    return Source(
        row.id, row.name, row.sha256, row.size, profile, row.lane or "normal", row.sender, path
    )


def original_of(sha256: str | None, spool: Spool | None, archive: Path | None) -> Path | None:
    """Where the bytes of this hash lie: in the spool, else in the archive; None: nowhere."""
    if sha256 is None:
        return None
    if spool is not None and spool.has(sha256):
        return spool.path(sha256)
    if archive is not None:
        path = Path(archive).absolute() / sha256[:2] / sha256[2:4] / sha256
        if path.is_file():
            return path
    return None


def compare(store: Store, source: Source, how: Delivering, *, profile: str | None) -> Comparison:
    """What reading it again would change; nothing is written.

    ``profile``: to read it under; None: as it was read. A day is ``same`` when the store has this
    very version with this content, ``changed`` when this delivery has brought another, ``gained``
    when it brought none, ``lost`` when it would not be taken in again (with the rules that say so).
    """
    now = datetime.now(MARKET_OFFSET)
    wanted = profile or source.profile
    sink = DrySink(None, now, how.review_after)
    outcomes = loads.load_given(
        sink, [(source.path, source.name)], _how(source, how, wanted, now), size=source.size
    )
    bad = sink.bad
    rows = [
        _compared(store, source.delivery, sink.imagined.days, bad, record=300),
        _compared(store, source.delivery, sink.imagined.reads, bad, record=250),
    ]
    errors = tuple(each.error for each in outcomes if each.error)
    every = pl.concat(rows).sort("nmi", "suffix", "day", "register_id", nulls_last=True)
    return Comparison(source, wanted, every, errors)


def reprocess(
    store: Store, spool: Spool, source: Source, *, profile: str | None, by: str | None = None
) -> Receipt:
    """Take its days back and receive its original again, in one transaction; it is loaded then.

    Args:
        store: the store.
        spool: where the original goes, when it lies in the archive only.
        source: of ``source_of``.
        profile: rule profile; None: as it was read.
        by: who, for the audit.

    Returns:
        The receipt of the new delivery, whose channel is ``reprocess``.

    Raises:
        SpoolFull, SpoolFault: there is no room for the original.
        StoreError: nothing has happened.
    """
    wanted, backend = profile or source.profile, store.backend
    with spool.landing() as landing:
        with source.path.open("rb") as original:
            while piece := original.read(_COPY_BYTES):
                landing.write(piece)
        landing.sync()
        arrival = work.Arrival(
            name=source.name,
            channel="reprocess",
            sha256=landing.sha256,
            size=landing.size,
            sender=source.sender,
            api_key=by,
            profile=wanted,
            lane=source.lane,
        )
        taken: list[Receipt] = []

        def transaction(conn: sa.Connection) -> Receipt:
            taken.clear()
            backend.guard(conn, [landing.sha256])
            about = {"delivery": source.delivery, "profile": wanted}
            target = f"delivery {source.delivery}"
            ledger.note(
                conn, backend, act="reprocess", target=target, who=by, detail=json.dumps(about)
            )
            if _stands(conn, source.delivery):
                reversal.undo(conn, backend, source.delivery)
            taken.append(receive_in(conn, store, landing, arrival))
            return taken[0]

        def happened(conn: sa.Connection) -> bool:
            if not taken:
                return False
            return conn.execute(work.arrived(taken[0].delivery, arrival)).first() is not None

        return backend.transact(transaction, happened=happened)


def _how(source: Source, how: Delivering, profile: str | None, now: datetime) -> loads.How:
    return loads.How(
        profile=profile,
        limits=how.limits,
        xml_limits=how.xml_limits,
        value_limits=dict(how.value_limits),
        participant=how.participant,
        now=now,
        sender=source.sender,
        channel="reprocess",
        review_after=how.review_after,
        batch_bytes=how.batch_bytes,
        chunk_bytes=how.chunk_bytes,
    )


def _outermost(conn: sa.Connection, which: int | str, *, file: bool) -> Any:
    """The row of the delivery from outside that is meant. Raises NotFound."""
    number = _delivery_of(conn, which) if file else int(which)
    row = conn.execute(sa.select(delivery).where(delivery.c.id == number)).first()
    if row is not None and row.parent is not None:
        row = conn.execute(sa.select(delivery).where(delivery.c.id == row.parent)).first()
    if row is None:
        raise NotFound(
            f"There is no delivery of {which}.", hint="List them with: nemflow deliveries"
        )
    return row


def _delivery_of(conn: sa.Connection, which: int | str) -> int | None:
    found = history.file_id(conn, which)
    columns = delivery.c
    speaks = conn.execute(sa.select(file.c.delivery).where(file.c.id == found)).scalar()
    if speaks is not None:
        return int(speaks)
    last = sa.select(sa.func.max(columns.id)).where(columns.file == found)
    newest = conn.execute(last).scalar()
    return None if newest is None else int(newest)


def _stands(conn: sa.Connection, number: int) -> bool:
    """Whether anything of a delivery is loaded."""
    return bool(_loads_of(conn, number))


def _loads_of(conn: sa.Connection, number: int) -> list[int]:
    """The loads that stand of a delivery and of what is inside it."""
    rows = conn.execute(
        sa.select(load.c.id)
        .join(delivery, delivery.c.id == load.c.delivery)
        .where(
            sa.or_(delivery.c.id == number, delivery.c.parent == number),
            load.c.state == "published",
        )
    )
    return [int(row.id) for row in rows]


def _compared(
    store: Store, number: int, after: pl.DataFrame, bad: pl.DataFrame, *, record: int
) -> pl.DataFrame:
    """One kind of record, before and after: the columns of ``_SCHEMA``."""
    key = DAY_KEY if record == 300 else PERIOD_KEY
    table = day_claim if record == 300 else register_read
    before, same = store.backend.look(
        lambda conn: _claims(conn, store, number, after, table=table, key=key)
    )
    if after.is_empty():
        after = before.clear()
    now = after.unique([*key, "content_hash"], keep="last")
    known = now.join(same, on=[*key, "version_at", "content_hash"], how="semi", nulls_equal=True)
    other = now.join(
        known, on=[*key, "version_at", "content_hash"], how="anti", nulls_equal=True
    ).unique(key, keep="last")
    changed = other.join(before, on=key, how="semi", nulls_equal=True)
    gained = other.join(before, on=key, how="anti", nulls_equal=True)
    lost = before.unique(key).join(now, on=key, how="anti", nulls_equal=True)
    parts = [
        frame.select(key).unique().with_columns(change=pl.lit(change))
        for frame, change in (
            (known.join(other, on=key, how="anti", nulls_equal=True), "same"),
            (changed, "changed"),
            (gained, "gained"),
            (lost, "lost"),
        )
    ]
    found = pl.concat(parts).with_columns(record=pl.lit(record, pl.Int64))
    if record == 250:
        found = found.with_columns(day=pl.col("previous_at").dt.date())
        rules = pl.lit(None, pl.List(pl.String)).alias("rules")
        return found.with_columns(rules).select(_typed())
    why = _why(bad)
    found = found.join(why, on=DAY_KEY, how="left").with_columns(
        rules=pl.when(pl.col("change") == "lost").then(pl.col("rules")),
        register_id=pl.lit(None, pl.String),
    )
    return found.select(_typed())


def _typed() -> list[pl.Expr]:
    return [pl.col(name).cast(kind) for name, kind in _SCHEMA.items()]


def _why(bad: pl.DataFrame) -> pl.DataFrame:
    """The rules that keep a day out: DAY_KEY, rules."""
    schema = {name: _SCHEMA[name] for name in (*DAY_KEY, "rules")}
    if bad.is_empty() or "rules" not in bad.columns:
        return pl.DataFrame(schema=schema)
    return bad.select(*DAY_KEY, "rules").unique(DAY_KEY, keep="last").cast(schema)  # type: ignore[arg-type]


def _claims(
    conn: sa.Connection,
    store: Store,
    number: int,
    after: pl.DataFrame,
    *,
    table: sa.Table,
    key: Sequence[str],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What the delivery has brought, and what the store has of the same days from anybody."""
    names = [*key, "version_at", "content_hash"]
    question = sa.select(*(table.c[name] for name in names)).join(load, load.c.id == table.c.load)
    own = [
        store.backend.fetch(conn, question.where(table.c.load.in_(some)))
        for some in batches(_loads_of(conn, number))
    ] or [store.backend.fetch(conn, question.where(sa.false()))]
    before = pl.concat(own)
    standing = question.where(load.c.state == "published")
    every = [before]
    if not after.is_empty():
        nmis = after["nmi"].unique().to_list()
        if table is day_claim:
            standing = standing.where(table.c.day.between(after["day"].min(), after["day"].max()))
        for at in range(0, len(nmis), 500):
            asked = standing.where(table.c.nmi.in_(nmis[at : at + 500]))
            every.append(store.backend.fetch(conn, asked))
    return before, pl.concat(every).unique()
