"""Envelopes: transactions as change messages in Debezium's form. Pure.

docs/reference/json-topic.md has the format.

1. Every row change of a chosen table makes a message, in the order of the binlog. A change that
   cannot be decoded is an error and never left out.
2. All messages of a row have the primary key as message key, so that Kafka keeps their order. A
   change of the primary key is a delete of the old key and a create of the new key.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from drc import __version__
from drc.binlog import events as ev
from drc.binlog.events import TableMap
from drc.binlog.transaction import RawTransaction
from drc.cdc.values import json_value
from drc.errors import DataError
from drc.rows.decoded import Row, RowChange, RowDecoder, images_at

_encode = msgspec.json.Encoder().encode
# A character that a topic name cannot have, or text that looks like a replaced character.
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]|_(?=u[0-9a-f]{4})")


class Message(NamedTuple):
    """A message: a tombstone has no value, a row of a table without primary key has no key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def topic_name(prefix: str, schema: str, table: str) -> str:
    """Return the topic of a table; different tables have different topics.

    A character that a topic name cannot have becomes ``_uXXXX``, the number in Unicode: table
    ``a b`` of schema ``shop`` has the topic ``PREFIX.shop.a_u0020b``.
    """

    def escape(name: str) -> str:
        return _FOREIGN.sub(lambda match: f"_u{ord(match[0]):04x}", name)

    return f"{prefix}.{escape(schema)}.{escape(table)}"


class Envelopes:
    """Convert the transactions of a stream, in order, to messages.

    :param prefix: the beginning of each topic name, for example ``drc.shop.shanghai``; also the
        ``name`` of the source.
    :param chosen: returns True if a table, by schema and name, is published.
    :param clock: returns the time in µs since 1970.
    """

    def __init__(
        self, prefix: str, chosen: Callable[[str, str], bool], clock: Callable[[], int]
    ) -> None:
        self._prefix, self._chosen, self._clock = prefix, chosen, clock
        self._rows = RowDecoder()
        self._orders: Counter[str] = (
            Counter()
        )  # changes so far, of the transaction ('') and by table

    def messages(self, transaction: RawTransaction) -> Iterator[Message]:
        """Yield the messages of a transaction, or of a part of a large transaction.

        :raises DataError: a change cannot be decoded.
        """
        if transaction.part == 0:
            self._orders.clear()
        for change in self._rows.changes(transaction):
            if self._chosen(change.table.schema, change.table.table):
                _require_decoded(change, transaction)
                yield from self._change(transaction, change)

    def _change(self, transaction: RawTransaction, change: RowChange) -> Iterator[Message]:
        table = change.table
        before, after = (
            None if row is None else _columns(table, row) for row in (change.before, change.after)
        )
        old, new = (None if row is None else _key(table, row) for row in (before, after))
        if before is None or (old == new and after is not None):
            op = "c" if before is None else "u"
            yield self._message(transaction, change, op, new, before, after)
            return
        moved = after is not None
        headers = [("__debezium.newkey", new)] if moved and new else []
        yield self._message(transaction, change, "d", old, before, None, headers)
        if old is not None:
            yield Message(self._topic(table), old, None, [])
        if moved:
            headers = [("__debezium.oldkey", old)] if old else []
            yield self._message(transaction, change, "c", new, None, after, headers)

    def _topic(self, table: TableMap) -> str:
        return topic_name(self._prefix, table.schema, table.table)

    def _message(
        self,
        transaction: RawTransaction,
        change: RowChange,
        op: str,
        key: bytes | None,
        before: Row | None,
        after: Row | None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> Message:
        table, gtid = change.table, str(transaction.gtid)
        self._orders.update(("", table.name))
        value = {
            "before": before,
            "after": after,
            "source": {
                "version": __version__,
                "connector": "mysql",
                "name": self._prefix,
                **_times(transaction.commit_us),
                "snapshot": "false",
                "db": table.schema,
                "sequence": None,
                "table": table.table,
                "server_id": int(ev.u32(change.event, 5)[0]),
                "gtid": gtid,
                "file": "",
                "pos": 0,
                "row": change.number,
                "thread": None,
                "query": None,
            },
            "transaction": {
                "id": gtid,
                "total_order": self._orders[""],
                "data_collection_order": self._orders[table.name],
            },
            "op": op,
            **_times(self._clock()),
        }
        return Message(self._topic(table), key, _encode(value), headers or [])


def _times(us: int) -> dict[str, int]:
    return {"ts_ms": us // 1000, "ts_us": us, "ts_ns": us * 1000}


def _columns(table: TableMap, row: Row) -> Row:
    return {c.name: json_value(c, row[c.name]) for c in table.columns}


def _key(table: TableMap, row: Row) -> bytes | None:
    """Return the primary key of a converted row; None if the table has no primary key."""
    names = [table.columns[ordinal].name for ordinal, _ in table.primary_key]
    return _encode({name: row[name] for name in names}) if names else None


def _require_decoded(change: RowChange, transaction: RawTransaction) -> None:
    why = "" if change.decoded else "a type that cannot be decoded, such as VECTOR"
    if change.number == 0:
        try:
            images_at(change.table, change.event)
        except ValueError:
            why = "the binlog does not have the whole row"
    if why:
        raise DataError(
            f"cannot publish a row change: {why}",
            stage="decode",
            gtid=str(transaction.gtid),
            table=change.table.name,
            hint="leave the table out with --exclude, or set binlog_row_image = FULL and"
            " binlog_row_value_options = '' at the source",
        )
