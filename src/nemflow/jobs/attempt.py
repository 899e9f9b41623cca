"""One attempt at one delivery: claim, process, settle.

Why: whatever happens in between (an error, a lost lease, a stop, a kill), the ledger must end up
with the truth, and one place must see to that.

Promises: the attempt is counted before it begins; the lease is renewed as long as the work moves,
and whoever does not stop when it has run out is told of, so that its process can be ended; a
transient error brings the delivery back later, with a pause that grows and is not the same for all;
any other error, and the last attempt's, makes it ``dead``. When the ledger itself cannot be reached
nothing is said, and the lease runs out.

Look next: ``nemflow.store.work`` for the ledger's side, ``worker.py`` for who calls this.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nemflow import events, failpoints
from nemflow.errors import NemflowError, SpoolFault, StoreError, StoreFull, StoreTaken
from nemflow.events import tell
from nemflow.pipeline import delivering
from nemflow.pipeline.ahead import look_ahead
from nemflow.pipeline.loading import new_token
from nemflow.pipeline.outcome import Counts, LoadSummary
from nemflow.store import work
from nemflow.store.tables import MARKET_OFFSET

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nemflow.events import Hook, Progress
    from nemflow.intake.spool import Spool
    from nemflow.jobs.pace import Working
    from nemflow.pipeline.delivering import Delivering
    from nemflow.store import Store

T = TypeVar("T")
log = logging.getLogger(__name__)


#: Of the grace time so much is left for handing back what could not be finished.
HAND_BACK_SECONDS: Final = 5.0
#: So long an original that cannot be read costs its delivery no attempt.
SPOOL_AWAY_SECONDS: Final = 86_400.0
_JOIN_SECONDS = 5.0
_LIVE_SECONDS = 1.0
#: Is told how far a delivery is: its number, plain values.
Live = Callable[[int, dict[str, Any]], None]


class Attempt:
    """One attempt; ``run`` in one thread, ``abort`` and ``hand_back`` from any."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        number: int,
        how: Delivering,
        working: Working,
        *,
        token: str | None = None,
        hook: Hook | None = None,
        live: Live | None = None,
        alive: Callable[[], object] | None = None,
        wedged: Callable[[Attempt], object] | None = None,
    ) -> None:
        """Nothing happens before ``run``.

        Args:
            store: the store.
            spool: where the original lies.
            number: of the delivery.
            how: see ``Delivering``.
            working: how it is paced.
            token: of the lease; None: a new one.
            hook: called with each event.
            live: told of progress about once a second, sooner than the ledger; never raises.
            alive: called with each beat, as long as the work moves.
            wedged: called when the work goes on, or stands still, though its lease has run out.
        """
        self.number = number
        self.token = token or new_token()
        self._store = store
        self._spool = spool
        self._how = how
        self._working = working
        self._hook = hook
        self._live = live
        self._alive = alive
        self._wedged = wedged
        self._shown_at = -float("inf")  #: when ``live`` was told, by the monotonic clock
        self._over = threading.Event()  #: nothing more to renew
        self._lost = False  #: somebody else has it now
        self._aborted = False  #: we were told to stop
        self._progress: Progress | None = None
        self._moved = time.monotonic()
        self._work: work.Work | None = None  #: once it is claimed
        self._about = events.About(number)
        self._began = datetime.now(MARKET_OFFSET)

    def run(self) -> str | None:
        """Do it; returns the state it led to, None when there was nothing to do or it was lost.

        Raises:
            StoreError: the ledger cannot be reached; it will find out by itself.
        """
        seconds = float(self._working.lease_seconds)
        began = datetime.now(MARKET_OFFSET)
        taken = self._ledger(
            lambda conn: work.take(
                conn, self._store.backend, self.number, self.token, seconds,
                most=self._working.attempts,
            )
        )  # fmt: skip
        self._told_of_claim(taken)
        if taken.work is None:
            return None
        failpoints.reach("job-claimed")
        self._work, self._began = taken.work, began
        about = self._about = about_of(taken.work)
        scene = events.Scene(about.request, about.trace, about.who, about.delivery)
        before = events.SCENE.set(scene)
        try:
            tell(self._hook, events.AttemptBegan(
                about, taken.work.attempt, began, taken.work.received_at
            ))  # fmt: skip
            return self._run(taken.work.attempt)
        finally:
            events.SCENE.reset(before)
            self._look_ahead()

    def _run(self, attempt: int) -> str | None:
        """What was claimed."""
        heart = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._renew,),
            name=f"lease-{self.number}",
            daemon=True,
        )
        heart.start()
        try:
            settled = delivering.process(
                self._store,
                self._spool,
                self.number,
                token=self.token,
                how=self._how,
                beat=self._beat,
                hook=self._hook,
                about=self._about,
            )
        except Exception as error:  # noqa: BLE001 - the ledger is told
            return self._failed(error, attempt)
        finally:
            self._over.set()
            heart.join(_JOIN_SECONDS)  # it may wait for a database that is away
        self._ended(settled.state, settled.reason)
        self._final(settled.state, settled.reason, settled.outcome)
        return settled.state

    def _look_ahead(self) -> None:
        """Between this attempt and the next, see what is in some of those that wait."""
        with contextlib.suppress(NemflowError):  # whatever it is, the next attempt meets it too
            look_ahead(
                *(self._store, self._spool, self._how),
                hook=self._hook,
                stopped=lambda: self._aborted,
            )

    def abort(self) -> None:
        """Have it stop at its next sign of life, and be handed back."""
        self._aborted = True

    def hand_back(self) -> bool:
        """Give it back now, finished or not, not counted; what it still does is refused."""
        self._aborted = True
        failpoints.reach("job-hand-back")
        given = self._ledger(
            lambda conn: work.hand_back(conn, self._store.backend, self.number, self.token)
        )
        failpoints.reach("job-handed-back")
        return given

    # -- while it runs ------------------------------------------------------------------------

    def _beat(self, progress: Progress) -> bool:
        """Note how far it is; False: stop."""
        if progress != self._progress:
            self._progress, self._moved = progress, time.monotonic()
            if self._live is not None and self._moved - self._shown_at >= _LIVE_SECONDS:
                self._shown_at = self._moved
                self._live(self.number, _shown(progress))
        return not (self._lost or self._aborted)

    def _renew(self) -> None:
        """Renew the lease until the attempt is over, as long as it moves; then see that it ends."""
        self._renew_while_it_moves()
        if not self._over.wait(self._working.lease_seconds) and self._wedged is not None:
            self._wedged(self)

    def _renew_while_it_moves(self) -> None:
        told: Progress | None = None
        while not self._over.wait(self._working.beat_seconds):
            failpoints.reach("job-beat")
            still = time.monotonic() - self._moved
            if still > self._working.stuck_seconds:
                log.error("Delivery %s has not moved for %.0f s.", self.number, still)
                return
            if self._alive is not None:
                self._alive()
            now = self._progress
            said = None if now is None or now is told else _shown(now)
            try:
                held = self._ledger(functools.partial(self._said, said))
            except StoreError as error:
                log.warning("The lease of delivery %s is not renewed: %s", self.number, error)
                continue
            told = now
            if not held:
                self._lost = True
                return

    def _said(self, said: dict[str, Any] | None, conn: sa.Connection) -> bool:
        return work.progress(
            conn, self._store.backend, self.number, self.token,
            progress=said, seconds=self._working.lease_seconds,
        )  # fmt: skip

    # -- when it fails ------------------------------------------------------------------------

    def _failed(self, error: Exception, attempt: int) -> str | None:
        """Tell the ledger; returns the state it led to, None when the delivery is not ours."""
        if self._aborted:
            self.hand_back()
            self._ended("queued")
            return "queued"
        failpoints.reach("job-failed")
        code = error.code if isinstance(error, NemflowError) else type(error).__name__
        why = f"{code}: {error}"
        if not isinstance(error, NemflowError):
            log.error("Delivery %s failed.", self.number, exc_info=error)
        waits = None if self._work is None else pause_of_spool(error, self._work, self._working)
        if waits is not None or (may_pass(error) and attempt < self._working.attempts):
            seconds = pause(attempt, self._working) if waits is None else waits
            held = self._ledger(
                lambda conn: work.retry_later(
                    conn, self._store.backend, self.number, self.token,
                    error=why, seconds=seconds, counted=waits is None,
                )
            )  # fmt: skip
            state = "waiting_retry"
            if held:
                log.warning("Delivery %s is tried again in %.0f s: %s", self.number, seconds, why)
                tell(self._hook, events.RetryScheduled(self._about, attempt, code, seconds))
        else:
            held = self._ledger(
                lambda conn: work.settle(
                    conn, self._store.backend, self.number, self.token, "dead", error=why
                )
            )
            state = "dead"
            if held:
                self._final(state, code)
        self._ended(state if held else "lost", code)
        if isinstance(error, StoreError) and not isinstance(error, StoreTaken):
            raise error  # for the breaker
        return state if held else None

    # -- what is told -------------------------------------------------------------------------

    def _told_of_claim(self, taken: work.Taken) -> None:
        """What the claim has found on its way."""
        known = taken.work or taken.dead
        if known is None:
            return
        if taken.lost is not None:
            tell(self._hook, events.LeaseExpired(about_of(known), taken.lost))
        if taken.dead is not None:
            self._work, self._about = known, about_of(known)
            self._final("dead", work.POISON)

    def _ended(self, outcome: str, reason: str = "") -> None:
        now = datetime.now(MARKET_OFFSET)
        attempt = 0 if self._work is None else self._work.attempt
        ended = events.AttemptFinished(self._about, attempt, self._began, now, outcome, reason)
        tell(self._hook, ended)

    def _final(self, state: str, reason: str, outcome: LoadSummary | None = None) -> None:
        done = self._work
        if done is None:
            return
        days, reads = (Counts(), Counts()) if outcome is None else (outcome.days, outcome.reads)
        since = datetime.now(MARKET_OFFSET) - done.received_at
        final = events.DeliveryFinished(
            *(self._about, state, "" if state in ("loaded", "duplicate") else reason),
            *(done.size, done.attempt, round(max(0.0, since.total_seconds()), 3)),
            *(0 if outcome is None else len(outcome.files),),
            *(days.read, days.stored, days.unchanged, days.rejected),
            *(reads.read, reads.stored, reads.unchanged, reads.rejected),
            dry_run=done.dry_run,
        )
        tell(self._hook, final)

    def _ledger(self, act: Callable[[sa.Connection], T]) -> T:
        return self._store.backend.transact(act)


