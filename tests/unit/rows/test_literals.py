"""Literals of values with known bytes; ``integration/`` has the values of real servers."""

import struct
from decimal import Decimal

import pytest

from drc.binlog import events as ev
from drc.binlog.events import Column, TableMap
from drc.errors import DataError
from drc.mysql import quote
from drc.rows.literals import (
    NoLiteralError,
    OutOfRangeError,
    key_condition,
    literal,
    number,
    pack_number,
    shift,
)

AI_CI, GBK, BINARY = 255, 28, 63


def column(kind: int, meta: int = 0, *, unsigned: bool = False, collation: int = 0) -> Column:
    return Column("c", kind, meta, nullable=True, unsigned=unsigned, collation=collation)


TEXT = column(ev.TYPE_VARCHAR, 40, collation=AI_CI)


@pytest.mark.parametrize(
    ("given", "value", "text"),
    [
        (column(ev.TYPE_TINY), b"\xff", "-1"),
        (column(ev.TYPE_TINY, unsigned=True), b"\xff", "255"),
        (column(ev.TYPE_NEWDECIMAL, 5 << 8 | 2), b"\x80\x01\x05", "1.05"),
        (column(ev.TYPE_NEWDECIMAL, 5 << 8 | 2), b"\x7f\xfe\xfa", "-1.05"),
        (column(ev.TYPE_FLOAT, 4), struct.pack("<f", 1.1), "1.100000023841858e0"),
        (column(ev.TYPE_DOUBLE, 8), struct.pack("<d", 1e300), "1e+300"),
        (column(ev.TYPE_BIT, 9), b"\x01\x02", "258"),
        (column(ev.TYPE_ENUM, 2), b"\x01\x02", "513"),
        (column(ev.TYPE_SET, 8), b"\xff" * 8, "-1"),
        (column(ev.TYPE_YEAR), b"\x00", "0"),
        (column(ev.TYPE_YEAR), b"\x7c", "2024"),
        (column(ev.TYPE_TIME2, 2), b"\x80\x00\x01\x32", "'00:00:01.50'"),
        (column(ev.TYPE_TIME2, 2), b"\x7f\xff\xfe\xce", "'-00:00:01.50'"),
        (column(ev.TYPE_TIMESTAMP2, 0), bytes(4), "'0000-00-00 00:00:00'"),
        (column(ev.TYPE_TIMESTAMP2, 3), b"\x00\x00\x00\x01\x03\xde", "'1970-01-01 00:00:01.099'"),
        (TEXT, b"\x02\xc3\xa4", "_utf8mb4 X'c3a4'"),
        (column(ev.TYPE_BLOB, 2, collation=GBK), b"\x01\x00a", "_gbk X'61'"),
        (column(ev.TYPE_STRING, 3, collation=BINARY), b"\x01a", "X'610000'"),
        (column(ev.TYPE_VARCHAR, 3, collation=BINARY), b"\x00", "X''"),
        (column(ev.TYPE_JSON, 4), None, "NULL"),
    ],
)
def test_literals(given: Column, value: bytes | None, text: str) -> None:
    assert literal(given, value) == text


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (column(ev.TYPE_JSON, 4), bytes(5)),
        (column(ev.TYPE_VARCHAR, 9, collation=2047), b"\x01a"),
        (column(ev.TYPE_DOUBLE, 8), struct.pack("<d", float("nan"))),
        (column(ev.TYPE_DATETIME), bytes(8)),
    ],
)
def test_what_cannot_be_written_is_refused(given: Column, value: bytes) -> None:
    with pytest.raises(NoLiteralError, match="column `c` as SQL"):
        literal(given, value)


def test_key_conditions() -> None:
    columns = (
        Column("x", ev.TYPE_TINY, 0, nullable=True),
        Column("a`;--", ev.TYPE_TINY, 0, nullable=False),
        Column("b", ev.TYPE_STRING, 40, nullable=False, collation=AI_CI),
    )
    image = b"\x01" + b"\x07" + b"\x02ab"
    table = TableMap(1, "s", "t", columns, ((2, 0), (1, 0)), b"")
    assert key_condition(table, image) == f"`b` = _utf8mb4 X'6162' AND {quote('a`;--')} = 7"
    table = TableMap(1, "s", "t", columns, ((2, 1),), b"")
    assert key_condition(table, image) == "RTRIM(LEFT(`b`, 1)) = RTRIM(LEFT(_utf8mb4 X'6162', 1))"
    with pytest.raises(DataError, match="without primary key"):
        key_condition(TableMap(1, "s", "t", columns, (), b""), image)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (column(ev.TYPE_TINY), 128),
        (column(ev.TYPE_TINY), -129),
        (column(ev.TYPE_LONGLONG, unsigned=True), -1),
        (column(ev.TYPE_LONGLONG, unsigned=True), 1 << 64),
        (column(ev.TYPE_LONG), Decimal("0.5")),
        (column(ev.TYPE_NEWDECIMAL, 5 << 8 | 2), Decimal("1000")),
        (column(ev.TYPE_NEWDECIMAL, 5 << 8 | 2), Decimal("-1000")),
        (column(ev.TYPE_NEWDECIMAL, 5 << 8 | 2), Decimal("0.001")),
        (column(ev.TYPE_NEWDECIMAL, 5 << 8 | 2, unsigned=True), Decimal("-0.01")),
    ],
)
def test_numbers_out_of_range_are_refused(given: Column, value: int | Decimal) -> None:
    with pytest.raises(OutOfRangeError, match="column `c` cannot hold"):
        pack_number(given, value)


def test_only_numbers_are_numbers() -> None:
    for call in (lambda: number(TEXT, b"\x011"), lambda: pack_number(TEXT, 1)):
        with pytest.raises(DataError, match="neither an integer nor a DECIMAL"):
            call()


def test_a_shift_keeps_every_digit() -> None:
    wide = column(ev.TYPE_NEWDECIMAL, 65 << 8 | 30)
    now, before = Decimal("9" * 35 + "." + "8" * 30), Decimal("1e-30")
    total = shift(wide, now, pack_number(wide, before), pack_number(wide, 2 * before))
    assert total == Decimal("9" * 35 + "." + "8" * 29 + "9")


def test_a_shift_beyond_the_column_is_refused() -> None:
    tiny = column(ev.TYPE_TINY)
    assert shift(tiny, 126, b"\x01", b"\x02") == 127
    with pytest.raises(OutOfRangeError, match="column `c` cannot hold 128"):
        shift(tiny, 127, b"\x01", b"\x02")
