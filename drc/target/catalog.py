"""Catalog: the secondary unique keys of a table, from the target's own schema. Edge.

Netting must know these keys, as the binlog only names the primary key. An answer is kept until a
new definition of the table, or any schema change, comes along the stream. A key that is added here
by hand meanwhile shows as error 1062, and the batch is then applied as written.
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
    """Ask the target about keys, over a separate connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def unique_keys(self, table: TableMap) -> list[Key]:
        """Return the secondary unique keys, each as (column ordinal, prefix in characters) pairs.

        A prefix of 0 is the whole column, for example ``[[(2, 0)]]``. A key over an expression, or
        over a column that the origin does not have, is empty.
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
