"""Conveyor: several connections apply batches and commit the batches in commit order.

Each lane takes the next batch, runs the batch when the batch before has run, certifies, and
commits when the batch before has committed. So batch n+1 runs during the certificate and commit
of batch n, and a reader of the target only sees a prefix of the origin's history (I12).

1. Batch n never waits for a lock of batch n+1: n has run before n+1 starts, or the two batches
   touch disjoint keys. A gap lock may still stand between disjoint batches: then the lock wait of
   n times out, n fails as in 2, and for a while no two batches run at once.
2. No batch commits after the failure of an earlier batch: when batch n fails, n and every later
   batch are rolled back before anything else happens. Earlier batches commit. The feeder then
   gets the rolled-back batches in order and decides how to go on.
3. The ledger's ``seq`` has no gap: the numbers of rolled-back batches are used again.

This is a loop: the feeder decides how to go on after a failure (``feeder.py``).
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
from drc.binlog.transaction import RawTransaction
from drc.conflict.certifier import Certifier
from drc.errors import DrcError, TransientError
from drc.schema import ledger
from drc.schema.ledger import LedgerState
from drc.target.executor import Executor
from drc.worker.doing import Doing

_APART_BATCHES = 100  # run separately after a failure: enough batches for a hot spot to pass


@dataclass(slots=True)
class RolledBack:
    """Rolled-back batches in commit order, the failed batch first."""

    error: DrcError
    batches: list[Batch]


ExecutorT = TypeVar("ExecutorT", bound=Executor)


class Conveyor(Generic[ExecutorT]):
    """Run lanes over an ordered sequence of batches.

    :param lanes: executors; as many batches may be in flight as there are lanes.
    :param state: the newest state of the ledger; the first batch gets the next ``seq``.
    :param parallel: how many batches with disjoint keys may run at once.
    :param long_us: microseconds; after a batch that ran longer, the lane asks whether a local user
        waits.
    :param on_commit: called in commit order, in a lane's thread; must not wait.
    :param on_failure: called once per failure; the feeder should then call :meth:`failure`.

    ``decided`` is the ledger's decided set after the newest commit, as text.
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
        # Three groups wait: lanes for a batch, lanes for a turn, the feeder. A single condition
        # would wake all groups at each step of any thread, thousands of times a second.
        self._lock = threading.RLock()
        self._work, self._turns, self._room = (threading.Condition(self._lock) for _ in range(3))
        self._queue: deque[Batch] = deque()
        self._parallel, self._long_us = parallel, long_us
        self._apart_until = 0  # no two batches up to this number run at once
        self._running: dict[int, frozenset[int] | None] = {}  # taken by a lane, but have not run
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
        """Return the ``seq`` of the newest committed batch."""
        return self._committed

    @property
    def idle(self) -> bool:
        """Return True when every batch that :meth:`put` took is committed."""
        with self._lock:
            return not (self._queue or self._flying or self._error)

    def put(self, batch: Batch) -> bool:
        """Add the next batch, waiting while another batch is queued; False after a failure."""
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
        """Wait up to ``timeout`` seconds until a lane can take a batch; True also after a failure.

        :param ahead: take the batch while earlier batches still run, so that the batch is ready
            in time. Without ``ahead``, transactions that arrive meanwhile may join the batch.
        """

        def room() -> bool:
            if self._queue or self._flying >= len(self._lanes):
                return False
            return ahead or len(self._running) < self._parallel

        with self._room:
            return bool(self._room.wait_for(lambda: self._error or room(), timeout))

    def drain(self) -> bool:
        """Wait until all batches are committed; return False after a failure."""
        with self._room:
            self._room.wait_for(lambda: self._error or not (self._queue or self._flying))
            return self._error is None

    def failure(self) -> RolledBack | None:
        """Return the batches of a failure once every lane is idle, and accept batches again.

        Returns None if no batch has failed.
        """
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
            self._running.clear()
            return failure

    @property
    def doing(self) -> Doing | None:
        """Return the work under way that is first in commit order."""
        return min(self._doing.copy().items(), default=(0, None), key=lambda item: item[0])[1]

    @contextmanager
    def busy(
        self,
        phase: str,
        lane: ExecutorT,
        transactions: Sequence[RawTransaction],
        statement: str = "",
    ) -> Iterator[Doing]:
        """Show exclusive work in :attr:`doing` while the context lasts."""
        seq = self._committed + 1
        doing = self._doing[seq] = Doing(phase, now_us(), lane.connection, transactions, statement)
        try:
            yield doing
        finally:
            del self._doing[seq]

    def exclusive(self) -> tuple[ExecutorT, int]:
        """Return a lane and the next ``seq`` for exclusive work; the caller has drained."""
        assert not self._flying
        return self._lanes[0], self._committed + 1

    def committed(self, batch: Batch) -> None:
        """Record that exclusive work has committed ``batch``."""
        with self._lock:
            self.decided = batch.decided
            self._assigned = self._committed = batch.seq

    def ledger_sql(self, lane: ExecutorT, batch: Batch) -> str:
        """Return the statement that writes the ledger row of a batch."""
        return ledger.update_sql(
            self._origin,
            batch.seq,
            batch.gtids,
            batch.decided,
            batch.mark,
            batch.native,
            batch.commit_us,
            lane.epoch,
        )

    def close(self) -> None:
        """Stop the lanes at once; the server rolls back uncommitted transactions."""
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
            except Exception as error:  # a bug, or the link was cut inside the driver
                text = f"cannot apply a batch: the lane broke: {error!r}"
                self._fail(lane, batch, TransientError(text, stage="apply"))
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
            self._running[batch.seq] = batch.slots
            self._room.notify()
            return batch

    def _run(self, lane: ExecutorT, batch: Batch) -> None:
        """Run, certify and commit a batch; give the batch back if an earlier batch has failed."""
        seq = batch.seq
        rendered = lane.render(batch.changes)  # while earlier batches still run
        if not self._turn(lambda: self._may_run(batch)):
            self._give_back(batch)
            return
        batch.dispatched_us, started = now_us(), time.perf_counter_ns()
        doing = Doing("run", batch.dispatched_us, lane.connection, batch.transactions)
        self._doing[seq] = doing
        ledger_sql, ask_end = self.ledger_sql(lane, batch), self._certifier.asks_end
        end = lane.begin(ledger_sql, rendered, ask_end=ask_end)
        batch.run_us = (time.perf_counter_ns() - started) // 1000
        doing.phase = "certify"
        with self._turns:
            self._running.pop(seq, None)
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
        """Return True when every earlier batch has run or touches other keys."""
        earlier = [slots for seq, slots in self._running.items() if seq < batch.seq]
        if not earlier:
            return True
        if len(earlier) >= self._parallel or batch.seq <= self._apart_until:
            return False
        mine = batch.slots
        return mine is not None and all(s is not None and mine.isdisjoint(s) for s in earlier)

    def _turn(self, mine: Callable[[], bool]) -> bool:
        """Wait for a turn, until ``mine`` is true; return False when an earlier batch has failed.

        A failure of a *later* batch does not stop this batch: a turn that has come is taken.
        """
        with self._turns:
            self._turns.wait_for(lambda: mine() or self._error or self._closed)
            return mine()

    def _give_back(self, batch: Batch) -> None:
        with self._lock:
            self._rolled_back.append(batch)

    def _fail(self, lane: ExecutorT, batch: Batch, error: DrcError) -> None:
        """Roll back, let the earlier batches commit, and report this batch as the failed batch."""
        try:
            lane.rollback()
        except Exception as lost:
            error = TransientError(
                f"cannot roll back a batch: link to the target lost: {lost}", stage="apply"
            )
        with self._turns:
            # An earlier batch may still fail: the error of the first failed batch counts.
            self._turns.wait_for(
                lambda: self._committed == batch.seq - 1 or self._error or self._closed
            )
            self._rolled_back.append(batch)
            if self._error is None:
                self._error = error
                self._turns.notify_all()
                self._room.notify()
                self._on_failure()
