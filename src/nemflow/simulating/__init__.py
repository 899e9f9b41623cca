"""Sample traffic: files as senders send them, and the proof of what a service made of them.

Why: a service that loads a demo file is not shown to keep up, nor to lose nothing; that needs any
amount of traffic whose right outcome is known.

Promises: nothing here looks into a store or a spool: the service is asked the way every client
asks it.

Look next: ``traffic.py`` (what is sent), ``sending.py`` (when and how), ``asking.py`` (what the
service says), ``judging.py`` (where the two differ), ``run.py`` (one after the other).
"""

from __future__ import annotations
