"""Write docs/samples.md: what nemflow says of each real sample file, under both profiles.

``python bench/samples_table.py`` writes the page; ``--check`` only says whether it is up to date
(exit code 1 when not). The samples are read where they lie (``NEMFLOW_SAMPLES``, or
``../shared/samples`` beside the repository); the page names them and copies nothing from them.
"""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from pathlib import Path

import nemflow

REPO = Path(__file__).resolve().parent.parent
PAGE = REPO / "docs" / "samples.md"
SAMPLES = Path(os.environ.get("NEMFLOW_SAMPLES") or REPO.parent / "shared" / "samples")

INTRO = """# What nemflow says of real files

Written by `python bench/samples_table.py`; do not edit by hand. {count} files from public projects,
most of them what senders really emit or their test cases. They are not part of this repository;
names are relative to the samples folder, and nothing of their content is repeated here.

*days* are the 300 records of a file (for NEM13 and consumption data: its 250 records), and how
many of them a rule keeps out of a load; *rules* are the ids that were met, with their number. Look
one up with `nemflow explain I001`. *refused* means that the file cannot be read as MDFF at all.

| profile | read without rejects | read with rejects | refused | days read | days rejected |
|---|---|---|---|---|---|
{totals}

| sample | kind | portal: days | portal: rules | b2b: days | b2b: rules |
|---|---|---|---|---|---|
{rows}
"""


def verdict(path: Path, profile: str) -> tuple[str, str, int, int]:
    """What is said of one file: days in words, rules in words, records read and rejected."""
    report = nemflow.check(path, profile=profile)
    if report.refused:
        refused = report.refused[0]
        return "refused", f"{refused.rule}: {refused.message}", 0, 0
    read = report.days_read + report.reads_read
    rejected = report.days_rejected + report.reads_rejected
    rules = Counter(report.findings["rule"].to_list())
    told = ", ".join(f"{rule} x{n}" if n > 1 else rule for rule, n in sorted(rules.items()))
    return (f"{read}, {rejected} rejected" if rejected else f"{read}"), told, read, rejected


def page() -> str:
    """The whole page as text."""
    with (SAMPLES / "manifest.csv").open(encoding="utf-8", newline="") as handle:
        samples = list(csv.DictReader(handle))
    tallies = {profile: Counter[str]() for profile in ("portal", "b2b")}
    rows = []
    for sample in samples:
        cells = [f"`{sample['path']}`", f"{sample['format']}, {sample['container']}"]
        for profile, tally in tallies.items():
            days, rules, read, rejected = verdict(SAMPLES / sample["path"], profile)
            state = "refused" if days == "refused" else "rejects" if rejected else "clean"
            tally.update({state: 1, "read": read, "rejected": rejected})
            cells += [days, rules.replace("|", "\\|").replace(str(SAMPLES), "")]
        rows.append(f"| {' | '.join(cells)} |")
    totals = [
        f"| {profile} | {tally['clean']} | {tally['rejects']} | {tally['refused']} "
        f"| {tally['read']:,} | {tally['rejected']:,} |"
        for profile, tally in tallies.items()
    ]
    return INTRO.format(count=len(samples), totals="\n".join(totals), rows="\n".join(rows))


def main() -> int:
    """Write or check the page."""
    if not (SAMPLES / "manifest.csv").is_file():
        print("No sample files: set NEMFLOW_SAMPLES to the folder with manifest.csv.")
        return 0
    text = page()
    if "--check" in sys.argv:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print("docs/samples.md is up to date." if same else "docs/samples.md is stale.")
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"Wrote docs/samples.md: {text.count(chr(10))} lines.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
