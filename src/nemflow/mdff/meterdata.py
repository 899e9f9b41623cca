"""What was read: MeterData, a few polars frames that belong together.

Why: a file says the same thing at three grains (a day, an interval, a register period) and
says some of it wrongly. MeterData keeps the compact form that the parser makes, and derives
the forms people ask for when they ask for them.

Promises: a value is an exact decimal (scaled integers inside, never a binary float before
``readings(exact=False)`` is asked for); a missing value is null, never 0; a day that can be
placed in time is here whatever the rules say of it, with the rules that keep it out of a load
in ``rejected_by``; every instant is market time, UTC+10 all year, and both ends of an interval
are given.

Next: :mod:`nemflow.mdff.reader` makes it, :mod:`nemflow.mdff.content` gives each day its
identity, :mod:`nemflow.mdff.readings` turns days into intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from nemflow.errors import FileRefused, MissingExtra

if TYPE_CHECKING:
    import pandas as pd

#: The market's clock: UTC+10 all year (POSIX spells the sign the other way round).
MARKET = "Etc/GMT-10"
STAMP = pl.Datetime("us", MARKET)
SPAN = pl.Struct(
    {
        "start": pl.UInt16,
        "end": pl.UInt16,
        "quality": pl.String,
        "method": pl.String,
        "reason_code": pl.Int16,
        "reason_text": pl.String,
    }
)

#: A column's type: an instance (``pl.List(...)``) or a class (``pl.String``).
Type = pl.DataType | type[pl.DataType]


def schema_of(columns: dict[str, Type]) -> pl.Schema:
    """A schema from names and types."""
    return pl.Schema(columns)


HEADERS = schema_of(
    {
        "source": pl.String,
        "block": pl.UInt32,
        "line": pl.UInt32,
        "version_header": pl.String,
        "file_at": STAMP,
        "from_participant": pl.String,
        "to_participant": pl.String,
        "end_line": pl.UInt32,
        "sha256": pl.String,
        "message_id": pl.String,
        "transaction_id": pl.String,
        "sender": pl.String,
        "receiver": pl.String,
    }
)

#: The parser's own form of a day; ``values`` holds integers scaled by ``MeterData.scale``.
FRAME_DAYS = schema_of(
    {
        "source": pl.String,
        "line": pl.UInt32,
        "block": pl.UInt32,
        "nmi": pl.String,
        "nmi_configuration": pl.String,
        "register_id": pl.String,
        "suffix": pl.String,
        "mdm_stream": pl.String,
        "meter_serial": pl.String,
        "uom": pl.String,
        "interval_minutes": pl.UInt16,
        "next_scheduled_read": pl.Date,
        "day": pl.Date,
        "values": pl.List(pl.Int64),
        "quality_method": pl.String,
        "quality": pl.String,
        "method": pl.String,
        "reason_code": pl.Int16,
        "reason_text": pl.String,
        "update_at": STAMP,
        "msats_at": STAMP,
        "version_at": STAMP,
        "file_at": STAMP,
        "version_derived": pl.Boolean,
        "spans": pl.List(SPAN),
        "rejected_by": pl.List(pl.String),
    }
)

REGISTER_READS = schema_of(
    {
        "source": pl.String,
        "line": pl.UInt32,
        "block": pl.UInt32,
        "nmi": pl.String,
        "nmi_configuration": pl.String,
        "register_id": pl.String,
        "suffix": pl.String,
        "mdm_stream": pl.String,
        "meter_serial": pl.String,
        "direction": pl.String,
        "previous_read": pl.String,
        "previous_at": STAMP,
        "previous_quality_method": pl.String,
        "previous_reason_code": pl.Int16,
        "previous_reason_text": pl.String,
        "current_read": pl.String,
        "current_at": STAMP,
        "current_quality_method": pl.String,
        "current_reason_code": pl.Int16,
        "current_reason_text": pl.String,
        "quantity": pl.Decimal(38, 4),
        "uom": pl.String,
        "next_scheduled_read": pl.Date,
        "update_at": STAMP,
        "msats_at": STAMP,
        "version_at": STAMP,
        "file_at": STAMP,
        "version_derived": pl.Boolean,
        "content_hash": pl.String,
        "rejected_by": pl.List(pl.String),
    }
)

SERVICE_EVENTS = schema_of(
    {
        "source": pl.String,
        "line": pl.UInt32,
        "block": pl.UInt32,
        "record": pl.UInt16,
        "nmi": pl.String,
        "suffix": pl.String,
        "register_id": pl.String,
        "day": pl.Date,
        "parent_line": pl.UInt32,
        "trans_code": pl.String,
        "service_order": pl.String,
        "read_at": STAMP,
        "index_read": pl.String,
        "previous_trans_code": pl.String,
        "previous_service_order": pl.String,
    }
)

FINDINGS = schema_of(
    {
        "source": pl.String,
        "line": pl.UInt32,
        "block": pl.UInt32,
        "record": pl.String,
        "field": pl.String,
        "value": pl.String,
        "rule": pl.String,
        "severity": pl.String,
        "message": pl.String,
        "todo": pl.String,
        "raw": pl.String,
    }
)

#: Records that a load leaves out, with what is needed to read them again alone.
QUARANTINE = schema_of(
    {
        "source": pl.String,
        "line": pl.UInt32,
        "block": pl.UInt32,
        "record": pl.String,
        "nmi": pl.String,
        "suffix": pl.String,
        "day": pl.Date,
        "rules": pl.List(pl.String),
        "raw": pl.String,
        "context": pl.String,
    }
)

#: Days (and register periods) that an earlier chunk handed out as accepted and a later chunk
#: found to be twins (rules I009 and A010).
TWINS = schema_of(
    {
        "source": pl.String,
        "nmi": pl.String,
        "suffix": pl.String,
        "day": pl.Date,
        "line": pl.UInt32,
        "record": pl.String,
    }
)

#: Larger scaled integers are kept in 128 bits; so are all whose scale is above MAX_SCALE_INT64,
#: so that ten to the power of the scale can be reckoned with.
MAX_SCALE_INT64 = 18
MAX_INT64 = 2**63 - 1


@dataclass(frozen=True, eq=False)
class MeterData:
    """Days, register reads, service events and findings of one or many MDFF files.

    Attributes:
        headers: one row per 100...900 block, with the envelope's ids where there was one.
        frame_days: one row per 300, values as integers scaled by ``scale``; see ``days``.
        scale: how many decimals the scaled integers carry.
        register_reads: one row per 250 (NEM13).
        service_events: one row per 500 or 550.
        findings: one row per rule met at one place.
        quarantine: one row per 300 or 250 that a load leaves out or that could not be placed,
            with its raw lines (400s and 500s included) and the 100 and 200 they stand under.
        twins: days and periods that an earlier chunk handed out as accepted and that this chunk
            found to be twins; they are rejected after all.
        refused: sources that could not be read as MDFF at all, each with its reason.
        exact: whether ``readings()`` gives decimals unless told otherwise.
    """

    headers: pl.DataFrame
    frame_days: pl.DataFrame
    scale: int
    register_reads: pl.DataFrame
    service_events: pl.DataFrame
    findings: pl.DataFrame
    quarantine: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=QUARANTINE))
    twins: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=TWINS))
    refused: tuple[FileRefused, ...] = ()
    exact: bool = False

    @classmethod
    def empty(cls) -> MeterData:
        """No data at all, with every column in place."""
        return cls(
            headers=pl.DataFrame(schema=HEADERS),
            frame_days=pl.DataFrame(schema=FRAME_DAYS),
            scale=0,
            register_reads=pl.DataFrame(schema=REGISTER_READS),
            service_events=pl.DataFrame(schema=SERVICE_EVENTS),
            findings=pl.DataFrame(schema=FINDINGS),
        )

    @classmethod
    def concat(cls, parts: Iterable[MeterData]) -> MeterData:
        """Put several MeterData one after the other; values are brought to one scale."""
        given = list(parts)
        if not given:
            return cls.empty()
        if len(given) == 1:
            return given[0]
        scale = max(part.scale for part in given)
        days = [rescaled(part.frame_days, scale - part.scale) for part in given]
        digits = max(_decimal_scale(part.register_reads) for part in given)
        reads = [part.register_reads.cast({"quantity": pl.Decimal(38, digits)}) for part in given]
        return cls(
            headers=pl.concat([part.headers for part in given]),
            frame_days=pl.concat(_same_integers(days)),
            scale=scale,
            register_reads=pl.concat(reads),
            service_events=pl.concat([part.service_events for part in given]),
            findings=pl.concat([part.findings for part in given]),
            quarantine=pl.concat([part.quarantine for part in given]),
            twins=pl.concat([part.twins for part in given]),
            refused=tuple(error for part in given for error in part.refused),
            exact=given[0].exact,
        )

    @cached_property
    def days(self) -> pl.DataFrame:
        """One row per 300: ``frame_days`` with decimal ``values`` and ``content_hash``.

        ``values`` is a list of decimals in the unit ``uom``, one per interval, null where
        missing; ``rejected_by`` lists the rule ids that keep the day out of a load.
        """
        from nemflow.mdff.content import content_hashes

        frame = self.frame_days
        values = decimal_values(frame["values"], self.scale)
        hashes = content_hashes(self)
        columns = frame.with_columns(values.alias("values"), hashes.alias("content_hash"))
        order = [name for name in columns.columns if name != "rejected_by"]
        return columns.select(*order, "rejected_by")

    def readings(
        self, *, exact: bool | None = None, wide: bool = False, compact: bool = False
    ) -> pl.DataFrame:
        """One row per interval.

        Args:
            exact: ``value`` as Decimal instead of Float64; default as ``read`` was told.
            wide: one row per interval and NMI, one column per stream; streams are joined by
                time, never by position.
            compact: texts of the long form as Categorical: half the memory, and faster. They
                compare and group as texts do; cast them to String for string functions.

        Returns:
            Long form: ``source, nmi, suffix, register_id, meter_serial, uom, interval_start,
            interval_end, value, quality, method, reason_code, reason_text, version_at,
            rejected_by``; both ends of the interval in market time. Wide form: ``nmi,
            interval_start, interval_end`` and, per stream, ``<suffix>`` and
            ``<suffix>_quality``.

        Raises:
            UsageError: wide form of data in which one stream has two values for one interval.
        """
        from nemflow.mdff import readings

        decimals = self.exact if exact is None else exact
        return readings.wide(self, decimals) if wide else readings.long(self, decimals, compact)

    def to_arrow(self, *, exact: bool | None = None, compact: bool = False) -> Any:
        """``readings()`` as a pyarrow Table. Raises MissingExtra without pyarrow."""
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingExtra("to_arrow()", "arrow") from error
        return self.readings(exact=exact, compact=compact).to_arrow()

    def to_pandas(
        self, *, exact: bool | None = None, wide: bool = False, compact: bool = False
    ) -> pd.DataFrame:
        """``readings()`` as a pandas DataFrame. Raises MissingExtra without pandas."""
        try:
            import pandas  # noqa: F401
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingExtra("to_pandas()", "pandas") from error
        return self.readings(exact=exact, wide=wide, compact=compact).to_pandas()

    @property
    def accepted(self) -> MeterData:
        """The same data without the days and register reads that a load leaves out."""
        kept = pl.col("rejected_by").list.len() == 0
        return replace(
            self,
            frame_days=self.frame_days.filter(kept),
            register_reads=self.register_reads.filter(kept),
        )

    def __repr__(self) -> str:
        rejected = self.frame_days.filter(pl.col("rejected_by").list.len() > 0).height
        return (
            f"<MeterData: {self.headers['source'].n_unique()} sources, "
            f"{self.frame_days.height} days ({rejected} rejected), "
            f"{self.register_reads.height} register reads, {self.findings.height} findings>"
        )


def decimal_values(values: pl.Series, scale: int) -> pl.Series:
    """Lists of scaled integers as lists of ``Decimal(38, scale)``; nothing is rounded."""
    flat = values.explode(empty_as_null=False) if values.len() else values.explode()
    decimals = flat.cast(pl.Int128).reinterpret(dtype=pl.Decimal(38, scale))
    return relist(decimals, values)


def relist(flat: pl.Series, like: pl.Series) -> pl.Series:
    """Cut a flat series into lists of the same lengths as ``like``'s lists."""
    lengths = like.list.len()
    if like.len() == 0:
        return pl.Series(like.name, [], dtype=pl.List(flat.dtype))
    first = int(lengths[0])
    if first and bool((lengths == first).all()):
        return flat.reshape((like.len(), first)).arr.to_list().alias(like.name)
    owner = pl.DataFrame({"n": lengths}).select(
        pl.int_range(pl.len(), dtype=pl.UInt32).repeat_by("n").alias("owner")
    )
    flat_owner = owner["owner"].explode(empty_as_null=False)
    cut = (
        pl.DataFrame({"owner": flat_owner, "v": flat})
        .group_by("owner", maintain_order=True)
        .agg("v")
    )
    every = pl.DataFrame({"owner": pl.int_range(like.len(), dtype=pl.UInt32, eager=True)})
    joined = every.join(cut, on="owner", how="left", maintain_order="left")
    return joined["v"].fill_null([]).alias(like.name)


