"""What a rule and a deviation are made of.

Why: the reader, the command line, the stored findings and the docs all quote the same words.
Promises: values are frozen, and severities are spelt F, D, W or ``-`` everywhere.
Where next: ``nemflow.mdff.rules`` joins the catalogue; the series modules beside this hold it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variant:
    """A named case of a rule whose severity differs from the rule's own."""

    name: str  #: how code asks for it, e.g. ``severity("Q009", "b2b", "not_v")``
    when: str  #: the case in words, fits after "when"
    b2b: str  #: F, D, W or ``-``
    portal: str  #: F, D, W or ``-``


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: what is checked, how bad it is, and what to do about it.

    ``expected`` is a phrase that fits after "expected"; ``todo`` is one or two whole sentences.
    """

    id: str  #: series letter and three digits, e.g. ``I001``
    title: str  #: what is wrong, in a few words
    b2b: str  #: severity under the strict profile: F, D, W or ``-``
    portal: str  #: severity under the tolerant profile: F, D, W or ``-``
    record: str  #: ``file``, or the record indicators it is found on, e.g. ``300, 400, 250``
    spec: str  #: section of the MDFF specification 2.5, or ``nemflow`` where that is silent
    expected: str  #: what a right file has
    todo: str  #: what the reader of the finding should do next
    example: str  #: the smallest offending line or lines, invented
    deviations: tuple[str, ...] = ()  #: the deviations it reports, e.g. ``("D08",)``
    variants: tuple[Variant, ...] = ()  #: cases with a severity of their own
    needs: str = ""  #: what must be known before it can be checked


@dataclass(frozen=True, slots=True)
class Deviation:
    """One way in which files seen in the field leave the specification."""

    id: str  #: ``D01`` … ``D41``
    what: str  #: what such a file looks like
    portal: str  #: what nemflow does under the portal profile
    b2b: str  #: what nemflow does under the b2b profile
    rules: tuple[str, ...] = ()  #: rule ids that report it; empty when it is legal
