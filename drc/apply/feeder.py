"""Feeder: brings transactions from the queue to the conveyor, again after a failure. A loop.

``recovery.py`` chooses the remedy for a failure; ``solo.py`` runs the transactions that must go
alone. An error without a remedy ends the session, and the stream starts again from the ledger.
"""

from __future__ import annotations

from collections.abc import Callable

from drc.apply.batch import Batch, Batcher, BatchLimit, Point
from drc.apply.conveyor import Conveyor
from drc.apply.intake import POLL_S, Intake
from drc.apply.recovery import ConcurrentError, Recovery, Remedy
from drc.apply.solo import Solo
from drc.apply.throttle import Throttle
from drc.binlog.transaction import TransactionKind
from drc.errors import DataError, DrcError
from drc.gtid import GtidSet
from drc.target.lane import Lane
from drc.target.pinpoint import find_refused
from drc.worker.doing import Doing
from drc.worker.progress import StreamProgress

_AHEAD = 50  # so many transactions are worth a batch while earlier batches still run
_PASSED_MAX = 1000  # skipped GTIDs in memory; beyond, GTIDs that the ledger holds are forgotten


class Feeder:
    """Feed one stream until stopped.

    :param on_quiet: called whenever all received transactions are decided and committed.
    """

    def __init__(
        self,
        intake: Intake,
        batcher: Batcher,
        limit: BatchLimit,
        throttle: Throttle,
        conveyor: Conveyor[Lane],
        solo: Solo,
        *,
        progress: StreamProgress,
        on_quiet: Callable[[Point], None],
    ) -> None:
        self._intake, self._pending, self._stop = intake, intake.pending, intake.stop
        self._batcher, self._limit, self._throttle = batcher, limit, throttle
        self._conveyor, self._solo = conveyor, solo
        self._progress, self._on_quiet = progress, on_quiet
        self._recovery = Recovery(solo.settles, conveyor.seq)

    @property
    def pending(self) -> int:
        """Return the number of transactions that wait for a batch."""
        return len(self._pending)

    @property
    def doing(self) -> Doing | None:
        """Return the work under way at the target that is first in commit order."""
        return self._conveyor.doing

    @property
    def oldest_us(self) -> int | None:
        """Return the origin's commit time of the oldest received, undecided transaction."""
        doing = self.doing
        found = (*(doing.native if doing else ()), *self._pending.copy())
        return next((t.commit_us for t in found if t.kind is not TransactionKind.SKIPPED), None)

    def run(self) -> None:
        """Apply until stopped, then commit the batches that are on the conveyor.

        :raises DrcError: the error that ended the session.
        """
        while not self._stop.is_set():
            if not self._pending:
                self._receive()
                if not self._pending:
                    self._quiet()
            elif self._conveyor.wait_room(POLL_S, ahead=self._gather() >= _AHEAD):
                self._step()
            self._recover()
        while not self._conveyor.drain():
            self._recover()

    def _receive(self) -> None:
        """Receive transactions; raise the error that ended the queue once all are committed.

        Otherwise a session that reads only a gap would end before the gap is applied, and so would
        every later session.
        """
        try:
            self._intake.receive()
        except DrcError:
            if self._conveyor.drain():
                raise

    def _gather(self) -> int:
        return self._intake.gather(self._limit.transactions)

    def _step(self) -> None:
        """Send a batch, or run the first transactions alone."""
        self._gather()
        head = self._pending[0]
        if head.kind is TransactionKind.DDL:
            self._exclusive(self._replay)
        elif head.kind is TransactionKind.ROWS and not head.whole:
            self._exclusive(self._write_large)
        elif self._recovery.is_settled(head.gtid):
            self._exclusive(self._settle)
        else:
            self._send()

    def _send(self) -> None:
        recovery = self._recovery
        limit = recovery.batch_max(self._limit.transactions)
        limit = min(limit, self._throttle.wait(self._stop))
        batch = self._batcher.take(self._pending, limit, net=not recovery.singly)
        if batch is None:
            self._quiet()  # a site that only receives still sends skipped transactions without end
            return
        self._throttle.spend(batch.native)
        recovery.batched(len(batch.transactions), batch.native)
        if not self._conveyor.put(batch):
            self._requeue([batch])

    def _quiet(self) -> None:
        """Report the decided set, skipped transactions included, if the conveyor is idle."""
        if not self._conveyor.idle:
            return
        self._progress.passed(self._batcher.decided)
        if point := self._batcher.point:
            self._on_quiet(point)
        if len(self._batcher.passed) > _PASSED_MAX:
            self._batcher.recorded(GtidSet.parse(self._conveyor.decided))

    # ------------------------------------------------------------ failures

    def _recover(self) -> None:
        """Queue the transactions of failed batches again, if any, and carry out the remedy.

        :raises DrcError: there is no remedy.
        """
        failed = self._conveyor.failure()
        if failed is None:
            return
        self._requeue(failed.batches)
        error, first = failed.error, failed.batches[0]
        transactions, seq = first.transactions, self._conveyor.seq
        remedy = self._recovery.batch_failed(error, transactions, alone=first.alone, committed=seq)
        if remedy is Remedy.STOP:
            raise self._named(error, first)
        if remedy is Remedy.SMALLER:
            self._limit.collided(len(transactions))
            self._pause()
        elif remedy is Remedy.ONE_BY_ONE:
            self._progress.taken_apart += 1
        elif isinstance(error, ConcurrentError):
            self._progress.concurrent += 1

    def _pause(self) -> None:
        """Wait, so that the holder of a lock can finish."""
        self._progress.lock_failures += 1
        self._stop.wait(self._recovery.pause_s)

    def _named(self, error: DrcError, batch: Batch) -> DrcError:
        """Add the GTIDs to ``error``, and the table and key of a row that is still refused."""
        error.gtid = error.gtid or batch.gtids
        if isinstance(error, DataError) and batch.alone:
            lane, _ = self._conveyor.exclusive()
            if refused := find_refused(lane, batch.transactions[-1], self._batcher.tables):
                error.table, error.key = refused.table, refused.key
                error.hint = error.hint or (
                    "compare the row at both sites, fix the wrong version, then run `drc start`"
                )
        return error

    def _requeue(self, batches: list[Batch]) -> None:
        for batch in reversed(batches):
            self._intake.back(batch.transactions)
        self._rewind()

    def _rewind(self) -> None:
        self._batcher.rewind(GtidSet.parse(self._conveyor.decided))

    # ------------------------------------------------------------ work that goes alone

    def _exclusive(self, work: Callable[[], None]) -> None:
        if self._conveyor.drain():
            work()

    def _replay(self) -> None:
        transaction = self._pending.popleft()
        if not self._solo.replay(transaction):
            transaction.kind, transaction.events = TransactionKind.ROWS, []
            self._pending.appendleft(transaction)

    def _write_large(self) -> None:
        self._solo.write(self._intake.parts())

    def _settle(self) -> None:
        """Settle the next transactions, which have rivals or may have: rivals come in storms.

        :raises DrcError: there is no remedy.
        """
        chosen = self._intake.next_settled(self._recovery.settle_max)
        native = sum(t.kind is not TransactionKind.SKIPPED for t in chosen)
        if not native:  # ledger rows for skipped transactions alone would never end
            self._recovery.rival = None
            self._intake.back(chosen)
            return
        try:
            kinds = self._solo.settle(chosen)
        except DrcError as error:
            self._intake.back(chosen)
            self._rewind()
            remedy = self._recovery.settlement_failed(error, chosen[0].gtid, native)
            if remedy is Remedy.STOP:
                raise
            if remedy is Remedy.PAUSE:
                self._pause()
            return
        # After a conflict the next transactions have conflicts, too.
        following = self._pending[0].gtid if kinds and self._pending else None
        self._recovery.settled(following)
        self._quiet()
