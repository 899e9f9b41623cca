"""``check``: would a load take these files, and what is wrong with them?

Why: a sender or an analyst wants to know before anything is stored.

Promises: it is a dry run of ``load`` into an empty store, so it prints exactly the findings that
``load --dry-run`` prints; nothing is written; exit 1 when a file would be refused or a day kept
out, 0 when there are only warnings.

Look next: ``findings.py`` for the paragraphs, :func:`nemflow.pipeline.load` for the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.cli import faults
from nemflow.cli.options import ProfileOption, all_there, settings
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.cli.wording import count

if TYPE_CHECKING:
    from nemflow.pipeline.outcome import FileOutcome, LoadSummary

_FILES = (
    Column("source", "file", style="bold", gives_way="front"),
    Column("days", right=True),
    Column("kept_out", "kept out", right=True),
    Column("warnings", right=True),
    Column("verdict", gives_way="fold"),
)


def check(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(help="Files, folders or archives.", metavar="FILE")
    ],
    *,
    profile: ProfileOption = None,
    every: Annotated[bool, typer.Option("--all", help="Every file and every place.")] = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Check files against the rules; nothing is stored."""
    from nemflow import pipeline
    from nemflow.cli.findings import COLUMNS
    from nemflow.cli.progress import progress_bar

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    chosen = settings(ctx, profile=profile)
    all_there(files)
    with progress_bar("Checking") as progress:
        summary = pipeline.load(
            None,
            files,
            profile=chosen.profile,
            dry_run=True,
            progress=progress,
            limits=chosen.limits,
            xml_limits=chosen.xml_limits,
            value_limits=chosen.value_limits,
            participant=chosen.participant,
        )
    if out.form == "json":
        out.document({"ok": summary.ok, "profile": chosen.profile, "files": _documents(summary)})
    elif out.form == "csv":
        out.rows(COLUMNS, summary.findings)
    else:
        _report(out, summary, chosen.profile or "the default profile", every=every)
    if not summary.ok:
        raise typer.Exit(faults.PROBLEMS)


def _report(out: Output, summary: LoadSummary, profile: str, *, every: bool) -> None:
    """The files, the findings by rule, and the verdict."""
    from nemflow.cli.findings import in_words, print_findings
    from nemflow.cli.summary import MANY

    rows = [_row(each) for each in summary.files]
    shown = rows if every or len(rows) <= MANY else [r for r in rows if r["verdict"] != "fine"]
    out.rows(_FILES, shown, empty="")
    if len(shown) < len(rows):
        out.say(f"… and {count(len(rows) - len(shown), 'file')} that are fine; --all lists them.")
    findings = summary.findings
    print_findings(out, findings, every=every)
    bad = sum(not each.ok for each in summary.files)
    verdict = f"{count(bad, 'file')} with problems" if bad else "a load would take every day"
    out.say()
    out.say(
        f"{count(len(rows), 'file')} checked under {profile}: {verdict}; {in_words(findings)}.",
        "bold yellow" if bad else "bold green",
    )
    if not findings.is_empty():
        out.command("More on a rule: ", f"nemflow explain {findings['rule'][0]}")


def _row(each: FileOutcome) -> dict[str, Any]:
    """One file's line."""
    warnings = 0 if each.findings is None else (each.findings["severity"] == "W").sum()
    return {
        "source": each.source,
        "days": each.days.read + each.reads.read,
        "kept_out": each.days.rejected + each.reads.rejected,
        "warnings": int(warnings),
        "verdict": _verdict(each),
    }


def _verdict(each: FileOutcome) -> str:
    """What a load would do with the file."""
    if each.duplicate_of:
        return f"same content as {each.duplicate_of}"
    if each.rules:
        return ", ".join(f"{rule} x{n}" for rule, n in each.rules.items())
    if each.error:
        return f"refused: {each.error}"
    return "fine" if each.ok else "refused"


def _documents(summary: LoadSummary) -> list[dict[str, Any]]:
    """The files for JSON, each with its findings."""
    return [_row(each) | {"findings": each.to_dict()["findings"]} for each in summary.files]
