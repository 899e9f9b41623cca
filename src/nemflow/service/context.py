"""What the routes may use, given to them by whoever starts the service.

Why: the routes know no settings; a test gives them a store in a temporary folder, the program
gives them everything.

Look next: ``app.py``, which keeps it; ``nemflow.cli.serving``, which makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nemflow.events import Hook
    from nemflow.service.auth import Keyring
    from nemflow.service.intake import Intake
    from nemflow.store import Store


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What one caller may cost."""

    upload_bytes: int = 256 * 2**20  #: of one file, as sent
    files: int = 100  #: in one upload
    uploads: int = 64  #: at the same time
    floor_bytes_per_second: int = 1024  #: over ``floor_seconds``
    floor_seconds: int = 30
    upload_seconds: int = 900  #: of one upload, all in all
    wait_seconds: int = 120  #: longest ``?wait=``
    page: int = 1000  #: most rows of a list
    waiting_files: int = 100_000  #: more waiting for loading: uploads are refused for a while
    waiting_bytes: int = 20 * 2**30


@dataclass(slots=True)
class Context:
    """Everything the routes use."""

    store: Store
    keyring: Keyring
    limits: ServiceLimits = field(default_factory=ServiceLimits)
    intake: Intake | None = None  #: takes uploads; None: this service only answers questions
    hook: Hook | None = None  #: called with events of undo, redo and replay
    #: name -> raises a ``NemflowError`` when that part cannot work now; for /readyz
    ready: dict[str, Callable[[], None]] = field(default_factory=dict)
    participant: str | None = None
    review_after: int = 140
