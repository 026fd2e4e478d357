"""A stream: every native transaction of an origin, applied at a target. A loop.

A session asks the target's ledger for the decided set, reads from there, and applies until the
first error. Every session starts in the same way: after a crash, a lost link, a restart of either
server, a promotion.

1. Only the target's ledger says where a session starts. The checkpoint store is never asked.
2. With the direct transport a session reads the origin's binlog itself. With Kafka a session
   reads the origin's topic; a gap of the topic is read from the binlog, in a session of its own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from drc import mysql
from drc.apply.batch import Point
from drc.config import Config
from drc.conflict.live import LiveIndex
from drc.errors import TransientError
from drc.gtid import Gtid, GtidSet
from drc.kafka.gate import GapError, Gate, Torn
from drc.names import session_name
from drc.pipe.link import Link
from drc.pipe.queue import TransactionQueue
from drc.schema import canary, ledger, skips
from drc.schema.servers import foreign_uuids
from drc.site.assembly import Assembly
from drc.source.resume import start_set
from drc.source.site import SourceSite
from drc.target.catalog import Catalog
from drc.target.lane import Lane
from drc.worker.progress import StreamProgress
from drc.worker.sessions import Worker

if TYPE_CHECKING:
    from drc.kafka.topic import Topic

_FRESH_S = 60.0  # for a restarted watcher, which reads again all that a peer has not seen
_POLL_S = 0.5  # the longest time until a stop is noticed in that wait
_FIRST_EVENT_S = 30.0  # the format description comes at once, unless the source hangs


@dataclass
class _Memory:
    """State that a session leaves for the next session; a loss costs a session and no data.

    ``gap`` is missing from the topic. ``torn`` is the gate's. ``point`` is the point of the last
    session when nothing was left to apply, because skipped transactions alone write no ledger
    row. ``with_rivals`` are large transactions to settle row by row. ``again`` is the GTID set
    after which an operator wants the next session to read, once. ``given_up`` are the GTIDs that
    an operator excluded and the origin has purged.
    """

    gap: GtidSet | None = None
    point: Point | None = None
    torn: Torn = field(default_factory=set)
    with_rivals: set[Gtid] = field(default_factory=set)
    again: GtidSet | None = None
    given_up: GtidSet = field(default_factory=GtidSet)

    def newest(self, state: ledger.LedgerState) -> Point:
        """Return the newest known point: that of the ledger, or ``point`` if at least as new."""
        if self.point and state.decided <= self.point.decided:
            return self.point
        return Point(state.decided, state.mark)


class _Begun(NamedTuple):
    """The start of a session: the ledger's state, the decided set by now, and the reader."""

    state: ledger.LedgerState
    already_decided: GtidSet
    link: Link


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
        self.config = config  # set again by a reload; the next session uses the new value
        self._index = index
        self._memory = _Memory()

    def read_again(self, already_read: GtidSet) -> None:
        """Let the next session read everything outside ``already_read``; no session may run now.

        Decided transactions stay decided: they are read and dropped.
        """
        self._memory.again = already_read

    def _session(self) -> None:
        memory = self._memory
        try:
            with contextlib.closing(
                _Session(
                    self.config, self.progress, self.permit.halt, memory, self._index, self.epoch()
                )
            ) as session:
                session.run()
        except GapError as gap:
            memory.gap = gap.missing
            raise


