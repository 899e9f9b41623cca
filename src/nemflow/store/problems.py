"""Problems: what is wrong, once, with how often and since when.

Why: three hundred rejected files of one sender with the same fault are one thing to see to.

Three kinds:

* ``file``: a delivery of a sender broke a rule that kept something of it out (severity F or D).
  One open problem per sender and rule. It is closed by the next *good file* of that sender: a
  delivery that is loaded whole (state ``loaded``), holds at least one text of that sender that was
  loaded, and has no finding of that rule, not even as a warning. Duplicates, dry runs and replays
  close nothing: they say nothing new about what the sender sends.
* ``dead``: we could not work on a delivery. One per sender and error code. It is closed when none
  of the deliveries counted in it is dead any more.
* ``system``: a part of the system fails. One per part; closed when that part works again.

Any of them can be closed by a person, with a note; audited. What comes again afterwards is a new
problem with a new number.

Promises: ``times`` is the number of deliveries (of outcomes) that met it, exact after kills and
retries: it is counted in the transaction that writes the outcome. Outcomes are taken in the order
in which deliveries ended, so a good file that ended after a bad one closes what that one opened.

Look next: ``outcomes.py``, which calls ``count``; docs/problems.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import sqlalchemy as sa

from nemflow.errors import NotFound, UsageError
from nemflow.mdff.rules import RULES
from nemflow.store.ledger import note as audited
from nemflow.store.outcomes import Outcome, alone, sender_of
from nemflow.store.tables import delivery, delivery_step, finding, load, problem, problem_met

if TYPE_CHECKING:
    from nemflow.store.backends import Backend

KINDS: Final = ("file", "dead", "system")
NO_RULE: Final = "E-DATA"  #: rejected, and no rule says why
_RULE = re.compile(r"([A-Z]\d{3}): ")
_CODE = re.compile(r"([EQ]-[A-Z-]+)")
_LONGEST = 500  #: characters of a message
#: Part -> what its failing means.
PARTS: Final = {
    "store": "The store does not answer",
    "queue": "The queue's server does not answer",
    "spool": "The spool cannot be used: uploads are refused",
    "outbox": "Acknowledgements cannot be written",
    "folder": "The watched folder, or a file in it, cannot be read or moved",
}

Key = tuple[str, str, str]  #: kind, sender, rule


@dataclass(slots=True)
class _Open:
    """An open problem while a batch is counted."""

    id: int  #: 0: not numbered yet
    first_at: Any
    last_at: Any
    message: str | None
    hint: str | None
    first_delivery: int | None
    last_delivery: int | None
    times: int = 0
    met: list[Outcome] = field(default_factory=list)  #: in this batch
    closed: Outcome | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """What the findings say about a batch."""

    kept_out: Mapping[int, Mapping[tuple[str, str], str | None]]  #: top -> (sender, rule) -> words
    any: Mapping[int, frozenset[tuple[str, str]]]  #: top -> (sender, rule), warnings too
    #: top -> whose good file it is when it is loaded whole: the senders of its texts, the key
    loaded: Mapping[int, frozenset[str]]
    codes: Mapping[int, str]  #: top -> error code of what is dead


def count(conn: sa.Connection, backend: Backend, batch: Sequence[Outcome]) -> None:
    """Count what a batch of outcomes met, and close what it mends. Under ``outcomes.alone``.

    What was replayed, undone or redone says nothing new about what its sender sends.
    """
    real = [each for each in batch if each.ended and not each.dry_run]
    if real:
        _count(conn, backend, real)
    if any(each.state != "dead" for each in batch):
        _revived(conn, backend)


def _count(conn: sa.Connection, backend: Backend, real: Sequence[Outcome]) -> None:
    found = _found(conn, real)
    senders = {sender for top in found.kept_out.values() for sender, _ in top}
    senders |= {sender for each in found.loaded.values() for sender in each}
    senders |= {each.sender for each in real}
    still = _open(conn, senders)
    ended: list[tuple[Key, _Open]] = []
    for each in real:
        for (sender, rule), words in found.kept_out.get(each.delivery, {}).items():
            _meet(still, ("file", sender, rule), each, words)
        if each.state == "dead" and each.spooled:
            key = ("dead", each.sender, found.codes.get(each.delivery, "E-SYSTEM"))
            _meet(still, key, each, each.error)
        if each.state != "loaded":
            continue
        for sender in found.loaded.get(each.delivery, ()):
            for key in [key for key in still if key[:2] == ("file", sender)]:
                if (sender, key[2]) not in found.any.get(each.delivery, ()):
                    still[key].closed = each
                    ended.append((key, still.pop(key)))
    _write(conn, backend, [*ended, *still.items()])


def _meet(still: dict[Key, _Open], key: Key, each: Outcome, words: str | None) -> None:
    known = still.get(key)
    if known is None:
        known = _Open(0, each.at, each.at, None, None, each.delivery, each.delivery)
        still[key] = known
    known.times += 1
    known.last_at = each.at
    known.last_delivery = each.delivery
    known.message = words[:_LONGEST] if words else known.message
    known.met.append(each)


def _open(conn: sa.Connection, senders: Iterable[str]) -> dict[Key, _Open]:
    """The open problems of these senders."""
    columns = problem.c
    found: dict[Key, _Open] = {}
    rows = conn.execute(
        sa.select(problem).where(
            columns.closed_at.is_(None),
            columns.kind != "system",
            columns.sender.in_(sorted(senders)),
        )
    )
    for row in rows:
        found[row.kind, row.sender, row.rule] = _Open(
            row.id, row.first_at, row.last_at, row.message, row.hint, row.first_delivery,
            row.last_delivery, row.times,
        )  # fmt: skip
    return found


def _write(conn: sa.Connection, backend: Backend, every: Sequence[tuple[Key, _Open]]) -> None:
    """Write what has changed."""
    new = [(key, each) for key, each in every if each.id == 0]
    first = backend.reserve(conn, problem, len(new)) if new else 0
    for place, (_, each) in enumerate(new):
        each.id = first + place
    if new:
        conn.execute(
            sa.insert(problem),
            [
                {"id": each.id, "kind": kind, "sender": sender, "rule": rule,
                 "first_at": each.first_at, "first_delivery": each.first_delivery}
                | _said(each)
                for (kind, sender, rule), each in new
            ],
        )  # fmt: skip
    fresh = {each.id for _, each in new}
    for _, each in sorted(every, key=lambda item: item[1].id):
        if each.id not in fresh and (each.met or each.closed is not None):
            conn.execute(sa.update(problem).where(problem.c.id == each.id).values(**_said(each)))
    met = [
        {"problem": each.id, "delivery": one.delivery, "outcome": one.seq}
        for _, each in every
        for one in each.met
    ]
    if met:
        conn.execute(sa.insert(problem_met), met)


def _said(each: _Open) -> dict[str, Any]:
    closed = each.closed
    return {
        "message": each.message,
        "times": each.times,
        "last_at": _instant(each.last_at),
        "last_delivery": each.last_delivery,
        "closed_at": None if closed is None else closed.at,
        "closed_delivery": None if closed is None else closed.delivery,
    }


def _instant(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _revived(conn: sa.Connection, backend: Backend) -> None:
    """Close problems of dead deliveries none of which is dead any more."""
    inside = sa.select(delivery.c.id).join(problem_met, problem_met.c.delivery == delivery.c.id)
    still_dead = inside.where(problem_met.c.problem == problem.c.id, delivery.c.state == "dead")
    conn.execute(
        sa.update(problem)
        .where(problem.c.kind == "dead", problem.c.closed_at.is_(None), ~still_dead.exists())
        .values(closed_at=backend.now(conn))
    )


# -- what the ledger says about a batch -------------------------------------------------------


def _found(conn: sa.Connection, batch: Sequence[Outcome]) -> _Found:
    numbers = [each.delivery for each in batch]
    kept_out: dict[int, dict[tuple[str, str], str | None]] = {}
    every: dict[int, set[tuple[str, str]]] = {}
    for row in conn.execute(_findings(numbers)):
        every.setdefault(row.top, set()).add((row.whose, row.rule))
        if row.kept_out:
            kept_out.setdefault(row.top, {})[row.whose, row.rule] = row.message
    for row in conn.execute(_refused(numbers)):
        out = kept_out.setdefault(row.top, {})
        said = _RULE.match(row.error or "")
        rule = said[1] if said and said[1] in RULES else NO_RULE
        if rule != NO_RULE or not any(sender == row.whose for sender, _ in out):
            out.setdefault((row.whose, rule), row.error)
            every.setdefault(row.top, set()).add((row.whose, rule))
    loaded: dict[int, set[str]] = {}
    for row in conn.execute(_loaded(numbers)):
        mine = loaded.setdefault(row.top, set())
        mine.add(row.whose)
        if row.api_key:  # a file so broken that it names no sender counts as the key's
            mine.add(row.api_key)
            own = every.setdefault(row.top, set())
            own |= {(row.api_key, rule) for _, rule in own}
    return _Found(
        kept_out,
        {top: frozenset(found) for top, found in every.items()},
        {top: frozenset(found) for top, found in loaded.items()},
        _codes(conn, [each for each in batch if each.state == "dead"]),
    )


def _inside(numbers: Sequence[int]) -> tuple[Any, Any, Any, Any]:
    """SQL: rows of the batch with their members; which top they are of, and whose."""
    top_row = delivery.alias("top_row")
    top = sa.func.coalesce(delivery.c.parent, delivery.c.id)
    whose = sa.func.coalesce(delivery.c.sender, sender_of(top_row))
    among = sa.or_(delivery.c.id.in_(numbers), delivery.c.parent.in_(numbers))
    return delivery.join(top_row, top_row.c.id == top), top.label("top"), whose, among


def _state() -> Any:
    """The state in a form that no index has: an engine must begin with the few of the batch."""
    return sa.func.coalesce(delivery.c.state, "")


def _findings(numbers: Sequence[int]) -> sa.Select[Any]:
    rows, top, whose, among = _inside(numbers)
    each = load.alias("each")
    newest = (
        sa.select(sa.func.max(each.c.id))
        .where(each.c.delivery == delivery.c.id, each.c.kind == "load")
        .scalar_subquery()
    )
    hard = finding.c.severity.in_(["F", "D"])
    return (
        sa.select(
            top,
            whose.label("whose"),
            finding.c.rule,
            sa.func.max(sa.case((hard, 1), else_=0)).label("kept_out"),
            sa.func.min(sa.case((hard, finding.c.message), else_=None)).label("message"),
        )
        .select_from(
            rows.join(load, load.c.id == newest).join(finding, finding.c.load == load.c.id)
        )
        .where(among)
        .group_by(top, whose, finding.c.rule)
    )


def _refused(numbers: Sequence[int]) -> sa.Select[Any]:
    rows, top, whose, among = _inside(numbers)
    return (
        sa.select(top, whose.label("whose"), delivery.c.error)
        .select_from(rows)
        .where(among, _state() == "rejected", delivery.c.error.is_not(None))
        .order_by(delivery.c.id)
    )


def _loaded(numbers: Sequence[int]) -> sa.Select[Any]:
    rows, top, whose, among = _inside(numbers)
    return (
        sa.select(top, whose.label("whose"), rows.right.c.api_key)
        .select_from(rows)
        .where(among, _state() == "loaded", sa.func.coalesce(delivery.c.file, 0) > 0)
        .distinct()
    )


def _codes(conn: sa.Connection, dead: Sequence[Outcome]) -> dict[int, str]:
    """The error code of each dead delivery: what its error begins with, else its last step's."""
    codes: dict[int, str] = {}
    columns = delivery_step.c
    rows = conn.execute(
        sa.select(columns.delivery, columns.outcome)
        .where(columns.delivery.in_([each.delivery for each in dead]))
        .order_by(columns.ended_at)
    )
    for row in rows:
        if _CODE.fullmatch(row.outcome or ""):
            codes[row.delivery] = row.outcome
    for each in dead:
        said = _CODE.match(each.error or "")
        if said:
            codes[each.delivery] = said[1]
    return codes


