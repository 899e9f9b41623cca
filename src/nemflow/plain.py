"""Rows as texts for other programs: exact JSON, and cells that are safe in a spreadsheet.

Why: the command line, the service and reports say the same in the same way, and none of them may
import another.

Promises: decimals are number literals, never rounded; times are ISO with their offset; a text that
a spreadsheet would run as a formula gets a leading ``'``.

Look next: ``nemflow.cli.output``, ``nemflow.service.forms``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import polars as pl

#: Stands in JSON text where a decimal goes; nobody can guess it.
_MARK: Final = os.urandom(12).hex()
#: What a spreadsheet takes for a formula begins so.
FORMULA: Final = r"^[=+\-@\t\x00\r\n]"


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON with decimals as exact number literals and times in ISO form with their offset."""
    exact: dict[str, str] = {}

    def encode(other: Any) -> Any:
        if isinstance(other, Decimal):
            mark = f"{_MARK}{len(exact)}."
            exact[mark] = format(other, "f")
            return mark
        if isinstance(other, date | datetime):
            return other.isoformat()
        if hasattr(other, "to_list"):
            return other.to_list()
        return str(other)

    text = json.dumps(value, default=encode, ensure_ascii=False, indent=indent)
    if not exact:
        return text
    return _replace_marks(text, exact)


def _replace_marks(text: str, exact: Mapping[str, str]) -> str:
    """Put the number literals where ``to_json`` left marks for them."""
    first, *parts = text.split(f'"{_MARK}')
    for part in parts:
        number, _, rest = part.partition('."')
        first += exact[f"{_MARK}{number}."] + rest
    return first


def spreadsheet_safe(table: pl.DataFrame) -> pl.DataFrame:
    """Text cells that a spreadsheet would run get a leading ``'``; numbers and times do not."""
    import polars as pl

    text = pl.col(pl.String)
    return table.with_columns(
        pl.when(text.str.contains(FORMULA)).then(pl.lit("'") + text).otherwise(text).name.keep()
    )
