"""The two-minute tour.

Why: soon.
"""

from __future__ import annotations


def demo() -> None:
    """Make believable deliveries, load them, and look at them."""
