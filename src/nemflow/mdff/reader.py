"""The parser: numbered lines to MeterData, for NEM12 and NEM13, many sources at once.

Why: one pass over all lines with column expressions is what makes ten thousand small files
and one large one equally cheap; this module only says in which order the parts work.

Promises: a day that can be placed in time is in the result whatever the rules say of it; a
record that cannot be placed is a finding with its raw line; a text in pieces
(:meth:`Parser.chunks`) gives the same days and findings as the text as a whole.

Next, in the order of the work: :mod:`~nemflow.mdff.lines`, :mod:`~nemflow.mdff.structure`,
:mod:`~nemflow.mdff.streams`, :mod:`~nemflow.mdff.intervals`, :mod:`~nemflow.mdff.quality`,
:mod:`~nemflow.mdff.days`, :mod:`~nemflow.mdff.registers`, :mod:`~nemflow.mdff.assembly`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import BinaryIO, Final

import polars as pl

from nemflow.errors import FileRefused, UsageError
from nemflow.mdff import assembly, days, headers, intervals, quality, registers, streams, structure
from nemflow.mdff.findings import Check, Findings
from nemflow.mdff.lines import Numbered, Text, number
from nemflow.mdff.meterdata import STAMP, MeterData
from nemflow.mdff.rules import PROFILES

__all__ = ["Parser", "Text"]

#: A piece of a large text ends before one of these, so that a day is never cut.
_CUTS: Final = (b"\n300,", b"\n200,", b"\n100,", b"\n250,")
_DEFAULT_CHUNK: Final = 16 * 1024 * 1024


@dataclass(slots=True)
class _Open:
    """What a piece of a text leaves open for the next: records, numbers, what was seen."""

    carried: list[tuple[int, str]] = field(default_factory=list)  #: (line, text) of 100 and 200
    next_line: int = 1
    prev: int = 0
    block: int = 0
    last_day: int | None = None  #: days since 1970 of the last day under the open 200
    opening: bool = True
    seen: assembly.Seen = field(default_factory=assembly.Seen)


class Parser:
    """Reads MDFF texts under one rule profile.

    Args:
        profile: ``"portal"`` (tolerant) or ``"b2b"`` (strict).
        now: the moment of reading, aware; default the system clock. Dates and stamps that lie
            in its future are found by it.
        value_limits: largest plausible value by (suffix or ``"*"``, unit), for rule I007.
        participant: our participant id, for rule F008; not checked without.

    Raises:
        UsageError: no such profile, or a ``now`` without offset.
    """

    def __init__(
        self,
        *,
        profile: str = "portal",
        now: datetime | None = None,
        value_limits: Mapping[tuple[str, str], Decimal] | None = None,
        participant: str | None = None,
    ) -> None:
        if profile not in PROFILES:
            raise UsageError(f"There is no rule profile {profile!r}.", hint="Use b2b or portal.")
        if now is not None and now.tzinfo is None:
            raise UsageError("now needs an offset.", hint="Pass an aware datetime.")
        self.profile = profile
        self.now = now or datetime.now(UTC)
        self.value_limits = dict(value_limits or {})
        self.participant = participant

    def feed(self, texts: Sequence[Text]) -> MeterData:
        """Read whole texts, all in one go.

        A text that is no MDFF is in ``refused`` (and in the findings), and does not disturb
        the others. Memory is a small multiple of the texts' size.
        """
        if not texts:
            return MeterData.empty()
        payloads = [
            text.data if isinstance(text.data, bytes) else text.data.read() for text in texts
        ]
        found = Findings(self.profile)
        lines = number(texts, payloads, found)
        return self._read(texts, lines, found, _Open(), closing=True)

    def chunks(self, text: Text, chunk_bytes: int = _DEFAULT_CHUNK) -> Iterator[MeterData]:
        """Read one large text in pieces of about ``chunk_bytes``, cut between days.

        Memory stays flat whatever the text's size, also when one 200 is the whole file. A
        finding that needs the end of the text (F006, N009) comes with the last piece; a day
        that turns out to be the twin of an earlier one is named in that piece's ``twins``.
        """
        state = _Open(next_line=text.first_line)
        for piece, closing in _pieces(text.data, chunk_bytes):
            found = Findings(self.profile)
            prefix = b"".join(line.encode() + b"\r\n" for _, line in state.carried)
            start = state.next_line - len(state.carried)
            part = Text(text.source, b"", text.sha256, text.envelope, start, text.name)
            lines = number([part], [prefix + piece], found, opening=state.opening)
            counted = _counted(piece)
            yield self._read([part], lines, found, state, closing=closing)
            state.next_line += counted
            state.opening = False

    # ------------------------------------------------------------------ the order of the work

    def _read(
        self,
        texts: Sequence[Text],
        numbered: Numbered,
        found: Findings,
        state: _Open,
        *,
        closing: bool,
    ) -> MeterData:
        """Read numbered lines; ``state`` is what earlier pieces left open, and is moved on."""
        carried = len(state.carried)
        lines = structure.ordered(_continued(numbered, state), carried, state.prev)
        if state.carried:
            lines = lines.with_columns(pl.col("block") + (state.block - 1))
        foreign: set[int] = set()
        if state.opening:
            foreign = structure.foreign(lines, texts, found, set(numbered.refused))
            if foreign:
                lines = lines.filter(~pl.col("src").is_in(foreign))
        structure.check_order(lines, found, opening=state.opening, closing=closing, carried=carried)
        heads = headers.read_headers(
            lines, texts, found, participant=self.participant, now=self.now, carried=carried
        )
        parts = self._records(lines, heads, found, state)
        result = assembly.assemble(
            texts, lines, heads, parts, found,
            seen=state.seen, carried=carried, whole=state.opening and closing, closing=closing,
        )  # fmt: skip
        if not closing:
            _leave_open(state, lines)
        refused = _refusals(texts, foreign | set(numbered.refused), result)
        return MeterData(**result, refused=refused) if refused else MeterData(**result)

    def _records(
        self, lines: pl.DataFrame, heads: pl.DataFrame, found: Findings, state: _Open
    ) -> assembly.Parts:
        """Read every record type."""
        kind = pl.col("kind")
        kinds = set(lines["kind"].unique().to_list())

        def of(*wanted: int) -> pl.DataFrame:
            """Lines of a kind, with what its block's header says."""
            if not kinds & set(wanted):
                chosen = lines.clear()
            else:
                chosen = lines.filter(kind.is_in(wanted) if len(wanted) > 1 else kind == wanted[0])
            about = heads.select("part", "file_at")
            if about.height == 1:
                return chosen.with_columns(pl.lit(about["file_at"].first(), STAMP).alias("file_at"))
            return chosen.join(about, on="part", how="left", maintain_order="left")

        read = streams.read_streams(of(200), found)
        rows = of(300).filter(pl.col("r200").is_not_null())
        after = lines.select("row", pl.col("kind").shift(-1).alias("after"))
        rows = rows.join(read, on="r200", how="left", maintain_order="left").join(
            after, on="row", how="left", maintain_order="left"
        )
        rows = rows.with_columns((pl.col("after") == 0).fill_null(value=False).alias("continued"))
        _note_no_length(rows.filter(pl.col("per_day").is_null()), found)
        rows = rows.filter(pl.col("per_day").is_not_null())
        values = intervals.read_values(rows.drop("after", "kind", "prev", "r100"), found)
        placed = days.dated(days.qualified(values.frame), found)
        events = of(400)
        spans = quality.read_events(events, placed, found)
        placed = days.with_spans(placed, spans).with_columns(
            pl.col("row").is_in(events["r300"].drop_nulls().implode()).alias("has_events")
        )
        days.check_gaps(placed, found)
        placed = days.stamped(placed, found, self.now)
        days.check_days(placed, found, self.now, values.scale, self.value_limits)
        _check_first_day(placed, found, state)
        reads = registers.read_registers(of(250), found, self.now)
        parents = pl.concat(
            [
                placed.select("row", "line", "nmi", "suffix", "register_id", "day"),
                reads.select("row", "line", "nmi", "suffix", "register_id").with_columns(
                    pl.lit(None, pl.Date).alias("day")
                ),
            ]
        )
        services = registers.read_service_events(of(500, 550), parents, found)
        return assembly.Parts(placed, values.scale, reads, services, read)


