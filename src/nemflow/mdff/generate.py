"""Believable NEM12 and NEM13 files by seed, right or deliberately broken.

Why: a demo needs deliveries, a test needs data whose right answer is known, a measurement
needs any amount of it, and nobody's real readings belong in a repository.

Promise: the same arguments give the same bytes on every machine; the text is canonical
(``docs/writing.md``); NMIs come from the sample range and belong to nobody. A day's values
depend on the seed, the meter and the date alone, so files of neighbouring days fit together.
At least two million readings a second.

Where next: ``generate_intervals.py`` and ``generate_load.py`` make NEM12,
``generate_registers.py`` NEM13, ``generate_corrections.py`` later versions,
``generate_broken.py`` the broken ones; ``docs/generate.md`` is the tour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from nemflow.mdff.generate_broken import BREAKABLE, UNBREAKABLE, broken
from nemflow.mdff.generate_intervals import intervals
from nemflow.mdff.generate_message import file_name, generate_message
from nemflow.mdff.generate_options import FROM, TO, Options, sample_nmis
from nemflow.mdff.generate_registers import registers
from nemflow.mdff.writer import EOL

if TYPE_CHECKING:
    from nemflow.mdff.meterdata import MeterData

__all__ = [
    "BREAKABLE",
    "UNBREAKABLE",
    "Options",
    "file_name",
    "generate",
    "generate_message",
    "sample_nmis",
    "stream",
]


def generate(
    *,
    nmis: int | Sequence[str] = 1,
    days: int = 7,
    start: date | None = None,
    interval: int | Sequence[int] = 30,
    streams: Sequence[str] | None = None,
    seed: int = 0,
    estimated: float = 0.0,
    substituted: float = 0.0,
    service_orders: bool = False,
    kind: str = "NEM12",
    file_at: datetime | None = None,
    update_at: datetime | None = None,
    from_participant: str = FROM,
    to_participant: str = TO,
    decimals: int = 3,
    corrections_of: bytes | MeterData | None = None,
    corrected: float = 1.0,
    break_it: Sequence[str] = (),
) -> bytes:
    """Make the text of one NEM12 or NEM13 file: canonical, ASCII, CRLF (spec §1-§3).

    Args:
        nmis: how many (from the sample range SASMPL0001 on) or which.
        days: how many days; NEM13 has one read each quarter of a year (91 days), at least one
            period, and an estimated period at each register's end.
        start: the first day; by default the last day is 31 March 2025.
        interval: minutes, 5, 15 or 30; several are taken in turn by the NMIs.
        streams: data streams of each NMI, by default E1 and B1; NEM13: 11.
        seed: another seed, other households and another sky.
        estimated: share of days with an estimated stretch (300 flagged V with 400s).
        substituted: share of days with a substituted stretch, with reason codes.
        service_orders: add 500 (NEM13: 550) records.
        kind: NEM12 or NEM13.
        file_at: the header's DateTime; by default 04:30 after the last day. A time without
            zone is market time, UTC+10.
        update_at: one UpdateDateTime for all; by default the morning after each day.
        from_participant: who sends.
        to_participant: who receives.
        decimals: of the kWh values, at most; the text has the shortest form.
        corrections_of: a file, or what was read from it: give a later version of the same
            days instead, every other argument but the stamps, ``seed`` and ``break_it`` unused.
        corrected: share of its days that change; the others are sent again as they were.
        break_it: rule ids; each adds records (an NMI of their own where possible) or a flaw
            of the file that breaks just that rule. See BREAKABLE and UNBREAKABLE.

    Raises:
        UsageError: arguments that do not fit, a rule id that is unknown, not breakable by
            text, or not of this kind of file.
    """
    options = Options(
        nmis=nmis,
        days=days,
        start=start,
        interval=interval,
        streams=streams,
        seed=seed,
        estimated=estimated,
        substituted=substituted,
        service_orders=service_orders,
        kind=kind,
        file_at=file_at,
        update_at=update_at,
        from_participant=from_participant,
        to_participant=to_participant,
        decimals=decimals,
    )
    if corrections_of is None:
        text = b"".join(stream(options))
    else:
        from nemflow.mdff.generate_corrections import later_version

        text = later_version(corrections_of, options, corrected)
    if break_it:
        text = broken(text, break_it)
    return text


def stream(options: Options) -> Iterator[bytes]:
    """Give the file piece by piece, for files that should not be in memory whole."""
    yield options.header().encode("ascii")
    if options.kind == "NEM12":
        yield from intervals(options)
    else:
        yield from registers(options)
    yield f"900{EOL}".encode("ascii")
