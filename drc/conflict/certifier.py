"""The certificate: between a batch's row locks and its commit.

A batch that is executed holds its row locks; its commit waits for a certificate that none of its
rows has a concurrent writer here.

1. The locks come first, then the binlog's end position is asked, then the index must have
   reached it (I3): every earlier holder of one of the locks ends before that position
   (``tests/integration/test_rules.py`` shows both on real servers).
2. The wait is bounded, as local users wait for these locks: then the batch is rolled back and
   tried again.
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
    """A batch under its row locks; ``decided`` is the set that its ledger row holds, as text."""

    transactions: list[RawTransaction]
    slots: frozenset[int] | None
    decided: str


class Certifier(Protocol):
    """Decide, under locks, whether a batch may commit as it is; ``asks_end``: see ``end``."""

    asks_end: bool

    def certify(self, batch: LockedBatch, end: Position | None) -> int:
        """Return how many transactions of a batch, from the first on, have no rival here.

        Runs in a lane's thread under the batch's row locks; fewer than all roll the batch and all
        later ones back. It must return within a bounded time, as local users wait for the locks.

        :param end: where the target's binlog ended once all locks were held; None if not asked.
        :raises TransientError: it cannot be told in time.
        """


class SingleWriter:
    """Certify everything: the sites write disjoint rows.

    A row that two sites write after all is noticed by STRICT mode when it is missing or there
    twice, and stops the stream.
    """

    asks_end = False

    def certify(self, batch: LockedBatch, end: Position | None) -> int:
        """Return all of them."""
        return len(batch.transactions)


class Causal:
    """Certify what has no concurrent writer in the window index."""

    asks_end = True

    def __init__(self, index: LiveIndex, origin: str, tables: Tables) -> None:
        self.index = index
        self.origin = origin
        self._tables = tables

    def certify(self, batch: LockedBatch, end: Position | None) -> int:
        """See :class:`Certifier`. A key that cannot be told is not certified, but trusted."""
        assert end is not None
        self.barrier(end)
        transactions, slots = batch.transactions, batch.slots
        if slots is None or not self.index.clean(self.origin, transactions[0].seen, slots):
            tables = self._tables.another()  # the feeder walks on meanwhile
            for number, transaction in enumerate(transactions):
                if self.has_rivals(transaction, tables):
                    return number
        if slots is not None:
            self.index.certified(self.origin, batch.decided, slots)
        return len(transactions)

    def barrier(self, end: Position) -> None:
        """Wait until the index holds every writer before ``end``.

        :param end: asked under the locks, so nobody who had one of them before is missing.
        :raises TransientError: the index does not get there in time.
        """
        if not self.index.wait_for(end, _BARRIER_S):
            raise TransientError(
                "the binlog of this site itself is read too slowly",
                stage="certify",
                errno=LOCK_WAIT_TIMEOUT,
                hint="concurrent writes are seen in it; `drc status` tells of its watcher",
            )

    def has_rivals(self, transaction: RawTransaction, tables: Tables) -> bool:
        """Return whether a transaction has a concurrent writer here, or may have."""
        slots = touched_slots(transaction, tables)
        if not slots:
            return False
        found = self.index.rivals(self.origin, transaction.seen, slots)
        return bool(found.writes) or found.blind
