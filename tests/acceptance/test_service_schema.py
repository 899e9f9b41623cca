"""Thousands of odd requests against a running service: schemathesis reads its OpenAPI and tries."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from borrowed import from_file

Service = from_file(Path(__file__).with_name("service_process.py")).Service
SCHEMATHESIS = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
SECONDS = 12


needs_schemathesis = pytest.mark.skipif(
    SCHEMATHESIS is None, reason="schemathesis is not installed"
)


@needs_schemathesis
def test_whatever_is_asked_the_answer_is_documented_and_never_a_fault_of_ours(tmp_path) -> None:
    """No status but the documented ones, no 5xx, no body of another kind than its schema says."""
    asked_oddly(tmp_path)


def asked_oddly(tmp_path: Path, **settings: str) -> None:
    """Start a service with these settings, load a file, and ask whatever its OpenAPI allows."""
    service = Service(tmp_path, env={"NEMFLOW_SERVICE_WAIT_SECONDS": "1", **settings})
    service.start()
    try:
        service.run("generate", "-o", "day.csv", "--days", "2")
        with service.client() as client:
            day = (tmp_path / "day.csv").read_bytes()
            number = client.put("/v1/deliveries/day.csv", content=day).json()["delivery"]
            service.finals([number])
        done = subprocess.run(
            [
                str(SCHEMATHESIS), "run", f"{service.url}/openapi.json",
                "--checks", "not_a_server_error,status_code_conformance,"
                "content_type_conformance,response_schema_conformance",
                "--exclude-path", "/v1/events",  # never ends
                "--exclude-path-regex", "^/v1/keys",  # the first key would lock the others out
                "--phases", "examples,coverage,fuzzing",
                "--max-examples", "12", "--max-time", str(SECONDS),
                "--workers", "1",  # with more, CPython 3.11 mixes up what their threads parse
                "--request-timeout", "10", "--no-color", "--suppress-health-check", "all",
                "--generation-database", "none",
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS + 60, check=False,
        )  # fmt: skip
        assert service.stop() == 0
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    finally:
        if service.process is not None and service.process.poll() is None:
            service.kill()
