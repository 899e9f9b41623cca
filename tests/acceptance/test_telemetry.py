"""What a service tells of its work: numbers, lines and spans, of one real run."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

import nemflow
from borrowed import from_file
from otlp import Receiver

process = from_file(Path(__file__).with_name("service_process.py"))
GRAFANA = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
PARENT = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


class Run(NamedTuple):
    """What was seen of it."""

    folder: Path
    sent: dict[str, bytes]
    metrics: dict[str, float]
    lines: list[dict[str, Any]]
    log: str
    spans: list[Any]
    answer_id: str
    unanswered: dict[str, list[Any]] | None  #: panels without data; None: no Prometheus here


def watcher(folder: Path, target: str, secret: str) -> tuple[subprocess.Popen[bytes], str] | None:
    """A real Prometheus that scrapes every second; None: not installed."""
    program = shutil.which("prometheus")
    if program is None:
        return None
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: nemflow\n"
        f"    authorization: {{credentials: {secret}}}\n"
        f"    static_configs: [{{targets: ['{target}']}}]\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = subprocess.Popen(
        [program, "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", "--log.level=error",
         f"--web.listen-address=127.0.0.1:{port}"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return started, f"http://127.0.0.1:{port}"


def answered(url: str, query: str) -> list[Any]:
    """What Prometheus answers now; nothing while it begins."""
    try:
        told = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=10).json()
    except httpx.TransportError:
        return []
    assert told["status"] == "success", (query, told)
    return told["data"]["result"]


def texts() -> dict[str, bytes]:
    """Good, broken, partly broken, the same again, an archive."""
    import io
    import zipfile

    made = {
        f"good{n}.csv": nemflow.generate(
            days=3, streams=("E1", "B1"), seed=n, nmis=[f"NTEL00{n:04}"]
        )
        for n in range(6)
    }
    made["partly.csv"] = nemflow.generate(
        days=4, streams=("E1",), seed=50, nmis=["NTEL005000"], break_it=["I001"]
    )
    made["letter.txt"] = b"Dear sir, this is no meter data.\n"
    made["again.csv"] = made["good1.csv"]
    made["corrected.csv"] = made["good2.csv"].replace(b"\r\n900", b"\r\n900\r\n")
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w") as archive:
        for n in range(60, 64):
            content = nemflow.generate(days=2, seed=n, nmis=[f"NTEL00{n:04}"])
            archive.writestr(f"{n}.csv", content)
        archive.writestr("broken.csv", b"100,NEM12,never,A,B\r\n900\r\n")
    made["box.zip"] = box.getvalue()
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[Run]:
    """One service, one key, all of these files, and what it told."""
    from nemflow.store import open_store

    folder = tmp_path_factory.mktemp("telemetry")
    with open_store(f"sqlite:///{folder}/nemflow.db") as store:
        _, secret = store.make_key("depot", ["upload", "read"], sender="MDPA")
    receiver = Receiver()
    env = {"NEMFLOW_TRACING_ENDPOINT": receiver.url, "NEMFLOW_LOG_LEVEL": "debug"}
    sent = texts()
    started: list[subprocess.Popen[bytes]] = []
    try:
        with process.Service(folder, env=env) as service, service.client() as client:
            watched = watcher(folder, service.url.removeprefix("http://"), secret)
            if watched is not None:
                started.append(watched[0])
            client.headers["Authorization"] = f"Bearer {secret}"
            numbers = []
            for number, (name, content) in enumerate(sent.items()):
                told = client.put(
                    f"/v1/deliveries/{name}?wait=60",
                    content=content,
                    headers={"X-Request-ID": f"night-{number}", "traceparent": PARENT},
                )
                assert told.status_code in (200, 202), told.text
                assert told.headers["X-Request-ID"] == f"night-{number}"
                numbers.append(told.json()["delivery"])
            client.put("/v1/deliveries/x?dry_run=true&wait=60", content=sent["good5.csv"])
            refused = client.put(
                "/v1/deliveries/y", content=b"", headers={"Content-Digest": "nonsense"}
            )
            assert refused.status_code == 400
            given = client.get("/livez", headers={"X-Request-ID": "not plain!"})
            answer_id = given.headers["X-Request-ID"]
            empty: dict[str, list[Any]] = {}
            if watched is not None:
                empty = unanswered(watched[1])
            metrics = parsed(client.get("/metrics").text)
            assert service.stop() == 0
        log = "".join(path.read_text() for path in folder.glob("serve-*.log"))
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        yield Run(folder, {**sent, "secret": secret.encode()}, metrics, lines, log,
                  list(receiver.spans), answer_id, None if watched is None else empty)  # fmt: skip
    finally:
        receiver.close()
        for each in started:
            each.terminate()
            each.wait(20)


def unanswered(url: str) -> dict[str, list[Any]]:
    """The panels whose queries bring nothing, once the last numbers are scraped."""
    queries = [
        target["expr"].replace("$__rate_interval", "1m")
        for panel in json.loads((GRAFANA / "nemflow.json").read_text())["panels"]
        for target in panel["targets"]
    ]
    until = time.monotonic() + 15
    while time.monotonic() < until:
        empty = {each: [] for each in queries if not answered(url, each)}
        if not empty:
            break
        time.sleep(0.5)
    return empty


def parsed(text: str) -> dict[str, float]:
    """Prometheus' text as name with labels -> value."""
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def by_label(metrics: dict[str, float], name: str, label: str) -> dict[str, float]:
    """A metric added up by one of its labels, without what is 0."""
    found: Counter[str] = Counter()
    for key, value in metrics.items():
        if key.startswith(name + "{"):
            word = re.search(rf'{label}="([^"]*)"', key)
            assert word is not None
            found[word[1]] += value
    return {word: value for word, value in found.items() if value}


