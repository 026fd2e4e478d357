"""Transaction queue: bounded, from a reader to an applier or publisher in the same process.

The queue is not durable: after a crash the stream is read again, from the point that the ledger
or the topic records.

1. Order is kept. The waiting bytes are bounded: a full queue stops the reader and drops nothing.
2. All delivered transactions are still taken after the reader has ended; only then is the
   reader's error raised.
"""

from __future__ import annotations

import threading
from collections import deque

from drc.binlog.transaction import RawTransaction


class TransactionQueue:
    """Hand lists of transactions from a reader thread to an applier thread.

    :param bytes_max: how many bytes may wait; the last list may exceed the bound.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._queue: deque[tuple[list[RawTransaction], int]] = deque()
        self._changed = threading.Condition()
        self._woken = False
        self._ended = False
        self._error: BaseException | None = None
        self._cancelled = False
        self.bytes = 0

    def append(
        self,
        transactions: list[RawTransaction],
        timeout: float | None = None,
        *,
        urgent: bool = True,
    ) -> bool:
        """Add transactions in order; wait while the queue is full.

        :param timeout: how many seconds to wait at most; None for no limit.
        :param urgent: wake a waiting :meth:`take`. Transactions that are not urgent are taken
            after the next urgent list, or when :meth:`take` has waited for the timeout.
        :return: False when nothing was added: the queue has been full for ``timeout`` seconds,
            or is cancelled.
        """
        size = sum(t.size for t in transactions if t.events)
        with self._changed:
            room = self._changed.wait_for(
                lambda: self.bytes < self._bytes_max or self._cancelled, timeout
            )
            if not room or self._cancelled:
                return False
            self._queue.append((transactions, size))
            self.bytes += size
            if urgent:
                self._changed.notify_all()
            return True

    def take(self, timeout: float) -> list[RawTransaction]:
        """Return the next list of transactions; wait up to ``timeout`` seconds for a list.

        :return: empty when no list has come.
        :raises BaseException: the reader's error, after all delivered transactions were taken.
        """
        with self._changed:
            if timeout:
                self._changed.wait_for(
                    lambda: self._queue or self._ended or self._woken or self._cancelled, timeout
                )
            self._woken = False
            if not self._queue:
                if self._error is not None:
                    raise self._error
                return []
            transactions, size = self._queue.popleft()
            self.bytes -= size
            self._changed.notify_all()
            return transactions

    def wake(self) -> None:
        """Let a waiting :meth:`take` return, because the taking thread has other work."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def end(self, error: BaseException | None) -> None:
        """Record that the reader delivers no more, and the error for :meth:`take` to raise."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def cancel(self) -> None:
        """Drop all waiting transactions and free a waiting reader; nothing is taken any more."""
        with self._changed:
            self._cancelled = True
            self._queue.clear()
            self.bytes = 0
            self._changed.notify_all()

    @property
    def cancelled(self) -> bool:
        """Return True after :meth:`cancel`."""
        return self._cancelled
