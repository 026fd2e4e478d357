"""Binlog events: parsers and builders of the bytes that MySQL writes.

Contents: the event header, the type codes, and parsers of the few events whose contents the
daemon needs (GTID, table map, query, rows header, format description). A parser takes the
buffer and the offset of the event's header, and copies only the bytes that the parser returns.

Not here: sockets, checksums (the framer has verified and removed the checksums), rows
(``rows/images.py``), and the assignment of events to transactions (``binlog/framing.py``).

Layouts: MySQL source ``libs/mysql/binlog/event/*.h``; the tagged GTID event is a
message of ``libs/mysql/serialization``: pairs of field id and value, both of variable length.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from drc.errors import DataError, InvariantError
from drc.gtid import Gtid

Buffer = bytes | bytearray | memoryview

HEADER_BYTES = 19
CHECKSUM_BYTES = 4

QUERY = 2
STOP = 3
ROTATE = 4
FORMAT_DESCRIPTION = 15
XID = 16
TABLE_MAP = 19
WRITE_ROWS_V1, UPDATE_ROWS_V1, DELETE_ROWS_V1 = 23, 24, 25
INCIDENT = 26
HEARTBEAT = 27
ROWS_QUERY = 29
WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS = 30, 31, 32
GTID = 33
ANONYMOUS_GTID = 34
PREVIOUS_GTIDS = 35
VIEW_CHANGE = 37
XA_PREPARE = 38
PARTIAL_UPDATE_ROWS = 39
TRANSACTION_PAYLOAD = 40
HEARTBEAT_V2 = 41
GTID_TAGGED = 42

ROWS_EVENTS = frozenset(
    {
        WRITE_ROWS_V1,
        UPDATE_ROWS_V1,
        DELETE_ROWS_V1,
        WRITE_ROWS,
        UPDATE_ROWS,
        DELETE_ROWS,
        PARTIAL_UPDATE_ROWS,
    }
)
_SUPPRESS_USE = 0x08  # LOG_EVENT_SUPPRESS_USE_F
IGNORABLE_FLAG = 0x80  # LOG_EVENT_IGNORABLE_F: a reader may skip an unknown event

STMT_END = 0x01
NO_FOREIGN_KEY_CHECKS = 0x02
_LAST_OF_STATEMENT = NO_FOREIGN_KEY_CHECKS | STMT_END

u16 = struct.Struct("<H").unpack_from
u32 = struct.Struct("<I").unpack_from
u64 = struct.Struct("<Q").unpack_from
_header = struct.Struct("<IBIIIH")
_gtid = struct.Struct("<16sq").unpack_from
_new_tuple = tuple.__new__


def header(kind: int, body_bytes: int, flags: int = 0) -> bytes:
    """Build the header of an event that drc writes: no checksum, no position, server id 1."""
    return _header.pack(1, kind, 1, HEADER_BYTES + body_bytes, 0, flags)


def lenenc(data: bytes, at: int) -> tuple[int, int]:
    """Read a length-encoded integer; return (value, offset after it)."""
    first = data[at]
    if first < 251:
        return first, at + 1
    if first == 252:
        return u16(data, at + 1)[0], at + 3
    if first == 253:
        return int.from_bytes(data[at + 1 : at + 4], "little"), at + 4
    return u64(data, at + 1)[0], at + 9


def pack_lenenc(value: int) -> bytes:
    """Write a length-encoded integer."""
    if value < 251:
        return bytes((value,))
    if value < 1 << 16:
        return b"\xfc" + value.to_bytes(2, "little")
    if value < 1 << 24:
        return b"\xfd" + value.to_bytes(3, "little")
    return b"\xfe" + value.to_bytes(8, "little")


def _varlen(data: bytes, at: int) -> tuple[int, int]:
    """Read a variable-length integer of mysql::serialization; return (value, offset after it)."""
    first = data[at]
    extra = 0
    while extra < 8 and first & (1 << extra):
        extra += 1
    if extra == 8:
        return u64(data, at + 1)[0], at + 9
    end = at + extra + 1
    return int.from_bytes(data[at:end], "little") >> (extra + 1), end


def _zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


# ---------------------------------------------------------------- GTID


# A GTID and the origin's commit time, microseconds since the epoch.
GtidAndTime = tuple[Gtid, int]


def parse_gtid(data: bytes, at: int) -> GtidAndTime:
    """Parse a GTID event (33)."""
    uuid, gno = _gtid(data, at + HEADER_BYTES + 1)
    at += HEADER_BYTES + 42
    commit_us = int.from_bytes(data[at : at + 7], "little")
    if commit_us >> 55:  # the original commit timestamp differs and follows
        commit_us = int.from_bytes(data[at + 7 : at + 14], "little")
    # The same as Gtid(…) in half the time: this line runs for every transaction.
    return _new_tuple(Gtid, (uuid, gno, "")), commit_us


def parse_gtid_tagged(data: bytes, at: int, end: int) -> GtidAndTime:
    """Parse a tagged GTID event (42).

    :raises InvariantError: for an unknown version, or an unknown field that a reader must know.
    """
    at += HEADER_BYTES
    version, at = _varlen(data, at)
    if version != 1:
        raise InvariantError(
            f"cannot read a tagged GTID event: serialization version {version} is unknown"
        )
    _, at = _varlen(data, at)  # size
    last_needed, at = _varlen(data, at)
    uuid, tag = bytearray(), ""
    fields: dict[int, int] = {}
    while at < end:
        field, at = _varlen(data, at)
        if field == 1:
            for _ in range(16):
                byte, at = _varlen(data, at)
                uuid.append(byte)
        elif field == 3:
            length, at = _varlen(data, at)
            tag = data[at : at + length].decode("ascii")
            at += length
        elif field <= 11:
            fields[field], at = _varlen(data, at)
        elif field > last_needed:
            break
        else:
            raise InvariantError(f"cannot read a tagged GTID event: field {field} is unknown")
    return Gtid(bytes(uuid), _zigzag(fields[2]), tag), fields.get(7, fields.get(6, 0))


# ---------------------------------------------------------------- table map

TYPE_DECIMAL, TYPE_TINY, TYPE_SHORT, TYPE_LONG, TYPE_FLOAT, TYPE_DOUBLE = 0, 1, 2, 3, 4, 5
TYPE_NULL, TYPE_TIMESTAMP, TYPE_LONGLONG, TYPE_INT24, TYPE_DATE = 6, 7, 8, 9, 10
TYPE_TIME, TYPE_DATETIME, TYPE_YEAR, TYPE_NEWDATE, TYPE_VARCHAR, TYPE_BIT = 11, 12, 13, 14, 15, 16
TYPE_TIMESTAMP2, TYPE_DATETIME2, TYPE_TIME2, TYPE_VECTOR = 17, 18, 19, 242
TYPE_JSON, TYPE_NEWDECIMAL, TYPE_ENUM, TYPE_SET = 245, 246, 247, 248
TYPE_BLOB, TYPE_VAR_STRING, TYPE_STRING, TYPE_GEOMETRY = 252, 253, 254, 255

_NUMERIC = frozenset(
    {
        TYPE_TINY,
        TYPE_SHORT,
        TYPE_INT24,
        TYPE_LONG,
        TYPE_LONGLONG,
        TYPE_NEWDECIMAL,
        TYPE_FLOAT,
        TYPE_DOUBLE,
    }
)
_CHARACTER = frozenset({TYPE_STRING, TYPE_VAR_STRING, TYPE_VARCHAR, TYPE_BLOB})
_META_BYTES = {
    TYPE_FLOAT: 1,
    TYPE_DOUBLE: 1,
    TYPE_BLOB: 1,
    TYPE_GEOMETRY: 1,
    TYPE_JSON: 1,
    TYPE_VECTOR: 1,
    TYPE_TIMESTAMP2: 1,
    TYPE_DATETIME2: 1,
    TYPE_TIME2: 1,
    TYPE_VARCHAR: 2,
    TYPE_BIT: 2,
    TYPE_NEWDECIMAL: 2,
    TYPE_STRING: 2,
    TYPE_VAR_STRING: 2,
    TYPE_ENUM: 2,
    TYPE_SET: 2,
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table map.

    ``type`` is the real type (ENUM and SET are unpacked from STRING). ``meta`` depends on the
    type: for blobs the bytes of the length prefix, for strings the maximum length in bytes, for
    ENUM and SET the size in bytes, for DECIMAL ``precision << 8 | scale`` (DECIMAL(10,2):
    ``0x0A02``), for BIT the number of bits, for TIME2, DATETIME2 and TIMESTAMP2 the fractional
    digits. ``collation`` is 0 for non-strings.
    """

    name: str
    type: int
    meta: int
    nullable: bool
    unsigned: bool = False
    collation: int = 0


