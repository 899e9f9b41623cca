"""The binary encoder gives PostgreSQL the same rows as its text COPY does."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nemflow.store.backends import pgcopy
from nemflow.store.tables import Day, Exact, IntegerValues, Stamp

_META = sa.MetaData()
COLUMNS = [
    sa.Column("words", sa.Text),
    sa.Column("big", sa.BigInteger),
    sa.Column("small", sa.Integer),
    sa.Column("flag", sa.Boolean),
    sa.Column("stamp", Stamp),
    sa.Column("day", Day),
    sa.Column("numbers", IntegerValues),
    sa.Column("exact", Exact),
]
TABLE = sa.Table("encoded", _META, *COLUMNS)
_TYPES = """words text, big bigint, small integer, flag boolean, stamp timestamptz, day date,
  numbers integer[], exact numeric"""
_MARKET = pl.Datetime("us", "Etc/GMT-10")

_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
_int4 = st.integers(-(2**31) + 1, 2**31 - 1)
_rows = st.lists(
    st.tuples(
        st.none() | _text,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.integers(-(2**31), 2**31 - 1),
        st.none() | st.booleans(),
        st.none()
        | st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        st.none() | st.dates(date(1990, 1, 1), date(2100, 1, 1)),
        st.none() | st.lists(st.none() | _int4, min_size=1, max_size=6),
        st.none() | st.decimals(-(10**12), 10**12, places=4),
    ),
    max_size=12,
)  # fmt: skip


def _frame(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    kinds = [
        pl.String,
        pl.Int64,
        pl.Int32,
        pl.Boolean,
        _MARKET,
        pl.Date,
        pl.List(pl.Int64),
        pl.Decimal(38, 4),
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(kinds)
    return pl.DataFrame(
        [
            pl.Series(column.name, values, dtype=kind)
            for column, values, kind in zip(COLUMNS, columns, kinds, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def connection(postgres: sa.URL) -> object:
    """A session with one table for each way."""
    import psycopg

    plain = postgres.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as opened:
        opened.execute(f"CREATE TEMPORARY TABLE binary_form ({_TYPES}, n serial)")
        opened.execute(f"CREATE TEMPORARY TABLE text_form ({_TYPES}, n serial)")
        yield opened
        opened.rollback()


def _text_copy(connection: object, rows: list[tuple[object, ...]]) -> None:
    names = ", ".join(column.name for column in COLUMNS)
    with connection.cursor().copy(f"COPY text_form ({names}) FROM STDIN") as copy:  # type: ignore[attr-defined]
        for row in rows:
            copy.write_row(row)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=_rows)
def test_binary_copy_and_text_copy_store_the_same_rows(
    connection: object, rows: list[tuple[object, ...]]
) -> None:
    """Any rows, nulls and holes included, are the same whichever way they came."""
    connection.execute("TRUNCATE binary_form, text_form RESTART IDENTITY")  # type: ignore[attr-defined]
    body = pgcopy.encode(_frame(rows), COLUMNS)
    names = ", ".join(column.name for column in COLUMNS)
    with connection.cursor().copy(
        f"COPY binary_form ({names}) FROM STDIN WITH (FORMAT binary)"
    ) as copy:  # type: ignore[attr-defined]
        copy.write(body)
    _text_copy(connection, rows)
    stored = [
        connection.execute(f"SELECT {names} FROM {table} ORDER BY n").fetchall()  # type: ignore[attr-defined]
        for table in ("binary_form", "text_form")
    ]
    assert stored[0] == stored[1]
    assert len(stored[0]) == len(rows)


def test_a_day_of_288_values_is_encoded_as_a_block(connection: object) -> None:
    """The fast path (equal lengths, no holes) stores what the slow path stores."""
    days = [[day * 1000 + i for i in range(288)] for day in range(50)]
    rows = [
        ("x" * (d % 7), d, d, True, None, date(2025, 1, 1), values, Decimal("0.125"))
        for d, values in enumerate(days)
    ]
    connection.execute("TRUNCATE binary_form, text_form RESTART IDENTITY")  # type: ignore[attr-defined]
    names = ", ".join(column.name for column in COLUMNS)
    with connection.cursor().copy(
        f"COPY binary_form ({names}) FROM STDIN WITH (FORMAT binary)"
    ) as copy:  # type: ignore[attr-defined]
        copy.write(pgcopy.encode(_frame(rows), COLUMNS))
    got = connection.execute("SELECT numbers FROM binary_form ORDER BY n").fetchall()  # type: ignore[attr-defined]
    assert [row[0] for row in got] == days


def test_a_value_beyond_32_bits_is_refused_before_a_byte_is_sent() -> None:
    """An integer[] cannot hold it; the caller keeps such a day as exact decimals."""
    with pytest.raises(OverflowError):
        pgcopy.encode(_frame([(None, None, None, None, None, None, [2**31], None)]), COLUMNS)
