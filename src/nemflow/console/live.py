"""Answers of the store for all who look: asked once, shared, never older than a moment.

Why: ten people looking at the overview during an outage must not make it worse; and a question
that takes a second must not stop the event loop for anybody.

Promises: one question at a time per key, in a thread; who asks while it is being answered gets the
same answer; an answer is kept for the seconds given, and an error is not kept.

Look next: ``frame.live``, which shows such an answer and renews it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")
_MOST_KEPT = 500


class Shared:
    """Answers by key."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[float, Any]] = {}
        self._asking: dict[Hashable, asyncio.Task[Any]] = {}

    async def get(self, key: Hashable, seconds: float, ask: Callable[[], T]) -> T:
        """The answer of ``ask``, run in a thread; at most ``seconds`` old. Raises what it does."""
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept[0] < seconds:
            found: T = kept[1]
            return found
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key, ask))
            self._asking[key] = task
        answer: T = await asyncio.shield(task)
        return answer

    def forget(self) -> None:
        """Somebody changed something: everything is asked anew."""
        self._kept.clear()

    async def _ask(self, key: Hashable, ask: Callable[[], Any]) -> Any:
        try:
            found = await asyncio.to_thread(ask)
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[key] = time.monotonic(), found
            return found
        finally:
            self._asking.pop(key, None)
