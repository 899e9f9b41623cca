"""Measure the console in a real browser: how long its pages take, and whether the loop is held up.

``make bench ARGS="--only console"`` runs this. It fills a store of its own, on SQLite and then on
PostgreSQL, with 50,000 deliveries and a million day rows (by SQL, as loads would have left them;
``--files``, ``--days`` for others), serves it with the console, opens each page in chromium ten
times, and tells the time until its content is shown. At
the same time a clock in the service's event loop tells how late it was woken, and how much of that
the loop's own thread had worked: what is late without having worked was kept waiting by the
machine, or by another thread.

Next: tests/acceptance/test_console.py holds what the pages must do.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable
from contextlib import ExitStack, closing
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl

ARGS = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update",
        "--disable-sync"]  # fmt: skip
Tables = dict[str, tuple[list[str], Iterable[tuple]]]
MARKET = timezone(timedelta(hours=10))
STATES = ("loaded",) * 90 + ("partly_loaded",) * 4 + ("rejected",) * 4 + ("dead",) * 2
SPAN_DAYS = 30  #: over so many days the deliveries came
TICK = 0.005
HELD = 0.06  #: seconds after which it is noted where the loop is
CONTENT = ".nicegui-content .card, .nicegui-content .nothing, .nicegui-content table"


def fill(url: str, files: int, days: int) -> str:
    """Rows as loads leave them: one file each, its days those of one NMI and two streams.

    An NMI has about a year of days. Returns what was made, in words.
    """
    from nemflow.store import open_store
    from nemflow.store.tables import metadata

    now, each = datetime.now(MARKET), max(1, days // files // 2)
    nmis = max(1, files * each // 365)
    values = [100 + n for n in range(48)]
    first = date(2025, 10, 1)
    stored = [n for n in range(1, files + 1) if STATES[n % 100] in ("loaded", "partly_loaded")]
    keys = [
        (f"SAB{n % nmis:07}", (first + timedelta(days=d + n // nmis * each)).isoformat(), s, n)
        for n in stored
        for d in range(each)
        for s in ("E1", "B1")
    ]
    tables = _ledger(files, each, now)
    tables["day_content"] = (
        ["nmi", "day", "suffix", "load", "content_hash", "uom", "interval_minutes", "scale",
         "scaled_values", "quality", "spans"],
        ((*key, "h", "kWh", 30, 3, values, "A", "[]") for key in keys),
    )  # fmt: skip
    tables["day_claim"] = (
        ["nmi", "day", "suffix", "load", "version_at", "content_hash", "line", "version_derived",
         "total", "scale", "missing", "quality"],
        ((*key, "2026-01-01T00:00:00+10:00", "h", 3, False, 5928, 3, 0, "A") for key in keys),
    )  # fmt: skip
    with open_store(url) as store:
        server = not url.startswith("sqlite")
        if server:
            store.backend._months.make(
                metadata.tables["day_content"],
                pl.Series([k[1] for k in keys]).unique().str.to_date(),
            )
            store.backend._months.make(
                metadata.tables["day_claim"], pl.Series([k[1] for k in keys]).unique().str.to_date()
            )
    (_copied if server else _inserted)(url, tables)
    return f"{files:,} deliveries, {len(keys):,} day rows of {nmis:,} NMIs"


def _inserted(url: str, tables: Tables) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as base, base:
        base.execute("PRAGMA synchronous=off")
        for table, (names, rows) in tables.items():
            marks = ",".join("?" * len(names))
            texts = (
                tuple(json.dumps(v, separators=(",", ":")) if isinstance(v, list) else v for v in r)
                for r in rows
            )
            base.executemany(f"INSERT INTO {table} ({','.join(names)}) VALUES ({marks})", texts)  # noqa: S608
        base.execute("UPDATE clock SET seq = (SELECT max(seq) FROM load_event)")


def _copied(url: str, tables: Tables) -> None:
    import psycopg

    with psycopg.connect(url) as base:
        for table, (names, rows) in tables.items():
            with base.cursor().copy(f"COPY {table} ({','.join(names)}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        base.execute("UPDATE clock SET seq = (SELECT max(seq) FROM load_event)")
        base.commit()
        base.autocommit = True
        base.execute("VACUUM ANALYZE")  # as the server does by itself, some minutes later


def _ledger(files: int, each: int, now: datetime) -> Tables:
    """Rows of delivery, file, load, load_event."""
    deliveries, texts, loads, events = [], [], [], []
    for n in range(1, files + 1):
        at = (now - timedelta(days=SPAN_DAYS) * (files - n) / files).isoformat()
        state = STATES[n % 100]
        sha, name = f"{n:064x}", f"mdp{n % 40:02}_{n:06}.csv"
        visible = state in ("loaded", "partly_loaded")
        stored = each * 2 if visible else 0
        rejected = {"partly_loaded": 1, "rejected": each * 2}.get(state, 0)
        error = {"rejected": "F001: nothing in it can be read", "dead": "E-MEMORY: too large"}
        deliveries.append((
            n, name, "http", f"MDP{n % 40}", "portal", sha, 4000, n, state, "normal", 1,
            error.get(state), at, at, "deleted" if state == "loaded" else "spooled", at, state, at,
            json.dumps({"kind": "text", "nmi_count": 1, "first_day": "2025-01-01"}),
        ))  # fmt: skip
        counts = (stored + rejected, stored, 0, rejected)
        texts.append((n, sha, name, 4000, "NEM12", state, n, n, *counts, at, at))
        loads.append((n, n, n, n, "load", "published" if visible else "rejected", "0", "portal",
                      *counts, at, at))  # fmt: skip
        if visible:
            events.append((n, n, "published", at))
    count = ["days_read", "days_stored", "days_unchanged", "days_rejected"]
    return {
        "delivery": (
            ["id", "name", "channel", "sender", "profile", "sha256", "size", "file", "state",
             "lane", "attempts", "error", "received_at", "finished_at", "kept", "state_at",
             "told_state", "told_at", "inspected"],
            deliveries,
        ),
        "file": (
            ["id", "sha256", "name", "size", "version_header", "state", "load", "delivery",
             *count, "first_seen_at", "loaded_at"],
            texts,
        ),
        "load": (
            ["id", "file", "delivery", "base", "kind", "state", "parser_version", "profile",
             *count, "started_at", "finished_at"],
            loads,
        ),
        "load_event": (["seq", "load", "kind", "at"], events),
    }  # fmt: skip


# -- the service, with a clock in its loop ---------------------------------------------------------


def serve(folder: Path) -> None:
    """``nemflow serve --console`` in this process; writes late ticks to the file ``ticks``."""
    import asyncio

    from nemflow.cli.root import app
    from nemflow.service import server

    ticks: list[tuple[float, float]] = []
    last: list[float] = []
    begin = server._Server.startup

    async def watch() -> None:
        while True:
            before, worked = time.perf_counter(), time.thread_time()
            last[:] = [before]
            await asyncio.sleep(TICK)
            late = time.perf_counter() - before - TICK
            ticks.append((late * 1000, (time.thread_time() - worked) * 1000))

    def look(thread: int) -> None:
        """Where the loop's thread is when it has not ticked for a while."""
        told = 0
        while True:
            time.sleep(0.01)
            if len(ticks) > told + 200:  # here, a few at a time: not in the loop that is measured
                with (folder / "ticks").open("a", encoding="utf-8") as out:
                    out.writelines(f"{late} {worked}\n" for late, worked in ticks[told:])
                told = len(ticks)
            if last and time.perf_counter() - last[-1] > HELD:
                where = traceback.extract_stack(sys._current_frames()[thread])[-14:]
                with (folder / "held").open("a", encoding="utf-8") as out:
                    names = " < ".join(
                        f"{Path(w.filename).name}:{w.lineno} {w.name}" for w in where
                    )
                    out.write(f"{(time.perf_counter() - last[-1]) * 1000:.0f} ms {names}\n")

    async def startup(self: object, sockets: object = None) -> None:
        await begin(self, sockets)
        self.watching = asyncio.create_task(watch())
        threading.Thread(target=look, args=(threading.get_ident(),), daemon=True).start()

    server._Server.startup = startup
    sys.argv = ["nemflow", "serve", "--console", "--port", "0", "--workers", "0"]
    app()


