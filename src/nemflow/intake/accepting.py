"""How much one sender may cost the service: the limits of uploads, as values.

Why: a sender that trickles, floods or sends for ever must cost nothing; the numbers are settings,
and settings may not know the service.

Promises: each limit is enforced while bytes arrive; reaching one is answered with its own code.

Look next: ``nemflow.service.bodies`` and ``nemflow.service.intake``, which enforce them;
``spool.py`` for sizes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AcceptLimits:
    """What one caller may cost."""

    files: int = 100  #: in one upload
    uploads: int = 64  #: at the same time
    floor_bytes_per_second: int = 1024  #: over ``floor_seconds``
    floor_seconds: int = 30
    upload_seconds: int = 900  #: of one upload, all in all
    wait_seconds: int = 120  #: longest ``?wait=``
    page: int = 1000  #: most rows of a list
    waiting_files: int = 100_000  #: more waiting for loading: uploads are refused for a while
    waiting_bytes: int = 20 * 2**30
