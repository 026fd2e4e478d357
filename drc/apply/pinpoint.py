"""Find the row that the target refuses, so that a person knows where to look. Edge.

The server names no key for a missing row. A transaction that failed alone is run once more, row by
row, and rolled back: the first row that is refused is the one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drc import events as ev
from drc.apply.lane import Lane
from drc.apply.netting import Tables
from drc.apply.rows import row_images
from drc.conflict.mask import Mask
from drc.errors import DataError
from drc.events import Column, TableMap
from drc.images import column_walkers, fixed_bytes, prefix_bytes
from drc.transaction import RawTransaction

_ROWS_MAX = 10_000  # a round trip each: beyond, naming the table must do
_INTEGERS = frozenset({ev.TYPE_TINY, ev.TYPE_SHORT, ev.TYPE_INT24, ev.TYPE_LONG, ev.TYPE_LONGLONG})


@dataclass(frozen=True, slots=True)
class Refused:
    """A row: its table as ``schema.table`` and its key as ``column=value, …``."""

    table: str
    key: str


def find_refused(lane: Lane, transaction: RawTransaction, tables: Tables) -> Refused | None:
    """Return the first row of ``transaction`` that the target refuses; nothing is changed.

    None when none is refused now, or there are too many rows to try.
    """
    lane.execute("BEGIN")
    try:
        for number, (table, kind, images) in enumerate(row_images(transaction, tables)):
            if number >= _ROWS_MAX:
                return None
            event = ev.rows_event(table.map, kind, images)
            try:
                lane.apply([table.map.event, event])
            except DataError:
                return Refused(table.name, key_text(table.map, images[0]))
    finally:
        lane.rollback()
    return None


def key_text(
    table: TableMap, image: bytes, key: Sequence[int] = (), masked: Mask | None = None
) -> str:
    """Return a key of a row image for people: numbers and text, else hex.

    :param key: ordinals of its columns, none of them NULL; of the primary key by default.
    """
    ordinals = key or [ordinal for ordinal, _ in table.primary_key]
    walkers = column_walkers(table, ordinals)
    _, values = walkers[image[: walkers.null_bytes]](image, 0)
    columns = [table.columns[i] for i in ordinals]
    shown = {
        column.name: _value_text(column, value)
        for column, value in zip(columns, values, strict=True)
    }
    if masked:
        shown = masked.row(table.name, shown)
    return ", ".join(f"{name}={text}" for name, text in shown.items())


def _value_text(column: Column, value: bytes) -> str:
    if column.type in _INTEGERS:
        return str(int.from_bytes(value, "little", signed=not column.unsigned))
    if fixed_bytes(column) is None:
        body = value[prefix_bytes(column) :]
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            return "0x" + body.hex()
        return repr(text) if text.isprintable() else "0x" + body.hex()
    return "0x" + value.hex()
