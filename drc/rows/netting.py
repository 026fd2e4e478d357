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

from drc.binlog.events import u32
from drc.binlog.transaction import RawTransaction
from drc.rows.changes import TableChanges
from drc.rows.images import Walkers
from drc.rows.tables import Table, Tables


class _Net:
    """The rows of one table.

    ``rows`` maps raw key to [first before image or None, last after image or None]; ``passing``
    holds an image of each row that came and went.
    """

    __slots__ = ("passing", "rows", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: dict[bytes, list[bytes | None]] = {}
        self.passing: dict[bytes, bytes] = {}

    def images(self) -> Iterator[bytes]:
        """Yield images with all keys of the rows: one for each row, if it has one key only."""
        yield from self.passing.values()
        for before, after in self.rows.values():
            if before is not None and (after is None or self.table.unique is not None):
                yield before
            if after is not None:
                yield after

    def changes(self, *, lock_passing: bool) -> TableChanges:
        """Return what is to be written."""
        rows, unique = self.rows.values(), self.table.unique
        deletes = [before for before, after in rows if after is None and before is not None]
        inserts = [after for before, after in rows if before is None and after is not None]
        both = [(b, a) for b, a in rows if b is not None and a is not None]
        if unique is not None:
            both = _split_unique(unique, both, deletes, inserts)
        passing: list[bytes] = []
        if lock_passing and self.passing:
            gone = (key for key, row in self.rows.items() if row == [None, None])
            passing = [self.passing[key] for key in gone]
        updates = list(chain.from_iterable(both))
        return TableChanges(self.table.map, deletes, updates, inserts, passing)


class NetRows:
    """The net rows of one batch.

    :param lock_passing: insert and delete rows that came and went, so that nobody writes their
        keys before the commit: a concurrent writer must meet a lock.
    """

    def __init__(self, tables: Tables, *, lock_passing: bool = False) -> None:
        self._tables = tables
        self._lock_passing = lock_passing
        self._used: dict[str, _Net] = {}
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
        table: Table | None = None
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
            net = used.get(table.name)
            if net is None:
                net = used[table.name] = _Net(table)
            elif net.table is not table:
                return False
            if kind == 31:
                first = at + 27 + table.update_head_bytes
                if data[at + 27 : first] not in table.update_heads:
                    return False
                self.rows_in += _net_updates(net, data, first, end)
                continue
            first = at + 27 + table.head_bytes
            if data[at + 27 : first] not in table.heads:
                return False
            if kind == 30:
                self.rows_in += _net_inserts(net, data, first, end)
            elif kind == 32:
                self.rows_in += _net_deletes(net, data, first, end)
            else:
                return False
        return True

    def clear(self) -> None:
        """Forget every row."""
        self._used = {}
        self.rows_in = 0

    def slots(self) -> frozenset[int] | None:
        """Return every key that the batch touches, None when that cannot be told.

        Keys of rows that came and went inside it count: a concurrent writer must meet them.
        """
        out: set[int] = set()
        for net in self._used.values():
            slots_of = net.table.slots_of
            for image in net.images():
                found = slots_of(image)
                if found is None:
                    return None
                out.update(found)
        return frozenset(out)

    def rows(self) -> Iterator[tuple[Table, bytes | None, bytes | None, bytes]]:
        """Yield (table, first before image, last after image, any image) of each key.

        A row that came and went has neither of the first two.
        """
        for net in self._used.values():
            for key, (before, after) in net.rows.items():
                yield net.table, before, after, before or after or net.passing[key]

    def take(self) -> list[TableChanges]:
        """Return the net rows, table by table; the batch is empty afterwards."""
        out = [net.changes(lock_passing=self._lock_passing) for net in self._used.values()]
        self.clear()
        return out


def _net_inserts(net: _Net, data: bytes, at: int, end: int) -> int:
    rows, table, count = net.rows, net.table, 0
    walkers, nulls = table.keys, table.null_bytes
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


def _net_deletes(net: _Net, data: bytes, at: int, end: int) -> int:
    rows, table, count = net.rows, net.table, 0
    walkers, nulls = table.keys, table.null_bytes
    while at < end:
        stop, key = walkers[data[at : at + nulls]](data, at)
        row = rows.get(key)
        if row is None:
            rows[key] = [data[at:stop], None]
        else:
            if row[0] is None:
                net.passing[key] = data[at:stop]
            row[1] = None
        at = stop
        count += 1
    return count


def _net_updates(net: _Net, data: bytes, at: int, end: int) -> int:
    rows, table, count = net.rows, net.table, 0
    walkers, nulls = table.keys, table.null_bytes
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
                    net.passing[key] = data[at:middle]
                row[1] = None
            row = rows.get(new_key)
            if row is None:
                rows[new_key] = [None, data[middle:stop]]
            else:
                row[1] = data[middle:stop]
        at = stop
        count += 1
    return count


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
