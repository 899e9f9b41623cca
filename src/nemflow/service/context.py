"""What the routes may use, given to them by whoever starts the service.

Why: the routes know no settings; a test gives them a store in a temporary folder, the program
gives them everything.

Look next: ``app.py``, which keeps it; ``nemflow.cli.serving``, which makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nemflow.intake.accepting import AcceptLimits
from nemflow.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from nemflow.events import Hook
    from nemflow.jobs.breaker import Breaker
    from nemflow.jobs.side import Side
    from nemflow.pipeline.delivering import Delivering
    from nemflow.service.auth import Keyring
    from nemflow.service.intake import Intake
    from nemflow.service.limiting import RateLimit
    from nemflow.store import Store


@dataclass(slots=True)
class Context:
    """Everything the routes use."""

    store: Store
    keyring: Keyring
    limits: AcceptLimits = field(default_factory=AcceptLimits)
    intake: Intake | None = None  #: takes uploads; None: this service only answers questions
    hook: Hook | None = None  #: called with events of requests, uploads, undo, redo and replay
    metrics: Metrics = field(default_factory=Metrics)  #: what /metrics tells
    depth: Callable[[], dict[str, int]] | None = None  #: messages in the broker, by lane
    #: name -> raises a ``NemflowError`` when that part cannot work now; for /readyz
    ready: dict[str, Callable[[], None]] = field(default_factory=dict)
    #: optional parts of the API that are on; see nemflow.settings.features
    features: frozenset[str] = frozenset({"uploads", "metrics", "docs"})
    #: name of a part (``store``, ``queue``) -> its breaker; open: /readyz is red, and without the
    #: store nothing under /v1 is tried
    breakers: dict[str, Breaker] = field(default_factory=dict)
    rate: RateLimit | None = None  #: how often a key may ask; None: as often as it likes
    side: Side | None = None  #: Redis beside the queue; None: there is none
    recalled: int = 0  #: answers about an NMI that Redis gave
    how: Delivering | None = None  #: how deliveries are loaded; where originals are archived
    participant: str | None = None
    review_after: int = 140
    hook_key: str | None = None  #: setting webhooks.key: what secrets of webhooks come from
    hook_hosts: str | None = None  #: setting webhooks.hosts: the only hosts they may name
