"""Spans for OpenTelemetry: one trace from the request to the committed rows.

Why: where did the time of this one file go, across API, broker and worker?

Promises: spans are made of events when they are over, with the times of the events; the ids of a
delivery's spans follow from its traceparent in the ledger, so API and worker agree without telling
each other; a further attempt is a span of its own, linked to the one before, and none stretches
over the pause between them. A collector that is away costs nothing but its spans.

Look next: ``events.Trace``; the tests' receiver shows a whole trace.
"""

from __future__ import annotations

import hashlib
import os
import socket
from datetime import datetime
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from nemflow import events
from nemflow.events import Event, Trace, trace_of

#: Every span, and what it stands for.
SPANS: Final = {
    "METHOD route": "a request; its parent is the caller's span, when it sends a traceparent",
    "receive": "a delivery becomes safe: spool and ledger",
    "wait": "from received to its first claim",
    "attempt": "a worker's attempt; a further one links to the one before",
    "inspect": "what is in it",
    "load": "parse, append, commit: its end is the commit of the last rows",
    "settle": "acknowledge, archive or delete the original",
}
_BAD = ("dead", "lost", "waiting_retry")


class Spans:
    """The hook that makes spans, and their way to a collector."""

    def __init__(self, endpoint: str, version: str) -> None:
        """``endpoint``: of OTLP over HTTP, e.g. ``http://127.0.0.1:4318/v1/traces``."""
        self._resource = Resource.create(
            {
                "service.name": "nemflow",
                "service.version": version,
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
        )
        self._scope = InstrumentationScope("nemflow", version)
        self._sent = BatchSpanProcessor(
            OTLPSpanExporter(endpoint, timeout=5), schedule_delay_millis=1000
        )

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        self._sent.shutdown()  # type: ignore[no-untyped-call]

    def __call__(self, event: Event) -> None:
        """Make the span that is over with this event, if one is."""
        match event:
            case events.RequestAnswered():
                name = f"{event.method} {event.route}"
                self._end(
                    name, trace_of(event.trace), event.began_at, event.ended_at,
                    parent=trace_of(event.parent), kind=SpanKind.SERVER,
                    bad=event.status >= 500, status=event.status, request=event.request,
                    who=event.who,
                )  # fmt: skip
            case events.DeliveryReceived(about=about):
                root = trace_of(about.trace)
                by_request = about.request is not None
                own = _of(root, about, "receive") if by_request else root
                self._end(
                    "receive", own, event.began_at, event.ended_at,
                    parent=root if by_request else None, state=event.state, **_said(about),
                )  # fmt: skip
            case events.AttemptBegan(about=about, attempt=1):
                root = trace_of(about.trace)
                own = _of(root, about, "wait")
                self._end("wait", own, event.received_at, event.at, parent=root, **_said(about))
            case events.AttemptFinished(about=about, attempt=attempt):
                root = trace_of(about.trace)
                self._end(
                    "attempt", _of(root, about, attempt), event.began_at, event.ended_at,
                    parent=root, kind=SpanKind.CONSUMER, bad=event.outcome in _BAD,
                    before=_of(root, about, attempt - 1) if attempt > 1 else None,
                    attempt=attempt, outcome=event.outcome, reason=event.reason, **_said(about),
                )  # fmt: skip
            case events.StepFinished(about=about, step=step, attempt=attempt):
                root = trace_of(about.trace)
                self._end(
                    step, _of(root, about, f"{attempt}/{step}"), event.began_at, event.ended_at,
                    parent=_of(root, about, attempt), attempt=attempt, outcome=event.outcome,
                    **_said(about),
                )  # fmt: skip
            case _:
                pass

    def _end(
        self,
        name: str,
        own: Trace | None,
        began: datetime,
        ended: datetime,
        *,
        parent: Trace | None = None,
        before: Trace | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        bad: bool = False,
        **said: Any,
    ) -> None:
        if own is None:
            return
        span = ReadableSpan(
            name=name,
            context=_context(own),
            parent=None if parent is None else _context(parent),
            resource=self._resource,
            attributes={
                f"nemflow.{key}": value for key, value in said.items() if value not in (None, "")
            },
            links=[] if before is None else [Link(_context(before))],
            kind=kind,
            status=Status(StatusCode.ERROR if bad else StatusCode.UNSET),
            start_time=int(began.timestamp() * 1e9),
            end_time=int(ended.timestamp() * 1e9),
            instrumentation_scope=self._scope,
        )
        self._sent.on_end(span)


def _of(root: Trace | None, about: events.About, part: object) -> Trace | None:
    """The span of a part of a delivery's way: the same wherever it is asked for."""
    if root is None:
        return None
    named = f"{root.trace}/{root.span}/{about.delivery}/{part}"
    return Trace(root.trace, hashlib.sha256(named.encode()).hexdigest()[:16], root.sampled)


def _said(about: events.About) -> dict[str, Any]:
    return {
        "delivery": about.delivery,
        "channel": about.channel,
        "lane": about.lane,
        "sender": about.sender,
        "who": about.who,
        "request": about.request,
    }


def _context(of: Trace) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if of.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(of.trace, 16), int(of.span, 16), is_remote=False, trace_flags=flags)
