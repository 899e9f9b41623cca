"""What an attack found, and the page it is written on.

Why: docs/chaos.md is made by the run itself, so it cannot say more than what was seen.

Look next: ``run.py``.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import nemflow


@dataclass(slots=True)
class Attack:
    """One attack: what was done, what was counted, what was wrong."""

    name: str
    done: str  #: what was done, a sentence or two
    counts: dict[str, int | float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str = ""  #: why it could not be made
    more: str = ""  #: further text for the page

    @property
    def held(self) -> bool:
        """Whether the promise held (and, for a control, whether it broke as it must)."""
        return not self.wrong and not self.skipped

    @property
    def is_control(self) -> bool:
        """Whether it does what others do, and must fail to show that the attack can be lost."""
        return self.name.startswith("Control")

    @property
    def verdict(self) -> str:
        """What came of it, in a word or two."""
        if self.skipped:
            return "skipped"
        if self.is_control:
            return "broke" if self.held else "DID NOT BREAK"
        return "held" if self.held else "BROKEN"


def machine() -> str:
    """Cores and memory; nothing else of the machine matters."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{os.cpu_count()} cores, {pages / 2**30:.0f} GiB of memory"


def terminal(attacks: Sequence[Attack]) -> str:
    """The attacks as a person at a terminal reads them."""
    lines = []
    for attack in attacks:
        counted = ", ".join(f"{name} {_number(count)}" for name, count in attack.counts.items())
        said = attack.skipped or counted
        lines.append(f"{attack.verdict:14}{attack.name:30}{attack.seconds:7.1f} s  {said}")
        lines += [f"        ! {wrong}" for wrong in attack.wrong[:10]]
    return "\n".join(lines)


def page(attacks: Sequence[Attack], *, seed: int, quick: bool, versions: Mapping[str, str]) -> str:
    """docs/chaos.md."""
    promises = [attack for attack in attacks if not attack.is_control]
    held = sum(attack.held for attack in promises)
    verdict = f"**{held} of {len(promises)} promises held.**"
    if all(attack.held for attack in attacks if attack.is_control):
        verdict += " The controls broke, as they must."
    short = "short" if quick else "full"
    parts = [
        "# Chaos",
        f"Written by `make chaos ARGS=--write-docs` on {date.today().isoformat()}; "  # noqa: DTZ011
        "do not edit by hand. What each attack is for, and how to repeat one, is in "
        "[testing](testing.md).",
        f'- Seed: {seed} (`make chaos ARGS="--seed {seed}"`), {short} form\n'
        f"- Machine: {machine()}\n"
        f"- Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}\n"
        f"- Took: {sum(attack.seconds for attack in attacks):.0f} s\n"
        f"- Verdict: {verdict}",
        "\n".join(
            [
                "| attack | verdict | seconds |",
                "| --- | --- | --- |",
                *map(_row, attacks),
            ]
        ),
        *(_section(attack) for attack in attacks),
    ]
    return "\n\n".join(parts) + "\n"


def page_with(
    old: str, attacks: Sequence[Attack], *, seed: int, quick: bool, size: int | None = None
) -> str:
    """The page with some attacks made again: their sections and lines anew, all others as they are.

    Each of them says when and with which seed it was made, for the page's head speaks of all.
    """
    head, *sections = old.rstrip("\n").split("\n\n## ")
    lines = head.split("\n")
    form = f"size {size}" if size else "short form" if quick else "full form"
    for attack in attacks:
        row = _row(attack)
        lines = [line for line in lines if not line.startswith(f"| {attack.name} |")]
        lines.append(row)  # the table ends the head
        again = f"Made again on {date.today().isoformat()}, seed {seed}, {form}."  # noqa: DTZ011
        new = f"{_section(attack)}\n\n{again}".removeprefix("## ")
        found = [n for n, each in enumerate(sections) if each.split("\n", 1)[0] == attack.name]
        if found:
            sections[found[0]] = new
        else:
            sections.append(new)
    return "\n\n## ".join(["\n".join(lines), *sections]) + "\n"


def _row(attack: Attack) -> str:
    return f"| {attack.name} | {attack.verdict} | {attack.seconds:.1f} |"


def _section(attack: Attack) -> str:
    parts = [f"## {attack.name}", attack.done]
    if attack.skipped:
        parts.append(f"Skipped: {attack.skipped}.")
    if attack.counts:
        rows = [f"| {name} | {_number(count)} |" for name, count in attack.counts.items()]
        parts.append("\n".join(["| counted | |", "| --- | --- |", *rows]))
    if attack.wrong:
        parts.append("\n".join(["Broken:", "", *(f"- {wrong}" for wrong in attack.wrong[:20])]))
    if attack.more:
        parts.append(attack.more)
    return "\n\n".join(parts)


def _number(count: float) -> str:
    return f"{count:,}" if isinstance(count, int) else f"{count:,.2f}"


def versions(postgres: str) -> dict[str, str]:
    """Of everything whose behaviour was tested."""
    import polars
    import psycopg
    import sqlalchemy

    return {
        "nemflow": nemflow.__version__,
        "Python": platform.python_version(),
        "PostgreSQL": postgres,
        "psycopg": psycopg.__version__,
        "SQLAlchemy": sqlalchemy.__version__,
        "polars": polars.__version__,
    }


def write(path: Path, text: str) -> None:
    """Write the page."""
    path.write_text(text, encoding="utf-8")
