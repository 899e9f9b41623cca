"""Mistakes that a type checker must find: every line marked ``# wrong`` is an error, no other.

Never run, only type-checked (see test_types.py).
"""

from __future__ import annotations

import nemflow

nemflow.read(42)  # wrong
nemflow.read()  # wrong
nemflow.read("day.csv", "b2b")  # wrong
nemflow.read("day.csv", profil="b2b")  # wrong
nemflow.scan("day.csv", chunk_bytes="16 MB")  # wrong
nemflow.generate(3)  # wrong
nemflow.generate(interval="five")  # wrong
nemflow.write("day.csv", "out.csv")  # wrong
nemflow.read("day.csv").reading()  # wrong
nemflow.check("day.csv").findings.select_where("x")  # wrong
nemflow.reed("day.csv")  # wrong
nemflow.read("day.csv").readings(exact="yes")  # wrong