# -- parts of the system ----------------------------------------------------------------------


def failing(
    conn: sa.Connection,
    backend: Backend,
    part: str,
    *,
    message: str,
    hint: str = "",
    since: datetime | None = None,
    times: int = 1,
) -> None:
    """A part of the system fails: open its problem, or count that it does still.

    Args:
        conn: a writing connection.
        backend: the engine, whose clock counts.
        part: see ``PARTS``; others are shown by their name.
        message: what was said.
        hint: what to do.
        since: when it was seen first, if that was before now (the store itself was away).
        times: how often it was seen since it was told last.
    """
    alone(conn)
    now, columns = backend.now(conn), problem.c
    row = conn.execute(sa.select(columns.id).where(*_of_part(part))).first()
    said = {"message": message[:_LONGEST], "hint": hint[:_LONGEST] or None, "last_at": now}
    if row is not None:
        conn.execute(
            sa.update(problem)
            .where(columns.id == row.id)
            .values(times=columns.times + times, **said)
        )
        return
    number = backend.reserve(conn, problem, 1)
    conn.execute(
        sa.insert(problem).values(
            id=number, kind="system", sender="", rule=part, times=times, first_at=since or now,
            **said,
        )
    )  # fmt: skip


def working(conn: sa.Connection, backend: Backend, part: str) -> bool:
    """A part of the system works: close its problem; whether there was one."""
    alone(conn)
    done = sa.update(problem).where(*_of_part(part)).values(closed_at=backend.now(conn))
    return conn.execute(done).rowcount > 0


