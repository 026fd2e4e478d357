"""The feeder: from the log to the conveyor, and what to do when a batch fails. A loop.

1. A batch that met a lock or deadlock is built again, smaller.
2. One that has a transaction with a concurrent writer is cut there: what comes before goes as a
   batch, what follows is settled, row by row, until there are no conflicts any more.
3. One that met a missing or duplicate row is settled, too. Without conflict detection its
   transactions go alone and as they were written, so that what is wrong is found and named.
4. What must go alone does (``solo.py``).
5. Whatever else breaks ends the session; the stream starts again from the ledger.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from drc.apply.batch import Batch, Batcher, BatchLimit, Point
from drc.apply.conveyor import ConcurrentError, Conveyor, Failure
from drc.apply.solo import ROW_ERRNOS, Solo
from drc.apply.throttle import Throttle
from drc.binlog.transaction import Kind, RawTransaction
from drc.binlog.xa import PreparedTransactions
from drc.errors import DataError, DrcError, InvariantError, TransientError
from drc.gtid import Gtid, GtidSet
from drc.pipe.queue import TransactionQueue
from drc.rows.tables import Tables
from drc.target.lane import DUPLICATE_KEY
from drc.target.pinpoint import find_refused
from drc.worker.doing import Doing
from drc.worker.progress import StreamProgress

_LOCK_ERRNOS = frozenset({1205, 1213, 3572})
_LOCKED_S = 0.005
_SETTLE_MAX = 50  # transactions at once: each row takes a round trip while all locks are held
_RETRIES_MAX = 20  # with a lock wait of seconds each: a user who holds a row for a minute
_POLL_S = 0.5  # how soon a stop is noticed while nothing comes
_AHEAD = 50  # transactions that make a batch worth preparing while others execute
_SIMPLE = frozenset({Kind.ROWS, Kind.SKIPPED, Kind.DDL})
_PASSED_MAX = 1000  # skipped transactions remembered beside the ledger, while there are native ones


class Feeder:
    """Feed one stream until stopped.

    :param skips: what an operator gave up on: passed, and not applied.
    :param on_quiet: told whenever all that has come is decided and committed.
    """

    def __init__(
        self,
        log: TransactionQueue,
        conveyor: Conveyor,
        tables: Tables,
        batcher: Batcher,
        limit: BatchLimit,
        solo: Solo,
        *,
        skips: GtidSet,
        throttle: Throttle,
        progress: StreamProgress,
        on_quiet: Callable[[Point], None],
        stop: threading.Event,
    ) -> None:
        self._log = log
        self._conveyor = conveyor
        self._tables = tables
        self._batcher = batcher
        self._solo = solo
        self._skips = skips
        self._throttle = throttle
        self._progress = progress
        self._on_quiet = on_quiet
        self._free = 0  # transactions to apply before the first that has a rival
        self._rivalled: Gtid | None = None  # that one
        self._settle_max = _SETTLE_MAX
        self._stop = stop
        self._prepared = PreparedTransactions()
        self._pending: deque[RawTransaction] = deque()
        self._limit = limit
        self._alone = 0  # transactions still to apply one by one, after a failure
        self._retries = 0
        self._settled_seq = conveyor.seq

    @property
    def pending(self) -> int:
        """Return how many transactions wait to be batched."""
        return len(self._pending)

    @property
    def doing(self) -> Doing | None:
        """Return what is under way at the target, the first in order."""
        return self._conveyor.doing

    @property
    def oldest_us(self) -> int | None:
        """Return when the oldest that has come and is not decided was committed at its origin."""
        doing = self.doing
        found = (*(doing.native if doing else ()), *self._pending.copy())
        return next((t.commit_us for t in found if t.kind is not Kind.SKIPPED), None)

    def run(self) -> None:
        """Apply until stopped; what is on the belt then is committed first.

        :raises DrcError: what ended the session.
        """
        while not self._stop.is_set():
            if not self._pending:
                self._receive()
                if not self._pending:
                    self._quiet()
            elif self._conveyor.wait_room(_POLL_S, ahead=self._gather() >= _AHEAD):
                self._step()
            self._settle()
        while not self._conveyor.drain():
            self._settle()

    def _receive(self) -> None:
        """Take what has come; what ended the log is raised once all before it is committed.

        Else a session that reads only what is missing would end before it was applied, and so
        would every one after it.
        """
        try:
            self._admit(self._log.take(_POLL_S))
        except DrcError:
            if self._conveyor.drain():
                raise

    def _admit(self, transactions: list[RawTransaction]) -> None:
        if self._skips:
            for transaction in transactions:
                if transaction.gtid in self._skips:
                    self._prepared.drop(transaction)
        if all(t.kind in _SIMPLE for t in transactions):
            self._pending.extend(transactions)
            return
        for transaction in transactions:
            if (admitted := self._prepared.admit(transaction)) is not None:
                self._pending.append(admitted)

    def _gather(self) -> int:
        """Take what has come, up to a whole batch; return how many transactions wait."""
        while self._log.bytes and len(self._pending) < self._limit.transactions:
            self._admit(self._log.take(0))
        return len(self._pending)

    def _step(self) -> None:
        """Send one batch, or do one thing that goes alone."""
        self._gather()
        head = self._pending[0]
        if head.kind is Kind.DDL:
            self._exclusive(self._replay)
        elif head.kind is Kind.ROWS and not head.whole:
            self._exclusive(self._write_large)
        elif head.gtid == self._rivalled and not self._free:
            self._exclusive(self._settle_rivalled)
        else:
            alone = self._alone > 0
            limit = 1 if alone else self._free or self._limit.transactions
            limit = min(limit, self._throttle.wait(self._stop))
            batch = self._batcher.take(self._pending, limit, net=not alone)
            if batch is not None:
                self._throttle.spend(batch.native)
                self._alone = max(0, self._alone - len(batch.transactions))
                self._free = max(0, self._free - batch.native)
                if not self._conveyor.put(batch):
                    self._requeue([batch])
            else:
                self._quiet()  # a site that only receives is never silent

    def _quiet(self) -> None:
        """Tell what is decided, if nothing is under way: what was skipped counts, too."""
        if not self._conveyor.idle:
            return
        self._progress.passed(self._batcher.decided)
        if point := self._batcher.point:
            self._on_quiet(point)
        if len(self._batcher.passed) > _PASSED_MAX:
            self._batcher.recorded(GtidSet.parse(self._conveyor.applied))

    def _exclusive(self, work: Callable[[], None]) -> None:
        if self._conveyor.drain():
            work()

    # ------------------------------------------------------------ failures

    def _settle(self) -> None:
        """Take back what failed, if anything did, and choose how to try again."""
        failure = self._conveyor.failure()
        if failure is None:
            return
        self._requeue(failure.batches)
        if self._conveyor.seq != self._settled_seq:
            self._settled_seq, self._retries = self._conveyor.seq, 0
        first = failure.batches[0]
        if failure.error.errno in _LOCK_ERRNOS:
            self._limit.collided(len(first.transactions))
            self._locked(_named(failure))
        elif isinstance(failure.error, ConcurrentError):
            self._progress.concurrent += 1
            self._meet(first.transactions, failure.error.free)
        elif self._solo.settles and failure.error.errno in ROW_ERRNOS:
            self._meet(first.transactions, 0)
        elif isinstance(failure.error, DataError) and not _alone(first):
            self._progress.taken_apart += 1
            self._alone = len(first.transactions)
        else:
            raise self._pinpointed(_named(failure), first)

    def _locked(self, error: DrcError) -> None:
        """Give whoever holds the lock the time that it needs; the wait grows to a second.

        :raises DrcError: ``error``, when that goes on for too long.
        """
        self._progress.lock_failures += 1
        self._retries += 1
        if self._retries > _RETRIES_MAX:
            raise error
        self._stop.wait(min(_LOCKED_S * 2**self._retries, 1.0))

    def _meet(self, transactions: list[RawTransaction], free: int) -> None:
        """Apply the ``free`` first ones as a batch, and settle those after them.

        Skipped ones before the first rival are settled with it: a batch ends with a native one.
        """
        last = max((n for n in range(free) if transactions[n].kind is not Kind.SKIPPED), default=-1)
        self._free = sum(t.kind is not Kind.SKIPPED for t in transactions[: last + 1])
        self._rivalled = transactions[last + 1].gtid
        self._alone = 0

    def _pinpointed(self, error: DrcError, batch: Batch) -> DrcError:
        """Add the table and key that the target refuses, if it still does."""
        if isinstance(error, DataError) and _alone(batch):
            lane, _ = self._conveyor.exclusive()
            if refused := find_refused(lane, batch.transactions[-1], self._tables):
                error.table, error.key = refused.table, refused.key
                error.hint = error.hint or (
                    "compare this row at both sites and mend it where it is wrong, then start again"
                )
        return error

    def _requeue(self, batches: list[Batch]) -> None:
        for batch in reversed(batches):
            self._pending.extendleft(reversed(batch.transactions))
        self._batcher.rewind(GtidSet.parse(self._conveyor.applied))

    # ------------------------------------------------------------ what goes alone

    def _replay(self) -> None:
        transaction = self._pending.popleft()
        if not self._solo.replay(transaction):
            transaction.kind, transaction.events = Kind.ROWS, []
            self._pending.appendleft(transaction)

    def _write_large(self) -> None:
        self._solo.write(self._parts())

    def _parts(self) -> Iterator[RawTransaction]:
        """Yield the parts of the large transaction at the head as they come from the log.

        :raises TransientError: stopped before it was complete; nothing of it is applied.
        """
        expected = 0
        while True:
            while not self._pending:
                if self._stop.is_set():
                    raise TransientError("stopped inside a large transaction", stage="apply")
                self._admit(self._log.take(_POLL_S))
            part = self._pending.popleft()
            if part.part != expected:
                raise InvariantError(
                    f"part {part.part} of a large transaction in place of part {expected}",
                    gtid=str(part.gtid),
                )
            expected += 1
            yield part
            if part.last:
                return

    def _settle_rivalled(self) -> None:
        """Settle transactions that have concurrent writers, or may have: they come in storms."""
        chosen = self._next_settled()
        self._rivalled = None
        native = sum(t.kind is not Kind.SKIPPED for t in chosen)
        if not native:  # a ledger row for these alone would feed itself
            self._pending.extendleft(reversed(chosen))
            return
        try:
            kinds = self._solo.settle(chosen)
        except DrcError as error:
            self._pending.extendleft(reversed(chosen))
            self._batcher.rewind(GtidSet.parse(self._conveyor.applied))
            self._rivalled = chosen[0].gtid
            if error.errno in _LOCK_ERRNOS:
                self._locked(error)
            elif error.errno == DUPLICATE_KEY and native > 1:
                self._settle_max = 1
            else:
                raise
            return
        self._retries = 0
        # Where there was one conflict the next transactions have some, too.
        if kinds and self._pending:
            self._rivalled = self._pending[0].gtid
        self._settle_max = min(_SETTLE_MAX, self._settle_max * 2)
        self._quiet()

    def _next_settled(self) -> list[RawTransaction]:
        """Take the next transactions to settle, up to the first that must go alone."""
        out: list[RawTransaction] = []
        native = 0
        while self._pending and native < self._settle_max:
            head = self._pending[0]
            if head.kind is Kind.ROWS and head.whole:
                native += 1
            elif head.kind is not Kind.SKIPPED:
                break
            out.append(self._pending.popleft())
        return out


def _alone(batch: Batch) -> bool:
    """Return True when a batch was one transaction, applied as it was written."""
    return batch.native == 1 and batch.plain


def _named(failure: Failure) -> DrcError:
    """Return the error of a failure with the transactions it concerns."""
    error, batch = failure.error, failure.batches[0]
    error.gtid = error.gtid or batch.gtids
    return error
