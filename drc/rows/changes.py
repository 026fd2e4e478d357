"""Row changes: the rows that a batch changes at the target, not yet rendered. Pure.

An executor renders the changes for a server: :func:`as_events` renders for ``BINLOG``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from drc.binlog import events as ev
from drc.binlog.events import Buffer, TableMap, u32
from drc.binlog.transaction import RawTransaction
from drc.rows.tables import Tables


class TableChanges(NamedTuple):
    """The net rows of a table: deletes first, then updates, then inserts.

    Each row is an image in the format of the binlog; ``updates`` alternates before and after
    images. ``passing`` holds rows that the batch inserts and deletes again: the target does the
    same, so that a concurrent writer of the keys meets a lock.
    """

    table: TableMap
    deletes: Sequence[bytes]
    updates: Sequence[bytes]
    inserts: Sequence[bytes]
    passing: Sequence[bytes] = ()

    @property
    def rows(self) -> int:
        """Return the number of changed rows, without passing rows."""
        return len(self.deletes) + len(self.updates) // 2 + len(self.inserts)


class WrittenRows(NamedTuple):
    """A rows event as the origin wrote the event, without checksum."""

    table: TableMap
    event: Buffer


Changes = Sequence[TableChanges | WrittenRows]


def written_rows(
    transaction: RawTransaction,
    tables: Tables,
    maps: dict[int, TableMap | None] | None = None,
) -> list[WrittenRows]:
    """Return the rows events of a transaction's selected tables.

    :param maps: tables by id, None for a table that is not selected; the same dict for all parts
        of a large transaction, because a later part may lack the table map.
    """
    out: list[WrittenRows] = []
    announced = {} if maps is None else maps
    data = memoryview(transaction.data)
    for kind, at, end in transaction.spans():
        table_id = u32(data, at + 19)[0]
        if kind == ev.TABLE_MAP:
            table = tables.resolve(bytes(data[at + ev.HEADER_BYTES : end]))
            announced[table_id] = table.map if table.selected else None
        elif kind in ev.ROWS_EVENTS and (known := announced[table_id]):
            out.append(WrittenRows(known, data[at:end]))
    return out


def as_events(changes: Changes) -> list[Buffer]:
    """Return binlog events that make the changes, each table map before the rows.

    No event has a checksum. Foreign keys are not checked again: the order inside a batch is not
    the origin's order, and the origin sends cascaded changes as separate rows.
    """
    out: list[Buffer] = []
    for change in changes:
        if isinstance(change, TableChanges):
            _emit_net(change, out)
        else:
            _emit_written(change, out)
    return out


def _emit_net(change: TableChanges, out: list[Buffer]) -> None:
    table, deletes, updates, inserts, passing = change
    kinds = [
        (kind, images)
        for kind, images in (
            (ev.DELETE_ROWS, deletes),
            (ev.UPDATE_ROWS, updates),
            (ev.WRITE_ROWS, inserts),
        )
        if images
    ]
    if kinds:
        out.append(table.event)
        for kind, images in kinds[:-1]:
            out.append(ev.rows_event(table, kind, images, ev.NO_FOREIGN_KEY_CHECKS))
        out.append(ev.rows_event(table, *kinds[-1]))
    if passing:
        out.append(table.event)
        out.append(ev.rows_event(table, ev.WRITE_ROWS, passing, ev.NO_FOREIGN_KEY_CHECKS))
        out.append(ev.rows_event(table, ev.DELETE_ROWS, passing))


def _emit_written(change: WrittenRows, out: list[Buffer]) -> None:
    """Append an event as a complete statement, so that a part of a transaction can run alone."""
    event = change.event
    flags = event[25] | ev.STMT_END | ev.NO_FOREIGN_KEY_CHECKS
    resized = ev.header(event[4], len(event) - ev.HEADER_BYTES)
    out += (change.table.event, resized, event[19:25], bytes((flags,)), event[26:])
