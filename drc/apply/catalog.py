"""What the target's own schema says of a table: its secondary unique keys. Edge.

Netting must know them, as the binlog tells only the primary key. An answer is kept until the
table's definition or any schema change comes along the stream; a key added here by hand in the
meantime shows itself as 1062, and the batch is applied as written.
"""

from __future__ import annotations

from typing import Any

import pymysql

from drc.events import TableMap
from drc.mysql import ask

_UNIQUE = (
    "SELECT DISTINCT column_name FROM information_schema.statistics"
    " WHERE table_schema = %s AND table_name = %s AND non_unique = 0 AND index_name <> 'PRIMARY'"
)


class Catalog:
    """Ask the target about its keys over a connection of its own."""

    def __init__(self, conn: pymysql.Connection[Any]) -> None:
        self._conn = conn

    def unique_columns(self, table: TableMap) -> tuple[int, ...]:
        """Return ordinals of the columns that are in any secondary unique key.

        A key over an expression names no column: then every column may change it.
        """
        names = [row[0] for row in ask(self._conn, _UNIQUE, (table.schema, table.table))]
        if None in names:
            return tuple(range(len(table.columns)))
        folded = {str(name).lower() for name in names}
        return tuple(i for i, c in enumerate(table.columns) if c.name.lower() in folded)

    def close(self) -> None:
        """Drop the connection."""
        self._conn._force_close()  # type: ignore[attr-defined]
