"""What a session at the target is busy with: said by the applier, read by who explains waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from drc.binlog import events as ev
from drc.binlog.events import TABLE_MAP, TableMap, parse_table_map
from drc.binlog.transaction import Kind, RawTransaction

_NAMED_MAX = 500  # transactions whose tables are looked up: as many as a batch has


@dataclass(slots=True)
class Doing:
    """One piece of work under way since ``since_us``, on the target's connection ``connection``.

    ``phase`` is ``execute``, ``certify``, ``turn`` (it waits for an earlier one), ``commit``,
    ``settle``, ``large transaction`` or ``schema change``; ``statement`` that of a schema change,
    ``maps`` the table maps of a large transaction: its later parts have none.
    """

    phase: str
    since_us: int
    connection: int
    transactions: Sequence[RawTransaction]
    statement: str = ""
    maps: dict[int, TableMap | None] = field(default_factory=dict)

    @property
    def native(self) -> list[RawTransaction]:
        """Return the transactions that change something."""
        return [t for t in self.transactions if t.kind is not Kind.SKIPPED]

    def tables(self) -> list[str]:
        """Return the tables that it touches, as ``schema.table``; looked up when asked for."""
        out = {table.name: None for table in self.maps.copy().values() if table}
        for transaction in self.native[:_NAMED_MAX]:
            for kind, at, end in transaction.spans():
                if kind == TABLE_MAP:
                    body = bytes(transaction.data[at + ev.HEADER_BYTES : end])
                    table = parse_table_map(body)
                    out[table.name] = None
        return list(out)