def about_of(found: work.Work) -> events.About:
    """A claimed delivery as events name it."""
    return events.About(
        *(found.delivery, found.trace, found.request, found.api_key),
        *(found.channel, found.sender, found.lane),
    )


def may_pass(error: Exception) -> bool:
    """Whether another attempt may succeed: a disk may have been given room, or be back."""
    if isinstance(error, NemflowError):
        return error.transient or isinstance(error, StoreFull | SpoolFault)
    return isinstance(error, OSError | MemoryError)


def pause(attempt: int, working: Working) -> float:
    """Seconds until the attempt after this one: doubled each time, half of it by chance."""
    most = min(working.retry_most_seconds, working.retry_seconds * 2.0 ** (attempt - 1))
    return most * random.uniform(0.5, 1.0)  # noqa: S311 - only to spread them


def pause_of_spool(error: Exception, found: work.Work, working: Working) -> float | None:
    """Seconds until an original that cannot be read is tried again, without an attempt used up.

    A share that is gone says nothing about the file: it is tried for a day, with pauses of a
    quarter of the time since it was received, at most ``retry_most_seconds``. None: it is no such
    error, or the day is over.
    """
    since = (datetime.now(MARKET_OFFSET) - found.received_at).total_seconds()
    if not isinstance(error, SpoolFault) or since > SPOOL_AWAY_SECONDS:
        return None
    most = min(working.retry_most_seconds, max(working.retry_seconds, since / 4))
    return most * random.uniform(0.5, 1.0)  # noqa: S311 - only to spread them


def _shown(progress: Progress) -> dict[str, Any]:
    """Progress as the ledger keeps it."""
    total = progress.bytes_total
    percent = None if not total else min(100, round(100 * progress.bytes_done / total))
    return {
        "files": progress.files_done,
        "days": progress.days_done,
        "bytes": progress.bytes_done,
        "bytes_total": total,
        "percent": percent,
    }
