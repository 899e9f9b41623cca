"""Where a store is, as a path and as it may be shown.

Why: ``doctor`` and a dry run must know whether there is a store without making one, and a
password in a URL is nobody else's business.

Look next: :func:`nemflow.store.open_store`, which opens what is named.
"""

from __future__ import annotations

import re
from pathlib import Path

#: Parts of a URL's query that are secrets.
_SECRETS = re.compile(r"(?i)([?&][^=&]*(?:password|secret|token|key)=)[^&]*")


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite store, given as a URL or a bare path; None for any other store."""
    if "://" not in url:
        return Path(url)
    scheme, _, rest = url.partition("://")
    if not scheme.startswith("sqlite") or not rest.startswith("/") or ":memory:" in rest:
        return None
    return Path(rest[1:].partition("?")[0])


def without_password(url: str) -> str:
    """The URL with ``***`` in place of a password, also of one in its query."""
    scheme, found, rest = url.partition("://")
    if not found:
        return url
    login, at, place = rest.rpartition("@")
    if at:
        rest = f"{login.partition(':')[0]}:***@{place}"
    return f"{scheme}://" + _SECRETS.sub(r"\1***", rest)