def _note_no_length(rows: pl.DataFrame, found: Findings) -> None:
    """Days that cannot be placed because their 200 has no usable interval length."""
    found.add(
        rows.with_columns(pl.col("row").alias("target")),
        Check("N007", pl.lit(value=True), "IntervalLength", pl.col("interval_minutes"),
              "the 200 of this day has no interval length that divides a day; "
              "its values cannot be placed in time"),
    )  # fmt: skip


def _check_first_day(placed: pl.DataFrame, found: Findings, state: _Open) -> None:
    """I003 across a cut: the first day of a piece against the last of the piece before."""
    if state.last_day is None or len(state.carried) < 2 or placed.is_empty():
        return
    first = placed.head(1).filter(
        (pl.col("r200") == len(state.carried) - 1) & (pl.col("day").cast(pl.Int32) < state.last_day)
    )
    found.add(
        first,
        Check("I003", pl.lit(value=True), "IntervalDate", pl.col("date_text"),
              "earlier than the day before it in the same 200"),
    )  # fmt: skip


# ------------------------------------------------------------------ a text in pieces


def _pieces(data: bytes | BinaryIO, chunk_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Cut a text before a 100, 200, 250 or 300; give each piece and whether it is the last."""
    if isinstance(data, bytes):
        import io

        data = io.BytesIO(data)
    rest = b""
    size = max(chunk_bytes, 64 * 1024)
    while True:
        block = data.read(size)
        if not block:
            yield rest, True
            return
        rest += block
        cut = max(rest.rfind(mark) for mark in _CUTS) + 1
        if cut > 0:
            yield rest[:cut], False
            rest = rest[cut:]
        elif len(rest) > 64 * size:
            # nothing to cut at: not a meter data file, or one hostile line; judge it as it is
            end = rest.rfind(b"\n") + 1 or len(rest)
            yield rest[:end], False
            rest = rest[end:]


def _counted(piece: bytes) -> int:
    """How many lines a piece has, as an editor counts."""
    lone = piece.count(b"\r") - piece.count(b"\r\n")
    ends = piece.count(b"\n") + lone
    return ends if not piece or piece.endswith((b"\n", b"\r")) else ends + 1


def _continued(numbered: Numbered, state: _Open) -> Numbered:
    """Give the carried records at the head of a piece their own line numbers."""
    carried = [line for line, _ in state.carried]
    if not carried:
        return numbered
    frame = numbered.frame
    own = pl.Series("line", carried, dtype=pl.UInt32)
    line = pl.concat([own, frame["line"].slice(len(carried))])
    return Numbered(frame.with_columns(line), numbered.refused)


def _leave_open(state: _Open, lines: pl.DataFrame) -> None:
    """Remember the open 100 and 200, and where the piece ended."""
    known = lines.filter(pl.col("kind") > 0).tail(1)
    if known.is_empty():
        return
    last = known.row(0, named=True)
    open_rows = [last[name] for name in ("r100", "r200") if last[name] is not None]
    kept = lines.filter(pl.col("row").is_in(open_rows)).select("line", "text")
    state.carried = list(kept.iter_rows())
    state.prev = last["kind"]
    state.block = last["block"]
    state.last_day = None
    if last["kind"] == 300:
        text = last["text"].split(",")[1].strip()
        if len(text) == 8 and text.isascii() and text.isdigit():
            try:
                stamp = datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC)
            except ValueError:
                return
            state.last_day = int(stamp.timestamp()) // 86_400


def _refusals(
    texts: Sequence[Text], sources: set[int], result: assembly.Assembled
) -> tuple[FileRefused, ...]:
    """One error per source that could not be read at all, in the words of its finding."""
    if not sources:
        return ()
    errors = []
    said = result["findings"].filter(pl.col("rule").is_in(["F001", "F018"]))
    for src in sorted(sources):
        source = texts[src].source
        finding = said.filter(pl.col("source") == source).head(1)
        for rule, message, todo, line, value in finding.select(
            "rule", "message", "todo", "line", "value"
        ).iter_rows():
            errors.append(
                FileRefused(
                    f"{message}.", source=source, rule=rule, line=line, value=value or "", hint=todo
                )
            )
    return tuple(errors)
