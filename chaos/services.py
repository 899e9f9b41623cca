"""The attacks on a running service, with their sizes: what ``run.py`` makes of them.

Why: they need brokers beside the database; each is skipped, saying why, where one is missing.

Look next: ``service_kills.py``, ``service_outages.py``, ``service_uploads.py``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pika
import redis

from chaos import service_kills, service_large, service_outages, service_uploads
from chaos.report import Attack

REDIS = os.environ.get("NEMFLOW_TEST_REDIS", "redis://127.0.0.1:6379/13")
RABBIT = os.environ.get("NEMFLOW_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/")


@dataclass(frozen=True, slots=True)
class Plan:
    """An attack and its sizes; ``make`` is given a database, a folder, dice and the size."""

    name: str
    full: int
    quick: int
    make: Callable[[str, Path, random.Random, int], Attack]


def _answers(queue: str) -> bool:
    try:
        if queue.startswith("redis"):
            with redis.Redis.from_url(queue, socket_connect_timeout=2) as client:
                client.ping()
        elif queue.startswith("amqp"):
            pika.BlockingConnection(pika.URLParameters(queue)).close()
    except (redis.RedisError, pika.exceptions.AMQPError, OSError):
        return False
    return True


def _on(kind: str, attack: Callable[..., Attack], size: str) -> Callable[..., Attack]:
    """The attack on one kind of queue: in memory with SQLite, a broker with PostgreSQL."""
    queue = {"memory": "memory://", "redis": REDIS, "rabbitmq": RABBIT}[kind]
    name = {"memory": "memory", "redis": "Redis", "rabbitmq": "RabbitMQ"}[kind]

    def make(database: str, folder: Path, rng: random.Random, times: int) -> Attack:
        if not _answers(queue):
            return Attack(f"Service on {name}", "", skipped=f"no {name} answers")
        on = None if kind == "memory" else database
        return attack(folder, rng, queue=queue, database=on, name=name, **{size: times})

    return make


def _broker(kind: str) -> Callable[..., Attack]:
    def make(database: str, folder: Path, rng: random.Random, kills: int) -> Attack:
        return service_outages.broker_kills(database, folder, rng, kills=kills, kind=kind)

    return make


PLANS = (
    *(
        Plan(f"service kills {kind}", 100, 4, _on(kind, service_kills.worker_kills, "kills"))
        for kind in ("redis", "rabbitmq", "memory")
    ),
    *(
        Plan(f"service places {kind}", 1, 1, _on(kind, service_kills.places, "rounds"))
        for kind in ("memory", "redis", "rabbitmq")
    ),
    *(
        Plan(f"service stops {kind}", 20, 3, _on(kind, service_kills.terminations, "times"))
        for kind in ("memory", "redis", "rabbitmq")
    ),
    *(
        Plan(f"service broker {kind}", full, quick, _broker(kind))
        for kind, full, quick in (("redis", 20, 3), ("rabbitmq", 5, 1))
    ),
    Plan(
        "service database",
        30,
        6,
        lambda _, folder, rng, n: service_outages.database_away(
            folder, rng, seconds=n, queue=REDIS
        ),
    ),
    Plan("service clocks", 120, 40, _on("redis", service_outages.wrong_clock, "files")),
    *(
        Plan(f"service same file {kind}", 50, 12, _on(kind, service_uploads.same_file, "times"))
        for kind in ("memory", "redis")
    ),
    Plan(
        "service cut off",
        200,
        40,
        lambda _, folder, rng, n: service_uploads.cut_off(folder, rng, times=n),
    ),
    *(
        Plan(f"service large {kind}", 2000, 100, _on(kind, service_large.large_file, "megabytes"))
        for kind in ("memory", "redis", "rabbitmq")
    ),
    Plan(
        "service full disk",
        250,
        200,
        lambda _, folder, rng, n: service_uploads.full_disk(folder, rng, files=n),
    ),
)
