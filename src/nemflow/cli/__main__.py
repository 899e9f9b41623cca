"""``python -m nemflow.cli``: the command ``nemflow`` where scripts are not installed."""

from __future__ import annotations

from nemflow.cli import main

if __name__ == "__main__":
    main()
