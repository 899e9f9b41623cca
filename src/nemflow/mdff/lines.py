"""Bytes to numbered lines: encoding, byte order mark, line ends, blank lines.

Why: a finding is worth little without its line, and senders differ in everything a text
editor hides. Many sources go through at once, so that ten thousand small files cost little
more than one large one.

Promises: line numbers are those an editor shows; nothing but blank lines is left out; a
source that is not text is noted as refused (F001) and takes no other source with it.

Spec: 1.1 (physical format), 8.9 (D05, D06, D07, D40). Next: :mod:`nemflow.mdff.structure`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import polars as pl

from nemflow.mdff.findings import Findings

if TYPE_CHECKING:
    from nemflow.mdff.asexml import Envelope

#: More than this in one line is an attack or a binary file; a legal record stays below 6 kB.
MAX_LINE_BYTES = 64 * 1024

_BOM = b"\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: What may stand round a field without changing it.
BLANKS = " \t\r\f\v\u00a0"
#: Record indicators by the first four characters of a line; "900" stands alone.
_KINDS = {
    f"{kind}{comma}": kind
    for kind in (100, 200, 300, 400, 500, 250, 550, 900)
    for comma in (",", "")
}


@dataclass(frozen=True, slots=True)
class Text:
    """One MDFF text on its way into the parser.

    Attributes:
        source: its name for findings, e.g. ``outer.zip/inner.csv``.
        data: the bytes, or for :meth:`Parser.chunks` a binary stream of them.
        sha256: hash of the bytes, where known.
        envelope: the aseXML message it came in, if it did.
        first_line: number of its first line within ``source`` (an XML file's payload starts
            further down).
        name: the file's own name, to compare with its content (rule F019).
    """

    source: str
    data: bytes | BinaryIO
    sha256: str | None = None
    envelope: Envelope | None = None
    first_line: int = 1
    name: str = ""


@dataclass(slots=True)
class Numbered:
    """The lines of many texts: one frame with row, src, line, kind, text."""

    frame: pl.DataFrame
    refused: dict[int, str] = field(default_factory=dict)  #: src -> why it is not text


def number(
    texts: Sequence[Text], payloads: Sequence[bytes], found: Findings, *, opening: bool = True
) -> Numbered:
    """Split many texts into lines.

    Args:
        texts: what they are called; ``payloads`` holds their bytes in the same order.
        payloads: the bytes of each text.
        found: where deviations are noted.
        opening: false for a later piece of a text, whose start has been judged already.

    Returns:
        Lines with ``row`` (0-based over all), ``src`` (index into texts), ``line`` (1-based
        within its source), ``kind`` (record indicator as a number, 0 when unknown), ``text``.
    """
    refused: dict[int, str] = {}
    clean: list[bytes] = []
    counts: list[int] = []
    for src, data in enumerate(payloads):
        body, why = _decoded(data, src, found, opening=opening)
        if why:
            refused[src] = why
            found.note("F001", src, why)
        clean.append(body)
        counts.append(body.count(b"\n"))
    joined = clean[0] if len(clean) == 1 else b"".join(clean)
    text = pl.read_lines(io.BytesIO(joined)).to_series() if joined else _no_lines()
    lone = text.str.contains("\r", literal=True)
    if lone.any():
        # A carriage return alone ends a line too; rare, so pay for it only here.
        again = [body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") for body in clean]
        return number(texts, again, found, opening=False)
    frame = pl.DataFrame({"text": text}).with_columns(
        _owner(counts).alias("src"), text.str.len_bytes().alias("bytes")
    )
    _note_line_ends(frame, texts, clean, len(joined), found)
    starts = [text.first_line for text in texts]
    frame = _with_numbers(frame, starts).with_columns(
        pl.col("text")
        .str.head(4)
        .replace_strict(_KINDS, default=0, return_dtype=pl.UInt16)
        .alias("kind")
    )
    frame = _too_long(frame, refused, found)
    frame = _odd_lines(frame, found)
    return Numbered(frame.select("row", "src", "line", "kind", "text"), refused)


def _no_lines() -> pl.Series:
    return pl.Series("text", [], dtype=pl.String)


def _decoded(data: bytes, src: int, found: Findings, *, opening: bool) -> tuple[bytes, str]:
    """UTF-8 bytes that end with a line end, and why the text is refused, if it is."""
    if opening and data.startswith(_WIDE_MARKS):
        return b"", "the text is UTF-16; save it as plain CSV (UTF-8) and send it again"
    if opening and data.startswith(_BOM):
        data = data[len(_BOM) :]
        found.note("F012", src, "the file starts with a byte order mark; it is skipped")
    if not data.isascii():
        data = _utf8(data, src, found)
    if b"\0" in data[:4096] and data[:4096].count(b"\0") > len(data[:4096]) // 20:
        return b"", "the file is binary, not text"
    if b"\n" not in data and b"\r" in data:
        data = data.replace(b"\r", b"\n")
        found.note("F014", src, "lines end with CR alone; CRLF expected")
    if data and not data.endswith(b"\n"):
        if opening or len(data) > 1:
            found.note("F014", src, "the last line has no line end; CRLF expected")
        data += b"\n"
    return data, ""


def _utf8(data: bytes, src: int, found: Findings) -> bytes:
    """The same text as UTF-8; Windows-1252 is assumed where it is not UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found.note(
            "F012", src, f"bytes beyond ASCII that are not UTF-8, first on line {line}; "
            "read as Windows-1252",
        )  # fmt: skip
        return data.decode("cp1252", "replace").encode()
    found.note("F012", src, "characters beyond ASCII; the format is 7-bit text")
    return data


