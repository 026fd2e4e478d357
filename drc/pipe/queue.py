"""The queue between what reads and what applies or publishes: bounded, in one process.

It is durable nowhere: after a crash the stream is read again, from what the ledger or the topic
holds.

1. Order is kept; the bytes waiting are bounded, and a full log stops the reader, never drops.
2. When the reader has ended, what it delivered is still taken before its error is raised.
"""

from __future__ import annotations

import threading
from collections import deque

from drc.binlog.transaction import RawTransaction


class TransactionQueue:
    """Hand lists of transactions from a reader thread to an applier thread.

    :param bytes_max: how many bytes may wait; one list more than that is let in.
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
        """Add transactions in order; waits while the log is full.

        :param urgent: wake who waits in :meth:`take`; else he gets them with the next ones that
            are, or when he waits no longer.
        :return: False, and nothing was added, when it has been full for ``timeout`` seconds, or
            nobody takes any more.
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
        """Return what has come, in order; waits up to ``timeout`` seconds for something.

        :raises BaseException: the reader's error, once everything before it was taken.
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
        """Let a waiting :meth:`take` return, as something else needs its thread."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def end(self, error: BaseException | None) -> None:
        """Say that the reader delivers no more."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def cancel(self) -> None:
        """Free a reader that waits for room; nobody takes any more."""
        with self._changed:
            self._cancelled = True
            self._queue.clear()
            self.bytes = 0
            self._changed.notify_all()

    @property
    def cancelled(self) -> bool:
        """Return True once nobody takes any more."""
        return self._cancelled
