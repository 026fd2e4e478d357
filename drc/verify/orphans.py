"""Orphans: finds child rows whose parent row does not exist. Edge; changes nothing.

Rows are applied without foreign key checks, as the site of each write has checked the row. When a
site deletes a parent while the other site inserts a child, both sites get the same orphan: no
policy looks at two tables.

1. An orphan is a row that InnoDB would refuse: a row with NULL in a column of the key needs no
   parent.
2. Rows may come and go during a scan, because each key is a single statement without locks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from drc import mysql
from drc.config import Config
from drc.rows.literals import quote
from drc.rows.mask import Mask
from drc.selection import Selection

SAMPLE = 20  # rows shown for each key; an operator needs a few

# The applier account asks: information_schema shows foreign keys only to accounts that may write.
_KEYS = """
SELECT table_schema, table_name, constraint_name, referenced_table_schema, referenced_table_name,
  column_name, referenced_column_name
FROM information_schema.key_column_usage
WHERE referenced_table_name IS NOT NULL
ORDER BY table_schema, table_name, constraint_name, ordinal_position
"""


class ForeignKey(NamedTuple):
    """A foreign key of ``table``; ``table`` and ``parent`` are (schema, table)."""

    table: tuple[str, str]
    name: str
    parent: tuple[str, str]
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]


class Orphans(NamedTuple):
    """The orphans of a foreign key at a site; ``sample`` has the key's columns, JSON-ready."""

    site: str
    key: ForeignKey
    rows: int
    sample: list[dict[str, Any]]

    def document(self) -> dict[str, Any]:
        """Return the JSON contract of docs/operations/conflicts-json.md."""
        return {
            "site": self.site,
            "table": ".".join(self.key.table),
            "constraint": self.key.name,
            "columns": self.key.columns,
            "parent": ".".join(self.key.parent),
            "parent_columns": self.key.parent_columns,
            "rows": self.rows,
            "sample": self.sample,
        }


def scan(config: Config, site: str) -> Iterator[Orphans]:
    """Yield a result for every foreign key of replicated tables at ``site``, orphans or not.

    :raises DrcError: the site is away, or refuses the query.
    """
    selected, mask = Selection(config.replicate), Mask(config.conflicts.mask, config.name)
    with contextlib.closing(mysql.connect(config, site, "applier")) as conn:
        for key in foreign_keys(mysql.ask(conn, _KEYS)):
            if selected.table(*key.table):
                rows, found = _orphans(conn, key)
                shown = [mask.row(".".join(key.table), row) for row in found]
                yield Orphans(site, key, rows, shown)


def foreign_keys(rows: list[tuple[Any, ...]]) -> Iterator[ForeignKey]:
    """Yield the foreign keys that rows of the query ``_KEYS`` describe."""
    for head, columns in groupby(rows, lambda row: row[:5]):
        schema, table, name, parent_schema, parent = head
        own, theirs = zip(*(row[5:] for row in columns), strict=True)
        yield ForeignKey((schema, table), name, (parent_schema, parent), own, theirs)


def condition(key: ForeignKey) -> str:
    """Return the SQL condition that holds for a child ``c`` without parent."""
    pairs = zip(key.columns, key.parent_columns, strict=True)
    same = " AND ".join(f"p.{quote(theirs)} = c.{quote(own)}" for own, theirs in pairs)
    whole = " AND ".join(f"c.{quote(own)} IS NOT NULL" for own in key.columns)
    return f"{whole} AND NOT EXISTS (SELECT 1 FROM {_name(key.parent)} p WHERE {same})"


def _orphans(conn: mysql.Connection, key: ForeignKey) -> tuple[int, list[dict[str, Any]]]:
    from drc.rows.decoded import readable  # late: the library behind this module loads slowly

    source = f"FROM {_name(key.table)} c WHERE {condition(key)}"
    ((count,),) = mysql.ask(conn, f"SELECT COUNT(*) {source}")
    if not count:
        return 0, []
    columns = ", ".join(f"c.{quote(name)}" for name in key.columns)
    found = mysql.ask(conn, f"SELECT {columns} {source} LIMIT {SAMPLE}")
    rows = [dict(zip(key.columns, map(readable, row), strict=True)) for row in found]
    return int(count), rows


def _name(table: tuple[str, str]) -> str:
    return ".".join(map(quote, table))
