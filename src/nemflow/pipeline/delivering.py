"""Deliver: one received delivery, from its original in the spool to its final state.

How: inspect (what is in it, kept in the ledger before anything is loaded), check, load and publish
(by the very code of ``nemflow load``, the delivery itself being the top of what is loaded; see
``stages.py``), settle (the original is deleted or archived, or stays because something was
rejected). Each step is on the delivery's timeline with its times.

Promises: a delivery is one row with one number through all its attempts, and so is each member of
an archive; every transaction makes sure first that the delivery is still leased to our token, so a
worker that lost it publishes nothing more; what was taken in is final in the transaction that
publishes it. Killed at any moment, the next attempt, or ``clear_originals``, finishes the rest.

Look next: ``receiving.py`` for what comes before, ``reporting.py`` for what the sender is told.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nemflow import failpoints
from nemflow.errors import DataError, NemflowError, SpoolFault, StoreTaken, UsageError
from nemflow.events import SCENE, About, StepFinished, reason_of, tell
from nemflow.intake.archive import Limits
from nemflow.intake.blob import out_of_reach
from nemflow.mdff.asexml import XmlLimits
from nemflow.pipeline import large
from nemflow.pipeline import work as loads
from nemflow.pipeline.dry import DrySink
from nemflow.pipeline.inspecting import in_short, look_into
from nemflow.pipeline.outcome import LoadSummary
from nemflow.pipeline.reporting import acknowledge
from nemflow.pipeline.reviewing import Told
from nemflow.pipeline.sinks import StoreSink
from nemflow.pipeline.stages import Stages
from nemflow.store import dispatch, leases, resumed, timeline, told, work
from nemflow.store.review import AFTER_DAYS
from nemflow.store.tables import MARKET_OFFSET

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nemflow.events import Hook, Progress
    from nemflow.intake.spool import Spool
    from nemflow.pipeline.outcome import FileOutcome
    from nemflow.store import Store

#: After a larger delivery the store is tidied up at once (``Backend.settle``).
_SETTLED_BYTES = 1 << 20
_DRY_FILES, _DRY_FINDINGS = 1000, 100  #: of a dry run that are kept
#: So long ago a crash may have been.
_UNSETTLED = timedelta(days=7)
Beat = Callable[["Progress"], bool]


@dataclass(frozen=True, slots=True)
class Delivering:
    """How deliveries are loaded, as values that another process can be given."""

    limits: Limits = field(default_factory=Limits)
    xml_limits: XmlLimits = field(default_factory=XmlLimits)
    value_limits: Mapping[tuple[str, str], Decimal] = field(default_factory=dict)
    participant: str | None = None  #: ours; None: rules that need it are not checked
    review_after: int = AFTER_DAYS
    batch_bytes: int = loads.BATCH_BYTES
    chunk_bytes: int = large.PIECE_BYTES
    keep_after: Literal["delete", "archive", "keep"] = "delete"  #: the original, when it is loaded
    archive: Path | None = None  #: where to, with ``archive``
    outbox: Path | None = None  #: where acknowledgements of aseXML messages go; None: none are made
    lease_seconds: float = leases.LEASE.total_seconds()

    def __post_init__(self) -> None:
        """Raise UsageError when originals are to be archived nowhere."""
        if self.keep_after == "archive" and self.archive is None:
            raise UsageError(
                "Originals are to be archived, but no folder is given.",
                hint="Set spool.archive to a folder.",
            )

    @property
    def not_checked(self) -> tuple[str, ...]:
        """Rules that need to know who we are: F008 unless ``participant`` says it.

        N002 (is the NMI ours?) needs a list of our NMIs, which there is none of yet.
        """
        return ("N002",) if self.participant else ("F008", "N002")


@dataclass(frozen=True, slots=True)
class Settled:
    """Where a delivery's way has ended."""

    delivery: int
    state: str  #: loaded, partly_loaded, duplicate, rejected
    outcome: LoadSummary  #: what this attempt did; members of earlier attempts are not in it
    reason: str = ""  #: of what was not loaded whole: a rule id or the code of an error


