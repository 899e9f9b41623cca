"""Chaos: what the store promises, shown under kill -9, races, lost connections and a dead server.

Why: a promise about concurrency and crashes that was never attacked is a hope.

How: every run is made from a seed, uses real processes and a real PostgreSQL, and ends by
comparing the store with a model (``model.py``) that is too simple to be wrong. Attacks that should
find nothing have a control that must find something.

Look next: ``run.py`` (``make chaos``) runs them all and writes docs/chaos.md; short forms of them
are in tests/integration and tests/acceptance; docs/testing.md explains.
"""
