"""Work that hangs: it is cut off with its process, and neither it nor what waits behind it is lost.

Real processes; ``mid-parse=sleep`` stands for a call that never comes back.
"""

from __future__ import annotations

from pathlib import Path

import nemflow
from borrowed import from_file

Service = from_file(Path(__file__).with_name("service_process.py")).Service
SOON = {
    "NEMFLOW_WORKER_LEASE_SECONDS": "6",
    "NEMFLOW_WORKER_BEAT_SECONDS": "1",
    "NEMFLOW_WORKER_STUCK_SECONDS": "2",
    "NEMFLOW_WORKER_RETRY_SECONDS": "1",
}


def hangs(folder: Path) -> dict[str, str]:
    """Settings under which the first text that is parsed, and no later one, hangs for minutes."""
    return {"NEMFLOW_FAILPOINTS": f"mid-parse=sleep:600:{folder / 'hung'}"}


def hang_and_go_on(service: Service) -> None:
    """Send two files, the first of which hangs: both must be loaded, the first in two attempts."""
    with service, service.client() as client:
        numbers = []
        for nth in (1, 2):
            body = nemflow.generate(days=1, streams=("E1",), nmis=[f"SAQ000000{nth}"], seed=nth)
            numbers.append(client.put(f"/v1/deliveries/{nth}.csv", content=body).json()["delivery"])
        assert set(service.finals(numbers, 60).values()) == {"loaded"}
        first = client.get(f"/v1/deliveries/{numbers[0]}").json()
        assert first["attempts"] == 2
        steps = client.get(f"/v1/deliveries/{numbers[0]}/timeline").json()["steps"]
        assert {(each["step"], each["attempt"]) for each in steps} >= {("load", 2), ("settle", 2)}
        assert any(each["attempt"] == 1 and each["outcome"] != "ok" for each in steps), steps
        rows = client.get("/v1/nmis").json()["nmis"]
        assert [row["days"] for row in rows] == [1, 1]


def test_a_child_that_hangs_is_killed_and_its_service_goes_on(tmp_path: Path) -> None:
    """One worker, no other server: the second file does not wait for ever behind the first."""
    hang_and_go_on(Service(tmp_path, env=SOON | hangs(tmp_path)))