@dataclass(frozen=True)
class TableMap:
    """The definition of a table, as a TABLE_MAP event announces the table.

    ``body`` is the event without header and checksum. ``primary_key`` holds (column ordinal,
    prefix length in characters, 0 for the whole column) of each key column, for example
    ``((0, 0), (2, 10))``; empty for a table without primary key.
    """

    table_id: int
    schema: str
    table: str
    columns: tuple[Column, ...]
    primary_key: tuple[tuple[int, int], ...]
    body: bytes

    @cached_property
    def name(self) -> str:
        """Return ``schema.table``, for messages and keys of dictionaries."""
        return f"{self.schema}.{self.table}"

    @cached_property
    def event(self) -> bytes:
        """Return the whole event in the form for ``BINLOG``: drc's header, no checksum."""
        return header(TABLE_MAP, len(self.body)) + self.body

    @cached_property
    def full_bitmap(self) -> bytes:
        """Return the columns-present bitmap of a full row image."""
        count = len(self.columns)
        return ((1 << count) - 1).to_bytes((count + 7) // 8, "little")

    @cached_property
    def full_bitmaps(self) -> tuple[bytes, bytes]:
        """Return both spellings of a full bitmap: unused bits set (servers) and unset (drc)."""
        return b"\xff" * len(self.full_bitmap), self.full_bitmap


def _column_type(kind: int, raw: bytes) -> tuple[int, int]:
    """Return (real type, meta) of a column; see :class:`Column` for meta."""
    if kind == TYPE_STRING:
        real, length = raw[0], raw[1]
        if real in (TYPE_ENUM, TYPE_SET):
            return real, length
        # The two high bits of a CHAR's byte length are stored, inverted, in the type byte:
        # sql/log_event.cc, Field_string::do_save_field_metadata.
        return TYPE_STRING, ((real & 0x30) ^ 0x30) << 4 | length
    if kind in (TYPE_VARCHAR, TYPE_VAR_STRING):
        return TYPE_VARCHAR, u16(raw, 0)[0]
    if kind == TYPE_BIT:
        return kind, raw[0] + raw[1] * 8
    if kind == TYPE_NEWDECIMAL:
        return kind, raw[0] << 8 | raw[1]
    if kind in (TYPE_ENUM, TYPE_SET):
        return kind, raw[1]
    return kind, raw[0] if raw else 0


def _bits(raw: bytes, count: int) -> list[bool]:
    """Unpack a bitmap whose first item is the most significant bit."""
    return [bool(raw[i >> 3] & (0x80 >> (i & 7))) for i in range(count)]


def _lenencs(raw: bytes) -> list[int]:
    out, at = [], 0
    while at < len(raw):
        value, at = lenenc(raw, at)
        out.append(value)
    return out


def _collations(optional: dict[int, bytes], characters: list[int]) -> dict[int, int]:
    """Return column ordinal → collation id from DEFAULT_CHARSET (2) or COLUMN_CHARSET (3)."""
    if 3 in optional:
        return dict(zip(characters, _lenencs(optional[3]), strict=False))
    if 2 not in optional:
        return {}
    default, *pairs = _lenencs(optional[2])
    out = dict.fromkeys(characters, default)
    out.update({characters[i]: c for i, c in zip(pairs[::2], pairs[1::2], strict=True)})
    return out


def _names(raw: bytes) -> list[str]:
    out, at = [], 0
    while at < len(raw):
        length, at = lenenc(raw, at)
        out.append(raw[at : at + length].decode("utf-8"))
        at += length
    return out


def _optional(data: bytes, at: int, end: int) -> dict[int, bytes]:
    """Read the optional metadata that ``binlog_row_metadata=FULL`` adds: type → value."""
    out = {}
    while at < end:
        kind = data[at]
        length, at = lenenc(data, at + 1)
        out[kind] = bytes(data[at : at + length])
        at += length
    return out


def _primary_key(optional: dict[int, bytes]) -> tuple[tuple[int, int], ...]:
    if 8 in optional:
        return tuple((i, 0) for i in _lenencs(optional[8]))
    if 9 in optional:
        pairs = _lenencs(optional[9])
        return tuple(zip(pairs[::2], pairs[1::2], strict=True))
    return ()


def parse_table_map(body: bytes) -> TableMap:
    """Parse the body of a TABLE_MAP event (no header, no checksum).

    :raises DataError: the source logs no names and keys (``binlog_row_metadata`` is MINIMAL).
    """
    table_id = int.from_bytes(body[:6], "little")
    at = 8
    schema = body[at + 1 : at + 1 + body[at]].decode("utf-8")
    at += body[at] + 2
    table = body[at + 1 : at + 1 + body[at]].decode("utf-8")
    at += body[at] + 2
    count, at = lenenc(body, at)
    kinds = body[at : at + count]
    size, at = lenenc(body, at + count)
    meta_at, at = at, at + size
    types = []
    for kind in kinds:
        length = _META_BYTES.get(kind, 0)
        types.append(_column_type(kind, body[meta_at : meta_at + length]))
        meta_at += length
    nulls = body[at : at + (count + 7) // 8]
    optional = _optional(body, at + len(nulls), len(body))
    if count and 4 not in optional:
        raise DataError(
            "cannot read a table map: the source logs tables without column names and keys",
            table=f"{schema}.{table}",
            hint="run SET PERSIST binlog_row_metadata = FULL on the source, then"
            " `drc reposition` past this transaction",
        )
    numeric = [i for i, (kind, _) in enumerate(types) if kind in _NUMERIC]
    unsigned = (
        dict(zip(numeric, _bits(optional.get(1, b""), len(numeric)), strict=True))
        if (1 in optional)
        else {}
    )
    collations = _collations(optional, [i for i, (k, _) in enumerate(types) if k in _CHARACTER])
    columns = tuple(
        Column(
            name,
            kind,
            meta,
            bool(nulls[i >> 3] & 1 << (i & 7)),
            unsigned.get(i, False),
            collations.get(i, 0),
        )
        for i, (name, (kind, meta)) in enumerate(
            zip(_names(optional.get(4, b"")), types, strict=True)
        )
    )
    return TableMap(table_id, schema, table, columns, _primary_key(optional), bytes(body))


# ---------------------------------------------------------------- query


@dataclass(frozen=True, slots=True)
class QueryEvent:
    """A statement and the session that ran the statement.

    ``schema`` is the session's default schema, empty where the statement needs no default schema
    (which may not exist yet: CREATE DATABASE); ``status`` maps status variable codes to raw values.
    """

    schema: str
    sql: bytes
    status: dict[int, bytes]


# Code → length in bytes; _status_value has the codes of variable length.
# libs/mysql/binlog/event/statement_events.h, enum Query_event_status_vars.
_STATUS_BYTES: dict[int, int] = {
    0: 4,  # FLAGS2
    1: 8,  # SQL_MODE
    3: 4,  # AUTO_INCREMENT: increment, offset
    4: 6,  # CHARSET: client, connection, server
    7: 2,  # LC_TIME_NAMES
    8: 2,  # CHARSET_DATABASE
    9: 8,  # TABLE_MAP_FOR_UPDATE
    10: 4,  # MASTER_DATA_WRITTEN
    13: 3,  # MICROSECONDS
    16: 1,  # EXPLICIT_DEFAULTS_FOR_TIMESTAMP
    17: 8,  # DDL_LOGGED_WITH_XID
    18: 2,  # DEFAULT_COLLATION_FOR_UTF8MB4
    19: 1,  # SQL_REQUIRE_PRIMARY_KEY
    20: 1,  # DEFAULT_TABLE_ENCRYPTION
}
STATUS_FLAGS2, STATUS_SQL_MODE, STATUS_CHARSET, STATUS_TIME_ZONE = 0, 1, 4, 5
STATUS_UPDATED_DATABASES, STATUS_DEFAULT_UTF8MB4_COLLATION = 12, 18
STATUS_EXPLICIT_TIMESTAMP = 16


def _status_value(raw: bytes, code: int, at: int) -> int:
    """Return the end offset of the status variable ``code`` whose value starts at ``at``."""
    if code in _STATUS_BYTES:
        return at + _STATUS_BYTES[code]
    if code in (5, 6):  # TIME_ZONE, CATALOG_NZ: length byte, text
        return at + 1 + raw[at]
    if code == 2:  # CATALOG: length byte, text, NUL
        return at + 2 + raw[at]
    if code == 11:  # INVOKER: two strings with a length byte each
        at += 1 + raw[at]
        return at + 1 + raw[at]
    if code == 12:  # UPDATED_DB_NAMES: count, NUL-terminated names; 254 means too many
        count, at = raw[at], at + 1
        for _ in range(0 if count == 254 else count):
            at = raw.index(0, at) + 1
        return at
    raise InvariantError(
        f"cannot read a query event: status variable {code} is unknown",
        hint="upgrade drc: this server is newer than this drc",
    )


def parse_query(data: bytes, at: int, end: int) -> QueryEvent:
    """Parse a QUERY event."""
    body = at + HEADER_BYTES
    schema_bytes, status_bytes = data[body + 8], u16(data, body + 11)[0]
    start = body + 13
    raw = bytes(data[start : start + status_bytes])
    status, i = {}, 0
    while i < len(raw):
        stop = _status_value(raw, raw[i], i + 1)
        status[raw[i]] = raw[i + 1 : stop]
        i = stop
    text = start + status_bytes
    schema = data[text : text + schema_bytes].decode("utf-8")
    if u16(data, at + 17)[0] & _SUPPRESS_USE:
        schema = ""
    return QueryEvent(schema, bytes(data[text + schema_bytes + 1 : end]), status)


def query_text(data: bytes, at: int, end: int) -> bytes:
    """Return the SQL (BEGIN, SAVEPOINT, …) of a QUERY event without parsing the session."""
    body = at + HEADER_BYTES
    return data[body + 14 + data[body + 8] + u16(data, body + 11)[0] : end]


# ---------------------------------------------------------------- rows


def rows_header(data: bytes, at: int) -> tuple[int, int]:
    """Return (table id, offset of the column count) of a rows event of any version."""
    table_id = u32(data, at + 19)[0] | u16(data, at + 23)[0] << 32
    if data[at + 4] < WRITE_ROWS:  # v1: no extra row data
        return table_id, at + 27
    return table_id, at + 27 + u16(data, at + 27)[0]


def rows_event(
    table: TableMap, kind: int, images: Sequence[bytes], flags: int = _LAST_OF_STATEMENT
) -> bytes:
    """Build a v2 rows event with full images.

    :param images: full row images; for updates, before and after images alternate.
    :param flags: by default the event ends the statement: the server then closes the tables.
        ``NO_FOREIGN_KEY_CHECKS`` alone leaves the statement open for the next event.
    """
    bitmap = table.full_bitmap * 2 if kind == UPDATE_ROWS else table.full_bitmap
    body = b"".join(
        (
            table.table_id.to_bytes(6, "little"),
            flags.to_bytes(2, "little"),
            b"\x02\x00",
            pack_lenenc(len(table.columns)),
            bitmap,
            *images,
        )
    )
    return header(kind, len(body)) + body


def image(values: Sequence[bytes | None]) -> bytes:
    """Build a row image from raw values; None for NULL."""
    nulls = sum(1 << n for n, value in enumerate(values) if value is None)
    head = nulls.to_bytes((len(values) + 7) // 8, "little")
    return head + b"".join(value for value in values if value is not None)


def partial_update(table: TableMap, key: bytes, values: dict[int, bytes | None]) -> bytes:
    """Build an update of some columns of a row.

    :param key: a full image with the row's primary key.
    :param values: raw values by column ordinal, in the format of a row image; None for NULL.
    """
    count = len(table.columns)
    present = sum(1 << i for i in values).to_bytes((count + 7) // 8, "little")
    body = b"".join(
        (
            table.table_id.to_bytes(6, "little"),
            _LAST_OF_STATEMENT.to_bytes(2, "little"),
            b"\x02\x00",
            pack_lenenc(count),
            table.full_bitmap,
            present,
            key,
            image([values[i] for i in sorted(values)]),
        )
    )
    return header(UPDATE_ROWS, len(body)) + body
