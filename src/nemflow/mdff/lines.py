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

from nemflow.mdff.findings import Check, Findings
from nemflow.mdff.meterdata import largest

if TYPE_CHECKING:
    from nemflow.mdff.asexml import Envelope

#: More than this in one line is an attack or a binary file; a legal record stays below 6 kB.
MAX_LINE_BYTES = 64 * 1024

_BOM = b"\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: What may stand round a field without changing it.
BLANKS = " \t\r\f\v\u00a0"
#: What else may stand round a record indicator: quotes, a byte order mark of a joined file.
_AROUND = "\"'\ufeff"
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
class Form:
    """How a text is written, added up over its pieces: what rules F012 to F014 tell of it."""

    bom: bool = False
    beyond_ascii: bool = False
    not_utf8: int | None = None  #: first line that is not UTF-8
    blank: int | None = None  #: first blank line
    blanks: int = 0
    lone_cr: int = 0  #: lines that end with CR alone
    lone_lf: int = 0  #: lines that end with LF alone
    unended: bool = False  #: the last line has no line end


@dataclass(slots=True)
class Numbered:
    """The lines of many texts: one frame with row, src, line, kind, text."""

    frame: pl.DataFrame
    refused: dict[int, str] = field(default_factory=dict)  #: src -> why it is not text
    too_long: pl.DataFrame | None = None  #: lines that no record can be, shortened


def number(
    texts: Sequence[Text],
    payloads: Sequence[bytes],
    forms: Sequence[Form],
    found: Findings,
    *,
    opening: bool = True,
) -> Numbered:
    """Split many texts into lines.

    Args:
        texts: what they are called; ``payloads`` holds their bytes in the same order.
        payloads: the bytes of each text.
        forms: how each text is written; what is seen here is added.
        found: where lines that are too long, and texts that are none, are noted.
        opening: false for a later piece of a text, whose start has been judged already.

    Returns:
        Lines with ``row`` (0-based over all), ``src`` (index into texts), ``line`` (1-based
        within its source), ``kind`` (record indicator as a number, 0 when unknown), ``text``.
    """
    refused: dict[int, str] = {}
    clean: list[bytes] = []
    for src, data in enumerate(payloads):
        why = _not_text(data) if opening else ""
        if why:
            refused[src] = why
            found.note("F001", src, why)
        body = b"" if why else _decoded(data, texts[src], forms[src], opening=opening)
        clean.append(body)
    text = _split(clean)
    if text.str.contains("\r", literal=True).any():
        # A carriage return alone ends a line too; rare, so pay for it only here.
        clean = [_without_lone_cr(body, form) for body, form in zip(clean, forms, strict=True)]
        text = _split(clean)
    counts = [text.len()] if len(clean) == 1 else [body.count(b"\n") for body in clean]
    frame = pl.DataFrame({"text": text}).with_columns(
        _owner(counts).alias("src"), text.str.len_bytes().alias("bytes")
    )
    if frame["bytes"].sum() + 2 * frame.height != sum(map(len, clean)):
        for body, form in zip(clean, forms, strict=True):
            form.lone_lf += body.count(b"\n") - body.count(b"\r\n")
    frame = _with_kinds(_with_numbers(frame, [text.first_line for text in texts]))
    frame = _odd_lines(frame, forms)
    lines = frame.select("row", "src", "line", "kind", "text")
    return Numbered(lines, refused, _too_long(frame, found))


def note_forms(texts: Sequence[Text], forms: Sequence[Form], found: Findings) -> None:
    """Note how whole texts are written: F012, F013, F014.

    Line ends are not judged in an aseXML payload: the rules of XML turn CRLF into LF.
    """
    for src, (text, form) in enumerate(zip(texts, forms, strict=True)):
        if form.bom:
            found.note("F012", src, "the file starts with a byte order mark; it is skipped")
        if form.not_utf8 is not None:
            found.note(
                "F012", src, "bytes beyond ASCII that are not UTF-8, first on line "
                f"{form.not_utf8}; lines that are not UTF-8 are read as Windows-1252",
            )  # fmt: skip
        elif form.beyond_ascii:
            found.note("F012", src, "characters beyond ASCII; the format is 7-bit text")
        if form.blanks:
            more = "" if form.blanks == 1 else f", and {form.blanks - 1} more"
            found.note(
                "F013", src, f"line {form.blank} is blank{more}; blank lines are not allowed"
            )
        if text.envelope is not None:
            continue
        for count, end in ((form.lone_lf, "LF"), (form.lone_cr, "CR")):
            if count:
                found.note("F014", src, f"{count} lines end with {end} alone; CRLF expected")
        if form.unended:
            found.note("F014", src, "the last line has no line end; CRLF expected")