def process(
    store: Store,
    spool: Spool,
    delivery: int,
    *,
    token: str,
    how: Delivering,
    beat: Beat | None = None,
    hook: Hook | None = None,
    about: About | None = None,
) -> Settled:
    """Take a claimed delivery to its final state.

    Args:
        store: the store.
        spool: where its original lies.
        delivery: its number; ``store.work.claim`` gave it to ``token``.
        token: of the claim.
        how: see ``Delivering``.
        beat: called with ``events.Progress`` as work goes on, in this thread; False: the lease is
            lost, stop.
        hook: called with each event of ``nemflow.events``, after its commit.
        about: the delivery as events name it; None: by its number only.

    Returns:
        Its final state; the ledger has it too.

    Raises:
        StoreTaken: the delivery is not, or no longer, leased to ``token``.
        NemflowError: it did not come to its end, and may with another attempt (the store or the
            spool is away). The delivery is still leased to ``token``; give it back with
            ``work.retry_later`` or ``work.hand_back``, which clear what is open.
    """
    row = store.backend.look(lambda conn: resumed.row_of(conn, delivery))
    if row.lease_token != token:
        raise _lost(delivery)
    way = _Way(store, row, token, how, hook=hook, about=about)
    try:
        if not spool.has(row.sha256):
            raise SpoolFault(
                f"The original of delivery {delivery} ({row.sha256[:12]}) is not in the spool.",
                hint="Is the spool's disk there? Else have the sender send it again.",
            )
        if row.inspected is None:
            way.inspect(spool)
        outcome = way.load(spool, beat, hook)
    except (DataError, UsageError) as error:  # another attempt would end the same way
        if out_of_reach(error):
            raise SpoolFault(f"The original of delivery {delivery}: {error}") from error
        state = "rejected" if isinstance(error, DataError) else "dead"
        way.give_up(state, error)
        outcome, reason = LoadSummary(()), error.code
    else:
        reason = _reason(outcome)
    state = way.end(outcome)
    with suppress(NemflowError):  # it is final: ``clear_originals`` finishes what is left
        way.settle(spool, state)
    return Settled(delivery, state, outcome, reason)


def clear_originals(store: Store, spool: Spool, how: Delivering, *, limit: int = 1000) -> int:
    """Finish what a crash left between publishing and settling; returns how many.

    For the reconciler: originals of loaded deliveries are deleted or archived after all, and
    messages are answered.
    """
    since = datetime.now(MARKET_OFFSET) - _UNSETTLED

    def left(conn: sa.Connection) -> set[int]:
        loaded = {number for number, _ in dispatch.leftovers(conn, limit)}
        return set(told.unsettled(conn, since, limit)) | (set() if keeps else loaded)

    keeps = how.keep_after == "keep"
    done = 0
    for number in sorted(store.backend.look(left)):
        row = store.backend.look(functools.partial(_row, number))
        way = _Way(store, row, "", how)
        with suppress(SpoolFault):  # a full archive must not hold back the others
            if spool.has(row.sha256):
                way.settle(spool, row.state)
            elif row.state in resumed.DONE_WITH:  # killed after the original was gone
                way.forget(spool, row.state)
            else:
                continue
            done += 1
    return done


def _row(number: int, conn: sa.Connection) -> resumed.Row:
    return resumed.row_of(conn, number)