def opened(url: str, times: int) -> dict[str, list[float]]:
    """Milliseconds from asking until the content of each page is shown."""
    from playwright.sync_api import sync_playwright

    pages = (
        "/", "/?span=7d", "/files", "/files?state=rejected", "/files?q=049",
        "/files?q=no-such-name", "/deliveries/{}", "/nmis", "/nmis/SAB{:07}",
        "/nmis/SAB{:07}?stream=B1&time=local", "/quarantine", "/dead", "/problems", "/changes",
        "/audit",
    )  # fmt: skip
    took: dict[str, list[float]] = {}
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=shutil.which("chromium"), args=ARGS)
        page = browser.new_page()
        for turn in range(times + 1):
            for path in pages:
                page.goto(
                    f"{url}/console{path.format(turn + 1000 * ('nmis' not in path))}",
                    wait_until="commit",
                )
                try:
                    page.wait_for_selector(CONTENT)
                except Exception as error:
                    raise RuntimeError(f"{path}: {page.inner_text('body')[:2000]}") from error
                milliseconds = page.evaluate("performance.now()")
                if page.locator("text=Not now").count():
                    raise RuntimeError(f"{path}: {page.inner_text('body')}")
                if turn:  # the first fills caches of the browser
                    took.setdefault(path, []).append(milliseconds)
                page.wait_for_timeout(200)
        browser.close()
    return took


