"""Row walks: the rows of a transaction, as images and as keys. Pure.

The bytes of a very large event are a bytearray, which no function here copies or hashes as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drc.binlog import events as ev
from drc.binlog.events import u32
from drc.binlog.transaction import RawTransaction
from drc.rows.images import column_values
from drc.rows.tables import Table, Tables

ALL_COLUMNS = -1  # the changed columns, as bits
_WALKED = frozenset({ev.WRITE_ROWS, ev.UPDATE_ROWS, ev.DELETE_ROWS})


def _rows_events(
    transaction: RawTransaction, tables: Tables
) -> Iterator[tuple[Table, int, int, int]]:
    """Yield (table, type, offset of the first row, end) of each rows event.

    The offset is 0 where images are partial, or the event has a form that is not walked.
    """
    data = transaction.data
    for kind, at, end in transaction.spans():
        if kind == ev.TABLE_MAP:
            tables.resolve(data[at + 19 : end])
            continue
        table = tables.by_id[u32(data, at + 19)[0]]  # the map may be in an earlier part
        heads = table.update_heads if kind == ev.UPDATE_ROWS else table.heads
        first = at + 27 + len(heads[0])
        if table.selected:
            walked = kind in _WALKED and data[at + 27 : first] in heads
            yield table, kind, first if walked else 0, end


def row_images(
    transaction: RawTransaction, tables: Tables, wanted: Callable[[str], bool] | None = None
) -> Iterator[tuple[Table, int, list[bytes]]]:
    """Yield (table, rows event type, images of a row); partial images are left out."""
    data = transaction.data
    for table, kind, first, end in _rows_events(transaction, tables):
        if wanted and not wanted(table.name):
            continue
        images = 2 if kind == ev.UPDATE_ROWS else 1
        while 0 < first < end:
            row = []
            for _ in range(images):
                stop, _ = table.keys[bytes(data[first : first + table.null_bytes])](data, first)
                row.append(bytes(data[first:stop]))
                first = stop
            yield table, kind, row


def touched_slots(transaction: RawTransaction, tables: Tables) -> frozenset[int] | None:
    """Return the slots of every row image, before and after; None for "any key"."""
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


def changed_columns(
    transaction: RawTransaction, tables: Tables, wanted: Callable[[str], bool]
) -> dict[int, int]:
    """Return the columns that any event changed, as bits, by the slot of the primary key.

    Both sites judge by the result, so the result must not depend on how a transaction is cut or
    netted: a column that was changed and changed back counts. Inserts, deletes and updates of the
    key change all columns. Example: ``{slot: 0b101}`` for the first and third column.

    :param wanted: tells whether the columns of ``schema.table`` are wanted.
    """
    out: dict[int, int] = {}
    for table, kind, images in row_images(transaction, tables, wanted):
        slots = [found[0] for image in images if (found := table.slots_of(image))]
        changed = ALL_COLUMNS
        if kind == ev.UPDATE_ROWS and len(set(slots)) == 1:
            changed = _differing(table, *images)
        for slot in slots:
            out[slot] = out.get(slot, 0) | changed
    return out


def _differing(table: Table, before: bytes, after: bytes) -> int:
    old, new = column_values(table.map, before), column_values(table.map, after)
    return sum(1 << i for i, (one, two) in enumerate(zip(old, new, strict=True)) if one != two)
