"""Row images to SQL text: a value as a literal, a row as a condition on its primary key. Pure.

Literals are for sessions of ours: ``time_zone='+00:00'``, ``sql_mode=''``. Text is given as bytes
with its character set and collation, so nothing is converted and nothing needs escaping.

Layouts: MySQL source ``sql/field.cc`` (``Field::pack``), ``mysys/my_time.cc``
(``my_datetime_packed_to_binary`` and its kin), ``strings/decimal.cc`` (``decimal2bin``).
"""

from __future__ import annotations

import datetime
import struct
from decimal import Decimal

from drc import events as ev
from drc.collation import COLLATIONS
from drc.errors import DataError
from drc.events import Column, TableMap
from drc.images import column_walkers, fixed_bytes, prefix_bytes
from drc.mysql import quote

_INTEGERS = frozenset({ev.TYPE_TINY, ev.TYPE_SHORT, ev.TYPE_INT24, ev.TYPE_LONG, ev.TYPE_LONGLONG})
_EPOCH = datetime.datetime(1970, 1, 1)
_BINARY = 63
_DIGITS = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # bytes of 0 to 9 decimal digits


def key_condition(table: TableMap, image: bytes) -> str:
    """Return the condition that finds the row with the primary key of a full image.

    :raises DataError: a key column has a type or a prefix that cannot be asked for.
    """
    if any(prefix for _, prefix in table.primary_key):
        raise _refused(table, "its primary key holds a prefix of a column")
    ordinals = [ordinal for ordinal, _ in table.primary_key]
    walkers = column_walkers(table, ordinals)
    _, values = walkers[image[: walkers.null_bytes]](image, 0)
    parts = []
    for ordinal, value in zip(ordinals, values, strict=True):
        column = table.columns[ordinal]
        text = literal(column, value)
        if text is None:
            raise _refused(table, f"column {column.name} of its primary key has no literal")
        parts.append(f"{quote(column.name)} = {text}")
    return " AND ".join(parts)


def _refused(table: TableMap, why: str) -> DataError:
    return DataError(
        f"concurrent writes cannot be resolved: {why}",
        stage="resolve",
        table=table.name,
        hint="let one site own this table, or give it a primary key of whole columns",
    )


def literal(column: Column, value: bytes) -> str | None:
    """Return the literal that equals a stored value; None for types that have none here.

    :param value: as in a row image, length prefix included; not NULL.
    """
    kind = column.type
    if kind in _INTEGERS or kind == ev.TYPE_NEWDECIMAL:
        return str(number(column, value))
    if kind == ev.TYPE_FLOAT:
        return repr(struct.unpack("<f", value)[0])
    if kind == ev.TYPE_DOUBLE:
        return repr(struct.unpack("<d", value)[0])
    if kind in (ev.TYPE_ENUM, ev.TYPE_SET):
        return str(int.from_bytes(value, "little"))
    if kind == ev.TYPE_BIT:
        return str(int.from_bytes(value, "big"))
    if kind in (ev.TYPE_VARCHAR, ev.TYPE_STRING, ev.TYPE_BLOB):
        return _text(column, value[prefix_bytes(column) :])
    temporal = _TEMPORAL.get(kind)
    return f"'{temporal(column, value)}'" if temporal else None


def _text(column: Column, value: bytes) -> str | None:
    if column.collation in (0, _BINARY):
        if column.type == ev.TYPE_STRING:  # BINARY(n): the image has no trailing zeros
            value = value.ljust(column.meta, b"\0")
        return f"_binary 0x{value.hex()}" if value else "_binary ''"
    collation = COLLATIONS.get(column.collation)
    if collation is None:
        return None
    body = f"0x{value.hex()}" if value else "''"
    return f"_{collation.charset} {body} COLLATE {collation.name}"


# ------------------------------------------------------------ numbers


def number(column: Column, value: bytes) -> int | Decimal:
    """Return the value of an integer or DECIMAL column."""
    if column.type == ev.TYPE_NEWDECIMAL:
        return _decimal(column, value)
    return int.from_bytes(value, "little", signed=not column.unsigned)


