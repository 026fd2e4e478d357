"""What runs alone on the belt: schema changes, large transactions, what has rivals. Edge.

1. Everything before is committed, nothing after has begun: the caller has drained the conveyor.
2. Each is one transaction of the target with its ledger row first (I5); DDL, which the server
   commits by itself, runs under its origin's GTID before.
3. A large transaction is applied as it was written, part by part; when a part turns out to have
   rivals all is rolled back, and the next session settles it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from drc.apply.batch import Batcher
from drc.apply.conveyor import Conveyor
from drc.binlog import events as ev
from drc.binlog.events import TableMap
from drc.binlog.transaction import Kind, RawTransaction
from drc.errors import ROW_ERRNOS, DataError, DrcError, TransientError
from drc.gtid import Gtid
from drc.rows.changes import Changes, written_rows
from drc.settle.settler import Settler
from drc.target import replay
from drc.target.lane import Lane
from drc.worker.progress import StreamProgress


@dataclass(frozen=True)
class SchemaChanges:
    """How a stream treats schema changes.

    ``mode`` is ``replicate.ddl``, ``selects`` tells whether a schema is replicated, ``open_lane``
    opens a session for one statement, whose settings it changes.
    """

    mode: str
    selects: Callable[[str], bool]
    open_lane: Callable[[], Lane]


class Solo:
    """Run one thing at a time on a drained conveyor.

    :param settler: for transactions with concurrent writers; without one there are none.
    :param with_rivals: large transactions to settle; kept from session to session.
    """

    def __init__(
        self,
        conveyor: Conveyor[Lane],
        batcher: Batcher,
        schema_changes: SchemaChanges,
        settler: Settler | None,
        with_rivals: set[Gtid],
        progress: StreamProgress,
    ) -> None:
        self._conveyor = conveyor
        self._batcher, self._tables = batcher, batcher.tables
        self._schema_changes = schema_changes
        self._settler = settler
        self._with_rivals = with_rivals
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
        rules = self._schema_changes
        if not any(map(rules.selects, schemas)) or rules.mode == "skip":
            return False
        if rules.mode == "stop":
            raise DataError(
                f"schema change: {query.sql[:200].decode('utf-8', 'replace')}",
                stage="apply",
                gtid=str(transaction.gtid),
                hint="make it here by hand and reposition past it, or set replicate.ddl",
            )
        lane = rules.open_lane()
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
        conveyor = self._conveyor
        lane, seq = conveyor.exclusive()
        gtids, decided = self._batcher.decide(transactions)
        native = [t for t in transactions if t.kind is not Kind.SKIPPED]
        try:
            lane.lock_gaps()
            with conveyor.busy("settle", lane, native) as doing:
                lane.begin(conveyor.ledger_sql(lane, seq, gtids, decided, transactions), ())
                settled = self._settler.settle(lane, native)
                lane.commit()
        except DrcError as error:
            error.gtid = error.gtid or gtids
            lane.rollback()
            raise
        conveyor.committed(seq, decided)
        self._progress.settled(native, settled.rows, settled.kinds, decided, doing.since_us)
        return settled.kinds

    def write(self, parts: Iterable[RawTransaction]) -> None:
        """Apply parts event by event in one transaction, with their ledger row first."""
        conveyor = self._conveyor
        lane, seq = conveyor.exclusive()
        maps: dict[int, TableMap | None] = {}
        opened, rows, gtids, decided = False, 0, "", ""
        transaction: RawTransaction | None = None
        kinds: Counter[str] = Counter()
        try:
            with conveyor.busy("large transaction", lane, ()) as doing:
                doing.maps = maps
                for transaction in parts:
                    doing.transactions = (transaction,)
                    if not opened:
                        if transaction.gtid in self._with_rivals:
                            lane.lock_gaps()
                        gtids, decided = self._batcher.decide([transaction])
                        ledger_sql = conveyor.ledger_sql(lane, seq, gtids, decided, [transaction])
                        lane.begin(ledger_sql, ())
                        opened = True
                    if self._settler and transaction.gtid in self._with_rivals:
                        settled = self._settler.settle(lane, [transaction])
                        rows += settled.rows
                        kinds += settled.kinds
                    elif changes := written_rows(transaction, self._tables, maps):
                        rows += len(changes)
                        self._write_part(lane, transaction, changes)
                lane.commit()
        except DrcError as error:
            if transaction is not None:
                error.gtid = error.gtid or str(transaction.gtid)
            raise
        assert transaction is not None
        conveyor.committed(seq, decided)
        self._progress.settled([transaction], rows, kinds, decided, doing.since_us)

    def _write_part(self, lane: Lane, part: RawTransaction, changes: Changes) -> None:
        """Apply changes as they were written, and see that nobody else wrote their rows.

        :raises TransientError: somebody did; the next session settles the transaction.
        """
        error: DrcError | None = None
        try:
            lane.apply(lane.render(changes))
        except DataError as refused:
            if self._settler is None or refused.errno not in ROW_ERRNOS:
                raise
            error = refused
        if self._settler and (error or self._settler.has_rivals(lane, part)):
            self._with_rivals.add(part.gtid)
            raise TransientError(
                "a large transaction has concurrent writers",
                stage="certify",
                hint="it is read again and settled row by row",
            )
