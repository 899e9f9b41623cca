"""Collect: from files in the drop folder to deliveries, and back to where their senders look.

Why: many senders can do no more than put a file somewhere. They must see there what became of it.

Promises: a file leaves the folder only after its bytes are safe in the spool and its delivery is in
the ledger; killed in between, it is taken again and is the same delivery, not a second one. While
the spool or the backlog is full the folder waits; nothing is dropped. A file that cannot be taken
or moved is told in the log with the reason, and tried again; it holds back no other, and ``check``
fails while that goes on.

A writer that was slower than the settle time goes on writing into ``taken/``: a file whose bytes
are no longer those that were taken goes back and is taken again, whole.

``taken/`` holds what is not final; names there begin with the delivery's number. What was loaded
goes to ``done/``, what was refused to ``rejected/``; refused and partly loaded ones get a report
beside them, as JSON and as CSV. A dead delivery waits in ``taken/``: it is for us to act.

Look next: ``nemflow.intake.folder`` for when a file is ready; ``troubles.py``; ``receiving.py``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from nemflow import failpoints
from nemflow.errors import NemflowError, SpoolFault, SpoolFull, StoreError, TooLarge
from nemflow.intake import folder
from nemflow.intake.folder import Inbox, Mark, Ready, StillMoving, Strange, Watch
from nemflow.pipeline.receiving import Receipt, receive
from nemflow.pipeline.reporting import report_of
from nemflow.pipeline.troubles import Troubles

if TYPE_CHECKING:
    from nemflow.events import Hook
    from nemflow.intake.spool import Spool
    from nemflow.store import Store

T = TypeVar("T")
log = logging.getLogger(__name__)
_COPY_BYTES: Final = 1 << 20
_NUMBERED: Final = re.compile(r"(\d+)-")
_DONE_WITH: Final = frozenset({"loaded", "partly_loaded", "duplicate", "undone"})
_REFUSED: Final = frozenset({"rejected", "cancelled"})
_REPORTED: Final = _REFUSED | {"partly_loaded"}
_STATES_AT_ONCE: Final = 1000
_NAME_BYTES: Final = 180  #: of a file name that is kept behind the number
_TROUBLE_SECONDS: Final = 60.0  #: until a file that cannot be taken or moved is tried again
_TROUBLED_AT_ONCE: Final = 100  #: files that cannot be filed away: the others have their turn later
_CALM_SECONDS: Final = 5.0  #: until the whole is tried again when store or spool is away


@dataclass(frozen=True, slots=True)
class Wishes:
    """What holds for everything that comes through a folder."""

    channel: str = "folder"
    profile: str | None = None  #: rule profile; None: by what it is
    lane: str = "normal"
    sender: str | None = None  #: of files that lie in no sender's folder
    hook: Hook | None = None  #: told of each delivery, see ``receive``


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did, in files."""

    taken: int = 0  #: became deliveries, duplicates too
    refused: int = 0  #: were never taken in: too large, or no file at all
    troubled: int = 0  #: could not be read or moved, and have their turn again
    filed: int = 0  #: went from ``taken`` to their last place
    left: int = 0  #: not ready yet, or no room for them now
    held: str | None = None  #: why no more was taken