def ledger(run: Run, question: str) -> dict[Any, Any]:
    """What the ledger says, asked with nothing of ours between."""
    with sqlite3.connect(run.folder / "nemflow.db") as conn:
        return dict(conn.execute(question).fetchall())


def test_the_counters_are_what_the_ledger_adds_up_to(run: Run) -> None:
    """Deliveries and texts by state, days by result, rejected records by rule, bytes."""
    told = run.metrics
    top = "kept IS NOT NULL AND parent IS NULL AND NOT dry_run"
    assert by_label(told, "nemflow_deliveries_total", "outcome") == ledger(
        run, f"SELECT state, count(*) FROM delivery WHERE {top} GROUP BY 1"
    )
    outcomes = by_label(told, "nemflow_deliveries_total", "outcome")
    ended = by_label(told, "nemflow_ended_total", "outcome")
    assert {name: count for name, count in ended.items() if count} == outcomes
    assert {"loaded", "partly_loaded", "rejected", "duplicate"} <= set(outcomes)
    received = ledger(
        run,
        "SELECT channel, sum(size) FROM delivery "
        "WHERE kept IS NOT NULL AND parent IS NULL GROUP BY 1",
    )
    assert by_label(told, "nemflow_received_bytes_total", "channel") == received
    for of in ("days", "reads"):
        sums = ledger(
            run,
            f"SELECT 'read', sum({of}_read) FROM load WHERE kind = 'load' UNION ALL "
            f"SELECT 'stored', sum({of}_stored) FROM load WHERE kind = 'load' UNION ALL "
            f"SELECT 'unchanged', sum({of}_unchanged) FROM load WHERE kind = 'load' UNION ALL "
            f"SELECT 'rejected', sum({of}_rejected) FROM load WHERE kind = 'load'",
        )
        results = {
            part: told[f'nemflow_{of}_total{{result="{part}"}}']
            for part in ("stored", "unchanged", "rejected")
        }
        assert told[f"nemflow_{of}_read_total"] == sums.pop("read") == sum(results.values())
        assert results == sums
    # a text is a delivery with a file, or one that could not be opened and has no members
    members = "NOT EXISTS (SELECT 1 FROM delivery m WHERE m.parent = d.id)"
    texts_by_state = ledger(
        run,
        "SELECT state, count(*) FROM delivery d WHERE NOT dry_run "
        f"AND attempts + coalesce(parent, 0) > 0 AND {members} GROUP BY 1",
    )
    assert by_label(told, "nemflow_files_total", "outcome") == texts_by_state
    with sqlite3.connect(run.folder / "nemflow.db") as conn:
        rules = Counter(
            rule
            for (said,) in conn.execute("SELECT rules FROM quarantine")
            for rule in json.loads(said)
        )
    assert {
        rule: by_label(told, "nemflow_records_rejected_total", "rule")[rule] for rule in rules
    } == rules


