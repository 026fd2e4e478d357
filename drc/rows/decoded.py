"""Decoded transactions, for people to read. Nothing that is applied ever passes through here.

The event classes of mysql-replication decode rows from the raw events that drc's own reader cut:
the library itself cannot follow tagged or compressed streams. Decoded values prove nothing: a
zero date, YEAR 0000 and some JSON come out differently from the values in the table. Where the
library gives up (VECTOR, partial JSON), the raw bytes are shown.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from pymysql.protocol import MysqlPacket
from pymysqlreplication.packet import BinLogPacketWrapper
from pymysqlreplication.row_event import (
    DeleteRowsEvent,
    TableMapEvent,
    UpdateRowsEvent,
    WriteRowsEvent,
)

from drc.binlog import events as ev
from drc.binlog.events import TableMap
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.errors import DrcError
from drc.names import CANARY, SCHEMA, TAG
from drc.rows.images import column_walkers

_EVENTS = (TableMapEvent, WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent)
_KINDS = {
    ev.WRITE_ROWS: "insert",
    ev.UPDATE_ROWS: "update",
    ev.DELETE_ROWS: "delete",
    ev.WRITE_ROWS_V1: "insert",
    ev.UPDATE_ROWS_V1: "update",
    ev.DELETE_ROWS_V1: "delete",
    ev.PARTIAL_UPDATE_ROWS: "partial update",
}
_UPDATES = (ev.UPDATE_ROWS, ev.UPDATE_ROWS_V1)
_HEX_BYTES_MAX = 512  # of an undecodable value: enough to recognise, not to restore
Change = dict[str, Any]
Row = dict[str, Any]  # column → Python value


class RowChange(NamedTuple):
    """A row change, decoded by mysql-replication.

    ``event`` is the rows event, ``number`` the row's place in the event; ``before`` is None for an
    insert, ``after`` for a delete. A change that is not ``decoded`` stands for all rows of the
    event.
    """

    table: TableMap
    event: bytes
    number: int = 0
    before: Row | None = None
    after: Row | None = None
    decoded: bool = True


class _NoConnection:
    """The two answers that the library wants from a control connection, without a server."""

    charset = "utf8mb4"

    def _get_dbms(self) -> str:
        return "mysql"


class RowDecoder:
    """Decode the rows of a stream's transactions, in order."""

    def __init__(self) -> None:
        self._library: dict[int, Any] = {}
        self._maps: dict[int, TableMap] = {}
        self._broken: set[int] = set()  # table ids that the library cannot read

    def changes(self, transaction: RawTransaction) -> Iterator[RowChange]:
        """Yield the row changes of a transaction; table maps are kept for all parts."""
        if transaction.part == 0:
            self._library.clear()
            self._maps.clear()
            self._broken.clear()
        for kind, at, end in transaction.spans():
            if kind == ev.TABLE_MAP:
                self.learn(bytes(transaction.data[at:end]))
            elif kind in _KINDS:
                yield from self.rows(bytes(transaction.data[at:end]))

    def learn(self, event: bytes) -> None:
        """Remember the table map of an event without checksum."""
        table = ev.parse_table_map(event[ev.HEADER_BYTES :])
        self._maps[table.table_id] = table
        self._broken.discard(table.table_id)
        try:
            self._wrap(event)
        except Exception:  # the library raises any type of exception
            self._broken.add(table.table_id)

    def rows(self, event: bytes) -> Iterator[RowChange]:
        """Yield the row changes of an event without checksum, whose table map is known."""
        table_id, _ = ev.rows_header(event, 0)
        table = self._maps[table_id]
        rows: list[dict[str, Any]] | None = None
        if table_id not in self._broken and event[4] != ev.PARTIAL_UPDATE_ROWS:
            with suppress(Exception):  # as above
                rows = self._wrap(event).rows
        if rows is None:
            yield RowChange(table, event, decoded=False)
            return
        inserts = _KINDS[event[4]] == "insert"
        for number, row in enumerate(rows):
            before = row.get("before_values") or (None if inserts else row["values"])
            after = row.get("after_values") or (row["values"] if inserts else None)
            yield RowChange(table, event, number, before, after)

    def _wrap(self, event: bytes) -> Any:
        # Add an OK byte and a checksum, as a driver does: without, the library would take the last
        # field of a table map for a checksum. The library looks at neither.
        size = (len(event) + ev.CHECKSUM_BYTES).to_bytes(4, "little")
        packet = b"\0" + event[:9] + size + event[13:] + bytes(ev.CHECKSUM_BYTES)
        wrapper = BinLogPacketWrapper(
            MysqlPacket(packet, "utf8"),
            self._library,
            _NoConnection(),
            (8, 0, 0),
            use_checksum=True,
            allowed_events=_EVENTS,
            only_tables=None,
            ignored_tables=None,
            only_schemas=None,
            ignored_schemas=None,
            freeze_schema=False,
            ignore_decode_errors=True,
            verify_checksum=False,
            optional_meta_data=True,
            enable_logging=False,
        )
        return wrapper.event