class Collector:
    """Collects one folder, in a thread of its own or round by round."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        inbox: Inbox,
        wishes: Wishes | None = None,
        *,
        crowded: Callable[[], str | None] = lambda: None,
        nudge: Callable[[], None] = lambda: None,
        polling: bool = False,
    ) -> None:
        """Nothing is touched before ``run`` or ``round``.

        Args:
            store: whose ledger it goes to.
            spool: where the bytes go.
            inbox: the folder.
            wishes: what holds for everything in it.
            crowded: why nothing more should be taken now; None: there is room.
            nudge: called when something was taken; returns at once.
            polling: do not ask the system to tell of changes; for network shares.
        """
        self._store = store
        self._spool = spool
        self.inbox = inbox
        self._wishes = wishes or Wishes()
        self._crowded = crowded
        self._nudge = nudge
        self._awake = threading.Event()
        self._stopping = False
        self._watch = Watch(inbox, self._awake.set, polling=polling)
        self._said: dict[str, float] = {}
        self._troubles = Troubles(_TROUBLE_SECONDS, inbox.clock)
        self._stuck: Exception | None = None  #: what kept the last round of ``run`` from its end

    def run(self) -> None:
        """Collect until ``stop``; nothing makes it end otherwise."""
        self._watch.start()
        try:
            while not self._stopping:
                began, calm = time.monotonic(), 0.0
                stuck: Exception | None = None
                self._awake.clear()
                try:
                    done = self.round()
                except NemflowError as error:
                    self._say("round", str(error))
                    done, calm = Round(), _CALM_SECONDS
                    stuck = None if isinstance(error, StoreError) else error
                except Exception as error:
                    log.exception("The folder %s is looked at again later.", self.inbox.root)
                    done, calm, stuck = Round(), _CALM_SECONDS, error
                self._stuck = stuck
                if done.held is not None:
                    self._say("held", f"The folder {self.inbox.root} waits: {done.held}")
                    calm = 1.0
                self._rest(done, busy=time.monotonic() - began, at_least=calm)
        finally:
            self._watch.stop()

    def stop(self) -> None:
        """Let ``run`` end. Returns at once."""
        self._stopping = True
        self._watch.stop()
        self._awake.set()

    def check(self) -> None:
        """See that the folder works, and that no file in it fails again and again.

        May be called from any thread. Raises SpoolFault.
        """
        self.inbox.check()
        if (stuck := self._stuck) is not None:
            message, hint = said_of(self.inbox.root, stuck)
            raise SpoolFault(message, hint=hint)
        self._troubles.check()

    def round(self) -> Round:
        """File away what is final, then take what is ready.

        Raises:
            SpoolFault: the folder or the spool cannot be used.
            StoreError: the ledger cannot be written.
        """
        began = self.inbox.clock()
        filed, troubled = self.file_away()
        ready, strange = self.inbox.look()
        aside, more = self._set_aside(strange)
        troubled += more
        taken = refused = 0
        held = None
        for each in ready:
            if self._stopping:
                break
            held = self._crowded() if taken % 50 == 0 else None
            if held is not None:
                break
            try:
                took = self._tried(each.path, self._take, each)
            except SpoolFull as full:
                held = str(full)
                break
            except StillMoving:
                took = None
            if took is None:
                troubled += 1
            else:
                taken, refused = taken + took, refused + (not took)
            if taken % 20 == 1:
                self._nudge()
        if taken:
            self._nudge()
        if held is None and not self._stopping:
            self._troubles.forget(began)
        left = self.inbox.waiting + len(ready) - taken - refused + len(strange) - aside
        return Round(taken, refused + aside, troubled, filed, left, held)

    def _set_aside(self, strange: list[Strange]) -> tuple[int, int]:
        """Refuse what is no file; how many were, and how much could not be moved or seen."""
        aside = troubled = 0
        for path, error in self.inbox.unknown.items():
            troubled += self._barred(path, error)
        for each in strange:
            if self._troubles.waits(each.path):
                continue
            why = f"{each.what}.", "Send the file itself."
            moved = self._tried(each.path, self._refuse, each.path, each.sender, *why)
            aside, troubled = aside + (moved is not None), troubled + (moved is None)
        return aside, troubled

    def file_away(self) -> tuple[int, int]:
        """Move what is final from ``taken`` to its last place.

        Returns:
            How many files that were, and how many could not be moved.
        """
        filed = troubled = 0
        waiting = self.inbox.waiting_in(folder.TAKEN, self._barred)
        while batch := list(islice(waiting, _STATES_AT_ONCE)):
            numbers = {path: int(m[1]) for path, _ in batch if (m := _NUMBERED.match(path.name))}
            standing = self._store.standing(sorted(set(numbers.values())))
            for found in batch:
                path = found[0]
                number = numbers.get(path)
                state, size, sha256 = standing.get(number or 0, ("", 0, None))
                if number is None or state not in _DONE_WITH | _REFUSED or self._stopping:
                    continue
                if self._troubles.waits(path):
                    continue
                with suppress(StillMoving):
                    moved = self._tried(path, self._file, found, number, state, size, sha256)
                    filed, troubled = filed + bool(moved), troubled + (moved is None)
                if troubled >= _TROUBLED_AT_ONCE:
                    return filed, troubled
        return filed, troubled

    # -- one file ------------------------------------------------------------------------------

    def _tried(self, path: Path, act: Callable[..., T], *given: object) -> T | None:
        """Do something with one file; None: it went wrong, which is told, and it is put off.

        Raises:
            StillMoving, SpoolFull, StoreError: that is no trouble with this file.
        """
        try:
            done = act(*given)
        except (StillMoving, SpoolFull, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 - one file holds back no other
            self._put_off(path, error)
            return None
        self._troubles.over(path)
        return done

    def _barred(self, path: Path, error: OSError) -> bool:
        """Tell of a folder that cannot be read, unless it waits; whether that was told now."""
        if self._troubles.waits(path):
            return False
        self._put_off(path, error)
        return True

    def _put_off(self, path: Path, error: Exception) -> None:
        message, hint = said_of(path, error)
        self.inbox.later(path, _TROUBLE_SECONDS)
        self._troubles.met(path, message, hint)
        unexpected = not isinstance(error, (NemflowError, OSError))
        self._say(str(path), f"{message} {hint}".strip(), error if unexpected else None)

    def _take(self, file: Ready) -> bool:
        """Make a delivery of a file; False: it is refused for ever."""
        try:
            receipt = self._received(file)
        except TooLarge as error:
            self._refuse(file.path, file.sender, error.message, error.hint)
            return False
        failpoints.reach("folder-received")
        self.inbox.move(
            file.path, folder.TAKEN, file.sender, _numbered(receipt.delivery, file.name)
        )
        return True

    def _received(self, file: Ready) -> Receipt:
        self._spool.check_room(file.mark.size)
        with self._spool.landing() as landing:
            with self.inbox.opened(file) as source:
                while piece := source.read(_COPY_BYTES):
                    landing.write(piece)
            wishes = self._wishes
            return receive(
                self._store,
                self._spool,
                landing,
                name=shown(file.name),
                channel=wishes.channel,
                sender=shown(file.sender) if file.sender else wishes.sender,
                profile=wishes.profile,
                lane=wishes.lane,
                # What was moved back here is brought once more; what was never moved is not.
                idempotency_key=f"{key_of(file, landing.sha256)}:{file.mark.changed:x}",
                hook=wishes.hook,
            )

    def _file(
        self,
        found: tuple[Path, str | None],
        number: int,
        state: str,
        size: int,
        sha256: str | None,
    ) -> bool:
        path, sender = found
        if not holds(path, size, sha256):  # its writer was slower than we thought, and went on
            log.warning("%s has changed since it was taken; it is taken again.", shown(str(path)))
            back = _NUMBERED.sub("", path.name, count=1)
            return self.inbox.move(path, folder.INBOX, sender, back) is not None
        place = folder.REJECTED if state in _REFUSED else folder.DONE
        if state in _REPORTED:
            report = report_of(self._store, number)
            where = self.inbox.place(place, sender)
            write_whole(where / f"{path.name}.report.json", report.json())
            write_whole(where / f"{path.name}.report.csv", report.csv())
        return self.inbox.move(path, place, sender, path.name) is not None

    def _refuse(self, path: Path, sender: str | None, why: str, hint: str) -> bool:
        """Move aside what can never be a delivery, and say why beside it; False: it is gone."""
        now = None
        with suppress(StillMoving):
            now = self.inbox.move(path, folder.REJECTED, sender, path.name)
        if now is None:
            return False
        name, whose = shown(path.name), None if sender is None else shown(sender)
        log.warning("%s is refused: %s", shown(str(path)), why)
        said = {
            "name": name, "state": "rejected", "sender": whose, "delivery": None,
            "error": f"{name}: {why}", "hint": hint,
        }  # fmt: skip
        report = now.with_name(f"{now.name}.report.json")
        write_whole(report, json.dumps(said, indent=2, ensure_ascii=False) + "\n")
        return True

    # -- pace ----------------------------------------------------------------------------------

    def _rest(self, done: Round, *, busy: float, at_least: float) -> None:
        """Wait for the next round: soon when something is settling, else until told, or late."""
        pace = self.inbox.pace
        if done.taken and done.left and done.held is None:
            at_least = max(at_least, 0.05)
            until = at_least
        else:
            at_least = max(at_least, 0.5, min(4 * busy, pace.rescan_seconds))
            soon = done.left or done.filed or done.taken
            until = max(at_least, min(1.0, pace.settle_seconds) if soon else pace.rescan_seconds)
        if self._stopping:
            return
        began = time.monotonic()
        if self._awake.wait(until) and not self._stopping:
            time.sleep(max(0.0, min(at_least - (time.monotonic() - began), 2.0)))

    def _say(self, about: str, what: str, error: Exception | None = None) -> None:
        """Once a minute at most for each thing."""
        now = time.monotonic()
        if len(self._said) > self.inbox.pace.files:
            self._said.clear()
        if now - self._said.get(about, -_TROUBLE_SECONDS) >= _TROUBLE_SECONDS:
            self._said[about] = now
            log.warning("%s", what, exc_info=error)


def key_of(file: Ready, sha256: str) -> str:
    """What names one state of one file: taken twice, it is one delivery."""
    where = hashlib.sha256(os.fsencode(file.path)).hexdigest()[:16]
    return f"file:{where}:{file.mark.inode:x}:{file.mark.modified:x}:{sha256}"


def holds(path: Path, size: int, sha256: str | None) -> bool:
    """Whether a file still has the bytes that were taken; its times and its size alone say little.

    A copy over a network sets the size first and an old time last. Raises StillMoving, SpoolFault.
    """
    try:
        about = path.lstat()
    except FileNotFoundError as error:
        raise StillMoving(f"{path} is gone.") from error
    if folder.strange(about) is not None or about.st_size != size:
        return False
    with folder.opened(Ready(path, None, Mark.of(about))) as source:
        return hashlib.file_digest(source, "sha256").hexdigest() == sha256


def said_of(path: Path, error: Exception) -> tuple[str, str]:
    """What went wrong with a file, and what to do, as text that any store takes."""
    if isinstance(error, NemflowError):
        return shown(error.message), shown(error.hint)
    if isinstance(error, OSError):
        why = error.strerror or str(error)
        return shown(f"{path}: {why}."), "May this user read it, and write its folder?"
    return shown(f"{path}: {type(error).__name__}: {error}"), "See the log of the service."


def shown(name: str) -> str:
    """A file's name as text that any store takes."""
    return os.fsencode(name).decode("utf-8", "replace")


def _numbered(delivery: int, name: str) -> str:
    """The name with the number before it; of a very long name its end is kept."""
    encoded = os.fsencode(name)
    return f"{delivery:06d}-" + os.fsdecode(encoded[-_NAME_BYTES:])


def write_whole(path: Path, text: str) -> None:
    """Write a small file whole or not at all. Raises SpoolFault."""
    beside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8", newline="")
        beside.replace(path)
    except OSError as error:
        raise SpoolFault(
            f"{path} cannot be written: {error.strerror or error}.",
            hint="May this user write the folder, and is there room?",
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