class _Session:
    """A session; closing the session closes everything that the session opened."""

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
        self._queue = TransactionQueue(config.apply.queue_bytes_max)
        state = ledger.begin(control, self._origin, self._epoch)
        if config.monitor.canary_s:
            canary.add_row(control, self._origin)
        self._given_up = skips.read(control)[self._origin]
        if self._index:
            self._await(self._index)
        gap, self._memory.gap = self._memory.gap, None
        if config.log == "kafka" and gap is None:
            begun = self._fetch(control, state)
        else:
            begun = self._read(control, state, gap)
        self._open.callback(begun.link.close)
        self._progress.resumed(begun.already_decided)
        self._format = begun.link.format_description(_FIRST_EVENT_S)
        if self._index:
            self._index.advance(self._origin, self._memory.newest(begun.state).mark.seen)
        self._feeder = self._assembly(control, begun).feeder(self._open)
        self._progress.running(begun.link, self._feeder)

    def _await(self, index: LiveIndex) -> None:
        """Wait until the watcher has read all native transactions that a peer has not seen.

        A stop ends the wait.

        :raises TransientError: the wait is too long, or the session must end before the start.
        """
        deadline = time.monotonic() + _FRESH_S
        while not index.wait_fresh(_POLL_S):
            if self._stop.is_set() or time.monotonic() > deadline:
                raise TransientError(
                    f"cannot apply yet: the watcher still reads the binlog of {self._target}",
                    stage="certify",
                    hint="wait: concurrent writes are found in that binlog, so nothing is applied"
                    " before",
                )

    def _read(
        self,
        control: mysql.Connection,
        state: ledger.LedgerState | None,
        stop_after: GtidSet | None,
    ) -> _Begun:
        """Begin to read the origin's binlog.

        :param state: the ledger's; None if the stream begins now.
        :param stop_after: the gap of the topic to read, then to end; None reads on without end.
        """
        source = SourceSite(self._config, self._origin, self._target)
        self._open.callback(source.close)
        if state is None:
            state = ledger.create(control, self._origin, source.start(), self._epoch)
        name, memory, queue = f"{self._origin}->{self._target}", self._memory, self._queue
        if state.seq < 0:
            return _Begun(
                state, state.decided, source.read_first(queue, state.decided, stream=name)
            )
        point = memory.newest(state)
        already_decided = begin = source.resume(point.decided, self._given_up)
        memory.given_up = (already_decided - point.decided) & self._given_up
        again, memory.again = memory.again, None
        if again is not None:
            begin = source.resume(again, point.decided | self._given_up)
        reader = source.read(
            queue,
            begin,
            point.mark,
            stream=name,
            already_decided=already_decided - begin,
            stop_after=stop_after,
        )
        return _Begun(state, already_decided, reader)

    def _fetch(self, control: mysql.Connection, state: ledger.LedgerState | None) -> _Begun:
        """Begin to read the origin's topic."""
        from drc.kafka.fetcher import Fetcher  # load the Kafka library only for Kafka
        from drc.kafka.topic import open_topic

        topic = open_topic(self._config, self._origin)
        try:
            if state is None:
                state = ledger.create(control, self._origin, self._start_of(topic), self._epoch)
            memory = self._memory
            already_decided = memory.newest(state).decided | memory.given_up
            again, memory.again = memory.again, None
            gate = Gate(self._config.stream(self._origin), already_decided, memory.torn)
            begin = already_decided if again is None else again
            return _Begun(state, already_decided, Fetcher(topic, self._queue, gate, begin))
        except BaseException:
            topic.close()
            raise

    def _start_of(self, topic: Topic) -> GtidSet:
        """Return the GTIDs that a new stream treats as decided.

        For ``replicate.start = "now"`` these are the GTIDs that the topic covers.
        """
        return start_set(
            self._config.replicate.start,
            topic.covered,
            lambda: foreign_uuids(self._config, self._origin, at=self._target),
        )

    def _assembly(self, control: mysql.Connection, begun: _Begun) -> Assembly:
        return Assembly(
            config=self._config,
            progress=self._progress,
            stop=self._stop,
            queue=self._queue,
            catalog=Catalog(control),
            open_lane=self._lane,
            index=self._index,
            state=begun.state,
            already_decided=begun.already_decided,
            given_up=self._given_up,
            with_rivals=self._memory.with_rivals,
            on_quiet=self._quiet,
        )

    def _quiet(self, point: Point) -> None:
        """Remember ``point``: every transaction that was read is decided."""
        self._memory.point = point
        if self._index:
            self._index.advance(self._origin, point.mark.seen)

    def run(self) -> None:
        """Apply until a stop or an error."""
        self._feeder.run()

    def _lane(self) -> Lane:
        def connect(client_flag: int) -> mysql.Connection:
            name = session_name(self._config.name, self._target)
            return mysql.connect(
                self._config, self._target, "applier", client_flag=client_flag, program_name=name
            )

        wait = self._config.apply.lock_wait_timeout_s
        return Lane(connect, self._format, tag=self._tags, lock_wait_s=wait, epoch=self._epoch)
