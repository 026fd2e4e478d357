"""The feeder: a large transaction is applied whole or not at all; received transactions commit."""

from __future__ import annotations

import threading
from typing import cast

import pytest

from drc.apply.batch import Batcher, BatchLimit
from drc.apply.conveyor import Conveyor
from drc.apply.feeder import Feeder
from drc.apply.intake import Intake
from drc.apply.solo import SchemaChanges, Solo
from drc.apply.throttle import Throttle
from drc.binlog import events as ev
from drc.binlog.events import Buffer
from drc.binlog.framing import Framer
from drc.binlog.transaction import RawTransaction
from drc.conflict.certifier import SingleWriter
from drc.errors import DrcError, InvariantError, TransientError
from drc.gtid import GtidSet
from drc.pipe.queue import TransactionQueue
from drc.rows.changes import Changes, as_events
from drc.rows.tables import Definitions, Tables
from drc.schema.ledger import LedgerState
from drc.target.executor import Rendered
from drc.target.lane import Lane
from drc.testing.binlog import FakeBinlog, FakeTable
from drc.worker.progress import StreamProgress

TABLE = FakeTable(7, "shop", "users")
WAIT_S = 10


class EndingQueue(TransactionQueue):
    """A queue that sets ``raised`` when ``take`` raises the error that ended the queue."""

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self.raised = threading.Event()

    def take(self, timeout: float) -> list[RawTransaction]:
        try:
            return super().take(timeout)
        except DrcError:
            self.raised.set()
            raise


class RecordingLane:
    """A lane that records each call."""

    connection = 0
    epoch = 0

    def __init__(self, stop: threading.Event, begin_after: threading.Event) -> None:
        self.log: list[str] = []
        self._stop, self._begin_after = stop, begin_after

    def render(self, changes: Changes) -> list[Buffer]:
        return as_events(changes)

    def begin(self, ledger_sql: str, rendered: Rendered, *, ask_end: bool = False) -> None:
        assert self._begin_after.wait(WAIT_S)
        self.log.append("begin")

    def apply(self, events: list[bytes]) -> None:
        self.log.append("apply")

    def commit(self) -> None:
        self.log.append("commit")
        self._stop.set()

    def rollback(self) -> None:
        self.log.append("rollback")

    def close(self) -> None:
        pass


def parts() -> list[RawTransaction]:
    """Return the parts of a large transaction, as the framer delivers parts."""
    log = FakeBinlog()
    out: list[RawTransaction] = []
    log.transaction(TABLE, [(ev.WRITE_ROWS, [TABLE.image(i, b"x" * 90)]) for i in range(9)])
    Framer(out.extend, stream_bytes=500).feed(bytes(log.data))
    assert len(out) > 3
    return out


def feeder_of(queue: TransactionQueue, lane: RecordingLane, stop: threading.Event) -> Feeder:
    """Return a feeder whose conveyor has a single lane."""
    tables = Tables(Definitions(lambda *_: True, lambda _: []))
    conveyor = Conveyor(
        [cast(Lane, lane)],
        "a",
        LedgerState(-1, GtidSet()),
        SingleWriter(),
        1,
        1_000_000,
        lambda _: None,
        queue.wake,
    )
    batcher = Batcher(tables, GtidSet(), bytes_max=1 << 20)
    progress = StreamProgress("a", "b")
    solo = Solo(
        conveyor,
        batcher,
        SchemaChanges("replay", lambda _: True, lambda: cast(Lane, lane)),
        settler=None,
        with_rivals=set(),
        progress=progress,
    )
    return Feeder(
        Intake(queue, GtidSet(), stop),
        batcher,
        BatchLimit(1000, 50, 50),
        Throttle(0),
        conveyor,
        solo,
        progress=progress,
        on_quiet=lambda _: None,
    )


def feed(transactions: list[RawTransaction], error: DrcError | None = None) -> list[str]:
    """Run a feeder over ``transactions`` until the lane commits; return the calls of the lane.

    :raises DrcError: the error that ended the feeder before the commit.
    """
    stop, queue = threading.Event(), EndingQueue()
    if error is None or not transactions[-1].last:
        queue.raised.set()  # no error is raised before the commit: begin at once
    lane = RecordingLane(stop, queue.raised)
    feeder = feeder_of(queue, lane, stop)
    queue.append(transactions)
    queue.end(error)
    try:
        feeder.run()
    except DrcError:
        if "commit" not in lane.log:
            raise
    finally:
        feeder._conveyor.close()
    return lane.log


def test_all_parts_are_one_transaction() -> None:
    large = parts()
    applied = ["apply"] * sum(bool(part.events) for part in large[1:])
    assert feed(large) == ["begin", "apply", *applied, "commit"]


def test_a_part_that_is_missing_stops_the_stream() -> None:
    first, _, *others = parts()
    with pytest.raises(
        InvariantError, match="part 2 of a large transaction is not the expected part 1"
    ):
        feed([first, *others])


def test_parts_whose_end_does_not_come_are_not_committed() -> None:
    with pytest.raises(TransientError, match="link lost"):
        feed(parts()[:-1], TransientError("link lost"))


def test_what_came_before_the_log_ended_is_committed() -> None:
    """Check a session that reads only a gap of a topic: commit, then end with the error."""
    log = FakeBinlog()
    small: list[RawTransaction] = []
    log.transaction(TABLE, [(ev.WRITE_ROWS, [TABLE.image(1, b"x")])])
    Framer(small.extend).feed(bytes(log.data))
    assert feed(small, TransientError("the gap in the topic was read")) == ["begin", "commit"]
