"""The command line: parse, call one function, print.

Why: everything nemflow can do, for people at a terminal and for scripts.

Promises: ``nemflow --help`` answers at once (nothing heavy is imported before a command runs);
every command prints a table, ``--json`` or ``--csv``; exit codes are stable: 0 fine, 1 problems
found in the data, 2 wrong usage, 3 our fault or the system's, 130 stopped with Ctrl-C, 141 the
reader of our pipe went away.

Look next: ``root.py`` (the list of commands), ``output.py`` (what is printed), ``faults.py``
(errors and exit codes), then one module per group of commands.
"""

from __future__ import annotations

from nemflow.cli.root import app, main

__all__ = ["app", "main"]
