"""``nemflow serve --workers 2`` on PostgreSQL with Redis, and with RabbitMQ: real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

import nemflow
from borrowed import from_file

process = from_file(Path(__file__).parents[1] / "acceptance" / "service_process.py")


def text_of(number: int) -> bytes:
    """A believable file of its own NMI."""
    return nemflow.generate(days=2, streams=("E1",), seed=number, nmis=[f"SAQ{number:07}"])


def workers_of(pid: int) -> list[int]:
    """The worker processes of a service."""
    told = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in told.stdout.split()]


@pytest.mark.parametrize("broker", ["redis"])  # RabbitMQ: test_worker_processes.py
def test_two_workers_load_everything_though_one_is_killed(
    broker, database, request, tmp_path
) -> None:
    """30 files; one worker gets kill -9 half-way and is replaced; all are loaded, each once."""
    url = request.getfixturevalue(f"{broker}_url")
    env = {"NEMFLOW_DB": database, "NEMFLOW_QUEUE_PREFIX": f"t{uuid.uuid4().hex[:8]}"}
    env |= {"NEMFLOW_WORKER_LEASE_SECONDS": "8", "NEMFLOW_WORKER_BEAT_SECONDS": "2"}
    service = process.Service(tmp_path, "--queue", url, "--workers", "2", env=env)
    with service, service.client() as client:
        assert service.process is not None
        numbers = []
        for number in range(30):
            told = client.put(f"/v1/deliveries/{number}.csv", content=text_of(number))
            assert told.status_code == 202, told.text
            numbers.append(told.json()["delivery"])
            if number == 15:
                os.kill(workers_of(service.process.pid)[0], signal.SIGKILL)
        assert set(service.finals(numbers, 60).values()) == {"loaded"}
        rows = client.get("/v1/nmis").json()["nmis"]
        assert [row["days"] for row in rows] == [2] * 30
        assert client.get("/v1/files?nmi=%00").status_code < 500
        assert client.get("/readyz").json()["status"] == "ready"
        assert service.stop() == 0
