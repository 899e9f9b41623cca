"""The schema as markdown, for docs/store.md.

Why: tables.py describes every table and column once; the page must not drift from it.

Look next: ``tests/unit/test_store_sqlite.py`` keeps the page equal to this.
"""

from __future__ import annotations

from nemflow.store.tables import metadata


def markdown() -> str:
    """Every table in the order of its making, every column with its meaning."""
    parts = []
    for table in metadata.tables.values():
        rows = [
            f"| `{column.name}` | {column.comment} | {'' if column.nullable else 'always'} |"
            for column in table.columns
        ]
        head = f"### `{table.name}`\n\n{table.comment}\n\n| column | meaning | set |\n|---|---|---|"
        parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts) + "\n"
