"""What a table map says of a table, parsed once for each definition. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from drc.binlog import events as ev
from drc.binlog.events import TableMap, parse_table_map, u32
from drc.errors import DataError
from drc.rows.images import Walkers, column_walkers, key_walkers
from drc.rows.slots import Key, Slots, slot_walkers

Selected = Callable[[str, str], bool]
# What the target knows and the binlog does not say: the secondary unique keys of a table.
UniqueKeys = Callable[[TableMap], Sequence[Key]]

_PARSED_MAX = 4096  # table definitions kept; a source with more tables parses some again


class NetTable:
    """One table definition, and its rows in the batch being built.

    ``rows`` maps raw key to [first before image or None, last after image or None]; ``passing``
    holds an image of each row that came and went inside the batch; ``heads`` are what the body of a
    rows event has after its flags when all images are full: no extra row data, column count,
    bitmaps.
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
        "passing",
        "rows",
        "selected",
        "slots",
        "unique",
        "update_head_bytes",
        "update_heads",
    )

    def __init__(self, table: TableMap, selected: bool) -> None:
        self.map = table
        self.name = table.name
        self.id = u32(table.body, 0)[0]
        self.body = table.body
        head = b"\x02\x00" + ev.pack_lenenc(len(table.columns))
        self.heads = tuple(head + b for b in table.full_bitmaps)
        self.update_heads = tuple(head + b + b for b in table.full_bitmaps)
        self.head_bytes = len(self.heads[0])
        self.update_head_bytes = len(self.update_heads[0])
        self.selected = selected
        self.keys = key_walkers(table)
        self.null_bytes = self.keys.null_bytes
        self.unique: Walkers | None = None
        self.slots: Walkers | None = None
        self.rows: dict[bytes, list[bytes | None]] = {}
        self.passing: dict[bytes, bytes] = {}

    def slots_of(self, image: bytes) -> Slots | None:
        """Return the slots of an image, its primary key's first; None when they cannot be told."""
        assert self.slots is not None
        found: Slots | None = self.slots[image[: self.null_bytes]](image, 0)[1]
        return found

    def gone(self) -> list[bytes]:
        """Return an image of each row that came and went."""
        return [self.passing[key] for key, row in self.rows.items() if row == [None, None]]

    def keyed(self) -> Iterator[bytes]:
        """Yield images with all keys of the rows: one for each row, if it has one key only."""
        for before, after in self.rows.values():
            if before is not None and (after is None or self.unique is not None):
                yield before
            if after is not None:
                yield after

    def know(self, unique_keys: Sequence[Key]) -> None:
        """Learn the secondary unique keys; an empty one is over an expression: any column."""
        columns = {ordinal for key in unique_keys for ordinal, _ in key}
        if not all(unique_keys):
            columns = set(range(len(self.map.columns)))
        self.unique = column_walkers(self.map, sorted(columns)) if columns else None
        self.slots = slot_walkers(self.map, unique_keys)


class Tables:
    """Table definitions of one stream by table id, parsed once.

    A source gives a definition a new table id when it changes, but ids start again when it
    restarts: so the bytes are compared each time.
    """

    def __init__(self, selected: Selected, unique_keys: UniqueKeys) -> None:
        self._selected = selected
        self._unique_keys = unique_keys
        self.by_id: dict[int, NetTable] = {}

    def forget(self) -> None:
        """Drop every definition; what the target said of unique keys may have changed."""
        self.by_id.clear()

    def resolve(self, body: bytes) -> NetTable:
        """Return the table that this table map body announces.

        :raises DataError: for a table of ours without a primary key.
        """
        table_id = u32(body, 0)[0]  # of 48 bits; what the others hold is in the bytes compared
        known = self.by_id.get(table_id)
        if known is not None and known.body == body:
            return known
        if len(self.by_id) >= _PARSED_MAX:
            self.by_id.clear()
        table = parse_table_map(body)
        net = NetTable(table, self._selected(table.schema, table.table))
        if net.selected:
            if not table.primary_key:
                raise DataError(
                    "the table has no primary key",
                    stage="apply",
                    table=table.name,
                    hint="add one (an invisible one will do), or exclude the table",
                )
            net.know(self._unique_keys(table))
        self.by_id[table_id] = net
        return net
