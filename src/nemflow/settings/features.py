"""What can be switched on and off: each way in, and each optional part of the service.

Why: an operator must be able to run an API that takes no uploads, or a service without console,
by a word in the settings; and every part must ask the same question in the same way.

Promises: a part is on when its flag is, and what it needs to be told is told; ``why_off`` says
which of the two is missing. A part asks ``Settings.on("folder")`` and nothing else.

Look next: ``nemflow serve`` prints what is on; ``words.py`` makes the settings of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that can be left out."""

    name: str  #: the setting is ``features.<name>``
    what: str  #: what it is, as half a sentence
    needs: str | None = None  #: the key of the setting without which it is off anyway
    usual: bool = True  #: whether it is on when nothing is said

    @property
    def key(self) -> str:
        """``features.folder``."""
        return f"features.{self.name}"


#: Every part that can be left out, in the order they are printed.
FEATURES: Final = (
    Feature("uploads", "uploads over HTTP (POST and PUT /v1/deliveries)"),
    Feature("folder", "the drop folder", needs="folder.path"),
    Feature("sweep", "the scheduled sweep of a folder", needs="sweep.path"),
    Feature("metrics", "/metrics for Prometheus"),
    Feature("webhooks", "webhooks are told of what happens"),
    Feature("tracing", "spans sent to an OTLP collector", needs="tracing.endpoint"),
    Feature("docs", "/docs and /openapi.json"),
    Feature(
        "console", "the web console at /console, in one process (serve --console)", usual=False
    ),
)
