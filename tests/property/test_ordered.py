"""Values of a query: become the bytes of an image, in the order of the values."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql.converters import convert_date, convert_datetime, convert_timedelta

from drc.binlog import events as ev
from drc.binlog.events import Column
from drc.errors import DataError
from drc.rows.images import fixed_bytes
from drc.rows.literals import literal
from drc.rows.ordered import pack, rank

READ: dict[int, Callable[[str], Any]] = {
    ev.TYPE_DATE: convert_date,
    ev.TYPE_DATETIME2: convert_datetime,
    ev.TYPE_TIMESTAMP2: convert_datetime,
    ev.TYPE_TIME2: convert_timedelta,
    ev.TYPE_YEAR: int,
}


@st.composite
def values(draw: Any, column: Column) -> Any:
    if column.type == ev.TYPE_YEAR:
        return draw(st.one_of(st.just(0), st.integers(1901, 2155)))
    if column.type == ev.TYPE_DATE:
        return draw(st.dates())
    unit = 10 ** (6 - column.meta)
    if column.type == ev.TYPE_TIME2:
        most = (838 * 3600 + 59 * 60 + 59) * 1_000_000 // unit
        return datetime.timedelta(microseconds=draw(st.integers(-most, most)) * unit)
    low, high = datetime.datetime(1000, 1, 1), datetime.datetime(9999, 12, 31)
    if column.type == ev.TYPE_TIMESTAMP2:
        low, high = datetime.datetime(1970, 1, 1, 0, 0, 1), datetime.datetime(2038, 1, 19)
    moment: datetime.datetime = draw(st.datetimes(low, high))
    return moment.replace(microsecond=moment.microsecond // unit * unit)


@given(st.data())
def test_times_survive_and_keep_their_order(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(READ)))
    fractional = kind in (ev.TYPE_DATETIME2, ev.TYPE_TIMESTAMP2, ev.TYPE_TIME2)
    column = Column("c", kind, data.draw(st.integers(0, 6)) if fractional else 0, nullable=True)
    one, two = data.draw(values(column)), data.draw(values(column))
    packed, other = pack(column, one), pack(column, two)
    assert packed is not None
    assert other is not None
    assert len(packed) == fixed_bytes(column)
    assert READ[kind](literal(column, packed).strip("'")) == one
    assert (rank(column, packed) < rank(column, other)) == (one < two)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (Column("c", ev.TYPE_DATE, 0, nullable=True), "0000-00-00"),
        (Column("c", ev.TYPE_DATE, 0, nullable=True), "2025-02-31"),
        (Column("c", ev.TYPE_DATETIME2, 0, nullable=True), "0000-00-00 00:00:00"),
        (Column("c", ev.TYPE_DATETIME2, 3, nullable=True), "2025-02-31 23:59:59.120"),
        (Column("c", ev.TYPE_TIMESTAMP2, 0, nullable=True), "0000-00-00 00:00:00"),
        (Column("c", ev.TYPE_TIMESTAMP2, 6, nullable=True), "0000-00-00 00:00:00.000000"),
    ],
)
def test_dates_that_are_none_survive(column: Column, text: str) -> None:
    packed = pack(column, READ[column.type](text))  # text, as Python has no such date
    assert packed is not None
    assert literal(column, packed) == f"'{text}'"


def test_numbers_and_null() -> None:
    decimal = Column("c", ev.TYPE_NEWDECIMAL, 20 << 8 | 4, nullable=True)
    assert rank(decimal, pack(decimal, Decimal("-1.5")) or b"") == Decimal("-1.5")
    assert pack(decimal, None) is None


def test_text_has_no_order_that_all_sites_share() -> None:
    column = Column("c", ev.TYPE_VARCHAR, 40, nullable=True)
    with pytest.raises(DataError, match="order"):
        rank(column, b"\x01a")
    with pytest.raises(DataError, match="order"):
        pack(column, "a")
