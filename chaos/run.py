"""Attack the store every way we know, and write down what was seen.

``make chaos`` runs this; options go in ``ARGS``: ``--quick`` for the short form, ``--seed 7`` to
repeat a run, ``--only crash`` for the attacks with that word in their names, ``--write-docs`` to
write docs/chaos.md (with ``--only``: these attacks' part of it).

Every attack has a scratch database of its own on the local PostgreSQL (or on a private one, where
none answers) and a seed made of the run's seed and its name, so that one attack can be repeated
alone. The local server is never stopped.

Next: contests.py, months.py, crashes.py, jobs.py, outages.py, overload.py and plans.py
hold the attacks.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from chaos import contests, crashes, jobs, months, outages, overload, plans, services
from chaos.model import new_seed
from chaos.report import Attack, page, page_with, terminal, versions, write
from chaos.servers import asking, local_server, private_server, scratch

DOCS = Path(__file__).resolve().parents[1] / "docs"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attack takes place."""

    database: str
    folder: Path
    rng: random.Random


@dataclass(frozen=True, slots=True)
class Plan:
    """An attack and its size."""

    name: str
    full: int
    quick: int
    make: Callable[[Place, int], Attack]


def _restarts(at: Place, times: int) -> Attack:
    with private_server() as server:
        if server is None:
            return Attack("Server crashes", "", skipped="no PostgreSQL programs to run one with")
        return outages.restarts(server, at.folder, at.rng, times=times)


def _on_service(plan: services.Plan) -> Callable[[Place, int], Attack]:
    return lambda at, n: plan.make(at.database, at.folder, at.rng, n)


PLANS = (
    Plan(
        "deadlock hunt",
        1000,
        48,
        lambda at, n: contests.deadlock_hunt(at.database, at.folder, at.rng, files=n),
    ),
    Plan(
        "deadlock control",
        96,
        48,
        lambda at, n: contests.deadlock_control(at.database, at.folder, at.rng, files=n),
    ),
    Plan(
        "crash hunt postgresql",
        300,
        30,
        lambda at, n: crashes.crash_hunt(
            at.database, at.folder, at.rng, kills=n, engine="PostgreSQL"
        ),
    ),
    Plan(
        "crash hunt sqlite",
        100,
        30,
        lambda at, n: crashes.crash_hunt(
            f"sqlite:///{at.folder}/store.db", at.folder, at.rng, kills=n, engine="SQLite"
        ),
    ),
    Plan(
        "crash hunt jobs",
        20,
        4,
        lambda at, n: jobs.crash_hunt_of_jobs(at.database, at.folder, at.rng, kills=n),
    ),
    Plan(
        "sleepers",
        20,
        2,
        lambda at, n: crashes.sleepers(at.database, at.folder, at.rng, rounds=n),
    ),
    Plan(
        "connections ended",
        50,
        10,
        lambda at, n: outages.terminations(at.database, at.folder, at.rng, times=n),
    ),
    Plan("server crashes", 25, 3, _restarts),
    Plan(
        "race of two",
        600,
        20,
        lambda at, n: contests.races(at.database, at.folder, at.rng, rounds=n),
    ),
    Plan(
        "race of three",
        400,
        10,
        lambda at, n: contests.races(at.database, at.folder, at.rng, rounds=n, versions=3),
    ),
    Plan(
        "same text",
        50,
        12,
        lambda at, n: contests.same_text(at.database, at.folder, at.rng, loaders=n),
    ),
    Plan(
        "partition storm",
        60,
        8,
        lambda at, n: months.partition_storm(at.database, at.folder, at.rng, months=n),
    ),
    Plan(
        "partition control",
        60,
        8,
        lambda at, n: months.partition_control(at.database, at.folder, at.rng, months=n),
    ),
    Plan(
        "cost of lateness",
        40,
        5,
        lambda at, n: months.cost_of_lateness(at.database, at.folder, times=n, nmis=n * 5),
    ),
    Plan("overload", 300, 30, lambda at, n: overload.overload(at.folder, at.rng, seconds=n)),
    *(Plan(plan.name, plan.full, plan.quick, _on_service(plan)) for plan in services.PLANS),
    Plan("plans", 1_000_000, 50_000, lambda at, n: plans.questions(at.database, rows=n)),
)


def attack(plan: Plan, server: sa.URL, seed: int, size: int) -> Attack:
    """Make one attack on a database of its own."""
    rng = random.Random(f"{seed} {plan.name}")
    begun = time.perf_counter()
    with scratch(server) as database, tempfile.TemporaryDirectory(prefix="chaos-") as name:
        try:
            done = plan.make(Place(database, Path(name), rng), size)
        except Exception as error:  # noqa: BLE001 - the other attacks are still made
            done = Attack(plan.name.capitalize(), "", wrong=[f"the attack failed: {error!r}"])
    done.seconds = time.perf_counter() - begun
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the attacks; 1 when a promise broke."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make chaos")
    parser.add_argument("--quick", action="store_true", help="the short form")
    parser.add_argument("--seed", type=int, help="repeat a run; default: a new one")
    parser.add_argument("--size", type=int, help="another size than the attack's usual ones")
    parser.add_argument("--only", default="", help="attacks with this in their name")
    parser.add_argument("--write-docs", action="store_true", help="write docs/chaos.md")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what an attack began is ended
    seed = new_seed() if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    attacks = []
    with ExitStack() as stack:
        server = local_server()
        if server is None:
            private = stack.enter_context(private_server())
            if private is None:
                print("No PostgreSQL answers, and none can be started.", file=sys.stderr)
                return 3
            server = private.url
        with asking(server.render_as_string(hide_password=False)) as conn:
            version = str(conn.exec_driver_sql("SHOW server_version").scalar_one()).split()[0]
        for plan in PLANS:
            if asked.only.lower() in plan.name:
                size = asked.size or (plan.quick if asked.quick else plan.full)
                attacks.append(attack(plan, server, seed, size))
                print(terminal(attacks[-1:]), flush=True)
    if asked.write_docs:
        if asked.only:
            old = (DOCS / "chaos.md").read_text(encoding="utf-8")
            text = page_with(old, attacks, seed=seed, quick=asked.quick, size=asked.size)
        else:
            text = page(attacks, seed=seed, quick=asked.quick, versions=versions(version))
        write(DOCS / "chaos.md", text)
        print("docs/chaos.md is written.")
    return 0 if attacks and all(one.held or one.skipped for one in attacks) else 1


if __name__ == "__main__":
    sys.exit(main())