def _owner(counts: Sequence[int]) -> pl.Series:
    """For each line the index of its source."""
    if len(counts) == 1:
        return pl.repeat(0, counts[0], dtype=pl.UInt32, eager=True)
    frame = pl.DataFrame({"n": counts}, schema={"n": pl.UInt32}).with_row_index("src")
    return frame.select(pl.col("src").repeat_by("n").explode(empty_as_null=False)).to_series()


def _with_numbers(frame: pl.DataFrame, starts: Sequence[int]) -> pl.DataFrame:
    """Add ``row`` over all lines and ``line`` within each source."""
    frame = frame.with_row_index("row")
    if len(starts) == 1:
        return frame.with_columns((pl.col("row") + starts[0]).cast(pl.UInt32).alias("line"))
    first = frame.group_by("src", maintain_order=True).agg(pl.col("row").first().alias("base"))
    offset = pl.DataFrame({"start": starts}, schema={"start": pl.Int64}).with_row_index("src")
    return (
        frame.join(first.join(offset, on="src"), on="src", how="left", maintain_order="left")
        .with_columns(
            (pl.col("row").cast(pl.Int64) - pl.col("base") + pl.col("start"))
            .cast(pl.UInt32)
            .alias("line")
        )
        .drop("base", "start")
    )


def _note_line_ends(
    frame: pl.DataFrame,
    texts: Sequence[Text],
    clean: Sequence[bytes],
    total: int,
    found: Findings,
) -> None:
    """F014 for sources whose lines do not all end with CRLF; aseXML payloads are let off."""
    length = frame["bytes"].sum()
    if length + 2 * frame.height == total:
        return
    for src, (text, body) in enumerate(zip(texts, clean, strict=True)):
        bare = 0 if text.envelope else body.count(b"\n") - body.count(b"\r\n")
        if bare > (0 if body.endswith(b"\r\n") else 1):
            found.note("F014", src, f"{bare} lines end with LF alone; CRLF expected")


def _too_long(frame: pl.DataFrame, refused: dict[int, str], found: Findings) -> pl.DataFrame:
    """Refuse sources with a line no legal record can have."""
    if (frame["bytes"].max() or 0) <= MAX_LINE_BYTES:  # type: ignore[operator]
        return frame
    long = frame.filter(pl.col("bytes") > MAX_LINE_BYTES).unique("src", keep="first")
    for src, line, size in long.select("src", "line", "bytes").iter_rows():
        why = f"line {line} has {size} bytes, at most {MAX_LINE_BYTES} allowed"
        refused[src] = why
        found.note("F001", src, why)
    return frame.filter(~pl.col("src").is_in(list(refused))).drop("row").with_row_index("row")


def _odd_lines(frame: pl.DataFrame, found: Findings) -> pl.DataFrame:
    """Look again at lines without a plain indicator: blanks go, blanks and quotes round it not."""
    odd = frame.filter(pl.col("kind") == 0)
    if odd.is_empty():
        return frame
    bare = pl.col("text").str.strip_chars(BLANKS + ",")
    first = pl.col("text").str.split(",").list.first().str.strip_chars(BLANKS + "\"'")
    odd = odd.with_columns(
        (bare == "").alias("blank"),
        first.replace_strict(_KINDS, default=0, return_dtype=pl.UInt16).alias("kind"),
    )
    blank = odd.filter("blank")
    if not blank.is_empty():
        for src, line, count in (
            blank.group_by("src", maintain_order=True)
            .agg(pl.col("line").first(), pl.len())
            .iter_rows()
        ):
            more = "" if count == 1 else f", and {count - 1} more"
            found.note("F013", src, f"line {line} is blank{more}; blank lines are not allowed")
    kinds = frame["kind"].clone().scatter(odd["row"], odd["kind"])
    frame = frame.with_columns(kinds.alias("kind"))
    if blank.is_empty():
        return frame
    keep = frame.join(blank.select("row"), on="row", how="anti", maintain_order="left")
    return keep.drop("row").with_row_index("row")


_QUOTED = re.compile(r'"([^"]*)"')


def unquoted(text: str) -> str:
    """A line without its quotes; a comma inside a quoted field becomes a space."""
    return _QUOTED.sub(lambda quoted: quoted.group(1).replace(",", " "), text)
