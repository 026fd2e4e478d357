"""Which transactions are ours to ship. Pure.

1. A transaction that came by replication is never shipped again (I9): its GTID carries our
   tag, or belongs to another site, or its first row change is in schema ``drc``. A canary
   (``worker/canary.py``) is native where its site has sent it: it must land.
2. A native transaction is never held back, unless its owner marked it by writing to
   ``drc.silence`` first.
3. A skipped transaction still counts as read, in its place: what is behind it in the binlog
   is resumed after it.

4. Every transaction passes the site's clock, in the binlog's order; a replicated one moves it
   by what its ledger row says.

Servers below 8.3 have no tags: there the ledger row alone is the mark, and replicated DDL
carries the GTID of its origin.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import NamedTuple

from drc.binlog import events as ev
from drc.binlog.events import TABLE_MAP, parse_table_map, u64
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.clock import Clock, Mark
from drc.gtid import GtidSet
from drc.names import CANARY, LEDGER, SCHEMA, TAG, map_name
from drc.rows.images import Walkers, column_walkers

_CANARY, _LEDGER = map_name(CANARY), map_name(LEDGER)
_SCHEMA = _LEDGER[: len(SCHEMA) + 1]  # with its length before it
_COLUMNS = ("origin", "applied", "ets")


class LedgerRow(NamedTuple):
    """What a replicated transaction says of itself; see :meth:`Clock.replicated`."""

    origin: str
    decided: str
    ets: int


class Tagger:
    """Mark replicated transactions of one site's binlog as skipped.

    :param foreign: server UUIDs, 16 bytes each, of all other sites.
    :param mark: where the site's clock stands at what is read first.
    """

    def __init__(self, foreign: Iterable[bytes], mark: Mark) -> None:
        self._foreign = frozenset(foreign)
        self.clock = Clock(mark)
        self._skipping = False  # the large transaction being read in parts is not ours
        self.skipped = 0

    def learn(self, foreign: AbstractSet[bytes]) -> bool:
        """Count transactions of these servers as replicated; return whether any server is new."""
        new = foreign - self._foreign
        self._foreign |= new
        return bool(new)

    def tag(self, transactions: list[RawTransaction]) -> list[RawTransaction]:
        """Mark in place; return the same transactions in the same order."""
        foreign, clock = self._foreign, self.clock
        for transaction in transactions:
            if transaction.part:
                skip = self._skipping
            else:
                gtid = transaction.gtid
                skip = gtid.tag == TAG or gtid.uuid in foreign or _begins_in_drc(transaction)
                self._skipping = skip
                if not skip:
                    # A prepared one may be read again after others: its outcome moves the clock.
                    if transaction.kind is not TransactionKind.XA_PREPARE:
                        clock.native(transaction.commit_us)
                elif row := ledger_row(transaction):
                    clock.replicated(row.origin, GtidSet.parse(row.decided), row.ets)
                    transaction.learned = row.origin, row.decided
            if skip:
                transaction.skip()
                self.skipped += 1
            transaction.ets, transaction.seen = clock.ets, clock.seen
        return transactions


def ledger_row(transaction: RawTransaction) -> LedgerRow | None:
    """Return the ledger row with which a replicated transaction begins; None if it has none."""
    if len(transaction.events) < 2:
        return None
    data, rows = transaction.data, transaction.events[1]
    kind, at, end = next(transaction.spans())
    if kind != TABLE_MAP or data[at + 27 : at + 40] != _LEDGER:
        return None
    walkers = _ledger_walkers(bytes(data[at + ev.HEADER_BYTES : end]))
    if walkers is None or data[rows + 4] != ev.UPDATE_ROWS:
        return None
    size = walkers.null_bytes
    image = rows + 27 + 2 + 1 + 2 * size  # no extra row data, column count, two bitmaps
    image, _ = walkers[data[image : image + size]](data, image)
    _, values = walkers[data[image : image + size]](data, image)
    origin, decided, ets = values
    return LedgerRow(origin[1:].decode(), decided[3:].decode(), u64(ets, 0)[0])


@lru_cache(maxsize=4)  # its definition changes with `drc migrate` alone
def _ledger_walkers(body: bytes) -> Walkers | None:
    table = parse_table_map(body)
    ordinals = {column.name: i for i, column in enumerate(table.columns)}
    if table.name != LEDGER or not all(name in ordinals for name in _COLUMNS):
        return None
    return column_walkers(table, [ordinals[name] for name in _COLUMNS])


def _begins_in_drc(transaction: RawTransaction) -> bool:
    """Return True when the first row change is in schema ``drc``."""
    if not transaction.events:
        return False
    data, at = transaction.data, transaction.events[0]
    if data[at + 4] != TABLE_MAP:
        return False
    if data[at + 27 : at + 31] != _SCHEMA:
        return False
    return data[at + 27 : at + 40] != _CANARY
