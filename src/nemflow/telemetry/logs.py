"""Lines of the log: for eyes on a terminal, JSON elsewhere.

Why: at night somebody greps for a delivery, a request or a key and must find every line of it.

Promises: each line has the request, delivery, step, key and trace it belongs to, as far as there is
one; each delivery has one line when it ends, with its account; each request has one. No meter data,
no secrets, no names of files: events carry none, and of an exception that is not one of ours only
type and place are written, for its message may quote what it met.

Look next: ``nemflow.events.SCENE``, where a line learns what it belongs to.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final, TextIO

import structlog

from nemflow import events
from nemflow.errors import traced
from nemflow.events import SCENE, Event, Scene, trace_of

MARKET: Final = timezone(timedelta(hours=10))
#: Every field a line may have, and what it says.
FIELDS: Final = {
    "at": "when, market time",
    "level": "debug, info, warning, error",
    "logger": "the part of the program",
    "event": "what happened",
    "request": "X-Request-ID of the request it belongs to, or that brought the delivery",
    "trace": "trace id, 32 hexadecimal digits; the same from the request to the last row",
    "who": "name of the API key",
    "delivery": "number of the delivery",
    "step": "receive, inspect, load or settle",
    "state": "where a delivery came to",
    "reason": "rule id or error code of what was not loaded whole",
    "channel": "how a delivery came",
    "sender": "whose it is",
    "lane": "urgent, normal, bulk",
    "bytes": "as delivered",
    "attempts": "attempts begun",
    "attempt": "which attempt",
    "seconds": "how long it took; of a delivery since it was received",
    "files": "texts in a delivery",
    "days": "read=stored+unchanged+rejected, NMI-suffix-days",
    "reads": "read=stored+unchanged+rejected, register reads",
    "dry_run": "it was only tried out",
    "outcome": "how a step ended",
    "method": "of a request",
    "route": "of a request: the pattern, not the address",
    "status": "of a request",
    "code": "of a problem document",
    "part": "what is away or back: database, store, broker, redis",
    "exception": "type and place of a fault; the message of our own errors",
}
_QUIET = ("/livez", "/readyz", "/metrics")
_CHATTY = ("alembic", "uvicorn", "httpx", "httpcore", "dramatiq", "watchfiles", "opentelemetry")
log = logging.getLogger("nemflow")


def set_up(form: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Have everything that is logged in this process written as lines of ours.

    Args:
        form: text, json, or auto: text on a terminal, else JSON.
        level: debug, info, warning, error: the least that is written.
        stream: where to; None: standard error.
    """
    out = sys.stderr if stream is None else stream
    as_json = form == "json" or (form == "auto" and not out.isatty())
    last: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=out.isatty(), sort_keys=False)
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_placed],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # dramatiq says it too, in one line


def _placed(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A record as a line of ours."""
    record: logging.LogRecord = line["_record"]
    scene: Scene | None = getattr(record, "scene", None) or SCENE.get()
    said: dict[str, Any] = getattr(record, "said", {})
    out: dict[str, Any] = {
        "at": datetime.fromtimestamp(record.created, MARKET).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": line["event"],
        "_record": record,
        "_from_structlog": False,
    }
    if scene is not None:
        trace = trace_of(scene.trace)
        place = (scene.request, trace and trace.trace, scene.who, scene.delivery, scene.step)
        names = ("request", "trace", "who", "delivery", "step")
        out |= {name: value for name, value in zip(names, place, strict=True) if value is not None}
    out |= {name: value for name, value in said.items() if value not in (None, "")}
    if record.exc_info and record.exc_info[1] is not None:
        out["exception"] = "\n".join(traced(record.exc_info[1]))
    elif record.exc_text:  # from a child process, which has told no more either
        out["exception"] = record.exc_text
    return out


def lines(event: Event) -> None:
    """The hook that writes lines."""
    match event:
        case events.DeliveryReceived():
            _say(logging.INFO, "delivery received", event.about, step="receive",
                 state=event.state, bytes=event.bytes)  # fmt: skip
        case events.DeliveryFinished():
            _say(
                _WEIGHT.get(event.state, logging.WARNING), "delivery finished", event.about,
                state=event.state, reason=event.reason, bytes=event.bytes,
                attempts=event.attempts, seconds=event.seconds, files=event.files,
                days=_account(event, "days"), reads=_account(event, "reads"),
                dry_run=event.dry_run or None,
            )  # fmt: skip
        case events.StepFinished():
            seconds = round((event.ended_at - event.began_at).total_seconds(), 4)
            _say(logging.DEBUG, "step finished", event.about, step=event.step,
                 attempt=event.attempt, outcome=event.outcome, seconds=seconds)  # fmt: skip
        case events.LeaseExpired():
            _say(logging.WARNING, "lease expired", event.about, attempt=event.attempt)
        case events.RetryScheduled():
            _say(logging.WARNING, "tried again later", event.about, attempt=event.attempt,
                 reason=event.reason, seconds=round(event.seconds, 1))  # fmt: skip
        case events.BreakerChanged():
            _write(logging.WARNING, "away" if event.open else "back", {"part": event.name})
        case events.UploadRefused():
            trace = trace_of(event.trace)
            said = {"code": event.code, "request": event.request, "who": event.who}
            _write(logging.WARNING, "upload refused", said | {"trace": trace and trace.trace})
        case events.RequestAnswered():
            _request(event)
        case _:
            pass


_WEIGHT: Final = {
    "loaded": logging.INFO,
    "duplicate": logging.INFO,
    "dead": logging.ERROR,
}


def _request(event: events.RequestAnswered) -> None:
    trace = trace_of(event.trace)
    level = logging.DEBUG if event.route in _QUIET else logging.INFO
    _write(
        logging.ERROR if event.status >= 500 and event.status != 503 else level,
        "request",
        {
            "request": event.request,
            "trace": trace and trace.trace,
            "who": event.who,
            "method": event.method,
            "route": event.route,
            "status": event.status,
            "seconds": round((event.ended_at - event.began_at).total_seconds(), 4),
        },
    )


def _account(event: events.DeliveryFinished, of: str) -> str | None:
    read = getattr(event, f"{of}_read")
    if not read:
        return None
    parts = (getattr(event, f"{of}_{part}") for part in ("stored", "unchanged", "rejected"))
    return f"{read}={'+'.join(map(str, parts))}"


def _say(level: int, what: str, about: events.About, **said: Any) -> None:
    trace = trace_of(about.trace)
    place = {
        "request": about.request,
        "trace": trace and trace.trace,
        "who": about.who,
        "delivery": about.delivery,
        "channel": about.channel,
        "sender": about.sender,
        "lane": about.lane,
    }
    _write(level, what, place | said)


def _write(level: int, what: str, said: dict[str, Any]) -> None:
    log.log(level, what, extra={"said": said})
