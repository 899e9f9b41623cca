"""Numbers for Prometheus, made of events and of what the ledger says.

Why: a rate, a ratio and an age say within a minute that something is wrong.

Promises: one registry per process; counters come from events, which are told after their commits,
so after a run without kills they equal the ledger's sums (a process killed between a commit and
its event has not counted it: the ledger is right); what waits, what is dead and when a sender was
last heard of are asked of the ledger when they are scraped, by the service alone, so that adding
up over processes counts nothing twice. Labels are words of ours, codes and rule ids; senders are at
most ``MOST_SENDERS``. ``CATALOGUE`` has every metric with its meaning.

Look next: ``nemflow.service.watching`` for where the ledger's numbers come from.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nemflow import events
from nemflow.errors import NemflowError
from nemflow.events import Event

log = logging.getLogger(__name__)

PORTS: Final = 64  #: worker processes of one machine that get a port
MOST_SENDERS: Final = 100  #: those heard of last; more would be too many series
_STEP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_WHOLE_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400)


@dataclass(frozen=True, slots=True)
class Meaning:
    """One metric."""

    kind: str  #: counter, gauge, histogram
    labels: tuple[str, ...]
    what: str


def _c(what: str, *labels: str) -> Meaning:
    return Meaning("counter", labels, what)


def _g(what: str, *labels: str) -> Meaning:
    return Meaning("gauge", labels, what)


def _h(what: str, *labels: str) -> Meaning:
    return Meaning("histogram", labels, what)


#: What this process counts itself, by the name it has in Prometheus.
TOLD: Final[Mapping[str, Meaning]] = {
    "nemflow_received_total": _c("Deliveries accepted.", "channel"),
    "nemflow_received_bytes_total": _c("Their bytes, as delivered.", "channel"),
    "nemflow_refused_total": _c("Uploads refused, by the code of the problem.", "code"),
    "nemflow_deliveries_total": _c("Deliveries that reached their end.", "outcome", "reason"),
    "nemflow_ended_total": _c("The same by outcome alone, from 0 on.", "outcome"),
    "nemflow_files_total": _c(
        "Texts (files, members) by what became of them.", "outcome", "reason"
    ),
    "nemflow_files_bytes_total": _c("Bytes of these texts.", "outcome"),
    "nemflow_days_read_total": _c("NMI-suffix-days read; stored, unchanged and rejected together."),
    "nemflow_days_total": _c("NMI-suffix-days: stored, unchanged, rejected.", "result"),
    "nemflow_reads_read_total": _c("Register reads read (NEM13)."),
    "nemflow_reads_total": _c("Register reads: stored, unchanged, rejected.", "result"),
    "nemflow_records_rejected_total": _c("Records kept out, by the rule that did.", "rule"),
    "nemflow_replayed_days_total": _c("Quarantined days read again.", "result"),
    "nemflow_replayed_reads_total": _c("Quarantined register reads read again.", "result"),
    "nemflow_dry_runs_total": _c("Deliveries that were only tried out.", "outcome"),
    "nemflow_loads_published_total": _c("Loads that became visible or were taken back.", "kind"),
    "nemflow_conflicts_total": _c("Days with two contents under one version stamp."),
    "nemflow_attempts_total": _c("Attempts that ended.", "outcome"),
    "nemflow_retries_total": _c("Attempts that failed and are made again.", "reason"),
    "nemflow_lease_expiries_total": _c("Deliveries whose worker was silent or gone."),
    "nemflow_step_seconds": _h("How long a step took.", "step"),
    "nemflow_wait_seconds": _h("From received to the first claim.", "lane"),
    "nemflow_delivery_seconds": _h("From received to the end.", "lane"),
    "nemflow_requests_total": _c("Requests answered.", "route", "method", "status"),
    "nemflow_request_seconds": _h("How long a request took.", "route"),
    "nemflow_breaker_changes_total": _c("A part went away (open) or came back.", "part", "to"),
    "nemflow_reconciler_last_look_timestamp_seconds": _g(
        "When the ledger was last looked through."
    ),
    "nemflow_reconciler_sent_total": _c("Deliveries the queue was told of."),
    "nemflow_hook_failures_total": _c("Events that a hook could not take."),
    "nemflow_info": _g("Always 1; the version that runs.", "version"),
}
#: What is asked when somebody scrapes.
ASKED: Final[Mapping[str, Meaning]] = {
    "nemflow_breaker_open": _g("1: the part is away, and is left alone for a while.", "part"),
    "nemflow_backlog_files": _g("Deliveries accepted and not done.", "lane"),
    "nemflow_backlog_bytes": _g("Their bytes.", "lane"),
    "nemflow_backlog_oldest_seconds": _g("Age of the oldest that waits.", "lane"),
    "nemflow_backlog_working": _g("Of these, being worked on."),
    "nemflow_drained_per_second": _g("Deliveries done per second, over five minutes."),
    "nemflow_queue_messages": _g("Messages that wait in the broker.", "lane"),
    "nemflow_ledger_deliveries": _g(
        "Deliveries in the ledger by state; archives, not members.", "state"
    ),
    "nemflow_channel_last_success_timestamp_seconds": _g("When a file was last loaded.", "channel"),
    "nemflow_sender_last_success_timestamp_seconds": _g(
        "When a sender's file was last loaded.", "sender"
    ),
    "nemflow_sender_usual_gap_seconds": _g(
        "Longest time between two hours with files, in 28 days.", "sender"
    ),
    "nemflow_problems_open": _g("Open problems.", "kind"),
    "nemflow_pool_connections": _g("Connections to the database in use.", "pool"),
    "nemflow_pool_size": _g("How many connections the pool keeps.", "pool"),
    "nemflow_spool_files": _g("Originals in the spool."),
    "nemflow_spool_bytes": _g("Their bytes."),
    "nemflow_spool_kept_bytes": _g("Bytes of originals kept for good: refused or partly loaded."),
    "nemflow_spool_free_bytes": _g("Free bytes of its disk."),
    "nemflow_spool_free_limit_bytes": _g("Below so many free bytes uploads are refused."),
    "nemflow_rate_refused_total": _c("Requests refused because their key asked too often."),
    "nemflow_rate_uncounted_total": _c("Requests let through because Redis did not count them."),
    "nemflow_redis_failures_total": _c("Times Redis did not answer, beside the queue."),
    "nemflow_lookups_recalled_total": _c("Questions about an NMI that Redis answered."),
}
CATALOGUE: Final[Mapping[str, Meaning]] = {**TOLD, **ASKED}
_RESULTS = ("stored", "unchanged", "rejected")
_OUTCOMES = ("loaded", "partly_loaded", "duplicate", "rejected", "dead", "cancelled")

#: One scraped number: labels and value; a source gives them by metric.
Values = list[tuple[tuple[str, ...], float]]
Source = Callable[[], Mapping[str, Values]]


class Metrics:
    """The registry of this process, and the hook that counts."""

    def __init__(self, version: str = "") -> None:
        self.registry = CollectorRegistry()
        self._asked = _Asked()
        self.registry.register(self._asked)
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for name, what in TOLD.items():
            self._make(name, what)
        # For Prometheus what begins at 1 has not increased: a burst of a new kind would be missed.
        for outcome in _OUTCOMES:
            self._counters["nemflow_ended_total"].labels(outcome)
        for part in _RESULTS:
            for of in ("days", "reads"):
                self._counters[f"nemflow_{of}_total"].labels(part)
        if version:
            self._gauges["nemflow_info"].labels(version).set(1)

    def _make(self, name: str, meaning: Meaning) -> None:
        said = (name, meaning.what, meaning.labels)
        if meaning.kind == "counter":
            self._counters[name] = Counter(*said, registry=self.registry)
        elif meaning.kind == "gauge":
            self._gauges[name] = Gauge(*said, registry=self.registry)
        else:
            buckets = _WHOLE_SECONDS if "lane" in meaning.labels else _STEP_SECONDS
            self._histograms[name] = Histogram(*said, registry=self.registry, buckets=buckets)

    def ask(self, source: Source) -> None:
        """Ask this too when somebody scrapes; a source that raises is left out that time."""
        self._asked.sources.append(source)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def failed(self) -> None:
        """A hook could not take an event."""
        self._add("nemflow_hook_failures_total")

    def __call__(self, event: Event) -> None:  # noqa: PLR0912 - one case per record
        """Count what happened."""
        match event:
            case events.FileFinished():
                self._file(event)
            case events.DeliveryFinished():
                self._finished(event)
            case events.DeliveryReceived():
                self._add("nemflow_received_total", event.about.channel)
                self._add("nemflow_received_bytes_total", event.about.channel, by=event.bytes)
            case events.StepFinished():
                seconds = (event.ended_at - event.began_at).total_seconds()
                self._took("nemflow_step_seconds", event.step, seconds=seconds)
            case events.AttemptBegan():
                if event.attempt == 1:
                    waited = (event.at - event.received_at).total_seconds()
                    self._took("nemflow_wait_seconds", event.about.lane, seconds=waited)
            case events.AttemptFinished():
                self._add("nemflow_attempts_total", event.outcome)
            case events.RetryScheduled():
                self._add("nemflow_retries_total", event.reason)
            case events.LeaseExpired():
                self._add("nemflow_lease_expiries_total")
            case events.UploadRefused():
                self._add("nemflow_refused_total", event.code)
            case events.RequestAnswered():
                self._add("nemflow_requests_total", event.route, event.method, str(event.status))
                seconds = (event.ended_at - event.began_at).total_seconds()
                self._took("nemflow_request_seconds", event.route, seconds=seconds)
            case events.BreakerChanged():
                to = "open" if event.open else "closed"
                self._add("nemflow_breaker_changes_total", event.name, to)
            case events.LookedThrough():
                name = "nemflow_reconciler_last_look_timestamp_seconds"
                self._gauges[name].set(time.time())
                self._add("nemflow_reconciler_sent_total", by=event.sent)
            case events.LoadPublished():
                self._add("nemflow_loads_published_total", event.kind, by=len(event.loads))
            case events.DayConflict():
                self._add("nemflow_conflicts_total")
            case events.RecordsReplayed():
                for of in ("days", "reads"):
                    for part in _RESULTS:
                        number = getattr(event, f"{of}_{part}")
                        self._add(f"nemflow_replayed_{of}_total", part, by=number)
            case _:
                pass

    def _file(self, event: events.FileFinished) -> None:
        if event.dry_run:
            return
        self._add("nemflow_files_total", event.state, event.reason)
        self._add("nemflow_files_bytes_total", event.state, by=event.bytes)
        for of in ("days", "reads"):
            self._add(f"nemflow_{of}_read_total", by=getattr(event, f"{of}_read"))
            for part in _RESULTS:
                self._add(f"nemflow_{of}_total", part, by=getattr(event, f"{of}_{part}"))
        for rule, count in event.rules:
            self._add("nemflow_records_rejected_total", rule, by=count)

    def _finished(self, event: events.DeliveryFinished) -> None:
        if event.dry_run:
            self._add("nemflow_dry_runs_total", event.state)
        else:
            self._add("nemflow_deliveries_total", event.state, event.reason)
            self._add("nemflow_ended_total", event.state)
        self._took("nemflow_delivery_seconds", event.about.lane, seconds=event.seconds)

    # -- metrics by name ----------------------------------------------------------------------

    def _add(self, name: str, *labels: str, by: float = 1) -> None:
        counter = self._counters[name]
        (counter.labels(*labels) if labels else counter).inc(by)

    def _took(self, name: str, label: str, *, seconds: float) -> None:
        self._histograms[name].labels(label).observe(max(0.0, seconds))


class _Asked(Collector):
    """Asks the sources when somebody scrapes; one at a time, so that scrapers add no load."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._turn = threading.Lock()

    def describe(self) -> Iterable[Metric]:
        """Nothing: asking is for scraping only."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """What every source says now."""
        found: dict[str, Values] = {}
        with self._turn:
            for source in self.sources:
                try:
                    said = source()
                except NemflowError as error:
                    log.warning("A part of the numbers cannot be had: %s", error.code)
                    continue
                for name, values in said.items():
                    found.setdefault(name, []).extend(values)
        for name, values in found.items():
            meaning = ASKED[name]
            kind = CounterMetricFamily if meaning.kind == "counter" else GaugeMetricFamily
            family = kind(name, meaning.what, labels=meaning.labels)
            for labels, value in values:
                family.add_metric(labels, value)
            yield family


class Port:
    """The numbers of a worker process on a port of its own.

    Args:
        metrics: what is told.
        host: the address; others than loopback tell everybody how much is loaded.
        first: the port; when it is taken, one of the next ``PORTS``.
    """

    def __init__(self, metrics: Metrics, host: str, first: int) -> None:
        self.port: int | None = None  #: None: none was free
        for port in range(first, min(first + PORTS, 65536)):
            with contextlib.suppress(OSError):
                self._server, self._thread = start_http_server(port, host, metrics.registry)
                self.port = port
                return
        log.warning("No port for metrics is free from %s on; there are none.", first)

    def close(self) -> None:
        """Answer no more."""
        if self.port is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(5)
