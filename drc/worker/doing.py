"""The work under way at the target: written by the applier, read to explain why a stream waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from drc.binlog import events as ev
from drc.binlog.events import TABLE_MAP, TableMap, parse_table_map
from drc.binlog.transaction import RawTransaction, TransactionKind

_NAMED_MAX = 500  # transactions whose tables are looked up: as many as a batch has


@dataclass(slots=True)
class Doing:
    """A piece of work under way since ``since_us``, on the target's connection ``connection``.

    ``phase`` is ``run``, ``certify``, ``turn`` (the work waits for an earlier batch), ``commit``,
    ``settle``, ``large transaction`` or ``schema change``. ``statement`` is the statement of a
    schema change. ``maps`` are the table maps of a large transaction, whose later parts have no
    table maps.
    """

    phase: str
    since_us: int
    connection: int
    transactions: Sequence[RawTransaction]
    statement: str = ""
    maps: dict[int, TableMap | None] = field(default_factory=dict)

    @property
    def native(self) -> list[RawTransaction]:
        """Return the transactions that are not skipped."""
        return [t for t in self.transactions if t.kind is not TransactionKind.SKIPPED]

    def tables(self) -> list[str]:
        """Return the tables that the work touches, as ``schema.table``; looked up at each call."""
        out = {table.name: None for table in self.maps.copy().values() if table}
        for transaction in self.native[:_NAMED_MAX]:
            for kind, at, end in transaction.spans():
                if kind == TABLE_MAP:
                    body = bytes(transaction.data[at + ev.HEADER_BYTES : end])
                    table = parse_table_map(body)
                    out[table.name] = None
        return list(out)
