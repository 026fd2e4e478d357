"""Batches: the next batch of a stream, built from a queue of whole transactions. Pure.

1. Transactions are taken whole and in commit order, and none is left out.
2. ``decided`` of a batch is the decided set after the commit of the batch, skipped transactions
   included.
3. A batch of an idle stream has a single transaction; a batch of a backlog has as many as the
   bounds allow: transactions, bytes, and the milliseconds for which row locks may last at the
   target. Locks may last longer while no local user waits for a lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.clock import Mark
from drc.gtid import GtidSet
from drc.rows.changes import Changes, written_rows
from drc.rows.netting import NetRows
from drc.rows.tables import Tables

# Every transaction needs these names: Python finds a module's name faster than an enum's member.
_ROWS, _SKIPPED = TransactionKind.ROWS, TransactionKind.SKIPPED
_FIRST_PART = 10  # a tenth of the maximum at first, as the target's speed is not known yet
_CROWDED_BATCHES = 100
_LATE_PART = 4


@dataclass(slots=True)
class Batch:
    """Whole transactions of one origin that commit at the target as a single transaction.

    The executor that applies the batch renders ``changes``. ``gtids`` are the GTIDs of the native
    ``transactions``, and ``decided`` is the decided set after the batch. Both are text, for
    example ``3e11fa47-71ca-11e1-9e33-c80aa9429562:1-90``.
    """

    transactions: list[RawTransaction]
    changes: Changes
    gtids: str
    decided: str
    rows_in: int = 0
    rows_out: int = 0
    slots: frozenset[int] | None = None  # keys that the batch touches; None: any key
    plain: bool = False  # applied as written, not netted
    seq: int = 0
    run_us: int = 0
    dispatched_us: int = 0  # time at which the lane sent the batch to the target
    awaited: bool = False  # a local user waited for a lock of this batch
    native: int = field(init=False)

    def __post_init__(self) -> None:
        self.native = sum(t.kind is not TransactionKind.SKIPPED for t in self.transactions)

    @property
    def alone(self) -> bool:
        """Return True for a batch of a single native transaction that is applied as written."""
        return self.native == 1 and self.plain

    @property
    def commit_us(self) -> int:
        """Return the commit time at the origin of the newest transaction."""
        return max(t.commit_us for t in self.transactions)

    @property
    def mark(self) -> Mark:
        """Return the origin's clock after the batch."""
        return self.transactions[-1].mark

    def late_us(self, offset_us: int) -> int:
        """Return the age in microseconds of the newest transaction when the batch was sent.

        :param offset_us: microseconds by which the origin's time is ahead of the time here.
        """
        return self.dispatched_us - self.commit_us + offset_us

    @property
    def oldest(self) -> RawTransaction:
        """Return the native transaction with the oldest commit time at the origin."""
        native = (t for t in self.transactions if t.kind is not TransactionKind.SKIPPED)
        return min(native, key=lambda t: t.commit_us)


class Point(NamedTuple):
    """A place where a stream goes on: the end of a decided prefix of the origin's binlog.

    ``decided`` is the decided set of the origin, ``mark`` the origin's clock after that set.
    """

    decided: GtidSet
    mark: Mark


