"""``show``: what is in a file, in words, numbers and two pictures.

Why: the first look at a file, before anything is stored.

Promises: any size (the file is read in chunks and only sums are kept); the same findings as
``check``; a finding is not an error here, so the exit code is 0 unless nothing could be read.

Look next: ``profiles.py`` adds up, ``charts.py`` draws.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.cli import wording
from nemflow.cli.options import ProfileOption, settings
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.errors import NotFound

if TYPE_CHECKING:
    import polars as pl

    from nemflow.cli.profiles import Stream, Survey
    from nemflow.mdff.meterdata import MeterData
    from nemflow.settings import Settings

#: With more streams than this, a table instead of a paragraph each.
PARAGRAPHS = 8

_STREAMS = (
    Column("nmi", "NMI", style="bold"),
    Column("suffix", style="bold"),
    Column("meaning", machine_only=True),
    Column("days", right=True),
    Column("rejected", "kept out", right=True, optional=True),
    Column("first", machine_only=True),
    Column("last", optional=True),
    Column("minutes", "min"),
    Column("intervals", machine_only=True),
    Column("missing", machine_only=True),
    Column("total", right=True),
    Column("mean", machine_only=True),
    Column("uom", "unit"),
    Column("quality", gives_way="fold"),
)
_READS = (
    Column("nmi", "NMI", style="bold"),
    Column("suffix", style="bold"),
    Column("register_id", "register", optional=True),
    Column("meter_serial", "meter", machine_only=True),
    Column("direction", machine_only=True),
    Column("previous_at", "from", show=wording.day),
    Column("current_at", "to", show=wording.day),
    Column("previous_read", "previous", right=True),
    Column("current_read", "current", right=True),
    Column("quantity", right=True),
    Column("uom", "unit"),
    Column("current_quality_method", "quality", optional=True),
)
_HEADERS = (
    "source",
    "block",
    "line",
    "version_header",
    "file_at",
    "from_participant",
    "to_participant",
    "sha256",
    "message_id",
    "transaction_id",
    "sender",
    "receiver",
)


def show(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file or archive.", metavar="FILE")],
    *,
    nmi: Annotated[str | None, typer.Option("--nmi", help="Only this NMI.", metavar="NMI")] = None,
    suffix: Annotated[
        str | None, typer.Option("--suffix", help="Only this data stream, e.g. E1.")
    ] = None,
    charts: Annotated[
        int, typer.Option("--charts", help="Draw at most so many streams; 0: none.", min=0)
    ] = 2,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show what is in a file: headers, streams, totals, quality, charts."""
    from nemflow.cli.profiles import Survey

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    nmi, suffix = nmi and nmi.upper(), suffix and suffix.upper()
    survey = Survey(drawn=charts if out.for_people else 0, nmi=nmi, suffix=suffix)
    rest = _Rest()
    for data in _chunks(file, settings(ctx, profile=profile)):
        survey.add(data)
        rest.add(data)
    streams = [
        stream
        for stream in survey.streams.values()
        if nmi in (None, stream.nmi) and suffix in (None, stream.suffix)
    ]
    reads = rest.reads(nmi, suffix)
    if (nmi or suffix) and not streams and reads.is_empty():
        wanted = " ".join(filter(None, (nmi, suffix)))
        raise NotFound(f"{file} has no {wanted}.", hint=f"What it has: nemflow show {file}")
    rows = [_stream_row(stream) for stream in streams]
    if out.form == "json":
        out.document(rest.document() | {"streams": rows, "register_reads": reads.to_dicts()})
    elif out.form == "csv":
        out.rows(_STREAMS if rows else _READS, rows or reads)
    else:
        _print(out, file, survey=survey, streams=streams, rest=rest, reads=reads)


def _chunks(file: Path, chosen: Settings) -> Any:
    """The file in chunks, with a progress bar."""
    from nemflow.cli.reading import chunks

    return chunks([file], chosen, "Reading")


class _Rest:
    """Headers, register reads and findings of all chunks."""

    def __init__(self) -> None:
        self._headers: list[pl.DataFrame] = []
        self._reads: list[pl.DataFrame] = []
        self._findings: list[pl.DataFrame] = []

    def add(self, data: MeterData) -> None:
        """Keep what is small."""
        self._headers.append(data.headers)
        self._reads.append(data.register_reads)
        self._findings.append(data.findings)

    @property
    def headers(self) -> pl.DataFrame:
        """Every 100 record once."""
        return _stacked(self._headers).unique(
            ["source", "block"], keep="first", maintain_order=True
        )

    @property
    def findings(self) -> pl.DataFrame:
        """All of them."""
        return _stacked(self._findings)

    def reads(self, nmi: str | None, suffix: str | None) -> pl.DataFrame:
        """Register reads of what was asked for."""
        frame = _stacked(self._reads)
        for column, wanted in (("nmi", nmi), ("suffix", suffix)):
            if wanted:
                frame = frame.filter(frame[column] == wanted)
        return frame

    def document(self) -> dict[str, Any]:
        """Headers and findings for JSON."""
        return {
            "headers": self.headers.select(_HEADERS).to_dicts(),
            "findings": self.findings.to_dicts(),
        }


