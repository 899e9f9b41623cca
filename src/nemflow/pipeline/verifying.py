"""Verify: is everything that was accepted where it must be?

Why: the service promises that nothing it answered with success is lost, and that every reading is
there once. Whoever runs it, and every crash test, can ask.

Promises: nothing is changed; it may run while the service does: what looks wrong only because it
was moving is looked at again.

Look next: ``nemflow verify``; ``store/invariants.py`` and ``store/accepted.py`` for the promises.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from nemflow.intake.spool import aside
from nemflow.store import accepted, invariants

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nemflow.store import Store

_LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found."""

    promises: pl.DataFrame  #: promise, held Boolean, broken Int64, example
    states: dict[str, int]  #: deliveries that came from outside, by state
    originals: int  #: how many were looked for

    @property
    def held(self) -> bool:
        """Whether every promise was."""
        return bool(self.promises["held"].all())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "held": self.held,
            "states": self.states,
            "originals": self.originals,
            "promises": self.promises.to_dicts(),
        }


def verify(
    store: Store,
    *,
    spool: Path | None = None,
    archive: Path | None = None,
    grace: float = 60.0,
    drained: bool = False,
    deep: bool = False,
) -> Verified:
    """Ask everything that must be true of a store and of what was accepted into it.

    Args:
        store: the store.
        spool: the folder of originals; None: they are not looked for.
        archive: where loaded originals were put; None: they are not looked for.
        grace: so many seconds a lease may have run out before somebody must have seen to it.
        drained: also that everything accepted has come to its end.
        deep: hash every stored day and every original again.
    """

    def ask(conn: sa.Connection) -> tuple[pl.DataFrame, dict[str, int]]:
        found = [
            accepted.checked(conn, store.backend, grace=grace, drained=drained),
            invariants.checked(conn, deep=deep),
        ]
        return pl.concat(found), accepted.states(conn)

    promises, states = store.backend.look(ask)
    places = {"spooled": spool, "archived": archive}
    looked, rows = 0, []
    for kept, folder in places.items():
        if folder is None:
            continue
        count, missing = _missing(store, kept, folder, deep=deep)
        looked += count
        example = missing[0] if missing else None
        rows.append(invariants.line(f"originals that are {kept} are there", len(missing), example))
    originals = pl.DataFrame(rows, schema=invariants.SCHEMA, orient="row")
    return Verified(pl.concat([promises, originals]), states, looked)


def _missing(store: Store, kept: str, folder: Path, *, deep: bool) -> tuple[int, list[str]]:
    """How many originals must be in this folder, and what is wrong with which."""
    wanted = [each for each in store.backend.look(accepted.originals) if each.kept == kept]
    wrong = {each: _fault(each, folder, deep=deep) for each in wanted}
    if any(wrong.values()):  # one may just have been settled
        time.sleep(_LOOK_AGAIN_SECONDS)
        still = _still(store, wrong)
        wrong = {each: _fault(each, folder, deep=deep) for each in still}
    return len(wanted), [
        f"delivery {each.delivery}, {each.sha256[:12]}: {fault}"
        for each, fault in wrong.items()
        if fault
    ]


def _still(store: Store, suspects: Collection[accepted.Original]) -> list[accepted.Original]:
    """Those that the ledger still says are kept there, of what looked wrong."""
    now = {(each.sha256, each.kept): each for each in store.backend.look(accepted.originals)}
    keys = [(each.sha256, each.kept) for each in suspects]
    return [now[key] for key in keys if key in now]


def _fault(original: accepted.Original, folder: Path, *, deep: bool) -> str:
    """What is wrong with an original; empty: nothing."""
    sha256 = original.sha256
    path = folder / sha256[:2] / sha256[2:4] / sha256
    if original.kept == "spooled" and not path.exists():
        path = aside(folder, sha256)
    try:
        size = path.stat().st_size
        if original.size is not None and size != original.size:
            return f"{size:,} bytes instead of {original.size:,}"
        if deep:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            return "" if found == sha256 else "other bytes"
    except FileNotFoundError:
        return "not there"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""
