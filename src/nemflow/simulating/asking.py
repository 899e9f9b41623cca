"""What the service says: states of deliveries, what waits, readings.

Why: the proof is made of answers that any client gets, over HTTP.

Promises: a service that is restarting is asked again for ``PATIENCE`` seconds; readings come as
Arrow, so that decimals are exact.

Look next: ``judging.py``, which compares the answers with what was sent.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from nemflow.errors import SystemFault, UsageError
from nemflow.simulating.sending import LATER, problem

if TYPE_CHECKING:
    import httpx

FINAL: Final = frozenset(
    {"loaded", "partly_loaded", "duplicate", "rejected", "dead", "cancelled", "undone"}
)
PATIENCE: Final = 60.0
FIRST_PATIENCE: Final = 3.0
_PAGE: Final = 1000
_PAUSE: Final = 0.5
_ARROW: Final = "application/vnd.apache.arrow.stream"

Row = dict[str, Any]


class Asking:
    """Asks one service; safe for several threads."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def newest(self) -> int:
        """The newest delivery's number; 0: none is there. Asked first, so not patiently."""
        rows = self._json("/v1/deliveries", {"limit": 1}, FIRST_PATIENCE)["deliveries"]
        return int(rows[0]["delivery"]) if rows else 0

    def backlog(self) -> Row:
        """What waits, and how fast it becomes less."""
        return self._json("/v1/backlog", {})

    def deliveries(self, after: int) -> list[Row]:
        """Every delivery with a number above ``after``, members of archives too."""
        found: list[Row] = []
        cursor: int | None = None
        while True:
            asked = {"limit": _PAGE} | ({} if cursor is None else {"cursor": cursor})
            page = self._json("/v1/deliveries", asked)
            rows = [row for row in page["deliveries"] if row["delivery"] > after]
            found += rows
            cursor = page["next"]
            if cursor is None or len(rows) < len(page["deliveries"]):
                return found

    def readings(self, nmi: str, start: date, end: date) -> pl.DataFrame | None:
        """Readings of one NMI from ``start`` to ``end``, both included; None: not known there."""
        answer = self._asked(
            f"/v1/nmis/{nmi}/readings",
            {"from": start.isoformat(), "to": end.isoformat()},
            {"Accept": _ARROW},
        )
        if answer.status_code == 404:
            return None
        return pl.read_ipc_stream(io.BytesIO(answer.content))

    def _json(self, where: str, asked: Mapping[str, Any], patience: float = PATIENCE) -> Row:
        answer = self._asked(where, asked, {}, patience)
        if not answer.is_success:
            raise SystemFault(problem(answer))
        return dict(answer.json())

    def _asked(
        self,
        where: str,
        asked: Mapping[str, Any],
        headers: Mapping[str, str],
        patience: float = PATIENCE,
    ) -> httpx.Response:
        """The answer, 2xx or 404. Raises SystemFault, UsageError (a key that may not)."""
        import httpx

        until = time.monotonic() + patience
        while True:
            try:
                answer = self._client.get(where, params=asked, headers=headers)
                if answer.is_success or answer.status_code == 404:
                    return answer
                why = problem(answer)
                if answer.status_code not in LATER:
                    raise UsageError(why)
            except httpx.TransportError as error:
                why = f"{self._client.base_url} does not answer: {error or type(error).__name__}."
            if time.monotonic() > until:
                raise SystemFault(why)
            time.sleep(_PAUSE)
