"""SQL literals: text for the values of a row image, and numbers to and from image bytes. Pure.

Contents: a literal for the raw bytes of a column, the WHERE clause that finds a row by primary
key, and numbers of counters. Not here: policies, and the running of statements.

1. Exact or refused: a literal that is assigned to the column stores the same bytes again. Compared
   with the column, a literal equals only that value, as far as the column's collation tells values
   apart.
2. Rule 1 holds in a session prepared by :data:`SESSION`, on MySQL 8.0 to 9.x.
3. Bytes are written as hexadecimal: no escaping rule, SQL mode or connection charset can change
   a value.

Layouts: MySQL source ``sql/field.cc``, ``mysys/my_time.cc`` (``my_*_packed_from_binary``),
``strings/decimal.cc`` (``bin2decimal``). ``tests/integration/test_literals_server.py`` checks all
literals against servers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal, localcontext
from fractions import Fraction

from drc.binlog import events as ev
from drc.binlog.events import Column, TableMap
from drc.errors import DataError
from drc.rows.collation import BINARY, CHARACTER_SETS
from drc.rows.images import column_values, column_walkers, decimal_bytes, fixed_bytes, prefix_bytes

# Dates that other modes let in (February 31st) must be written and found again, and a zero in an
# AUTO_INCREMENT column must stay a zero.
SESSION = (
    "SET time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO',"
    " NAMES utf8mb4"
)

_INTEGERS = frozenset({ev.TYPE_TINY, ev.TYPE_SHORT, ev.TYPE_INT24, ev.TYPE_LONG, ev.TYPE_LONGLONG})
_TEXTS = frozenset({ev.TYPE_STRING, ev.TYPE_VARCHAR, ev.TYPE_BLOB})
_UNCOMPARED = frozenset({ev.TYPE_GEOMETRY, ev.TYPE_VECTOR})
_DIGITS_MAX = 65 + 2  # of a DECIMAL, and the carries of two additions


class NoLiteralError(DataError):
    """A value cannot be written as SQL text exactly."""


class OutOfRangeError(DataError):
    """A number does not fit into the column."""


def quote(identifier: str) -> str:
    """Quote an identifier for SQL text; any identifier is safe afterwards."""
    return "`" + identifier.replace("`", "``") + "`"


def table_name(table: TableMap) -> str:
    """Return the quoted name of a table: schema, dot, table."""
    return f"{quote(table.schema)}.{quote(table.table)}"


# ---------------------------------------------------------------- conditions


def key_condition(table: TableMap, image: bytes) -> str:
    """Return the WHERE clause that finds the row with the primary key of a full row image.

    The clause is right for a key over prefixes, too, but then the server reads the whole table.

    :raises DataError: the table has no primary key.
    :raises NoLiteralError: for a key in a character set that this version does not know.
    """
    if not table.primary_key:
        raise DataError(
            "cannot find a row of a table without primary key",
            table=table.name,
            hint="give the table a primary key, or exclude the table (replicate.exclude_tables)",
        )
    condition = unique_condition(table, table.primary_key, image)
    assert condition is not None  # no column of a primary key is NULL
    return condition


def unique_condition(table: TableMap, key: Sequence[tuple[int, int]], image: bytes) -> str | None:
    """Return the condition that finds the row with the values of ``key`` in an image.

    :param key: (column ordinal, prefix in characters) of each part.
    :return: None when a value is NULL, because NULL equals nothing.
    """
    walkers = column_walkers(table, [ordinal for ordinal, _ in key])
    _, values = walkers[image[: walkers.null_bytes]](image, 0)
    if None in values:
        return None
    return " AND ".join(
        _equals(table.columns[ordinal], prefix, value)
        for (ordinal, prefix), value in zip(key, values, strict=True)
    )


def row_condition(table: TableMap, image: bytes) -> str:
    """Return the condition that is true of a row with exactly the bytes of a full image.

    Columns without a comparable literal, such as JSON, are not compared.
    """
    return " AND ".join(
        f"{_exact(quote(column.name), column)} <=> {_exact(literal(column, value), column)}"
        for column, value in zip(table.columns, column_values(table, image), strict=True)
        if column.type in _WRITERS and column.type not in _UNCOMPARED
    )


def _exact(side: str, column: Column) -> str:
    """Return SQL that compares text by bytes: collations take different values for equal."""
    if column.type not in _TEXTS or column.collation == BINARY:
        return side
    return f"CAST({side} AS BINARY)"


def _equals(column: Column, prefix: int, value: bytes) -> str:
    sides = [quote(column.name), literal(column, value)]
    if prefix:
        sides = [f"LEFT({side}, {prefix})" for side in sides]
        if column.type == ev.TYPE_STRING and column.collation != BINARY:
            sides = [f"RTRIM({side})" for side in sides]  # a key over CHAR ignores padding
    return " = ".join(sides)


# ---------------------------------------------------------------- literals


def literal(column: Column, value: bytes | None) -> str:
    """Return the SQL text of a column's value: ``NULL`` for None.

    Literals of GEOMETRY and VECTOR are right for assignment only; no key contains these types.

    :param value: the raw bytes from ``images.column_walkers``, length prefix included.
    :raises NoLiteralError: for JSON, whose inner types no text gives back, and for types and
        collations that this version does not know.
    """
    if value is None:
        return "NULL"
    write = _WRITERS.get(column.type)
    if write is None:
        raise _refused(column, f"type {column.type}")
    return write(column, value)


def _refused(column: Column, what: str) -> NoLiteralError:
    return NoLiteralError(
        f"cannot write column `{column.name}` as SQL: the value is of {what}",
        hint="settle this row by hand: the conflict log keeps the image of the row",
    )


def _number(column: Column, value: bytes) -> str:
    return format(number(column, value), "f" if column.type == ev.TYPE_NEWDECIMAL else "d")


def _bits(_: Column, value: bytes) -> str:
    return str(int.from_bytes(value, "big"))


def _members(_: Column, value: bytes) -> str:
    """Return the number of an ENUM or SET; a SET with the 64th member compares as negative."""
    return str(int.from_bytes(value, "little", signed=len(value) == 8))


def _float(column: Column, value: bytes) -> str:
    """Return the shortest digits that read back as the same DOUBLE, and so the same FLOAT."""
    single = column.type == ev.TYPE_FLOAT
    (stored,) = struct.unpack("<f" if single else "<d", value)
    if not math.isfinite(stored):
        raise _refused(column, repr(stored))
    text = repr(stored)
    return text if "e" in text else text + "e0"  # without exponent the literal would be a DECIMAL


def _bytes(column: Column, value: bytes) -> str:
    return f"X'{value[prefix_bytes(column) :].hex()}'"


def _text(column: Column, value: bytes) -> str:
    body = value[prefix_bytes(column) :]
    if column.collation == BINARY:
        if column.type == ev.TYPE_STRING:  # the image has lost the zeros that fill a BINARY
            body = body.ljust(column.meta, b"\0")
        return f"X'{body.hex()}'"
    charset = CHARACTER_SETS.get(column.collation)
    if charset is None:
        raise _refused(column, f"collation {column.collation}")
    return f"_{charset} X'{body.hex()}'"


def _year(_: Column, value: bytes) -> str:
    return str(1900 + value[0] if value[0] else 0)


def _date(_: Column, value: bytes) -> str:
    packed = int.from_bytes(value, "little")
    return f"'{packed >> 9:04}-{packed >> 5 & 15:02}-{packed & 31:02}'"


def _time(column: Column, value: bytes) -> str:
    bits = 8 * (len(value) - 3)
    packed = int.from_bytes(value, "big") - (1 << 23 + bits)
    sign = "-" if packed < 0 else ""
    whole, rest = divmod(abs(packed), 1 << bits)
    return f"'{sign}{_clock(whole, 0x3FF)}{_fraction(column, rest)}'"


def _datetime(column: Column, value: bytes) -> str:
    bits = 8 * (len(value) - 5)
    whole, rest = divmod(int.from_bytes(value, "big") - (1 << 39 + bits), 1 << bits)
    year, month = divmod(whole >> 22, 13)
    date = f"{year:04}-{month:02}-{whole >> 17 & 31:02}"
    return f"'{date} {_clock(whole, 0x1F)}{_fraction(column, rest)}'"


def _timestamp(column: Column, value: bytes) -> str:
    seconds = int.from_bytes(value[:4], "big")
    moment = datetime.fromtimestamp(seconds, UTC)
    text = f"{moment:%Y-%m-%d %H:%M:%S}" if seconds else "0000-00-00 00:00:00"
    return f"'{text}{_fraction(column, int.from_bytes(value[4:], 'big'))}'"


def _clock(packed: int, hours: int) -> str:
    return f"{packed >> 12 & hours:02}:{packed >> 6 & 63:02}:{packed & 63:02}"


def _fraction(column: Column, rest: int) -> str:
    """Return the fractional digits of a second; digits are stored in pairs."""
    digits: int = column.meta
    return f".{rest:0{digits + digits % 2}}"[: digits + 1] if digits else ""


_WRITERS: dict[int, Callable[[Column, bytes], str]] = {
    **dict.fromkeys((*_INTEGERS, ev.TYPE_NEWDECIMAL), _number),
    **dict.fromkeys((ev.TYPE_ENUM, ev.TYPE_SET), _members),
    **dict.fromkeys((ev.TYPE_FLOAT, ev.TYPE_DOUBLE), _float),
    **dict.fromkeys((ev.TYPE_STRING, ev.TYPE_VARCHAR, ev.TYPE_BLOB), _text),
    **dict.fromkeys((ev.TYPE_GEOMETRY, ev.TYPE_VECTOR), _bytes),
    **dict.fromkeys((ev.TYPE_DATE, ev.TYPE_NEWDATE), _date),
    ev.TYPE_BIT: _bits,
    ev.TYPE_YEAR: _year,
    ev.TYPE_TIME2: _time,
    ev.TYPE_DATETIME2: _datetime,
    ev.TYPE_TIMESTAMP2: _timestamp,
}


# ---------------------------------------------------------------- numbers


def number(column: Column, value: bytes) -> int | Decimal:
    """Return the number in an integer or DECIMAL column; a DECIMAL has the full scale.

    :raises DataError: for a column of another type.
    """
    precision, scale = _digits(column)
    if not precision:
        return int.from_bytes(value, "little", signed=not column.unsigned)
    packed = int.from_bytes(value, "big") ^ _sign_bit(value)
    negative = packed & _sign_bit(value)
    if negative:
        packed ^= (1 << 8 * len(value)) - 1
    digits, at, raw = 0, 0, packed.to_bytes(len(value), "big")
    for count, size in _groups(precision, scale):
        digits = digits * 10**count + int.from_bytes(raw[at : at + size], "big")
        at += size
    return Decimal(f"{'-' if negative else ''}{digits}e-{scale}")


def pack_number(column: Column, value: int | Decimal) -> bytes:
    """Return the bytes of a number in a row image: the inverse of :func:`number`.

    :raises OutOfRangeError: the column cannot hold the number, or not all digits.
    :raises DataError: for a column that is neither integer nor DECIMAL.
    """
    precision, scale = _digits(column)
    scaled = Fraction(value) * 10**scale
    size = fixed_bytes(column) or 0
    if precision:
        highest = 10**precision - 1
        lowest = -highest
    else:
        highest = (1 << 8 * size - (not column.unsigned)) - 1
        lowest = ~highest
    if column.unsigned:
        lowest = 0
    if scaled.denominator != 1 or not lowest <= scaled <= highest:
        raise OutOfRangeError(
            f"column `{column.name}` cannot hold {value}",
            hint="widen the column at every site, then apply this row again",
        )
    if not precision:
        return int(scaled).to_bytes(size, "little", signed=not column.unsigned)
    rest, raw = abs(int(scaled)), b""
    for count, group_size in reversed(_groups(precision, scale)):
        rest, group = divmod(rest, 10**count)
        raw = group.to_bytes(group_size, "big") + raw
    flip = (1 << 8 * size) - 1 if scaled < 0 else 0
    return (int.from_bytes(raw, "big") ^ flip ^ _sign_bit(raw)).to_bytes(size, "big")


def shift(column: Column, now: int | Decimal, before: bytes, after: bytes) -> int | Decimal:
    """Return ``now`` with the change from ``before`` to ``after`` added, exactly.

    :raises OutOfRangeError: the column cannot hold the sum.
    :raises DataError: for a column that is neither integer nor DECIMAL.
    """
    with localcontext(Context(prec=_DIGITS_MAX)):  # the usual 28 digits would round
        total = now + number(column, after) - number(column, before)
    pack_number(column, total)
    return total


def _digits(column: Column) -> tuple[int, int]:
    """Return (precision, scale) of a DECIMAL, zeros for an integer."""
    if column.type in _INTEGERS:
        return 0, 0
    if column.type != ev.TYPE_NEWDECIMAL:
        raise DataError(
            f"column `{column.name}` is neither an integer nor a DECIMAL",
            hint="set another policy for this column",
        )
    return column.meta >> 8, column.meta & 0xFF


def _groups(precision: int, scale: int) -> list[tuple[int, int]]:
    """Return (digits, bytes) of the groups in which a DECIMAL is stored, the highest first."""
    (whole, whole_rest), (part, part_rest) = divmod(precision - scale, 9), divmod(scale, 9)
    counts = [whole_rest, *[9] * (whole + part), part_rest]
    return [(count, decimal_bytes(count, 0)) for count in counts]


def _sign_bit(raw: bytes) -> int:
    return 1 << 8 * len(raw) - 1
