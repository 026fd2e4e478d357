"""From a queue of whole transactions to the next batch to apply. Pure.

1. Transactions are taken in the origin's order, whole, none left out.
2. ``decided`` of a batch is everything decided once it is committed, skipped ones included.
3. One transaction when idle, as many as the bounds allow under a backlog: transactions, bytes,
   and the milliseconds that row locks may be held at the target, more while nobody waits for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drc.binlog.transaction import Kind, RawTransaction
from drc.clock import Mark
from drc.gtid import GtidSet
from drc.rows.changes import Changes, written_rows
from drc.rows.netting import NetRows
from drc.rows.tables import Tables

# Looked up for every transaction: a module's name is found faster than an enum's member.
_ROWS, _SKIPPED = Kind.ROWS, Kind.SKIPPED
_FIRST_PART = 10  # of the most that a batch may hold: nothing is known of the target yet
_CROWDED_BATCHES = 100
_LATE_PART = 4


@dataclass(slots=True)
class Batch:
    """The content of one transaction at the target.

    ``changes`` are rendered by the executor that applies them. ``gtids`` are those of the native
    ``transactions``, and ``decided`` is the decided set after the batch; both as text.
    """

    transactions: list[RawTransaction]
    changes: Changes
    gtids: str
    decided: str
    rows_in: int = 0
    rows_out: int = 0
    slots: frozenset[int] | None = None  # the keys it touches; None: maybe any
    plain: bool = False  # applied as written, not netted
    seq: int = 0
    run_us: int = 0
    dispatched_us: int = 0  # when it was sent to the target
    awaited: bool = False  # while it held its locks, a local user waited for one
    native: int = field(init=False)

    def __post_init__(self) -> None:
        self.native = sum(t.kind is not Kind.SKIPPED for t in self.transactions)

    @property
    def alone(self) -> bool:
        """Return True for one native transaction, applied as it was written."""
        return self.native == 1 and self.plain

    @property
    def commit_us(self) -> int:
        """Return the newest origin commit time in the batch."""
        return max(t.commit_us for t in self.transactions)

    @property
    def mark(self) -> Mark:
        """Return the origin's clock after the batch."""
        return self.transactions[-1].mark

    def late_us(self, offset_us: int) -> int:
        """Return how old even its newest transaction was when it was sent to the target.

        :param offset_us: by how much the origin's clock is ahead of ours.
        """
        return self.dispatched_us - self.commit_us + offset_us

    @property
    def oldest(self) -> RawTransaction:
        """Return the transaction with the oldest origin commit time in the batch."""
        native = (t for t in self.transactions if t.kind is not Kind.SKIPPED)
        return min(native, key=lambda t: t.commit_us)


class Point(NamedTuple):
    """What is decided of an origin, a prefix of its binlog, and its clock after that."""

    decided: GtidSet
    mark: Mark


class BatchLimit:
    """How many transactions the next batch may hold, so that it takes the target time.

    Grows by half after a quick batch, shrinks in proportion after a slow one, and falls to a
    quarter after a collision with local users.

    A batch of a backlog may take longer than that: a quarter of what its transactions are late by.
    So it adds little to their lag, and near the end of a backlog batches are short again.

    :param calm_ms: the longest that may be, if it is more than ``target_ms``. Once a local user has
        waited for a batch, the next hundred keep to the target.
    """

    def __init__(self, transactions_max: int, target_ms: int, calm_ms: int) -> None:
        self._max = transactions_max
        self._target_us, self._calm_us = target_ms * 1000, calm_ms * 1000
        self._crowded = 0  # batches to come that keep to the target
        self.transactions = max(1, transactions_max // _FIRST_PART)

    def learn(self, batch: Batch, late_us: int) -> None:
        """Learn from a batch that was applied; ``late_us`` is as of :meth:`Batch.late_us`."""
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
        """Make the next batches smaller than one of ``transactions`` that was rolled back."""
        self.transactions = max(1, transactions // 4)


class Batcher:
    """Build batches for one stream.

    :param decided: the ledger's set; grows as batches are built.
    :param passed: skipped transactions that the ledger does not have.
    :param slots: tell which keys a batch touches, so that disjoint ones may run at once.
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
        """Return where the newest decided transaction leaves us; None before the first."""
        return Point(self.decided.copy(), self._mark) if self._mark else None

    def rewind(self, decided: GtidSet) -> None:
        """Go back to what is committed; the caller queues the transactions again."""
        self.decided = decided | self.passed
        self._mark = None

    def recorded(self, in_ledger: GtidSet) -> None:
        """Forget the passed transactions that the ledger has by now."""
        self.passed = self.passed - in_ledger

    def take(self, queue: deque[RawTransaction], limit: int, *, net: bool = True) -> Batch | None:
        """Build the next batch from the head of ``queue``; None if it holds nothing to apply.

        Stops before a transaction that must go alone: DDL, a part of a large one, an XA
        statement. Leading skipped transactions are decided without a batch.

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
                    for earlier in taken:  # rare: a partial image, or a table just changed
                        if earlier.kind is Kind.ROWS:
                            self._net.add(earlier)
                    break
                native += 1
                size += transaction.size
            taken.append(queue.popleft())
        if not native:
            self._decide(taken)
            for transaction in taken:
                self.passed.add(transaction.gtid)
            return None  # recording what came from here would feed itself
        rows_in = self._net.rows_in
        slots = self._net.slots() if self._slots else None
        changes = self._net.take()
        rows_out = sum(change.rows for change in changes)
        gtids = self._decide(taken)
        return Batch(taken, changes, gtids, str(self.decided), rows_in, rows_out, slots)

    def _single(self, taken: list[RawTransaction]) -> Batch:
        """Build an un-netted batch of one transaction and skipped ones before it."""
        changes = written_rows(taken[-1], self.tables)
        rows = len(changes)  # events, as their rows are not walked
        gtids = self._decide(taken)
        return Batch(taken, changes, gtids, str(self.decided), rows, rows, plain=True)

    def decide(self, transactions: Sequence[RawTransaction]) -> tuple[str, str]:
        """Decide transactions outside a batch; return the ledger's (gtids, decided set)."""
        return self._decide(transactions), str(self.decided)

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
