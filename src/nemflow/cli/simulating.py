"""``simulate``: sample traffic for a service or a drop folder, and the proof of what became of it.

Why: before real senders come, one wants to know that the machine keeps up, and that what it says
is what was sent.

Promises: exit code 0 only when every text that was accepted is accounted for and every reading the
service gives is the one that must stand; 1 when something differs (the first differences are
printed); 3 when the service cannot be asked. The wait for the end is bounded by ``--drain``.

Look next: :mod:`nemflow.simulating`, docs/simulate.md.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nemflow.cli import faults, wording
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.cli.progress import count_bar
from nemflow.cli.submitting import SERVER, key_header
from nemflow.cli.target import whole_file
from nemflow.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    import httpx

    from nemflow.simulating.run import Simulation
    from nemflow.simulating.traffic import Mix

_UNITS: Final = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
_FILES: Final = 20
_SHOWN: Final = 20
_SEEDS: Final = 1_000_000
_DIFFERENCES = (
    Column("what"),
    Column("where"),
    Column("expected"),
    Column("told"),
)


def simulate(
    *,
    to: Annotated[
        str, typer.Option("--to", help="A service's URL, or a drop folder.", metavar="URL|FOLDER")
    ] = SERVER,
    rate: Annotated[
        str, typer.Option("--rate", help="How often: 20/min, 5/s.", metavar="RATE")
    ] = "20/min",
    burst: Annotated[
        int, typer.Option("--burst", min=1, help="So many at the same moment.", metavar="N")
    ] = 1,
    files: Annotated[
        int | None, typer.Option("--files", min=1, help="How many; default 20.", metavar="N")
    ] = None,
    lasting: Annotated[
        str | None, typer.Option("--for", help="Or for how long: 90s, 5m.", metavar="TIME")
    ] = None,
    nmis: Annotated[int, typer.Option("--nmis", min=1, help="NMIs of each file.")] = 50,
    days: Annotated[int, typer.Option("--days", min=1, help="Days of each file.")] = 50,
    interval: Annotated[
        str, typer.Option("--interval", help="Minutes, taken in turn by the files.")
    ] = "5,15,30",
    streams: Annotated[str, typer.Option("--streams", help="Data streams of each NMI.")] = "E1",
    corrections: Annotated[
        str, typer.Option("--corrections", help="Share of later versions.", metavar="SHARE")
    ] = "10%",
    broken: Annotated[
        str, typer.Option("--broken", help="Share of files with a mistake.", metavar="SHARE")
    ] = "2%",
    duplicates: Annotated[
        str, typer.Option("--duplicates", help="Share that is sent again.", metavar="SHARE")
    ] = "5%",
    zipped: Annotated[
        str, typer.Option("--zip", help="Share of zips of 2 to 4 files.", metavar="SHARE")
    ] = "0%",
    asexml: Annotated[
        str, typer.Option("--asexml", help="Share of aseXML messages.", metavar="SHARE")
    ] = "0%",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="The same seed, the same files.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option("--server", help="Whom to ask when --to is a folder.", metavar="URL"),
    ] = None,
    senders: Annotated[
        int, typer.Option("--senders", min=1, max=256, help="Uploads at the same time.")
    ] = 4,
    retry: Annotated[
        bool, typer.Option("--retry/--no-retry", help="Send again what is refused for now.")
    ] = True,
    patience: Annotated[
        str, typer.Option("--patience", help="So long for one file.", metavar="TIME")
    ] = "10m",
    drain: Annotated[
        str, typer.Option("--drain", help="So long for all to be final.", metavar="TIME")
    ] = "10m",
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Compare every reading.")
    ] = True,
    record: Annotated[
        Path | None,
        typer.Option("--record", help="Keep what was sent, for --again.", metavar="FILE"),
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option("--again", help="Send nothing: compare a record once more.", metavar="FILE"),
    ] = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Send sample traffic, and compare what was sent with what the service says.

    The API key comes from NEMFLOW_API_KEY; it needs the scopes upload and read.
    """
    from nemflow.simulating import run
    from nemflow.simulating.asking import Asking
    from nemflow.simulating.sending import HttpDoor, Pace, open_folder
    from nemflow.simulating.traffic import Mix

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    per_second = _rate(rate)
    drained, patient = _seconds(drain, "--drain"), _seconds(patience, "--patience")
    over_http = re.match(r"https?://", to) is not None
    asked = to if over_http else server
    with _client(asked, senders) as client, count_bar() as tell:
        asking = None if client is None else Asking(client)
        if again is not None:
            found = _kept(again)
        else:
            mix = Mix(
                files=_count(files, lasting, per_second),
                nmis=nmis,
                days=days,
                intervals=_minutes(interval),
                streams=tuple(part.strip().upper() for part in streams.split(",")),
                corrections=_share(corrections, "--corrections"),
                broken=_share(broken, "--broken"),
                duplicates=_share(duplicates, "--duplicates"),
                zipped=_share(zipped, "--zip"),
                asexml=_share(asexml, "--asexml"),
                seed=random.randrange(_SEEDS) if seed is None else seed,  # noqa: S311
            )
            pace = Pace(
                per_second=per_second,
                burst=burst,
                senders=senders,
                patience=patient,
                retry=retry,
            )
            door = HttpDoor(client) if over_http and client else open_folder(Path(to))
            found = run.send(mix, door, pace, asking, tell)
            if record is not None:
                with whole_file(record) as draft:
                    draft.write_text(json.dumps(found.to_json()) + "\n", encoding="utf-8")
        if asking is not None:
            run.drain(found, asking, drained, tell)
            if compare:
                run.compare(found, asking, senders, tell)
    result = run.told(found)
    if as_json:
        out.document(result)
    elif as_csv:
        out.rows(_DIFFERENCES, result["examples"])
    else:
        _say(out, result, found.traffic.mix, asked)
    if asking is not None and not found.right:
        raise typer.Exit(faults.PROBLEMS)


