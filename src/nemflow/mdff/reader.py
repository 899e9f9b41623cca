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

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import BinaryIO, Final

import polars as pl

from nemflow.errors import FileRefused, UsageError
from nemflow.mdff import assembly, days, headers, intervals, quality, registers, streams, structure
from nemflow.mdff.findings import Check, Findings
from nemflow.mdff.lines import MAX_LINE_BYTES, Form, Numbered, Text, note_forms, number
from nemflow.mdff.meterdata import STAMP, MeterData
from nemflow.mdff.rules import PROFILES
from nemflow.mdff.structure import Before

__all__ = ["Parser", "Text"]

#: A piece of a large text ends before one of these records, so that a day is never cut.
_CUT: Final = re.compile(rb"[\r\n][ \t\"]*(?:100|200|250|300)[ \t\"]*,")
#: The first record of an MDFF.
_OPENS: Final = re.compile(rb"(?:^|[\r\n])[ \t\"]*(?:100|200|250)[ \t\"]*,")
#: Where a cut is looked for first, from the end.
_TAIL: Final = 64 * 1024
#: More bytes without a place to cut are no day of a meter.
_LONGEST_DAY: Final = 8 * 1024 * 1024
_DEFAULT_CHUNK: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class _Open:
    """What a piece of a text leaves open for the next: records, numbers, what was seen."""

    carried: list[tuple[int, str]] = field(default_factory=list)  #: (line, text) of 100 and 200
    before: Before = field(default_factory=Before)
    next_line: int = 1
    last_day: date | None = None  #: of the last 300 under the open 200
    opening: bool = True
    form: Form = field(default_factory=Form)
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
        forms = [Form() for _ in texts]
        lines = number(texts, payloads, forms, found)
        note_forms(texts, forms, found)
        return self._read(texts, lines, found, _Open(), closing=True)

    def chunks(self, text: Text, chunk_bytes: int = _DEFAULT_CHUNK) -> Iterator[MeterData]:
        """Read one large text in pieces of about ``chunk_bytes``, cut between days.

        Memory stays flat whatever the text's size, also when one 200 is the whole file; only
        the keys of its days (21 bytes each) and its register periods are remembered. What needs
        the end of the text (F006, F012 to F014, N009, A005, A009, A010) comes with the last
        piece. A rule of severity F rejects the days from its piece on; that it rejects those
        before too, the caller must see to. A day or period that turns out to be the twin of an
        earlier one is named in that piece's ``twins``.

        Raises:
            UsageError: chunk_bytes is not positive.
        """
        if chunk_bytes < 1:
            raise UsageError("chunk_bytes must be at least 1.")
        state = _Open(next_line=text.first_line)
        for piece, closing in _pieces(text.data, chunk_bytes):
            found = Findings(self.profile)
            prefix = b"".join(line.encode() + b"\r\n" for _, line in state.carried)
            start = state.next_line - len(state.carried)
            part = Text(text.source, b"", text.sha256, text.envelope, start, text.name)
            lines = number([part], [prefix + piece], [state.form], found, opening=state.opening)
            if closing:
                note_forms([part], [state.form], found)
            data = self._read([part], lines, found, state, closing=closing)
            yield data
            if data.refused:
                return
            state.next_line += _counted(piece)
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
        before = state.before
        lines = structure.ordered(_continued(numbered, state), before)
        foreign: set[int] = set()
        if state.opening:
            foreign = structure.foreign(lines, texts, found, set(numbered.refused))
            if foreign:
                lines = lines.filter(~pl.col("src").is_in(foreign))
        structure.check_order(lines, found, opening=state.opening, closing=closing, before=before)
        family, mixed = structure.check_families(lines, found, before)
        heads = headers.read_headers(
            lines, texts, found, participant=self.participant, now=self.now, before=before
        )
        parts = self._records(lines, heads, found, state)
        structure.check_unknown(lines, numbered.too_long, found)
        result = assembly.assemble(
            texts, lines, heads, parts, found,
            seen=state.seen, carried=before.carried, whole=state.opening and closing,
            closing=closing,
        )  # fmt: skip
        if not closing and not lines.is_empty():
            _leave_open(state, lines, parts.days, family, mixed=mixed)
        refused = _refusals(texts, foreign | set(numbered.refused), result.findings)
        return replace(result, refused=refused) if refused else result

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
    if state.last_day is None:
        return
    # with a last day, the last of the carried records is its 200
    under = (pl.col("r200") == state.before.carried - 1) & (pl.col("day") < state.last_day)
    found.add(
        placed.head(1).filter(under),
        Check("I003", pl.lit(value=True), "IntervalDate", pl.col("date_text"), days.DESCENDING),
    )