def is_open(conn: sa.Connection, part: str) -> bool:
    """Whether a part of the system is known to fail."""
    return conn.execute(sa.select(problem.c.id).where(*_of_part(part))).first() is not None


def _of_part(part: str) -> tuple[sa.ColumnElement[bool], ...]:
    columns = problem.c
    return columns.kind == "system", columns.rule == part, columns.closed_at.is_(None)


# -- people -----------------------------------------------------------------------------------


def close(
    conn: sa.Connection, backend: Backend, numbers: Sequence[int], *, who: str | None, note: str
) -> sa.Select[Any]:
    """Close problems by hand. Audited.

    Returns:
        A question that has an answer when, and only when, this act was saved.

    Raises:
        NotFound: there is no such problem.
        UsageError: one of them is closed already; then none is closed.
    """
    alone(conn)
    now, columns = backend.now(conn), problem.c
    every = sorted(set(numbers))
    for number in every:
        row = conn.execute(sa.select(columns.closed_at).where(columns.id == number)).first()
        if row is None:
            raise NotFound(
                f"There is no problem {number}.", hint="List them with: nemflow problems --all"
            )
        if row.closed_at is not None:
            raise UsageError(
                f"Problem {number} is closed already.", hint="See: nemflow problems --all"
            )
    conn.execute(
        sa.update(problem)
        .where(columns.id.in_(every))
        .values(closed_at=now, closed_by=who, note=note)
    )
    named = f"problem {every[0]}" if len(every) == 1 else f"{len(every)} problems"
    detail = json.dumps({"problems": every, "note": note})
    return audited(conn, backend, act="problem closed", target=named, who=who, detail=detail)


