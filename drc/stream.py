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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pymysql

from drc import mysql
from drc.apply import ledger
from drc.apply.batch import Batch, Batcher, BatchLimit
from drc.apply.catalog import Catalog
from drc.apply.certifier import SingleWriter
from drc.apply.conveyor import Conveyor
from drc.apply.feeder import Feeder
from drc.apply.lane import Lane
from drc.apply.netting import Tables
from drc.config import Config
from drc.gtid import GtidSet
from drc.log.gate import GapError, Gate, Torn
from drc.log.link import Link
from drc.log.queue import TransactionQueue
from drc.monitor.progress import StreamProgress
from drc.selection import Selection
from drc.sessions import Worker
from drc.source.resume import start_set
from drc.source.site import SourceSite, foreign_uuids

if TYPE_CHECKING:
    from drc.log.topic import Topic

_FIRST_EVENT_S = 30.0  # the format description comes at once, unless the source is stuck


@dataclass
class _Memory:
    """What one session leaves for the next; losing it costs a session and nothing else.

    ``gap`` is what the log lacks, ``passed`` was skipped since the ledger's last row, ``torn`` is
    the gate's.
    """

    gap: GtidSet | None = None
    passed: GtidSet = field(default_factory=GtidSet)
    torn: Torn = field(default_factory=set)


class Stream(Worker):
    """Replicate from ``origin`` to ``target`` until told to stop."""

    progress: StreamProgress

    def __init__(self, config: Config, origin: str, target: str, stop: threading.Event) -> None:
        backoff_max_s = config.source.reconnect_backoff_max_s
        progress = StreamProgress(origin, target)
        super().__init__(f"{origin}->{target}", target, stop, progress, backoff_max_s)
        self._config = config
        self._memory = _Memory()

    def _session(self) -> None:
        memory = self._memory
        try:
            with contextlib.closing(
                _Session(self._config, self.progress, self._stop, memory)
            ) as session:
                session.run()
        except GapError as gap:
            memory.gap = gap.missing
            raise


class _Session:
    """One run from the ledger on; everything it opened is closed with it."""

    def __init__(
        self, config: Config, progress: StreamProgress, stop: threading.Event, memory: _Memory
    ) -> None:
        self._config = config
        self._progress = progress
        self._stop = stop
        self._memory = memory
        self._origin, self._target = progress.origin, progress.target
        self._open = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._open.close()
            raise

    def close(self) -> None:
        self._open.close()

    def _connect(self, site: str, role: str, **options: Any) -> pymysql.Connection[Any]:
        settings = self._config.sites[site]
        return mysql.connect(settings, getattr(settings, role), site_name=site, **options)

    def _start(self) -> None:
        config = self._config
        control = self._connect(self._target, "applier")
        self._open.callback(control._force_close)  # type: ignore[attr-defined]
        self._tags = mysql.server_facts(control).has_tags
        self._selection = Selection(config.replicate)
        self._log = TransactionQueue(config.apply.queue_bytes_max)
        state = ledger.read(control, self._origin)
        gap, self._memory.gap = self._memory.gap, None
        if config.log == "kafka" and gap is None:
            state, executed, link = self._fetch(control, state)
        else:
            state, executed, link = self._read(control, state, gap)
        self._open.callback(link.close)
        self._progress.resumed(executed)
        self._format = link.format_description(_FIRST_EVENT_S)
        self._feeder = self._build_feeder(Catalog(control), state, executed)
        self._progress.running(self._log, link, self._feeder)

    def _read(
        self,
        control: pymysql.Connection[Any],
        state: ledger.LedgerState | None,
        until: GtidSet | None,
    ) -> tuple[ledger.LedgerState, GtidSet, Link]:
        """Read the origin's binlog; return the ledger's state, what is decided, and the reader."""
        source = SourceSite(self._config, self._origin)
        self._open.callback(source.close)
        if state is None:
            state = ledger.create(control, self._origin, source.start())
        executed = source.resume(state.applied | self._memory.passed)
        name = f"{self._origin}->{self._target}"
        reader = source.read(self._log, executed, target=self._target, stream=name, until=until)
        return state, executed, reader

    def _fetch(
        self, control: pymysql.Connection[Any], state: ledger.LedgerState | None
    ) -> tuple[ledger.LedgerState, GtidSet, Link]:
        """Read the origin's topic; return the ledger's state, what is decided, and the fetcher."""
        from drc.log.fetcher import Fetcher  # not loaded where Kafka is not used
        from drc.log.topic import open_topic

        topic = open_topic(self._config, self._origin)
        try:
            if state is None:
                state = ledger.create(control, self._origin, self._start_of(topic))
            executed = state.applied | self._memory.passed
            gate = Gate(self._config.stream(self._origin), executed, self._memory.torn)
            return state, executed, Fetcher(topic, self._log, gate, executed)
        except BaseException:
            topic.close()
            raise

    def _start_of(self, topic: Topic) -> GtidSet:
        """Return what a new stream takes for applied; ``now`` is where the topic ends."""
        start = self._config.replicate.start
        if start == "now":
            return topic.covered()
        named = start != "earliest"
        foreign = foreign_uuids(self._config, self._origin) if named else set[bytes]()
        return start_set(start, GtidSet(), foreign)

    def _build_feeder(
        self, catalog: Catalog, state: ledger.LedgerState, executed: GtidSet
    ) -> Feeder:
        apply, progress = self._config.apply, self._progress
        # Two cores already have this process and the target to run; more than three at once
        # only lengthens what is rolled back on a collision.
        parallel = apply.parallel or max(1, min(3, (os.cpu_count() or 2) // 2))
        limit = BatchLimit(apply.batch_transactions_max, apply.batch_target_ms)

        def on_commit(batch: Batch) -> None:
            limit.executed(batch)
            progress.committed(batch)

        lanes = [self._lane() for _ in range(max(apply.lanes, parallel + 1))]
        conveyor = Conveyor(
            lanes,
            self._origin,
            state,
            SingleWriter(),
            parallel,
            on_commit,
            self._log.wake,
        )
        self._open.callback(conveyor.close)
        tables = Tables(self._selection.table, catalog.unique_keys)
        self._batcher = Batcher(
            tables,
            executed,
            bytes_max=apply.batch_bytes_max,
            passed=self._memory.passed,
            net_rows=apply.net_rows,
            slots=parallel > 1,
        )
        return Feeder(
            self._log,
            conveyor,
            tables,
            self._batcher,
            limit,
            origin=self._origin,
            ddl_mode=self._config.replicate.ddl,
            open_lane=self._lane,
            selects=self._selection.schema,
            progress=progress,
            stop=self._stop,
        )

    def run(self) -> None:
        """Apply until stopped or broken."""
        try:
            self._feeder.run()
        finally:
            self._memory.passed = self._batcher.passed

    def _lane(self) -> Lane:
        def connect(client_flag: int) -> pymysql.Connection[Any]:
            return self._connect(self._target, "applier", client_flag=client_flag)

        wait = self._config.apply.lock_wait_timeout_s
        return Lane(connect, self._format, tag=self._tags, lock_wait_s=wait)
