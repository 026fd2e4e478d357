"""The selection: which schemas and tables are replicated. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

from drc.config import ReplicateConfig
from drc.names import CANARY, SYSTEM_SCHEMAS


class Selection:
    """The selection of a configuration: the listed schemas, or all, without excluded tables."""

    def __init__(self, replicate: ReplicateConfig) -> None:
        self._schemas = frozenset(replicate.schemas)
        self._excluded = tuple(replicate.exclude_tables)

    def schema(self, name: str) -> bool:
        """Return whether changes of a schema, with DDL, are replicated."""
        if name in SYSTEM_SCHEMAS:
            return False
        return not self._schemas or name in self._schemas

    def table(self, schema: str, table: str) -> bool:
        """Return whether rows of a table are replicated."""
        name = f"{schema}.{table}"
        return self.schema(schema) and not any(fnmatchcase(name, p) for p in self._excluded)

    def is_applied(self, schema: str, table: str) -> bool:
        """Return whether rows of a table are applied: of a replicated table or of the canary's."""
        return self.table(schema, table) or f"{schema}.{table}" == CANARY
