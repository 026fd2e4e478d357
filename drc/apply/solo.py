"""Solo: schema changes, large transactions and transactions with rivals, each alone. Edge.

1. Everything before is committed and nothing after has begun: the caller has drained the conveyor.
2. The work is a single transaction of the target, the ledger row first (I5). The server commits
   DDL by itself, so DDL runs before that transaction, under the origin's GTID.
3. A large transaction is applied as written, part by part. If a part proves to have rivals, all
   parts are rolled back, and the next session settles the transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from drc.apply.batch import Batch, Batcher
from drc.apply.conveyor import Conveyor
from drc.binlog import events as ev
from drc.binlog.events import TableMap
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.errors import ROW_ERRNOS, DataError, DrcError, TransientError
from drc.gtid import Gtid
from drc.rows.changes import Changes, written_rows
from drc.settle.settler import Settler
from drc.target import replay
from drc.target.lane import Lane
from drc.worker.progress import StreamProgress


@dataclass(frozen=True)
class SchemaChanges:
    """The rules by which a stream treats schema changes.

    ``mode`` is ``replicate.ddl``, ``selects`` tells whether a schema is replicated. ``open_lane``
    opens a separate session for each statement, because a statement changes session settings.
    """

    mode: str
    selects: Callable[[str], bool]
    open_lane: Callable[[], Lane]


class Solo:
    """Run work that must go alone, on a drained conveyor.

    :param settler: settles transactions with rivals; None where no rivals are expected.
    :param with_rivals: large transactions to settle; the set is kept from session to session.
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
        """Return True if concurrent writes can be settled."""
        return self._settler is not None

    def replay(self, transaction: RawTransaction) -> bool:
        """Replay a schema change, and after the change the rows of a CREATE … SELECT.

        Returns False if the schema change is not to be replicated.

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
                "cannot go past a schema change with replicate.ddl = 'stop': "
                f"{query.sql[:200].decode('utf-8', 'replace')}",
                stage="apply",
                gtid=str(transaction.gtid),
                hint="run the change here by hand, then `drc skip` the GTID, or set replicate.ddl",
            )
        lane = rules.open_lane()
        try:
            lane.require_lease()  # a takeover after this check ends the lane's session
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
        """Settle whole transactions row by row; return the number of conflicts by kind.

        :raises DrcError: classed by errno; everything is rolled back.
        """
        assert self._settler
        conveyor = self._conveyor
        lane, seq = conveyor.exclusive()
        batch = self._batcher.decide(transactions)
        batch.seq = seq
        native = [t for t in transactions if t.kind is not TransactionKind.SKIPPED]
        try:
            lane.lock_gaps()
            with conveyor.busy("settle", lane, native) as doing:
                lane.begin(conveyor.ledger_sql(lane, batch), ())
                settled = self._settler.settle(lane, native)
                lane.commit()
        except DrcError as error:
            error.gtid = error.gtid or batch.gtids
            lane.rollback()
            raise
        conveyor.committed(batch)
        self._progress.settled(native, settled.rows, settled.kinds, batch.decided, doing.since_us)
        return settled.kinds

    def write(self, parts: Iterable[RawTransaction]) -> None:
        """Apply parts event by event in a single transaction, the ledger row first."""
        conveyor = self._conveyor
        lane, seq = conveyor.exclusive()
        maps: dict[int, TableMap | None] = {}
        rows = 0
        batch: Batch | None = None  # of the first part; None before the transaction is open
        transaction: RawTransaction | None = None
        kinds: Counter[str] = Counter()
        try:
            with conveyor.busy("large transaction", lane, ()) as doing:
                doing.maps = maps
                for transaction in parts:
                    doing.transactions = (transaction,)
                    if batch is None:
                        if transaction.gtid in self._with_rivals:
                            lane.lock_gaps()
                        batch = self._batcher.decide([transaction])
                        batch.seq = seq
                        lane.begin(conveyor.ledger_sql(lane, batch), ())
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
        assert batch is not None
        conveyor.committed(batch)
        self._progress.settled([transaction], rows, kinds, batch.decided, doing.since_us)

    def _write_part(self, lane: Lane, part: RawTransaction, changes: Changes) -> None:
        """Apply changes as written, and check that the rows have no concurrent writer.

        :raises TransientError: a row has a concurrent writer; the next session settles.
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
                "cannot apply a large transaction as written: its rows have concurrent writers",
                stage="certify",
                hint="wait: the transaction is read again and settled row by row",
            )
