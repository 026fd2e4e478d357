"""Table definitions: describe columns, exact values, and the order to walk two servers in. Edge.

Contents: the columns of a table as ``information_schema`` lists columns, hidden columns included;
for each column a SELECT expression whose text tells every stored value apart; for each key column
the conversion from text to a value that sorts as the server sorts.

1. Two different stored values never give the same text, except JSON's inner types (a DECIMAL and
   a DOUBLE of the same digits inside a document read the same).
2. The order of :func:`Definition.sort_key` is the order of ``ORDER BY`` on the key, collation
   included, so that a merge of two streams meets equal keys at the same time.

The sessions must be set up by :func:`prepare`: results as stored bytes, time zone UTC.

Exact text: FLOAT prints six digits, so FLOAT is cast to DOUBLE, which prints the shortest digits
that read back to the same bits (checked over random bit patterns, -0 included; ``f + 0E0`` would
lose the sign of -0). ENUM and SET are read as numbers, because the empty string may be a member
or the error value. Every other type is read as the bytes that the server stores, or as exact text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from drc.mysql import Connection, ask, parse_version, quote
from drc.names import SYSTEM_SCHEMAS

_NUMBERED = frozenset({"enum", "set"})
_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "year"}) | _NUMBERED
_WEIGHTS_MAX = 8  # of a character, with room to spare: an expansion has few weights
_FLOATS = frozenset({"float", "double"})

Field = bytes | None
Key = tuple[Any, ...]

_COLUMNS = """
SELECT c.COLUMN_NAME, c.DATA_TYPE, c.COLUMN_TYPE, c.COLLATION_NAME, c.IS_NULLABLE, c.EXTRA,
       c.SRS_ID, c.CHARACTER_MAXIMUM_LENGTH, o.PAD_ATTRIBUTE
  FROM information_schema.COLUMNS c
  LEFT JOIN information_schema.COLLATIONS o ON o.COLLATION_NAME = c.COLLATION_NAME
 WHERE c.TABLE_SCHEMA = %s AND c.TABLE_NAME = %s ORDER BY c.ORDINAL_POSITION"""
_KEYS = """
SELECT INDEX_NAME, COLUMN_NAME, NULLABLE, SUB_PART FROM information_schema.STATISTICS
 WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND NON_UNIQUE = 0
 ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX"""
_TABLES = """
SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES
 WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN %s ORDER BY 1, 2"""


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column; ``width`` is in characters, ``pad`` is the weight of the space that pads a key."""

    name: str
    kind: str
    full_type: str
    collation: str
    nullable: bool
    extra: str
    srs_id: int | None
    width: int
    pad: bytes

    @property
    def expression(self) -> str:
        """Return the SELECT expression whose result tells every stored value apart."""
        name = quote(self.name)
        if self.kind in _FLOATS:
            return f"CAST({name} AS DOUBLE)"
        if self.kind in _NUMBERED:
            return f"CAST({name} AS UNSIGNED)"
        return name

    @property
    def sort_expression(self) -> str:
        """Return the SELECT expression that :attr:`sort_value` reads."""
        if not self.collation or self.kind in _NUMBERED:
            return self.expression
        return f"WEIGHT_STRING({quote(self.name)})"

    @property
    def sort_value(self) -> Callable[[bytes], Any]:
        """Return the function from a key field's text to a value that sorts as the server sorts."""
        if self.kind in _INTEGERS:
            return int
        if self.kind == "decimal":
            return lambda raw: Decimal(raw.decode())
        if self.kind in _FLOATS:
            return float
        if self.kind == "time":
            return _microseconds
        # A collation that pads compares 'a' with 'a\\t' as if spaces followed 'a'. (AS CHAR(n)
        # of WEIGHT_STRING pads too, but to different lengths where a letter has two weights.)
        pad, units = self.pad, self.width * _WEIGHTS_MAX
        return (lambda raw: raw + pad * (units - len(raw) // len(pad))) if pad else bytes


def _microseconds(raw: bytes) -> int:
    """Convert a TIME such as ``-101:02:03.5`` to microseconds."""
    hours, minutes, seconds = raw.decode().lstrip("-").split(":")
    whole, _, part = seconds.partition(".")
    us = ((int(hours) * 60 + int(minutes)) * 60 + int(whole)) * 1_000_000 + int(f"{part:0<6}")
    return -us if raw.startswith(b"-") else us


@dataclass(frozen=True, slots=True)
class Definition:
    """A table: the columns in order, and the columns of the key to walk by (empty: no order)."""

    schema: str
    table: str
    columns: tuple[ColumnDefinition, ...]
    key: tuple[ColumnDefinition, ...]

    @property
    def select(self) -> str:
        """Return the query that streams the rows: the key's sort fields, then every column."""
        fields = [c.sort_expression for c in self.key] + [c.expression for c in self.columns]
        order = ", ".join(quote(c.name) for c in self.key)
        return (
            f"SELECT {', '.join(fields)} FROM {quote(self.schema)}.{quote(self.table)}"
            f"{f' ORDER BY {order}' if order else ''}"
        )

    def sort_key(self, fields: list[Field]) -> Key:
        """Return the sortable key of a row of :attr:`select`."""
        pairs = zip(self.key, fields, strict=False)
        return tuple(c.sort_value(raw) for c, raw in pairs if raw is not None)

    def difference(self, other: Definition) -> str:
        """Return the first difference between two definitions as a sentence, '' without any."""
        here, there = (tuple(c.name for c in d.columns) for d in (self, other))
        if here != there:
            return f"columns are {', '.join(here)} here and {', '.join(there)} there"
        for a, b in zip(self.columns, other.columns, strict=True):
            if a != b:
                return f"column {a.name} is {a.full_type} {a.collation} {a.extra} here" + (
                    f" and {b.full_type} {b.collation} {b.extra} there"
                )
        if tuple(c.name for c in self.key) != tuple(c.name for c in other.key):
            return "the keys differ"
        return ""


def prepare(conn: Connection) -> None:
    """Set up a session for exact reads in a single snapshot; the session has no other use then.

    :raises DrcError: classed by errno.
    """
    ask(conn, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    # Results arrive as stored, without conversion; keys of any length sort in full.
    ask(
        conn,
        "SET character_set_results = NULL, time_zone = '+00:00', sql_mode = '',"
        " max_sort_length = 65536",
    )
    # The variable exists since 8.0.30; here a hidden primary key is a column like any other.
    version = parse_version(conn.get_server_info())  # type: ignore[no-untyped-call]
    if version >= (8, 0, 30):
        ask(conn, "SET show_gipk_in_create_table_and_information_schema = ON")
    ask(conn, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")


def tables(conn: Connection, schemas: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Return (schema, table) of all base tables in ``schemas``; empty: in all users' schemas."""
    rows = [(str(s), str(t)) for s, t in ask(conn, _TABLES, (sorted(SYSTEM_SCHEMAS),))]
    return [row for row in rows if not schemas or row[0] in schemas]


def define(conn: Connection, schema: str, table: str) -> Definition:
    """Read the definition of a table from a server.

    :raises DrcError: classed by errno.
    """
    pads: dict[str, bytes] = {}
    columns = []
    for name, kind, full, collation, nullable, extra, srs, width, pad in ask(
        conn, _COLUMNS, (schema, table)
    ):
        if pad == "PAD SPACE" and collation not in pads:
            pads[collation] = _space_weight(conn, collation)
        columns.append(
            ColumnDefinition(
                name=name,
                kind=kind.lower(),
                full_type=_text(full),
                collation=collation or "",
                nullable=nullable == "YES",
                extra=extra,
                srs_id=srs,
                width=int(width or 0),
                pad=pads.get(collation, b""),
            )
        )
    by_name = {c.name: c for c in columns}
    keys: dict[str, list[tuple[str | None, str, int | None]]] = {}
    for index, column, nullable, prefix in ask(conn, _KEYS, (schema, table)):
        keys.setdefault(index, []).append((column, nullable, prefix))
    for parts in keys.values():
        if all(column and nullable != "YES" for column, nullable, _ in parts):
            return Definition(
                schema, table, tuple(columns), tuple(by_name[str(c)] for c, *_ in parts)
            )
    return Definition(schema, table, tuple(columns), ())


def _space_weight(conn: Connection, collation: str) -> bytes:
    charset = collation.partition("_")[0]
    sql = f"SELECT WEIGHT_STRING(CONVERT(' ' USING {charset}) COLLATE {collation})"
    weight = ask(conn, sql)[0][0]
    return weight if isinstance(weight, bytes) else b""


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