def pack_number(column: Column, value: int | Decimal) -> bytes:
    """Return what a row image holds for a value: the inverse of :func:`number`.

    :raises OverflowError: it does not fit the column.
    """
    if column.type != ev.TYPE_NEWDECIMAL:
        size = fixed_bytes(column) or 0
        return int(value).to_bytes(size, "little", signed=not column.unsigned)
    precision, scale = column.meta >> 8, column.meta & 0xFF
    sign, _, _ = Decimal(value).as_tuple()
    scaled = str(abs(int(Decimal(value).scaleb(scale))))
    if len(scaled) > precision:
        raise OverflowError(f"{value} does not fit DECIMAL({precision},{scale})")
    digits = scaled.zfill(precision)
    whole, part = digits[: precision - scale], digits[precision - scale :]
    raw = bytearray(_pack_digits(whole, leading=True) + _pack_digits(part, leading=False))
    if sign:
        raw = bytearray(b ^ 0xFF for b in raw)
    raw[0] ^= 0x80
    return bytes(raw)


def _pack_digits(digits: str, *, leading: bool) -> bytes:
    out, at = b"", 0
    for size in _groups(len(digits), leading=leading):
        out += int(digits[at : at + size]).to_bytes(_DIGITS[size], "big")
        at += size
    return out


def _groups(count: int, *, leading: bool) -> list[int]:
    """Return how many digits stand together: nine, and the odd ones before or after those."""
    groups, rest = divmod(count, 9)
    odd = [rest] if rest else []
    return [*odd, *[9] * groups] if leading else [*[9] * groups, *odd]


def _decimal(column: Column, value: bytes) -> Decimal:
    precision, scale = column.meta >> 8, column.meta & 0xFF
    raw = bytearray(value)
    negative = not raw[0] & 0x80
    raw[0] ^= 0x80
    if negative:
        raw = bytearray(b ^ 0xFF for b in raw)
    whole, at = _digits(raw, 0, precision - scale, leading=True)
    part, _ = _digits(raw, at, scale, leading=False)
    text = f"{'-' if negative else ''}{whole or '0'}{'.' + part if scale else ''}"
    return Decimal(text)


def _digits(raw: bytearray, at: int, count: int, *, leading: bool) -> tuple[str, int]:
    out = ""
    for size in _groups(count, leading=leading):
        width = _DIGITS[size]
        out += str(int.from_bytes(raw[at : at + width], "big")).zfill(size)
        at += width
    return out, at


# ------------------------------------------------------------ times


def _date(_: Column, value: bytes) -> str:
    packed = int.from_bytes(value, "little")
    return f"{packed >> 9:04}-{packed >> 5 & 15:02}-{packed & 31:02}"


def _year(_: Column, value: bytes) -> str:
    return f"{value[0] + 1900 if value[0] else 0:04}"


def _fraction(column: Column, raw: bytes) -> str:
    """Return the fractional digits, with their point."""
    if not column.meta:
        return ""
    digits = int.from_bytes(raw, "big")
    width = (column.meta + 1) // 2 * 2
    return f".{digits:0{width}}"[: column.meta + 1]


def _datetime2(column: Column, value: bytes) -> str:
    packed = int.from_bytes(value[:5], "big") - (1 << 39)
    day, clock = packed >> 17, packed & 0x1FFFF
    month = day >> 5
    return (
        f"{month // 13:04}-{month % 13:02}-{day & 31:02}"
        f" {clock >> 12:02}:{clock >> 6 & 63:02}:{clock & 63:02}{_fraction(column, value[5:])}"
    )


def _timestamp2(column: Column, value: bytes) -> str:
    seconds = int.from_bytes(value[:4], "big")
    if not any(value):
        return "0000-00-00 00:00:00"
    moment = _EPOCH + datetime.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%d %H:%M:%S}{_fraction(column, value[4:])}"


def _time2(column: Column, value: bytes) -> str:
    size = (column.meta + 1) // 2  # bytes of the fraction
    packed = int.from_bytes(value, "big") - (1 << (8 * len(value) - 1))
    sign, packed = ("-", -packed) if packed < 0 else ("", packed)
    clock, digits = packed >> 8 * size, packed & (1 << 8 * size) - 1
    fraction = f".{digits:0{size * 2}}"[: column.meta + 1] if column.meta else ""
    return f"{sign}{clock >> 12:02}:{clock >> 6 & 63:02}:{clock & 63:02}{fraction}"


_TEMPORAL = {
    ev.TYPE_DATE: _date,
    ev.TYPE_NEWDATE: _date,
    ev.TYPE_YEAR: _year,
    ev.TYPE_DATETIME2: _datetime2,
    ev.TYPE_TIMESTAMP2: _timestamp2,
    ev.TYPE_TIME2: _time2,
}
