"""What runs alone on the belt: schema changes, large transactions, what has rivals. Edge.

1. Everything before is committed, nothing after has begun: the caller has drained the conveyor.
2. Each is one transaction of the target with its ledger row first (I5); DDL, which the server
   commits by itself, runs under its origin's GTID before.
3. A large transaction is applied as it was written, part by part; when a part turns out to have
   rivals all is rolled back, and the next session settles it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from drc.apply.batch import Batcher, plain_events
from drc.apply.conveyor import Conveyor
from drc.binlog import events as ev
from drc.binlog.events import Buffer
from drc.binlog.transaction import Kind, RawTransaction
from drc.errors import DataError, DrcError, TransientError
from drc.gtid import Gtid
from drc.rows.tables import Tables
from drc.schema import ledger
from drc.settle.settler import Settler
from drc.target import replay
from drc.target.lane import Lane
from drc.worker.progress import StreamProgress

ROW_ERRNOS = frozenset({1032, 1062})  # a row is missing, or there already


class Solo:
    """Run one thing at a time on a drained conveyor.

    :param open_lane: a fresh session on the target, for DDL, whose settings it changes.
    :param selects: whether rows and DDL of a schema are replicated.
    :param settler: for transactions with concurrent writers; without one there are none.
    :param rivalled: large transactions to settle; kept from session to session.
    """

    def __init__(
        self,
        conveyor: Conveyor,
        tables: Tables,
        batcher: Batcher,
        *,
        origin: str,
        ddl_mode: str,
        open_lane: Callable[[], Lane],
        selects: Callable[[str], bool],
        settler: Settler | None,
        rivalled: set[Gtid],
        progress: StreamProgress,
    ) -> None:
        self._conveyor = conveyor
        self._tables = tables
        self._batcher = batcher
        self._origin = origin
        self._ddl = ddl_mode
        self._open_lane = open_lane
        self._selects = selects
        self._settler = settler
        self._rivalled = rivalled
        self._progress = progress

    @property
    def settles(self) -> bool:
        """Return whether concurrent writes can be settled."""
        return self._settler is not None

    def replay(self, transaction: RawTransaction) -> bool:
        """Replay a schema change, and the rows of a CREATE … SELECT after it.

        Returns False if it is not to be replicated.

        :raises DataError: schema changes stop this stream.
        """
        _, at, end = next(transaction.spans())
        query = ev.parse_query(transaction.data, at, end)
        schemas = replay.touched_schemas(query)
        if not any(self._selects(s) for s in schemas) or self._ddl == "skip":
            return False
        if self._ddl == "stop":
            raise DataError(
                f"schema change: {query.sql[:200].decode('utf-8', 'replace')}",
                stage="apply",
                gtid=str(transaction.gtid),
                hint="make it here by hand and reposition past it, or set replicate.ddl",
            )
        lane = self._open_lane()
        try:
            lane.require_lease()  # a takeover after it ends this session
            text = query.sql[:200].decode("utf-8", "replace")
            with self._conveyor.busy("schema change", lane, [transaction], text):
                replay.replay(lane, query, transaction.gtid)
        finally:
            lane.close()
        self._tables.forget()
        transaction.events = transaction.events[1:]
        self.write([transaction])
        return True

    def settle(self, transactions: list[RawTransaction]) -> Counter[str]:
        """Settle whole transactions row by row; return their conflicts by kind.

        :raises DrcError: classed by errno; all is rolled back.
        """
        assert self._settler
        lane, seq = self._conveyor.exclusive()
        gtids, applied = self._batcher.decide(transactions)
        native = [t for t in transactions if t.kind is not Kind.SKIPPED]
        try:
            lane.lock_gaps()
            with self._conveyor.busy("settle", lane, native) as doing:
                lane.begin(self._ledger_sql(lane, seq, gtids, applied, transactions), ())
                settled = self._settler.settle(lane, native)
                lane.commit()
        except DrcError as error:
            error.gtid = error.gtid or gtids
            lane.rollback()
            raise
        self._conveyor.committed(seq, applied)
        self._progress.settled(native, settled.rows, settled.kinds, applied, doing.since_us)
        return settled.kinds

    def write(self, parts: Iterable[RawTransaction]) -> None:
        """Apply parts event by event in one transaction, with their ledger row first."""
        lane, seq = self._conveyor.exclusive()
        maps: dict[int, bytes] = {}
        opened, rows, gtids, applied = False, 0, "", ""
        transaction: RawTransaction | None = None
        kinds: Counter[str] = Counter()
        try:
            with self._conveyor.busy("large transaction", lane, ()) as doing:
                doing.maps = maps
                for transaction in parts:
                    doing.transactions = (transaction,)
                    if not opened:
                        if transaction.gtid in self._rivalled:
                            lane.lock_gaps()
                        gtids, applied = self._batcher.decide([transaction])
                        lane.begin(self._ledger_sql(lane, seq, gtids, applied, [transaction]), ())
                        opened = True
                    if self._settler and transaction.gtid in self._rivalled:
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
        self._progress.settled([transaction], rows, kinds, applied, doing.since_us)

    def _write_part(self, lane: Lane, part: RawTransaction, events: Sequence[Buffer]) -> None:
        """Apply events as they were written, and see that nobody else wrote their rows.

        :raises TransientError: somebody did; the next session settles the transaction.
        """
        error: DrcError | None = None
        try:
            lane.apply(events)
        except DataError as refused:
            if self._settler is None or refused.errno not in ROW_ERRNOS:
                raise
            error = refused
        if self._settler and (error or self._settler.rivalled(lane, part)):
            self._rivalled.add(part.gtid)
            raise TransientError(
                "a large transaction has concurrent writers",
                stage="certify",
                hint="it is read again and settled row by row",
            )

    def _ledger_sql(
        self,
        lane: Lane,
        seq: int,
        gtids: str,
        applied: str,
        transactions: Sequence[RawTransaction],
    ) -> str:
        native = sum(t.kind is not Kind.SKIPPED for t in transactions)
        newest = max(t.commit_us for t in transactions)
        mark = transactions[-1].mark
        return ledger.update_sql(
            self._origin, seq, gtids, applied, mark, native, newest, lane.epoch
        )