class BatchLimit:
    """The number of transactions that the next batch may hold, so that a batch takes ``target_ms``.

    The number grows by half after a quick batch, shrinks in proportion after a slow batch, and
    falls to a quarter after a collision with local users.

    A batch of a backlog may take longer: a quarter of the time by which the transactions are late.
    So such a batch adds little to the lag, and near the end of a backlog batches are short again.

    :param transactions_max: the upper bound of the number.
    :param calm_ms: the longest time for a batch, if longer than ``target_ms``. Once a local user
        has waited for a batch, the next hundred batches keep to ``target_ms``.
    """

    def __init__(self, transactions_max: int, target_ms: int, calm_ms: int) -> None:
        self._max = transactions_max
        self._target_us, self._calm_us = target_ms * 1000, calm_ms * 1000
        self._crowded = 0  # how many of the next batches keep to target_ms
        self.transactions = max(1, transactions_max // _FIRST_PART)

    def learn(self, batch: Batch, late_us: int) -> None:
        """Adapt the number to an applied batch; ``late_us`` comes from :meth:`Batch.late_us`."""
        self._crowded = _CROWDED_BATCHES if batch.awaited else max(0, self._crowded - 1)
        target_us = self._target_us
        if not self._crowded:
            target_us = max(target_us, min(self._calm_us, late_us // _LATE_PART))
        if batch.run_us > target_us:
            fair = len(batch.transactions) * target_us // batch.run_us
            self.transactions = max(1, min(self.transactions, fair))
        elif len(batch.transactions) * 2 >= self.transactions:
            self.transactions = min(self._max, self.transactions + self.transactions // 2 + 1)

    def collided(self, transactions: int) -> None:
        """Lower the number to a quarter of ``transactions``, the size of a rolled-back batch."""
        self.transactions = max(1, transactions // 4)


class Batcher:
    """Build batches for one stream.

    :param decided: the decided set in the ledger; the attribute grows with each batch.
    :param passed: GTIDs of skipped transactions that the ledger does not hold.
    :param slots: compute the keys that a batch touches, so that disjoint batches may run at once.
    :param lock_passing: see :class:`NetRows`.
    """

    def __init__(
        self,
        tables: Tables,
        decided: GtidSet,
        *,
        bytes_max: int,
        passed: GtidSet | None = None,
        net_rows: bool = True,
        slots: bool = False,
        lock_passing: bool = False,
    ) -> None:
        self.tables = tables
        self._net = NetRows(tables, lock_passing=lock_passing)
        self._bytes_max = bytes_max
        self._net_rows = net_rows
        self._slots = slots
        self.passed = passed.copy() if passed else GtidSet()
        self.decided = decided | self.passed
        self._mark: Mark | None = None

    @property
    def point(self) -> Point | None:
        """Return the point after the newest decided transaction; None before the first."""
        return Point(self.decided.copy(), self._mark) if self._mark else None

    def rewind(self, decided: GtidSet) -> None:
        """Go back to ``decided``, the committed set; the caller queues later transactions again."""
        self.decided = decided | self.passed
        self._mark = None

    def recorded(self, in_ledger: GtidSet) -> None:
        """Forget the passed transactions that the ledger now holds."""
        self.passed = self.passed - in_ledger

    def take(self, queue: deque[RawTransaction], limit: int, *, net: bool = True) -> Batch | None:
        """Build the next batch from the head of ``queue``; return None if nothing is to be applied.

        The batch ends before a transaction that must go alone: DDL, a part of a large transaction,
        an XA statement. Leading skipped transactions are decided without a batch.

        :param limit: the largest number of native transactions in the batch.
        :param net: False applies the next transaction event by event, alone.
        """
        taken: list[RawTransaction] = []
        size = native = 0
        while queue and native < limit and size < self._bytes_max:
            transaction = queue[0]
            kind = transaction.kind
            if kind is not _SKIPPED:
                if kind is not _ROWS or not transaction.last or transaction.part:
                    break
                if not (net and self._net_rows and self._net.add(transaction)):
                    self._net.clear()
                    if not native:
                        taken.append(queue.popleft())
                        return self._single(taken)
                    for earlier in taken:  # rare: a partial image, or a table was altered
                        if earlier.kind is TransactionKind.ROWS:
                            self._net.add(earlier)
                    break
                native += 1
                size += transaction.size
            taken.append(queue.popleft())
        if not native:
            self._decide(taken)
            for transaction in taken:
                self.passed.add(transaction.gtid)
            return None  # recording these would never end: the peer would record the record
        rows_in = self._net.rows_in
        slots = self._net.slots() if self._slots else None
        changes = self._net.take()
        rows_out = sum(change.rows for change in changes)
        gtids = self._decide(taken)
        return Batch(taken, changes, gtids, str(self.decided), rows_in, rows_out, slots)

    def _single(self, taken: list[RawTransaction]) -> Batch:
        """Build a batch that is not netted: a transaction, and skipped transactions before."""
        changes = written_rows(taken[-1], self.tables)
        rows = len(changes)  # counts events: the rows in an event are not walked
        gtids = self._decide(taken)
        return Batch(taken, changes, gtids, str(self.decided), rows, rows, plain=True)

    def decide(self, transactions: list[RawTransaction]) -> Batch:
        """Return a batch without changes: the caller applies the transactions in another way."""
        gtids = self._decide(transactions)
        return Batch(transactions, (), gtids, str(self.decided))

    def _decide(self, transactions: Sequence[RawTransaction]) -> str:
        batch, decided = GtidSet(), self.decided
        self._mark = transactions[-1].mark if transactions else self._mark
        for transaction in transactions:
            gtid = transaction.gtid
            decided.add(gtid)
            if transaction.kind is not _SKIPPED:
                batch.add(gtid)
            for prepared in transaction.also:
                decided.add(prepared)
                batch.add(prepared)
        return str(batch)
