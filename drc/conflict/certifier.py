"""Certifiers: show, while a batch holds row locks, that no row of the batch has a rival.

A batch that has run holds row locks. The commit waits for a certificate: no row of the batch has
a concurrent writer at this site.

1. The index holds the writes of every earlier holder of the locks (I3). First come the locks, then
   the binlog's end position is read, then the index must reach that position: every earlier holder
   of a lock ends before that position (``tests/integration/test_rules.py`` shows this and the
   order of the binlog on real servers).
2. The wait is bounded, as local users wait for the locks. After a longer wait the batch is rolled
   back and tried again.
"""

from __future__ import annotations

from typing import Protocol

from drc.binlog.framing import Position
from drc.binlog.transaction import RawTransaction
from drc.conflict.live import LiveIndex
from drc.errors import LOCK_WAIT_TIMEOUT, TransientError
from drc.rows.tables import Tables
from drc.rows.walk import touched_slots

_BARRIER_S = 2.0


class LockedBatch(Protocol):
    """A batch under row locks; ``decided`` is the text of the decided set in the ledger row."""

    transactions: list[RawTransaction]
    slots: frozenset[int] | None
    decided: str


class Certifier(Protocol):
    """Decide under locks whether a batch may commit as it is.

    ``asks_end`` is True if :meth:`certify` needs ``end``.
    """

    asks_end: bool

    def certify(self, batch: LockedBatch, end: Position | None) -> int:
        """Return how many transactions of a batch, from the first on, have no rival here.

        Runs in a lane's thread under the batch's row locks. A number below all rolls back the batch
        and all later batches. The call must return within a bounded time, as local users wait for
        the locks.

        :param end: the end of the target's binlog when all locks were held, for example
            ``binlog.000042:1187``; None if not asked.
        :raises TransientError: there is no answer in time.
        """


class SingleWriter:
    """Certify every batch, because the sites write disjoint rows.

    If two sites write a row after all, STRICT mode notices a missing or duplicate row, and the
    stream stops.
    """

    asks_end = False

    def certify(self, batch: LockedBatch, end: Position | None) -> int:
        """Return the number of all transactions."""
        return len(batch.transactions)


class Causal:
    """Certify transactions that have no concurrent writer in the window index."""

    asks_end = True

    def __init__(self, index: LiveIndex, origin: str, tables: Tables) -> None:
        self.index = index
        self.origin = origin
        self._tables = tables

    def certify(self, batch: LockedBatch, end: Position | None) -> int:
        """See :class:`Certifier`. A key without a known slot is trusted, not certified."""
        assert end is not None
        self.barrier(end)
        transactions, slots = batch.transactions, batch.slots
        if slots is None or not self.index.clean(self.origin, transactions[0].seen, slots):
            tables = self._tables.another()  # the feeder uses the other tables meanwhile
            for number, transaction in enumerate(transactions):
                if self.has_rivals(transaction, tables):
                    return number
        if slots is not None:
            self.index.certified(self.origin, batch.decided, slots)
        return len(transactions)

    def barrier(self, end: Position) -> None:
        """Wait until the index holds every write before ``end``.

        :param end: read under the locks, so that no earlier holder of a lock is missing.
        :raises TransientError: the index does not reach ``end`` in time.
        """
        if not self.index.wait_for(end, _BARRIER_S):
            raise TransientError(
                "cannot certify a batch in time: this site's own binlog is read too slowly",
                stage="certify",
                errno=LOCK_WAIT_TIMEOUT,
                hint="check the watcher in `drc status`: this binlog shows concurrent writes",
            )

    def has_rivals(self, transaction: RawTransaction, tables: Tables) -> bool:
        """Return True if a transaction has, or may have, a concurrent writer here."""
        slots = touched_slots(transaction, tables)
        if not slots:
            return False
        found = self.index.rivals(self.origin, transaction.seen, slots)
        return bool(found.writes) or found.blind
