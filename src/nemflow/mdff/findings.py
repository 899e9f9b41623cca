"""Collecting findings: rules met at places, as small frames, put together at the end.

Why: rules are evaluated over whole columns; the few rows that break one become findings with
everything a person needs (where, which field and value, what was expected, what to do).

Promises: a rule that a profile switches off leaves no trace; a finding of severity D keeps
its day or register read out of a load, one of severity F the whole source.

Next: :mod:`nemflow.mdff.rules` is the catalogue; :mod:`nemflow.mdff.reader` puts it to work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from nemflow.mdff.meterdata import FINDINGS
from nemflow.mdff.rules import RULES, severity

#: What a collected frame holds: the line it stands on, and the record it takes down with it.
_COLLECTED = pl.Schema(
    {
        "row": pl.UInt32,
        "src": pl.UInt32,
        "target": pl.UInt32,
        "at": pl.UInt32,
        "rule": pl.String,
        "severity": pl.String,
        "field": pl.String,
        "value": pl.String,
        "message": pl.String,
    }
)

#: A value in a finding is shortened to this; the raw line is always whole.
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Check:
    """One rule as a column expression over the rows of one record type.

    ``bad`` is true (null counts as false) where the rule is met; ``message`` may be a plain
    sentence or an expression; ``severity`` overrides the profile's where the rule depends on
    more than the profile. All but ``bad`` are evaluated over the bad rows only, so they may not
    look at neighbours (shift, over).
    """

    rule: str
    bad: pl.Expr
    field: str | pl.Expr
    value: pl.Expr | None = None
    message: str | pl.Expr = ""
    severity: str | pl.Expr | None = None


class Findings:
    """The findings of one parse, under one rule profile."""

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self._frames: list[pl.DataFrame] = []

    def run(self, rows: pl.DataFrame, checks: Sequence[Check]) -> None:
        """Evaluate all checks over ``rows`` (columns row, src, target) in one pass."""
        if rows.is_empty():
            return
        live = [check for check in checks if severity(check.rule, self.profile) != "-"]
        met = rows.select(
            check.bad.any(ignore_nulls=True).alias(str(i)) for i, check in enumerate(live)
        ).row(0)
        for check, any_bad in zip(live, met, strict=True):
            if any_bad:
                self.add(rows.filter(check.bad), check)

    def add(self, rows: pl.DataFrame, check: Check) -> None:
        """Record ``check`` for every row of ``rows``, whatever its ``bad`` says."""
        level = severity(check.rule, self.profile)
        if level == "-" or rows.is_empty():
            return
        wanted = check.severity if check.severity is not None else level
        message: str | pl.Expr = check.message
        if isinstance(message, str) and not message:
            message = RULES[check.rule].expected
        # a rule over many lines may name its line without having its row
        at = pl.col("at").cast(pl.UInt32) if "at" in rows.columns else pl.lit(None, pl.UInt32)
        value = check.value if check.value is not None else pl.lit(None, pl.String)
        self._frames.append(
            rows.select(
                pl.col("row").cast(pl.UInt32),
                pl.col("src").cast(pl.UInt32),
                pl.col("target").cast(pl.UInt32),
                at.alias("at"),
                pl.lit(check.rule).alias("rule"),
                _text(wanted).alias("severity"),
                _text(check.field).alias("field"),
                value.cast(pl.String).str.head(_SHOWN).alias("value"),
                _text(message).alias("message"),
            )
        )

    def note(
        self,
        rule: str,
        src: int,
        message: str,
        *,
        row: int | None = None,
        value: str | None = None,
        field: str = "",
    ) -> None:
        """Record one finding about a source, at a line or about the whole of it."""
        frame = pl.DataFrame(
            {"row": [row], "src": [src], "target": [None], "v": [value]},
            schema={"row": pl.UInt32, "src": pl.UInt32, "target": pl.UInt32, "v": pl.String},
        )
        self.add(frame, Check(rule, pl.lit(value=True), field, pl.col("v"), message))

    def collected(self) -> pl.DataFrame:
        """Everything recorded so far: row, src, target, rule, severity, field, value, message."""
        if not self._frames:
            return pl.DataFrame(schema=_COLLECTED)
        return pl.concat(self._frames)


def finished(collected: pl.DataFrame, lines: pl.DataFrame, sources: pl.Series) -> pl.DataFrame:
    """The public findings frame, ordered by source and line.

    ``lines`` holds row, line, block, kind, text of every line; ``sources`` the names by src.
    """
    if collected.is_empty():
        return pl.DataFrame(schema=FINDINGS)
    todo = {rule_id: rule.todo for rule_id, rule in RULES.items()}
    where = lines.select("row", "line", "block", "kind", raw="text")
    named = pl.DataFrame({"source": sources}).with_row_index("src")
    return (
        collected.join(where, on="row", how="left", maintain_order="left")
        .join(named, on="src", how="left", maintain_order="left")
        .with_columns(pl.coalesce("line", "at").alias("line"))
        .sort("src", "line", "rule", nulls_last=False, maintain_order=True)
        .select(
            source="source",
            line="line",
            block="block",
            record=pl.when(pl.col("kind") > 0).then(pl.col("kind").cast(pl.String)),
            field=pl.col("field").replace("", None),
            value=_own("value"),
            rule="rule",
            severity="severity",
            message="message",
            todo=pl.col("rule").replace_strict(todo, return_dtype=pl.String),
            raw=_own("raw"),
        )
        .cast(FINDINGS)
    )


def _own(name: str) -> pl.Expr:
    """A text column in memory of its own: a part of a line would keep the whole file's text."""
    return pl.concat_str(pl.col(name), pl.lit(""))


def _text(given: str | pl.Expr) -> pl.Expr:
    return pl.lit(given, pl.String) if isinstance(given, str) else given
