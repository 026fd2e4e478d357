"""The tagger: separates native transactions, which drc ships, from skipped ones. Pure.

1. A replicated transaction is never shipped again (I9): the GTID has the tag ``drc`` or belongs to
   another site, or the first row change is in schema ``drc``. A canary (``worker/canary.py``) is
   native at the site that sends the canary, as a canary must land at the peers.
2. Every native transaction is shipped, unless the client silenced the transaction by an insert into
   ``drc.silence`` first.
3. A skipped transaction still counts as read, in the binlog's order, so that a resumed reader goes
   on after it.
4. Every transaction passes the site's clock, in the binlog's order; a replicated transaction moves
   the clock by the values of its ledger row.

Servers below 8.3 have no tags: there a replicated transaction is known by the ledger row alone, and
replicated DDL by the GTID of the origin.
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
_SCHEMA = _LEDGER[: len(SCHEMA) + 1]  # the length byte, then the name
_COLUMNS = ("origin", "applied", "ets")


class LedgerRow(NamedTuple):
    """The values of a ledger row that move the clock; see :meth:`Clock.replicated`."""

    origin: str
    decided: str
    ets: int


class Tagger:
    """Skip the replicated and silenced transactions of a site's binlog.

    :param foreign: server UUIDs of all other sites, 16 bytes each.
    :param mark: the site's clock before the first transaction that is read.
    """

    def __init__(self, foreign: Iterable[bytes], mark: Mark) -> None:
        self._foreign = frozenset(foreign)
        self.clock = Clock(mark)
        self._skipping = False  # the large transaction that is read in parts is skipped
        self.skipped = 0

    def learn(self, foreign: AbstractSet[bytes]) -> bool:
        """Add servers of other sites; return True if any of the servers is new."""
        new = foreign - self._foreign
        self._foreign |= new
        return bool(new)

    def tag(self, transactions: list[RawTransaction]) -> list[RawTransaction]:
        """Skip transactions and set the clock of each, in place; return all, in the same order."""
        foreign, clock = self._foreign, self.clock
        for transaction in transactions:
            if transaction.part:
                skip = self._skipping
            else:
                gtid = transaction.gtid
                skip = gtid.tag == TAG or gtid.uuid in foreign or _begins_in_drc(transaction)
                self._skipping = skip
                if not skip:
                    # XA PREPARE may be read again after others: the outcome moves the clock.
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
    """Return the ledger row at the begin of a replicated transaction; None without such a row."""
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


@lru_cache(maxsize=4)  # only `drc migrate` changes the table
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
