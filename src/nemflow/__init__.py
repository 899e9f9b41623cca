"""nemflow: from metering file to trusted reading.

The one public door. Reading needs no store and no server::

    import nemflow

    data = nemflow.read("deliveries/")      # a file, a folder, a zip of zips, aseXML
    frame = data.readings()                 # one row per interval, market time

Everything here is imported on first use, so that ``import nemflow`` costs nothing.
Next: docs/library.md for people, :mod:`nemflow.library` for the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nemflow._version import __version__ as __version__

if TYPE_CHECKING:
    from nemflow.errors import (
        ArchiveRefused,
        DataError,
        EnvelopeRefused,
        FileRefused,
        MissingExtra,
        NemflowError,
        NotFound,
        StoreError,
        SystemFault,
        UsageError,
    )
    from nemflow.intake.archive import Limits
    from nemflow.library import Report, check, generate, read, scan, write
    from nemflow.mdff.asexml import XmlLimits
    from nemflow.mdff.meterdata import MeterData
    from nemflow.mdff.rules import explain

_HOMES = {
    "ArchiveRefused": "nemflow.errors",
    "DataError": "nemflow.errors",
    "EnvelopeRefused": "nemflow.errors",
    "FileRefused": "nemflow.errors",
    "Limits": "nemflow.intake.archive",
    "MeterData": "nemflow.mdff.meterdata",
    "MissingExtra": "nemflow.errors",
    "NemflowError": "nemflow.errors",
    "NotFound": "nemflow.errors",
    "Report": "nemflow.library",
    "StoreError": "nemflow.errors",
    "SystemFault": "nemflow.errors",
    "UsageError": "nemflow.errors",
    "XmlLimits": "nemflow.mdff.asexml",
    "check": "nemflow.library",
    "explain": "nemflow.mdff.rules",
    "generate": "nemflow.library",
    "read": "nemflow.library",
    "scan": "nemflow.library",
    "write": "nemflow.library",
}

__all__ = [
    "ArchiveRefused",
    "DataError",
    "EnvelopeRefused",
    "FileRefused",
    "Limits",
    "MeterData",
    "MissingExtra",
    "NemflowError",
    "NotFound",
    "Report",
    "StoreError",
    "SystemFault",
    "UsageError",
    "XmlLimits",
    "check",
    "explain",
    "generate",
    "read",
    "scan",
    "write",
]


if not TYPE_CHECKING:  # a type checker shall complain of a name that is not there

    def __getattr__(name: str) -> Any:
        """Import a public name on first use."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'nemflow' has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """All public names."""
    return sorted([*__all__, "__version__"])
