"""What a conversion reads, keeps and leaves out, counted while it streams by.

Why: a file that is quietly smaller than its source would be a lie.

Promises: every day and register read is either kept or counted as left out; days that occur more
than once are noticed.

Look next: ``convert.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import polars as pl

from nemflow.cli.wording import count
from nemflow.errors import DataError
from nemflow.mdff.meterdata import MeterData


class Tally:
    """The account of one conversion."""

    def __init__(self, *, include_rejected: bool) -> None:
        self.include_rejected = include_rejected
        self.rows = 0  #: rows, lines or INSERTs written
        self.days = 0  #: kept
        self.reads = 0  #: kept
        self.left_out = 0  #: days and register reads that a rule rejects
        self.late_twins = 0  #: days written before a later chunk showed them to be twins (I009)
        self.missed: Counter[str] = Counter()  #: kept ``days`` and ``reads`` of another kind
        self._keys: list[pl.Series] = []

    def kept(self, chunks: Iterator[MeterData]) -> Iterator[MeterData]:
        """The chunks, without what is rejected unless asked for.

        Raises:
            DataError: at the end, when there was nothing to write.
        """
        for data in chunks:
            chosen = data if self.include_rejected else data.accepted
            self.left_out += data.frame_days.height - chosen.frame_days.height
            self.left_out += data.register_reads.height - chosen.register_reads.height
            self.late_twins += data.twins.height
            self.days += chosen.frame_days.height
            self.reads += chosen.register_reads.height
            self._keys.append(
                chosen.frame_days.select(pl.struct("nmi", "suffix", "day").hash()).to_series()
            )
            yield chosen
        if not self.days and not self.reads:
            raise DataError(
                "There is nothing to write: no day could be kept.",
                hint="See why with nemflow check; --include-rejected keeps rejected days.",
            )

    @property
    def repeated(self) -> int:
        """How many kept days had been there before, for the same NMI, suffix and date."""
        if not self._keys:
            return 0
        return self.days - pl.concat(self._keys).n_unique()

    def remarks(self) -> list[str]:
        """What a person should know of the result."""
        lines = []
        if self.left_out:
            lines.append(
                f"{count(self.left_out, 'rejected day')} left out; "
                "why: nemflow check; to keep them: --include-rejected"
            )
        if self.late_twins and not self.include_rejected:
            lines.append(
                f"{count(self.late_twins, 'day')} contradicted later in the same file (I009) "
                "had already been written."
            )
        if self.missed["reads"]:
            lines.append(
                f"{count(self.missed['reads'], 'register read')} (NEM13) not written: "
                "a table holds one kind; convert those files alone, to .csv or .parquet."
            )
        if self.missed["days"]:
            lines.append(
                f"{count(self.missed['days'], 'day')} of interval data not written: "
                "a table holds one kind; convert those files alone."
            )
        if self.repeated:
            lines.append(
                f"{count(self.repeated, 'day')} occur more than once; tables hold every version "
                "(see version_at). nemflow load keeps track of which one counts."
            )
        return lines
