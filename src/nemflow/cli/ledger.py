"""``deliveries``, ``files`` and ``file``: what arrived and what became of it.

Why: the ledger never forgets; "did you get my file?" has an answer.

Promises: newest first; ids shown here are the ids ``undo``, ``redo`` and ``quarantine`` take.

Look next: :meth:`nemflow.store.Store.deliveries`, :meth:`nemflow.store.Store.files`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nemflow.cli import wording
from nemflow.cli.options import DbOption, again, open_to_read
from nemflow.cli.output import Column, CsvOption, JsonOption, Output

if TYPE_CHECKING:
    import polars as pl

StateOption = Annotated[
    list[str] | None,
    typer.Option("--state", help="Only this state, e.g. rejected; may be repeated."),
]


def _state(value: str) -> str:
    return str(value).replace("_", " ")


_COUNTS = (
    Column("days_read", "days", right=True),
    Column("days_stored", machine_only=True),
    Column("days_unchanged", machine_only=True),
    Column("days_rejected", "rejected", right=True),
    Column("reads_read", machine_only=True),
    Column("reads_stored", machine_only=True),
    Column("reads_unchanged", machine_only=True),
    Column("reads_rejected", machine_only=True),
)
_DELIVERIES = (
    Column("delivery", "id", right=True, show=wording.plain, style="bold"),
    Column("parent", "in", right=True, show=wording.plain),
    Column("name", gives_way="front"),
    Column("state", show=_state),
    *_COUNTS,
    Column("members", machine_only=True),
    Column("received_at", "received", show=wording.minute),
    Column("duplicate_of", machine_only=True),
    Column("file", machine_only=True),
    Column("channel", machine_only=True),
    Column("sender", machine_only=True),
    Column("profile", machine_only=True),
    Column("sha256", machine_only=True),
    Column("size", machine_only=True),
    Column("finished_at", machine_only=True),
    Column("error", machine_only=True),
)
_FILES = (
    Column("file", "id", right=True, show=wording.plain, style="bold"),
    Column("sha256", machine_only=True),
    Column("name", gives_way="front"),
    Column("state", show=_state),
    *_COUNTS,
    Column("nmis", "NMIs", right=True),
    Column("first_day", "first", optional=True),
    Column("last_day", "last"),
    Column("version_header", machine_only=True),
    Column("from_participant", machine_only=True),
    Column("to_participant", machine_only=True),
    Column("file_at", machine_only=True),
    Column("delivery", machine_only=True),
    Column("findings", machine_only=True),
    Column("size", machine_only=True),
    Column("first_seen_at", machine_only=True),
    Column("loaded_at", machine_only=True),
)
_LOADS = (
    Column("load", right=True, show=wording.plain),
    Column("delivery", right=True, show=wording.plain),
    Column("kind"),
    Column("event"),
    Column("at", show=wording.stamp),
    Column("seq", right=True, show=wording.plain),
    Column("state"),
    Column("days", right=True),
)


def deliveries(
    ctx: typer.Context,
    *,
    state: StateOption = None,
    parent: Annotated[
        int | None, typer.Option("--in", help="Only what was inside this delivery.", metavar="ID")
    ] = None,
    sender: Annotated[
        str | None, typer.Option("--sender", help="Only from this sender.", metavar="ID")
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option("--channel", help="Only what came this way: cli, http, folder, batch."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many; 0: all.", min=0)] = 50,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List what arrived, newest first, and what became of it."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        rows = store.deliveries(
            state, parent=parent, sender=sender, channel=channel, limit=limit or None
        )
    out.rows(_DELIVERIES, rows, empty=f"No deliveries. Load some: {again('load PATH', db)}")
    for row in rows.filter(rows["error"].is_not_null()).head(10).iter_rows(named=True):
        out.say(f"{row['delivery']}: {row['error']}", "yellow")
    if limit and rows.height == limit:
        out.say(f"The newest {limit}; --limit 0 lists all.", "dim")


def files(
    ctx: typer.Context,
    *,
    state: StateOption = None,
    nmi: Annotated[
        str | None, typer.Option("--nmi", help="Only files that hold this NMI.", metavar="NMI")
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List every file ever seen, one row per content."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        rows = store.files(state, nmi=nmi)
    out.rows(_FILES, rows, empty=f"No files. Load some: {again('load PATH', db)}")
    if not rows.is_empty():
        newest = f"file {rows['file'][0]}"
        out.command("One in full: ", again(newest, db))


def file(
    ctx: typer.Context,
    which: Annotated[
        str, typer.Argument(help="Its number, or the beginning of its SHA-256.", metavar="ID")
    ],
    *,
    every: Annotated[bool, typer.Option("--all", help="All findings.")] = False,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show one file: header, counts, what happened to it, its findings."""
    from nemflow.cli import findings as paragraphs

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    key = a_number_or_hash(which)
    with open_to_read(ctx, db) as store:
        one = store.file(key)
        loads = store.loads(key)
        found = store.findings(key)
    if out.form == "json":
        answer = one.to_dicts()[0]
        out.document(answer | {"loads": loads.to_dicts(), "findings": found.to_dicts()})
    elif out.form == "csv":
        out.rows(paragraphs.COLUMNS, found)
    else:
        _describe(out, one)
        out.say()
        out.rows(_LOADS, loads, title="What happened to it", empty="It was never loaded.")
        paragraphs.print_findings(out, found, every=every)


def a_number_or_hash(text: str) -> int | str:
    """Digits alone, up to nine of them, are an id; anything else begins a SHA-256."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else text.lower()


def _describe(out: Output, one: pl.DataFrame) -> None:
    """The file's row as a short text."""
    row = one.to_dicts()[0]
    out.say(f"File {row['file']}: {row['name']}", "bold")
    facts = {
        "state": _state(row["state"]),
        "sha256": row["sha256"],
        "size": wording.size(row["size"]),
        "header": f"{row['version_header'] or 'none'}, from {row['from_participant'] or '?'} "
        f"to {row['to_participant'] or '?'}, {wording.stamp(row['file_at']) or 'no DateTime'}",
        "message": row.get("message_id"),
        "days": f"{row['days_read']:,} read = {row['days_stored']:,} stored + "
        f"{row['days_unchanged']:,} unchanged + {row['days_rejected']:,} rejected",
        "reads": f"{row['reads_read']:,} read = {row['reads_stored']:,} stored + "
        f"{row['reads_unchanged']:,} unchanged + {row['reads_rejected']:,} rejected"
        if row["reads_read"]
        else None,
        "NMIs": wording.cell(row["nmis"]),
        "span": f"{row['first_day']} to {row['last_day']}" if row["first_day"] else None,
        "loaded": wording.stamp(row["loaded_at"]),
    }
    for name, value in facts.items():
        if value:
            out.say(f"  {name:<9} {value}")
