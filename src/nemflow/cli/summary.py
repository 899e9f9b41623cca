"""What became of each file: the closing account of ``load``, ``check`` and ``replay``.

Why: every day read is either stored, unchanged or rejected, and the sum is printed so that
anyone can see it balance.

Promises: every file that was not loaded whole is named with the reason; many whole files are
counted, not listed, unless ``--all``.

Look next: :class:`nemflow.pipeline.LoadSummary`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nemflow.cli.output import Column, Output
from nemflow.cli.wording import count, plain

if TYPE_CHECKING:
    from nemflow.pipeline.outcome import Counts, FileOutcome, LoadSummary

_RULE_ID = re.compile(r"[A-Z]\d{3}")
#: More files than this, and those that were loaded whole are only counted.
MANY = 30


def _words(state: str) -> str:
    """``partly loaded``."""
    return state.replace("_", " ")


COLUMNS = (
    Column("source", "file", style="bold", gives_way="front"),
    Column("state", show=_words),
    Column("days_read", "read", right=True),
    Column("days_stored", "stored", right=True),
    Column("days_unchanged", "unchanged", right=True),
    Column("days_rejected", "rejected", right=True),
    Column("reads_read", machine_only=True),
    Column("reads_stored", machine_only=True),
    Column("reads_unchanged", machine_only=True),
    Column("reads_rejected", machine_only=True),
    Column("why", gives_way="fold"),
    Column("rules", machine_only=True),
    Column("error", machine_only=True),
    Column("reviews", machine_only=True),
    Column("duplicate_of", machine_only=True),
    Column("delivery", right=True, show=plain, machine_only=True),
    Column("file", right=True, show=plain, machine_only=True),
    Column("sha256", machine_only=True),
)


def print_summary(out: Output, summary: LoadSummary, *, every: bool = False) -> None:
    """The account per file, then the sums; in CSV one row per file."""
    rows = [_row(each) for each in summary.files]
    if not out.for_people:
        out.rows(COLUMNS, rows)
        return
    shown, left_out = _worth_showing(rows, every=every)
    if left_out:
        out.say(f"{left_out}; --all lists them.")
    if shown or not rows:
        out.rows(COLUMNS, shown, empty="No files.")
    out.say()
    if len(rows) > 1:
        states = ", ".join(f"{n:,} {_words(state)}" for state, n in summary.states.items())
        out.say(f"{count(len(rows), 'file')}: {states}.", "bold")
    for what, counts in (
        (count(summary.days.read, "day") + " read", summary.days),
        (count(summary.reads.read, "register read"), summary.reads),
    ):
        if counts.read:
            out.say(balance(what, counts))
    if summary.reviews:
        out.say(f"{to_review(summary.reviews)}.", "yellow")


def to_review(reviews: Mapping[str, int]) -> str:
    """``3 to review: 2 final revised, 1 conflict``."""
    kinds = ", ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in reviews.items())
    return f"{sum(reviews.values()):,} to review: {kinds}"


def balance(what: str, counts: Counts) -> str:
    """``14 days read = 10 stored + 3 unchanged + 1 rejected``."""
    return (
        f"{what} = {counts.stored:,} stored + "
        f"{counts.unchanged:,} unchanged + {counts.rejected:,} rejected"
    )


def _worth_showing(rows: Sequence[Any], *, every: bool) -> tuple[list[Any], str]:
    """The rows to list, and in words the files that are only counted."""
    if every or len(rows) <= MANY:
        return list(rows), ""
    fine = Counter(row["state"] for row in rows if row["state"] in ("loaded", "duplicate"))
    words = {"loaded": "loaded whole", "duplicate": "known already"}
    left_out = [f"{count(n, 'file')} {words[state]}" for state, n in fine.items()]
    return [row for row in rows if row["state"] not in fine], ", ".join(left_out)


def _row(each: FileOutcome) -> dict[str, Any]:
    """One file's outcome as a flat row."""
    row: dict[str, Any] = {
        "source": each.source,
        "state": each.state,
        "why": _why(each),
        "rules": [f"{rule}:{n}" for rule, n in each.rules.items()],
        "error": each.error,
        "reviews": [f"{kind}:{n}" for kind, n in each.reviews.items()],
        "duplicate_of": each.duplicate_of,
        "delivery": each.delivery,
        "file": each.file,
        "sha256": each.sha256,
    }
    for noun, counts in (("days", each.days), ("reads", each.reads)):
        row |= {f"{noun}_{name}": n for name, n in counts.to_dict().items()}
    return row


def _why(each: FileOutcome) -> str:
    """Why a file is not simply loaded, in a few words."""
    return "; ".join(_reasons(each))


def _reasons(each: FileOutcome) -> Iterable[str]:
    if each.duplicate_of_delivery is not None:
        yield f"same content as delivery {each.duplicate_of_delivery}"
    elif each.duplicate_of:
        yield f"same content as {each.duplicate_of}"
    if each.rules:
        yield ", ".join(f"{rule} x{n}" for rule, n in each.rules.items())
    elif each.error:
        rule, colon, _ = each.error.partition(": ")
        yield rule if colon and _RULE_ID.fullmatch(rule) else each.error
    if each.reads.read:
        reads = each.reads
        yield (
            f"{count(reads.read, 'register read')}: {reads.stored:,} stored, "
            f"{reads.unchanged:,} unchanged, {reads.rejected:,} rejected"
        )
    if each.conflicts:
        yield f"{count(each.conflicts, 'day')} with two contents under one version stamp"
