"""Masked columns: hides the values that nobody may read in the conflict log. Pure.

1. A masked value becomes ``***`` and a short hash, for example ``***5f0c1be2a7``: equal values
   look equal, at every site.
2. The hash is a pseudonym, not a secret: anybody able to guess a value can compare the hash.
3. NULL stays NULL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

_HASH_BYTES = 5


class Mask:
    """The masked columns of a pair.

    :param columns: each as ``schema.table.column``, in upper or lower case, as in MySQL.
    :param pair: the pair's name, so that hashes of two pairs cannot be compared.
    """

    def __init__(self, columns: Iterable[str] = (), pair: str = "") -> None:
        self._columns = frozenset(column.lower() for column in columns)
        self._tables = frozenset(column.rpartition(".")[0] for column in self._columns)
        self._key = blake2b(pair.encode()).digest()

    def table(self, table: str) -> bool:
        """Return True when ``schema.table`` has masked columns."""
        return table.lower() in self._tables

    def column(self, table: str, column: str) -> bool:
        """Return True when a column is masked."""
        return f"{table}.{column}".lower() in self._columns

    def row(self, table: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return JSON-ready values by column, with the values of masked columns replaced."""
        if not self.table(table):
            return dict(values)
        return {
            name: self._hidden(value) if self.column(table, name) else value
            for name, value in values.items()
        }

    def _hidden(self, value: Any) -> str | None:
        if value is None:
            return None
        text = json.dumps(value, sort_keys=True).encode()
        return "***" + blake2b(text, digest_size=_HASH_BYTES, key=self._key).hexdigest()
