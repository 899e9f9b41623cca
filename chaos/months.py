"""Months: partitions that many loaders need at once, and what a late correction costs.

Promises: nobody waits for a partition longer than its making takes, and nobody fails; the control
makes the same months by ``PARTITION OF`` inside the loaders' transactions, and must fail.

Look next: ``PostgresBackend._make_partition`` for how it is done.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from datetime import date, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psycopg

from chaos.contests import errors_of, put
from chaos.loaders import PATIENCE, Order, all_said, crew, gate, start
from chaos.model import CONTENTS, SentDay, SentFile, nmi
from chaos.report import Attack
from chaos.servers import asking, deadlocks
from chaos.verdict import faults
from nemflow.pipeline import load
from nemflow.store import open_store


def _months(rng: random.Random, count: int) -> list[date]:
    """So many months, in random order."""
    return rng.sample([date(2020 + n // 12, n % 12 + 1, 1) for n in range(count)], count)


def partition_storm(
    database: str, folder: Path, rng: random.Random, *, months: int, loaders: int = 10
) -> Attack:
    """Loaders that need the same new months at the same moment, again and again."""
    open_store(database).close()
    wanted = _months(rng, months)
    rounds = [wanted[n : n + 4] for n in range(0, months, 4)]
    sent = [
        SentFile(
            turn * loaders + number,
            "203001010000",
            tuple(
                SentDay(nmi(number), month.replace(day=5), "", number % len(CONTENTS))
                for month in rng.sample(some, len(some))
            ),
        )
        for turn, some in enumerate(rounds)
        for number in range(loaders)
    ]
    paths = put(folder, sent)
    calls = [tuple((paths[f.number],) for f in sent[n::loaders]) for n in range(loaders)]
    said = all_said(crew(folder, [Order(database, own) for own in calls]))
    wrong = errors_of(said)
    with open_store(database) as store:
        wrong += faults(store, sent)
    question = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'day_claim'::regclass"
    with asking(database) as conn:
        made = int(conn.exec_driver_sql(question).scalar_one())
    if made != months:
        wrong.append(f"{made} partitions for {months} months")
    found = deadlocks(database)
    if found:
        wrong.append(f"{found} deadlocks")
    return Attack(
        "Partition storm",
        f"{loaders} processes load at once, each needing the same new months, four per file, "
        "while the others append to the months before.",
        counts={
            "processes": loaders,
            "months": months,
            "partitions made": made,
            "errors": len(errors_of(said)),
            "deadlocks": found,
        },
        wrong=wrong,
    )


def partition_control(
    database: str, folder: Path, rng: random.Random, *, months: int, loaders: int = 10
) -> Attack:
    """The same months by ``CREATE TABLE IF NOT EXISTS ... PARTITION OF``, where they are needed."""
    open_store(database).close()
    wanted = _months(rng, months)
    begin, said = gate(loaders), folder / "partition-of"
    running = [
        start(_partition_of, database, rng.sample(wanted, months), nmi(n), str(said), begin)
        for n in range(loaders)
    ]
    for process in running:
        process.join(PATIENCE)
    failed = said.read_text(encoding="utf-8").split() if said.exists() else []
    kinds = {kind: failed.count(kind) for kind in sorted(set(failed))}
    attack = Attack(
        "Control: PARTITION OF",
        f"The storm's control: {loaders} processes make the same {months} months by `CREATE TABLE "
        "IF NOT EXISTS … PARTITION OF` inside their own transactions, and append a row to each. "
        "It must fail, else the storm proves nothing.",
        counts={"processes": loaders, "errors": len(failed), **kinds},
    )
    if not failed:
        attack.wrong.append("the control did not fail")
    return attack


_ROW = """
INSERT INTO day_claim (nmi, day, suffix, content_hash, load, line, version_derived, scale, missing,
                       quality)
VALUES (%s, %s, 'E1', 'x', 0, 1, true, 0, 0, 'A')
"""


def _partition_of(
    database: str, months: Sequence[date], name: str, path: str, begin: Barrier
) -> None:
    with psycopg.connect(database) as conn, Path(path).open("ab", buffering=0) as out:
        conn.execute("SET deadlock_timeout = '50ms'; SET lock_timeout = '20s'")
        conn.commit()
        begin.wait(PATIENCE)
        for first in range(0, len(months), 4):
            try:
                for month in months[first : first + 4]:
                    until = (month + timedelta(days=31)).replace(day=1)
                    conn.execute(
                        f"CREATE TABLE IF NOT EXISTS day_claim_{month:%Y%m} PARTITION OF day_claim "
                        f"FOR VALUES FROM ('{month}') TO ('{until}')".encode()
                    )
                    conn.execute(_ROW, (name, month))
                conn.commit()
            except psycopg.Error as error:
                conn.rollback()
                out.write(f"{type(error).__name__}\n".encode())


def cost_of_lateness(database: str, folder: Path, *, times: int, nmis: int = 200) -> Attack:
    """What a late correction costs: a day of a year ago, against a day of this month."""
    last = date(2025, 3, 31)
    open_store(database).close()
    with open_store(database) as store:
        for back in range(13):
            day = last - timedelta(days=30 * back)
            days = tuple(
                SentDay(nmi(n), day - timedelta(days=d), "", n % len(CONTENTS))
                for n in range(nmis)
                for d in range(10)
            )
            load(store, put(folder, [SentFile(back, "202504010000", days)])[back])
        took: dict[str, list[float]] = {"today": [], "a year ago": [], "a month never seen": []}
        number = 1000
        for turn in range(times):
            for what, day in (
                ("today", last),
                ("a year ago", last - timedelta(days=360)),
                ("a month never seen", date(2010 + turn // 12, turn % 12 + 1, 1)),
            ):
                number += 1
                one = SentDay(nmi(turn % nmis), day, "20250402000000", turn % len(CONTENTS))
                path = put(folder, [SentFile(number, "202504020000", (one,))])[number]
                begun = time.perf_counter()
                load(store, path)
                took[what].append((time.perf_counter() - begun) * 1000)
    return Attack(
        "The cost of lateness",
        f"A correction of one NMI-day, file to published, beside {nmis * 130:,} NMI-days of "
        f"thirteen months: of today, of a year ago, and of a month that has no partition yet. "
        f"The middle of {times} each, taken in turns.",
        counts={f"{what}, ms": statistics.median(ms) for what, ms in took.items()},
    )