def _stacked(frames: list[pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    from nemflow.mdff.meterdata import MeterData

    return pl.concat(frames, how="vertical_relaxed") if frames else MeterData.empty().findings


def _stream_row(stream: Stream) -> dict[str, Any]:
    """A stream as a flat row."""
    return {
        "nmi": stream.nmi,
        "suffix": stream.suffix,
        "meaning": meaning(stream.suffix),
        "days": stream.days,
        "rejected": stream.rejected,
        "first": stream.first,
        "last": stream.last,
        "minutes": sorted(stream.minutes),
        "intervals": stream.intervals,
        "missing": stream.missing,
        "total": stream.total if stream.is_energy and stream.mean is not None else None,
        "mean": stream.mean,
        "uom": stream.uom,
        "quality": wording.mixture(stream.quality),
    }


def meaning(suffix: str) -> str:
    """``solar or other generation fed into the grid``."""
    from nemflow.mdff.codes import parse_suffix

    parsed = parse_suffix(suffix)
    return parsed.kind.meaning if parsed else "not a data stream of the NMI Procedure"


def _print(
    out: Output,
    file: Path,
    *,
    survey: Survey,
    streams: list[Stream],
    rest: _Rest,
    reads: pl.DataFrame,
) -> None:
    """Everything, for people."""
    from nemflow.cli.findings import in_words, print_findings

    out.say(str(file), "bold")
    _print_headers(out, file, rest.headers)
    out.say()
    if len(streams) > PARAGRAPHS:
        out.rows(_STREAMS, [_stream_row(stream) for stream in streams], at_most=60)
        out.say()
    else:
        for stream in streams:
            _print_stream(out, stream)
    if not reads.is_empty():
        out.rows(_READS, reads, title="Register reads (NEM13)", at_most=30)
        out.say()
    if not streams and reads.is_empty():
        out.say("No day and no register read could be read.", "bold yellow")
    for (nmi, suffix), picture in survey.pictures.items():
        picture.draw(out, f"{nmi} {suffix}")
    hidden = len(streams) - len(survey.pictures)
    if survey.pictures and hidden > 0:
        out.say(f"{wording.count(hidden, 'more stream')} not drawn; choose with --nmi, --suffix.")
    out.say(f"Findings: {in_words(rest.findings)}.", "bold")
    print_findings(out, rest.findings)


def _print_headers(out: Output, file: Path, headers: pl.DataFrame) -> None:
    """The 100 records, at most five in full."""
    for row in headers.head(5).iter_rows(named=True):
        sent = wording.minute(row["file_at"]) or "no DateTime"
        if not (row["from_participant"] or row["to_participant"] or row["file_at"]):
            out.say(f"  {row['version_header'] or 'MDFF'}, nothing known of its sender")
            continue
        line = f"  {row['version_header'] or 'no header'} from {row['from_participant'] or '?'} "
        line += f"to {row['to_participant'] or '?'}, {sent}"
        if row["message_id"]:
            line += f", aseXML message {row['message_id']}"
        if headers["source"].n_unique() > 1:
            line += f"  ({row['source'].removeprefix(f'{file}/')})"
        out.say(line)
    if headers.height > 5:
        out.say(f"  … and {wording.count(headers.height - 5, 'more header')}", "dim")
    if headers.is_empty():
        out.say("  no 100 header")


def _print_stream(out: Output, stream: Stream) -> None:
    """One stream in three lines."""
    out.say(f"{stream.nmi} {stream.suffix}  {meaning(stream.suffix)}", "bold cyan")
    minutes = "/".join(str(each) for each in sorted(stream.minutes))
    span = str(stream.first) if stream.first == stream.last else f"{stream.first} to {stream.last}"
    kept_out = f", {stream.rejected:,} kept out of a load" if stream.rejected else ""
    out.say(
        f"  {wording.count(stream.days, 'day')}{kept_out}: {span}, {minutes} min, "
        f"{wording.count(stream.intervals, 'interval')}"
    )
    if stream.mean is None:
        amount = "no values"
    elif stream.is_energy:
        amount = f"total {wording.decimal(stream.total)} {stream.uom}"
    else:
        amount = f"mean {wording.cell(float(stream.mean))} {stream.uom}"
    holes = f", {wording.count(stream.missing, 'interval')} missing" if stream.missing else ""
    out.say(f"  {amount}{holes}; {wording.mixture(stream.quality, words=True)}")
    out.say()
