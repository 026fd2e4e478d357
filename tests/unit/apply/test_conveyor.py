"""The conveyor: order of runs and commits, and the batches that come back after a failure."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from drc.apply.batch import Batch
from drc.apply.conveyor import Conveyor
from drc.binlog.events import Buffer, parse_table_map
from drc.binlog.framing import Position
from drc.binlog.transaction import RawTransaction
from drc.conflict.certifier import LockedBatch, SingleWriter
from drc.errors import DataError, TransientError
from drc.gtid import Gtid, GtidSet
from drc.rows.changes import Changes, WrittenRows
from drc.schema.ledger import LedgerState
from drc.target.executor import Rendered
from drc.testing.binlog import FakeTable

UUID = b"\xaa" * 16
WAIT_S = 10
TABLE = parse_table_map(FakeTable(7, "shop", "users").body())


def change(gno: int) -> WrittenRows:
    """Return a change whose only content is the number of the batch."""
    return WrittenRows(TABLE, b"%d" % gno)


def batch(gno: int, slots: frozenset[int] | None = None) -> Batch:
    transaction = RawTransaction(Gtid(UUID, gno), gno, b"", [], 1, 0)
    applied = GtidSet()
    applied.add_range(UUID, "", 1, gno + 1)
    return Batch([transaction], [change(gno)], f"g{gno}", str(applied), slots=slots)


class Target:
    """State that all lanes share: the sequence of steps, and gates that tests keep shut."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.lock = threading.Lock()
        self.gates: dict[str, threading.Event] = {}
        self.errors: dict[str, Exception] = {}
        self.reached = threading.Condition()

    def did(self, what: str) -> None:
        with self.reached:
            self.log.append(what)
            self.reached.notify_all()

    def wait_for(self, what: str) -> None:
        with self.reached:
            assert self.reached.wait_for(lambda: what in self.log, WAIT_S), self.log

    def shut(self, what: str) -> threading.Event:
        return self.gates.setdefault(what, threading.Event())


class FakeLane:
    """A lane that records each step; the event of a batch is the number of that batch."""

    connection = 0
    epoch = 0

    def __init__(self, target: Target) -> None:
        self.target = target
        self.gno = ""

    def _step(self, what: str) -> None:
        name = f"{what} {self.gno}"
        self.target.did(f"try {name}")
        if gate := self.target.gates.get(name):
            assert gate.wait(WAIT_S), name
        if error := self.target.errors.pop(name, None):
            raise error
        self.target.did(name)

    def render(self, changes: Changes) -> list[Buffer]:
        (only,) = changes
        assert isinstance(only, WrittenRows)
        return [only.event]

    def begin(self, ledger_sql: str, rendered: Rendered, *, ask_end: bool = False) -> None:
        self.gno = bytes(rendered[0]).decode()
        self._step("execute")

    def awaited(self) -> bool:
        self.target.did(f"asked of {self.gno}")
        return True

    def commit(self) -> None:
        self._step("commit")

    def rollback(self) -> None:
        self._step("rollback")

    def close(self) -> None:
        pass


class Belt:
    def __init__(self, lanes: int = 3, parallel: int = 1, long_us: int = 1_000_000) -> None:
        self.target = Target()
        self.committed: list[int] = []
        self.failed = threading.Event()
        self.conveyor = Conveyor(
            [FakeLane(self.target) for _ in range(lanes)],
            "a",
            LedgerState(-1, GtidSet()),
            SingleWriter(),
            parallel,
            long_us,
            lambda b: self.committed.append(b.seq),
            self.failed.set,
        )

    def steps(self, what: str) -> list[int]:
        return [int(s.split()[1]) for s in self.target.log if s.startswith(what)]


@pytest.fixture
def belt() -> Callable[..., Belt]:
    return Belt


def test_commits_in_order_and_executes_in_order(belt: Callable[..., Belt]) -> None:
    b = belt(lanes=4)
    for gno in range(1, 200):
        assert b.conveyor.put(batch(gno))
    assert b.conveyor.drain()
    assert b.steps("commit") == list(range(1, 200))
    assert b.steps("execute") == list(range(1, 200))
    assert b.committed == list(range(199))
    b.conveyor.close()


def test_execution_overlaps_the_commit_before(belt: Callable[..., Belt]) -> None:
    b = belt()
    gate = b.target.shut("commit 1")
    b.conveyor.put(batch(1))
    b.conveyor.put(batch(2))
    b.target.wait_for("execute 2")
    assert "commit 1" not in b.target.log
    gate.set()
    assert b.conveyor.drain()
    assert b.steps("commit") == [1, 2]
    b.conveyor.close()


def test_overlapping_keys_wait_and_disjoint_ones_do_not(belt: Callable[..., Belt]) -> None:
    b = belt(lanes=4, parallel=3)
    gate = b.target.shut("execute 1")
    b.conveyor.put(batch(1, frozenset({1, 2})))
    b.target.wait_for("try execute 1")
    b.conveyor.put(batch(2, frozenset({3})))
    b.target.wait_for("execute 2")
    b.conveyor.put(batch(3, frozenset({2, 9})))
    b.conveyor.put(batch(4, None))
    assert not [s for s in b.target.log if s.endswith((" 3", " 4"))]
    gate.set()
    assert b.conveyor.drain()
    assert b.steps("commit") == [1, 2, 3, 4]
    b.conveyor.close()


