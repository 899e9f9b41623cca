"""Asking a running service: its address, the API key, what it answers.

Why: ``top`` and ``tail`` ask again and again, and must go on when the service was away.

Promises: every way it can go wrong is one of ours: ``SystemFault`` when it does not answer or has
a fault (asking again may help), ``UsageError`` when it refuses the question.

Look next: ``top.py``, ``tail.py``, ``submitting.py``; docs/service.md.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from nemflow.cli.submitting import SERVER, in_words, key_header
from nemflow.errors import MissingExtra, SystemFault, UsageError

if TYPE_CHECKING:
    import httpx

ServerOption = Annotated[
    str | None,
    typer.Option("--server", help="Ask a running service instead of the store.", metavar="URL"),
]
_LATER = {408, 429, 500, 502, 503, 504, 507}


class Service:
    """A running service to be asked."""

    def __init__(self, url: str) -> None:
        """Raises MissingExtra, or UsageError when it is no URL."""
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise MissingExtra("Asking a service", "service") from error
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(f"--server {url!r} is no URL.", hint=f"For example {SERVER}")
        try:
            self._client: httpx.Client = httpx.Client(
                base_url=self.url, headers=key_header(), timeout=httpx.Timeout(30, connect=5)
            )
        except httpx.InvalidURL as error:
            raise UsageError(
                f"--server {url!r} is no URL.", hint=f"For example {SERVER}"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def ask(self, path: str, **params: Any) -> dict[str, Any]:
        """What it answers; parameters that are None are left out.

        Raises:
            SystemFault: it does not answer, or has a fault; asking again may help.
            UsageError: it refuses the question.
        """
        import httpx

        asked = {name: value for name, value in params.items() if value is not None}
        try:
            answer = self._client.get(path, params=asked)
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise SystemFault(
                f"{self.url} does not answer: {why}.", hint="Is it running? See nemflow serve."
            ) from error
        if not answer.is_success:
            why = in_words(answer)
            later = answer.status_code in _LATER or answer.status_code >= 500
            raise SystemFault(why) if later else UsageError(why)
        found: dict[str, Any] = answer.json()
        return found
