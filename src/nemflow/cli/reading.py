"""Files in chunks, with a progress bar: what ``show`` and ``convert`` read through.

Why: both must cope with files larger than memory and should say how far they are.

Promises: bounded memory; the profile of the settings holds; a path that is not there is wrong
usage, before anything is read.

Look next: :func:`nemflow.scan`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nemflow.cli.options import all_there
from nemflow.cli.progress import progress_bar
from nemflow.events import Progress

if TYPE_CHECKING:
    from nemflow.mdff.meterdata import MeterData
    from nemflow.settings import Settings

#: Small enough that the readings of a piece, one row each, take little memory.
_CHUNK_BYTES: Final = 2 * 1024 * 1024


def chunks(paths: Sequence[Path], chosen: Settings, doing: str) -> Iterator[MeterData]:
    """Everything the paths hold, chunk by chunk.

    Raises:
        UsageError: a path is not there.
        FileRefused: one of them cannot be read as MDFF at all.
    """
    import nemflow

    all_there(paths)
    days = 0
    with progress_bar(doing) as progress:
        for number, path in enumerate(paths):
            scanned = nemflow.scan(
                path,
                chunk_bytes=_CHUNK_BYTES,
                profile=chosen.profile or "portal",
                limits=chosen.limits,
                xml_limits=chosen.xml_limits,
                value_limits=chosen.value_limits,
                participant=chosen.participant,
            )
            for data in scanned:
                days += data.frame_days.height + data.register_reads.height
                progress(Progress(str(path), number, days, 0, None))
                yield data
