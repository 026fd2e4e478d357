"""The rows of one transaction, as images and as keys. Pure.

The bytes of a very large event are a bytearray, which nothing here copies or hashes as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from drc import events as ev
from drc.apply.netting import NetTable, Tables
from drc.events import u32
from drc.transaction import RawTransaction

_WALKED = frozenset({ev.WRITE_ROWS, ev.UPDATE_ROWS, ev.DELETE_ROWS})


def _rows_events(
    transaction: RawTransaction, tables: Tables
) -> Iterator[tuple[NetTable, int, int, int]]:
    """Yield (table, type, offset of the first row, end) of each rows event.

    The offset is 0 where images are partial, or the event has a form that is not walked.
    """
    data = transaction.data
    for at in transaction.events:
        kind, table_id = data[at + 4], u32(data, at + 19)[0]
        end = at + u32(data, at + 9)[0] - transaction.checksum
        if kind == ev.TABLE_MAP:
            tables.resolve(data[at + 19 : end])
            continue
        table = tables.by_id[table_id]  # its map may have come in an earlier part
        heads = table.update_heads if kind == ev.UPDATE_ROWS else table.heads
        first = at + 27 + len(heads[0])
        if table.selected:
            walked = kind in _WALKED and data[at + 27 : first] in heads
            yield table, kind, first if walked else 0, end


def row_images(
    transaction: RawTransaction, tables: Tables
) -> Iterator[tuple[NetTable, int, list[bytes]]]:
    """Yield (table, rows event type, images of one row); partial images are left out."""
    data = transaction.data
    for table, kind, first, end in _rows_events(transaction, tables):
        images = 2 if kind == ev.UPDATE_ROWS else 1
        while 0 < first < end:
            row = []
            for _ in range(images):
                stop, _ = table.keys[bytes(data[first : first + table.null_bytes])](data, first)
                row.append(bytes(data[first:stop]))
                first = stop
            yield table, kind, row


def touched_slots(transaction: RawTransaction, tables: Tables) -> frozenset[int] | None:
    """Return the slots of every row image, before and after; None when one cannot be told."""
    out: set[int] = set()
    data = transaction.data
    for table, _, at, end in _rows_events(transaction, tables):
        walkers, nulls = table.slots, table.null_bytes
        assert walkers is not None
        if not at:
            return None
        while at < end:
            at, found = walkers[bytes(data[at : at + nulls])](data, at)
            if found is None:
                return None
            out.update(found)
    return frozenset(out)
