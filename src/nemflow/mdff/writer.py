"""MeterData as NEM12 and NEM13 text again, in one canonical form.

Why: what was read, corrected or generated has to leave again as a file any participant can
load, and two equal contents should leave as equal bytes.

Promise: ASCII, CRLF after every record (900 too), every comma of the layout, the shortest
decimal that is exact (never by way of a float), null as an empty cell. Reading what was
written gives the same days, readings, events and register reads; writing what was read from
a canonical file gives the same bytes. ``docs/writing.md`` says what canonical means.

Where next: ``generate.py`` makes its files from the record functions here; ``reader.py`` is
the way back; spec §1.1, §1.3 and §2 describe the records.
"""

from __future__ import annotations

import os
import re
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import polars as pl

from nemflow.errors import SystemFault, UsageError

if TYPE_CHECKING:
    from nemflow.mdff.meterdata import MeterData

EOL: Final = "\r\n"
KINDS: Final = ("NEM12", "NEM13")
#: Rows turned into text at once: bounds the memory of one step, not the size of the file.
ROWS_AT_ONCE: Final = {"NEM12": 4096, "NEM13": 65_536}
#: Endings of a target's name that mean text; ``.zip`` means an archive.
TEXT_ENDINGS: Final = ("", ".csv", ".txt", ".nem12", ".nem13", ".mdff", ".dat")

_STAMP: Final = "%Y%m%d%H%M%S"
_DATE: Final = "%Y%m%d"
#: An archive's members always carry this time: equal content, equal bytes.
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)


# --- whole files -----------------------------------------------------------------------------


def to_text(data: MeterData, *, accepted_only: bool = False) -> bytes:
    """Give the NEM12 / NEM13 text of ``data``, ASCII with CRLF (spec §1-§2).

    Each (source, block) of ``data`` becomes one 100...900 block, NEM12 blocks before NEM13
    blocks and the two kinds never in one block. Days stand in the order of ``data.days``.

    Args:
        data: what ``read`` or ``MeterData.concat`` gave.
        accepted_only: leave out days and reads that a rule keeps out of a load
            (``rejected_by`` not empty), with their 500 and 550 records.

    Raises:
        UsageError: there is nothing to write.
    """
    return b"".join(text for _, text in _pieces(data, accepted_only=accepted_only))


def write(
    data: MeterData,
    target: str | os.PathLike[str] | IO[bytes],
    *,
    accepted_only: bool = False,
    archive: bool | None = None,
) -> None:
    """Write ``data`` as NEM12 / NEM13 to a file or a binary file object.

    A file appears whole or not at all: it is written beside its place and then renamed.

    Args:
        data: what ``read`` or ``MeterData.concat`` gave.
        target: a path ending in .csv, .txt or nothing (text) or in .zip (one member for each
            source and kind), or an open binary file object (text).
        accepted_only: leave out what a rule keeps out of a load.
        archive: True for a zip, False for text, whatever the target's name.

    Raises:
        UsageError: nothing to write, a target that cannot be written, or an ending that is
            neither text nor zip.
        SystemFault: the disk refused (full, read-only).
    """
    if not isinstance(target, str | os.PathLike):
        if not hasattr(target, "write"):
            message = f"Cannot write to a {type(target).__name__}."
            raise UsageError(message, hint="Give a path or an open binary file.")
        _send(data, target, accepted_only=accepted_only, archive=bool(archive))
        return
    path = Path(target)
    if archive is None:
        archive = _means_archive(path)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            with draft.open("xb") as out:
                _send(data, out, accepted_only=accepted_only, archive=archive)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        message = f"Cannot write {path}: {error.strerror}."
        raise UsageError(message, hint="Check the folder and its permissions.") from error
    except OSError as error:
        message = f"Writing {path} failed: {error.strerror or error}."
        raise SystemFault(
            message, hint="Nothing was left behind; free space or try again."
        ) from error


def _means_archive(path: Path) -> bool:
    ending = path.suffix.lower()
    # NEM12#ID.1#FROM#TO is a legal file name: what follows its dot is no ending.
    if ending == ".zip" or ending in TEXT_ENDINGS or "#" in ending:
        return ending == ".zip"
    message = f"Cannot tell from {path.name!r} whether text or a zip is wanted."
    raise UsageError(message, hint="End the name in .csv, .txt or .zip.")


