"""Ordered values: numbers and times as query results, image bytes and ranks. Pure.

Contents: the image bytes of a value that a query returned, and a rank that compares as the server
compares. Not here: policies.

1. Two values of a column compare by :func:`rank` in the server's order, and are equal only if the
   bytes are equal: so two sites that compare the same bytes agree.
2. :func:`pack` restores the image bytes of a value that the server sends in a session prepared by
   ``literals.SESSION``, also for dates that do not exist, such as 0000-00-00.

FLOAT and DOUBLE are left out, because both lose digits as text. Layouts: as ``literals.py``.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from drc.binlog import events as ev
from drc.binlog.events import Column
from drc.errors import DataError
from drc.rows.literals import number, pack_number

_NUMBERS = frozenset(
    {
        *(ev.TYPE_TINY, ev.TYPE_SHORT, ev.TYPE_INT24, ev.TYPE_LONG, ev.TYPE_LONGLONG),
        ev.TYPE_NEWDECIMAL,
    }
)
_DATES = frozenset({ev.TYPE_DATE, ev.TYPE_NEWDATE})
_TIMES = frozenset({ev.TYPE_DATETIME2, ev.TYPE_TIMESTAMP2, ev.TYPE_TIME2, ev.TYPE_YEAR})
_DIGITS = re.compile(r"\d+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_number(column: Column) -> bool:
    """Return whether a column holds integers or DECIMALs."""
    return column.type in _NUMBERS


def rank(column: Column, value: bytes) -> int | Decimal:
    """Return a number that orders a value among the values of the column.

    :param value: the raw bytes in a row image.
    :raises DataError: for a column of a type without such an order.
    """
    if is_number(column):
        return number(column, value)
    if column.type in _DATES:
        return int.from_bytes(value, "little")
    if column.type in _TIMES:  # the highest part first, and negative times below zero
        return int.from_bytes(value, "big")
    raise _unordered(column)


def pack(column: Column, value: object) -> bytes | None:
    """Return the image bytes of a value that a query returned; None for NULL.

    :raises DataError: for a column of a type without an order.
    """
    if value is None:
        return None
    if is_number(column):
        assert isinstance(value, int | Decimal)
        return pack_number(column, value)
    if column.type == ev.TYPE_YEAR:
        assert isinstance(value, int)
        return bytes([value - 1900 if value else 0])
    if column.type in _DATES:
        year, month, day = _parts(value)[:3]
        return (year << 9 | month << 5 | day).to_bytes(3, "little")
    if column.type == ev.TYPE_TIME2:
        return _time(column, value)
    if column.type in (ev.TYPE_DATETIME2, ev.TYPE_TIMESTAMP2):
        return _moment(column, _parts(value))
    raise _unordered(column)


def _moment(column: Column, parts: list[int]) -> bytes:
    year, month, day, hour, minute, second, micros = parts
    if column.type == ev.TYPE_TIMESTAMP2:
        seconds = 0
        if year:
            moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
            seconds = (moment - _EPOCH) // timedelta(seconds=1)
        return seconds.to_bytes(4, "big") + _fraction(column, micros)
    days = (year * 13 + month) << 5 | day
    whole = days << 17 | hour << 12 | minute << 6 | second
    return (whole + (1 << 39)).to_bytes(5, "big") + _fraction(column, micros)


def _time(column: Column, value: object) -> bytes:
    assert isinstance(value, timedelta)
    seconds, micros = divmod(abs(value) // timedelta(microseconds=1), 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    fraction = _fraction(column, micros)
    bits = 8 * len(fraction)
    packed = (hour << 12 | minute << 6 | second) << bits | int.from_bytes(fraction, "big")
    if value < timedelta(0):
        packed = -packed
    return (packed + (1 << 23 + bits)).to_bytes(3 + len(fraction), "big")


def _fraction(column: Column, micros: int) -> bytes:
    """Return the fractional digits of a second, in bytes of two digits each."""
    size = (column.meta + 1) // 2
    return (micros // (1_000_000, 10_000, 100, 1)[size]).to_bytes(size, "big")


def _parts(value: object) -> list[int]:
    """Return year to microsecond of a date or time, or of text that Python has no date for."""
    if isinstance(value, date):
        value = value.isoformat()  # a datetime is a date, too
    assert isinstance(value, str)
    whole, _, fraction = value.partition(".")
    found = [int(digits) for digits in _DIGITS.findall(whole)]
    return [*found, *[0] * (6 - len(found)), int(fraction.ljust(6, "0") or 0)]


def _unordered(column: Column) -> DataError:
    return DataError(
        f"cannot order column `{column.name}`: the type has no order that all sites share",
        hint="set another policy for this column: max and min are for integers, DECIMAL, dates and"
        " times",
    )
