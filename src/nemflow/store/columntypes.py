"""How instants, days, decimals and values are kept, on each engine.

Why: SQLite has neither instants nor exact decimals nor arrays; the tables are described once.

Promises: nothing passes through a binary float; an instant keeps its microseconds and its offset;
text on SQLite sorts as time does.

Look next: ``tables.py``, which uses them; ``backends/codec.py`` for frames.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

MARKET_OFFSET = timezone(timedelta(hours=10))  #: market time, all year


class Stamp(sa.types.TypeDecorator[datetime]):
    """An instant: text in market time on SQLite, ``timestamptz`` elsewhere.

    Results come as the engine has them; ``Backend.fetch`` decodes whole columns at once.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Text where the engine has no instants of its own."""
        return dialect.type_descriptor(sa.Text() if dialect.name == "sqlite" else self.impl)

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """A naive datetime is market time."""
        if value is None:
            return None
        if value.tzinfo is None:
            value = value.replace(tzinfo=MARKET_OFFSET)
        value = value.astimezone(MARKET_OFFSET)
        return value.isoformat() if dialect.name == "sqlite" else value


class Day(sa.types.TypeDecorator[date]):
    """A calendar day of market time: ISO text on SQLite, ``date`` elsewhere."""

    impl = sa.Date
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Text where the engine has no days of its own."""
        return dialect.type_descriptor(sa.Text() if dialect.name == "sqlite" else sa.Date())

    def process_bind_param(self, value: date | None, dialect: sa.Dialect) -> Any:
        """ISO on SQLite."""
        return value.isoformat() if value is not None and dialect.name == "sqlite" else value


class Exact(sa.types.TypeDecorator[Any]):
    """An exact decimal: plain digits as text on SQLite, ``numeric`` elsewhere."""

    impl = sa.Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Text on SQLite, whose own numerics are binary floats."""
        return dialect.type_descriptor(sa.Text() if dialect.name == "sqlite" else sa.Numeric())

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        """Plain digits, no exponent."""
        return f"{value:f}" if value is not None and dialect.name == "sqlite" else value


class IntegerValues(sa.types.TypeDecorator[str]):
    """The scaled values of a day: JSON text on SQLite, ``integer[]`` on PostgreSQL.

    Always asked for as text (``[1,2,null]`` or ``{1,2,NULL}``), which polars splits faster than a
    driver makes lists.
    """

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Four bytes an integer where the engine has arrays."""
        kind = postgresql.ARRAY(sa.Integer()) if dialect.name == "postgresql" else sa.Text()
        return dialect.type_descriptor(kind)

    def column_expression(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Select it as text."""
        return sa.cast(column, sa.Text())


#: Text that is compared by its bytes, in the order of the key index.
Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")

metadata = sa.MetaData()  #: every table of the store


def column(name: str, kind: Any, comment: str, **options: Any) -> sa.Column[Any]:
    """A column that says what it means."""
    return sa.Column(name, kind, comment=comment, **options)


def identity(comment: str) -> sa.Column[Any]:
    """The number of a ledger row; we give it out ourselves."""
    return column("id", Big, comment, primary_key=True, autoincrement=False)