def main() -> None:
    """Fill, serve, open, tell."""
    told = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    told.add_argument("--files", type=int, default=50_000)
    told.add_argument("--days", type=int, default=1_000_000)
    told.add_argument("--times", type=int, default=10)
    told.add_argument("--held", action="store_true", help="tell where the loop was held")
    told.add_argument("--on", choices=("sqlite", "postgresql", "both"), default="both")
    told.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = told.parse_args()
    if given.serve:
        serve(given.serve)
        return
    for on in ("sqlite", "postgresql") if given.on == "both" else (given.on,):
        print(measured(on, given), flush=True)


def measured(on: str, given: argparse.Namespace) -> str:
    """One store: filled, served, looked at; the table."""
    from chaos.servers import local_server, scratch

    with ExitStack() as stack:
        where = stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(where)
        url = f"sqlite:///{folder}/nemflow.db"
        if on == "postgresql":
            server = local_server()
            if server is None:
                return "No PostgreSQL answers; not measured there."
            url = stack.enter_context(scratch(server))
        filled = fill(url, given.files, given.days)
        with (folder / "log").open("wb") as log:
            service = subprocess.Popen(
                [sys.executable, Path(__file__).resolve(), "--serve", where],
                cwd=where, env=os.environ | {"PYTHONUNBUFFERED": "1", "NEMFLOW_DB": url},
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            until = time.monotonic() + 60
            while not (found := re.search(r"serves (http://\S+)", (folder / "log").read_text())):
                if service.poll() is not None or time.monotonic() > until:
                    raise SystemExit((folder / "log").read_text())
                time.sleep(0.1)
            before = os.getloadavg()[0]
            took = opened(found[1], given.times)
        finally:
            service.terminate()
            service.wait(60)
        ticks = [
            tuple(map(float, line.split())) for line in (folder / "ticks").read_text().splitlines()
        ]
        if given.held and (folder / "held").exists():
            print((folder / "held").read_text(), file=sys.stderr)
    load = f"{before:.1f} before, {os.getloadavg()[0]:.1f} after"
    lines = [f"{on}: {filled}; {os.cpu_count()} cores, load average {load}.", ""]
    lines += ["| page | median | longest |", "|---|--:|--:|"]
    for path, times in took.items():
        lines.append(f"| `{path}` | {statistics.median(times):.0f} ms | {max(times):.0f} ms |")
    late = sorted(each[0] for each in ticks)
    worked = sorted(each[1] for each in ticks)
    lines += ["", f"Event loop, woken {len(late):,} times: late by {late[len(late) // 2]:.1f} ms "
              f"(median), {late[int(len(late) * 0.99)]:.0f} ms (99 of 100), {late[-1]:.0f} ms at "
              f"most; at one go it worked {worked[-1]:.0f} ms at most.", ""]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
