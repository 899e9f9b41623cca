"""What we know: deliveries, files, days and their versions, on SQLite (embedded).

Why: interval data is corrected for years. A received day is a fact and is only ever appended;
which version is *current* is decided on read, by the data alone, so the same files in any order,
with any subset undone, give the same readings.

Promises: a reader sees published loads only, whole; nothing is updated in place; values are exact
decimals from end to end (sums are sums over integers); every error is one of
``nemflow.errors.StoreError`` (locked -> ``StoreBusy``, disk full -> ``StoreFull``, not to be opened
-> ``StoreUnreachable``, other schema -> ``StoreOutdated``) or ``NotFound``.

The public names::

    open_store(url=None, *, create=True) -> Store
    upgrade_store(url=None) -> list[str]          # schema revisions applied
    Store                                          # everything that can be asked, see its methods
    DEFAULT_URL                                    # sqlite:///nemflow.db

Time: every time column of an answer is ``Datetime("us", "Etc/GMT-10")`` (market time, UTC+10 all
year), every day column ``Date``. Loading, undo and replay are verbs of ``nemflow.pipeline``.

Look next: ``store.py`` (the questions), ``tables.py`` (the schema), ``docs/store.md`` (why).
"""

from __future__ import annotations

from nemflow.store.store import DEFAULT_URL, Store, open_store, upgrade_store

__all__ = ["DEFAULT_URL", "Store", "open_store", "upgrade_store"]
