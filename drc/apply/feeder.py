"""The feeder: from the log to the conveyor, and what to do when a batch fails. A loop.

1. A batch that met a lock or deadlock is built again, smaller. One that met a missing or
   duplicate row is taken apart: its transactions go alone and as they were written, so
   that what is wrong is found and named, and all before it is applied.
2. DDL and the parts of a large transaction run alone on the belt: everything before is
   committed, nothing after has begun.
3. Whatever else breaks ends the session; the stream starts again from the ledger.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from drc import events as ev
from drc.apply import ddl, ledger
from drc.apply.batch import Batch, Batcher, BatchLimit, Point, plain_events
from drc.apply.conveyor import ConcurrentError, Conveyor, Failure
from drc.apply.lane import Lane
from drc.apply.netting import Tables
from drc.apply.pinpoint import find_refused
from drc.apply.settle import DUPLICATE_KEY, Settler
from drc.apply.xa import PreparedTransactions
from drc.errors import DataError, DrcError, InvariantError, TransientError
from drc.events import Buffer
from drc.gtid import Gtid, GtidSet
from drc.log.queue import TransactionQueue
from drc.monitor.progress import StreamProgress
from drc.transaction import Kind, RawTransaction

_LOCK_ERRNOS = frozenset({1205, 1213, 3572})
_ROW_ERRNOS = frozenset({1032, 1062})  # a row is missing, or there already
_LOCKED_S = 0.025
_SETTLE_MAX = 50  # transactions at once: each row takes a round trip while all locks are held
_RETRIES_MAX = 20  # with a lock wait of seconds each: a user who holds a row for a minute
_POLL_S = 0.5  # how soon a stop is noticed while nothing comes
_SIMPLE = frozenset({Kind.ROWS, Kind.SKIPPED, Kind.DDL})
_XA_BYTES_MAX = 64 << 20
_PASSED_MAX = 1000  # skipped transactions remembered beside the ledger, while there are native ones


class Feeder:
    """Feed one stream until stopped.

    :param open_lane: a fresh session on the target, for DDL, whose settings it changes.
    :param selects: whether rows and DDL of a schema are replicated.
    :param on_quiet: told whenever all that has come is decided and committed.
    :param settler: for transactions with concurrent writers; without one they stop the stream.
    :param rivalled_parts: large transactions to settle; kept from session to session.
    """

    def __init__(
        self,
        log: TransactionQueue,
        conveyor: Conveyor,
        tables: Tables,
        batcher: Batcher,
        limit: BatchLimit,
        *,
        origin: str,
        ddl_mode: str,
        open_lane: Callable[[], Lane],
        selects: Callable[[str], bool],
        progress: StreamProgress,
        on_quiet: Callable[[Point], None],
        settler: Settler | None,
        rivalled_parts: set[Gtid],
        stop: threading.Event,
    ) -> None:
        self._log = log
        self._conveyor = conveyor
        self._tables = tables
        self._batcher = batcher
        self._origin = origin
        self._ddl = ddl_mode
        self._open_lane = open_lane
        self._selects = selects
        self._progress = progress
        self._on_quiet = on_quiet
        self._settler = settler
        self._rivalled_parts = rivalled_parts
        self._free = 0  # transactions to apply before the first that has a rival
        self._rivalled: Gtid | None = None  # that one
        self._settle_max = _SETTLE_MAX
        self._stop = stop
        self._prepared = PreparedTransactions(_XA_BYTES_MAX)
        self._pending: deque[RawTransaction] = deque()
        self._limit = limit
        self._alone = 0  # transactions still to apply one by one, after a failure
        self._retries = 0
        self._settled_seq = conveyor.seq

    @property
    def pending(self) -> int:
        """Return how many transactions wait to be batched."""
        return len(self._pending)

    def run(self) -> None:
        """Apply until stopped; what is on the belt then is committed first.

        :raises DrcError: what ended the session.
        """
        while not self._stop.is_set():
            if not self._pending:
                self._receive()
                if not self._pending:
                    self._quiet()
            elif self._conveyor.wait_room(_POLL_S):
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
        if all(t.kind in _SIMPLE for t in transactions):
            self._pending.extend(transactions)
            return
        for transaction in transactions:
            if (admitted := self._prepared.admit(transaction)) is not None:
                self._pending.append(admitted)

    def _step(self) -> None:
        """Send one batch, or do one thing that goes alone."""
        while self._log.bytes and len(self._pending) < self._limit.transactions:
            self._admit(self._log.take(0))
        head = self._pending[0]
        if head.kind is Kind.DDL:
            self._exclusive(self._run_ddl)
        elif head.kind is Kind.ROWS and not head.whole:
            self._exclusive(self._run_large)
        elif head.gtid == self._rivalled and not self._free:
            self._exclusive(self._run_rivalled)
        else:
            alone = self._alone > 0
            limit = 1 if alone else self._free or self._limit.transactions
            batch = self._batcher.take(self._pending, limit, net=not alone)
            if batch is not None:
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
        self._retries += 1
        first = failure.batches[0]
        if failure.error.errno in _LOCK_ERRNOS:
            self._progress.lock_failures += 1
            self._limit.collided(len(first.transactions))
            if self._retries > _RETRIES_MAX:
                raise _named(failure)
            # Whoever holds the lock needs the time; the wait grows to a second.
            self._stop.wait(min(0.005 * 2**self._retries, 1.0))
        elif isinstance(failure.error, ConcurrentError):
            self._progress.concurrent += 1
            self._meet(first.transactions, failure.error.free)
        elif self._settler and failure.error.errno in _ROW_ERRNOS:
            self._meet(first.transactions, 0)
        elif isinstance(failure.error, DataError) and not _alone(first):
            self._progress.taken_apart += 1
            self._alone = len(first.transactions)
        else:
            raise self._pinpointed(_named(failure), first)

    def _meet(self, transactions: list[RawTransaction], free: int) -> None:
        """Apply the ``free`` first ones as a batch, and settle those after them."""
        self._free = sum(t.kind is not Kind.SKIPPED for t in transactions[:free])
        self._rivalled = transactions[free].gtid
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

    def _run_ddl(self) -> None:
        """Replay a schema change, and the rows of a CREATE … SELECT after it."""
        transaction = self._pending[0]
        data, at = transaction.data, transaction.events[0]
        end = at + ev.u32(data, at + 9)[0] - transaction.checksum
        query = ev.parse_query(data, at, end)
        schemas = ddl.touched_schemas(query)
        self._pending.popleft()
        if not any(self._selects(s) for s in schemas) or self._ddl == "skip":
            transaction.kind, transaction.events = Kind.ROWS, []
            self._pending.appendleft(transaction)
            return
        if self._ddl == "stop":
            raise DataError(
                f"schema change: {query.sql[:200].decode('utf-8', 'replace')}",
                stage="apply",
                gtid=str(transaction.gtid),
                hint="make it here by hand and reposition past it, or set replicate.ddl",
            )
        lane = self._open_lane()
        try:
            ddl.replay(lane, query, transaction.gtid)
        finally:
            lane.close()
        self._tables.forget()
        transaction.events = transaction.events[1:]
        self._write([transaction])

    def _run_rivalled(self) -> None:
        """Settle transactions that have concurrent writers, or may have: they come in storms."""
        assert self._settler
        chosen = self._next_settled()
        native = [t for t in chosen if t.kind is not Kind.SKIPPED]
        self._rivalled = None
        if not native:  # a ledger row for these alone would feed itself
            self._pending.extendleft(reversed(chosen))
            return
        lane, seq = self._conveyor.exclusive()
        gtids, applied = self._batcher.decide(chosen)
        try:
            lane.begin(self._ledger_sql(seq, gtids, applied, chosen), ())
            settled = self._settler.settle(lane, native)
            lane.commit()
        except DrcError as error:
            lane.rollback()
            self._pending.extendleft(reversed(chosen))
            self._batcher.rewind(GtidSet.parse(self._conveyor.applied))
            self._rivalled = chosen[0].gtid
            if error.errno in _LOCK_ERRNOS:
                self._progress.lock_failures += 1
                self._retries += 1
                if self._retries > _RETRIES_MAX:
                    error.gtid = error.gtid or gtids
                    raise
                self._stop.wait(min(_LOCKED_S * 2**self._retries, 1.0))
            elif error.errno == DUPLICATE_KEY and len(native) > 1:
                self._settle_max = 1
            else:
                error.gtid = error.gtid or gtids
                raise
            return
        self._retries = 0
        self._conveyor.committed(seq, applied)
        self._progress.settled(native, settled.rows, settled.kinds, applied)
        # Where there was one conflict the next transactions have some, too.
        if settled.kinds and self._pending:
            self._rivalled = self._pending[0].gtid
        self._settle_max = min(_SETTLE_MAX, self._settle_max * 2)
        self._quiet()

    def _next_settled(self) -> list[RawTransaction]:
        """Take the next transactions to settle, up to the first that must go alone."""
        out: list[RawTransaction] = []
        while self._pending and len(out) < self._settle_max:
            head = self._pending[0]
            if not (head.kind is Kind.SKIPPED or (head.kind is Kind.ROWS and head.whole)):
                break
            out.append(self._pending.popleft())
        return out

    def _ledger_sql(
        self, seq: int, gtids: str, applied: str, transactions: Sequence[RawTransaction]
    ) -> str:
        native = sum(t.kind is not Kind.SKIPPED for t in transactions)
        newest = max(t.commit_us for t in transactions)
        mark = transactions[-1].mark
        return ledger.update_sql(self._origin, seq, gtids, applied, mark, native, newest)

    def _run_large(self) -> None:
        """Stream a large transaction, part by part, into one transaction of the target."""
        self._write(self._parts())

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

    def _write(self, parts: Iterable[RawTransaction]) -> None:
        """Apply parts event by event in one transaction, with their ledger row first."""
        lane, seq = self._conveyor.exclusive()
        maps: dict[int, bytes] = {}
        opened, rows, gtids, applied = False, 0, "", ""
        transaction: RawTransaction | None = None
        kinds: Counter[str] = Counter()
        try:
            for transaction in parts:
                if not opened:
                    gtids, applied = self._batcher.decide([transaction])
                    lane.begin(self._ledger_sql(seq, gtids, applied, [transaction]), ())
                    opened = True
                if self._settler and transaction.gtid in self._rivalled_parts:
                    settled = self._settler.settle(lane, [transaction])
                    rows += settled.rows
                    kinds += settled.kinds
                elif events := plain_events(transaction, self._tables, maps):
                    rows += len(events) // 5
                    self._write_part(lane, transaction, events)
            lane.commit()
        except DrcError as error:
            if transaction is not None:
                error.gtid = error.gtid or str(transaction.gtid)
            raise
        assert transaction is not None
        self._conveyor.committed(seq, applied)
        self._progress.settled([transaction], rows, kinds, applied)

    def _write_part(self, lane: Lane, part: RawTransaction, events: Sequence[Buffer]) -> None:
        """Apply events as they were written, and see that nobody else wrote their rows.

        :raises TransientError: somebody did; the next session settles the transaction.
        """
        error: DrcError | None = None
        try:
            lane.apply(events)
        except DataError as refused:
            if self._settler is None or refused.errno not in _ROW_ERRNOS:
                raise
            error = refused
        if self._settler and (error or self._settler.rivalled(lane, part)):
            self._rivalled_parts.add(part.gtid)
            raise TransientError(
                "a large transaction has concurrent writers",
                stage="certify",
                hint="it is read again and settled row by row",
            )


def _alone(batch: Batch) -> bool:
    """Return True when a batch was one transaction, applied as it was written."""
    return batch.native == 1 and batch.plain


def _named(failure: Failure) -> DrcError:
    """Return the error of a failure with the transactions it concerns."""
    error, batch = failure.error, failure.batches[0]
    error.gtid = error.gtid or batch.gtids
    return error
