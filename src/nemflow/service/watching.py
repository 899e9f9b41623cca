"""What watches a process: metrics, lines, spans; and what they ask of service and ledger.

Why: ``serve`` and ``worker`` must be watched in the same way, and the rooms that work know nothing
of it.

Promises: ``Watching.hook`` never raises; one that fails does not keep the event from the others.
What the ledger is asked for a scrape is remembered for some seconds, and nothing is asked while it
is known to be away.

Look next: ``nemflow.telemetry``; docs/telemetry.md.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from nemflow._version import __version__
from nemflow.errors import MissingExtra, NemflowError
from nemflow.service import health
from nemflow.store import numbers
from nemflow.telemetry import logs
from nemflow.telemetry.metrics import MOST_SENDERS, Metrics, Port, Values

if TYPE_CHECKING:
    from nemflow.events import Event
    from nemflow.jobs.breaker import Breaker
    from nemflow.service.context import Context
    from nemflow.settings import Settings
    from nemflow.store import Store

T = TypeVar("T")
log = logging.getLogger(__name__)
_LABEL = re.compile(r'="([^"]*)"')
PORT = 8700  #: of the first worker process
_STATES_SECONDS, _HEARD_SECONDS = 5.0, 30.0


class Watching:
    """The hook of a process, with what it feeds."""

    def __init__(self, chosen: Settings) -> None:
        """Nothing is opened but the way to a trace collector, when one is set."""
        self.metrics = Metrics(__version__)
        self._chosen = chosen
        self._port: Port | None = None
        self._told: list[Callable[[Event], None]] = [self.metrics, logs.lines]
        self._spans: Any = None
        if chosen.on("tracing"):
            try:
                from nemflow.telemetry.spans import Spans
            except ModuleNotFoundError as error:
                raise MissingExtra("Tracing", "tracing") from error
            self._spans = Spans(chosen.text("tracing.endpoint") or "", __version__)
            self._told.append(self._spans)

    def hook(self, event: Event) -> None:
        """Tell everybody; whoever fails is counted, and the others are told."""
        for each in self._told:
            try:
                each(event)
            except Exception:
                self.metrics.failed()
                log.exception("An event could not be told.")

    def listen(self) -> int | None:
        """Tell the numbers on a port of this process; which, None: they are off."""
        if not self._chosen.on("metrics"):
            return None
        host = self._chosen.text("metrics.host") or "127.0.0.1"
        self._port = Port(self.metrics, host, self._chosen.number("metrics.port", PORT))
        if self._port.port is not None:
            log.info("Metrics are on http://%s:%s/metrics", host, self._port.port)
        return self._port.port

    def close(self) -> None:
        """Send what is left."""
        if self._port is not None:
            self._port.close()
        if self._spans is not None:
            self._spans.close()


def log_as(chosen: Settings) -> None:
    """Write lines as the settings ask for."""
    logs.set_up(chosen.text("log.format") or "auto", chosen.text("log.level") or "info")


def of_process(
    stores: Mapping[str, Store], breakers: Callable[[], Mapping[str, Breaker]]
) -> Callable[[], dict[str, Values]]:
    """What every process knows of itself: connections, and what is away."""

    def asked() -> dict[str, Values]:
        used = {name: store.backend.connections() for name, store in stores.items()}
        told = {name: found for name, found in used.items() if found is not None}
        return {
            "nemflow_pool_connections": [((name,), found[0]) for name, found in told.items()],
            "nemflow_pool_size": [((name,), found[1]) for name, found in told.items()],
            "nemflow_breaker_open": [
                ((name,), float(each.open)) for name, each in breakers().items()
            ],
        }

    return asked


def of_service(context: Context) -> Callable[[], dict[str, Values]]:
    """What the service asks of ledger, queue and spool when somebody scrapes."""
    remembered: dict[str, tuple[float, Any]] = {}

    def lately(name: str, seconds: float, ask: Callable[[], T]) -> T:
        now = time.monotonic()
        if name not in remembered or now - remembered[name][0] > seconds:
            remembered[name] = now, ask()
        found: T = remembered[name][1]
        return found

    def heard(of: str) -> list[numbers.Heard]:
        backend = context.store.backend
        return lately(
            of,
            _HEARD_SECONDS,
            lambda: backend.look(lambda conn: numbers.heard(conn, backend, of, most=MOST_SENDERS)),
        )

    def of_ledger() -> dict[str, Values]:
        store = context.store
        waiting = store.backlog()
        states = lately("states", _STATES_SECONDS, lambda: store.backend.look(numbers.by_state))
        senders = heard("sender")
        lanes = waiting.lanes
        return {
            "nemflow_backlog_files": [
                ((lane,), lanes[lane].files if lane in lanes else 0) for lane in _LANES
            ],
            "nemflow_backlog_bytes": [
                ((lane,), lanes[lane].bytes if lane in lanes else 0) for lane in _LANES
            ],
            "nemflow_backlog_oldest_seconds": [
                ((lane,), lanes[lane].oldest_seconds if lane in lanes else 0.0) for lane in _LANES
            ],
            "nemflow_backlog_working": [((), waiting.working)],
            "nemflow_drained_per_second": [((), waiting.drained_per_second)],
            "nemflow_ledger_deliveries": [
                ((state,), states.get(state, 0)) for state in sorted({*states, "dead"})
            ],
            "nemflow_channel_last_success_timestamp_seconds": [
                ((each.name,), each.last) for each in heard("channel")
            ],
            "nemflow_sender_last_success_timestamp_seconds": [
                ((each.name,), each.last) for each in senders
            ],
            "nemflow_sender_usual_gap_seconds": [((each.name,), each.gap) for each in senders],
            "nemflow_problems_open": [
                ((kind,), count) for kind, count in store.open_problems().items()
            ],
        }

    def asked() -> dict[str, Values]:
        found: dict[str, Values] = {}
        breaker = context.breakers.get("store")
        with suppress(NemflowError):
            if breaker is None or not breaker.open:
                found |= of_ledger()
        if context.depth is not None:
            with suppress(NemflowError):
                found["nemflow_queue_messages"] = [
                    ((lane,), count) for lane, count in context.depth().items()
                ]
        if context.intake is not None:
            with suppress(NemflowError):
                used = context.intake.spool.usage(max_age=10)
                found["nemflow_spool_files"] = [((), used.files)]
                found["nemflow_spool_bytes"] = [((), used.bytes)]
                found["nemflow_spool_kept_bytes"] = [((), used.kept_bytes)]
                found["nemflow_spool_free_bytes"] = [((), used.free_bytes)]
                limit = context.intake.spool.limits.free_bytes
                found["nemflow_spool_free_limit_bytes"] = [((), limit)]
        for name, _, _, values in health.counters(context):
            found[f"nemflow_{name}"] = [
                (tuple(_LABEL.findall(labels)), value) for labels, value in values
            ]
        return found

    return asked


_LANES = ("urgent", "normal", "bulk")