# ------------------------------------------------------------------ a text in pieces


def _pieces(data: bytes | BinaryIO, chunk_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Cut a text before a 100, 200, 250 or 300; give each piece and whether it is the last."""
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    rest = b""
    first = True
    # the first piece is smaller, so that whoever takes the pieces can begin sooner
    while block := stream.read(-(-chunk_bytes // 4) if first else chunk_bytes):
        rest += block
        line = _last_end(rest)
        if len(rest) - line > 2 * MAX_LINE_BYTES:
            # no record is that long: keep enough of it to say so, and pass over its rest
            rest = rest[: line + MAX_LINE_BYTES + 1] + _rest_of_line(stream, chunk_bytes)
        cut = _last_cut(rest)
        if first and len(rest) < _LONGEST_DAY and not _shows_its_kind(rest[:cut]):
            continue
        if not cut and len(rest) > chunk_bytes + _LONGEST_DAY:
            cut = _last_end(rest)
        if cut:
            yield rest[:cut], False
            rest = rest[cut:]
            first = False
    yield rest, True


def _last_cut(text: bytes) -> int:
    """Where the last record starts at which a text may be cut, 0 when there is none."""
    for start in (max(0, len(text) - _TAIL), 0):
        cut = 0
        for found in _CUT.finditer(text, start):
            cut = found.start() + 1
        if cut:
            return cut
    return 0


def _last_end(text: bytes) -> int:
    """Where the last line of a text starts; a CR at its very end may be half of a CRLF."""
    return max(text.rfind(b"\n"), text.rfind(b"\r", 0, -1)) + 1


def _rest_of_line(stream: BinaryIO, chunk_bytes: int) -> bytes:
    """Read to the end of a line; give what was read from its line end on."""
    while block := stream.read(chunk_bytes):
        ends = [place for place in (block.find(b"\n"), block.find(b"\r")) if place >= 0]
        if ends:
            return block[min(ends) :]
    return b""


def _shows_its_kind(text: bytes) -> bool:
    """Whether enough of a text is there to tell whether it is an MDFF."""
    if _OPENS.search(text):
        return True
    lines = text[:_LONGEST_DAY].splitlines()
    return sum(1 for line in lines if line.strip(b" \t,")) > structure.PREAMBLE


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
    return replace(numbered, frame=frame.with_columns(line))


def _leave_open(
    state: _Open, lines: pl.DataFrame, placed: pl.DataFrame, family: str, *, mixed: bool
) -> None:
    """Remember the open 100 and 200, and where the piece ended."""
    before = state.before
    known = lines.filter((pl.col("kind") > 0) & (pl.col("row") >= before.carried))
    last = lines.row(-1, named=True)
    r200 = last["r200"]
    kept = lines.filter(
        pl.col("row").is_in([row for row in (last["r100"], r200) if row is not None])
    ).select("line", "text")
    under = placed.filter(pl.col("r200").eq_missing(r200))["day"]
    if r200 is not None and not under.is_empty():
        state.last_day = under[-1]
    elif r200 is None or r200 >= before.carried:
        state.last_day = None
    state.carried = list(kept.iter_rows())
    state.before = Before(
        carried=kept.height,
        prev=before.prev if known.is_empty() else known["kind"][-1],
        block=last["block"],
        family=family,
        mixed=mixed,
    )


def _refusals(
    texts: Sequence[Text], sources: set[int], findings: pl.DataFrame
) -> tuple[FileRefused, ...]:
    """One error per source that could not be read at all, in the words of its finding."""
    if not sources:
        return ()
    errors = []
    said = findings.filter(pl.col("rule").is_in(["F001", "F018"]))
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
