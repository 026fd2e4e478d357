"""Intake: takes transactions from the queue and keeps them ready in commit order. For one thread.

1. The error that ended the queue is raised only after all transactions before were applied.
2. XA rows wait for the outcome; given-up transactions keep their place and lose their rows.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence

from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.binlog.xa import PreparedTransactions
from drc.errors import InvariantError, TransientError
from drc.gtid import GtidSet
from drc.pipe.queue import TransactionQueue

POLL_S = 0.5  # a stop is noticed after this time at the latest while nothing arrives
_SIMPLE = frozenset({TransactionKind.ROWS, TransactionKind.SKIPPED, TransactionKind.DDL})


class Intake:
    """Take transactions from ``queue`` to ``pending``.

    :param given_up: GTIDs that an operator excluded: decided, but not applied.
    :param stop: set to end a wait inside a large transaction.
    """

    def __init__(self, queue: TransactionQueue, given_up: GtidSet, stop: threading.Event) -> None:
        self._queue, self._given_up, self.stop = queue, given_up, stop
        self._prepared = PreparedTransactions()
        self.pending: deque[RawTransaction] = deque()

    def receive(self) -> None:
        """Wait up to ``POLL_S`` seconds for the next transactions.

        :raises DrcError: the error that ended the queue.
        """
        self._admit(self._queue.take(POLL_S))

    def gather(self, transactions: int) -> int:
        """Take waiting transactions until ``transactions`` are pending; return how many are."""
        while self._queue.bytes and len(self.pending) < transactions:
            self._admit(self._queue.take(0))
        return len(self.pending)

    def back(self, transactions: Sequence[RawTransaction]) -> None:
        """Put transactions, in order, before the pending transactions."""
        self.pending.extendleft(reversed(transactions))

    def parts(self) -> Iterator[RawTransaction]:
        """Yield the parts of the large transaction at the head as the parts arrive.

        :raises TransientError: stopped before the last part; nothing is committed then.
        :raises InvariantError: a part is missing.
        """
        expected = 0
        while True:
            while not self.pending:
                if self.stop.is_set():
                    raise TransientError(
                        "cannot finish a large transaction: the stream was stopped", stage="apply"
                    )
                self.receive()
            part = self.pending.popleft()
            if part.part != expected:
                raise InvariantError(
                    f"part {part.part} of a large transaction is not the expected part {expected}",
                    gtid=str(part.gtid),
                )
            expected += 1
            yield part
            if part.last:
                return

    def next_settled(self, native_max: int) -> list[RawTransaction]:
        """Take the next transactions to settle, up to a transaction that must go alone.

        :param native_max: the largest number of native transactions.
        """
        out: list[RawTransaction] = []
        native = 0
        while self.pending and native < native_max:
            head = self.pending[0]
            if head.kind is TransactionKind.ROWS and head.whole:
                native += 1
            elif head.kind is not TransactionKind.SKIPPED:
                break
            out.append(self.pending.popleft())
        return out

    def _admit(self, transactions: list[RawTransaction]) -> None:
        if self._given_up:
            for transaction in transactions:
                if transaction.gtid in self._given_up:
                    self._prepared.drop(transaction)
        if all(t.kind in _SIMPLE for t in transactions):
            self.pending.extend(transactions)
            return
        for transaction in transactions:
            if (admitted := self._prepared.admit(transaction)) is not None:
                self.pending.append(admitted)