def _split(bodies: Sequence[bytes]) -> pl.Series:
    joined = bodies[0] if len(bodies) == 1 else b"".join(bodies)
    return pl.read_lines(io.BytesIO(joined)).to_series() if joined else _no_lines()


def _no_lines() -> pl.Series:
    return pl.Series("text", [], dtype=pl.String)


def _not_text(data: bytes) -> str:
    """Why the start of a text shows that it is none; empty when it may be one."""
    if data.startswith(_WIDE_MARKS):
        return "the text is UTF-16; save it as plain CSV (UTF-8) and send it again"
    head = data[:4096]
    if head.count(b"\0") > len(head) // 20:
        return "the file is binary, not text"
    return ""


def _decoded(data: bytes, text: Text, form: Form, *, opening: bool) -> bytes:
    """UTF-8 bytes that end with a line end."""
    if opening and data.startswith(_BOM):
        data = data[len(_BOM) :]
        form.bom = True
    if data.endswith(b"\r"):
        data += b"\n"
        form.lone_cr += 1
    elif data and not data.endswith(b"\n"):
        data += b"\r\n"
        form.unended = True
    return data if data.isascii() else _utf8(data, text, form)


def _utf8(data: bytes, text: Text, form: Form) -> bytes:
    """The same text as UTF-8; lines that are not are taken for Windows-1252."""
    form.beyond_ascii = True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        if form.not_utf8 is None:
            before = data[: error.start].replace(b"\r\n", b"\n")
            form.not_utf8 = text.first_line + before.count(b"\n") + before.count(b"\r")
        return b"".join(_line_as_utf8(line) for line in _LINE.findall(data))
    return data


_LINE = re.compile(rb"[^\r\n]*[\r\n]+")


def _line_as_utf8(line: bytes) -> bytes:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace").encode()
    return line


def _without_lone_cr(body: bytes, form: Form) -> bytes:
    """The same lines, those that end with CR alone ended like the others."""
    mended, count = re.subn(rb"\r(?!\n)", b"\r\n", body)
    form.lone_cr += count
    return mended


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


_LONG = pl.col("bytes") > MAX_LINE_BYTES


def _with_kinds(frame: pl.DataFrame) -> pl.DataFrame:
    """Add ``kind``; a line that is too long is none, and is shortened."""
    kind = pl.col("text").str.head(4).replace_strict(_KINDS, default=0, return_dtype=pl.UInt16)
    if largest(frame["bytes"]) <= MAX_LINE_BYTES:
        return frame.with_columns(kind.alias("kind"))
    return frame.with_columns(
        pl.when(_LONG).then(pl.col("text").str.head(80)).otherwise("text").alias("text"),
        pl.when(~_LONG).then(kind).otherwise(0).alias("kind"),
    )


def _too_long(frame: pl.DataFrame, found: Findings) -> pl.DataFrame | None:
    """Note lines that no record can be (F001), and give them."""
    if largest(frame["bytes"]) <= MAX_LINE_BYTES:
        return None
    lines = frame.filter(_LONG).with_columns(pl.lit(None, pl.UInt32).alias("target"))
    found.add(
        lines,
        Check("F001", pl.lit(value=True), "", None,
              f"the line has more than the {MAX_LINE_BYTES} bytes that any record may have"),
    )  # fmt: skip
    return lines


def _odd_lines(frame: pl.DataFrame, forms: Sequence[Form]) -> pl.DataFrame:
    """Look again at lines without a plain indicator: blanks go, blanks and quotes round it not."""
    odd = frame.filter((pl.col("kind") == 0) & ~_LONG)
    if odd.is_empty():
        return frame
    bare = pl.col("text").str.strip_chars(BLANKS + ",")
    first = pl.col("text").str.split(",").list.first().str.strip_chars(BLANKS + _AROUND)
    odd = odd.with_columns(
        (bare == "").alias("blank"),
        first.replace_strict(_KINDS, default=0, return_dtype=pl.UInt16).alias("kind"),
    )
    blank = odd.filter("blank")
    for src, line, count in (
        blank.group_by("src", maintain_order=True).agg(pl.col("line").first(), pl.len()).iter_rows()
    ):
        form = forms[src]
        form.blank = line if form.blank is None else form.blank
        form.blanks += count
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
