"""``nemflow simulate`` against a running service: what is right passes, what is planted is seen."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from borrowed import from_file

process = from_file(Path(__file__).with_name("service_process.py"))
GONE = "DELETE FROM day_claim WHERE (nmi, day) = (SELECT nmi, day FROM day_claim LIMIT 1)"
MIXED = (
    "--files", "40", "--rate", "20/s", "--nmis", "2", "--days", "3", "--corrections", "30%",
    "--broken", "15%", "--duplicates", "15%", "--zip", "15%", "--asexml", "10%", "--seed", "5",
)  # fmt: skip


def test_what_was_sent_is_what_the_service_says_and_a_planted_fault_is_seen(tmp_path) -> None:
    """Exit 0, every value compared; then one reading's claim is gone, then a delivery: exit 1."""
    with process.Service(tmp_path) as service:
        asked = ("simulate", "--to", service.url, "--json")
        done = service.run(*asked, *MIXED, "--record", "sent.json")
        assert done.returncode == 0, done
        told = json.loads(done.stdout)
        states = told["states"]
        assert sum(states.values()) == told["texts"] > told["accepted"] == 40
        assert {"loaded", "partly_loaded", "duplicate", "rejected"} == set(states)
        assert told["readings"] > 10_000
        assert told["differences"] == 0

        with sqlite3.connect(tmp_path / "nemflow.db", timeout=30) as store:
            store.execute(GONE)
        seen = service.run(*asked, "--again", "sent.json")
        assert seen.returncode == 1, seen
        assert [each["what"] for each in json.loads(seen.stdout)["examples"]] == ["readings"]

        with sqlite3.connect(tmp_path / "nemflow.db", timeout=30) as store:
            store.execute("UPDATE delivery SET state = 'dead' WHERE id = 1")
        seen = service.run(*asked, "--again", "sent.json", "--no-compare")
        assert seen.returncode == 1, seen
        assert [each["told"] for each in json.loads(seen.stdout)["examples"]] == ["dead"]
