"""The code lists of the format, one module per list.

Why: the lists change with each edition of AEMO's documents; a change is one line in one table.
Promises: tables only, and the look-ups that belong to them.
Where next: ``nemflow.mdff.codes`` is the only door; import from there.
"""