def test_one_delivery_has_one_line_at_its_end_and_lines_say_where_they_belong(run: Run) -> None:
    """Request, key, trace and step; a refused upload too; an id of ours where theirs is odd."""
    ends = [line for line in run.lines if line["event"] == "delivery finished"]
    assert (
        len(ends) == len({line["delivery"] for line in ends}) == len(run.sent)
    )  # and the dry run, less the secret
    first = next(line for line in ends if line["request"] == "night-0")
    assert first["who"] == "depot"
    assert first["sender"] == "MDPA"
    assert first["trace"] == "ab" * 16
    assert first["days"] == "6=6+0+0"
    steps = {
        line["step"] for line in run.lines if line.get("request") == "night-0" and "step" in line
    }
    assert steps >= {"receive", "inspect", "load", "settle"}
    requests = [line for line in run.lines if line["event"] == "request"]
    assert {line["route"] for line in requests} >= {"/v1/deliveries/{name}", "/metrics"}
    assert [line["code"] for line in run.lines if line["event"] == "upload refused"] == ["E-DIGEST"]
    assert re.fullmatch("[0-9a-f]{16}", run.answer_id)


def test_no_line_holds_meter_data_or_a_key(run: Run) -> None:
    """No NMI, no secret, no name of a file, no value of an interval."""
    assert "NTEL" not in run.log
    assert run.sent["secret"].decode() not in run.log
    assert "Dear sir" not in run.log
    assert not [name for name in run.sent if name != "secret" and f"/{name}" in run.log]
    pairs = re.findall(rb"\d+\.\d+,\d+\.\d+", run.sent["good0.csv"])
    assert len(pairs) > 20
    assert not [pair for pair in pairs if pair.decode() in run.log]


def test_one_trace_leads_from_the_request_to_the_committed_rows(run: Run) -> None:
    """Caller, request, receive, wait, attempt, its steps: the right parents, times in order."""
    number = next(
        line["delivery"] for line in run.lines
        if line["event"] == "delivery finished" and line.get("request") == "night-0"
    )  # fmt: skip
    own = {}
    for span in run.spans:
        said = {each.key: each.value for each in span.attributes}
        if "nemflow.delivery" in said and said["nemflow.delivery"].int_value == number:
            own[span.name] = span
        if "nemflow.request" in said and said["nemflow.request"].string_value == "night-0":
            own.setdefault(span.name, span)
    assert set(own) >= {"receive", "wait", "attempt", "inspect", "load", "settle"}
    request = next(span for name, span in own.items() if name.startswith("PUT "))
    assert {span.trace_id.hex() for span in own.values()} == {"ab" * 16}
    assert request.parent_span_id.hex() == "cd" * 8
    assert {own[name].parent_span_id for name in ("receive", "wait", "attempt")} == {
        request.span_id
    }
    assert {own[name].parent_span_id for name in ("inspect", "load", "settle")} == {
        own["attempt"].span_id
    }
    assert own["receive"].start_time_unix_nano <= own["load"].start_time_unix_nano
    assert own["load"].end_time_unix_nano <= own["attempt"].end_time_unix_nano
    assert len({span.span_id for span in run.spans}) == len(run.spans)


def test_every_panel_of_the_dashboard_has_data_after_a_run(run: Run) -> None:
    """Each query, asked of a real Prometheus that scraped this service."""
    if run.unanswered is None:
        pytest.skip("prometheus is not installed")
    assert run.unanswered == {}


def test_the_dashboard_is_what_its_script_writes() -> None:
    """Nobody edited the one without the other."""
    script = from_file(GRAFANA / "make.py")
    assert (GRAFANA / "nemflow.json").read_text(encoding="utf-8") == script.text()
