"""Find the row that the target refuses, so that a person knows where to look. Edge.

The server names no key for a missing row. A transaction that failed alone is run once more, row by
row, and rolled back: the first row that is refused is the one.
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

_ROWS_MAX = 10_000  # a round trip each: beyond, naming the table must do


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
