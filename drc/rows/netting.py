"""Net rows: all changes of one key in a batch become one. Pure.

The unit is a batch of whole transactions in origin order. For every primary key the first
before image and the last after image are kept; a row then is one delete, update or insert, or
nothing. Rows are applied table by table: deletes, then updates, then inserts.

1. The result equals applying the events in order, at the end of the batch (I11). Rows of a
   table present before the batch are unique in every key, and so are the rows present after.
   Deletes leave a subset of the first; inserts build up to the second from a subset of it.
   Only updates could pass through a state that is neither; so one that changes a unique key
   is applied as a delete and an insert.
2. A row is known by the *bytes* of its key: within one stream a row keeps them until an update
   rewrites them, and that is a delete and an insert here. So collations do not matter.
3. What cannot be walked exactly is not netted: :meth:`NetRows.add` refuses the transaction.

Nothing here knows sizes, time or servers: when to stop adding is the batcher's decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from drc.binlog import events as ev
from drc.binlog.events import TableMap, u32
from drc.binlog.transaction import RawTransaction
from drc.rows.images import Walkers
from drc.rows.tables import NetTable, Tables


class NetRows:
    """The net rows of one batch.

    :param lock_passing: insert and delete rows that came and went, so that nobody writes their
        keys before the commit: a concurrent writer must meet a lock.
    """

    def __init__(self, tables: Tables, *, lock_passing: bool = False) -> None:
        self._tables = tables
        self._lock_passing = lock_passing
        self._used: dict[str, NetTable] = {}
        self.rows_in = 0

    def add(self, transaction: RawTransaction) -> bool:
        """Net a transaction's rows in; False if that cannot be done exactly.

        It cannot when an image is partial, an event is of an old version or carries extra row
        data (partitions), or a table changed its definition since an
        earlier transaction of the batch. Some of its rows may be in by then: the caller
        clears the batch and adds again what it wants.
        """
        data, checksum, used = transaction.data, transaction.checksum, self._used
        by_id = self._tables.by_id
        table: NetTable | None = None
        # RawTransaction.spans, inlined: a generator costs 2 % of all Python on this path.
        for at in transaction.events:
            kind = data[at + 4]
            end = at + u32(data, at + 9)[0] - checksum
            if kind == 19:
                table = by_id.get(u32(data, at + 19)[0])
                if table is None or table.body != data[at + 19 : end]:
                    table = self._tables.resolve(data[at + 19 : end])
                continue
            table_id = u32(data, at + 19)[0]
            if table is None or table.id != table_id:
                table = by_id[table_id]  # several maps came before their rows
            if not table.selected:
                continue
            name = table.name
            if used.get(name) is not table and used.setdefault(name, table) is not table:
                return False
            if kind == 31:
                first = at + 27 + table.update_head_bytes
                if data[at + 27 : first] not in table.update_heads:
                    return False
                self.rows_in += _net_updates(table, data, first, end)
                continue
            first = at + 27 + table.head_bytes
            if data[at + 27 : first] not in table.heads:
                return False
            if kind == 30:
                self.rows_in += _net_inserts(table, data, first, end)
            elif kind == 32:
                self.rows_in += _net_deletes(table, data, first, end)
            else:
                return False
        return True

    def clear(self) -> None:
        """Forget every row."""
        for table in self._used.values():
            table.rows, table.passing = {}, {}
        self._used = {}
        self.rows_in = 0

    def slots(self) -> frozenset[int] | None:
        """Return every key that the batch touches, None when that cannot be told.

        Keys of rows that came and went inside it count: a concurrent writer must meet them.
        """
        out: set[int] = set()
        for table in self._used.values():
            for image in chain(table.passing.values(), table.keyed()):
                found = table.slots_of(image)
                if found is None:
                    return None
                out.update(found)
        return frozenset(out)

    def rows(self) -> Iterator[tuple[NetTable, bytes | None, bytes | None, bytes]]:
        """Yield (table, first before image, last after image, any image) of each key.

        A row that came and went has neither of the first two.
        """
        for table in self._used.values():
            for key, (before, after) in table.rows.items():
                yield table, before, after, before or after or table.passing[key]

    def events(self) -> tuple[list[bytes], int]:
        """Return the net events in order of application, and how many rows they hold.

        The batch is empty afterwards.
        """
        out: list[bytes] = []
        count = 0
        for table in self._used.values():
            deletes, updates, inserts = _net(table)
            count += len(deletes) + len(updates) // 2 + len(inserts)
            _emit(table.map, deletes, updates, inserts, out)
            if self._lock_passing and (gone := table.gone()):
                _emit_passing(table.map, gone, out)
        self.clear()
        return out, count


def _net_inserts(table: NetTable, data: bytes, at: int, end: int) -> int:
    rows, walkers, nulls, count = table.rows, table.keys, table.null_bytes, 0
    while at < end:
        stop, key = walkers[data[at : at + nulls]](data, at)
        row = rows.get(key)
        if row is None:
            rows[key] = [None, data[at:stop]]
        else:
            row[1] = data[at:stop]
        at = stop
        count += 1
    return count


def _net_deletes(table: NetTable, data: bytes, at: int, end: int) -> int:
    rows, walkers, nulls, count = table.rows, table.keys, table.null_bytes, 0
    while at < end:
        stop, key = walkers[data[at : at + nulls]](data, at)
        row = rows.get(key)
        if row is None:
            rows[key] = [data[at:stop], None]
        else:
            if row[0] is None:
                table.passing[key] = data[at:stop]
            row[1] = None
        at = stop
        count += 1
    return count


def _net_updates(table: NetTable, data: bytes, at: int, end: int) -> int:
    rows, walkers, nulls, count = table.rows, table.keys, table.null_bytes, 0
    while at < end:
        middle, key = walkers[data[at : at + nulls]](data, at)
        stop, new_key = walkers[data[middle : middle + nulls]](data, middle)
        row = rows.get(key)
        if key == new_key:
            if row is None:
                rows[key] = [data[at:middle], data[middle:stop]]
            else:
                row[1] = data[middle:stop]
        else:
            if row is None:
                rows[key] = [data[at:middle], None]
            else:
                if row[0] is None:
                    table.passing[key] = data[at:middle]
                row[1] = None
            row = rows.get(new_key)
            if row is None:
                rows[new_key] = [None, data[middle:stop]]
            else:
                row[1] = data[middle:stop]
        at = stop
        count += 1
    return count


def _net(table: NetTable) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return (delete images, before and after images of updates in turn, insert images)."""
    rows = table.rows.values()
    deletes = [before for before, after in rows if after is None and before is not None]
    inserts = [after for before, after in rows if before is None and after is not None]
    both = [(b, a) for b, a in rows if b is not None and a is not None]
    if table.unique is not None:
        both = _split_unique(table.unique, both, deletes, inserts)
    return deletes, list(chain.from_iterable(both)), inserts


def _split_unique(
    unique: Walkers,
    both: list[tuple[bytes, bytes]],
    deletes: list[bytes],
    inserts: list[bytes],
) -> list[tuple[bytes, bytes]]:
    """Move updates that change a unique key to deletes and inserts; return the others."""
    size, kept = unique.null_bytes, []
    for before, after in both:
        old, new = unique[before[:size]](before, 0)[1], unique[after[:size]](after, 0)[1]
        if old == new:
            kept.append((before, after))
        else:
            deletes.append(before)
            inserts.append(after)
    return kept


def _emit(
    table: TableMap,
    deletes: list[bytes],
    updates: list[bytes],
    inserts: list[bytes],
    out: list[bytes],
) -> None:
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
        last = kinds[-1][0]
        out.extend(ev.rows_event(table, kind, images, kind == last) for kind, images in kinds)


def _emit_passing(table: TableMap, images: list[bytes], out: list[bytes]) -> None:
    out.append(table.event)
    out.append(ev.rows_event(table, ev.WRITE_ROWS, images, False))
    out.append(ev.rows_event(table, ev.DELETE_ROWS, images, True))