def _send(data: MeterData, out: IO[bytes], *, accepted_only: bool, archive: bool) -> None:
    pieces = _pieces(data, accepted_only=accepted_only)
    if not archive:
        for _, text in pieces:
            out.write(text)
        return
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as box:
        taken: set[str] = set()
        current: tuple[str, str] | None = None
        member: IO[bytes] | None = None
        for owner, text in pieces:
            if owner != current:
                if member is not None:
                    member.close()
                info = zipfile.ZipInfo(_member_name(*owner, taken), _ZIP_TIME)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                member = box.open(info, "w", force_zip64=True)
                current = owner
            assert member is not None  # noqa: S101 - set with ``current``
            member.write(text)
        if member is not None:
            member.close()


def _member_name(source: str, kind: str, taken: set[str]) -> str:
    """Name a member after its source: the last part of its path, plain characters, .csv."""
    last = re.split(r"[/\\!:]", source)[-1]
    stem = re.sub(r"\.(csv|txt|xml|zip|gz|mdff|dat|nem1[23])$", "", last, flags=re.IGNORECASE)
    stem = re.sub(r"[^A-Za-z0-9._#-]+", "_", stem).strip("._") or kind.lower()
    name, number = f"{stem}.csv", 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}.csv" if number > 2 else f"{stem}-{kind.lower()}.csv"
    taken.add(name.lower())
    return name


# --- blocks ----------------------------------------------------------------------------------


def _pieces(data: MeterData, *, accepted_only: bool) -> Iterator[tuple[tuple[str, str], bytes]]:
    """Give the text in order as ((source, kind), bytes), each piece of bounded size."""
    if accepted_only:
        data = data.accepted
    events = data.service_events
    rows = {"NEM12": data.frame_days, "NEM13": data.register_reads}
    blocks = _blocks(data.headers, rows)
    if blocks.is_empty():
        message = "There is nothing to write: no days, no register reads, no header."
        raise UsageError(message, hint="Read a file first, or look at its findings.")
    for kind in KINDS:
        mine = blocks.filter(pl.col("kind") == kind)
        if mine.is_empty():
            continue
        body = rows[kind].join(
            mine.select("source", "block", "order"), on=["source", "block"], maintain_order="left"
        )
        if not body["order"].is_sorted():
            body = body.sort("order", maintain_order=True)
        if kind == "NEM12":
            tails = _tails(events, 500)
            heads = record_200(body)
            new = (heads != heads.shift()) | (body["order"] != body["order"].shift())
            body = body.with_columns(
                pl.when(new.fill_null(value=True)).then(heads).otherwise(pl.lit("")).alias("head")
            )
        else:
            tails = _tails(events, 550)
        if body["line"].null_count() < body.height and not tails.is_empty():
            body = body.join(tails, on=["source", "line"], how="left", maintain_order="left")
        for piece in _slices(kind, mine, body, data.scale):
            for source, text in piece.iter_rows():
                yield (source, kind), text.encode("ascii")


