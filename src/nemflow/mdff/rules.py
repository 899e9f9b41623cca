"""The rule catalogue: what is checked, how bad it is, what was expected, what to do.

Why: one place from which the reader takes severities, findings take their words, the command
line explains, and the docs are generated.
Promises: ids are public and never reused; every rule has a severity under both profiles.
Where next: the texts are in ``nemflow.mdff.rulebook``, one module per group of series; the checks
themselves are in ``nemflow.mdff.reader`` and ``nemflow.mdff.quality``.
"""

from __future__ import annotations

import difflib
from typing import Final

from nemflow.errors import NotFound, UsageError
from nemflow.mdff.rulebook.day_rules import INTERVAL_RULES, QUALITY_RULES
from nemflow.mdff.rulebook.deviations import DEVIATION_LIST
from nemflow.mdff.rulebook.file_rules import FILE_RULES
from nemflow.mdff.rulebook.model import Deviation, Rule, Variant
from nemflow.mdff.rulebook.read_rules import ACCUMULATION_RULES, SERVICE_RULES
from nemflow.mdff.rulebook.stream_rules import STREAM_RULES

__all__ = [
    "DEVIATIONS",
    "PROFILES",
    "RULES",
    "SERIES",
    "SEVERITIES",
    "Deviation",
    "Rule",
    "Variant",
    "explain",
    "rule",
    "severity",
]

#: The two rule profiles: strict, and tolerant as portal downloads need it.
PROFILES: Final[tuple[str, ...]] = ("b2b", "portal")

#: What a severity means, in words that fit after a colon.
SEVERITIES: Final[dict[str, str]] = {
    "F": "the file is refused, with every day in it",
    "D": "the day (or register read) is kept out of the load and goes to quarantine",
    "W": "a warning; the data is loaded",
    "-": "not reported",
}

#: What each series of ids is about, in the order in which the catalogue lists them.
SERIES: Final[dict[str, str]] = {
    "F": "File, header and order of records",
    "N": "NMI and data stream (200, 250)",
    "I": "Interval data (300)",
    "Q": "Quality, method and reason (300, 400, 250)",
    "B": "B2B details (500, 550)",
    "A": "Accumulation data (250)",
}

#: Every rule by its id, series in the order of SERIES, numbers ascending.
RULES: Final[dict[str, Rule]] = {
    rule.id: rule
    for rule in (
        *FILE_RULES,
        *STREAM_RULES,
        *INTERVAL_RULES,
        *QUALITY_RULES,
        *SERVICE_RULES,
        *ACCUMULATION_RULES,
    )
}

#: Every known deviation by its id, D01 to D41.
DEVIATIONS: Final[dict[str, Deviation]] = {each.id: each for each in DEVIATION_LIST}


def rule(rule_id: str) -> Rule:
    """The rule of that id, in any case.

    Raises:
        NotFound: no such rule; the message names the nearest ids.
    """
    found = RULES.get(rule_id.strip().upper())
    if found is None:
        near = _near(rule_id.strip().upper())
        raise NotFound(
            f"There is no rule {rule_id!r}.",
            hint=f"Did you mean {', '.join(near)}?"
            if near
            else f"Rules begin with {', '.join(f'{series}001' for series in SERIES)}.",
        )
    return found


def _near(typed: str) -> list[str]:
    """Up to three ids that may have been meant: the same number, then the likest spelling."""
    letter, number = typed[:1], typed[1:].lstrip("0")
    same = [f"{letter}{number:0>3}"] if f"{letter}{number:0>3}" in RULES else []
    close = difflib.get_close_matches(typed, RULES, n=3, cutoff=0.5)
    return list(dict.fromkeys([*same, *close]))[:3]


def severity(rule_id: str, profile: str, variant: str | None = None) -> str:
    """How bad it is: ``"F"``, ``"D"``, ``"W"``, or ``"-"`` when the profile does not report it.

    ``variant`` names a case of the rule with a severity of its own, e.g. ``"not_v"`` of Q009.

    Raises:
        NotFound: no such rule.
        UsageError: no such profile, or the rule has no such variant.
    """
    found: Rule | Variant = rule(rule_id)
    if profile not in PROFILES:
        raise UsageError(
            f"There is no rule profile {profile!r}.", hint=f"Profiles are {' and '.join(PROFILES)}."
        )
    if variant is not None:
        named = {each.name: each for each in rule(rule_id).variants}
        if variant not in named:
            raise UsageError(f"Rule {rule_id} has no variant {variant!r}.")
        found = named[variant]
    return found.b2b if profile == "b2b" else found.portal


def explain(rule_id: str) -> str:
    """The rule on one screen: severities in words, expected, example, what to do, deviations.

    Raises:
        NotFound: no such rule; the message names the nearest ids.
    """
    found = rule(rule_id)
    parts = [
        f"{found.id}  {found.title}",
        f"Record: {found.record}",
        f"Specification: {found.spec}",
    ]
    if found.needs:
        parts.append(f"Needs: {found.needs}")
    parts += ["", "Severity"]
    for profile in PROFILES:
        letter = severity(found.id, profile)
        parts.append(f"  {profile:<7} {letter}: {SEVERITIES[letter]}")
    for variant in found.variants:
        b2b, portal = (severity(found.id, profile, variant.name) for profile in PROFILES)
        parts.append(f"  b2b {b2b}, portal {portal}, when {variant.when}")
    parts += ["", "Expected", f"  {found.expected}", "", "Example of what is wrong"]
    parts += [f"  {line}" for line in found.example.splitlines()]
    parts += ["", "What to do", f"  {found.todo}"]
    if found.deviations:
        parts += ["", "Seen in the field"]
        parts += [f"  {each}  {DEVIATIONS[each].what}" for each in found.deviations]
    return "\n".join(parts)
