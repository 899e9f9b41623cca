"""The verdict: where a store does not agree with the model, in sentences.

Promises: an empty list means: every file is in exactly the state it must be in and balances; no
row belongs to a load that does not stand; no claim is missing or doubled; the current readings are
the model's.

Look next: ``model.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa

from chaos.model import SUFFIX, Key, SentFile, state_of, winners
from nemflow.pipeline import reconcile
from nemflow.store import Store
from nemflow.store.tables import LOAD_TABLES, day_claim, day_content, load, load_event

#: Deliveries end in one of these; what stays in another was forgotten.
FINAL = {"loaded", "partly_loaded", "rejected", "duplicate", "dead", "cancelled"}


def faults(store: Store, sent: Sequence[SentFile]) -> list[str]:
    """What the store says otherwise than the model, fed with the same files in any order."""
    reconcile(store)
    return [*partial(store), *_accounts(store, sent), *_ledger(store), *_readings(store, sent)]


def partial(store: Store) -> list[str]:
    """Published loads that are not whole: their claims are not what their account says."""
    counted = (
        sa.select(day_claim.c.load, sa.func.count().label("claims"))
        .group_by(day_claim.c.load)
        .subquery()
    )
    said = load.c.days_stored + load.c.days_unchanged
    there = sa.func.coalesce(counted.c.claims, 0)
    question = (
        sa.select(load.c.id, said, there)
        .outerjoin(counted, counted.c.load == load.c.id)
        .where(load.c.state == "published", said != there)
    )
    with store.backend.reading() as conn:
        return [
            f"load {number} is published with {found} days, its account says {wanted}"
            for number, wanted, found in conn.execute(question)
        ]


def _accounts(store: Store, sent: Sequence[SentFile]) -> list[str]:
    """Each file in its one state, its days all accounted for, nothing lost, nothing double."""
    wrong = []
    known = {row["name"].rpartition("/")[2]: row for row in store.files().to_dicts()}
    if len(known) != store.files().height:
        wrong.append("a file is in the ledger twice")
    for file in sent:
        row = known.get(file.name)
        if row is None:
            wrong.append(f"{file.name} is lost: the ledger does not know it")
            continue
        if row["state"] != state_of(file):
            wrong.append(f"{file.name} is {row['state']}, must be {state_of(file)}")
        taken = row["days_stored"] + row["days_unchanged"]
        if (row["days_read"], taken) != (len(file.days), file.good):
            wrong.append(
                f"{file.name} has {len(file.days)} days, {file.good} good; "
                f"its account says {row['days_read']} read, {taken} taken in"
            )
        if row["days_read"] != taken + row["days_rejected"]:
            wrong.append(f"{file.name} does not balance")
    return wrong


def _ledger(store: Store) -> list[str]:
    """One standing load per file, one event per load, no rows of loads that are not there."""
    wrong = []
    standing = sa.select(load.c.id).where(load.c.state == "published")
    with store.backend.reading() as conn:

        def rows(statement: sa.Select[Any]) -> list[Any]:
            return list(conn.execute(statement).fetchall())

        for table in LOAD_TABLES:
            ended = sa.select(load.c.id).where(load.c.state.in_(["published", "rejected"]))
            orphans = sa.select(sa.func.count()).where(table.c.load.not_in(ended))
            if count := rows(orphans.select_from(table))[0][0]:
                wrong.append(f"{count} rows of {table.name} belong to no load that stands")
        twice = sa.select(load.c.file).where(load.c.state == "published").group_by(load.c.file)
        for (number,) in rows(twice.having(sa.func.count() > 1)):
            wrong.append(f"file {number} is loaded twice")
        same = [day_claim.c[name] for name in ("nmi", "day", "suffix", "load", "line")]
        doubled = sa.select(*same).group_by(*same).having(sa.func.count() > 1)
        wrong += [f"claimed twice: {tuple(found)}" for found in rows(doubled)]
        events = sa.select(load_event.c.load).group_by(load_event.c.load)
        for (number,) in rows(events.having(sa.func.count() > 1)):
            wrong.append(f"load {number} was published twice")
        told = sa.select(load_event.c.load)
        for (number,) in rows(standing.where(load.c.id.not_in(told))):
            wrong.append(f"load {number} stands without a commit number")
        bare = sa.select(sa.func.count()).select_from(day_claim).where(
            ~sa.exists().where(
                *(
                    day_content.c[name] == day_claim.c[name]
                    for name in ("nmi", "day", "suffix", "content_hash")
                )
            )
        )  # fmt: skip
        if count := rows(bare)[0][0]:
            wrong.append(f"{count} claims have no content")
    states = set(store.deliveries(limit=None)["state"]) - FINAL
    if states:
        wrong.append(f"deliveries are left in state {', '.join(sorted(states))}")
    return wrong


def current(store: Store, nmis: Sequence[str]) -> dict[Key, tuple[str, int]]:
    """What the store says now: NMI-day -> value and interval length.

    Raises:
        AssertionError: a day is mixed from two versions, or there twice.
    """
    found: dict[Key, tuple[str, int]] = {}
    for name in nmis:
        raw = store.readings(name, suffix=SUFFIX)
        for day, value, minutes, count in (
            raw.group_by("day", "value", "interval_minutes").len().iter_rows()
        ):
            assert (name, day) not in found, f"{name} {day} is mixed from two versions"
            assert count == 1440 // minutes, f"{name} {day} has {count} readings"
            found[name, day] = (f"{value.normalize():f}", minutes)
    return found


def _readings(store: Store, sent: Sequence[SentFile]) -> list[str]:
    wanted = winners(sent)
    try:
        got = current(store, store.nmis()["nmi"].to_list())
    except AssertionError as error:
        return [str(error)]
    return [
        f"{name} {day}: the store says {got.get((name, day))}, the model {wanted.get((name, day))}"
        for name, day in sorted(wanted.keys() | got.keys(), key=_by_key)
        if got.get((name, day)) != wanted.get((name, day))
    ]


def _by_key(key: Key) -> tuple[str, date]:
    return key