class _Way:
    """One attempt of one delivery."""

    def __init__(
        self,
        store: Store,
        row: resumed.Row,
        token: str,
        how: Delivering,
        *,
        hook: Hook | None = None,
        about: About | None = None,
    ) -> None:
        self._hook = hook
        self._about = about or About(row.id)
        self._store = store
        self._row = row
        self._token = token
        self._how = how
        self._steps: list[dict[str, Any]] = []  #: over, and not on the timeline yet

    @contextmanager
    def _step(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a step; yields its detail. It gets to the timeline with what is written next."""
        began = datetime.now(MARKET_OFFSET)
        detail: dict[str, Any] = {}
        scene = SCENE.get()
        if scene is not None:
            scene.step = name
        try:
            yield detail
        except StoreTaken:
            raise  # the timeline is somebody else's now
        except BaseException as error:
            if not self._token:
                raise  # nobody's attempt: it is tried again and again until it works
            code = error.code if isinstance(error, NemflowError) else type(error).__name__
            self._note(name, began, code, {**detail, "error": str(error)[:1000]})
            with suppress(NemflowError):  # the store may be what failed
                self._transact(lambda _: True)
            raise
        outcome, stages = str(detail.pop("outcome", "ok")), detail.pop("stages", {})
        for each, stage in stages.items():
            busy = {"busy_seconds": round(stage.busy, 4)} if stage.parts > 1 else {}
            about = detail | busy if each == name else busy
            self._note(each, stage.began, outcome, about, ended=stage.ended)
        if name not in stages:
            self._note(name, began, outcome, detail)

    def _note(
        self,
        name: str,
        began: datetime,
        outcome: str,
        detail: Mapping[str, Any],
        *,
        ended: datetime | None = None,
    ) -> None:
        self._steps.append(
            {
                "name": name,
                "attempt": self._row.attempts,
                "began_at": began,
                "ended_at": ended or datetime.now(MARKET_OFFSET),
                "outcome": outcome,
                "detail": detail or None,
            }
        )

    def _transact(self, write: Callable[[sa.Connection], bool]) -> bool:
        """Write something, and the steps that are over; whether ``write`` said that it could."""
        steps = list(self._steps)

        def transaction(conn: sa.Connection) -> bool:
            done = write(conn)
            for step in steps:
                timeline.step(conn, self._row.id, **step)
            return done

        def happened(conn: sa.Connection) -> bool:
            return bool(steps) and resumed.has_step(conn, self._row.id, steps[0])

        done = self._store.backend.transact(transaction, happened=happened)
        del self._steps[: len(steps)]
        for each in steps:
            tell(
                self._hook,
                StepFinished(
                    self._about, each["name"], each["attempt"],
                    each["began_at"], each["ended_at"], each["outcome"],
                ),
            )  # fmt: skip
        return done

    def inspect(self, spool: Spool) -> None:
        """See what is in it, and keep that in the ledger."""
        with self._step("inspect") as detail:
            found = look_into(spool.path(self._row.sha256), self._row.name, self._how)
            detail.update(in_short(found))
        self._held(
            lambda conn: (
                work.describe(conn, self._row.id, self._token, found) and self._renewed(conn)
            )
        )
        failpoints.reach("delivery-inspected")

    def _renewed(self, conn: sa.Connection) -> bool:
        backend, seconds = self._store.backend, self._how.lease_seconds
        return work.progress(
            conn, backend, self._row.id, self._token, state="loading", seconds=seconds
        )

    def _held(self, write: Callable[[sa.Connection], bool]) -> None:
        """Write under our lease. Raises StoreTaken."""
        if not self._transact(write):
            raise _lost(self._row.id)

    def load(self, spool: Spool, beat: Beat | None, hook: Hook | None) -> LoadSummary:
        """Load it: the code of ``nemflow load``, under the delivery's own number."""
        row, how, store = self._row, self._how, self._store
        started, now, stages = time.perf_counter(), datetime.now(MARKET_OFFSET), Stages()
        with self._step("load") as detail:
            taken_up = None
            sink: StoreSink | DrySink = DrySink(store, now, how.review_after)
            if not row.dry_run:
                taken_up = self._taken_up()
                sink = StoreSink(store, self._token, now, how.review_after, taken_up)
            reviews = Told(store, sink)
            outcomes = loads.load_given(
                sink,
                [(spool.path(row.sha256), row.name)],
                self._load_how(now),
                size=row.size,
                hook=hook,
                progress=None if beat is None else functools.partial(_checked, row.id, beat),
                taken_up=taken_up,
                stages=stages,
            )
            summary = LoadSummary(
                tuple(reviews.with_reviews(outcomes)), row.dry_run, time.perf_counter() - started
            )
            detail.update(_account(summary), stages=stages.found)
            if row.dry_run:  # nothing of it is in the store, so its report is made of this
                detail["files"] = [_told(each) for each in summary.files[:_DRY_FILES]]
        if row.size > _SETTLED_BYTES:
            store.backend.settle()
        return summary

    def _taken_up(self) -> resumed.Resumed:
        """The delivery as the top of what is loaded, with what earlier attempts left below it."""
        row, backend = self._row, self._store.backend
        if not backend.look(lambda conn: resumed.has_members(conn, row.id)):
            return resumed.Resumed(row.id, row.name)
        return backend.transact(lambda conn: resumed.take_up(conn, backend, row, self._token))

    def _load_how(self, now: datetime) -> loads.How:
        row, how = self._row, self._how
        return loads.How(
            profile=None if row.profile == work.AUTO else row.profile,
            limits=how.limits,
            xml_limits=how.xml_limits,
            value_limits=dict(how.value_limits),
            participant=how.participant,
            now=now,
            sender=row.sender,
            channel=row.channel,
            review_after=how.review_after,
            batch_bytes=how.batch_bytes,
            chunk_bytes=how.chunk_bytes,
        )

    def give_up(self, state: str, error: NemflowError) -> None:
        """End it with an error that another attempt would meet again."""
        why = f"{error.code}: {error}" if state == "dead" else str(error)
        self._held(
            lambda conn: work.settle(
                conn, self._store.backend, self._row.id, self._token, state, error=why
            )
        )

    def end(self, outcome: LoadSummary) -> str:
        """Its final state; sets it where the load could not (a dry run)."""
        now = self._store.backend.look(lambda conn: resumed.row_of(conn, self._row.id))
        if now.state in work.FINAL:
            return now.state
        state = _together({each.state for each in outcome.files})
        errors = [each.error for each in outcome.files if each.error]
        why = errors[0] if errors and state == "rejected" else None
        if not outcome.files:
            why = "It holds nothing that could be loaded."
        self._held(
            lambda conn: work.settle(
                conn, self._store.backend, self._row.id, self._token, state, error=why
            )
        )
        return state

    def settle(self, spool: Spool, state: str) -> None:
        """Delete or archive the original of what is loaded; keep that of everything else."""
        failpoints.reach("delivery-published")
        how, row = self._how, self._row
        stays = state not in ("loaded", "duplicate") or how.keep_after == "keep"
        archived = how.keep_after == "archive" and how.archive is not None
        kept = "archived" if archived else "deleted"
        with self._step("settle") as detail:
            self._acknowledge(spool, state, detail)
            if not stays and archived and how.archive is not None:
                spool.copy(row.sha256, how.archive)
            detail.update(outcome=state, original=row.kept if stays else kept)
        removed = functools.partial(self._remove, spool, state, kept)
        self._transact(functools.partial(self._keep, spool) if stays else removed)

    def forget(self, spool: Spool, state: str) -> None:
        """Say that the original is gone, which it is."""
        self._transact(functools.partial(self._remove, spool, state, "deleted"))

    def _acknowledge(self, spool: Spool, state: str, detail: dict[str, Any]) -> None:
        """Answer the aseXML messages in it, while the original is there to be answered."""
        how, row = self._how, self._row
        if how.outbox is None or row.dry_run or state not in resumed.TAKEN_IN:
            return
        written = acknowledge(
            self._store,
            row.id,
            spool.path(row.sha256),
            how.outbox,
            limits=how.limits,
            xml_limits=how.xml_limits,
        )
        if written:
            detail["acknowledgements"] = [path.name for path in written[:100]]

    def _keep(self, spool: Spool, conn: sa.Connection) -> bool:
        """Set the original aside: it stays, and must not hold up what comes after it."""
        row = self._row
        self._store.backend.guard(conn, [row.sha256])
        if not dispatch.still_needed(conn, row.sha256, besides=row.id, by=dispatch.OPEN):
            spool.set_aside(row.sha256)
        return True

    def _remove(self, spool: Spool, state: str, kept: str, conn: sa.Connection) -> bool:
        """Remove the original unless somebody else needs it; nobody receives it meanwhile."""
        backend, row = self._store.backend, self._row
        backend.guard(conn, [row.sha256])
        if not work.settle(conn, backend, row.id, self._token, state, kept=kept):
            return False  # undone in between: it stays
        if not dispatch.still_needed(conn, row.sha256, besides=row.id):
            spool.delete(row.sha256)
            failpoints.reach("delivery-removed")
        return True


def _reason(outcome: LoadSummary) -> str:
    """Why it was not loaded whole, in one word; empty: it was."""
    if not outcome.files:
        return "empty"
    rules = sum((Counter(each.rules) for each in outcome.files), Counter())
    error = next((each.error for each in outcome.files if each.error), None)
    return reason_of(None if rules else error, dict(rules))


def _checked(delivery: int, beat: Beat, progress: Progress) -> None:
    """Tell how far it is; stop when the lease is lost."""
    if not beat(progress):
        raise _lost(delivery)


def _lost(delivery: int) -> StoreTaken:
    return StoreTaken(
        f"Delivery {delivery} was taken away from this worker.",
        hint="Stop working on it; nothing more of this attempt becomes visible.",
    )


def _together(states: set[str]) -> str:
    """The state that members add up to, as the ledger's."""
    if states == {"duplicate"}:
        return "duplicate"
    if states <= {"rejected"}:
        return "rejected"
    return "loaded" if states <= {"loaded", "duplicate"} else "partly_loaded"


def _told(outcome: FileOutcome) -> dict[str, Any]:
    """An outcome with not too many findings."""
    findings = None if outcome.findings is None else outcome.findings.head(_DRY_FINDINGS)
    return replace(outcome, findings=findings).to_dict()


def _account(summary: LoadSummary) -> dict[str, Any]:
    """What a load did, for the timeline."""
    return {
        "states": summary.states,
        "days": summary.days.to_dict(),
        "reads": summary.reads.to_dict(),
        "seconds": round(summary.seconds, 4),
    }
