"""One trace across the broker, and the numbers of a worker process of its own."""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path

import httpx

import nemflow
from borrowed import from_file
from otlp import Receiver

process = from_file(Path(__file__).resolve().parents[1] / "acceptance" / "service_process.py")
PARENT = "00-" + "12" * 16 + "-" + "34" * 8 + "-01"


def test_a_trace_goes_on_in_the_worker_which_tells_its_own_numbers(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    """Request in one process, attempt in another; only a delivery number went through Redis."""
    receiver = Receiver()
    env = {
        "NEMFLOW_DB": database,
        "NEMFLOW_QUEUE_PREFIX": f"t{uuid.uuid4().hex[:8]}",
        "NEMFLOW_TRACING_ENDPOINT": receiver.url,
        "NEMFLOW_METRICS_PORT": "18700",
    }
    service = process.Service(tmp_path, "--queue", redis_url, "--workers", "1", env=env)
    try:
        with service, service.client() as client:
            told = client.put(
                "/v1/deliveries/a.csv?wait=60",
                content=nemflow.generate(days=3, streams=("E1",), seed=1),
                headers={"traceparent": PARENT, "X-Request-ID": "over-there"},
            )
            assert told.json()["state"] == "loaded", told.text
            log = "".join(path.read_text() for path in tmp_path.glob("serve-*.log"))
            (place,) = re.findall(r"Metrics are on (http://127.0.0.1:\d+/metrics)", log)
            text = httpx.get(place).text
            assert 'nemflow_days_total{result="stored"} 3.0' in text
            assert 'nemflow_deliveries_total{outcome="loaded",reason=""} 1.0' in text
            assert service.stop() == 0
        until = time.monotonic() + 10
        while len({span.name for span in receiver.spans}) < 6 and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        receiver.close()
    own = {
        span.name.split(" ")[0]: span for span in receiver.spans if span.trace_id.hex() == "12" * 16
    }
    assert set(own) >= {"PUT", "receive", "wait", "attempt", "inspect", "load", "settle"}
    assert own["attempt"].parent_span_id == own["PUT"].span_id
    made_by = {name: receiver.made_by[span.span_id] for name, span in own.items()}
    assert made_by["PUT"] == made_by["receive"] != made_by["attempt"] == made_by["load"]
    log = "".join(path.read_text() for path in tmp_path.glob("serve-*.log"))
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (end,) = [line for line in lines if line["event"] == "delivery finished"]
    assert (end["request"], end["trace"]) == ("over-there", "12" * 16)
