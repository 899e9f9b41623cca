"""``nmis``, ``readings``, ``versions`` and ``coverage``: what is known now, or was known then.

Why: the questions a store is kept for.

Promises: a missing value is shown as missing, never as 0; a total with holes says so; days and
times are market time, UTC+10 all year; a period's two ends are both given in JSON and CSV.

Look next: :class:`nemflow.store.Store`, whose methods these commands print.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.cli import wording
from nemflow.cli.options import (
    DbOption,
    a_commit_or_instant,
    a_day,
    a_day_or_instant,
    again,
    open_to_read,
)
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

NmiArgument = Annotated[str, typer.Argument(help="The NMI, 10 characters.", metavar="NMI")]
FromOption = Annotated[
    str | None,
    typer.Option("--from", help="First day, 2025-03-05, or a time.", metavar="WHEN"),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", help="Last day, included, or a time.", metavar="WHEN"),
]
SuffixOption = Annotated[
    list[str] | None,
    typer.Option("--suffix", help="Only this data stream, e.g. E1; may be repeated."),
]
KnownOption = Annotated[
    str | None,
    typer.Option(
        "--as-known-on",
        help="As the store knew it then: a time (2025-03-05T14:30) or a commit number.",
        metavar="WHEN",
    ),
]
AsOption = Annotated[
    str | None,
    typer.Option(
        "--as", help="Remember that this consumer took it; see changes.", metavar="CONSUMER"
    ),
]
ON_SCREEN = 60


class Resolution(StrEnum):
    """How fine the readings are."""

    RAW = "raw"
    HALF_HOUR = "30min"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


_NMIS = (
    Column("nmi", "NMI", style="bold"),
    Column("suffixes", "streams"),
    Column("first_day", "first"),
    Column("last_day", "last"),
    Column("days", right=True),
    Column("register_reads", right=True),
)
_RAW = (
    Column("nmi", machine_only=True),
    Column("suffix"),
    Column("day", machine_only=True),
    Column("interval_start", "from", show=wording.minute),
    Column("interval_end", "to", show=wording.clock),
    Column("value", right=True, style="bold"),
    Column("uom", "unit"),
    Column("quality"),
    Column("method"),
    Column("reason_code", "reason", right=True),
    Column("reason_text", machine_only=True),
    Column("interval_minutes", machine_only=True),
    Column("register_id", machine_only=True),
    Column("meter_serial", machine_only=True),
    Column("version_at", machine_only=True),
    Column("file_at", machine_only=True),
    Column("file", machine_only=True),
)
_ROLLED_UP = (
    Column("nmi", machine_only=True),
    Column("suffix"),
    Column("interval_start", "from", show=wording.minute),
    Column("interval_end", "to", show=wording.clock, optional=True),
    Column("value", right=True, style="bold"),
    Column("uom", "unit"),
    Column("how", optional=True),
    Column("quality"),
    Column("intervals", machine_only=True),
    Column("missing", machine_only=True),
    Column("missing_share", "missing", right=True, show=wording.share),
    Column("estimated_share", "est.", right=True, show=wording.share),
    Column("substituted_share", "subst.", right=True, show=wording.share),
    Column("complete", machine_only=True),
)
_VERSIONS = (
    Column("suffix"),
    Column("state", style="bold"),
    Column("version_at", "version", show=wording.stamp),
    Column("total", right=True),
    Column("uom", "unit"),
    Column("quality"),
    Column("missing", right=True, optional=True),
    Column("source", "said by", gives_way="front"),
    Column("line", right=True, show=wording.plain, optional=True),
    Column("nmi", machine_only=True),
    Column("day", machine_only=True),
    Column("version_derived", machine_only=True),
    Column("file_at", machine_only=True),
    Column("content_hash", machine_only=True),
    Column("interval_minutes", machine_only=True),
    Column("conflict", machine_only=True),
    Column("from_participant", machine_only=True),
    Column("file", machine_only=True),
    Column("sha256", machine_only=True),
    Column("delivery", machine_only=True),
    Column("load", machine_only=True),
    Column("loaded_at", machine_only=True),
    Column("register_id", machine_only=True),
    Column("meter_serial", machine_only=True),
)
_COVERAGE = (
    Column("nmi", machine_only=True),
    Column("suffix", style="bold"),
    Column("first_day", "first"),
    Column("last_day", "last"),
    Column("days_present", "days", right=True),
    Column("days_missing", "missing days", right=True),
    Column("missing_share", "missing", right=True, show=wording.share),
    Column("estimated_share", "est.", right=True, show=wording.share),
    Column("substituted_share", "subst.", right=True, show=wording.share),
    Column("uom", machine_only=True),
    Column("days_expected", machine_only=True),
    Column("intervals_expected", machine_only=True),
    Column("intervals_missing", machine_only=True),
    Column("interval_minutes", machine_only=True),
    Column("gaps", machine_only=True),
)


def nmis(
    ctx: typer.Context,
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List every NMI in the store with its streams and span."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        rows = store.nmis()
    out.rows(_NMIS, rows, empty=f"No NMIs. Load some files: {again('load PATH', db)}")


def readings(
    ctx: typer.Context,
    nmi: NmiArgument,
    *,
    start: FromOption = None,
    end: ToOption = None,
    suffix: SuffixOption = None,
    resolution: Annotated[
        Resolution, typer.Option("--resolution", help="As delivered, or rolled up.")
    ] = Resolution.RAW,
    as_known_on: KnownOption = None,
    consumer: AsOption = None,
    chart: Annotated[
        bool, typer.Option("--chart", help="Draw the average day and a calendar instead of rows.")
    ] = False,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Print an NMI's readings, raw or rolled up, as known now or then."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    asked: dict[str, Any] = {
        "start": a_day_or_instant(start, "--from"),
        "end": a_day_or_instant(end, "--to"),
        "suffix": [each.upper() for each in suffix] if suffix else None,
        "as_known_on": a_commit_or_instant(as_known_on, "--as-known-on"),
        "consumer": consumer,
    }
    if chart and not out.for_people:
        raise UsageError("--chart draws for people.", hint="Leave out --json or --csv.")
    with open_to_read(ctx, db) as store:
        if chart:
            rows = store.readings(nmi.upper(), **asked)
        else:
            rows = store.readings(nmi.upper(), **asked, resolution=resolution.value)
    if chart:
        from nemflow.cli.profiles import draw_readings

        draw_readings(out, rows)
        return
    out.rows(_columns(resolution), rows, empty="No readings in this span.", at_most=ON_SCREEN)
    _explain_holes(out, rows, resolution)


def versions(
    ctx: typer.Context,
    nmi: NmiArgument,
    *,
    day: Annotated[
        str, typer.Option("--day", help="The day, 2025-03-05.", metavar="DAY", show_default=False)
    ],
    suffix: SuffixOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show everything ever said about a day, the current version first."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    on = a_day(day, "--day")
    assert on is not None  # noqa: S101  --day is required
    with open_to_read(ctx, db) as store:
        wanted = [each.upper() for each in suffix] if suffix else None
        rows = store.versions(nmi.upper(), on, suffix=wanted)
    out.rows(_VERSIONS, rows, title=f"{nmi.upper()} on {on}")
    if not rows.is_empty() and rows["conflict"].any():
        out.say(
            "Two contents carry the same version stamp: ask the sender which is right. "
            "Until then the later file counts.",
            "yellow",
        )


def coverage(
    ctx: typer.Context,
    nmi: NmiArgument,
    *,
    start: FromOption = None,
    end: ToOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show gaps and the share of estimates, per stream."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        rows = store.coverage(nmi.upper(), a_day(start, "--from"), a_day(end, "--to"))
    out.rows(_COVERAGE, rows, empty="No interval data of this NMI.")
    for row in rows.iter_rows(named=True):
        if row["gaps"]:
            out.say(f"{row['suffix']} has no data on {_gaps(row['gaps'])}.", "yellow")


def _columns(resolution: Resolution) -> list[Column]:
    """Raw or rolled up; whole days and months are named by their date, without times."""
    if resolution is Resolution.RAW:
        return list(_RAW)
    if resolution not in (Resolution.DAY, Resolution.MONTH):
        return list(_ROLLED_UP)
    begin = Column("interval_start", resolution.value, show=wording.day)
    if resolution is Resolution.MONTH:
        begin = replace(begin, show=wording.month)
    end = Column("interval_end", machine_only=True)
    special = {"interval_start": begin, "interval_end": end}
    return [special.get(column.key, column) for column in _ROLLED_UP]


def _gaps(gaps: list[dict[str, Any]]) -> str:
    """``2025-03-05; 2025-03-08 to 2025-03-10``, at most ten of them."""
    spans = [
        str(gap["start"]) if gap["start"] == gap["end"] else f"{gap['start']} to {gap['end']}"
        for gap in gaps
    ]
    more = f"; and {len(spans) - 10} more" if len(spans) > 10 else ""
    return "; ".join(spans[:10]) + more


def _explain_holes(out: Output, rows: pl.DataFrame, resolution: Resolution) -> None:
    """Say when totals leave something out."""
    if rows.is_empty():
        return
    out.say("Market time, UTC+10 all year.", "dim")
    if resolution is Resolution.RAW:
        missing = rows["value"].null_count()
        if missing:
            out.say(f"{wording.count(missing, 'interval')} without a value.", "yellow")
        return
    holes = int((~rows["complete"]).sum())
    if holes:
        out.say(
            f"{wording.count(holes, 'total')} with holes: missing intervals are left out, "
            "not counted as 0.",
            "yellow",
        )
