"""The texts of the rule catalogue, one module per group of series.

Why: the catalogue is data, and long; it stays readable when each series has its own page.
Promises: nothing here decides anything; a rule is added in exactly one place.
Where next: ``nemflow.mdff.rules`` is the only door; import from there.
"""