class Decoder:
    """Convert the transactions of a stream, in order, into documents.

    :param tables: a glob on ``schema.table``, for example ``shop.*``; empty for all tables but
        schema ``drc``.
    """

    def __init__(self, tables: str = "") -> None:
        self._glob = tables
        self._rows = RowDecoder()
        self._learned: TableMap | None = None  # of the last image: images of a table come in runs

    def document(self, transaction: RawTransaction) -> dict[str, Any] | None:
        """Return a transaction as JSON-ready values, None without a change of a chosen table."""
        self._learned = None
        out: dict[str, Any] = {
            "gtid": str(transaction.gtid),
            "commit_us": transaction.commit_us,
            "kind": transaction.kind.value,
            "bytes": transaction.size,
        }
        if not transaction.whole:
            out |= {"part": transaction.part, "last": transaction.last}
        if transaction.kind is TransactionKind.DDL:
            _, at, end = next(transaction.spans())
            query = ev.parse_query(transaction.data, at, end)
            out |= {"schema": query.schema, "sql": query.sql.decode("utf-8", "replace")}
            return None if self._glob and not fnmatchcase(query.schema, self._schema()) else out
        out["replicated"] = transaction.gtid.tag == TAG or _bookkeeping(transaction)
        changes = [
            shown
            for change in self._rows.changes(transaction)
            if self._chosen(change.table.name)
            for shown in _shown(change)
        ]
        out["changes"] = changes
        return out if changes or not (self._glob or transaction.events) else None

    def image(self, table: TableMap, image: bytes) -> dict[str, Any]:
        """Return a full row image as JSON-ready values by column."""
        if table is not self._learned:
            self._rows.learn(table.event)
            self._learned = table
        (change,) = self._rows.rows(ev.rows_event(table, ev.WRITE_ROWS, [image]))
        (shown,) = _shown(change)
        row: dict[str, Any] = shown.get("row", shown)
        return row

    def _schema(self) -> str:
        return self._glob.partition(".")[0]

    def _chosen(self, name: str) -> bool:
        if self._glob:
            return fnmatchcase(name, self._glob)
        return not name.startswith("drc.")


def _bookkeeping(transaction: RawTransaction) -> bool:
    """Return True if the first change is to drc's ledger: the tag on servers before 8.3."""
    if transaction.part or not transaction.events:
        return False
    kind, at, end = next(transaction.spans())
    if kind != ev.TABLE_MAP:
        return False
    table = ev.parse_table_map(bytes(transaction.data[at + ev.HEADER_BYTES : end]))
    return table.schema == SCHEMA and table.name != CANARY


def _shown(change: RowChange) -> Iterator[Change]:
    """Yield a change in readable form; the bytes of the rows for an undecodable event."""
    table, event = change.table, change.event
    head: Change = {"table": table.name, "change": _KINDS[event[4]]}
    if change.decoded:
        yield head | _values(change)
        return
    _, at = ev.rows_header(event, 0)
    rows: list[Change] = [{"hex": event[at : at + _HEX_BYTES_MAX].hex()}]
    with suppress(DrcError, IndexError, ValueError):
        rows = _raw_rows(table, event)
    for row in rows:
        yield head | row


def _values(change: RowChange) -> Change:
    before, after = change.before, change.after
    if before is None or after is None:
        return {"row": _columns(before or after or {})}
    return {"before": _columns(before), "after": _columns(after)}


def _columns(values: dict[str, Any]) -> dict[str, Any]:
    return {name: readable(value) for name, value in values.items()}


def images_at(table: TableMap, event: bytes) -> int:
    """Return the offset of the first row image of an event.

    :raises ValueError: the images are not full: columns are missing, or JSON documents are partial.
    """
    _, at = ev.rows_header(event, 0)
    columns, at = ev.lenenc(event, at)
    if event[4] == ev.PARTIAL_UPDATE_ROWS or columns != len(table.columns):
        raise ValueError("row images are not full")
    size = len(table.full_bitmap)
    for _ in range(1 + (event[4] in _UPDATES)):
        if event[at : at + size] not in table.full_bitmaps:
            raise ValueError("row images are not full")
        at += size
    return at


def _raw_rows(table: TableMap, event: bytes) -> list[Change]:
    """Cut rows with drc's own walkers; every value is the bytes in the image.

    :raises ValueError: when the images are not full.
    """
    at, size = images_at(table, event), len(table.full_bitmap)
    walkers = column_walkers(table, range(len(table.columns)))
    images: list[dict[str, str | None]] = []
    while at < len(event):
        at, values = walkers[event[at : at + size]](event, at)
        images.append(
            {
                column.name: None if value is None else readable(value)
                for column, value in zip(table.columns, values, strict=True)
            }
        )
    if event[4] in _UPDATES:
        pairs = zip(images[::2], images[1::2], strict=True)
        return [{"before": a, "after": b, "raw": True} for a, b in pairs]
    return [{"row": image, "raw": True} for image in images]


def readable(value: Any) -> Any:
    """Convert a decoded value for JSON: bytes to hex (``0x0a1b``), times to ISO text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray):
        return "0x" + bytes(value[:_HEX_BYTES_MAX]).hex()
    if isinstance(value, dict):
        return {str(_inner(k)): _inner(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(str(readable(v)) for v in value)
    if isinstance(value, list | tuple):
        return [_inner(v) for v in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal | datetime.timedelta):
        return str(value)
    return repr(value)


def _inner(value: Any) -> Any:
    """Convert a value inside a JSON document, where strings come as bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return readable(value)


def one_line(value: Any) -> str:
    """Return a value as a line for a terminal; control characters of any value are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
