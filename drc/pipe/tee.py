"""Tee: shares a site's reading of the binlog between watcher and publisher. Safe between threads.

The watcher reads all the time, for the window index, and passes the same transactions on to the
publisher: so the server sends the binlog once, and Python cuts the binlog once. A publisher that
starts late, or was left behind, first reads the binlog alone, up to the start of the branch.

1. A branch begins between two transactions. The branch holds everything read after ``after``, in
   order and without a gap, until an error ends the branch. The transactions that the branch holds
   by then are still taken.
2. The publisher cannot stop the watcher: a branch ends when ``_PATIENCE_S`` seconds bring no room.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from drc.binlog.stamps import Stamps, now_us
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.errors import TransientError
from drc.gtid import GtidSet
from drc.pipe.queue import TransactionQueue

_PATIENCE_S = 1.0


class Branch:
    """The publisher's end of a tee: ``queue`` holds all transactions read after ``after``.

    ``format`` is the format description event of these transactions.
    """

    repeated = 0

    def __init__(self, after: GtidSet, form: bytes, bytes_max: int) -> None:
        self.after, self.format = after, form
        self.queue = TransactionQueue(bytes_max)
        self.read_bytes = self.skipped = 0
        self.counts: dict[str, int] = {}
        self.heard_us = now_us()

    def close(self) -> None:
        """End this branch; the watcher goes on reading."""
        self.queue.cancel()


class Tee:
    """The connection between a watcher, which reads, and a publisher, which may follow."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._already_read: GtidSet | None = (
            None  # the watcher's own set, which grows; None: the watcher does not read
        )
        self._whole = True  # the last transaction was passed on completely
        self._format = b""
        self._branch: Branch | None = None

    # ------------------------------------------------------------ the watcher's side

    @contextlib.contextmanager
    def reading(self, already_read: GtidSet) -> Iterator[None]:
        """Allow branches while the watcher reads; :meth:`pass_on` adds to ``already_read``.

        The watcher must start between two transactions.
        """
        with self._changed:
            self._already_read, self._whole, self._format = already_read, True, b""
        try:
            yield
        finally:
            with self._changed:
                self._already_read = None
                self._cut("the watcher's reading of the binlog ended")

    def begun(self, form: bytes, size: int) -> None:
        """Record ``size`` bytes as read, and the format description event of these bytes."""
        if self._format != form:
            with self._changed:
                self._format = form
                self._changed.notify_all()
        if branch := self._branch:
            branch.read_bytes += size

    def pass_on(self, transactions: list[RawTransaction]) -> None:
        """Record transactions, tagged and in binlog order, as read; give the list to the branch."""
        with self._changed:
            already_read = self._already_read
            assert already_read is not None
            stamps = Stamps(now_us())
            for transaction in transactions:
                transaction.stamps = stamps
                if transaction.last:
                    already_read.add(transaction.gtid)
            self._whole = transactions[-1].last
            if branch := self._branch:
                skipped = sum(t.kind is TransactionKind.SKIPPED for t in transactions)
                branch.skipped += skipped
                urgent = skipped < len(transactions)  # nobody waits for skipped transactions
                if not branch.queue.append(transactions, _PATIENCE_S, urgent=urgent):
                    self._cut("the publisher was left behind by the watcher")
            self._changed.notify_all()

    def _cut(self, why: str) -> None:
        if self._branch:
            self._branch.queue.end(
                TransientError(f"cannot read on from the watcher: {why}", stage="read")
            )
            self._branch = None

    # ------------------------------------------------------------ the publisher's side

    def join(self, taken: GtidSet, bytes_max: int, timeout: float) -> Branch | None:
        """Begin a branch and end an earlier branch; return None if the wait was too long.

        :param taken: GTIDs that the watcher must have read before: the branch holds only later
            transactions.
        :param bytes_max: the bytes that may wait in the branch.
        :param timeout: the seconds to wait until the watcher has read ``taken``.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._has(taken), timeout):
                return None
            assert self._already_read is not None
            self._cut("another branch has taken the place")
            self._branch = Branch(self._already_read.copy(), self._format, bytes_max)
            return self._branch

    def _has(self, taken: GtidSet) -> bool:
        return (
            self._already_read is not None
            and self._whole
            and bool(self._format)
            and taken <= self._already_read
        )
