"""One reading of a site's binlog for two: its window index and its publisher. Safe between threads.

The watcher reads all the time; the publisher gets the same transactions from it, so the server
sends its binlog once, and Python cuts it once. Who comes late, or was left behind, first reads
the binlog itself, up to where its branch begins.

1. A branch begins between two transactions. It holds everything read after ``after``, in order
   and without a gap, until it ends with an error; what it holds by then is taken still.
2. The publisher cannot stop the watcher: a branch without room for ``_PATIENCE_S`` ends.
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
    """What a publisher gets: ``log`` holds all that was read after ``after``.

    ``format`` is the format description event by which events are read.
    """

    repeated = 0

    def __init__(self, after: GtidSet, form: bytes, bytes_max: int) -> None:
        self.after, self.format = after, form
        self.queue = TransactionQueue(bytes_max)
        self.read_bytes = self.skipped = 0
        self.counts: dict[str, int] = {}
        self.heard_us = now_us()

    def close(self) -> None:
        """Take no more; the reading goes on without."""
        self.queue.cancel()


class Tee:
    """Between a watcher, which reads, and a publisher, which may follow it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._already_read: GtidSet | None = (
            None  # the watcher's own, which grows; None: no reading
        )
        self._whole = True  # nothing is half passed on
        self._format = b""
        self._branch: Branch | None = None

    # ------------------------------------------------------------ the watcher's side

    @contextlib.contextmanager
    def reading(self, already_read: GtidSet) -> Iterator[None]:
        """Let a branch begin; :meth:`pass_on` adds to ``already_read``.

        No transaction is half read when it begins.
        """
        with self._changed:
            self._already_read, self._whole, self._format = already_read, True, b""
        try:
            yield
        finally:
            with self._changed:
                self._already_read = None
                self._cut("the site's own reading of its binlog ended")

    def begun(self, form: bytes, size: int) -> None:
        """Tell of ``size`` bytes that were read, and by which format description event."""
        if self._format != form:
            with self._changed:
                self._format = form
                self._changed.notify_all()
        if branch := self._branch:
            branch.read_bytes += size

    def pass_on(self, transactions: list[RawTransaction]) -> None:
        """Take transactions, tagged and in order, as read; the branch gets them, too."""
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
                urgent = skipped < len(transactions)  # nobody waits for what came from elsewhere
                if not branch.queue.append(transactions, _PATIENCE_S, urgent=urgent):
                    self._cut("the publisher was left behind by its site's reading")
            self._changed.notify_all()

    def _cut(self, why: str) -> None:
        if self._branch:
            self._branch.queue.end(TransientError(why, stage="read"))
            self._branch = None

    # ------------------------------------------------------------ the publisher's side

    def join(self, taken: GtidSet, bytes_max: int, timeout: float) -> Branch | None:
        """Begin a branch, in place of one before; None if that cannot be for so long.

        :param taken: what was read so far must have all of it: the branch has what comes next.
        :param bytes_max: how much may wait in it.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._has(taken), timeout):
                return None
            assert self._already_read is not None
            self._cut("another has taken its place")
            self._branch = Branch(self._already_read.copy(), self._format, bytes_max)
            return self._branch

    def _has(self, taken: GtidSet) -> bool:
        return (
            self._already_read is not None
            and self._whole
            and bool(self._format)
            and taken <= self._already_read
        )
