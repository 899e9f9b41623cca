"""What the measurements mean: rates, ratios against the faster peer, goals met or not.

The result is one JSON-ready object; the terminal table and docs/benchmarks.md are two ways of
printing it, so they cannot disagree.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from run import Facts, Job

Row = dict[str, Any]
Result = dict[str, Any]

SHAPES = {
    "A": "50 NMIs x 50 days x 5 min",
    "B": "500 NMIs x 50 days x 5 min",
    "B10": "5,000 NMIs x 50 days x 5 min",
    "C": "20,000 NMIs x 1 day x 30 min",
    "one stream": "one 200, a 300 per line, 30 min",
    "zip": "a zip of small files, three of them bad",
    "one file": "one file with the good days of that zip",
    "generated": "40 NMIs x 60 days x 5 min",
}


def cpu_model() -> str:
    """The processor's name, as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def row_of(job: Job, facts: Facts) -> Row:
    """One line of the table."""
    fact = facts.get(job.shape, {})
    seconds = job.median
    row: Row = {
        "what": job.what,
        "shape": job.shape,
        "who": job.who,
        "how": job.how,
        "runs": len(job.seconds),
        "seconds": seconds,
        "best": min(job.seconds, default=None),
        "peak_mib": round(job.peak / 2**20) if job.peak else None,
        "disk_per_reading": None,
        "trouble": job.trouble or None,
        "mreadings_s": None,
        "mb_s": None,
        "times_faster": None,
    }
    if seconds and fact:
        row["mreadings_s"] = fact["readings"] / seconds / 1e6
        row["mb_s"] = fact["bytes"] / seconds / 1e6 or None
        row["disk_per_reading"] = job.disk / fact["readings"] or None
    return row


def compare(rows: list[Row]) -> None:
    """Set beside each row of ours how many times the faster peer's time it saves."""
    for row in rows:
        kind = "read" if row["what"] == "read and .days" else row["what"]
        others = [
            other["seconds"]
            for other in rows
            if other["what"] == kind
            and other["shape"] == row["shape"]
            and other["who"] in {"nemreader", "aemo-mdff-reader"}
            and other["seconds"]
        ]
        if row["who"] == "nemflow" and row["seconds"] and others:
            row["times_faster"] = min(others) / row["seconds"]


class Judge:
    """Looks up rows and says of each goal whether it is met."""

    def __init__(self, rows: Iterable[Row]) -> None:
        every = list(rows)
        self.rows = {(r["what"], r["shape"], r["how"]): r for r in every if r["who"] == "nemflow"}
        self.others = {(r["who"], r["shape"]): r for r in every if r["who"] != "nemflow"}
        self.goals: list[Row] = []

    def value(self, what: str, shape: str, column: str, how: str = "") -> float | None:
        """One number of one row of ours; None when it was not measured."""
        for (row_what, row_shape, row_how), row in self.rows.items():
            if (row_what, row_shape) == (what, shape) and how in row_how and not row["trouble"]:
                return row[column]
        return None

    def at_least(self, goal: str, got: float | None, wanted: float, unit: str) -> None:
        """More is better."""
        self.note(goal, got, f"at least {wanted:g} {unit}", got is not None and got >= wanted)

    def at_most(self, goal: str, got: float | None, wanted: float, unit: str) -> None:
        """Less is better."""
        self.note(goal, got, f"at most {wanted:g} {unit}", got is not None and got <= wanted)

    def note(self, goal: str, got: float | None, wanted: str, met: bool) -> None:
        """Remember a verdict; what was not measured has none."""
        verdict = "not measured" if got is None else "met" if met else "not met"
        self.goals.append({"goal": goal, "wanted": wanted, "got": got, "verdict": verdict})


def ratio(above: float | None, below: float | None) -> float | None:
    """A quotient, when both were measured."""
    return above / below if above and below else None


def judge(rows: list[Row]) -> list[Row]:
    """The goals, in the order of their weight."""
    of = Judge(rows)
    for shape in "ABC":
        got = of.value("read", shape, "times_faster")
        of.at_least(f"read {shape} beside the faster peer", got, 15, "x")
    for shape in "ABC":
        got = of.value("long frame", shape, "times_faster")
        of.at_least(f"long frame of {shape} beside the faster peer", got, 25, "x")
    of.at_least(
        "load B into SQLite", of.value("load into SQLite", "B", "mreadings_s"), 6, "M readings/s"
    )
    of.at_most("load A, file to published", of.value("load into SQLite", "A", "seconds"), 0.3, "s")
    b, b10 = of.value("scan", "B", "peak_mib"), of.value("scan", "B10", "peak_mib")
    megabytes = b10 * 2**20 / 1e6 if b10 else None
    of.at_most("peak memory of scan over B10", megabytes, 400, "MB")
    of.at_most("peak memory of scan, B10 against B", ratio(b10, b), 1.2, "x")
    for what in ("scan", "load into SQLite"):
        of.at_most(
            f"peak memory of {what}, one stream",
            of.value(what, "one stream", "peak_mib"),
            600,
            "MiB",
        )
    _judge_server(of)
    many = of.value("load into SQLite", "zip", "seconds")
    one = of.value("load into SQLite", "one file", "seconds")
    of.at_most("load the zip against one file of the same days", ratio(many, one), 3, "x")
    of.at_least("generate", of.value("generate", "generated", "mreadings_s"), 2, "M readings/s")
    of.at_most("import nemflow", of.value("start", "-", "seconds", "import"), 0.3, "s")
    of.at_most("nemflow --help", of.value("start", "-", "seconds", "--help"), 0.3, "s")
    return of.goals