def _say(out: Output, result: dict[str, Any], mix: Mix, asked: str | None) -> None:
    """The result for people."""
    refused = ", ".join(f"{n} x {status}" for status, n in result["refusals"].items())
    lines = [
        f"Seed {mix.seed}: {result['parcels']:,} sent in {result['seconds']:,.1f} s, "
        f"{wording.size(result['bytes'])}; begun late by {_spread(result['late'])}.",
        f"  accepted {result['accepted']:,} in {_spread(result['latency_accepted'])}",
    ]
    if refused:
        bare = result["refusals_without_retry_after"]
        lines.append(
            f"  refused at first: {refused} ({bare} without Retry-After); then accepted "
            f"{result['refused_then_accepted']:,}, not {result['refused'] + result['not_sent']:,}"
        )
    if asked is None:
        lines.append("Nothing is compared: say with --server whom to ask.")
    else:
        waited = result["drained_after"]
        lines += [
            f"  final in {_spread(result['latency_final'])}; all "
            + ("not final within --drain" if waited is None else f"final {waited:,.1f} s later"),
            f"  most that waited: {result['waiting_most']['files']:,} files, the oldest "
            f"{result['waiting_most']['oldest_seconds']:.1f} s",
            f"{result['texts']:,} texts = "
            + " + ".join(f"{n:,} {state}" for state, n in result["states"].items()),
        ]
    if result["compared"]:
        lines.append(
            f"{result['readings']:,} readings of {result['nmi_days']:,} NMI-days compared, "
            "value for value."
        )
    for line in lines:
        out.say(line)
    if result["differences"]:
        out.rows(
            _DIFFERENCES, result["examples"][:_SHOWN], title=f"{result['differences']:,} differ"
        )
    elif result["compared"]:
        out.say("Nothing differs.")


def _spread(spread: dict[str, float] | None) -> str:
    """``p50 0.01, p95 0.20, max 0.31 s``."""
    if spread is None:
        return "no time"
    return ", ".join(f"{name} {value:,.3f}" for name, value in spread.items()) + " s"


@contextmanager
def _client(url: str | None, senders: int) -> Iterator[httpx.Client | None]:
    """A client of the service; None when nobody can be asked."""
    if url is None:
        yield None
        return
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise MissingExtra("Sending to a service", "service") from error
    try:
        with httpx.Client(
            base_url=url.rstrip("/"),
            headers=key_header(),
            timeout=httpx.Timeout(60, connect=10),
            limits=httpx.Limits(max_connections=2 * senders + 2),
        ) as client:
            yield client
    except httpx.InvalidURL as error:
        raise UsageError(f"{url!r} is no URL.", hint=f"For example {SERVER}") from error


def _kept(path: Path) -> Simulation:
    """What an earlier run sent."""
    from nemflow.simulating.run import Simulation

    try:
        return Simulation.from_json(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UsageError(f"{path} is no record of a simulation.", hint="Use --record.") from error


def _count(files: int | None, lasting: str | None, per_second: float) -> int:
    if files is not None and lasting is not None:
        raise UsageError("--files and --for say the same.", hint="Give one of them.")
    if lasting is None:
        return files or _FILES
    return max(1, math.floor(_seconds(lasting, "--for") * per_second))


def _rate(text: str) -> float:
    """``20/min`` as parcels a second."""
    found = re.fullmatch(r"([0-9.]+)\s*/\s*([a-z]+)", text.strip().lower())
    per = _UNITS.get(found[2]) if found else None
    amount = _number(found[1]) if found else None
    if per is None or not amount:
        raise UsageError(f"--rate {text!r} is no rate.", hint="Write 20/min or 5/s.")
    return amount / per


def _seconds(text: str, option: str) -> float:
    """``5m`` as seconds; a plain number is seconds."""
    found = re.fullmatch(r"([0-9.]+)\s*([a-z]*)", text.strip().lower())
    unit = _UNITS.get(found[2] or "s") if found else None
    amount = _number(found[1]) if found else None
    if unit is None or amount is None:
        raise UsageError(f"{option} {text!r} is no time.", hint="Write 90s or 5m.")
    return amount * unit


def _share(text: str, option: str) -> float:
    """``10%`` or ``0.1``."""
    amount = _number(text.strip().removesuffix("%"))
    share = None if amount is None else amount / 100 if text.strip().endswith("%") else amount
    if share is None or not 0 <= share <= 1:
        raise UsageError(f"{option} {text!r} is no share.", hint="Write 10% or 0.1.")
    return share


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _minutes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--interval {text!r} is wrong.", hint="Use 5, 15 or 30.") from None
