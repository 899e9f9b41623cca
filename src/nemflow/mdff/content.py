"""A day's content in canonical form, and the hash that names it.

Why: the store keeps a content once however often it is delivered, and decides the winner of
two equal stamps by the hash; so the same day must give the same form on every machine, from
every spelling (``0.500`` is ``.5``), whatever else stood in the file.

Promises: the hash covers values, qualities, spans, reasons, unit and interval length, and
nothing else; the integers are exact at the smallest scale that holds every value of the day.

Spec: 5.2, 5.3. Next: the store's ``days`` module keeps it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING

import polars as pl

from nemflow.mdff import quality
from nemflow.mdff.meterdata import MAX_INT64, MAX_SCALE_INT64, largest, relist, schema_of
from nemflow.mdff.quality import RANKING

if TYPE_CHECKING:
    from nemflow.mdff.meterdata import MeterData

#: Hex digits of SHA-256 that are kept: 128 bits.
_HASH_DIGITS = 32
#: Where a MeterData keeps its canonical form once it has been asked for.
_KEPT = "_canonical"
_ABOUT = ("uom", "interval_minutes", "scale", "quality_method", "reason_code", "reason_text")


def content_hashes(data: MeterData) -> pl.Series:
    """The content hash of every day, 32 hex digits, in the order of ``frame_days``."""
    return canonical(data)["content_hash"]


def canonical(data: MeterData) -> pl.DataFrame:
    """The content of every day, one row each in the order of ``frame_days``.

    Returns:
        ``content_hash`` (32 hex digits), ``scale`` (decimals of ``ints``, the smallest exact
        one), ``values`` (the scaled integers), ``ints`` (the same as JSON array text, ``null``
        where missing), ``total``
        (their sum as Int64, null where it does not fit), ``missing`` (how many are null),
        ``weakest`` (weakest quality flag of the day), ``spans_json`` (JSON
        rows ``[start, end, quality, method, reason_code, reason_text]``), ``reason_code``,
        ``reason_text``.
    """
    kept: pl.DataFrame | None = data.__dict__.get(_KEPT)
    return keep(data, canonical_days(data.frame_days, data.scale)) if kept is None else kept


def keep(data: MeterData, form: pl.DataFrame) -> pl.DataFrame:
    """Let ``data`` keep the canonical form of its days, so that it is made once."""
    data.__dict__[_KEPT] = form
    return form


def canonical_days(days: pl.DataFrame, scale: int) -> pl.DataFrame:
    """:func:`canonical` of days that have the columns of ``MeterData.frame_days``."""
    if days.is_empty():
        return pl.DataFrame(schema=_SCHEMA)
    values, scales = _shrunk(_without_withdrawn(days), scale)
    ints = _json(values)
    missing = values.list.eval(pl.element().null_count()).list.first().cast(pl.UInt16)
    frame = days.select(
        pl.col("uom", "interval_minutes", "quality_method", "reason_code", "reason_text"),
        scale=scales,
        values=values,
        ints=pl.Series(ints, dtype=pl.String),
        total=_totals(values),
        missing=missing,
        weakest=_weakest(days),
        spans_json=_spans_json(days),
    )
    hashes = _hashes(frame)
    return frame.select(
        pl.Series("content_hash", hashes, dtype=pl.String),
        "scale", "values", "ints", "total", "missing", "weakest", "spans_json",
        "reason_code", "reason_text",
    ).cast({name: dtype for name, dtype in _SCHEMA.items() if name != "values"})  # fmt: skip


_SCHEMA = schema_of(
    {
        "content_hash": pl.String,
        "scale": pl.UInt8,
        "values": pl.List(pl.Int64),  # Int128 where a value needs it
        "ints": pl.String,
        "total": pl.Int64,
        "missing": pl.UInt16,
        "weakest": pl.String,
        "spans_json": pl.String,
        "reason_code": pl.Int16,
        "reason_text": pl.String,
    }
)


def hashes_of(form: pl.DataFrame) -> pl.Series:
    """The content hash of days already in canonical form, to compare it with what is kept.

    Args:
        form: ``ints`` (JSON array text), ``uom``, ``interval_minutes``, ``scale``,
            ``quality_method`` (flag and method as one), ``reason_code``, ``reason_text``,
            ``spans_json``.
    """
    return pl.Series("content_hash", _hashes(form), dtype=pl.String)


def _without_withdrawn(days: pl.DataFrame) -> pl.Series:
    """The values, null where the withdrawn flag N says that none is known (spec 5.5)."""
    values = days["values"]
    flagged = quality.has_withdrawn(days)
    if not flagged.any():
        return values
    odd = days.filter(flagged).with_columns(pl.col("values").list.len().alias("per_day"))
    flags = quality.of_each_interval(odd)
    kept = pl.DataFrame({"v": odd["values"].explode(empty_as_null=False), "q": flags}).select(
        pl.when(pl.col("q").ne_missing("N")).then(pl.col("v"))
    )
    places = flagged.arg_true()
    mended = relist(kept.to_series(), odd["values"])
    order = pl.concat([(~flagged).arg_true(), places]).arg_sort()
    return pl.concat([values.filter(~flagged), mended]).gather(order)


def _hashes(frame: pl.DataFrame) -> Iterable[str]:
    """SHA-256 over the integers and everything said of them, per day."""
    about = frame.select(
        pl.concat_str(
            [pl.col(name).cast(pl.String).fill_null("") for name in _ABOUT]
            + [pl.col("spans_json")],
            separator="\x1f",
        )
    ).to_series()
    for numbers, text in zip(frame["ints"], about, strict=True):
        yield sha256(f"{numbers}\x1f{text}".encode()).hexdigest()[:_HASH_DIGITS]


def _shrunk(values: pl.Series, scale: int) -> tuple[pl.Series, pl.Series]:
    """Integers at the smallest scale that is exact for each day, and that scale per day."""
    count = values.len()
    drop = pl.repeat(0, count, dtype=pl.UInt8, eager=True)
    if scale == 0:
        return values, drop
    if scale > MAX_SCALE_INT64:
        values = values.cast(pl.List(pl.Int128))
    place = pl.int_range(count, dtype=pl.UInt32, eager=True)
    active = values
    for digits in range(1, scale + 1):
        divisible = active.list.eval((pl.element() % 10**digits == 0).all()).list.first()
        if not divisible.any():
            break
        place, active = place.filter(divisible), active.filter(divisible)
        drop = drop.scatter(place, digits)
    scales = pl.select(pl.lit(scale, pl.UInt8) - drop).to_series()
    if not (drop > 0).any():
        return values, scales
    integer = pl.Int64 if scale <= MAX_SCALE_INT64 else pl.Int128
    powers = pl.Series([10**n for n in range(scale + 1)], dtype=integer)
    factor = powers.gather(drop)
    pairs = pl.DataFrame({"v": values, "f": factor}).select("v", "f", n=pl.col("v").list.len())
    flat = pairs.select(
        pl.col("v").explode(empty_as_null=False)
        // pl.col("f").repeat_by("n").explode(empty_as_null=False)
    ).to_series()
    return relist(flat.cast(values.dtype.inner), values), scales  # type: ignore[attr-defined]


def _json(values: pl.Series) -> list[str]:
    """Each list as JSON text."""
    lengths = values.list.len()
    flat = values.explode(empty_as_null=False)
    if flat.null_count() or lengths.n_unique() != 1 or flat.dtype != pl.Int64:
        return [
            f"[{text}]"
            for text in values.cast(pl.List(pl.String))
            .list.eval(pl.element().fill_null("null"))
            .list.join(",")
        ]
    # All of one length and nothing missing: a null after each day marks where to cut.
    per_day = int(lengths[0])
    grid = pl.DataFrame({"v": flat.reshape((values.len(), per_day))}).select(
        pl.concat_arr("v", pl.lit(None, pl.Int64).reshape((1, 1)).first())
    )
    marked = grid.to_series().reshape((-1,))
    out = io.BytesIO()
    pl.DataFrame({"v": marked}).write_csv(
        out, include_header=False, line_terminator=",", null_value="\n", quote_style="never"
    )
    texts = out.getvalue()[: -len(b",\n,")].decode("ascii").split(",\n,")
    return [f"[{text}]" for text in texts]


def _totals(values: pl.Series) -> pl.Series:
    """Sum per day as Int64; null where a sum could not be held."""
    flat = values.explode(empty_as_null=False)
    if largest(flat.abs()) * largest(values.list.len()) <= MAX_INT64:
        return values.list.sum().cast(pl.Int64)
    return values.cast(pl.List(pl.Int128)).list.sum().cast(pl.Int64, strict=False)


def _weakest(days: pl.DataFrame) -> pl.Series:
    """The weakest flag of each day: over its spans, and its own where it is not V."""
    rank = {flag: place for place, flag in enumerate(RANKING)}
    own = pl.col("quality").replace_strict(rank, default=None, return_dtype=pl.Int8)
    spanned = pl.col("spans").list.eval(
        pl.element()
        .struct.field("quality")
        .replace_strict(rank, default=None, return_dtype=pl.Int8)
    )
    covered = pl.col("spans").list.len() > 0
    place = pl.when(covered).then(spanned.list.max()).otherwise(own)
    back = dict(enumerate(RANKING))
    return days.select(
        place.replace_strict(back, default=None, return_dtype=pl.String).alias("weakest")
    ).to_series()


def _spans_json(days: pl.DataFrame) -> pl.Series:
    """The 400s of each day as JSON rows; ``[]`` where there are none."""
    plain = pl.repeat("[]", days.height, dtype=pl.String, eager=True)
    covered = days["spans"].list.len() > 0
    if not covered.any():
        return plain
    rows = (
        days.select("spans")
        .with_row_index("place")
        .filter(covered)
        .explode("spans")
        .unnest("spans")
    )

    def quoted(name: str) -> pl.Expr:
        text = (
            pl.col(name).str.replace_all(r"[\\\x22]", r"\${0}").str.replace_all(r"[\x00-\x1f]", " ")
        )
        return (
            pl.when(pl.col(name).is_null())
            .then(pl.lit("null"))
            .otherwise(pl.format('"{}"', text.fill_null("")))
        )

    each = pl.format(
        "[{},{},{},{},{},{}]", "start", "end", quoted("quality"), quoted("method"),
        pl.col("reason_code").cast(pl.String).fill_null("null"), quoted("reason_text"),
    )  # fmt: skip
    joined = rows.group_by("place", maintain_order=True).agg(each.alias("row"))
    texts = joined.select("place", pl.format("[{}]", pl.col("row").list.join(",")).alias("json"))
    return plain.scatter(texts["place"], texts["json"])
