"""Getting bytes in, safely. Knows nothing of meters.

Why: what arrives is a zip, a zip in a zip, a gzip, a folder or a stream, honest or hostile.
This room turns all of it into plain members, under limits, before anyone parses a line.

* ``archive`` is the door: ``members(source)`` yields ``Member`` or ``Refused``.
* ``zipwalk`` reads a zip's directory and says what cannot be trusted, before inflating.
* ``blob`` is bytes somewhere: in memory, in a temporary file, in a file on disk.

What the limits are and why: docs/archives.md.
"""
