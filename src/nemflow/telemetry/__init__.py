"""Numbers, lines and spans made of what happens.

Why: whoever runs the service must see rates, faults and ages without asking the ledger, and
follow one file from its upload to its rows.

Promises: only entry points know this room; the rooms that do the work emit ``nemflow.events``
through a hook they are given. Nothing here holds meter data, a key's secret or a file's name.

Look next: ``metrics.py`` (Prometheus), ``logs.py`` (structlog), ``spans.py`` (OpenTelemetry);
``nemflow.service.watching``, which puts them together; docs/telemetry.md.
"""