def listed(
    conn: sa.Connection,
    backend: Backend,
    *,
    open_only: bool,
    sender: str | None,
    limit: int | None,
    before: int | None,
) -> pl.DataFrame:
    """See ``Store.problems``."""
    columns = problem.c
    state = sa.case((columns.closed_at.is_(None), "open"), else_="closed")
    question = (
        sa.select(
            columns.id.label("problem"), columns.kind, state.label("state"), columns.sender,
            columns.rule, columns.message, columns.hint, columns.times, columns.first_at,
            columns.last_at, columns.first_delivery, columns.last_delivery,
            delivery.c.name.label("last_name"), delivery.c.file.label("last_file"),
            columns.closed_at, columns.closed_by, columns.closed_delivery, columns.note,
        )
        .outerjoin(delivery, delivery.c.id == columns.last_delivery)
        .order_by(columns.id.desc())
        .limit(limit)
    )  # fmt: skip
    if open_only:
        question = question.where(columns.closed_at.is_(None))
    if sender is not None:
        question = question.where(columns.sender == sender)
    if before is not None:
        question = question.where(columns.id < before)
    found = backend.fetch(conn, question)
    told = [
        words(row["kind"], row["rule"], row["hint"], row["last_delivery"])
        for row in found.select("kind", "rule", "hint", "last_delivery").iter_rows(named=True)
    ]
    texts = pl.DataFrame(told, schema=dict.fromkeys(("what", "who", "todo"), pl.String))
    front = ["problem", "kind", "state", "sender", "rule", "what", "message", "times"]
    front += ["first_at", "last_at", "who", "todo"]
    return pl.concat([found, texts], how="horizontal").select(*front, pl.exclude(*front, "hint"))


def words(kind: str, rule: str, hint: str | None, last: int | None) -> dict[str, str]:
    """What is wrong, who must act (``sender`` or ``us``) and what to do next, in plain words."""
    way = f"nemflow delivery {last}"
    if kind == "system":
        what = PARTS.get(rule, f"{rule.capitalize()} does not work")
        return {"what": what, "who": "us", "todo": hint or "See the log of the service."}
    if kind == "dead":
        what = f"Files could not be loaded, through no fault of theirs ({rule})"
        todo = f"See why: {way}. When that is mended: nemflow dead --retry all"
        return {"what": what, "who": "us", "todo": todo}
    known = RULES.get(rule)
    if known is None:
        what = "Files hold nothing that can be loaded"
        return {"what": what, "who": "sender", "todo": f"See why: {way}"}
    return {"what": known.title, "who": "sender", "todo": known.todo}


def counted(conn: sa.Connection) -> dict[str, int]:
    """How many problems are open, by kind."""
    rows = conn.execute(
        sa.select(problem.c.kind, sa.func.count())
        .where(problem.c.closed_at.is_(None))
        .group_by(problem.c.kind)
    )
    return dict.fromkeys(KINDS, 0) | {kind: int(number) for kind, number in rows}
