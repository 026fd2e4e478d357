"""The rows of a settlement: what a transaction did to each, and what each becomes. Pure.

1. Rows that the server takes for one are one here: they have one slot, however a key is spelled.
2. A row becomes whatever is decided, one change after the other, and only then is written, once.
3. An update of a table with a secondary unique key is a delete and an insert: rows may exchange
   values of it.

Nothing here knows rivals, policies or a server: ``settler.py`` locks rows, decides and writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from drc.binlog import events as ev
from drc.binlog.transaction import RawTransaction
from drc.errors import DataError
from drc.rows.images import column_values
from drc.rows.netting import NetRows
from drc.rows.ordered import pack
from drc.rows.tables import Table, Tables
from drc.rows.walk import ALL_COLUMNS, changed_columns

Place = tuple[str, int]  # a table, and the slot of a primary key there


class NetRow(NamedTuple):
    """What one transaction did to a row.

    ``image`` has its primary key, whose slot is the first of ``slots``; ``changed`` are columns.
    """

    transaction: RawTransaction
    table: Table
    before: bytes | None
    after: bytes | None
    image: bytes
    slots: tuple[int, ...]
    changed: int

    @property
    def place(self) -> Place:
        """Return what tells its row from others, 1."""
        return self.table.name, self.slots[0]

    @property
    def turn(self) -> int:
        """Return its turn: deletes, updates, inserts, as what is freed may be taken again."""
        if self.after is None:
            return 0
        return 1 if self.before is not None else 2

    def events(self) -> bytes:
        """Return the change as ``BINLOG`` takes it, for whoever settles it otherwise."""
        table = self.table.map
        images = [i for i in (self.before, self.after) if i is not None] or [self.image]
        kinds = (ev.DELETE_ROWS if self.after is None else ev.WRITE_ROWS, ev.UPDATE_ROWS)
        return table.event + ev.rows_event(table, kinds[len(images) - 1], images)


def net_rows(
    transaction: RawTransaction, tables: Tables, asks_columns: Callable[[str], bool] | None
) -> list[NetRow]:
    """Return what a whole transaction did, row by row.

    :param asks_columns: whether it matters which columns were changed in ``schema.table``; None
        if it does nowhere.
    :raises DataError: it has partial images, or keys that cannot be followed.
    """
    net = NetRows(tables)
    transaction.data = bytes(transaction.data)  # of a very large event it is a bytearray
    try:
        if not net.add(transaction):
            raise DataError(
                "a row image is partial, so concurrent writes cannot be resolved",
                stage="resolve",
                gtid=str(transaction.gtid),
                hint="set binlog_row_image = FULL and binlog_row_value_options = '' there",
            )
        changed = dict[int, int]()
        if asks_columns:
            changed = changed_columns(transaction, tables, asks_columns)
        out: dict[Place, NetRow] = {}
        for table, before, after, image in net.rows():
            slots = _slots(table, image, after)
            columns = changed.get(slots[0], ALL_COLUMNS)
            change = NetRow(transaction, table, before, after, image, slots, columns)
            same = out.get(change.place)
            out[change.place] = _joined(same, change) if same else change
        return list(out.values())
    finally:
        net.clear()


def _slots(table: Table, *images: bytes | None) -> tuple[int, ...]:
    out: dict[int, None] = {}
    for image in images:
        if image is not None:
            found = table.slots_of(image)
            if found is None:
                raise DataError(
                    "its keys cannot be followed, so concurrent writes cannot be resolved",
                    stage="resolve",
                    table=table.name,
                    hint="`drc check` tells why; let one site own this table",
                )
            out.update(dict.fromkeys(found))
    return tuple(out)


def _joined(one: NetRow, other: NetRow) -> NetRow:
    """Return what became of one row under two spellings of its key, as 'a' and 'A' may be.

    Before the transaction it had one of them at most, and after it, too.
    """
    before, after = one.before or other.before, one.after or other.after
    slots = tuple(dict.fromkeys((*one.slots, *other.slots)))
    image, changed = before or after or one.image, one.changed | other.changed
    return NetRow(one.transaction, one.table, before, after, image, slots, changed)


@dataclass(slots=True)
class LockedRow:
    """A row as it is here, under its lock, and as it will be written.

    ``had`` and ``has`` tell whether it was there at first and is now; ``values`` are those at
    first; ``image`` is a change taken over whole, ``sets`` columns that were merged since, as
    images hold them.
    """

    table: Table
    key: bytes
    values: dict[str, Any] | None
    has: bool
    image: bytes | None = None
    sets: dict[int, bytes | None] = field(default_factory=dict)

    @property
    def had(self) -> bool:
        """Return whether it was there at first."""
        return self.values is not None

    @property
    def changed(self) -> bool:
        """Return whether anything was decided to become of it."""
        return self.image is not None or bool(self.sets) or self.has != self.had

    def take(self, image: bytes | None) -> None:
        """Become ``image``; None: be deleted."""
        self.has, self.image, self.sets = image is not None, image, {}

    def reset(self) -> None:
        """Become what it was at first."""
        self.has, self.image, self.sets = self.had, None, {}

    def current(self, ordinal: int) -> bytes | None:
        """Return what a column holds now.

        :raises DataError: it is of a type that has no order.
        """
        if ordinal in self.sets:
            return self.sets[ordinal]
        if self.image is not None:
            return column_values(self.table.map, self.image)[ordinal]
        assert self.values is not None
        column = self.table.map.columns[ordinal]
        return pack(column, self.values[column.name])

    def events(self) -> list[tuple[int, bytes]]:
        """Return what to write, as (rows event type, event)."""
        table, sets = self.table.map, self.sets
        if self.image is None:
            if self.had and not self.has:
                return [(ev.DELETE_ROWS, ev.rows_event(table, ev.DELETE_ROWS, [self.key]))]
            return [(ev.UPDATE_ROWS, ev.partial_update(table, self.key, sets))] if sets else []
        image = self.image
        if sets:
            whole = enumerate(column_values(table, image))
            image = ev.image([sets.get(i, value) for i, value in whole])
        if self.had and self.table.unique is None:
            event = ev.rows_event(table, ev.UPDATE_ROWS, [self.key, image])
            return [(ev.UPDATE_ROWS, event)]
        out = [(ev.WRITE_ROWS, ev.rows_event(table, ev.WRITE_ROWS, [image]))]
        if self.had:  # by way of a delete, as rows may exchange values of a unique key
            delete = ev.rows_event(table, ev.DELETE_ROWS, [self.key])
            out.insert(0, (ev.DELETE_ROWS, delete))
        return out