def _judge_server(of: Judge) -> None:
    """The goals on PostgreSQL, beside what the server itself can do with the same rows."""
    one = "pipeline.load(store, file)"
    for shape in "ABC":
        bare = of.others.get(("PostgreSQL", shape), {}).get("seconds")
        ours = of.value("into PostgreSQL", shape, "seconds", one)
        of.at_least(f"load {shape} into PostgreSQL against bare COPY", ratio(bare, ours), 0.5, "x")
    rate = of.value("into PostgreSQL", "B", "mreadings_s", one)
    of.at_least("load B into PostgreSQL", rate, 8, "M readings/s")
    upsert = of.others.get(("row per reading", "A"), {}).get("seconds")
    ours = of.value("into PostgreSQL", "A", "seconds", one)
    of.at_least("load A against a row per reading", ratio(upsert, ours), 40, "x")
    of.at_most("load A into PostgreSQL, file to published", ours, 0.3, "s")
    peak = of.value("into PostgreSQL", "B10", "peak_mib", one)
    of.at_most("peak memory of load into PostgreSQL, B10", peak, 600, "MiB")


def result_of(
    jobs: list[Job],
    facts: Facts,
    *,
    no_peers: str,
    quick: bool,
    load_before: float | None,
    took: float,
) -> Result:
    """Everything there is to say about one run."""
    rows = [row_of(job, facts) for job in jobs]
    compare(rows)
    rows.sort(key=lambda row: list(dict.fromkeys(job.what for job in jobs)).index(row["what"]))
    import polars

    from nemflow import __version__

    return {
        "on": date.today().isoformat(),  # noqa: DTZ011
        "machine": {
            "cores": os.cpu_count(),
            "cpu": cpu_model(),
            "load_before": None if load_before is None else round(load_before, 1),
        },
        "python": platform.python_version(),
        "polars": polars.__version__,
        "nemflow": __version__,
        "no_peers": no_peers or None,
        "quick": quick,
        "seconds": round(took, 1),
        "shapes": {
            name: {key: value for key, value in fact.items() if key != "path"}
            for name, fact in facts.items()
        },
        "goals": judge(rows),
        "rows": rows,
    }


def number(value: float | None) -> str:
    """Three figures that a person reads at a glance; a dash for nothing."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


COLUMNS = {
    "work": "what",
    "shape": "shape",
    "who": "who",
    "call": "how",
    "M readings/s": "mreadings_s",
    "MB/s": "mb_s",
    "seconds": "seconds",
    "peak MiB": "peak_mib",
    "bytes/reading": "disk_per_reading",
    "x faster peer": "times_faster",
}


def table(rows: list[Row]) -> list[list[str]]:
    """The measurements as text cells."""
    lines = []
    for row in rows:
        cells = []
        for key in COLUMNS.values():
            value = row[key]
            cells.append(value if isinstance(value, str) else number(value))
        if row["trouble"]:
            cells[3] += f"  ({row['trouble']})"
        lines.append(cells)
    return lines


def goals_table(goals: list[Row]) -> list[list[str]]:
    """The goals as text cells."""
    return [[g["goal"], g["wanted"], number(g["got"]), g["verdict"]] for g in goals]


def machine_line(result: Result) -> str:
    """The machine in one line: cores and processor, and how busy it was before."""
    machine = result["machine"]
    busy = machine["load_before"]
    return (
        f"{machine['cores']} cores, {machine['cpu']}; Python {result['python']}, "
        f"polars {result['polars']}, nemflow {result['nemflow']}"
        + ("" if busy is None else f"; load average before the run {busy}")
    )


def terminal(result: Result) -> str:
    """The result as a person at a terminal reads it."""
    import io

    from rich.console import Console
    from rich.table import Table

    console = Console(file=io.StringIO(), width=150, force_terminal=False)
    console.print(machine_line(result))
    if result["no_peers"]:
        console.print(f"Without the peers: {result['no_peers']}.")
    measured = Table(*COLUMNS, box=None)
    for cells in table(result["rows"]):
        measured.add_row(*cells)
    goals = Table("goal", "wanted", "got", "", box=None)
    for cells in goals_table(result["goals"]):
        goals.add_row(*cells)
    console.print(measured)
    console.print()
    console.print(goals)
    console.print(f"\n{result['seconds']} s in all; bench/out/latest.json has every number.")
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]


def markdown(head: Iterable[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def sizing(rows: list[Row]) -> str:
    """What a store on PostgreSQL needs, computed from the rows of this run; empty without them."""
    loads = {
        row["how"]: row
        for row in rows
        if (row["what"], row["shape"], row["who"]) == ("into PostgreSQL", "B", "nemflow")
        and row["mreadings_s"]
        and row["disk_per_reading"]
    }
    one = next((row for how, row in loads.items() if "file)" in how), None)
    two = next((row for how, row in loads.items() if "jobs=2" in how), None)
    if one is None:
        return ""
    lines = []
    for nmis in (100_000, 1_000_000, 10_000_000):
        readings = nmis * _STREAMS * 288
        day = readings * one["disk_per_reading"] / 1e9
        rates = [readings / row["mreadings_s"] / 1e6 for row in (one, two) if row]
        lines.append(
            [
                f"{nmis:,}",
                f"{readings / 1e6:,.0f} M",
                f"{day:,.1f} GB",
                f"{day * 365 / 1e3:,.2f} TB",
            ]
            + [_duration(seconds) for seconds in rates]
        )
    heads = ["NMIs", "readings a day", "disk a day", "disk a year", "load a day, 1 process"]
    return f"""
