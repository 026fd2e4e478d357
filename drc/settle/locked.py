"""Locked rows: the net change of a transaction to each row, and the row's new state. Pure.

1. Two spellings of a key that the server treats as equal name the same row here, because both
   spellings have the same slot.
2. A row takes all decisions, change after change, and is written only then, once.
3. An update of a table with a secondary unique key is a delete and an insert, because rows may
   exchange values of the key.

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
    """The net change of a transaction to a row.

    ``image`` has the primary key of the row, whose slot is the first of ``slots``; ``changed`` are
    the changed columns, as bits.
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
        """Return the identity of the row (rule 1)."""
        return self.table.name, self.slots[0]

    @property
    def write_step(self) -> int:
        """Return 0 for a delete, 1 for an update, 2 for an insert, which may take freed values."""
        if self.after is None:
            return 0
        return 1 if self.before is not None else 2

    def events(self) -> bytes:
        """Return the change as ``BINLOG`` takes it, for an operator who settles otherwise."""
        table = self.table.map
        images = [i for i in (self.before, self.after) if i is not None] or [self.image]
        kinds = (ev.DELETE_ROWS if self.after is None else ev.WRITE_ROWS, ev.UPDATE_ROWS)
        return table.event + ev.rows_event(table, kinds[len(images) - 1], images)


def net_rows(
    transaction: RawTransaction, tables: Tables, asks_columns: Callable[[str], bool] | None
) -> list[NetRow]:
    """Return the net changes of a whole transaction, row by row.

    :param asks_columns: tells whether a policy needs the changed columns of a table, named as
        ``schema.table``; None if no policy does.
    :raises DataError: a row image is partial, or the slots of a key are unknown.
    """
    net = NetRows(tables)
    transaction.data = bytes(transaction.data)  # a very large event is a bytearray
    try:
        if not net.add(transaction):
            raise DataError(
                "cannot resolve concurrent writes: a row image is partial",
                stage="resolve",
                gtid=str(transaction.gtid),
                hint="set binlog_row_image = FULL and binlog_row_value_options = '' at the origin",
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
                    "cannot resolve concurrent writes: the table's keys cannot be followed",
                    stage="resolve",
                    table=table.name,
                    hint="run `drc check` for the reason; let one site own this table",
                )
            out.update(dict.fromkeys(found))
    return tuple(out)


def _joined(one: NetRow, other: NetRow) -> NetRow:
    """Join the changes of a row under two spellings of the key, for example 'a' and 'A'.

    Before the transaction the row had at most one spelling, and so it has after the transaction.
    """
    before, after = one.before or other.before, one.after or other.after
    slots = tuple(dict.fromkeys((*one.slots, *other.slots)))
    image, changed = before or after or one.image, one.changed | other.changed
    return NetRow(one.transaction, one.table, before, after, image, slots, changed)


@dataclass(slots=True)
class LockedRow:
    """A row under lock: the state found here, and the state to write.

    ``had`` and ``has`` tell whether the row existed at first, and whether the row exists now, after
    the decisions so far. ``values`` are the values at first. ``image`` is a change taken whole;
    ``sets`` are columns merged since, by ordinal, as bytes of a row image.
    """

    table: Table
    key: bytes
    values: dict[str, Any] | None
    has: bool
    image: bytes | None = None
    sets: dict[int, bytes | None] = field(default_factory=dict)

    @property
    def had(self) -> bool:
        """Return True if the row existed at first."""
        return self.values is not None

    @property
    def changed(self) -> bool:
        """Return True if a decision has changed the row."""
        return self.image is not None or bool(self.sets) or self.has != self.had

    def take(self, image: bytes | None) -> None:
        """Replace the row by ``image``; None deletes the row."""
        self.has, self.image, self.sets = image is not None, image, {}

    def reset(self) -> None:
        """Return to the state at first."""
        self.has, self.image, self.sets = self.had, None, {}

    def current(self, ordinal: int) -> bytes | None:
        """Return the bytes of a column now, after the decisions so far.

        :raises DataError: the type of the column has no order.
        """
        if ordinal in self.sets:
            return self.sets[ordinal]
        if self.image is not None:
            return column_values(self.table.map, self.image)[ordinal]
        assert self.values is not None
        column = self.table.map.columns[ordinal]
        return pack(column, self.values[column.name])

    def events(self) -> list[tuple[int, bytes]]:
        """Return the events to write, as (rows event type, event)."""
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
        if self.had:  # a delete first, as rows may exchange values of a unique key
            delete = ev.rows_event(table, ev.DELETE_ROWS, [self.key])
            out.insert(0, (ev.DELETE_ROWS, delete))
        return out
