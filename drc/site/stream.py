"""One stream: everything native at its origin, applied at its target. A loop.

A session is: ask the target's ledger what is decided, read from there, apply until something
breaks. Every trouble ends in a new session, so there is one way to start: after a crash, a lost
link, a restart of either server, a promotion.

1. Only the target's ledger says where to start. The checkpoint store is never asked.
2. With the direct log a session reads the origin's binlog itself. With Kafka it reads the
   origin's topic; where that lacks something, one session reads the binlog until it has it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drc import mysql
from drc.apply.batch import Batch, Batcher, BatchLimit, Point
from drc.apply.conveyor import Conveyor
from drc.apply.feeder import Feeder
from drc.apply.solo import Solo
from drc.apply.throttle import Throttle
from drc.config import Config
from drc.conflict.certifier import Causal, Certifier, SingleWriter
from drc.conflict.live import LiveIndex
from drc.errors import TransientError
from drc.gtid import Gtid, GtidSet
from drc.kafka.gate import GapError, Gate, Torn
from drc.names import session_name
from drc.pipe.link import Link
from drc.pipe.queue import TransactionQueue
from drc.rows.mask import Mask
from drc.rows.tables import Tables
from drc.schema import canary, ledger, skips
from drc.schema.servers import foreign_uuids
from drc.selection import Selection
from drc.settle.settler import Settler
from drc.source.resume import start_set
from drc.source.site import SourceSite
from drc.target.catalog import Catalog
from drc.target.lane import Lane
from drc.worker.progress import StreamProgress
from drc.worker.sessions import Worker

if TYPE_CHECKING:
    from drc.kafka.topic import Topic

_FRESH_S = 60.0  # a restarted watcher reads again what peers have not seen
_POLL_S = 0.5  # how soon a stop is noticed meanwhile
_FIRST_EVENT_S = 30.0  # the format description comes at once, unless the source is stuck


@dataclass
class _Memory:
    """What one session leaves for the next; losing it costs a session and nothing else.

    ``gap`` is what the log lacks, ``torn`` is the gate's. ``point`` is what was decided when
    nothing was left to apply: what is skipped leaves no trace in the ledger by itself.
    ``rivalled`` are large transactions to settle row by row. ``again`` is where an operator wants
    the next session to read from, once; ``given_up`` what he skipped and the origin has purged.
    """

    gap: GtidSet | None = None
    point: Point | None = None
    torn: Torn = field(default_factory=set)
    rivalled: set[Gtid] = field(default_factory=set)
    again: GtidSet | None = None
    given_up: GtidSet = field(default_factory=GtidSet)

    def newest(self, state: ledger.LedgerState) -> Point:
        """Return from where on to read: the ledger's state, or what was passed after it."""
        if self.point and state.applied <= self.point.decided:
            return self.point
        return Point(state.applied, state.mark)


class Stream(Worker):
    """Replicate from ``origin`` to ``target`` until told to stop."""

    progress: StreamProgress

    def __init__(
        self,
        config: Config,
        origin: str,
        target: str,
        stop: threading.Event,
        index: LiveIndex | None = None,
    ) -> None:
        backoff_max_s = config.source.reconnect_backoff_max_s
        progress = StreamProgress(origin, target, config.monitor.canary_s)
        super().__init__(f"{origin}->{target}", target, stop, progress, backoff_max_s)
        self.config = config  # a new one holds from the next session on
        self._index = index
        self._memory = _Memory()

    def read_again(self, position: GtidSet) -> None:
        """Have the next session read all that is not in ``position``; no session may run now.

        What is decided stays so: it is read and dropped.
        """
        self._memory.again = position

    def _session(self) -> None:
        memory = self._memory
        try:
            with contextlib.closing(
                _Session(
                    self.config, self.progress, self.turn.halt, memory, self._index, self.epoch()
                )
            ) as session:
                session.run()
        except GapError as gap:
            memory.gap = gap.missing
            raise


