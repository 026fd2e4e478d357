"""The conveyor: several connections apply batches, and commit them in the origin's order.

Each lane takes the next batch, executes it when the one before has executed, certifies it and
commits it when the one before has committed. So executing batch n+1 overlaps the certificate
and commit of n, and a reader of the target only ever sees a prefix of the origin's history (I12).

1. Batch n never waits for a lock of batch n+1: n has executed before n+1 starts, or the two
   touch disjoint keys. A gap lock may still stand between disjoint ones: then n's lock wait runs
   out, it fails as in 2, and for a while they run one after another.
2. When batch n fails, n and every later one are rolled back before anything else happens;
   earlier ones commit. The feeder then gets all of them back, in order, and decides.
3. The ledger's ``seq`` has no gap: the numbers of batches that were rolled back are used again.

This is a loop: what to do after a failure is the feeder's decision (``feeder.py``).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from drc.apply.batch import Batch
from drc.apply.recovery import ConcurrentError
from drc.binlog.stamps import now_us
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.conflict.certifier import Certifier
from drc.errors import DrcError, TransientError
from drc.schema import ledger
from drc.schema.ledger import LedgerState
from drc.target.executor import Executor
from drc.worker.doing import Doing

_APART_BATCHES = 100  # after a failure: long enough for a hot spot to pass


@dataclass(slots=True)
class RolledBack:
    """Batches that were rolled back, in order, the failing one first."""

    error: DrcError
    batches: list[Batch]


ExecutorT = TypeVar("ExecutorT", bound=Executor)


class Conveyor(Generic[ExecutorT]):
    """Run lanes over an ordered sequence of batches.

    :param lanes: executors; their number is how many batches may be in flight.
    :param state: the ledger's newest; the first batch gets the next ``seq``.
    :param parallel: how many batches may execute at once, where their keys are disjoint.
    :param long_us: of a batch that executes for longer it is asked whether local users wait.
    :param on_commit: called in commit order, in a lane's thread; it may not wait.
    :param on_failure: called once per failure; the feeder should then call :meth:`failure`.

    ``decided`` is the ledger's set after the newest commit, as text.
    """

    def __init__(
        self,
        lanes: list[ExecutorT],
        origin: str,
        state: LedgerState,
        certifier: Certifier,
        parallel: int,
        long_us: int,
        on_commit: Callable[[Batch], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._lanes = lanes
        self._origin = origin
        self._certifier = certifier
        self._on_commit = on_commit
        self._on_failure = on_failure
        # Three groups wait: lanes for a batch, lanes for their turn, the feeder. One condition for
        # all would wake everybody for each step of anybody, thousands of times a second.
        self._lock = threading.RLock()
        self._work, self._turns, self._room = (threading.Condition(self._lock) for _ in range(3))
        self._queue: deque[Batch] = deque()
        self._parallel, self._long_us = parallel, long_us
        self._apart_until = 0  # batches up to this number run one after another
        self._executing: dict[int, frozenset[int] | None] = {}  # begun or waiting, not executed
        self._assigned = self._committed = state.seq
        self.decided = str(state.decided)
        self._doing: dict[int, Doing] = {}
        self._flying = 0
        self._error: DrcError | None = None
        self._rolled_back: list[Batch] = []
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, args=(lane,), name=f"lane-{i}", daemon=True)
            for i, lane in enumerate(lanes)
        ]
        for thread in self._threads:
            thread.start()

    # ------------------------------------------------------------ the feeder's side

    @property
    def seq(self) -> int:
        """Return the number of the newest committed batch."""
        return self._committed

    @property
    def idle(self) -> bool:
        """Return True when everything put is committed."""
        with self._lock:
            return not (self._queue or self._flying or self._error)

    def put(self, batch: Batch) -> bool:
        """Add the next batch; waits while one is queued. False: a failure wants attention."""
        with self._room:
            self._room.wait_for(lambda: not self._queue or self._error)
            if self._error:
                return False
            self._assigned += 1
            batch.seq = self._assigned
            self._queue.append(batch)
            self._work.notify()
            return True

    def wait_room(self, timeout: float, *, ahead: bool) -> bool:
        """Return True when a batch could be taken, waiting up to ``timeout`` seconds.

        :param ahead: take it while those before it still execute, so that it is ready then; if
            not, what comes until then may join it.
        """

        def room() -> bool:
            if self._queue or self._flying >= len(self._lanes):
                return False
            return ahead or len(self._executing) < self._parallel

        with self._room:
            return bool(self._room.wait_for(lambda: self._error or room(), timeout))

    def drain(self) -> bool:
        """Wait until all is committed. False: a failure wants attention."""
        with self._room:
            self._room.wait_for(lambda: self._error or not (self._queue or self._flying))
            return self._error is None

    def failure(self) -> RolledBack | None:
        """Return what failed, once every lane is at rest, and be ready again."""
        with self._room:
            if self._error is None:
                return None
            self._room.wait_for(lambda: not self._flying)
            batches = sorted([*self._rolled_back, *self._queue], key=lambda b: b.seq)
            failure = RolledBack(self._error, batches)
            self._queue.clear()
            self._rolled_back = []
            self._error = None
            self._assigned = self._committed
            self._apart_until = self._committed + _APART_BATCHES
            self._executing.clear()
            return failure

    @property
    def doing(self) -> Doing | None:
        """Return the first thing in order that is under way."""
        return min(self._doing.copy().items(), default=(0, None), key=lambda item: item[0])[1]

    @contextmanager
    def busy(
        self,
        phase: str,
        lane: ExecutorT,
        transactions: Sequence[RawTransaction],
        statement: str = "",
    ) -> Iterator[Doing]:
        """Say what exclusive work is under way."""
        seq = self._committed + 1
        doing = self._doing[seq] = Doing(phase, now_us(), lane.connection, transactions, statement)
        try:
            yield doing
        finally:
            del self._doing[seq]

    def exclusive(self) -> tuple[ExecutorT, int]:
        """Return a lane and the next ``seq`` for work outside the belt; drained before."""
        assert not self._flying
        return self._lanes[0], self._committed + 1

    def committed(self, seq: int, decided: str) -> None:
        """Tell that exclusive work committed ``seq``."""
        with self._lock:
            self.decided = decided
            self._assigned = self._committed = seq

    def ledger_sql(
        self,
        lane: ExecutorT,
        seq: int,
        gtids: str,
        decided: str,
        transactions: Sequence[RawTransaction],
    ) -> str:
        """Return the statement that writes the ledger row of transactions.

        :param gtids: of the native transactions, as text.
        :param decided: the decided set after them, as text.
        """
        native = sum(t.kind is not TransactionKind.SKIPPED for t in transactions)
        newest, mark = max(t.commit_us for t in transactions), transactions[-1].mark
        return ledger.update_sql(
            self._origin, seq, gtids, decided, mark, native, newest, lane.epoch
        )

    def close(self) -> None:
        """Stop the lanes at once; what is not committed is rolled back by the server."""
        with self._lock:
            self._closed = True
            self._work.notify_all()
            self._turns.notify_all()
        for lane in self._lanes:
            lane.close()
        for thread in self._threads:
            thread.join()

    # ------------------------------------------------------------ the lanes' side

    def _serve(self, lane: ExecutorT) -> None:
        while (batch := self._next()) is not None:
            try:
                self._run(lane, batch)
            except DrcError as error:
                self._fail(lane, batch, error)
            except Exception as error:  # a bug, or the link was cut under the driver
                self._fail(lane, batch, TransientError(f"lane broke: {error!r}", stage="apply"))
            finally:
                with self._room:
                    self._doing.pop(batch.seq, None)
                    self._flying -= 1
                    self._room.notify()

    def _next(self) -> Batch | None:
        with self._work:
            self._work.wait_for(lambda: self._closed or (self._queue and self._error is None))
            if self._closed:
                return None
            self._flying += 1
            batch = self._queue.popleft()
            self._executing[batch.seq] = batch.slots
            self._room.notify()
            return batch

    def _run(self, lane: ExecutorT, batch: Batch) -> None:
        """Execute, certify, commit; or give the batch back as an earlier one has failed."""
        seq = batch.seq
        rendered = lane.render(batch.changes)  # while earlier batches still run
        if not self._turn(lambda: self._may_run(batch)):
            self._give_back(batch)
            return
        batch.dispatched_us, started = now_us(), time.perf_counter_ns()
        doing = Doing("run", batch.dispatched_us, lane.connection, batch.transactions)
        self._doing[seq] = doing
        ledger_sql = self.ledger_sql(lane, seq, batch.gtids, batch.decided, batch.transactions)
        end = lane.begin(ledger_sql, rendered, ask_end=self._certifier.asks_end)
        batch.run_us = (time.perf_counter_ns() - started) // 1000
        doing.phase = "certify"
        with self._turns:
            self._executing.pop(seq, None)
            self._turns.notify_all()
            self._room.notify()
        batch.awaited = batch.run_us > self._long_us and lane.awaited()
        free = self._certifier.certify(batch, end)
        doing.phase = "turn"
        if not self._turn(lambda: self._committed == seq - 1):
            lane.rollback()
            self._give_back(batch)
            return
        if free < len(batch.transactions):
            raise ConcurrentError(free)
        doing.phase = "commit"
        lane.commit()
        with self._turns:
            self._committed, self.decided = seq, batch.decided
            self._on_commit(batch)
            self._turns.notify_all()

    def _may_run(self, batch: Batch) -> bool:
        """Return True when every earlier batch has executed or touches other keys."""
        earlier = [slots for seq, slots in self._executing.items() if seq < batch.seq]
        if not earlier:
            return True
        if len(earlier) >= self._parallel or batch.seq <= self._apart_until:
            return False
        mine = batch.slots
        return mine is not None and all(s is not None and mine.isdisjoint(s) for s in earlier)

    def _turn(self, mine: Callable[[], bool]) -> bool:
        """Wait for our turn; False when an earlier batch has failed.

        A failure of a *later* batch does not stop this one, and a turn that has come is taken.
        """
        with self._turns:
            self._turns.wait_for(lambda: mine() or self._error or self._closed)
            return mine()

    def _give_back(self, batch: Batch) -> None:
        with self._lock:
            self._rolled_back.append(batch)

    def _fail(self, lane: ExecutorT, batch: Batch, error: DrcError) -> None:
        """Roll back, let the earlier batches commit, and report this one as the failing one."""
        try:
            lane.rollback()
        except Exception as lost:
            error = TransientError(f"link to the target lost: {lost}", stage="apply")
        with self._turns:
            # An earlier batch may fail yet: the error of the first in order is the true one.
            self._turns.wait_for(
                lambda: self._committed == batch.seq - 1 or self._error or self._closed
            )
            self._rolled_back.append(batch)
            if self._error is None:
                self._error = error
                self._turns.notify_all()
                self._room.notify()
                self._on_failure()