def _blocks(headers: pl.DataFrame, rows: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """One row per block to write: source, block, kind, order, rows and its 100 record."""
    key = ["source", "block"]
    counts = pl.concat(
        frame.select(*key, pl.lit(kind).alias("kind")) for kind, frame in rows.items()
    )
    counts = counts.group_by(*key, "kind", maintain_order=True).agg(pl.len().alias("rows"))
    # The pieces of one text, put together again, each bring its header along.
    named = headers.unique(key, keep="first", maintain_order=True).select(
        *key, "version_header", "file_at", "from_participant", "to_participant"
    )
    registers = pl.col("version_header") == "NEM13"
    empty = named.join(counts, on=key, how="anti").select(
        *key,
        kind=pl.when(registers).then(pl.lit("NEM13")).otherwise(pl.lit("NEM12")),
        rows=pl.lit(0, dtype=counts["rows"].dtype),
    )
    unnamed = counts.select(key).unique(maintain_order=True).join(named, on=key, how="anti")
    order = pl.concat([named, unnamed], how="diagonal").with_row_index("order")
    return (
        pl.concat([counts, empty])
        .join(order, on=key, nulls_equal=True)
        .sort("order", maintain_order=True)
        .with_columns(
            pl.concat_str(
                pl.lit("100"),
                "kind",
                _header_time(),
                _clean("from_participant"),
                _clean("to_participant"),
                separator=",",
            )
            .add(EOL)
            .alias("head_100")
        )
    )


def _header_time() -> pl.Expr:
    # Twelve digits by the layout; a sender's seconds (D14) are kept rather than lost.
    at = pl.col("file_at")
    return (
        pl.when(at.dt.second() > 0)
        .then(at.dt.to_string(_STAMP))
        .otherwise(at.dt.to_string("%Y%m%d%H%M"))
    ).fill_null("")


def _slices(
    kind: str, blocks: pl.DataFrame, body: pl.DataFrame, scale: int
) -> Iterator[pl.DataFrame]:
    """Turn slices of ``body`` into (source, text), with the 100 and 900 records in place."""
    step = ROWS_AT_ONCE[kind]
    end = pl.col("rows").cum_sum()
    blocks = blocks.with_columns(first=(end - pl.col("rows")) // step, end=end).with_columns(
        last=pl.max_horizontal("first", (pl.col("end").cast(pl.Int64) - 1) // step)
    )
    for number in range(max(blocks["last"].to_list()) + 1):
        rows = body.slice(number * step, step)
        text = _nem12_lines(rows, scale) if kind == "NEM12" else records_250(rows, scale)
        if "tail" in rows.columns:
            text = text + rows["tail"].fill_null("")
        opened = blocks.filter(pl.col("first") == number)
        closed = blocks.filter(pl.col("last") == number)
        yield (
            pl.concat(
                [
                    opened.select("order", "source", text="head_100", part=pl.lit(0)),
                    rows.select("order", "source", text=text, part=pl.lit(1)),
                    closed.select("order", "source", text=pl.lit("900" + EOL), part=pl.lit(2)),
                ]
            )
            .sort("order", "part", maintain_order=True)
            .group_by("source", maintain_order=True)
            .agg(pl.col("text").str.join(""))
        )


def _nem12_lines(days: pl.DataFrame, scale: int) -> pl.Series:
    return days["head"] + records_300(days, scale)


def _tails(events: pl.DataFrame, record: int) -> pl.DataFrame:
    """Give the text of the 500 or 550 records under each line: source, line, tail."""
    if record == 500:
        fields = [
            _clean("trans_code"),
            _clean("service_order"),
            _stamp("read_at"),
            _clean("index_read"),
        ]
    else:
        fields = [
            _clean("previous_trans_code"),
            _clean("previous_service_order"),
            _clean("trans_code"),
            _clean("service_order"),
        ]
    line = pl.concat_str(pl.lit(str(record)), *fields, separator=",") + EOL
    return (
        events.filter(pl.col("record") == record)
        .select("source", pl.col("parent_line").alias("line"), line.alias("tail"))
        .group_by("source", "line", maintain_order=True)
        .agg(pl.col("tail").str.join(""))
    )


# --- records ---------------------------------------------------------------------------------


def record_200(days: pl.DataFrame) -> pl.Series:
    """Give each day's 200 record with its line end (spec §2.2)."""
    return days.select(
        pl.concat_str(
            pl.lit("200"),
            _clean("nmi"),
            _clean("nmi_configuration"),
            _clean("register_id"),
            _clean("suffix"),
            _clean("mdm_stream"),
            _clean("meter_serial"),
            _clean("uom"),
            _number("interval_minutes"),
            _date("next_scheduled_read"),
            separator=",",
        )
        + EOL
    ).to_series()


def records_300(days: pl.DataFrame, scale: int) -> pl.Series:
    """Give each day's 300 record and the 400 records under it (spec §2.3, §2.4).

    ``days`` has the columns of ``MeterData.frame_days``: ``values`` holds integers that count
    10 to the minus ``scale`` of the unit, null where a value is missing.
    """
    line = pl.concat_str(
        pl.lit("300"),
        _date("day"),
        _values_text(days["values"], scale).alias("values"),
        _clean("quality_method"),
        _number("reason_code"),
        _clean("reason_text"),
        _stamp("update_at"),
        _stamp("msats_at"),
        separator=",",
    )
    return days.select(line + EOL).to_series() + _records_400(days["spans"])


def _records_400(spans: pl.Series) -> pl.Series:
    texts = pl.DataFrame({"spans": spans}).with_row_index("row")
    some = texts.filter(pl.col("spans").list.len() > 0)
    if some.is_empty():
        return pl.repeat("", len(spans), eager=True)
    line = pl.concat_str(
        pl.lit("400"),
        _number("start"),
        _number("end"),
        _clean("quality") + _clean("method"),
        _number("reason_code"),
        _clean("reason_text"),
        separator=",",
    )
    some = some.explode("spans", empty_as_null=False).unnest("spans")
    some = some.group_by("row").agg((line + EOL).str.join("").alias("text"))
    joined = texts.select("row").join(some, on="row", how="left", maintain_order="left")
    return joined["text"].fill_null("")


def records_250(reads: pl.DataFrame, scale: int) -> pl.Series:
    """Give each register read's 250 record (spec §2.7).

    ``reads`` has the columns of ``MeterData.register_reads``; ``quantity`` is a decimal.
    """
    quantity = _quantity_text(reads["quantity"], scale)
    line = pl.concat_str(
        pl.lit("250"),
        _clean("nmi"),
        _clean("nmi_configuration"),
        _clean("register_id"),
        _clean("suffix"),
        _clean("mdm_stream"),
        _clean("meter_serial"),
        _clean("direction"),
        _clean("previous_read"),
        _stamp("previous_at"),
        _clean("previous_quality_method"),
        _number("previous_reason_code"),
        _clean("previous_reason_text"),
        _clean("current_read"),
        _stamp("current_at"),
        _clean("current_quality_method"),
        _number("current_reason_code"),
        _clean("current_reason_text"),
        quantity.alias("quantity"),
        _clean("uom"),
        _date("next_scheduled_read"),
        _stamp("update_at"),
        _stamp("msats_at"),
        separator=",",
    )
    return reads.select(line + EOL).to_series()


# --- fields ----------------------------------------------------------------------------------


def _clean(column: str) -> pl.Expr:
    """Text fit for a field: plain ASCII, no comma, no control character, no outer space."""
    text = pl.col(column).cast(pl.String)
    plain = (
        text.str.normalize("NFKD")
        .str.replace_all(r"\p{M}", "")
        .str.replace_all(r"[,\x00-\x1f\x7f]", " ")
        .str.replace_all(r"[^\x20-\x7e]", "?")
        .str.strip_chars(" ")
    )
    odd = text.str.contains(r"[^!-+\--~]")  # anything but printable ASCII without the comma
    return pl.when(odd).then(plain).otherwise(text).fill_null("")


def _number(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).fill_null("")


def _date(column: str) -> pl.Expr:
    return pl.col(column).dt.to_string(_DATE).fill_null("")


def _stamp(column: str) -> pl.Expr:
    return pl.col(column).dt.to_string(_STAMP).fill_null("")


def decimal_text(ints: pl.Series, scale: int) -> pl.Series:
    """Write scaled integers as the shortest exact decimals: 500 at scale 3 is ``0.5``.

    Null stays null. Any integer type; no float comes near.
    """
    if ints.is_empty() or ints.null_count() == len(ints):
        return ints.cast(pl.String)
    low, high = int(ints.min()), int(ints.max())  # type: ignore[arg-type]
    # Meter data repeats few values many times: look them up instead of formatting each.
    if low >= 0 and high <= 2 * len(ints):
        table = _format(pl.int_range(high + 1, dtype=pl.Int64, eager=True), scale)
        return table.gather(ints.cast(pl.UInt32))
    return _format(ints, scale)


def _format(ints: pl.Series, scale: int) -> pl.Series:
    text = ints.cast(pl.String)
    if scale == 0:
        return text
    frame = pl.DataFrame({"digits": text.str.strip_prefix("-").str.zfill(scale + 1), "text": text})
    sign = pl.when(pl.col("text").str.starts_with("-")).then(pl.lit("-")).otherwise(pl.lit(""))
    digits = pl.col("digits")
    return frame.select(
        pl.concat_str(sign, digits.str.head(-scale), pl.lit("."), digits.str.tail(scale))
        .str.strip_chars_end("0")
        .str.strip_chars_end(".")
    ).to_series()


def _values_text(values: pl.Series, scale: int) -> pl.Series:
    """Join each day's values by commas, missing ones as empty cells."""
    lengths = values.list.len()
    counts = lengths.unique(maintain_order=True).to_list()
    if len(counts) == 1 and counts[0]:
        cells = decimal_text(values.explode(empty_as_null=False), scale).fill_null("")
        return cells.reshape((len(values), counts[0])).arr.join(",")
    frame = pl.DataFrame({"values": values, "n": lengths}).with_row_index("row")
    parts = [
        part.select(
            "row",
            text=_values_text(part["values"], scale) if n else pl.lit("", dtype=pl.String),
        )
        for (n,), part in frame.partition_by("n", as_dict=True).items()
    ]
    if not parts:
        return pl.Series([], dtype=pl.String)
    return pl.concat(parts).sort("row")["text"]


def _quantity_text(quantity: pl.Series, scale: int) -> pl.Series:
    """Write decimals the shortest way."""
    if isinstance(quantity.dtype, pl.Decimal):
        scale = quantity.dtype.scale
        text = quantity.cast(pl.String)
    else:
        text = _format(quantity, scale)
    if scale == 0 or not isinstance(quantity.dtype, pl.Decimal):
        return text.fill_null("")
    return text.str.strip_chars_end("0").str.strip_chars_end(".").fill_null("")
