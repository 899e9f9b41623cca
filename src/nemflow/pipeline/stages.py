"""When check, load and publish of one attempt began and ended.

Why: whoever waits for a file wants to see where the time goes; the three overlap (the next texts
are checked while the last are appended), so they cannot simply follow each other on a clock.

Promises: ``check`` is reading and the rules, ``load`` is appending, ``publish`` is what makes it
visible, with its COMMIT. Each has its first beginning, its last end, and how long it was busy.
Noting costs two looks at a clock.

Look next: ``delivering.py``, which puts them on the timeline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from nemflow.store.tables import MARKET_OFFSET

T = TypeVar("T")
NAMES: Final = ("check", "load", "publish")


@dataclass(slots=True)
class Stage:
    """One of them."""

    began: datetime
    ended: datetime
    busy: float = 0.0  #: seconds; less than between both when it was interrupted
    parts: int = 0


@dataclass(slots=True)
class Stages:
    """The three of one attempt; each stage is noted by one thread only."""

    found: dict[str, Stage] = field(default_factory=dict)
    _turned: tuple[datetime, float] | None = None

    @contextmanager
    def at(self, name: str) -> Iterator[None]:
        """The block is part of this stage."""
        began, clock = datetime.now(MARKET_OFFSET), time.perf_counter()
        try:
            yield
        finally:
            self._add(name, began, datetime.now(MARKET_OFFSET), time.perf_counter() - clock)

    def each(self, name: str, pieces: Iterator[T]) -> Iterator[T]:
        """The same pieces; making each is part of this stage."""
        while True:
            with self.at(name):
                try:
                    piece = next(pieces)
                except StopIteration:
                    return
            yield piece

    @contextmanager
    def loading(self) -> Iterator[None]:
        """The block is ``load`` up to where ``publishing`` is said last in it, then ``publish``."""
        began, clock = datetime.now(MARKET_OFFSET), time.perf_counter()
        self._turned = None
        yield
        ended, over = datetime.now(MARKET_OFFSET), time.perf_counter()
        turn, at = self._turned or (ended, over)
        self._add("load", began, turn, at - clock)
        if self._turned is not None:
            self._add("publish", turn, ended, over - at)

    def publishing(self) -> None:
        """From here on it is made visible; said again when the transaction is tried again."""
        self._turned = datetime.now(MARKET_OFFSET), time.perf_counter()

    def _add(self, name: str, began: datetime, ended: datetime, busy: float) -> None:
        stage = self.found.get(name)
        if stage is None:
            stage = self.found[name] = Stage(began, ended)
        stage.ended = ended
        stage.busy += busy
        stage.parts += 1
