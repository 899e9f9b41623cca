"""Numbers, lines and spans: made of events, complete, and of no danger to the work."""

from __future__ import annotations

import io
import json
import logging
import pickle
import re
import shutil
import subprocess
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nemflow import events
from nemflow.errors import StoreAway
from nemflow.events import About, FileFinished, new_trace, tell, trace_of
from nemflow.jobs.isolation import _Said
from nemflow.telemetry import logs, metrics, spans

PROMETHEUS = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
NOW = datetime.fromisoformat("2025-03-06T02:15:09+10:00")


def test_a_hook_that_raises_hurts_nobody(caplog) -> None:
    """Its fault is in the log; the caller goes on."""

    def fails(_: events.Event) -> None:
        raise RuntimeError("full")

    tell(fails, events.LookedThrough(1))
    assert "LookedThrough" in caplog.text
    tell(None, events.LookedThrough(1))


def test_days_read_are_days_stored_unchanged_and_rejected() -> None:
    """And what was only tried out counts nowhere."""
    counted = metrics.Metrics()
    file = FileFinished(
        "a", "x", "partly_loaded", 6, 1, 2, 3, 0, 0, 0, 0, (("I001", 3),), "I001", 9
    )
    counted(file)
    counted(FileFinished("b", "y", "loaded", 9, 9, 0, 0, 0, 0, 0, 0, dry_run=True))
    text = counted.text().decode()
    assert "nemflow_days_read_total 6.0" in text
    for part, number in (("stored", 1), ("unchanged", 2), ("rejected", 3)):
        assert f'nemflow_days_total{{result="{part}"}} {number}.0' in text
    assert 'nemflow_records_rejected_total{rule="I001"} 3.0' in text


def test_a_source_that_is_away_keeps_no_other_number_back() -> None:
    """What is asked of the ledger is left out while it is away."""
    told = metrics.Metrics("7")

    def away() -> dict[str, metrics.Values]:
        raise StoreAway("gone")

    told.ask(away)
    told.ask(lambda: {"nemflow_backlog_files": [(("urgent",), 4)]})
    text = told.text().decode()
    assert 'nemflow_backlog_files{lane="urgent"} 4.0' in text
    assert 'nemflow_info{version="7"} 1.0' in text


def test_each_process_gets_a_port_of_its_own() -> None:
    """The next free one; both answer."""
    told = metrics.Metrics("7")
    one = metrics.Port(told, "127.0.0.1", 18650)
    other = metrics.Port(told, "127.0.0.1", 18650)
    try:
        assert one.port is not None
        assert other.port is not None
        assert one.port < other.port
        with urllib.request.urlopen(f"http://127.0.0.1:{other.port}/metrics") as answer:
            assert b"nemflow_info" in answer.read()
    finally:
        one.close()
        other.close()


@pytest.fixture
def written():
    """What is logged as JSON, until the test is over."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    out = io.StringIO()
    logs.set_up("json", "debug", out)
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_knows_the_request_delivery_step_and_key_it_belongs_to(written) -> None:
    """Whatever writes it."""
    scene = events.Scene("night-1", str(new_trace()), "depot", 7, "load")
    before = events.SCENE.set(scene)
    try:
        logging.getLogger("somebody").warning("The disk is slow: %s", 3)
    finally:
        events.SCENE.reset(before)
    (line,) = written()
    assert line["event"] == "The disk is slow: 3"
    assert (line["request"], line["who"], line["delivery"], line["step"]) == (
        *("night-1", "depot", 7, "load"),
    )
    assert re.fullmatch("[0-9a-f]{32}", line["trace"])


def test_what_a_foreign_exception_says_does_not_leave_a_child_process(written) -> None:
    """Its line comes out in the parent as the parent's own would: type and place, no data."""
    sent = []

    class Link:
        def send(self, message: tuple[str, logging.LogRecord]) -> None:
            sent.append(pickle.loads(pickle.dumps(message)))  # noqa: S301 - as a pipe does

    said = _Said(Link())
    said.open = True
    child = logging.getLogger("child")
    child.addHandler(said)
    child.propagate = False
    try:
        try:
            raise ValueError("SASMPL0001 used 1.234 in smith.csv")
        except ValueError:
            child.exception("Delivery %s failed.", 7)
        child.warning("Delivery %s waits.", 8)
    finally:
        child.removeHandler(said)
        child.propagate = True
    for word, record in sent:
        assert word == "log"
        logging.getLogger(record.name).handle(record)
    failed, waits = written()
    assert failed["event"] == "Delivery 7 failed."
    assert "ValueError" in failed["exception"]
    assert "test_telemetry.py" in failed["exception"]
    assert "SASMPL" not in json.dumps(failed)
    assert (waits["event"], "exception" in waits) == ("Delivery 8 waits.", False)


