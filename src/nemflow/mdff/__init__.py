"""The format: NEM12 and NEM13 texts in, frames out, and back again.

Why: everything that is known of AEMO's Meter Data File Format is here, and nothing else: no files
on disk, no archives, no database.

Promises: needs polars and the standard library only; many texts are read in one vectorised pass;
what a text says wrongly is a finding, never a silent change.

Next: ``reader`` (bytes to :class:`~nemflow.mdff.meterdata.MeterData`), ``rules`` (the catalogue),
``codes`` (the code lists), ``writer`` and ``generate`` (the way back); :mod:`nemflow.library` opens
files and archives for it.
"""
