"""``delivery``, ``dead``, ``verify``: where something that arrived is, and whether all is there.

Why: whoever runs the service must see what became of each file, put right what stopped, and be
able to prove that nothing was lost.

Promises: everything shown comes from the ledger; retry and cancel are audited, all or none;
``verify`` changes nothing and ends with 1 when a promise is broken.

Look next: :mod:`nemflow.pipeline.verifying`, docs/store.md for the states.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.cli import faults, wording
from nemflow.cli.options import DbOption, again, numbers, open_to_read, settings, who
from nemflow.cli.output import Column, CsvOption, JsonOption, Output, write
from nemflow.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from nemflow.pipeline.reporting import Report

_STEPS = (
    Column("attempt", right=True, show=wording.plain),
    Column("step", style="bold"),
    Column("outcome"),
    Column("began_at", "began", show=wording.stamp),
    Column("ended_at", machine_only=True),
    Column("seconds", right=True),
    Column("detail", gives_way="fold"),
)
_DEAD = (
    Column("delivery", "id", right=True, show=wording.plain, style="bold"),
    Column("name", gives_way="front"),
    Column("sender", optional=True),
    Column("attempts", right=True),
    Column("received_at", "received", show=wording.minute),
    Column("finished_at", "given up", show=wording.minute),
    Column("error", gives_way="fold"),
    *(Column(name, machine_only=True) for name in ("channel", "profile", "sha256", "size", "kept")),
)
_TEXTS = (
    Column("source", gives_way="front"),
    Column("state", style="bold"),
    Column("stored", right=True),
    Column("unchanged", right=True),
    Column("rejected", right=True),
    Column("error", gives_way="fold", optional=True),
)
_FINDINGS = (
    Column("source", gives_way="front", optional=True),
    Column("line", right=True, show=wording.plain),
    Column("nmi", "NMI"),
    Column("suffix"),
    Column("day"),
    Column("rule", style="yellow"),
    Column("severity"),
    Column("message", gives_way="fold"),
    Column("todo", "what to do", gives_way="fold"),
)
_ACTED = (Column("delivery", "id", right=True, show=wording.plain), Column("act"))
_PROMISES = (
    Column("held"),
    Column("promise", gives_way="fold"),
    Column("broken", right=True),
    Column("example", gives_way="fold"),
)


def delivery(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="Its number.", metavar="ID")],
    *,
    retry: Annotated[
        bool, typer.Option("--retry", help="Queue it again: dead, rejected or cancelled.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="With --retry: the rule profile, portal or b2b, from now."),
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop it, when it is not done.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="What its sender is told: each finding, what to mend.")
    ] = False,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show one delivery: where it is, its way step by step, what is in it."""
    from nemflow.pipeline.reporting import report_of

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    if retry and cancel:
        raise UsageError("--retry and --cancel exclude each other.", hint="Give one of them.")
    if profile is not None and not retry:
        raise UsageError("--profile says how to try again.", hint="Give it with --retry.")
    with open_to_read(ctx, db) as store:
        if retry:
            store.retry(number, profile=profile, by=who())
        if cancel:
            store.cancel(number, by=who())
        if report:
            _report(out, report_of(store, number))
            return
        row = store.delivery(number).row(0, named=True)
        way = store.timeline(number)
    if out.form == "json":
        out.document(_plain(row) | {"timeline": [_plain(step) for step in way.to_dicts()]})
        return
    _facts(out, row)
    shown = way if out.form == "csv" else _in_words(way)
    out.rows(_STEPS, shown, empty="It has no timeline: it came by nemflow load.")
    if row["state"] in ("dead", "rejected", "cancelled") and row["kept"] == "spooled":
        out.command("Try it again: ", again(f"delivery {number} --retry", db))


def _report(out: Output, found: Report) -> None:
    """What the sender is told."""
    if out.form == "csv":
        write(found.csv())
        return
    if out.form == "json":
        write(found.json())
        return
    about = found.delivery
    out.say(f"delivery {about['delivery']}: {about['name']}: {about['state']}", "bold")
    if about["error"]:
        out.say(f"  {about['error']}", "red")
    out.rows(_TEXTS, [_counted(each) for each in found.files], empty="No texts.")
    out.rows(_FINDINGS, found.findings, empty="Nothing to mend.")
    if not found.complete:
        out.say(f"Only the first {len(found.findings):,} findings are listed.")
    if found.not_checked:
        out.say(f"Not checked, see nemflow explain: {', '.join(found.not_checked)}.")


def _counted(text: Mapping[str, Any]) -> dict[str, Any]:
    """A text with its days and reads together."""
    counts = {
        name: text["days"].get(name, 0) + text["reads"].get(name, 0)
        for name in ("stored", "unchanged", "rejected")
    }
    return {**text, **counts}


