"""Binlog counts: counts native transactions, replicated transactions and ledger rows of a site.

Contents: :class:`BinlogCount`, pure, sorts transactions and decodes the rows of ``drc.ledger``;
:func:`count`, the edge, reads the transactions from a server. ``audit.py`` decides whether the
counts of two sites fit.

1. The counts come from the binlog alone, not from the daemon's tagger nor from any table, because
   they audit the daemon.
2. Memory is bounded by the gaps between GTIDs, not by the number of GTIDs.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from drc.binlog import events as ev
from drc.binlog.events import Buffer, TableMap
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.config import Config
from drc.gtid import Gtid, GtidSet
from drc.names import CANARY, CLOCK, LEDGER, SCHEMA, SERVERS, SKIP, TAG
from drc.rows.images import column_walkers
from drc.selection import Selection
from drc.source.recorded import recorded
from drc.target.replay import touched_schemas

_ORIGIN, _SEQ, _GTIDS = 0, 2, 3  # columns of drc.ledger; the migration fixes the order of columns
_NOTES = (CLOCK, SERVERS, SKIP)  # the tables that daemons write for their own use
_TABLES_MAX = 4096  # table maps kept: bounds memory when a binlog has much DDL

Progress = Callable[[str, int], None]


@dataclass(slots=True)
class Ledgered:
    """The transactions of an origin that the ledger rows in a site's binlog name."""

    gtids: GtidSet = field(default_factory=GtidSet)
    twice: GtidSet = field(default_factory=GtidSet)
    batches: int = 0

    def add(self, batch: GtidSet) -> None:
        """Count a ledger row.

        :param batch: the GTIDs that the row names.
        """
        self.batches += 1
        again = self.gtids & batch
        if again:
            self.twice.update(again)
        self.gtids.update(batch)


class BinlogCount:
    """The transactions of a site's binlog, sorted.

    ``native`` are the transactions of the site's own users. ``required`` are the native
    transactions that change replicated tables or, with ``ddl``, the objects of replicated schemas.
    ``replicated`` are the transactions of other sites, and the notes that daemons write.
    ``ledger`` has the transactions that ledger rows name, by origin.

    :param foreign: server UUIDs of all other sites.
    :param ddl: whether a schema change makes a transaction ``required``.
    """

    def __init__(
        self, foreign: AbstractSet[bytes], selection: Selection, *, ddl: bool = True
    ) -> None:
        self.native = GtidSet()
        self.required = GtidSet()
        self.replicated = GtidSet()
        self.ledger: dict[str, Ledgered] = {}
        self._foreign = foreign
        self._selection = selection
        self._ddl = ddl
        self._maps: dict[bytes, TableMap] = {}
        self._prepared: dict[bytes, tuple[Gtid, bool]] = {}
        self._begin()

    def _begin(self) -> None:
        self._open: dict[int, TableMap] = {}  # by table id, within a single transaction
        self._first: TableMap | None = None
        self._ledger_rows = False
        self._selected = False

    def add(self, transaction: RawTransaction) -> None:
        """Count a transaction, or a part of a large transaction."""
        if not transaction.part:
            self._begin()
        for kind, at, end in transaction.spans():
            self._event(transaction.data, kind, at, end)
        if transaction.last:
            self._sort(transaction)

    def _event(self, data: bytes, kind: int, at: int, end: int) -> None:
        if kind == ev.TABLE_MAP:
            table = self._table(bytes(data[at + ev.HEADER_BYTES : end]))
            self._open[table.table_id] = table
            self._first = self._first or table
        elif kind == ev.QUERY:
            schemas = touched_schemas(ev.parse_query(data, at, end))
            self._selected |= self._ddl and any(map(self._selection.schema, schemas))
        elif kind in ev.ROWS_EVENTS:
            table_id, body = ev.rows_header(data, at)
            table = self._open[table_id]
            self._selected |= self._selection.is_applied(table.schema, table.table)
            if table.name == LEDGER:
                self._ledger_rows = True
                self._read_ledger(table, kind, data, body, end)

    def _table(self, body: bytes) -> TableMap:
        table = self._maps.get(body)
        if table is None:
            if len(self._maps) >= _TABLES_MAX:
                self._maps.clear()
            table = self._maps[body] = ev.parse_table_map(body)
        return table

    def _read_ledger(self, table: TableMap, kind: int, data: bytes, at: int, end: int) -> None:
        """Count the GTIDs of every after image.

        A deleted row names no transactions, nor does a row that only got the epoch of a new lease.
        """
        walkers = column_walkers(table, (_ORIGIN, _SEQ, _GTIDS))
        update = kind in (ev.UPDATE_ROWS, ev.UPDATE_ROWS_V1)
        size = walkers.null_bytes
        at = ev.lenenc(data, at)[1] + size * (1 + update)
        after = kind in (ev.WRITE_ROWS, ev.WRITE_ROWS_V1)
        before: list[Buffer] | None = None
        while at < end:
            at, row = walkers[bytes(data[at : at + size])](data, at)
            origin, _, gtids = row
            # MEDIUMTEXT: the first three bytes are the length
            if after and len(gtids) > 3 and row != before:
                ledgered = self.ledger.setdefault(bytes(origin[1:]).decode(), Ledgered())
                ledgered.add(GtidSet.parse(bytes(gtids[3:]).decode()))
            before, after = row, not after if update else after

    def _sort(self, transaction: RawTransaction) -> None:
        gtid, kind = transaction.gtid, transaction.kind
        noted = self._first is not None and self._first.name in _NOTES
        if gtid.tag == TAG or gtid.uuid in self._foreign or self._ledger_rows or noted:
            self.replicated.add(gtid)
            return
        self.native.add(gtid)
        # A client silences a transaction with a first write to schema `drc`.
        first = self._first
        silenced = first is not None and first.schema == SCHEMA and first.name != CANARY
        required = self._selected and not silenced
        if kind is TransactionKind.XA_PREPARE:  # commit or rollback is not known yet
            self._prepared[transaction.xid] = (gtid, required)
        elif kind in (TransactionKind.XA_COMMIT, TransactionKind.XA_ROLLBACK):
            prepared, required = self._prepared.pop(transaction.xid, (gtid, False))
            if required and kind is TransactionKind.XA_COMMIT:
                self.required.add(prepared)
                self.required.add(gtid)
        elif required:
            self.required.add(gtid)


def count(
    config: Config,
    site: str,
    *,
    foreign: AbstractSet[bytes],
    skip: GtidSet,
    progress: Progress | None = None,
) -> BinlogCount:
    """Count the transactions of a site's binlog, up to the present ``gtid_executed``.

    :param skip: GTIDs not to read; purged GTIDs are left out anyway.
    :param progress: called with the site and the number of transactions read so far.
    :raises DrcError: the site is away, or its binlog cannot be read.
    """
    out = BinlogCount(foreign, Selection(config.replicate), ddl=config.replicate.ddl != "skip")
    read = 0
    for transactions in recorded(config, site, skip, reader="audit"):
        for transaction in transactions:
            out.add(transaction)
            read += transaction.last
        if progress:
            progress(site, read)
    return out
