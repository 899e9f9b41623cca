"""``explain`` and ``nmi``: what a rule means, what an NMI is.

Why: a finding names a rule, a header names an NMI; both can be looked up without a file.

Promises: the words are those of the rule catalogue and the NMI rules; nothing is kept twice here.

Look next: :mod:`nemflow.mdff.rules`, :mod:`nemflow.mdff.nmi`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemflow.cli import faults
from nemflow.cli.output import Column, CsvOption, JsonOption, Output

if TYPE_CHECKING:
    from nemflow.mdff.nmi import Nmi
    from nemflow.mdff.rules import Rule

_RULE_COLUMNS = (
    Column("id", "rule", style="bold"),
    Column("title", gives_way="fold"),
    Column("record", machine_only=True),
    Column("b2b"),
    Column("portal"),
    Column("spec", machine_only=True),
    Column("expected", machine_only=True),
    Column("todo", machine_only=True),
    Column("example", machine_only=True),
    Column("deviations", machine_only=True),
)


_NMI_COLUMNS = (
    Column("nmi", "NMI", style="bold"),
    Column("check_digit", "check digit"),
    Column("check"),
    Column("network", gives_way="fold"),
    Column("participant"),
    Column("region"),
    Column("kind"),
)


def explain(
    rule: Annotated[
        str | None, typer.Argument(help="Rule id, e.g. I001; none lists all rules.", metavar="RULE")
    ] = None,
    *,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Say what a rule checks, what was expected, and what to do."""
    from nemflow.mdff import rules

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    if rule is None:
        out.rows(_RULE_COLUMNS, [_as_row(each) for each in rules.RULES.values()])
        out.say("F file refused, D day kept out, W warning, - not reported.", "dim")
        out.command("One of them in full: ", "nemflow explain I001")
    elif out.for_people:
        out.say(rules.explain(rule))
    else:
        out.rows(_RULE_COLUMNS, [_as_row(rules.rule(rule))])


def _as_row(rule: Rule) -> dict[str, Any]:
    return dataclasses.asdict(rule)


def nmi(
    text: Annotated[
        str, typer.Argument(help="10 characters, or 11 with the check digit.", metavar="NMI")
    ],
    *,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Take an NMI apart: pattern, check digit, likely network."""
    from nemflow.mdff.nmi import parse

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    found = parse(text, strict=False)
    network = found.network
    row = {
        "nmi": found.nmi,
        "check_digit": found.check_digit,
        "check": found.check,
        "network": network.name if network else None,
        "participant": network.participant if network else None,
        "region": found.region or None,
        "kind": network.kind if network else None,
    }
    if out.for_people:
        _describe_nmi(out, found)
    else:
        out.rows(_NMI_COLUMNS, [row])
    if found.check == "wrong":
        raise typer.Exit(faults.PROBLEMS)


def _describe_nmi(out: Output, found: Nmi) -> None:
    """The NMI in sentences."""
    out.say(f"{found.nmi}", "bold")
    if found.check == "wrong":
        out.say(
            f"  check digit: {found.check_digit}, not {found.given}: compare the NMI with its "
            "source, any character may be the wrong one",
            "bold red",
        )
    else:
        also = " (as given)" if found.check == "verified" else ""
        out.say(f"  check digit: {found.check_digit}{also}, written {found.nmi}{found.check_digit}")
    if found.sample:
        out.say("  network: none, this range is kept for examples")
    elif found.network:
        parts = (found.network.name, found.network.participant, found.region)
        out.say(f"  network: {', '.join(part for part in parts if part)}")
        out.say("  (the list of 2017: a hint, ranges may have moved since)", "dim")
    else:
        out.say("  network: not in the list of 2017")
    if found.transmission:
        out.say("  a transmission connection (W in fifth place)")
