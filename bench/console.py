"""Measure the console in a real browser: how long its pages take, and whether the loop is held up.

``python bench/console.py`` fills a store of its own with 50,000 deliveries and a million day rows
(by SQL, as loads would have left them; ``--files``, ``--days`` for others), serves it with the
console, opens each page in chromium ten times, and tells the time until its content is shown. At
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
import time
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

ARGS = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update",
        "--disable-sync"]  # fmt: skip
MARKET = timezone(timedelta(hours=10))
STATES = ("loaded",) * 90 + ("partly_loaded",) * 4 + ("rejected",) * 4 + ("dead",) * 2
SPAN_DAYS = 30  #: over so many days the deliveries came
TICK = 0.005


def fill(path: Path, files: int, days: int) -> None:
    """Rows as loads leave them: one file each, its days those of one NMI and two streams."""
    from nemflow.store import open_store

    open_store(f"sqlite:///{path}").close()
    now, each = datetime.now(MARKET), max(1, days // files // 2)
    values = json.dumps([100 + n for n in range(48)], separators=(",", ":"))
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA synchronous=off")
        for table, rows in _ledger(files, each, now).items():
            names, tuples = rows
            marks = ",".join("?" * len(names))
            base.executemany(f"INSERT INTO {table} ({','.join(names)}) VALUES ({marks})", tuples)  # noqa: S608
        first = date(2025, 1, 1)
        stored = [n for n in range(1, files + 1) if STATES[n % 100] in ("loaded", "partly_loaded")]
        keys = [
            (
                f"SAB{n % 20_000:07}",
                (first + timedelta(days=d + n // 20_000 * each)).isoformat(),
                s,
                n,
            )
            for n in stored
            for d in range(each)
            for s in ("E1", "B1")
        ]
        base.executemany(
            "INSERT INTO day_content (nmi,day,suffix,content_hash,uom,interval_minutes,scale,"
            "scaled_values,quality,spans,load) VALUES (?,?,?,'h','kWh',30,3,?,'A','[]',?)",
            ((*key[:3], values, key[3]) for key in keys),
        )
        base.executemany(
            "INSERT INTO day_claim (nmi,day,suffix,version_at,content_hash,load,line,"
            "version_derived,total,scale,missing,quality) VALUES "
            "(?,?,?,'2026-01-01T00:00:00+10:00','h',?,3,0,5928,3,0,'A')",
            keys,
        )
        print(f"{files:,} deliveries, {len(keys):,} day rows, {path.stat().st_size / 1e6:,.0f} MB")


def _ledger(files: int, each: int, now: datetime) -> dict[str, tuple[list[str], list[tuple]]]:
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
    """``nemflow serve --console`` in this process; writes late ticks to ticks.json at its end."""
    import asyncio

    from nemflow.cli.root import app
    from nemflow.service import server

    ticks: list[tuple[float, float]] = []
    begin = server._Server.startup

    async def watch() -> None:
        while True:
            before, worked = time.perf_counter(), time.thread_time()
            await asyncio.sleep(TICK)
            late = time.perf_counter() - before - TICK
            ticks.append((late * 1000, (time.thread_time() - worked) * 1000))
            if len(ticks) % 200 == 0:
                (folder / "ticks.json").write_text(json.dumps(ticks))

    async def startup(self: object, sockets: object = None) -> None:
        await begin(self, sockets)
        self.watching = asyncio.create_task(watch())

    server._Server.startup = startup
    sys.argv = ["nemflow", "serve", "--console", "--port", "0", "--workers", "0"]
    app()


def opened(url: str, times: int) -> dict[str, list[float]]:
    """Milliseconds from asking until the content of each page is shown."""
    from playwright.sync_api import sync_playwright

    pages = ("/", "/?span=7d", "/files", "/files?state=rejected", "/files?q=049",
             "/files?q=no-such-name", "/deliveries/{}")  # fmt: skip
    took: dict[str, list[float]] = {}
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=shutil.which("chromium"), args=ARGS)
        page = browser.new_page()
        for turn in range(times + 1):
            for path in pages:
                page.goto(f"{url}/console{path.format(1000 + turn)}", wait_until="commit")
                page.wait_for_selector(".nicegui-content .card")
                if turn:  # the first fills caches of the browser
                    took.setdefault(path, []).append(page.evaluate("performance.now()"))
                page.wait_for_timeout(200)
        browser.close()
    return took


def main() -> None:
    """Fill, serve, open, tell."""
    told = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    told.add_argument("--files", type=int, default=50_000)
    told.add_argument("--days", type=int, default=1_000_000)
    told.add_argument("--times", type=int, default=10)
    told.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = told.parse_args()
    if given.serve:
        serve(given.serve)
        return
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        fill(folder / "nemflow.db", given.files, given.days)
        with (folder / "log").open("wb") as log:
            service = subprocess.Popen(
                [sys.executable, Path(__file__).resolve(), "--serve", where],
                cwd=where, env=os.environ | {"PYTHONUNBUFFERED": "1"}, stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            until = time.monotonic() + 60
            while not (found := re.search(r"serves (http://\S+)", (folder / "log").read_text())):
                if service.poll() is not None or time.monotonic() > until:
                    raise SystemExit((folder / "log").read_text())
                time.sleep(0.1)
            took = opened(found[1], given.times)
        finally:
            service.terminate()
            service.wait(60)
        ticks = json.loads((folder / "ticks.json").read_text())
    print("| page | median | longest |\n|---|--:|--:|")
    for path, times in took.items():
        print(f"| `{path}` | {statistics.median(times):.0f} ms | {max(times):.0f} ms |")
    late = sorted(each[0] for each in ticks)
    worked = max(each[1] for each in ticks)
    print(f"event loop, woken {len(late):,} times: late by {late[len(late) // 2]:.1f} ms (median), "
          f"{late[int(len(late) * 0.99)]:.0f} ms (99 of 100), {late[-1]:.0f} ms at most; "
          f"at one go it worked {worked:.0f} ms at most")  # fmt: skip


if __name__ == "__main__":
    main()
