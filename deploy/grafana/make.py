"""Writes the Grafana dashboard from the list below: ``python deploy/grafana/make.py``.

Why: a dashboard kept by clicking drifts from the metrics; here each panel is one line, and a test
asks every query of a Prometheus that scraped a real run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Title, unit, then queries with their legends. $__rate_interval is Grafana's.
RATE = "$__rate_interval"
PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Files per minute by outcome",
        "short",
        ((f"60 * sum by (outcome) (rate(nemflow_files_total[{RATE}]))", "{{outcome}}"),),
    ),
    (
        "Deliveries that failed, by reason",
        "short",
        (
            (
                'sum by (outcome, reason) (nemflow_deliveries_total{outcome!~"loaded|duplicate"})',
                "{{outcome}} {{reason}}",
            ),
        ),
    ),
    (
        "Days per second",
        "short",
        ((f"sum by (result) (rate(nemflow_days_total[{RATE}]))", "{{result}}"),),
    ),
    (
        "Records kept out, by rule",
        "short",
        (("sum by (rule) (nemflow_records_rejected_total)", "{{rule}}"),),
    ),
    ("Waiting, by lane", "short", (("max by (lane) (nemflow_queue_messages)", "{{lane}}"),)),
    (
        "Age of the oldest, by lane",
        "s",
        (("max by (lane) (nemflow_backlog_oldest_seconds)", "{{lane}}"),),
    ),
    (
        "Deliveries by state",
        "short",
        (("max by (state) (nemflow_ledger_deliveries)", "{{state}}"),),
    ),
    (
        "From received to the end",
        "s",
        (
            (
                "histogram_quantile(0.95, sum by (le, lane) "
                f"(rate(nemflow_delivery_seconds_bucket[{RATE}])))",
                "95 % {{lane}}",
            ),
        ),
    ),
    (
        "Steps, mean",
        "s",
        (
            (
                f"sum by (step) (rate(nemflow_step_seconds_sum[{RATE}]))"
                f" / sum by (step) (rate(nemflow_step_seconds_count[{RATE}]))",
                "{{step}}",
            ),
        ),
    ),
    (
        "Requests per second",
        "reqps",
        ((f"sum by (status) (rate(nemflow_requests_total[{RATE}]))", "{{status}}"),),
    ),
    (
        "Bytes received per second",
        "Bps",
        ((f"sum by (channel) (rate(nemflow_received_bytes_total[{RATE}]))", "{{channel}}"),),
    ),
    (
        "Lease expiries",
        "short",
        (("sum(nemflow_lease_expiries_total)", "lease expiries"),),
    ),
    ("Away", "short", (("max by (part) (nemflow_breaker_open)", "{{part}}"),)),
    (
        "Spool and disk",
        "bytes",
        (("max(nemflow_spool_bytes)", "spool"), ("min(nemflow_spool_free_bytes)", "free")),
    ),
    (
        "Since a sender was heard of",
        "s",
        (
            (
                "time() - max by (sender) (nemflow_sender_last_success_timestamp_seconds)",
                "{{sender}}",
            ),
        ),
    ),
    (
        "Since the ledger was looked through",
        "s",
        (("time() - max(nemflow_reconciler_last_look_timestamp_seconds)", "reconciler"),),
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it: two panels to a row."""
    panels = []
    for number, (title, unit, queries) in enumerate(PANELS):
        panels.append(
            {
                "id": number + 1,
                "type": "timeseries",
                "title": title,
                "datasource": {"type": "prometheus", "uid": "nemflow"},
                "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": "AB"[place], "expr": query, "legendFormat": legend}
                    for place, (query, legend) in enumerate(queries)
                ],
            }
        )
    return {
        "uid": "nemflow",
        "title": "nemflow",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "panels": panels,
    }


def text() -> str:
    """As it lies in the file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("nemflow.json").write_text(text(), encoding="utf-8")
