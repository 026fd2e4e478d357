"""Net rows: all changes of a primary key in a batch, reduced to a single change. Pure.

The unit is a batch of whole transactions in commit order. For every primary key the first before
image and the last after image are kept: together a delete, an update, an insert, or nothing. Rows
are applied table by table: deletes, then updates, then inserts.

1. At the end of the batch the result equals applying the events in order (I11). The rows of a
   table before the batch are unique in every key, and so are the rows after the batch. Deletes
   leave a subset of the rows before; inserts build up to the rows after from a subset of the rows
   after. Only updates could pass through a state that is neither, so an update that changes a
   unique key is applied as a delete and an insert.
2. Collations do not matter, because the *bytes* of the primary key identify a row: within a stream
   the bytes stay the same until an update rewrites the key, and such an update is netted as a
   delete and an insert.
3. A transaction that cannot be walked exactly is not netted: :meth:`NetRows.add` refuses.

Not here: sizes, time and servers; the batcher decides when to stop adding.
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
    """The net rows of a table.

    ``rows`` maps raw key to [first before image or None, last after image or None]; ``passing``
    holds an image of each passing row: inserted and deleted again inside the batch.
    """

    __slots__ = ("passing", "rows", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: dict[bytes, list[bytes | None]] = {}
        self.passing: dict[bytes, bytes] = {}

    def images(self) -> Iterator[bytes]:
        """Yield images with all keys of the rows: a single image for a row with a single key."""
        yield from self.passing.values()
        for before, after in self.rows.values():
            if before is not None and (after is None or self.table.unique is not None):
                yield before
            if after is not None:
                yield after

    def changes(self, *, lock_passing: bool) -> TableChanges:
        """Return the changes to write at the target."""
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
    """The net rows of a batch.

    :param lock_passing: insert and delete passing rows at the target, too, so that nobody writes
        the keys before the commit: a concurrent writer must meet a lock.
    """

    def __init__(self, tables: Tables, *, lock_passing: bool = False) -> None:
        self._tables = tables
        self._lock_passing = lock_passing
        self._used: dict[str, _Net] = {}
        self.rows_in = 0

    def add(self, transaction: RawTransaction) -> bool:
        """Net the rows of a transaction; return False if the result would not be exact.

        The reasons are a partial image, an event of an old version or with extra row data
        (partitions), and a table whose definition changed since an earlier transaction of the
        batch. Some rows may have been netted by then: the caller clears the batch and adds the
        wanted transactions again.
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
                table = by_id[table_id]  # several table maps came before the rows
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
        """Return the slots of all keys that the batch touches, None for "any key".

        Keys of passing rows count: a concurrent writer must meet these keys.
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

        A passing row has neither a first before image nor a last after image.
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
