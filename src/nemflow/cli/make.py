"""``generate``: believable files by seed, right, corrected or deliberately broken.

Why: to try things out, and to show a sender what a mistake looks like, without real readings.

Promises: the same options give the same bytes; a file is written whole or not at all.

Look next: :mod:`nemflow.mdff.generate`.
"""

from __future__ import annotations

import shlex
import sys
import zipfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from nemflow.cli import wording
from nemflow.cli.options import a_day
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.cli.target import whole_file
from nemflow.errors import UsageError


class Kind(StrEnum):
    """What a file holds."""

    NEM12 = "NEM12"
    NEM13 = "NEM13"


_WRITTEN = (
    Column("path", "file"),
    Column("size", right=True, show=wording.size),
    Column("kind"),
    Column("broken_rules", machine_only=True),
)


def generate(
    *,
    target: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Where to: .csv, .zip or .xml (an aseXML message); none: stdout.",
            metavar="FILE",
        ),
    ] = None,
    nmis: Annotated[int, typer.Option("--nmis", help="How many NMIs.", min=1)] = 1,
    days: Annotated[int, typer.Option("--days", help="How many days.", min=1)] = 7,
    start: Annotated[
        str | None, typer.Option("--from", help="First day, 2025-03-05.", metavar="DAY")
    ] = None,
    interval: Annotated[
        str, typer.Option("--interval", help="Minutes: 5, 15 or 30; 30,5 takes turns.")
    ] = "30",
    streams: Annotated[
        str | None, typer.Option("--streams", help="Data streams, e.g. E1,B1,Q1.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, other households.")] = 0,
    estimated: Annotated[
        float, typer.Option("--estimated", help="Share of days with estimates.", min=0, max=1)
    ] = 0.0,
    substituted: Annotated[
        float, typer.Option("--substituted", help="Share of days with substitutes.", min=0, max=1)
    ] = 0.0,
    service_orders: Annotated[
        bool, typer.Option("--service-orders", help="Add 500 (NEM13: 550) records.")
    ] = False,
    kind: Annotated[
        Kind, typer.Option("--kind", help="NEM12 or NEM13.", case_sensitive=False)
    ] = Kind.NEM12,
    corrections_of: Annotated[
        Path | None,
        typer.Option("--corrections-of", help="Make a later version of this file.", metavar="FILE"),
    ] = None,
    break_it: Annotated[
        str | None,
        typer.Option("--break", help="Break these rules, e.g. I001,Q008.", metavar="RULES"),
    ] = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Make a believable NEM12 or NEM13 file, right or broken."""
    from nemflow.mdff.generate import generate as make
    from nemflow.mdff.generate import generate_message

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    if target is None and not out.for_people:
        raise UsageError("Without -o the file itself goes to stdout.", hint="Add -o FILE.")
    rules = _parts(break_it)
    in_message = [rule for rule in rules if rule in ("F008", "F020")]
    if in_message and _ending(target) != ".xml":
        raise UsageError(f"Only a message can break {in_message[0]}.", hint="Write -o FILE.xml.")
    options: dict[str, Any] = {
        "nmis": nmis,
        "days": days,
        "start": a_day(start, "--from"),
        "interval": _minutes(interval),
        "streams": _parts(streams) or None,
        "seed": seed,
        "estimated": estimated,
        "substituted": substituted,
        "service_orders": service_orders,
        "kind": kind.value,
        "break_it": [rule for rule in rules if rule not in in_message],
    }
    if corrections_of is not None:
        import nemflow

        options["corrections_of"] = nemflow.read(corrections_of)
    text = make(**options)
    if _ending(target) == ".xml":
        text = generate_message(text, break_it=in_message)
    if target is None:
        sys.stdout.buffer.write(text)
        return
    _save(text, target)
    row = {
        "path": str(target),
        "size": target.stat().st_size,
        "kind": kind.value,
        "broken_rules": rules,
    }
    out.rows(_WRITTEN, [row])
    out.command("Look at it: ", f"nemflow show {shlex.quote(str(target))}")


def _save(text: bytes, target: Path) -> None:
    """As a zip with one member, or as it is."""
    with whole_file(target) as draft:
        if _ending(target) == ".zip":
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as box:
                box.writestr(f"{target.stem}.csv", text)
        else:
            draft.write_bytes(text)


def _ending(target: Path | None) -> str:
    return target.suffix.lower() if target else ""


def _parts(text: str | None) -> list[str]:
    """``e1, b1`` as ``["E1", "B1"]``."""
    return [part.strip().upper() for part in (text or "").split(",") if part.strip()]


def _minutes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--interval {text!r} is wrong.", hint="Use 5, 15 or 30.") from None