def test_a_failure_rolls_back_itself_and_all_later_ones(belt: Callable[..., Belt]) -> None:
    b = belt()
    b.target.errors["execute 2"] = DataError("missing row", errno=1032)
    gate = b.target.shut("commit 1")
    for gno in (1, 2):
        b.conveyor.put(batch(gno))
    b.target.wait_for("rollback 2")
    b.conveyor.put(batch(3))
    gate.set()
    assert b.failed.wait(WAIT_S)
    failure = b.conveyor.failure()
    assert failure is not None
    assert failure.error.errno == 1032
    assert [x.gtids for x in failure.batches] == ["g2", "g3"]
    assert b.steps("commit") == [1]
    # The numbers of rolled back batches are used again: the ledger has no gap.
    again = batch(2)
    assert b.conveyor.put(again)
    assert again.seq == 1
    assert b.conveyor.drain()
    assert b.steps("commit") == [1, 2]
    b.conveyor.close()


def test_a_later_failure_lets_earlier_ones_commit(belt: Callable[..., Belt]) -> None:
    b = belt(lanes=4, parallel=3)
    gate = b.target.shut("execute 1")
    b.target.errors["execute 2"] = DataError("duplicate", errno=1062)
    b.conveyor.put(batch(1, frozenset({1})))
    b.target.wait_for("try execute 1")
    b.conveyor.put(batch(2, frozenset({2})))
    b.target.wait_for("rollback 2")
    assert not b.failed.is_set()
    gate.set()
    assert b.failed.wait(WAIT_S)
    failure = b.conveyor.failure()
    assert failure is not None
    assert [x.gtids for x in failure.batches] == ["g2"]
    assert b.steps("commit") == [1]
    b.conveyor.close()


def test_an_executed_batch_is_rolled_back_when_the_one_before_cannot_commit(
    belt: Callable[..., Belt],
) -> None:
    b = belt()
    b.target.errors["commit 1"] = TransientError("link lost", errno=2013)
    gate = b.target.shut("commit 1")
    b.conveyor.put(batch(1))
    b.conveyor.put(batch(2))
    b.target.wait_for("execute 2")
    gate.set()
    failure = None
    assert b.failed.wait(WAIT_S)
    failure = b.conveyor.failure()
    assert failure is not None
    assert [x.gtids for x in failure.batches] == ["g1", "g2"]
    assert b.steps("commit") == []
    assert sorted(b.steps("rollback")) == [1, 2]
    b.conveyor.close()


def test_what_was_rolled_back_comes_back_in_order(belt: Callable[..., Belt]) -> None:
    b = belt(lanes=3, parallel=3)
    b.target.errors["commit 1"] = TransientError("link lost", errno=2013)
    commit, rollback = b.target.shut("commit 1"), b.target.shut("rollback 2")
    for gno in (1, 2, 3):
        b.conveyor.put(batch(gno, frozenset({gno})))
    b.target.wait_for("execute 2")
    b.target.wait_for("execute 3")
    commit.set()

    def end_last() -> None:
        b.target.wait_for("rollback 3")
        rollback.set()

    thread = threading.Thread(target=end_last)
    thread.start()
    assert b.failed.wait(WAIT_S)
    failure = b.conveyor.failure()
    thread.join()
    assert failure is not None
    assert [x.gtids for x in failure.batches] == ["g1", "g2", "g3"]
    b.conveyor.close()


@pytest.mark.parametrize(
    ("earlier", "mine", "apart_until", "may"),
    [
        ([], None, 0, True),
        ([{1}], {2}, 0, True),
        ([{1}, {2}], {3}, 0, True),
        ([{1}, {2}, {3}], {4}, 0, False),  # the maximum that may run at once
        ([{1, 5}, {2}], {5}, 0, False),
        ([{1}], None, 0, False),
        ([None], {1}, 0, False),
        ([{1}], {2}, 9, False),  # right after a failure
    ],
)
def test_which_batches_run_at_once(
    earlier: list[set[int] | None], mine: set[int] | None, apart_until: int, *, may: bool
) -> None:
    b = Belt(lanes=0, parallel=3)
    slots = [None if s is None else frozenset(s) for s in (*earlier, mine)]
    b.conveyor._running = dict(enumerate(slots))
    b.conveyor._apart_until = apart_until
    asking = batch(1, slots[-1])
    asking.seq = len(earlier)
    assert b.conveyor._may_run(asking) is may
    b.conveyor.close()


def test_only_of_a_long_batch_it_is_asked_whether_users_wait() -> None:
    for long_us, asked in ((1_000_000, False), (-1, True)):
        b = Belt(long_us=long_us)
        sent = batch(1)
        b.conveyor.put(sent)
        assert b.conveyor.drain()
        assert ("asked of 1" in b.target.log) is asked
        assert sent.awaited is asked
        b.conveyor.close()


def test_a_certificate_that_is_refused_rolls_back() -> None:
    class Refuse:
        asks_end = False

        def certify(self, batch: LockedBatch, end: Position | None) -> int:
            return int(not batch.decided.endswith(":1-2"))

    b = Belt()
    b.conveyor._certifier = Refuse()
    for gno in (1, 2):
        b.conveyor.put(batch(gno))
    assert b.failed.wait(WAIT_S)
    failure = b.conveyor.failure()
    assert failure is not None
    assert [x.gtids for x in failure.batches] == ["g2"]
    assert b.steps("commit") == [1]
    b.conveyor.close()