def dead(
    ctx: typer.Context,
    *,
    retry: Annotated[
        list[str] | None,
        typer.Option("--retry", help="Queue again: 7, 7-12 or all; may be repeated.", metavar="ID"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many; 0: all.", min=0)] = 50,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List deliveries that could not be worked on, newest first; queue them again with --retry."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    if retry:
        _retry(ctx, out, retry, db)
        return
    with open_to_read(ctx, db) as store:
        rows = store.dead(limit=limit or None)
    out.rows(_DEAD, rows, empty="Nothing is dead.")
    waiting = rows.filter(rows["kept"] == "spooled")
    if not waiting.is_empty():
        first = waiting["delivery"][0]
        out.command("Its way: ", again(f"delivery {first}", db))
        out.command("Try it again: ", again(f"dead --retry {first}", db))


def _retry(ctx: typer.Context, out: Output, texts: list[str], db: str | None) -> None:
    """Queue again what was named; ``all``: every dead delivery whose original is there."""
    with open_to_read(ctx, db) as store:
        if "all" in texts:
            rows = store.dead(limit=None)
            which = rows.filter(rows["kept"] == "spooled")["delivery"].sort().to_list()
        else:
            which = numbers(texts, "--retry")
        count = store.retry(which, by=who())
    if out.for_people:
        out.say(f"Queued again: {wording.count(count, 'delivery', 'deliveries')}.")
        return
    out.rows(_ACTED, [{"delivery": number, "act": "retry"} for number in which])


def verify(
    ctx: typer.Context,
    *,
    spool: Annotated[
        Path | None, typer.Option("--spool", help="The folder of originals.", metavar="FOLDER")
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", help="Where loaded originals were put.", metavar="FOLDER"),
    ] = None,
    drained: Annotated[
        bool, typer.Option("--drained", help="Also that everything accepted is done.")
    ] = False,
    grace: Annotated[
        float,
        typer.Option(
            "--grace", help="So many seconds a lease may have run out.", metavar="S", min=0
        ),
    ] = 60.0,
    deep: Annotated[
        bool, typer.Option("--deep", help="Hash every stored day and every original again.")
    ] = False,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Check that nothing that was accepted is lost, stuck or counted twice; changes nothing."""
    from nemflow.pipeline.verifying import verify as verified

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    chosen = settings(ctx, db=db)
    kept_in = archive or _folder(chosen.text("spool.archive"))
    with open_to_read(ctx, db) as store:
        found = verified(
            store,
            spool=spool or _folder(chosen.text("spool.folder", "nemflow-spool")),
            archive=kept_in,
            grace=grace,
            drained=drained,
            deep=deep,
        )
    if out.form == "json":
        out.document(found.to_dict())
    else:
        rows = found.promises.to_dicts()
        if out.for_people:
            rows = [row | {"held": "ok" if row["held"] else "BROKEN"} for row in rows]
        out.rows(_PROMISES, rows)
    states = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in found.states.items()
    )
    out.say(f"{wording.count(sum(found.states.values()), 'delivery', 'deliveries')}: {states}."
            if states else "No deliveries.")  # fmt: skip
    out.say(f"{wording.count(found.originals, 'original')} looked for.")
    broken = found.promises.filter(~found.promises["held"]).height
    if broken:
        out.say(f"{wording.count(broken, 'promise')} broken.", "red")
        raise typer.Exit(faults.PROBLEMS)
    out.say(f"All {found.promises.height} promises held.", "green")


def _folder(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for JSON, its JSON texts opened."""
    opened = {"progress", "inspected", "detail"}
    return {
        name: json.loads(value) if name in opened and value else value
        for name, value in row.items()
    }


def _in_words(way: pl.DataFrame) -> list[dict[str, Any]]:
    """The timeline for people: seconds to the hundredth, details as ``name: value``."""
    return [
        step | {"seconds": f"{step['seconds']:.2f}", "detail": _detail(step["detail"])}
        for step in way.to_dicts()
    ]


def _detail(text: str | None) -> str:
    """The plain values of a JSON object; what is nested is in ``--json``."""
    found = json.loads(text) if text else {}
    if not isinstance(found, dict):
        return str(found)
    return ", ".join(
        f"{name}: {value}"
        for name, value in found.items()
        if value is not None and not isinstance(value, dict | list)
    )


def _facts(out: Output, row: Mapping[str, Any]) -> None:
    """What is known of it, for people."""
    out.say(f"delivery {row['delivery']}: {row['name']}", "bold")
    inside = _plain(row)["inspected"] or {}
    days = f"{inside.get('first_day') or '?'} to {inside.get('last_day') or '?'}"
    count = inside.get("nmi_count")
    facts = {
        "state": row["state"].replace("_", " ") + (" (dry run)" if row["dry_run"] else ""),
        "since": wording.stamp(row["finished_at"] or row["state_at"] or row["received_at"]),
        "next try": wording.stamp(row["next_try_at"]),
        "error": row["error"],
        "received": wording.stamp(row["received_at"]),
        "by": ", ".join(str(row[name]) for name in ("channel", "sender", "api_key") if row[name]),
        "in": row["parent"] and f"delivery {row['parent']}",
        "members": row["members"] or None,
        "size": wording.size(row["size"]),
        "original": row["kept"],
        "SHA-256": row["sha256"],
        "lane": row["lane"],
        "attempts": row["attempts"],
        "duplicate": row["duplicate_of"] and f"of delivery {row['duplicate_of']}",
        "file": row["file"],
        "holds": f"{inside.get('kind') or '?'}, {wording.count(count, 'NMI')}, {days}"
        if count
        else inside.get("kind"),
        "unchecked": ", ".join(inside.get("not_checked") or ()),
        "days": f"{row['days_read']:,} read = {row['days_stored']:,} stored + "
        f"{row['days_unchanged']:,} unchanged + {row['days_rejected']:,} rejected"
        if row["days_read"]
        else None,
    }
    for name, value in facts.items():
        if value:
            out.say(f"  {name:<9} {value}")