def test_what_a_foreign_exception_says_is_not_written(written) -> None:
    """It may quote a value; ours may be read."""
    for error in (ValueError("NMI 4103035210"), StoreAway("The store is away.")):
        try:
            raise error
        except Exception:
            logging.getLogger("x").exception("A fault.")
    foreign, ours = written()
    assert "ValueError" in foreign["exception"]
    assert "4103035210" not in json.dumps(foreign)
    assert "test_telemetry.py" in foreign["exception"]
    assert "The store is away." in ours["exception"]


def test_every_field_that_is_written_is_documented(written) -> None:
    """One of each record; no field without words."""
    about = About(1, str(new_trace()), "r", "depot", "http", "MDPA", "normal")
    for event in (
        events.DeliveryReceived(about, "received", 1, NOW, NOW),
        events.DeliveryFinished(about, "dead", "Q-POISON", 1, 5, 2.0, 1, 2, 1, 1, 0, dry_run=True),
        events.StepFinished(about, "load", 1, NOW, NOW, "ok"),
        events.LeaseExpired(about, 1),
        events.RetryScheduled(about, 1, "E-STORE-AWAY", 2.0),
        events.BreakerChanged("store", open=True),
        events.UploadRefused("E-DIGEST"),
        events.RequestAnswered("r", str(new_trace()), None, "d", "GET", "/", 500, NOW, NOW),
    ):
        logs.lines(event)
    lines = written()
    assert len(lines) == 8
    assert {field for line in lines for field in line} <= set(logs.FIELDS)


def test_a_retry_is_a_span_of_its_own_linked_to_the_one_before() -> None:
    """Same trace; the second does not begin before it began, and names the first."""
    made: list[spans.ReadableSpan] = []
    told = spans.Spans("http://127.0.0.1:9/v1/traces", "7")
    told.close()

    class Kept:
        on_end = staticmethod(made.append)

    told._sent = Kept()  # type: ignore[assignment]
    about = About(1, str(new_trace()), "r", None, "http")
    later = NOW + timedelta(minutes=5)
    told(events.AttemptFinished(about, 1, NOW, NOW + timedelta(seconds=1), "waiting_retry", "X"))
    told(events.AttemptFinished(about, 2, later, later + timedelta(seconds=1), "loaded"))
    first, second = made
    assert first.context is not None
    assert second.context is not None
    assert second.context.trace_id == first.context.trace_id
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert first.end_time is not None
    assert second.start_time is not None
    assert second.start_time - first.end_time == 299 * 10**9


def test_a_traceparent_is_gone_on_with_and_nonsense_is_not() -> None:
    """The caller's trace with a span of ours; anything else is a new trace."""
    given = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-00"
    own = new_trace(given)
    assert (own.trace, own.sampled) == ("ab" * 16, False)
    assert own.span != "cd" * 8
    for nonsense in ("", "00-" + "0" * 32 + "-" + "cd" * 8 + "-01", "rubbish", given + "x"):
        assert trace_of(nonsense) is None
        assert new_trace(nonsense).trace != "ab" * 16


def test_no_reason_is_a_sender_s_text() -> None:
    """A rule, a code, or one of two words: labels stay few."""
    assert events.reason_of("F001: the first record is 'x'", {}) == "F001"
    assert events.reason_of("every record was rejected", {"I001": 1, "I002": 5}) == "I002"
    assert events.reason_of("NMI 4103035210 is wrong", {}) == "other"
    assert events.reason_of(None, {}) == ""


def test_the_alert_rules_fire_when_they_should_and_only_then() -> None:
    """Each rule, once in good times and once in bad, by promtool."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    text = (PROMETHEUS / "alerts.yml").read_text()
    tests = (PROMETHEUS / "alerts_test.yml").read_text()
    for name in re.findall(r"alert: (\w+)", text):
        assert tests.count(f"alertname: {name}") >= 2, name
    for command in (
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
    ):
        done = subprocess.run(
            [promtool, *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for name in set(re.findall(r"\bnemflow_[a-z_]+", text)):
        assert name in metrics.CATALOGUE, name


def test_the_docs_name_every_span() -> None:
    """docs/build.py has them in words, because the page is built without the extra."""
    page = (PROMETHEUS.parents[1] / "docs" / "telemetry.md").read_text(encoding="utf-8")
    for name, what in spans.SPANS.items():
        assert f"| `{name}` | {what} |" in page