def largest(numbers: pl.Series) -> int:
    """The largest of a series of integers, 0 when there is none."""
    most = numbers.max()
    return most if isinstance(most, int) else 0


def rescaled(days: pl.DataFrame, more: int) -> pl.DataFrame:
    """The same days with ``more`` further decimals; Int128 where Int64 would overflow."""
    if more <= 0 or days.is_empty():
        return days
    values = days["values"]
    flat = values.explode(empty_as_null=False)
    factor = 10**more
    too_small = factor > MAX_INT64 or largest(flat.abs()) > MAX_INT64 // factor
    if flat.dtype == pl.Int64 and too_small:
        flat = flat.cast(pl.Int128)
    flat = (flat * pl.Series([factor], dtype=flat.dtype)).cast(flat.dtype)
    return days.with_columns(relist(flat, values).alias("values"))


def _same_integers(days: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """Bring ``values`` of all frames to the widest integer among them."""
    wide = pl.List(pl.Int128)
    if any(frame.schema["values"] == wide for frame in days):
        return [frame.cast({"values": wide}) for frame in days]
    return list(days)


def _decimal_scale(reads: pl.DataFrame) -> int:
    """How many decimals the ``quantity`` column carries."""
    dtype = reads.schema["quantity"]
    return int(dtype.scale) if isinstance(dtype, pl.Decimal) else 0
