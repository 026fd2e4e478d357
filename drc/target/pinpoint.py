"""Pinpointing: finds the row that the target refuses, so that the error can name the row. Edge.

The server names no key for a missing row. So a transaction that failed alone is run again, row by
row, and rolled back: the first refused row is the cause.
"""

from __future__ import annotations

from dataclasses import dataclass

from drc.binlog import events as ev
from drc.binlog.transaction import RawTransaction
from drc.errors import DataError
from drc.rows.shown import key_text
from drc.rows.tables import Tables
from drc.rows.walk import row_images
from drc.target.lane import Lane

_ROWS_MAX = 10_000  # each takes a round trip: beyond, the error names the table only


@dataclass(frozen=True, slots=True)
class Refused:
    """A refused row: the table as ``schema.table`` and the key as ``column=value, …``."""

    table: str
    key: str


def find_refused(lane: Lane, transaction: RawTransaction, tables: Tables) -> Refused | None:
    """Return the first row of ``transaction`` that the target refuses; nothing is changed.

    Returns None if no row is refused now, or if there are too many rows to try.
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
