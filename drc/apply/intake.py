"""From the queue to the transactions that wait to be applied, in order. For one thread.

1. What ended the queue is raised only after everything before it was applied.
2. XA rows wait for their outcome; given up transactions lose their rows, in their place.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator

from drc.binlog.transaction import Kind, RawTransaction
from drc.binlog.xa import PreparedTransactions
from drc.errors import InvariantError, TransientError
from drc.gtid import GtidSet
from drc.pipe.queue import TransactionQueue

POLL_S = 0.5  # how soon a stop is noticed while nothing comes
_SIMPLE = frozenset({Kind.ROWS, Kind.SKIPPED, Kind.DDL})


class Intake:
    """Take transactions from ``queue`` to ``pending``.

    :param given_up: GTIDs that an operator excluded: decided, and not applied.
    :param stop: set to end a wait inside a large transaction.
    """

    def __init__(self, queue: TransactionQueue, given_up: GtidSet, stop: threading.Event) -> None:
        self._queue, self._given_up, self.stop = queue, given_up, stop
        self._prepared = PreparedTransactions()
        self.pending: deque[RawTransaction] = deque()

    def receive(self) -> None:
        """Wait for a moment for the next transactions.

        :raises DrcError: the error that ended the queue.
        """
        self._admit(self._queue.take(POLL_S))

    def gather(self, transactions: int) -> int:
        """Take waiting transactions, up to that many; return how many are pending."""
        while self._queue.bytes and len(self.pending) < transactions:
            self._admit(self._queue.take(0))
        return len(self.pending)

    def back(self, transactions: Iterable[RawTransaction]) -> None:
        """Put transactions, in order, before the pending ones."""
        self.pending.extendleft(reversed(list(transactions)))

    def parts(self) -> Iterator[RawTransaction]:
        """Yield the parts of the large transaction at the head as they come.

        :raises TransientError: stopped before the last part; nothing is committed then.
        :raises InvariantError: a part is missing.
        """
        expected = 0
        while True:
            while not self.pending:
                if self.stop.is_set():
                    raise TransientError("stopped inside a large transaction", stage="apply")
                self.receive()
            part = self.pending.popleft()
            if part.part != expected:
                raise InvariantError(
                    f"part {part.part} of a large transaction in place of part {expected}",
                    gtid=str(part.gtid),
                )
            expected += 1
            yield part
            if part.last:
                return

    def next_settled(self, native_max: int) -> list[RawTransaction]:
        """Take the next transactions to settle, up to the first that must go alone."""
        out: list[RawTransaction] = []
        native = 0
        while self.pending and native < native_max:
            head = self.pending[0]
            if head.kind is Kind.ROWS and head.whole:
                native += 1
            elif head.kind is not Kind.SKIPPED:
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
