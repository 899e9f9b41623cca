"""The intake and query service over HTTP: thin routes over the functions the command line uses.

Why: files come from elsewhere, and readings are asked for from elsewhere.

Promises: a success answer to an upload means the bytes and the ledger row are on disk; a request
never parses a file; every error is a problem document (RFC 9457) with a stable code; nothing is
answered on other than loopback addresses without API keys.

The public names::

    create(context) -> FastAPI     # in app.py
    Context                        # what the routes may use: store, keyring, limits, intake

Look next: ``app.py`` (all routes), ``problems.py`` (errors), ``docs/service.md`` (for callers).
"""

from __future__ import annotations
