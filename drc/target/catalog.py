"""What the target's own schema says of a table: its secondary unique keys. Edge.

Netting must know them, as the binlog tells only the primary key. An answer is kept until the
table's definition or any schema change comes along the stream; a key added here by hand in the
meantime shows itself as 1062, and the batch is applied as written.
"""

from __future__ import annotations

from drc.binlog.events import TableMap
from drc.mysql import Connection, ask
from drc.rows.slots import Key

_UNIQUE = (
    "SELECT index_name, column_name, COALESCE(sub_part, 0) FROM information_schema.statistics"
    " WHERE table_schema = %s AND table_name = %s AND non_unique = 0 AND index_name <> 'PRIMARY'"
    " ORDER BY index_name, seq_in_index"
)


class Catalog:
    """Ask the target about its keys over a connection of its own."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def unique_keys(self, table: TableMap) -> list[Key]:
        """Return the secondary unique keys as (column ordinal, prefix in characters) each.

        A key over an expression, or over a column that the origin does not have, is empty.
        """
        ordinals = {c.name.lower(): i for i, c in enumerate(table.columns)}
        keys: dict[str, list[tuple[int, int]] | None] = {}
        for index, column, prefix in ask(self._conn, _UNIQUE, (table.schema, table.table)):
            parts = keys.setdefault(index, [])
            if column is None or column.lower() not in ordinals:
                keys[index] = None
            elif parts is not None:
                parts.append((ordinals[column.lower()], int(prefix)))
        return [parts or [] for parts in keys.values()]

    def close(self) -> None:
        """Drop the connection."""
        self._conn._force_close()  # type: ignore[attr-defined]