class _Session:
    """One run from the ledger on; everything it opened is closed with it."""

    def __init__(
        self,
        config: Config,
        progress: StreamProgress,
        stop: threading.Event,
        memory: _Memory,
        index: LiveIndex | None,
        epoch: int,
    ) -> None:
        self._config = config
        self._epoch = epoch
        self._progress = progress
        self._stop = stop
        self._memory = memory
        self._index = index
        self._origin, self._target = progress.origin, progress.target
        self._open = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._open.close()
            raise

    def close(self) -> None:
        self._open.close()

    def _start(self) -> None:
        config = self._config
        control = mysql.connect(config, self._target, "applier")
        self._open.callback(control._force_close)  # type: ignore[attr-defined]
        mysql.tag_session(control)
        self._tags = mysql.has_tags(control)
        self._selection = Selection(config.replicate)
        self._log = TransactionQueue(config.apply.queue_bytes_max)
        state = ledger.begin(control, self._origin, self._epoch)
        if config.monitor.canary_s:
            canary.add_row(control, self._origin)
        self._skips = skips.read(control)[self._origin]
        if self._index:
            self._await(self._index)
        gap, self._memory.gap = self._memory.gap, None
        if config.log == "kafka" and gap is None:
            state, executed, link = self._fetch(control, state)
        else:
            state, executed, link = self._read(control, state, gap)
        self._open.callback(link.close)
        self._progress.resumed(executed)
        self._format = link.format_description(_FIRST_EVENT_S)
        if self._index:
            self._index.advance(self._origin, self._memory.newest(state).mark.seen)
        self._feeder = self._build_feeder(Catalog(control), state, executed)
        self._progress.running(link, self._feeder)

    def _await(self, index: LiveIndex) -> None:
        """Wait until the watcher has read what peers have not seen; a stop does not wait for it.

        :raises TransientError: it takes too long, or this session is to end before it began.
        """
        deadline = time.monotonic() + _FRESH_S
        while not index.wait_fresh(_POLL_S):
            if self._stop.is_set() or time.monotonic() > deadline:
                raise TransientError(
                    f"the binlog of {self._target} itself is not read yet",
                    stage="certify",
                    hint="nothing is applied before, as concurrent writes are seen in it",
                )

    def _read(
        self,
        control: mysql.Connection,
        state: ledger.LedgerState | None,
        until: GtidSet | None,
    ) -> tuple[ledger.LedgerState, GtidSet, Link]:
        """Read the origin's binlog; return the ledger's state, what is decided, and the reader."""
        source = SourceSite(self._config, self._origin, self._target)
        self._open.callback(source.close)
        if state is None:
            state = ledger.create(control, self._origin, source.start(), self._epoch)
        name, memory = f"{self._origin}->{self._target}", self._memory
        if state.seq < 0:
            return state, state.applied, source.read_first(self._log, state.applied, stream=name)
        point = memory.newest(state)
        executed = begin = source.resume(point.decided, self._skips)
        memory.given_up = (executed - point.decided) & self._skips
        again, memory.again = memory.again, None
        if again is not None:
            begin = source.resume(again, point.decided | self._skips)
        reader = source.read(
            self._log, begin, point.mark, stream=name, again=executed - begin, until=until
        )
        return state, executed, reader

    def _fetch(
        self, control: mysql.Connection, state: ledger.LedgerState | None
    ) -> tuple[ledger.LedgerState, GtidSet, Link]:
        """Read the origin's topic; return the ledger's state, what is decided, and the fetcher."""
        from drc.kafka.fetcher import Fetcher  # not loaded where Kafka is not used
        from drc.kafka.topic import open_topic

        topic = open_topic(self._config, self._origin)
        try:
            if state is None:
                state = ledger.create(control, self._origin, self._start_of(topic), self._epoch)
            memory = self._memory
            executed = memory.newest(state).decided | memory.given_up
            again, memory.again = memory.again, None
            gate = Gate(self._config.stream(self._origin), executed, memory.torn)
            begin = executed if again is None else again
            return state, executed, Fetcher(topic, self._log, gate, begin)
        except BaseException:
            topic.close()
            raise

    def _start_of(self, topic: Topic) -> GtidSet:
        """Return what a new stream takes for applied; ``now`` is where the topic ends."""
        start = self._config.replicate.start
        if start == "now":
            return topic.covered()
        foreign = frozenset[bytes]()
        if start != "earliest":
            foreign = foreign_uuids(self._config, self._origin, at=self._target)
        return start_set(start, GtidSet(), foreign)

    def _build_feeder(
        self, catalog: Catalog, state: ledger.LedgerState, executed: GtidSet
    ) -> Feeder:
        apply, progress = self._config.apply, self._progress
        # Two cores already have this process and the target to run; more than three at once
        # only lengthens what is rolled back on a collision.
        parallel = apply.parallel or max(1, min(3, (os.cpu_count() or 2) // 2))
        limit = BatchLimit(apply.batch_transactions_max, apply.batch_target_ms, apply.batch_calm_ms)

        tables = Tables(self._selection.applied, catalog.unique_keys)
        index = self._index
        certifier: Certifier = SingleWriter()
        settler = None
        if index:
            certifier = causal = Causal(index, self._origin, tables)
            policies = self._config.conflicts.policies()
            mask = Mask(self._config.conflicts.mask, self._config.name)
            settler = Settler(causal, tables, policies, mask)

        def on_commit(batch: Batch) -> None:
            limit.executed(batch, batch.late_us(progress.offset_us))
            progress.committed(batch)
            if index:
                index.advance(self._origin, batch.mark.seen)

        lanes = [self._lane() for _ in range(max(apply.lanes, parallel + 1))]
        conveyor = Conveyor(
            lanes,
            self._origin,
            state,
            certifier,
            parallel,
            apply.batch_target_ms * 1000,
            on_commit,
            self._log.wake,
        )
        self._open.callback(conveyor.close)
        self._batcher = Batcher(
            tables,
            executed,
            bytes_max=apply.batch_bytes_max,
            passed=executed - state.applied,
            net_rows=apply.net_rows,
            slots=parallel > 1 or index is not None,
            lock_passing=index is not None,
        )
        solo = Solo(
            conveyor,
            tables,
            self._batcher,
            origin=self._origin,
            ddl_mode=self._config.replicate.ddl,
            open_lane=self._lane,
            selects=self._selection.schema,
            settler=settler,
            rivalled=self._memory.rivalled,
            progress=progress,
        )
        return Feeder(
            self._log,
            conveyor,
            tables,
            self._batcher,
            limit,
            solo,
            skips=self._skips,
            throttle=Throttle(apply.transactions_per_s_max),
            progress=progress,
            on_quiet=self._quiet,
            stop=self._stop,
        )

    def _quiet(self, point: Point) -> None:
        """All that came is decided."""
        self._memory.point = point
        if self._index:
            self._index.advance(self._origin, point.mark.seen)

    def run(self) -> None:
        """Apply until stopped or broken."""
        self._feeder.run()

    def _lane(self) -> Lane:
        def connect(client_flag: int) -> mysql.Connection:
            name = session_name(self._config.name, self._target)
            return mysql.connect(
                self._config, self._target, "applier", client_flag=client_flag, program_name=name
            )

        wait = self._config.apply.lock_wait_timeout_s
        return Lane(connect, self._format, tag=self._tags, lock_wait_s=wait, epoch=self._epoch)
