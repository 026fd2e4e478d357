"""Table definitions, from the table maps of a stream and from the keys at the target. Pure.

1. A definition never changes, so threads share definitions. A table map with other bytes makes
   another definition.
2. The target is asked for the secondary unique keys only once for each definition, by a single
   thread at a time, because the binlog does not contain these keys.
3. Each walk over a stream has a :class:`Tables` to itself, because a source reuses table ids after
   a restart: an id means something only to the thread that walks the stream in order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from drc.binlog import events as ev
from drc.binlog.events import TableMap, parse_table_map, u32
from drc.errors import DataError
from drc.rows.images import Walkers, column_walkers, key_walkers
from drc.rows.slots import Key, Slots, slot_walkers

Selected = Callable[[str, str], bool]
# The secondary unique keys of a table at the target.
UniqueKeys = Callable[[TableMap], Sequence[Key]]

_PARSED_MAX = 4096  # definitions kept; a source with more tables has some parsed again


class Table:
    """A definition of a table.

    ``selected`` tells whether rows of the table are applied. Only a selected table has ``slots``
    and, with secondary unique keys, ``unique``: the walkers of the columns of these keys.
    ``heads`` and ``update_heads`` are the bytes between the flags and the first row of a rows event
    with full images: no extra row data, column count, bitmaps.
    """

    __slots__ = (
        "body",
        "head_bytes",
        "heads",
        "id",
        "keys",
        "map",
        "name",
        "null_bytes",
        "selected",
        "slots",
        "unique",
        "update_head_bytes",
        "update_heads",
    )

    def __init__(self, table: TableMap, unique_keys: Sequence[Key] | None) -> None:
        """Build the walkers of a table.

        :param unique_keys: secondary unique keys, with an empty key for a key over an expression,
            which may use any column; None for a table that is not selected.
        """
        self.map = table
        self.name = table.name
        self.id = u32(table.body, 0)[0]
        self.body = table.body
        head = b"\x02\x00" + ev.pack_lenenc(len(table.columns))
        self.heads = tuple(head + b for b in table.full_bitmaps)
        self.update_heads = tuple(head + b + b for b in table.full_bitmaps)
        self.head_bytes = len(self.heads[0])
        self.update_head_bytes = len(self.update_heads[0])
        self.keys = key_walkers(table)
        self.null_bytes = self.keys.null_bytes
        self.selected = unique_keys is not None
        self.unique: Walkers | None = None
        self.slots: Walkers | None = None
        if unique_keys is not None:
            columns = {ordinal for key in unique_keys for ordinal, _ in key}
            if not all(unique_keys):
                columns = set(range(len(table.columns)))
            self.unique = column_walkers(table, sorted(columns)) if columns else None
            self.slots = slot_walkers(table, unique_keys)

    def slots_of(self, image: bytes) -> Slots | None:
        """Return the slots of an image, the primary key's slot first; None for "any key"."""
        assert self.slots is not None
        found: Slots | None = self.slots[image[: self.null_bytes]](image, 0)[1]
        return found


class Definitions:
    """The definitions of a stream, by the bytes of the table maps. Safe between threads."""

    def __init__(self, selected: Selected, unique_keys: UniqueKeys) -> None:
        self._selected = selected
        self._unique_keys = unique_keys
        self._lock = threading.Lock()
        self._known: dict[bytes, Table] = {}

    def forget(self) -> None:
        """Drop every definition; a schema change may have changed the keys at the target."""
        with self._lock:
            self._known.clear()

    def get(self, body: bytes) -> Table:
        """Return the table that the body of a table map event announces.

        :raises DataError: for a selected table without a primary key.
        """
        with self._lock:
            if (known := self._known.get(body)) is None:
                if len(self._known) >= _PARSED_MAX:
                    self._known.clear()
                known = self._known[body] = self._define(parse_table_map(body))
            return known

    def _define(self, table: TableMap) -> Table:
        if not self._selected(table.schema, table.table):
            return Table(table, None)
        if not table.primary_key:
            raise DataError(
                "cannot apply the table: the table has no primary key",
                stage="apply",
                table=table.name,
                hint="add a primary key (an invisible key is enough), or exclude the table"
                " (replicate.exclude_tables)",
            )
        return Table(table, self._unique_keys(table))


class Tables:
    """The tables that a walk over a stream has met, by table id. For a single thread."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self.by_id: dict[int, Table] = {}

    def forget(self) -> None:
        """Drop every table, and every definition for all threads."""
        self._definitions.forget()
        self.by_id.clear()

    def another(self) -> Tables:
        """Return the tables of another walk over the same stream."""
        return Tables(self._definitions)

    def resolve(self, body: bytes) -> Table:
        """Return the table that the body of a table map event announces.

        :raises DataError: for a selected table without a primary key.
        """
        table_id = u32(body, 0)[0]  # 32 of 48 bits; ``body`` is compared as a whole
        known = self.by_id.get(table_id)
        if known is not None and known.body == body:
            return known
        if len(self.by_id) >= _PARSED_MAX:
            self.by_id.clear()
        table = self.by_id[table_id] = self._definitions.get(bytes(body))
        return table