## What a store on PostgreSQL needs

Computed from shape B above: {number(one["disk_per_reading"])} bytes per reading with indexes, for
{_STREAMS} five-minute streams per NMI (halve it for one; 30-minute data takes a sixth of the
readings, at {number(_bytes_of_half_hours(rows))} bytes each). A corrected day costs its own bytes
again; a day sent again unchanged costs some 400 bytes.

{markdown([*heads, "2 processes"] if two else heads, lines)}
"""


_STREAMS = 2


def _bytes_of_half_hours(rows: list[Row]) -> float | None:
    """Bytes per reading of shape C, which has one day of each stream."""
    for row in rows:
        if (row["what"], row["shape"], row["who"]) == ("into PostgreSQL", "C", "nemflow"):
            return row["disk_per_reading"]
    return None


def _duration(seconds: float) -> str:
    """As people say it."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def page(result: Result) -> str:
    """docs/benchmarks.md."""
    shapes = [
        [name, SHAPES.get(name, ""), f"{fact['readings']:,}", number(fact["bytes"] / 1e6)]
        for name, fact in result["shapes"].items()
        if name in SHAPES
    ]
    rows = [
        [f"`{cell}`" if n == 3 else cell for n, cell in enumerate(row)]
        for row in table(result["rows"])
    ]
    without = f"\nWithout the peers: {result['no_peers']}.\n" if result["no_peers"] else ""
    return f"""# Benchmarks

Written by `make bench ARGS=--write-docs` on {result["on"]}; do not edit by hand.
Trust the ratios, taken within one run on one machine, more than the absolute numbers.

Machine: {machine_line(result)}.
{without}
## How it is measured

Every measurement is a fresh process that does one thing once to warm up and once on the clock
(B10 and the one stream, which are there for their size, are read once only, after a tiny file).
Rounds are interleaved and what is compared runs side by side, so that other load on the machine
hits all alike; the table shows the median of up to five runs. The peers, nemreader 1.0.1 and
aemo-mdff-reader 3.0.0, run in the fastest way they document, in an environment of their own.
*x faster peer* is the median time of the faster of the two, divided by ours. Every call must see
the full count of readings, or its row says so.

What the calls give differs: `nemflow.read` applies the rule catalogue, keeps exact decimals and
applies the 400 records; `parse_to_columns` converts values to floats and skips the 400s;
`nem_data` applies them. Rows marked *(process)* time the whole command, start included.

On PostgreSQL each measurement has a database of its own. *COPY of the same rows, encoded* is the
server's own limit: the very bytes a load sends for its day tables, recorded before the clock
starts, into empty tables with the same indexes and partitions. *A row per reading* is the usual
way done well: a table with a unique (NMI, timestamp), filled by `INSERT ... ON CONFLICT` from a
staging table in batches of 50,000, parsing not counted. Bytes per reading are those of the tables
that hold readings, with their indexes.

## Goals

{markdown(["goal", "wanted", "got", "verdict"], goals_table(result["goals"]))}

## The files

{markdown(["shape", "what it is", "readings", "MB"], shapes)}

## All measurements

{markdown(COLUMNS, rows)}
{sizing(result["rows"])}"""
