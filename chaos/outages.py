"""Outages: connections ended by the server in mid-load, and a server that crashes and comes back.

Promises: whatever a load says, loading the same files again until it succeeds ends at the model;
only errors of nemflow's own tree are seen on the way.

Look next: ``servers.py`` for the private server; the local one is never stopped.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from chaos.contests import put
from chaos.crashes import PIECE
from chaos.loaders import Loader, Order, Said, all_said, crew
from chaos.model import SentFile, sent_files
from chaos.report import Attack
from chaos.servers import PrivateServer, asking, scratch
from chaos.verdict import faults
from nemflow.store import open_store

#: Loads are slowed down a little inside their transactions, so that an outage meets them there.
_SLOW = "mid-copy@2=sleep:0.02, mid-publish=sleep:0.02, between-pieces=sleep:0.05"
_BUSY = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'nemflow'
  AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
"""


def terminations(
    database: str, folder: Path, rng: random.Random, *, times: int, loaders: int = 4
) -> Attack:
    """``pg_terminate_backend`` on connections that are in a transaction of a load."""
    open_store(database).close()
    sent: list[SentFile] = []
    said: list[Said] = []
    ended = 0
    while ended < times and len(sent) < 100 * times:
        some = sent_files(rng, loaders * 5, nmis=6, per_file=(15, 30), first=len(sent))
        sent += some
        running = crew(folder, _orders(database, folder, some, loaders))
        for loader in running:
            loader.wait_until_ready()
        with asking(database) as conn:
            while any(loader.process.is_alive() for loader in running):
                busy = conn.exec_driver_sql(_BUSY).scalars().all()
                if busy and ended < times:
                    pid = rng.choice(busy)
                    ended += bool(
                        conn.execute(sa.select(sa.func.pg_terminate_backend(pid))).scalar()
                    )
                time.sleep(rng.uniform(0.02, 0.15))
        said += all_said(running)
    with open_store(database) as store:
        wrong = [*_unmapped(said), *faults(store, sent)]
    if ended < times:
        wrong.append(f"only {ended} of {times} connections were met in a transaction")
    return Attack(
        "Connections ended",
        f"{loaders} processes load while the server ends connections that are in the middle of a "
        "transaction (`pg_terminate_backend`). What a load could not mend by itself is loaded "
        "again.",
        counts={"connections ended": ended, "files": len(sent), **_told(said)},
        wrong=wrong,
    )


def restarts(
    server: PrivateServer, folder: Path, rng: random.Random, *, times: int, loaders: int = 3
) -> Attack:
    """A PostgreSQL stopped as by a power cut, and started again, while files are loaded."""
    sent: list[SentFile] = []
    said: list[Said] = []
    stopped = 0
    with scratch(server.url) as database:
        open_store(database).close()
        while stopped < times and len(sent) < 100 * times:
            some = sent_files(rng, loaders * 6, nmis=6, per_file=(15, 30), first=len(sent))
            sent += some
            running = crew(folder, _orders(database, folder, some, loaders, again=40))
            for loader in running:
                loader.wait_until_ready()
            while stopped < times and _alive(running):
                time.sleep(rng.uniform(0.05, 0.8))
                if _alive(running):
                    server.stop("immediate")
                    stopped += 1
                    time.sleep(rng.uniform(0.0, 0.3))
                    server.start()
            said += all_said(running)
        with open_store(database) as store:
            wrong = [*_unmapped(said), *faults(store, sent)]
    if stopped < times:
        wrong.append(f"only {stopped} of {times} crashes met a running load")
    return Attack(
        "Server crashes",
        f"{loaders} processes load into a private server, which is stopped (`immediate`: no "
        "goodbye, and commits that did not wait for the disk may be lost) and started again. What "
        "a load could not mend by itself is loaded again.",
        counts={"crashes of the server": stopped, "files": len(sent), **_told(said)},
        wrong=wrong,
    )


def _alive(running: Sequence[Loader]) -> bool:
    return any(loader.process.is_alive() for loader in running)


def _orders(
    database: str, folder: Path, files: Sequence[SentFile], loaders: int, *, again: int = 20
) -> list[Order]:
    """The files in equal shares, one per call; every second loader loads in pieces."""
    paths = put(folder, files)
    return [
        Order(
            database,
            tuple((paths[file.number],) for file in files[n::loaders]),
            failpoint=_SLOW,
            pieces=PIECE * (n % 2),
            again=again,
        )
        for n in range(loaders)
    ]


def _unmapped(said: Sequence[Said]) -> list[str]:
    return [one.error for one in said if one.kind in ("Unmapped", "Died")]


def _told(said: Sequence[Said]) -> dict[str, int]:
    """How the calls of load ended."""
    kinds = Counter(one.kind or "calls of load that went well" for one in said)
    return {kind if " " in kind else f"calls that ended in {kind}": n for kind, n in kinds.items()}
